//! The registry of agents: whose names are whose, whose key is whose, what is shown to whom.

use df_contract::agent::api::{AgentPage, AgentRegistered, AgentView, PinView};
use df_contract::agent::{AgentManifest, Registration, sign};
use df_contract::{Digest, ErrorCode, Role};
use serde_json::{Value, json};

use crate::world::{Answer, Client, World, plain};

pub(crate) fn manifest(name: &str) -> Value {
    json!({"name": name, "role": "backend", "runtime": "builtin", "tools": ["read", "write", "finish"],
        "limits": {"steps": 5, "wall_s": 60}, "prompt": "Work."})
}

/// A registration, signed for `tenant` with the key that `seed` stands for.
pub(crate) fn signed(manifest: &Value, tenant: Option<&str>, seed: u8) -> Value {
    numbered(manifest, tenant, seed, 1)
}

/// [`signed`], as a later registration of the name.
fn numbered(manifest: &Value, tenant: Option<&str>, seed: u8, number: u64) -> Value {
    let read = AgentManifest::read(manifest).unwrap();
    let tenant = tenant.map(|t| t.parse().unwrap());
    let digest = read.digest().unwrap();
    let of = Registration { tenant: tenant.as_ref(), name: &read.name, digest: &digest, number };
    let (key, signature) = sign(&[seed; 32], &of);
    json!({"manifest": manifest, "number": number, "public_key": key, "signature": signature})
}

async fn register(client: &Client, name: &str, tenant: &str, seed: u8) -> Answer {
    client.post("/v1/agents", &signed(&manifest(name), Some(tenant), seed)).await
}

async fn names(client: &Client) -> Vec<String> {
    let page: AgentPage = client.get("/v1/agents").await.ok();
    page.agents.iter().map(|agent| agent.name.to_string()).collect()
}

#[tokio::test]
async fn what_is_registered_is_listed_shown_switched_and_pinned() {
    let world = World::start().await;
    let alice = world.key("alice", &[Role::Submitter]).await;
    let one = register(&alice, "writer", "acme", 1).await;
    assert_eq!(one.status, 201);
    let one: AgentRegistered = one.ok();
    let mut second = manifest("writer");
    second["prompt"] = json!("Work better.");
    let two: AgentRegistered = alice.post("/v1/agents", &numbered(&second, Some("acme"), 1, 2)).await.ok();
    let page: AgentPage = alice.get("/v1/agents").await.ok();
    assert_eq!(page.tenant.as_str(), "acme");
    assert_eq!(page.built_in, ["coordinator", "backend", "frontend", "devops", "qa"]);
    assert_eq!((page.agents.len(), &page.agents[0].digest), (1, &two.agent.digest));

    let op = world.key("op", &[Role::Operator]).await;
    let pin = json!({"digest": one.agent.digest, "replaces": true});
    let pinned: PinView = op.post("/v1/agents/writer/pin", &pin).await.ok();
    assert_eq!(pinned.digest, one.agent.digest);
    alice.post("/v1/agents/writer/disable", &json!({"digest": two.agent.digest})).await.done();
    let view: AgentView = alice.get("/v1/agents/writer").await.ok();
    assert_eq!(view.agent.manifest.prompt, "Work better.");
    let enabled: Vec<bool> = view.versions.iter().map(|version| version.enabled).collect();
    assert_eq!(enabled, [false, true]);
    assert_eq!(view.pin, Some(pinned));
    alice.post("/v1/agents/writer/enable", &json!({})).await.done();
    op.post("/v1/agents/writer/unpin", &json!({})).await.done();
    op.post("/v1/agents/writer/unpin", &json!({})).await.refused("agent_unknown");
    let zero = json!({"digest": Digest::zero()});
    op.post("/v1/agents/writer/pin", &zero).await.refused("agent_unknown");
    alice.post("/v1/agents/writer/disable", &zero).await.refused("agent_unknown");

    let log: Value = world.admin.get("/v1/agents/writer/log").await.ok();
    let told: Vec<&str> =
        log.as_array().unwrap().iter().map(|r| r["event"]["kind"].as_str().unwrap()).collect();
    assert_eq!(told, ["registered", "registered", "pinned", "disabled", "enabled", "unpinned"]);
}

