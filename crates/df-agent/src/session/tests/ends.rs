use df_contract::{FailureKind, Role};
use serde_json::{Value, json};

use super::support::*;

#[tokio::test]
async fn a_failing_check_is_debugged_until_it_passes() {
    let script = || {
        vec![
            Reply::Calls(vec![("read", json!({"path": "calc.sh"})), ("read", json!({"path": "test.sh"}))]),
            finish(),
            call("edit", json!({"path": "calc.sh", "old": "echo 5", "new": "echo 4"})),
            finish(),
        ]
    };
    let mut traces = Vec::new();
    for _ in 0..2 {
        let files =
            [("calc.sh", "echo 5\n"), ("test.sh", "test \"$(sh calc.sh)\" = 4 || { echo wrong; exit 3; }\n")];
        let mut stage = Stage::new(Role::Backend, &files).check("sh test.sh");
        stage.task.expected_outputs = vec!["calc.sh".into(), "*.sh".into()];
        let server = Server::plays(script()).await;
        let report = stage.run(&server).await;
        succeeded(&report);
        let result = &report.result;
        assert_eq!(
            (result.summary.as_str(), result.commit_message.as_str()),
            ("did it", "area: do it\n\nBecause.")
        );
        assert!(result.checks[0].passed && result.checks[0].exit_code == Some(0));
        assert_eq!((result.usage.model_calls, result.usage.tool_calls), (4, 5));
        assert_eq!((result.usage.input_tokens.0, result.usage.output_tokens.0), (400, 40));
        assert_eq!(stage.file("calc.sh"), "echo 4\n");
        let refused = &server.results()[2];
        assert!(refused.contains("check unit: FAILED\nexit code: 3\nwrong"), "{refused}");
        traces.push(trace(&report));
    }
    assert_eq!(traces[0], traces[1], "equal runs have equal traces");
    let kinds: Vec<String> = traces[0]
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["kind"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        kinds.join(" "),
        "start request answer tool tool request answer tool request answer tool request answer tool end"
    );
}

