use serde_json::json;

use super::*;
use crate::agent::{Absent, Registration, misfits, sign};
use crate::{Plan, RegisteredAgent, Timestamp};

fn good() -> Value {
    json!({
        "name": "docs-writer", "role": "registered-agent", "runtime": "builtin", "description": "Writes documents.",
        "tools": ["read", "write", "finish"], "paths": ["docs/**", "*.md"], "models": ["small", "large"],
        "limits": {"steps": 10, "wall_s": 60}, "sandbox": {"labels": ["zone-a"]}, "prompt": "Write.",
    })
}

fn manifest() -> AgentManifest {
    AgentManifest::read(&good()).unwrap()
}

/// With `path` (a JSON pointer) replaced, the manifest is refused with all of `expect`.
fn check(changes: &[(&str, Value)], expect: &[&str]) {
    let mut value = good();
    for (path, new) in changes {
        let (parent, name) = path.rsplit_once('/').unwrap();
        value.pointer_mut(parent).unwrap()[name] = new.clone();
    }
    let told: Vec<String> =
        AgentManifest::read(&value).unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), expect.len(), "{told:?}");
    for (told, expect) in told.iter().zip(expect) {
        assert!(told.contains(expect), "{told} does not say {expect}");
    }
}

#[test]
fn every_fault_has_its_words() {
    check(&[("/network", json!(true))], &["unknown field `network`"]);
    check(&[("/limits/tokens", json!(1))], &["unknown field `limits.tokens`"]);
    check(&[("/prompt", json!("  "))], &["prompt is empty"]);
    check(&[("/prompt", json!("x".repeat(MAX_PROMPT_BYTES + 1)))], &["the prompt has 65537 bytes"]);
    check(&[("/name", json!("qa"))], &["`qa` is the name of a built-in"]);
    check(&[("/name", json!("plan"))], &["`plan` is the name of"]);
    check(&[("/name", json!("admin"))], &["`admin` is the name of"]);
    check(&[("/name", json!("Docs"))], &["cannot be read"]);
    check(&[("/role", json!("deployer"))], &["role `deployer` is not a role of an agent"]);
    check(&[("/role", json!("king"))], &["cannot be read"]);
    check(&[("/runtime", json!("shell"))], &["cannot be read"]);
    check(&[("/tools", json!(["read", "deploy", "finish"]))], &["there is no tool `deploy`"]);
    check(&[("/tools", json!(["read", "read", "finish"]))], &["`read` is listed twice"]);
    check(&[("/tools", json!(["propose_plan", "finish"]))], &["may not have the tool `propose_plan`"]);
    check(&[("/tools", json!(["read"]))], &["needs the tool `finish`"]);
    check(&[("/limits/steps", json!(0))], &["`limits.steps` must be"]);
    check(&[("/limits/wall_s", json!(MAX_AGENT_WALL_S + 1))], &["`limits.wall_s` must be"]);
    check(&[("/paths", json!([]))], &["say in `paths`"]);
    for path in ["../x", "/etc", ".git/hooks", "a//b", "a[", ""] {
        check(&[("/paths", json!([path]))], &["not a relative path pattern"]);
    }
    check(&[("/role", json!("qa")), ("/paths", json!(["src/**"]))], &["role `qa` may not write `src/**`"]);
    check(&[("/sandbox/labels", json!(["Zone A"]))], &["label `Zone A` is malformed"]);
    check(&[("/models", json!(["a", "a"]))], &["the model `a` is listed twice"]);
    check(&[("/models", json!([" "]))], &["no name of a model"]);
    check(&[("/models", json!((0..17).map(|n| format!("m{n}")).collect::<Vec<_>>()))], &["`models` has 17"]);
    check(&[("/description", json!("a\nb"))], &["one line"]);
}

#[test]
fn faults_are_told_together() {
    check(
        &[
            ("/colour", json!("red")),
            ("/name", json!("backend")),
            ("/tools", json!(["fly"])),
            ("/limits/steps", json!(501)),
            ("/prompt", json!("")),
            ("/paths", json!(["/x"])),
        ],
        &["`colour`", "`backend`", "prompt is empty", "limits.steps", "tool `fly`", "tool `finish`", "`/x`"],
    );
    let told = AgentManifest::read(&json!({"name": "a", "x": 1})).unwrap_err();
    assert_eq!(told.len(), 5, "{told:?}");
    assert!(AgentManifest::read(&json!(["not", "a", "table"])).is_err());
}

#[test]
fn a_manifest_without_prompt_is_one_with_an_empty_one() {
    let mut value = good();
    value.as_object_mut().unwrap().remove("prompt");
    assert_eq!(AgentManifest::read(&value).unwrap_err(), [ManifestError::NoPrompt]);
}

#[test]
fn agents_of_other_runtimes_need_no_tool_to_end() {
    let mut value = good();
    value["runtime"] = json!("acp");
    value["tools"] = json!([]);
    AgentManifest::read(&value).unwrap();
}

