//! Accounts that fail: who is taken out, who answers instead, and what the client is told.

use serde_json::{Value, json};

use crate::support::{Harness, KEY_TEXT, accounts, ask, events, spelt};
use crate::upstream::{After, Say, Upstream, chunk, streamed, whole};

fn status(status: u16) -> Say {
    Say::Status(
        status,
        &[],
        json!({"error": {"message": format!("no, {KEY_TEXT}"), "type": "x", "code": null}}),
    )
}

fn good(stream: bool) -> Say {
    if stream { streamed("hi") } else { whole("hi") }
}

#[tokio::test]
async fn each_cause_takes_out_what_it_concerns_and_another_account_answers() {
    let quota =
        json!({"error": {"message": "pay", "type": "insufficient_quota", "code": "insufficient_quota"}});
    let in_stream = |error: Value| {
        Say::Stream(
            vec![chunk(json!({"role": "assistant"}), Value::Null), json!({"error": error})],
            After::Done,
        )
    };
    for stream in [false, true] {
        let mut cases = vec![
            (status(401), Some("credential")),
            (status(403), Some("credential")),
            (status(402), Some("billing")),
            (Say::Status(429, &[], quota.clone()), Some("billing")),
            (Say::Status(429, &[("retry-after", "30")], json!({})), Some("rate")),
            (status(404), None),
            (status(500), None),
            (status(529), None),
            (Say::Whole(json!({"error": {"code": 503}})), None),
        ];
        if stream {
            cases.push((in_stream(json!({"type": "overloaded_error", "message": "busy"})), None));
            cases.push((in_stream(json!({"type": "rate_limit_error"})), Some("rate")));
            cases.push((Say::Stream(vec![], After::Cut), None));
        }
        for (bad, cause) in cases {
            let (first, second) = (Upstream::new([bad.clone()]).await, Upstream::new([good(stream)]).await);
            let proxy = Harness::new(&accounts(&[&first, &second])).await;
            let response = proxy.call(&ask(stream)).await;
            assert_eq!(response.status(), 200, "{bad:?}");
            let body = response.text().await.unwrap();
            assert!(body.contains("hi") && !body.contains("error"), "{bad:?}: {body}");
            let view = proxy.admin("/admin/v1/accounts").await;
            assert_eq!(view["accounts"][0]["out_because"].as_str(), cause, "{bad:?}");
            assert!(view["accounts"][1].get("out_because").is_none());
            assert_eq!(second.asked().len(), 1);
        }
    }
}

#[tokio::test]
async fn an_overloaded_provider_is_tried_again() {
    let upstream = Upstream::new([status(503), status(500), whole("hi")]).await;
    let proxy = Harness::new(&accounts(&[&upstream])).await;
    assert_eq!(proxy.call(&ask(false)).await.status(), 200);
    assert_eq!(upstream.asked().len(), 3);
    // The two refusals cost nothing and are no usage.
    proxy.usage(1).await;
    let view = proxy.admin("/admin/v1/accounts").await;
    assert_eq!(view["usage_by_account"][0]["failed_calls"], 2);
}

#[tokio::test]
async fn retries_and_rotations_have_budgets_of_their_own() {
    let upstream = Upstream::new([status(500)]).await;
    let six = [&upstream; 6];
    let config = accounts(&six) + "[limits]\nretries = 2\nrotations = 3\nretry_pause_ms = 1\n";
    let proxy = Harness::new(&config).await;
    let response = proxy.call(&ask(false)).await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.json::<Value>().await.unwrap()["error"]["code"], "upstream_unavailable");
    // One account three times, then three more once each.
    assert_eq!(upstream.asked().len(), 6);
}

#[tokio::test]
async fn a_refused_key_is_never_told_to_the_client() {
    for bad in [401, 403] {
        let upstream = Upstream::new([status(bad)]).await;
        let proxy = Harness::new(&accounts(&[&upstream])).await;
        for _ in 0..2 {
            let response = proxy.call(&ask(true)).await;
            assert_eq!(response.status(), 503);
            assert!(!response.text().await.unwrap().contains(KEY_TEXT));
        }
        assert_eq!(upstream.asked().len(), 1, "the account is out, so it is not asked again");
    }
}

#[tokio::test]
async fn a_rate_limit_is_429_with_whole_seconds() {
    let limited = Say::Status(429, &[("retry-after", "7")], json!({}));
    let (a, b) = (
        Upstream::new([limited]).await,
        Upstream::new([Say::Status(429, &[("retry-after", "90")], json!({}))]).await,
    );
    let proxy = Harness::new(&accounts(&[&a, &b])).await;
    let response = proxy.call(&ask(false)).await;
    assert_eq!(response.status(), 429);
    let seconds: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=7).contains(&seconds), "{seconds}");
    assert_eq!(response.json::<Value>().await.unwrap()["error"]["code"], "rate_limited");
}

