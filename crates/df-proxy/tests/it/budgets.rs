//! Budgets over HTTP: races, clients that leave, stops.

use futures::StreamExt as _;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::support::{Harness, accounts, ask, cap, claims};
use crate::upstream::{After, Say, Upstream, chunk, whole};

fn held() -> Say {
    Say::Stream(vec![chunk(json!({"content": "a"}), Value::Null)], After::HoldThenDone)
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_at_once_never_spend_more_than_the_cap() {
    let upstream = Upstream::new([whole("hi")]).await;
    let proxy = Harness::new(&accounts(&[&upstream])).await;
    let mut claims = claims();
    // One call holds its bytes / 4 and 20 for the output, and spends 15.
    claims.caps = vec![cap("job", Some(300), None), cap("task", Some(250), None)];
    let grant = proxy.grant(&claims);
    let body = ask(false);
    let statuses: Vec<u16> =
        join_all((0..40).map(|_| async { proxy.post(&grant, &body).await.status().as_u16() })).await;
    let answered = statuses.iter().filter(|s| **s == 200).count();
    assert!(statuses.iter().all(|s| [200, 402].contains(s)), "{statuses:?}");
    assert!(answered > 0 && answered < 40, "{answered}");
    assert_eq!(upstream.asked().len(), answered, "a refused call reaches nobody");
    let rows = proxy.usage(answered).await;
    assert!(rows.iter().map(|r| r.input_tokens.0 + r.output_tokens.0).sum::<u64>() <= 250);
}

#[tokio::test]
async fn a_raised_cap_lets_go_on_and_an_older_one_does_not_take_it_back() {
    let upstream = Upstream::new([whole("hi")]).await;
    let proxy = Harness::new(&accounts(&[&upstream])).await;
    let mut claims = claims();
    for (version, tokens, status) in [(1, 10, 402), (2, 10_000, 200), (1, 10, 200)] {
        claims.caps = vec![cap("job", Some(tokens), None)];
        claims.caps[0].version = version;
        assert_eq!(
            proxy.post(&proxy.grant(&claims), &ask(false)).await.status(),
            status,
            "version {version}"
        );
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_settled_with_what_the_provider_says() {
    let upstream = Upstream::new([held()]).await;
    let proxy = Harness::new(&accounts(&[&upstream])).await;
    let response = proxy.call(&ask(true)).await;
    let mut body = response.bytes_stream();
    assert!(String::from_utf8_lossy(&body.next().await.unwrap().unwrap()).contains("\"a\""));
    drop(body);
    upstream.release();
    let row = proxy.usage(1).await.remove(0);
    assert_eq!((row.input_tokens.0, row.output_tokens.0, row.estimated), (10, 5, false));
}

#[tokio::test]
async fn a_drain_ends_and_is_charged_in_full() {
    let upstream = Upstream::new([held()]).await;
    let config = accounts(&[&upstream]) + "[limits]\ndrain_timeout_ms = 30\n";
    let proxy = Harness::new(&config).await;
    let mut body = proxy.call(&ask(true)).await.bytes_stream();
    let _first = body.next().await.unwrap().unwrap();
    drop(body);
    let row = proxy.usage(1).await.remove(0);
    assert!(row.estimated && row.output_tokens.0 == 20);
}

#[tokio::test]
async fn a_stop_lets_a_call_end() {
    let upstream = Upstream::new([held()]).await;
    let proxy = Harness::new(&accounts(&[&upstream])).await;
    let mut body = proxy.call(&ask(true)).await.bytes_stream();
    let _first = body.next().await.unwrap().unwrap();
    let stopping = tokio::spawn(proxy.stop());
    upstream.release();
    let mut rest = String::new();
    while let Some(part) = body.next().await {
        rest += &String::from_utf8_lossy(&part.unwrap());
    }
    assert!(rest.ends_with("data: [DONE]\n\n"), "{rest}");
    let dir = stopping.await.unwrap();
    let again = Harness::within(dir, &accounts(&[&upstream])).await;
    assert!(!again.usage(1).await[0].estimated);
}

#[tokio::test]
async fn more_calls_than_may_be_served_are_told_to_come_back() {
    let upstream = Upstream::new([held()]).await;
    let proxy = Harness::new(&(accounts(&[&upstream]) + "[limits]\nmax_in_flight = 1\n")).await;
    let first = proxy.call(&ask(true)).await;
    let second = proxy.call(&ask(true)).await;
    assert_eq!((second.status().as_u16(), &second.headers()["retry-after"]), (429, &"1".parse().unwrap()));
    upstream.release();
    assert!(first.text().await.unwrap().ends_with("[DONE]\n\n"));
}

#[tokio::test]
async fn a_count_that_cannot_be_true_is_not_believed_and_does_not_spoil_the_ledger() {
    let mut absurd = json!({"choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}]});
    absurd["usage"] = json!({"prompt_tokens": u64::MAX, "completion_tokens": 1});
    let upstream = Upstream::new([Say::Whole(absurd)]).await;
    let proxy = Harness::new(&accounts(&[&upstream])).await;
    for _ in 0..2 {
        assert_eq!(proxy.call(&ask(false)).await.status(), 200);
    }
    let again = Harness::within(proxy.stop().await, &accounts(&[&upstream])).await;
    let rows = again.usage(2).await;
    assert!(rows.iter().all(|r| r.estimated && r.output_tokens.0 == 20), "{rows:?}");
}

#[tokio::test]
async fn a_client_that_never_sends_its_body_gives_its_place_back() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let upstream = Upstream::new([whole("hi")]).await;
    let limits = "[limits]\nmax_in_flight = 1\nbody_timeout_ms = 50\n";
    let proxy = Harness::new(&(accounts(&[&upstream]) + limits)).await;
    let mut slow = tokio::net::TcpStream::connect(proxy.proxy.address()).await.unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {}\r\ncontent-length: 9\r\n\r\n",
        proxy.grant(&claims())
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("in time"), "{answer}");
    assert_eq!(proxy.call(&ask(false)).await.status(), 200);
}