#[tokio::test]
async fn requests_have_the_form_recordings_rely_on() {
    let mut stage = Stage::new(Role::Backend, &[("src/a.py", "x\n"), ("checks/c.py", "")]);
    stage.task.input.previous_failure = Some("the check failed".into());
    let server = Server::plays(vec![call("write", json!({"path": "b", "content": "1"})), finish()]).await;
    succeeded(&stage.run(&server).await);
    let seen = server.seen();
    assert!(seen.iter().all(|s| s.authorization == format!("Bearer {TOKEN}")));
    let body = &seen[1].body;
    assert_eq!(
        (&body["model"], &body["temperature"], &body["stream"]),
        (&json!("m1"), &json!(0), &json!(true))
    );
    assert_eq!(body["stream_options"], json!({"include_usage": true}));
    let brief = body["messages"][1]["content"].as_str().unwrap();
    insta::assert_snapshot!(brief, @r"
    # The job: A job

    Text.

    # Your task: A piece (piece)

    Do the piece.

    ## What you may write
    This task may write: **. Never: checks/**.

    ## The attempt before this one failed
    the check failed
    Its changes are gone: the workspace is as it was before it. Avoid the same failure.

    ## Files in the workspace (bytes)
    checks/c.py (0)
    src/a.py (2)
    ");
    let host_path = stage.dir.path().display().to_string();
    assert!(!body.to_string().contains(&host_path));
    assert_eq!(body["messages"][2]["tool_calls"][0]["function"]["name"], "write");
    assert_eq!(
        body["messages"][3],
        json!({"role": "tool", "tool_call_id": "id-0", "content": "made b (1 lines, 1 bytes)"})
    );
}

#[tokio::test]
async fn finish_that_is_refused_too_often_is_a_check_failure() {
    let mut stage = Stage::new(Role::Backend, &[]).check("echo $$ >> count; echo because; exit 1");
    stage.task.expected_outputs = vec!["missing.txt".into()];
    let server = Server::answers(Box::new(|_| finish())).await;
    let report = stage.run(&server).await;
    failed(&report, FailureKind::CheckFailure, "missing.txt; checks that failed: unit");
    assert_eq!(stage.file("count").lines().count(), 5);
    assert!(report.result.checks[0].output_tail.contains("because"));
}

#[tokio::test]
async fn finish_needs_words() {
    let mut stage = Stage::new(Role::Qa, &[]);
    let empty = call("finish", json!({"summary": " ", "commit_message": "x"}));
    let server = Server::plays(vec![empty, call("finish", json!({"summary": "s"})), finish()]).await;
    succeeded(&stage.run(&server).await);
    let results = server.results();
    assert!(
        results[0].contains("must not be empty") && results[1].contains("missing field `commit_message`")
    );
}

fn plan(tasks: &[Value]) -> Value {
    json!({"summary": "two steps", "tasks": tasks})
}

fn part(slug: &str, role: &str, path: &str, after: &[&str]) -> Value {
    json!({"slug": slug, "role": role, "title": slug, "instructions": "do", "depends_on": after, "paths": [path],
           "checks": [{"id": "c", "command": "true"}]})
}

#[tokio::test]
async fn the_coordinator_corrects_its_plan_and_can_do_nothing_else() {
    let mut stage = Stage::new(Role::Coordinator, &[("src/a.py", "x\n")]);
    let propose = |plan: Value| call("propose_plan", json!({"plan": plan}));
    let good = plan(&[part("api", "backend", "src/a.py", &[]), part("test", "qa", "tests/**", &["api"])]);
    let server = Server::plays(vec![
        Reply::Calls(vec![
            ("read", json!({"path": "src/a.py"})),
            ("exec", json!({"command": "touch made"})),
            ("write", json!({"path": "made", "content": ""})),
        ]),
        propose(plan(&[part("a", "qa", "src/a.py", &["b"]), part("a", "backend", "checks/x", &[])])),
        propose(json!({"summary": 1})),
        propose(Value::String(good.to_string())),
    ])
    .await;
    let report = stage.run(&server).await;
    succeeded(&report);
    let proposed = report.result.plan.unwrap();
    assert_eq!(proposed.tasks.len(), 2);
    assert_eq!(report.result.summary, "two steps");
    let results = server.results();
    assert!(results[1].contains("there is no tool `exec`; the tools are read, glob, grep, propose_plan"));
    assert!(results[2].contains("there is no tool `write`"));
    for wrong in [
        "two tasks are called `a`",
        "depends on `b`",
        "(qa) may not write `src/a.py`",
        "`checks/x` is protected",
    ] {
        assert!(results[3].contains(wrong), "{wrong}: {}", results[3]);
    }
    assert!(results[4].contains("does not fit its schema"), "{}", results[4]);
    assert!(!stage.dir.path().join("made").exists());
}

#[tokio::test]
async fn a_coordinator_that_plans_anew_goes_on_from_what_is_finished() {
    let mut stage = Stage::new(Role::Coordinator, &[]);
    let named = |slug: &str, text: &str| [(slug.parse().unwrap(), text.to_owned())].into();
    stage.task.input.replan = Some(df_contract::task::Replan {
        cause: "task `web` failed".into(),
        finished: named("api", "The API stands."),
        dropped: named("web", "The pages"),
    });
    stage.task.input.messages = vec!["No pages, a command line.".into()];
    let propose = |slug: &str, on: &str| {
        call("propose_plan", json!({"plan": plan(&[part(slug, "backend", "cli/**", &[on])])}))
    };
    let server =
        Server::plays(vec![propose("web", "api"), propose("cli", "web"), propose("cli", "api")]).await;
    let report = stage.run(&server).await;
    succeeded(&report);
    assert_eq!(report.result.plan.unwrap().tasks[0].depends_on, ["api".parse().unwrap()]);
    let results = server.results();
    assert!(results[0].contains("a task `web`, and the job has or had one"), "{}", results[0]);
    assert!(results[1].contains("depends on `web`, which the plan does not have"), "{}", results[1]);
    let brief = server.seen()[0].body["messages"][1]["content"].as_str().unwrap().to_owned();
    for expect in [
        "## Plan the rest anew\nThe plan before this one stopped:\n> task `web` failed",
        "- api:\n> The API stands.",
        "### Not finished, and dropped\n- web:\n> The pages",
        "## What the people who run this job have said since it began\nIt counts like the job's description",
        "\n\n> No pages, a command line.",
    ] {
        assert!(brief.contains(expect), "{expect}\n{brief}");
    }
}

#[tokio::test]
async fn plans_that_never_become_valid_end_the_attempt() {
    let mut stage = Stage::new(Role::Coordinator, &[]);
    let server = Server::answers(Box::new(|n| {
        call("propose_plan", plan(&[part(&format!("t{n}"), "backend", "../x", &[])]))
    }))
    .await;
    failed(&stage.run(&server).await, FailureKind::ContractBreach, "5 proposed plans were not valid");
    assert_eq!(server.seen().len(), 5);
}

#[tokio::test]
async fn an_agent_does_not_take_a_task_of_another_role() {
    let mut stage = Stage::new(Role::Backend, &[]);
    let server = Server::plays(vec![]).await;
    let (_keep, token) = tokio::sync::watch::channel(crate::attempt::ModelToken::new(TOKEN));
    let (_stop, cancel) = tokio::sync::watch::channel(false);
    let manifest = crate::manifest::Manifest::built_in(Role::Qa).unwrap().unwrap();
    let report = stage.run_as(&server, &manifest, token, cancel).await;
    failed(&report, FailureKind::ContractBreach, "agent `qa` cannot do a task for backend");
    assert!(server.seen().is_empty());
}