/// The hand-written lists of fields are those of the types.
#[test]
fn every_field_is_known_to_the_reader() {
    let schema = serde_json::to_value(schemars::schema_for!(AgentManifest)).unwrap();
    let names = |schema: &Value| -> BTreeSet<String> {
        schema["properties"].as_object().unwrap().keys().cloned().collect()
    };
    let listed = |fields: &[(&str, bool)]| -> BTreeSet<String> {
        fields.iter().map(|(name, _)| (*name).to_owned()).collect()
    };
    assert_eq!(names(&schema), listed(FIELDS));
    assert_eq!(names(&schema["$defs"]["AgentLimits"]), listed(LIMITS));
    assert_eq!(names(&schema["$defs"]["SandboxNeeds"]), listed(SANDBOX));
}

fn registered(number: u64) -> RegisteredAgent {
    let (manifest, tenant) = (manifest(), "acme".parse().unwrap());
    let digest = manifest.digest().unwrap();
    let of = Registration { tenant: Some(&tenant), name: &manifest.name, digest: &digest, number };
    let (public_key, signature) = sign(&[7; 32], &of);
    RegisteredAgent {
        manifest,
        digest,
        number,
        tenant: Some(tenant),
        registered_by: "alice".to_owned(),
        registered_at: Timestamp(1),
        public_key,
        signature,
        enabled: true,
    }
}

#[test]
fn a_signature_stands_for_tenant_name_number_and_every_byte_of_the_manifest() {
    let agent = registered(3);
    agent.verify().unwrap();
    let wrong = |change: &dyn Fn(&mut RegisteredAgent)| {
        let mut agent = agent.clone();
        change(&mut agent);
        agent.verify().unwrap_err()
    };
    wrong(&|a| a.tenant = None);
    wrong(&|a| a.tenant = Some("evil".parse().unwrap()));
    wrong(&|a| a.manifest.prompt.push('.'));
    wrong(&|a| a.public_key = sign(&[8; 32], &a.registration()).0);
    wrong(&|a| a.number = 4);
    wrong(&|a| a.number = 0);
    wrong(&|a| a.signature = "00".repeat(64));
    wrong(&|a| a.signature.clear());
    wrong(&|a| a.public_key = "zz".repeat(32));
    wrong(&|a| {
        a.manifest.name = "other".parse().unwrap();
        a.digest = a.manifest.digest().unwrap();
    });
}

/// What was registered before versions were counted, with the signature that was made then.
#[test]
fn the_first_form_of_the_signed_text_still_verifies_and_fits_no_number() {
    let old = registered(0);
    let key = crate::agent::key_id(&[0; 32]);
    let text = crate::agent::signed_text(&old.registration(), &key);
    assert_eq!(text, format!("devfactory-agent-v1\nacme\ndocs-writer\n{}\n", old.digest));
    let json = serde_json::to_value(&old).unwrap();
    assert!(json.get("number").is_none(), "rows keep the bytes that they had");
    let read: RegisteredAgent = serde_json::from_value(json).unwrap();
    read.verify().unwrap();
    RegisteredAgent { number: 1, ..read }.verify().unwrap_err();
}

#[test]
fn a_plan_uses_agents_for_what_they_are_for() {
    let offer = manifest().offer();
    let told = |agent: Option<&str>, role: &str, path: &str, absent: Option<Absent>| {
        let plan: Plan = serde_json::from_value(json!({"summary": "s", "tasks": [{"slug": "a", "role": role,
            "title": "t", "instructions": "i", "paths": [path], "agent": agent}]}))
        .unwrap();
        let found = misfits(&plan, |_| absent.map_or(Ok(&offer), Err));
        found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    let named = Some("docs-writer");
    assert_eq!(told(named, "registered-agent", "docs/*.md", None), "");
    assert_eq!(told(None, "backend", "src/**", None), "");
    for (got, expect) in [
        (told(named, "backend", "docs/a.md", None), "is for `backend`, and the agent"),
        (told(named, "registered-agent", "src/a.md", None), "`src/a.md` is not within"),
        (told(named, "registered-agent", "**", None), "`**` is not within"),
        (told(named, "registered-agent", "docs/a.md", Some(Absent::Unknown)), "not registered"),
        (told(named, "registered-agent", "docs/a.md", Some(Absent::Disabled)), "is disabled"),
    ] {
        assert!(got.contains(expect), "{got}");
    }
}

#[test]
fn the_first_permitted_model_is_chosen() {
    let manifest = manifest();
    let chosen = |allowed: &[&str]| {
        let allowed = allowed.iter().map(|s| (*s).to_owned()).collect();
        manifest.assigned(manifest.digest().unwrap(), Some(&allowed)).model
    };
    assert_eq!(chosen(&["large", "small"]).as_deref(), Some("small"));
    assert_eq!(chosen(&["large"]).as_deref(), Some("large"));
    assert_eq!(chosen(&["other"]), None);
    assert_eq!(manifest.assigned(manifest.digest().unwrap(), None).model.as_deref(), Some("small"));
}