/// What an operator has disabled stays so, whatever the agent's registrant does, until an operator enables it.
#[tokio::test]
async fn an_operators_disable_holds_against_the_registrant() {
    let world = World::start().await;
    let alice = world.key("alice", &[Role::Submitter]).await;
    // Of another tenant and of the registrant's name: it is the right that counts.
    let op = world.key_in("ops", "alice", &[Role::Operator]).await;
    let (on, off) = ("/v1/agents/writer/enable", "/v1/agents/writer/disable");
    let all = json!({});
    let one: AgentRegistered = register(&alice, "writer", "acme", 1).await.ok();
    let state = async || {
        let view: AgentView = alice.get("/v1/agents/writer").await.ok();
        let log: Value = world.admin.get("/v1/agents/writer/log").await.ok();
        (view.versions.iter().map(|version| version.enabled).collect::<Vec<_>>(), log)
    };
    let mut job = plain();
    job["plan"] = json!({"summary": "s", "tasks": [{"slug": "a", "role": "backend", "title": "t",
        "instructions": "i", "paths": ["a"], "agent": "writer"}]});
    let submitted = async || alice.post("/v1/jobs", &job).await;

    // The operator's counts also where the registrant had disabled it before.
    alice.post(off, &all).await.done();
    op.post(&format!("{off}?tenant=acme"), &all).await.done();
    let before = state().await;
    for body in [&all, &json!({"digest": one.agent.digest})] {
        let told = alice.post(on, body).await.refused("forbidden");
        assert_eq!(told.code.http_status(), 403);
    }
    alice.post(off, &all).await.done();
    assert_eq!(state().await, before, "nothing was changed");
    assert_eq!(before.0, [false]);

    let mut better = manifest("writer");
    better["prompt"] = json!("Work better.");
    let two: AgentRegistered = alice.post("/v1/agents", &numbered(&better, Some("acme"), 1, 2)).await.ok();
    assert!(!two.agent.enabled && two.notes.iter().any(|note| note.contains("disabled")), "{:?}", two.notes);
    let second = json!({"digest": two.agent.digest});
    alice.post(on, &second).await.refused("forbidden");
    assert_eq!(state().await.0, [false, false]);
    assert!(submitted().await.refused("invalid_job").errors[0].contains("is disabled"));

    op.post(&format!("{on}?tenant=acme"), &second).await.done();
    assert_eq!(state().await.0, [true, false]);
    assert_eq!(submitted().await.status, 201);
    alice.post(on, &all).await.refused("forbidden");
    world.admin.post(on, &all).await.done();
    alice.post(off, &all).await.done();
    alice.post(on, &all).await.done();
    assert_eq!(state().await.0, [true, true], "nothing of an operator's is left");
}

#[tokio::test]
async fn somebody_elses_name_is_not_to_be_had() {
    let world = World::start().await;
    let alice = world.key("alice", &[Role::Submitter]).await;
    let bob = world.key("bob", &[Role::Submitter]).await;
    let eve = world.key_in("evil", "eve", &[Role::Submitter]).await;
    register(&alice, "writer", "acme", 1).await.ok::<AgentRegistered>();
    let common = signed(&manifest("common"), None, 9);
    world.admin.post("/v1/agents/global", &common).await.ok::<AgentRegistered>();
    alice.post("/v1/agents/global", &common).await.refused("forbidden");
    register(&bob, "writer", "acme", 2).await.refused("agent_taken");
    register(&alice, "common", "acme", 1).await.refused("agent_taken");
    let taken = signed(&manifest("writer"), None, 9);
    world.admin.post("/v1/agents/global", &taken).await.refused("agent_taken");
    let over = numbered(&manifest("writer"), Some("acme"), 9, 2);
    world.admin.post("/v1/agents", &over).await.ok::<AgentRegistered>();
    for reserved in ["backend", "coordinator", "plan", "admin", "devfactoryd", "global"] {
        let body = json!({"manifest": manifest(reserved), "number": 1, "public_key": "", "signature": ""});
        alice.post("/v1/agents", &body).await.refused("invalid_agent");
    }

    assert_eq!(names(&eve).await, ["common"]);
    for path in ["", "/log"] {
        eve.get(&format!("/v1/agents/writer{path}")).await.refused("agent_unknown");
    }
    eve.post("/v1/agents/writer/disable", &json!({})).await.refused("agent_unknown");
    eve.post("/v1/agents/common/disable", &json!({})).await.refused("forbidden");
    bob.post("/v1/agents/writer/disable", &json!({})).await.refused("forbidden");
    alice.get("/v1/agents/nobody").await.refused("agent_unknown");
    alice.get("/v1/agents/Not%20A%20Name").await.refused("agent_unknown");
    let mut job = plain();
    job["plan"] = json!({"summary": "s", "tasks": [{"slug": "a", "role": "backend", "title": "t",
        "instructions": "i", "paths": ["a"], "agent": "writer"}]});
    let told = eve.post("/v1/jobs", &job).await.refused("invalid_job");
    assert!(told.errors[0].contains("not registered here"), "{told}");
}

