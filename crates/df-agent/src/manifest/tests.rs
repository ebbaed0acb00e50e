use super::*;

const GOOD: &str = r#"
name = "x"
role = "qa"
runtime = "builtin"
tools = ["finish", "read", "write"]
[limits]
steps = 10
wall_s = 60
"#;

fn check(from: &str, to: &str, expect: &str) {
    let error = Manifest::parse(&GOOD.replace(from, to), "p").unwrap_err().to_string();
    assert!(error.contains(expect), "{error}");
}

#[test]
fn the_five_built_in_agents_stay_within_their_roles() {
    for role in [Role::Coordinator, Role::Backend, Role::Frontend, Role::Devops, Role::Qa] {
        let manifest = Manifest::built_in(role).unwrap().unwrap();
        assert_eq!(manifest.role, role);
        assert_eq!(manifest.name, role.as_str());
        assert!(df_contract::agent::BUILT_IN.contains(&role.as_str()));
        for tool in &manifest.tools {
            assert!(tool.allowed(role), "{role:?} {tool:?}");
        }
        assert!(manifest.prompt.len() > 500, "{role:?}");
    }
    assert_eq!(Manifest::built_in(Role::Admin).unwrap(), None);
}

/// Recorded conversations are compared with these words.
#[test]
fn a_built_in_prompt_is_its_own_text_and_then_the_rules() {
    let files = [
        (Role::Coordinator, include_str!("../../../../agents/coordinator/prompt.md")),
        (Role::Qa, include_str!("../../../../agents/qa/prompt.md")),
    ];
    for (role, prompt) in files {
        let whole = format!("{prompt}\n{}", rules(role));
        assert_eq!(Manifest::built_in(role).unwrap().unwrap().prompt, whole);
    }
}

#[test]
fn the_coordinator_can_neither_write_nor_run() {
    let tools = Manifest::built_in(Role::Coordinator).unwrap().unwrap().tools;
    assert_eq!(tools, [Tool::Read, Tool::Glob, Tool::Grep, Tool::ProposePlan]);
}

#[test]
fn manifests_that_ask_too_much_or_make_no_sense_are_refused() {
    let good = Manifest::parse(GOOD, "p").unwrap();
    assert_eq!(good.tools, [Tool::Read, Tool::Write, Tool::Finish]);
    check("\"qa\"", "\"coordinator\"", "may not have the tool `finish`");
    check("\"write\"", "\"propose_plan\"", "may not have the tool `propose_plan`");
    check("\"finish\", ", "", "needs the tool `finish`");
    check("\"write\"", "\"deploy\"", "no tool `deploy`");
    check("name = \"x\"", "name = \"x\"\nnetwork = true", "unknown field `network`");
    assert!(Manifest::parse(GOOD, " ").is_err());
}

#[test]
fn the_digest_covers_manifest_and_prompt() {
    let digest = |document: &str, prompt: &str| Manifest::parse(document, prompt).unwrap().digest;
    assert_ne!(digest(GOOD, "p"), digest(GOOD, "q"));
    assert_ne!(digest(GOOD, "p"), digest(&GOOD.replace("10", "11"), "p"));
}
