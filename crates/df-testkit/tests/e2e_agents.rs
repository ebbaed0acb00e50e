//! New roles by manifest alone: registered through the command line, named by a plan, run by the worker.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::path::Path;

use df_contract::agent::api::{AgentPage, AgentRegistered};
use df_contract::{FailureKind, JobState, Role};
use df_testkit::{
    Api, Ask, CliOutput, Limit, Reply, ScriptedModel, TestFactory, file_task, planned_job, repository,
};
use serde_json::{Value, json};

/// Says what it was that did not fit, and fails the attempt with it.
fn unexpected(ask: &Ask) -> Reply {
    Reply::error(400, &format!("not as expected in {} {}: {}", ask.task(), ask.turn(), ask.last_result()))
}

fn prompt_of(agent: &str) -> String {
    std::fs::read_to_string(example(agent).join("prompt.md")).unwrap()
}

fn example(agent: &str) -> std::path::PathBuf {
    repository().join("examples/agents").join(agent)
}

/// Does the two tasks, as the agent that the system prompt makes of it; refuses to as anybody else.
fn write_documents(ask: &Ask) -> Reply {
    let system = ask.request["messages"][0]["content"].as_str().unwrap_or_default();
    let tools: Vec<&str> = ask.request["tools"].as_array().into_iter().flatten().filter_map(tool).collect();
    let (agent, has_exec) = match ask.task().as_str() {
        "guide" => ("docs-writer", false),
        "review" => ("security-reviewer", true),
        _ => return unexpected(ask),
    };
    if !system.starts_with(&prompt_of(agent)) || tools.contains(&"exec") != has_exec {
        return Reply::error(400, &format!("{agent} was not asked: {system} with {tools:?}"));
    }
    let told =
        |wanted: &str, next: Reply| if ask.last_result().contains(wanted) { next } else { unexpected(ask) };
    match (agent, ask.turn()) {
        ("docs-writer", 0) => Reply::write("src/app.py", "print()\n"),
        ("docs-writer", 1) => told("may not be written", Reply::write("docs/guide.md", "this is guide\n")),
        ("docs-writer", 2) => Reply::finish("wrote the guide"),
        ("security-reviewer", 0) => Reply::write("docs/guide.md", "gone\n"),
        ("security-reviewer", 1) => {
            told("may not be written", Reply::write("SECURITY-REVIEW.md", "this is review\n"))
        }
        ("security-reviewer", 2) => Reply::finish("found nothing"),
        _ => unexpected(ask),
    }
}

fn tool(tool: &Value) -> Option<&str> {
    tool["function"]["name"].as_str()
}

fn task(slug: &str, agent: &str, path: &str, depends_on: &[&str]) -> Value {
    let mut task = file_task(slug, depends_on);
    task["role"] = json!("registered-agent");
    task["agent"] = json!(agent);
    task["paths"] = json!([path]);
    task["expected_outputs"] = json!([path]);
    task["checks"] = json!([{"id": "written", "command": format!("grep -qx 'this is {slug}' {path}")}]);
    task
}

fn guide() -> Value {
    planned_job("A guide", &[task("guide", "docs-writer", "docs/guide.md", &[])])
}

fn register(factory: &TestFactory, by: &Api, dir: &Path, more: &[&str]) -> CliOutput {
    let mut args = vec!["--json", "agents", "register", dir.to_str().unwrap()];
    args.extend(more);
    factory.cli_as(by, &args)
}

fn submit(factory: &TestFactory, by: &Api, job: &Value) -> CliOutput {
    let file = factory.root().join("job.json");
    std::fs::write(&file, job.to_string()).unwrap();
    factory.cli_as(by, &["--json", "submit", file.to_str().unwrap()])
}