#[tokio::test]
async fn a_registration_is_its_registrants() {
    let world = World::start().await;
    let alice = world.key("alice", &[Role::Submitter]).await;
    let good = signed(&manifest("writer"), Some("acme"), 1);
    let broken = |field: &str, value: Value| {
        let mut body = good.clone();
        *body.pointer_mut(field).unwrap() = value;
        body
    };
    let another = signed(&manifest("other"), Some("acme"), 1);
    for body in [
        broken("/signature", json!("00".repeat(64))),
        broken("/signature", json!("x")),
        broken("/signature", another["signature"].clone()),
        broken("/public_key", json!("")),
        broken("/public_key", signed(&manifest("writer"), Some("acme"), 2)["public_key"].clone()),
        broken("/manifest/prompt", json!("Work otherwise.")),
        signed(&manifest("writer"), Some("evil"), 1),
        signed(&manifest("writer"), None, 1),
    ] {
        alice.post("/v1/agents", &body).await.refused("signature_invalid");
    }
    assert_eq!(names(&alice).await, Vec::<String>::new(), "nothing was registered");
    alice.post("/v1/agents", &good).await.ok::<AgentRegistered>();

    register(&alice, "second", "acme", 2).await.refused("signature_invalid");
    alice.delete("/v1/signers/alice").await.refused("forbidden");
    world.admin.delete("/v1/signers/nobody").await.refused("not_found");
    world.admin.delete("/v1/signers/alice?tenant=other").await.refused("not_found");
    world.admin.delete("/v1/signers/alice").await.done();
    register(&alice, "second", "acme", 2).await.ok::<AgentRegistered>();
    register(&alice, "third", "acme", 1).await.refused("signature_invalid");
}

#[tokio::test]
async fn two_tenants_have_agents_of_one_name_that_do_not_meet() {
    let world = World::start().await;
    let alice = world.key("alice", &[Role::Submitter]).await;
    let eve = world.key_in("evil", "eve", &[Role::Submitter]).await;
    let mine: AgentRegistered = register(&alice, "writer", "acme", 1).await.ok();
    let mut other = manifest("writer");
    other["prompt"] = json!("Work for evil.");
    let theirs: AgentRegistered = eve.post("/v1/agents", &signed(&other, Some("evil"), 3)).await.ok();
    assert_ne!(mine.agent.digest, theirs.agent.digest);
    for (client, own, foreign) in [(&alice, &mine, "evil"), (&eve, &theirs, "acme")] {
        let page: AgentPage = client.get("/v1/agents").await.ok();
        let seen: Vec<_> = page.agents.iter().map(|agent| &agent.digest).collect();
        assert_eq!(seen, [&own.agent.digest]);
        let view: AgentView = client.get("/v1/agents/writer").await.ok();
        assert_eq!((view.agent.digest, view.versions.len()), (own.agent.digest.clone(), 1));
        client.get(&format!("/v1/agents/writer?tenant={foreign}")).await.refused("agent_unknown");
        client.get(&format!("/v1/agents/writer/log?tenant={foreign}")).await.refused("agent_unknown");
        for verb in ["disable", "enable"] {
            let path = format!("/v1/agents/writer/{verb}?tenant={foreign}");
            client.post(&path, &json!({})).await.refused("agent_unknown");
        }
    }
    let pin = |digest: &Digest| json!({"digest": digest});
    let op = world.key("op", &[Role::Operator]).await;
    op.post("/v1/agents/writer/pin", &pin(&theirs.agent.digest)).await.refused("agent_unknown");
    op.post("/v1/agents/writer/pin", &pin(&mine.agent.digest)).await.ok::<PinView>();
    eve.post("/v1/agents/writer/disable", &json!({})).await.done();
    let enabled =
        async |client: &Client| client.get("/v1/agents/writer").await.ok::<AgentView>().agent.enabled;
    assert_eq!((enabled(&alice).await, enabled(&eve).await), (true, false));
    assert_eq!(eve.get("/v1/agents/writer").await.ok::<AgentView>().pin, None);

    let page: AgentPage = world.admin.get("/v1/agents").await.ok();
    let pinned: Vec<_> =
        page.agents.iter().map(|agent| (agent.tenant.is_some(), agent.pin.is_some())).collect();
    assert_eq!(pinned, [(true, true), (true, false)], "an admin sees both, and the pin of its own tenant");
    let theirs: AgentView = world.admin.get("/v1/agents/writer?tenant=evil").await.ok();
    assert_eq!(theirs.agent.registered_by, "eve");
    let log: Value = world.admin.get("/v1/agents/writer/log?tenant=evil").await.ok();
    assert_eq!(log.as_array().unwrap().len(), 2, "a registration and a switch");
    world.admin.post("/v1/agents/writer/enable?tenant=evil", &json!({})).await.done();
    world.admin.get("/v1/agents/writer?tenent=evil").await.refused("invalid_request");
    let global = signed(&manifest("writer"), None, 9);
    world.admin.post("/v1/agents/global", &global).await.refused("agent_taken");
}

