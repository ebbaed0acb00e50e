//! Registered agents: run only as they were registered, within their own paths, and planned with only as offered.

use df_contract::agent::AgentOffer;
use df_contract::{AgentManifest, Digest, Role};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::support::{Reply, Server, Stage, TOKEN, call, succeeded};
use crate::attempt::ModelToken;
use crate::manifest::{Manifest, ManifestError};

fn writer() -> AgentManifest {
    let manifest = json!({"name": "docs-writer", "role": "registered-agent", "runtime": "builtin",
        "tools": ["write", "finish", "read"], "paths": ["docs/**"], "limits": {"steps": 9, "wall_s": 60},
        "prompt": "Write documents."});
    AgentManifest::read(&manifest).unwrap()
}

/// A task that may write everything, for an agent as it is registered.
fn stage_for(agent: &AgentManifest) -> Stage {
    let mut stage = Stage::new(Role::RegisteredAgent, &[("src/a.py", "x\n")]);
    stage.task.agent_digest = Some(agent.digest().unwrap());
    stage.task.agent = Some(Box::new(agent.clone()));
    stage
}

#[test]
fn what_is_not_as_it_was_registered_is_not_run() {
    let refused = |agent: &AgentManifest, digest: Option<Digest>| {
        let mut stage = stage_for(agent);
        stage.task.agent_digest = digest;
        Manifest::of(&stage.task).unwrap_err()
    };
    let good = writer();
    assert!(Manifest::of(&stage_for(&good).task).is_ok());
    let changed = AgentManifest { prompt: "Write anything.".into(), ..good.clone() };
    for digest in [None, Some(good.digest().unwrap())] {
        assert!(matches!(refused(&changed, digest), ManifestError::NotAsRegistered(_)));
    }
    let wide = AgentManifest { paths: vec!["../x".into()], ..good.clone() };
    assert!(matches!(refused(&wide, wide.digest().ok()), ManifestError::Invalid(_)));
    let posing = AgentManifest { name: "backend".parse().unwrap(), ..good.clone() };
    assert!(matches!(refused(&posing, posing.digest().ok()), ManifestError::Invalid(_)));
    let foreign = AgentManifest { runtime: df_contract::agent::Runtime::Acp, ..good };
    assert!(matches!(refused(&foreign, foreign.digest().ok()), ManifestError::Runtime(_)));
}

#[tokio::test]
async fn an_agent_writes_within_its_own_paths_whatever_its_task_may() {
    let mut stage = stage_for(&writer());
    let server = Server::plays(vec![
        Reply::Calls(vec![
            ("write", json!({"path": "made.py", "content": ""})),
            ("exec", json!({"command": "touch made"})),
            ("write", json!({"path": "docs/a.md", "content": "text\n"})),
        ]),
        call("finish", json!({"summary": "done", "commit_message": "docs: write"})),
    ])
    .await;
    let manifest = Manifest::of(&stage.task).unwrap();
    let (_keep, token) = watch::channel(ModelToken::new(TOKEN));
    let (_stop, cancel) = watch::channel(false);
    let report = stage.run_as(&server, &manifest, token, cancel).await;
    succeeded(&report);
    let results = server.results();
    assert!(results[0].contains("outside the paths of this agent"), "{}", results[0]);
    assert!(results[1].contains("there is no tool `exec`"), "{}", results[1]);
    assert!(!stage.dir.path().join("made.py").exists() && !stage.dir.path().join("made").exists());
    assert_eq!(stage.file("docs/a.md"), "text\n");
    let system = server.seen()[0].body["messages"][0]["content"].as_str().unwrap().to_owned();
    assert!(system.starts_with("Write documents.\n") && system.contains("# How you work"), "{system}");
}

#[tokio::test]
async fn a_coordinator_plans_with_the_agents_it_is_offered() {
    let mut stage = Stage::new(Role::Coordinator, &[]);
    stage.task.input.agents =
        vec![AgentOffer { description: "Writes documents.".into(), ..writer().offer() }];
    let propose = |agent: &str, path: &str| {
        let task: Value = json!({"slug": "guide", "role": "registered-agent", "agent": agent, "title": "t",
            "instructions": "i", "paths": [path]});
        call("propose_plan", json!({"plan": {"summary": "s", "tasks": [task]}}))
    };
    let server = Server::plays(vec![
        propose("nobody", "docs/a.md"),
        propose("docs-writer", "src/a.md"),
        propose("docs-writer", "docs/a.md"),
    ])
    .await;
    let report = stage.run(&server).await;
    succeeded(&report);
    let results = server.results();
    assert!(results[0].contains("`nobody`, which is not registered here"), "{}", results[0]);
    assert!(results[1].contains("`src/a.md` is not within the paths of the agent"), "{}", results[1]);
    let brief = server.seen()[0].body["messages"][1]["content"].as_str().unwrap().to_owned();
    assert!(brief.contains("`docs-writer`") && brief.contains("Writes documents."), "{brief}");
}