#[tokio::test(flavor = "multi_thread")]
async fn two_new_roles_do_a_job_by_their_manifests_alone() {
    let model = ScriptedModel::start(write_documents).await;
    let factory = TestFactory::start(model.setup()).await;
    let alice = factory.identity("alice", &[Role::Submitter]).await;
    for agent in ["docs-writer", "security-reviewer"] {
        let dir = example(agent);
        factory.cli_as(&alice, &["agents", "check", dir.to_str().unwrap()]).succeeded();
        let done: AgentRegistered = register(&factory, &alice, &dir, &[]).succeeded().json();
        assert_eq!(done.agent.registered_by, "alice");
        assert_eq!(done.notes, Vec::<String>::new());
    }
    let listed: AgentPage = factory.cli_as(&alice, &["--json", "agents", "list"]).succeeded().json();
    let names: Vec<&str> = listed.agents.iter().map(|agent| agent.name.as_str()).collect();
    assert_eq!(names, ["docs-writer", "security-reviewer"]);
    let list = factory.cli_as(&alice, &["agents", "list"]);
    assert!(list.succeeded().stdout.starts_with("NAME "), "{list:?}");

    let mut job = guide();
    let review = task("review", "security-reviewer", "SECURITY-REVIEW.md", &["guide"]);
    job["plan"]["tasks"].as_array_mut().unwrap().push(review);
    let submitted: df_contract::api::Submitted = submit(&factory, &alice, &job).succeeded().json();
    factory.completed(submitted.id, Limit::JOB).await;
    let out = factory.root().join("out");
    factory
        .cli_as(&alice, &["artifacts", &submitted.id.to_string(), "--out", out.to_str().unwrap()])
        .succeeded();
    for (path, text) in [("docs/guide.md", "this is guide\n"), ("SECURITY-REVIEW.md", "this is review\n")] {
        assert_eq!(std::fs::read_to_string(out.join("software").join(path)).unwrap(), text);
    }
    assert!(!out.join("software/src").exists(), "a file beyond the agent's paths was delivered");

    let shown = factory.cli_as(&alice, &["tasks", "show", &submitted.id.to_string(), "guide"]);
    let says = format!("agent docs-writer, version {}", listed.agents[0].digest);
    assert!(shown.succeeded().stdout.contains(&says), "{shown:?}");
    let log = factory.cli_as(factory.admin(), &["agents", "log", "docs-writer"]);
    assert!(log.succeeded().stdout.contains("registered"), "{log:?}");
    factory.verify_audit();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_registered_or_used_is_not() {
    let model = ScriptedModel::start(write_documents).await;
    let factory = TestFactory::start(model.setup()).await;
    let alice = factory.identity("alice", &[Role::Submitter]).await;
    let bob = factory.identity("bob", &[Role::Submitter]).await;
    let dir = factory.root().join("agent");
    std::fs::create_dir(&dir).unwrap();
    let good = std::fs::read_to_string(example("docs-writer").join("agent.toml")).unwrap();
    let write = |document: &str, prompt: Option<&str>| {
        std::fs::write(dir.join("agent.toml"), document).unwrap();
        match prompt {
            Some(prompt) => std::fs::write(dir.join("prompt.md"), prompt).unwrap(),
            None => drop(std::fs::remove_file(dir.join("prompt.md"))),
        }
    };
    for (from, to, prompt, says) in [
        ("[limits]", "colour = \"red\"\n[limits]", Some("Write."), "unknown field `colour`"),
        ("[limits]", "[limits]", Some(" "), "prompt is empty"),
        ("[limits]", "[limits]", None, "prompt.md"),
        ("\"read\"", "\"propose_plan\"", Some("Write."), "may not have the tool `propose_plan`"),
        ("\"docs/**\"", "\"/etc/**\"", Some("Write."), "`/etc/**`"),
        ("\"registered-agent\"", "\"qa\"", Some("Write."), "role `qa` may not write `docs/**`"),
        ("\"docs-writer\"", "\"backend\"", Some("Write."), "`backend` is the name of a built-in"),
    ] {
        write(&good.replace(from, to), prompt);
        let told = register(&factory, &alice, &dir, &[]).problem();
        assert_eq!(told.code.code(), "invalid_agent", "{told}");
        assert!(told.errors.iter().any(|error| error.contains(says)), "{told}");
    }

    let unknown = submit(&factory, &alice, &guide()).problem();
    assert_eq!(unknown.code.code(), "invalid_job");
    assert!(unknown.errors[0].contains("not registered here"), "{unknown}");
    let examples = example("docs-writer");
    register(&factory, &alice, &examples, &[]).succeeded();
    let another = factory.root().join("another.key");
    let another = ["--signing-key", another.to_str().unwrap()];
    write(&good, Some("Write."));
    assert_eq!(register(&factory, &alice, &dir, &another).problem().code.code(), "signature_invalid");
    assert_eq!(register(&factory, &bob, &dir, &another).problem().code.code(), "agent_taken");
    assert_eq!(register(&factory, &bob, &dir, &["--global"]).problem().code.code(), "forbidden");

    for (change, says) in [
        (json!({"role": "backend"}), "is for `backend`"),
        (json!({"paths": ["src/**"], "expected_outputs": []}), "`src/**` is not within"),
    ] {
        let mut job = guide();
        job["plan"]["tasks"][0].as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let told = submit(&factory, &alice, &job).problem();
        assert!(told.errors.iter().any(|error| error.contains(says)), "{told}");
    }
    let zero = "0".repeat(64);
    for (args, code) in [
        (vec!["pin", "docs-writer", "--version", &zero], "forbidden"),
        (vec!["disable", "docs-writer", "--version", &zero], "agent_unknown"),
        (vec!["disable", "nobody"], "agent_unknown"),
        (vec!["show", "docs-writer", "--tenant", "elsewhere"], "agent_unknown"),
    ] {
        let told = factory.cli_as(&alice, &[vec!["--json", "agents"], args].concat()).problem();
        assert_eq!(told.code.code(), code, "{told}");
    }
    let pin = ["--json", "agents", "pin", "docs-writer", "--version", &zero];
    assert_eq!(factory.cli_as(factory.admin(), &pin).problem().code.code(), "agent_unknown");
    let off = factory.cli_as(&alice, &["agents", "disable", "docs-writer"]);
    assert!(off.succeeded().stdout.contains("disabled every version of `docs-writer`"), "{off:?}");
    let disabled = submit(&factory, &alice, &guide()).problem();
    assert!(disabled.errors[0].contains("is disabled"), "{disabled}");
    let jobs: df_contract::api::JobPage = factory.cli_as(&alice, &["--json", "list"]).succeeded().json();
    assert!(jobs.jobs.is_empty(), "what is refused leaves no job");
    factory.verify_audit();
}

/// A task that is placed already when its agent is switched off is not begun.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_switched_off_begins_no_task() {
    let model = ScriptedModel::start(write_documents).await;
    let mut setup = model.setup();
    setup.without_worker = true;
    let mut factory = TestFactory::start(setup).await;
    let alice = factory.identity("alice", &[Role::Submitter]).await;
    register(&factory, &alice, &example("docs-writer"), &[]).succeeded();
    let submitted: df_contract::api::Submitted = submit(&factory, &alice, &guide()).succeeded().json();
    factory.cli_as(&alice, &["agents", "disable", "docs-writer"]).succeeded();
    factory.restart(df_testkit::Member::Worker).await;
    let view = factory.reached(submitted.id, JobState::Failed, Limit::JOB).await;
    let cause = view.cause.unwrap_or_default();
    assert!(cause.contains("docs-writer") && cause.contains("disabled"), "{cause}");
    let breach =
        view.tasks.iter().filter_map(|t| t.failure.as_ref()).any(|f| f.kind == FailureKind::PolicyBreach);
    assert!(breach || cause.contains("the plan was refused"), "{cause}");
    assert_eq!(model.tally().spend.calls, 0, "no model was asked");
}