#[tokio::test]
async fn an_earlier_version_comes_back_with_a_new_signature_alone() {
    let world = World::start().await;
    let alice = world.key("alice", &[Role::Submitter]).await;
    let first = signed(&manifest("writer"), Some("acme"), 1);
    let one: AgentRegistered = alice.post("/v1/agents", &first).await.ok();
    let again: AgentRegistered = alice.post("/v1/agents", &first).await.ok();
    assert_eq!(again.agent, one.agent, "the same registration again changes nothing");
    let mut better = manifest("writer");
    better["prompt"] = json!("Work better.");
    let two: AgentRegistered = alice.post("/v1/agents", &numbered(&better, Some("acme"), 1, 2)).await.ok();
    let current = async || alice.get("/v1/agents/writer").await.ok::<AgentView>();
    let with = |number: u64| {
        let mut body = first.clone();
        body["number"] = json!(number);
        body
    };
    for number in 0..5 {
        let code = if number == 0 { "invalid_agent" } else { "signature_invalid" };
        alice.post("/v1/agents", &with(number)).await.refused(code);
    }
    for number in [1, 2, 4, u64::MAX] {
        let skipped = numbered(&manifest("writer"), Some("acme"), 1, number);
        alice.post("/v1/agents", &skipped).await.refused("signature_invalid");
    }
    alice
        .post("/v1/agents", &json!({"manifest": {}, "public_key": "", "signature": ""}))
        .await
        .refused("invalid_request");
    assert_eq!(current().await.agent.digest, two.agent.digest, "a key of the API alone puts nothing back");
    let back = numbered(&manifest("writer"), Some("acme"), 1, 3);
    alice.post("/v1/agents", &back).await.ok::<AgentRegistered>();
    let view = current().await;
    assert_eq!((&view.agent.digest, view.agent.number), (&one.agent.digest, 3));
    assert_eq!(view.versions.iter().map(|version| version.number).collect::<Vec<_>>(), [3, 2, 1]);
    let log: Value = world.admin.get("/v1/agents/writer/log").await.ok();
    assert_eq!(log.as_array().unwrap().len(), 3);
}

