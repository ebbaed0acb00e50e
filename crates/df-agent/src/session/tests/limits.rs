use df_contract::{DurationMs, FailureKind, Role, Tokens};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::support::*;
use crate::attempt::ModelToken;

fn stage() -> Stage {
    Stage::new(Role::Backend, &[])
}

#[tokio::test]
async fn a_model_that_never_stops_is_stopped_by_steps() {
    let mut stage = stage();
    stage.task.constraints.max_steps = 5;
    let server = Server::answers(Box::new(|n| exec(&format!("echo {n}")))).await;
    let report = stage.run(&server).await;
    failed(&report, FailureKind::LimitReached, "all of its 5 steps");
    assert_eq!(report.result.summary, "Not finished after 5 steps and 5 tool calls.");
    assert_eq!(server.seen().len(), 5);
    let results = server.results();
    assert!(!results[0].contains("steps are left") && results[3].contains("1 steps are left"), "{results:?}");
}

#[tokio::test]
async fn tokens_are_counted_and_limited() {
    let mut stage = stage();
    stage.task.constraints.max_tokens = Tokens(300);
    let server = Server::answers(Box::new(|n| exec(&format!("echo {n}")))).await;
    failed(&stage.run(&server).await, FailureKind::LimitReached, "used 330 of its 300 tokens");
    let asked: Vec<Value> = server.seen().iter().map(|s| s.body["max_tokens"].clone()).collect();
    assert_eq!(asked, [json!(64), json!(64), json!(64)], "there is no room beside the request itself");
}

#[tokio::test]
async fn an_answer_is_asked_for_no_larger_than_fits_beside_its_request() {
    let mut stage = stage();
    let limit = 9_000;
    stage.task.constraints.max_tokens = Tokens(limit);
    stage.task.constraints.max_steps = 2;
    let server = Server::answers(Box::new(|n| exec(&format!("echo {n}")))).await;
    stage.run(&server).await;
    let seen = server.seen();
    assert_eq!(seen.len(), 2);
    for (used, request) in [0, 110].iter().zip(&seen) {
        let asked = request.body["max_tokens"].as_u64().unwrap();
        let input = request.body.to_string().len() as u64 / 4;
        assert!(asked > 64 && input + asked <= limit - used, "{input} + {asked} of {}", limit - used);
    }
}

#[tokio::test]
async fn wall_time_ends_a_silent_model_and_a_slow_command() {
    let mut waiting = stage();
    waiting.task.constraints.max_wall_ms = DurationMs(200);
    let server = Server::plays(vec![Reply::Silence]).await;
    failed(&waiting.run(&server).await, FailureKind::LimitReached, "wall time");

    let mut slow = stage();
    slow.task.constraints.max_wall_ms = DurationMs(1_000);
    let server = Server::plays(vec![exec("sleep 600")]).await;
    failed(&slow.run(&server).await, FailureKind::LimitReached, "wall time");
}

#[tokio::test]
async fn a_lost_lease_stops_the_attempt_wherever_it_is() {
    for reply in [Reply::Silence, exec("touch started; sleep 600")] {
        let mut stage = stage();
        let runs_command = !matches!(reply, Reply::Silence);
        let server = Server::plays(vec![reply]).await;
        let (_keep, token) = watch::channel(ModelToken::new(TOKEN));
        let (stop, cancel) = watch::channel(false);
        let started = stage.dir.path().join("started");
        let seen = server.watch();
        let trigger = tokio::spawn(async move {
            while seen.lock().unwrap().is_empty() || (runs_command && !started.exists()) {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            stop.send(true).unwrap();
            stop
        });
        let report = stage.run_with(&server, token, cancel).await;
        failed(&report, FailureKind::LeaseExpired, "cancelled");
        trigger.await.unwrap();
    }
}

#[tokio::test]
async fn an_agent_that_goes_round_in_circles_is_told_and_then_stopped() {
    let server = Server::answers(Box::new(|_| exec("echo same"))).await;
    failed(&stage().run(&server).await, FailureKind::LimitReached, "round in circles");
    let results = server.results();
    assert_eq!(server.seen().len(), 5);
    assert!(
        results[2].contains("you repeat the same steps") && !results[3].contains("you repeat"),
        "{results:?}"
    );

    let server = Server::answers(Box::new(|n| exec(if n % 2 == 0 { "echo a" } else { "echo b" }))).await;
    failed(&stage().run(&server).await, FailureKind::LimitReached, "round in circles");
    assert_eq!(server.seen().len(), 8);
}

#[tokio::test]
async fn answers_without_tool_calls_are_nudged_and_then_end_the_attempt() {
    let server = Server::answers(Box::new(|_| Reply::Text("I think I am done."))).await;
    let report = stage().run(&server).await;
    failed(&report, FailureKind::ContractBreach, "3 times in a row without calling a tool");
    assert!(report.result.summary.ends_with("last words: I think I am done."));

    let server =
        Server::plays(vec![Reply::Text("a"), Reply::Text("b"), exec("echo"), Reply::Text("c"), finish()])
            .await;
    succeeded(&stage().run(&server).await);
    let nudges = server.seen()[4].body["messages"].to_string().matches("called no tool").count();
    assert_eq!(nudges, 3);
}

#[tokio::test]
async fn broken_arguments_are_explained_and_end_the_attempt_at_the_third() {
    let broken = || call("write", Value::String("{\"path\": \"a\", \"content\": \"cut of".into()));
    let server = Server::answers(Box::new(move |_| broken())).await;
    failed(&stage().run(&server).await, FailureKind::ContractBreach, "arguments that are no JSON");
    assert_eq!(server.seen().len(), 3);
    assert!(server.results()[0].contains("arguments of `write` are not valid JSON"));

    let server = Server::plays(vec![
        broken(),
        broken(),
        exec("true"),
        broken(),
        call("frobnicate", json!({})),
        call("read", json!({"file": "a"})),
        finish(),
    ])
    .await;
    succeeded(&stage().run(&server).await);
    let results = server.results();
    assert!(
        results[4].contains("there is no tool `frobnicate`; the tools are read, write, edit"),
        "{}",
        results[4]
    );
    assert!(results[5].contains("do not fit the tool: unknown field `file`"), "{}", results[5]);
}

#[tokio::test]
async fn a_long_conversation_makes_room_and_keeps_the_brief() {
    let line = "0123456789abcdef0123456789abcdef\n";
    let mut stage = Stage::new(Role::Backend, &[("big.txt", &line.repeat(3_000))]);
    let server = Server::answers(Box::new(|n| match n {
        1..=12 => call("read", json!({"path": "big.txt", "offset": n, "limit": 1_000})),
        _ => finish(),
    }))
    .await;
    let report = stage.run(&server).await;
    succeeded(&report);
    assert!(trace(&report).contains("\"kind\":\"compaction\""));
    for seen in server.seen() {
        assert!(seen.body["messages"].to_string().len() < 300 * 1024);
        assert!(seen.body["messages"][1]["content"].as_str().unwrap().starts_with("# The job: A job"));
    }
    let results = server.results();
    assert!(results[0].contains("removed to make room") && results[11].contains("0123456789abcdef"));
}
