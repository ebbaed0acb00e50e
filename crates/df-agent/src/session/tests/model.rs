use df_contract::{ErrorCode, FailureKind, Problem, Role};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::support::*;
use crate::attempt::ModelToken;

fn stage() -> Stage {
    Stage::new(Role::Backend, &[])
}

fn problem(code: ErrorCode, detail: &str) -> Reply {
    let problem = serde_json::to_value(Problem::new(code, detail)).unwrap();
    Reply::Status(code.http_status(), "content-type: application/problem+json\r\n", problem)
}

async fn check_final(reply: Reply, kind: FailureKind, text: &str) {
    let server = Server::plays(vec![reply, finish()]).await;
    failed(&stage().run(&server).await, kind, text);
    assert_eq!(server.seen().len(), 1, "{kind:?} is not tried again");
}

#[tokio::test]
async fn failures_that_cannot_pass_are_final_and_named() {
    check_final(
        problem(ErrorCode::BudgetExhausted, "the job's cap"),
        FailureKind::BudgetExhausted,
        "the job's cap",
    )
    .await;
    let mismatch = problem(ErrorCode::RecordingMismatch, "first difference at message 3");
    check_final(mismatch, FailureKind::RecordingMismatch, "first difference at message 3").await;
    check_final(problem(ErrorCode::UpstreamRefused, "no"), FailureKind::ModelRefused, "upstream_refused")
        .await;
    check_final(problem(ErrorCode::ModelUnknown, "no route"), FailureKind::ModelRefused, "no route").await;
    let openai = json!({"error": {"message": "bad schema", "type": "invalid_request_error"}});
    check_final(Reply::Status(400, "", openai), FailureKind::ModelRefused, "answered 400: bad schema").await;
    let inside = json!({"error": {"code": "budget_exhausted", "message": "spent"}});
    check_final(Reply::Events(format!("data: {inside}\n\n")), FailureKind::BudgetExhausted, "spent").await;
    let calls = vec![("exec", json!({})); 65];
    check_final(Reply::Calls(calls), FailureKind::ModelRefused, "too many tool calls").await;
    let filtered = json!({"choices": [{"delta": {}, "finish_reason": "content_filter"}]});
    check_final(Reply::Events(format!("data: {filtered}\n\n")), FailureKind::ModelRefused, "withheld").await;
}

#[tokio::test]
async fn failures_that_may_pass_are_tried_again() {
    let broken = Reply::Events(events(None, &[("exec", json!({"command": "touch wrong"}))], false));
    for reply in [
        problem(ErrorCode::UpstreamUnavailable, "no account"),
        Reply::Status(429, "retry-after: 0\r\n", json!({})),
        Reply::Status(529, "", json!({"error": {"message": "overloaded", "type": "overloaded_error"}})),
        Reply::Events("data: {\"error\": {\"message\": \"overloaded\"}}\n\n".into()),
        Reply::Events("data: not json\n\n".into()),
        Reply::Events(String::new()),
        Reply::Status(200, "content-type: application/json\r\n", Value::String("x".into())),
        broken,
    ] {
        let mut stage = stage();
        let server = Server::plays(vec![reply, finish()]).await;
        succeeded(&stage.run(&server).await);
        assert_eq!(server.seen().len(), 2);
        assert!(!stage.dir.path().join("wrong").exists(), "a call of a broken answer was run");
    }
    let server = Server::answers(Box::new(|_| problem(ErrorCode::UpstreamUnavailable, "no account"))).await;
    failed(
        &stage().run(&server).await,
        FailureKind::ModelUnavailable,
        "no answer after 4 tries; the last failure",
    );
    assert_eq!(server.seen().len(), 4);
}

#[tokio::test]
async fn nobody_listening_is_unavailable() {
    let server = Server::plays(vec![]).await;
    let endpoint = server.endpoint.clone();
    drop(server);
    let gone = Server::nowhere(endpoint);
    failed(&stage().run(&gone).await, FailureKind::ModelUnavailable, "the connection failed");
}

#[tokio::test]
async fn a_whole_answer_does_as_well_as_a_stream() {
    let call = json!({"id": "x", "type": "function", "function": {"name": "finish",
        "arguments": json!({"summary": "s", "commit_message": "m"}).to_string()}});
    let body = json!({"choices": [{"message": {"role": "assistant", "content": null, "tool_calls": [call]}, "finish_reason": "tool_calls"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4}});
    let server = Server::plays(vec![Reply::Status(200, "content-type: application/json\r\n", body)]).await;
    let report = stage().run(&server).await;
    succeeded(&report);
    assert_eq!((report.result.usage.input_tokens.0, report.result.usage.output_tokens.0), (3, 4));
}

#[tokio::test]
async fn an_expired_grant_is_renewed_once() {
    let (renew, token) = watch::channel(ModelToken::new(TOKEN));
    let (_stop, cancel) = watch::channel(false);
    let renewer = tokio::sync::Mutex::new(renew);
    let server = Server::answers(Box::new(move |n| match n {
        1 => {
            renewer.try_lock().unwrap().send(ModelToken::new("dfg1.renewed")).unwrap();
            problem(ErrorCode::GrantExpired, "expired")
        }
        _ => finish(),
    }))
    .await;
    succeeded(&stage().run_with(&server, token, cancel).await);
    let tokens: Vec<String> = server.seen().into_iter().map(|s| s.authorization).collect();
    assert_eq!(tokens, [format!("Bearer {TOKEN}"), "Bearer dfg1.renewed".to_owned()]);
}

#[tokio::test]
async fn a_renewed_grant_that_is_refused_too_ends_the_attempt() {
    let (renew, token) = watch::channel(ModelToken::new(TOKEN));
    let (_stop, cancel) = watch::channel(false);
    let server = Server::answers(Box::new(move |n| {
        renew.send(ModelToken::new(format!("dfg1.renewed-{n}"))).unwrap();
        problem(ErrorCode::GrantExpired, "expired")
    }))
    .await;
    let report = stage().run_with(&server, token, cancel).await;
    failed(&report, FailureKind::ModelUnavailable, "grant_expired");
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn a_grant_that_is_not_renewed_ends_the_attempt() {
    let server = Server::answers(Box::new(|_| problem(ErrorCode::GrantExpired, "expired"))).await;
    failed(&stage().run(&server).await, FailureKind::ModelUnavailable, "grant_expired");
    assert_eq!(server.seen().len(), 1);
    let server = Server::answers(Box::new(|_| problem(ErrorCode::GrantRevoked, "withdrawn"))).await;
    failed(&stage().run(&server).await, FailureKind::ModelRefused, "grant_revoked");
}