/// What is asked wrongly is a coded error, and leaves the registry as it was.
#[tokio::test]
async fn bad_input_changes_nothing() {
    let world = World::start().await;
    let alice = world.key("alice", &[Role::Submitter]).await;
    let bob = world.key("bob", &[Role::Submitter]).await;
    let eve = world.key_in("evil", "eve", &[Role::Submitter]).await;
    register(&alice, "writer", "acme", 1).await.ok::<AgentRegistered>();
    register(&eve, "theirs", "evil", 3).await.ok::<AgentRegistered>();
    let state = async || {
        let page: Value = world.admin.get("/v1/agents").await.ok();
        let logs: Value = world.admin.get("/v1/agents/writer/log").await.ok();
        let theirs: Value = world.admin.get("/v1/agents/theirs/log?tenant=evil").await.ok();
        (page, logs, theirs)
    };
    let before = state().await;
    let with = |field: &str, value: Value| {
        let mut manifest = manifest("writer");
        manifest[field] = value;
        json!({"manifest": manifest, "number": 2, "public_key": "", "signature": ""})
    };
    let without = |field: &str| {
        let mut body = with("name", json!("writer"));
        body["manifest"].as_object_mut().unwrap().remove(field);
        body
    };
    for (body, says) in [
        (with("network", json!(true)), "unknown field `network`"),
        (without("prompt"), "prompt is empty"),
        (with("prompt", json!("x".repeat(64 * 1024 + 1))), "the prompt has 65537"),
        (with("prompt", json!({"path": "../../etc/passwd"})), "cannot be read"),
        (with("tools", json!(["propose_plan", "finish"])), "may not have the tool"),
        (with("role", json!("deployer")), "is not a role of an agent"),
        (with("paths", json!(["../x"])), "`../x`"),
        (with("name", json!("backend")), "built-in"),
    ] {
        let told = alice.post("/v1/agents", &body).await.refused("invalid_agent");
        assert!(told.errors.iter().any(|error| error.contains(says)), "{told}");
    }
    let mut qa = manifest("writer");
    (qa["role"], qa["paths"]) = (json!("qa"), json!(["{tests,src}/**"]));
    let qa = json!({"manifest": qa, "number": 2, "public_key": "", "signature": ""});
    let told = alice.post("/v1/agents", &qa).await.refused("invalid_agent");
    assert!(told.errors[0].contains("may not write"), "{told}");
    let mut more = signed(&manifest("writer"), Some("acme"), 1);
    more["owner"] = json!("alice");
    alice.post("/v1/agents", &more).await.refused("invalid_request");
    bob.post("/v1/agents", &numbered(&manifest("writer"), Some("acme"), 2, 2)).await.refused("agent_taken");
    let mut changed = manifest("writer");
    changed["prompt"] = json!("Otherwise.");
    let wrong = numbered(&changed, Some("acme"), 7, 2);
    alice.post("/v1/agents", &wrong).await.refused("signature_invalid");
    alice.post("/v1/agents", &signed(&manifest("writer"), Some("acme"), 1)).await.ok::<AgentRegistered>();

    let op = world.key("op", &[Role::Operator]).await;
    let zero = json!({"digest": Digest::zero()});
    op.post("/v1/agents/writer/pin", &zero).await.refused("agent_unknown");
    op.post("/v1/agents/nobody/pin", &json!({})).await.refused("agent_unknown");
    op.post("/v1/agents/theirs/pin", &json!({})).await.refused("agent_unknown");
    op.post("/v1/agents/writer/unpin", &json!({})).await.refused("agent_unknown");
    op.post("/v1/agents/writer/pin", &json!({"version": 1})).await.refused("invalid_request");
    for path in ["nobody/disable", "theirs/disable", "theirs/enable?tenant=evil"] {
        alice.post(&format!("/v1/agents/{path}"), &json!({})).await.refused("agent_unknown");
    }
    alice.post("/v1/agents/writer/disable", &zero).await.refused("agent_unknown");
    alice.post("/v1/agents/writer/disable", &json!({"digset": 1})).await.refused("invalid_request");
    assert_eq!(state().await, before);
}

#[tokio::test]
async fn every_fault_of_a_manifest_is_told_at_once() {
    let world = World::start().await;
    let alice = world.key("alice", &[Role::Submitter]).await;
    let mut bad = manifest("writer");
    bad["tools"] = json!(["fly", "propose_plan"]);
    bad["prompt"] = json!("");
    bad["limits"]["steps"] = json!(0);
    bad["network"] = json!(true);
    bad["paths"] = json!(["../x"]);
    let body = json!({"manifest": bad, "number": 1, "public_key": "", "signature": ""});
    let told = alice.post("/v1/agents", &body).await.refused("invalid_agent");
    assert_eq!(told.code, ErrorCode::InvalidAgent);
    assert_eq!(told.errors.len(), 7, "{told}");
    alice
        .post("/v1/agents", &json!({"manifest": [], "number": 1, "public_key": "", "signature": ""}))
        .await
        .refused("invalid_agent");
    alice.post("/v1/agents", &json!({})).await.refused("invalid_request");
    let huge =
        json!({"manifest": {"prompt": "x".repeat(600_000)}, "number": 1, "public_key": "", "signature": ""});
    alice.post("/v1/agents", &huge).await.refused("body_too_large");
}