#[tokio::test]
async fn a_refused_request_keeps_its_status_and_loses_the_key() {
    let body =
        json!({"error": {"message": format!("too long, {KEY_TEXT}"), "code": "context_length_exceeded"}});
    let upstream = Upstream::new([Say::Status(400, &[], body)]).await;
    let proxy = Harness::new(&accounts(&[&upstream, &upstream])).await;
    let response = proxy.call(&ask(false)).await;
    assert_eq!(response.status(), 400);
    let error = response.json::<Value>().await.unwrap()["error"].clone();
    assert_eq!(
        (&error["code"], &error["upstream_code"]),
        (&"upstream_refused".into(), &"context_length_exceeded".into())
    );
    assert!(error["message"].as_str().unwrap().contains("too long, [redacted]"));
    assert_eq!(upstream.asked().len(), 1, "another account would refuse it too");
}

#[tokio::test]
async fn a_key_that_is_quoted_under_status_200_or_escaped_is_lost_too() {
    let error = json!({"error": {"type": "invalid_request_error", "code": KEY_TEXT,
                                 "message": format!("no such key: {KEY_TEXT}")}});
    let escaped = error.to_string().replace("sk-test", "\\u0073k-test");
    for (stream, bad) in [
        (false, Say::Whole(error.clone())),
        (true, Say::Whole(error.clone())),
        (true, Say::Stream(vec![error], After::Done)),
        (false, Say::Raw(400, "application/json", escaped.leak())),
    ] {
        let upstream = Upstream::new([bad.clone()]).await;
        let proxy = Harness::new(&accounts(&[&upstream])).await;
        let response = proxy.call(&ask(stream)).await;
        assert_eq!(response.status(), 400, "{bad:?}");
        let text = response.text().await.unwrap();
        assert!(text.contains("no such key: [redacted]") && !text.contains(KEY_TEXT), "{text}");
    }
}

#[tokio::test]
async fn an_event_of_several_lines_reaches_the_client_as_one() {
    let text = "data: {\"choices\":[{\"index\":0,\ndata: \"delta\":{\"content\":\"hi\"},\r \"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let upstream = Upstream::new([Say::Raw(200, "text/event-stream", text)]).await;
    let proxy = Harness::new(&accounts(&[&upstream])).await;
    let got = events(&proxy.call(&ask(true)).await.text().await.unwrap());
    assert_eq!(spelt(&got), "hi");
    assert!(got.iter().all(|data| !data.contains(['\n', '\r'])), "{got:?}");
}

#[tokio::test]
async fn after_the_first_token_a_failure_is_an_error_event_and_a_clean_end() {
    let begun = vec![chunk(json!({"content": "half"}), Value::Null)];
    let mut error_after = begun.clone();
    error_after.push(json!({"error": {"type": "overloaded_error"}}));
    for bad in [
        Say::Stream(begun.clone(), After::Cut),
        Say::Stream(begun, After::Done),
        Say::Stream(error_after, After::Done),
    ] {
        let (first, second) = (Upstream::new([bad]).await, Upstream::new([streamed("other")]).await);
        let proxy = Harness::new(&accounts(&[&first, &second])).await;
        let got = events(&proxy.call(&ask(true)).await.text().await.unwrap());
        assert_eq!(spelt(&got), "half");
        let last: Value = serde_json::from_str(got.last().unwrap()).unwrap();
        assert_eq!(last["error"]["code"], "upstream_unavailable");
        assert!(second.asked().is_empty(), "half an answer is not continued by another account");
        let row = proxy.usage(1).await.remove(0);
        assert!(row.estimated && row.output_tokens.0 == 20, "charged as reserved");
    }
}

#[tokio::test]
async fn a_server_that_answers_a_stream_with_json_is_made_a_stream() {
    let upstream = Upstream::new([whole("all at once")]).await;
    let proxy = Harness::new(&accounts(&[&upstream])).await;
    let got = events(&proxy.call(&ask(true)).await.text().await.unwrap());
    assert_eq!((spelt(&got).as_str(), got.last().unwrap().as_str()), ("all at once", "[DONE]"));
    assert_eq!(proxy.usage(1).await[0].output_tokens.0, 5);
}

#[tokio::test]
async fn a_silent_server_is_left_for_another_and_charged() {
    let (first, second) = (
        Upstream::new([Say::Stream(vec![], After::HoldThenDone)]).await,
        Upstream::new([streamed("hi")]).await,
    );
    let config = accounts(&[&first, &second]) + "[limits]\nidle_timeout_ms = 3000\nretries = 0\n";
    let proxy = Harness::new(&config).await;
    let got = events(&proxy.call(&ask(true)).await.text().await.unwrap());
    assert_eq!(spelt(&got), "hi");
    let rows = proxy.usage(2).await;
    assert_eq!(
        rows.iter().map(|r| (r.account.as_str(), r.estimated)).collect::<Vec<_>>(),
        [("a0", true), ("a1", false)]
    );
}
