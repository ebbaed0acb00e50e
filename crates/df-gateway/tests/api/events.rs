//! Streams: nothing is lost or doubled, whenever a client leaves and comes back.

use df_contract::{JobEventView, JobId, Role};
use serde_json::json;

use crate::play::Player;
use crate::world::{Client, World, plain};

/// Reads the stream to its end, or until `most` events have come.
async fn read(client: &Client, path: &str, last_event_id: Option<u64>, most: usize) -> Vec<JobEventView> {
    let mut request = client.request(reqwest::Method::GET, path);
    if let Some(id) = last_event_id {
        request = request.header("last-event-id", id);
    }
    let mut answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let (mut text, mut seen) = (String::new(), Vec::new());
    while let Some(piece) = answer.chunk().await.unwrap() {
        text.push_str(std::str::from_utf8(&piece).unwrap());
        while let Some((message, rest)) = text.split_once("\n\n") {
            seen.extend(parse(message));
            text = rest.to_owned();
            if seen.len() == most {
                return seen;
            }
        }
    }
    seen
}

fn parse(message: &str) -> Option<JobEventView> {
    let field = |name| message.lines().find_map(|line| line.strip_prefix(name));
    let event: JobEventView = serde_json::from_str(field("data: ")?).unwrap();
    assert_eq!(field("id: "), Some(event.seq.to_string().as_str()));
    Some(event)
}

async fn lines(client: &Client, job: JobId) -> Vec<JobEventView> {
    let answer = client.get(&format!("/v1/jobs/{job}/events?format=jsonl&follow=false")).await;
    assert_eq!(answer.headers["content-type"], "application/x-ndjson");
    answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_client_that_comes_back_sees_every_event_once() {
    let world = World::start().await;
    let alice = world.key("alice", &[Role::Submitter]).await;
    let player = Player::start(&world).await;
    let job = alice.submit(&plain()).await;
    let path = format!("/v1/jobs/{job}/events");

    // One client follows from the beginning while the job runs; another leaves after every third event.
    let follower = tokio::spawn({
        let (alice, path) = (alice.clone(), path.clone());
        async move { read(&alice, &path, None, usize::MAX).await }
    });
    let hopper = tokio::spawn({
        let (alice, path) = (alice.clone(), path.clone());
        async move {
            let mut seen: Vec<JobEventView> = Vec::new();
            loop {
                let more = read(&alice, &path, seen.last().map(|e| e.seq), 3).await;
                let ended = more.len() < 3;
                seen.extend(more);
                if ended {
                    return seen;
                }
            }
        }
    });
    player.play().await;
    let all = lines(&alice, job).await;
    assert!(all.len() > 10, "{all:?}");
    assert_eq!(all.iter().map(|e| e.seq).collect::<Vec<_>>(), (1..=all.len() as u64).collect::<Vec<_>>());
    assert_eq!(follower.await.unwrap(), all);
    assert_eq!(hopper.await.unwrap(), all);
    assert_eq!(read(&alice, &format!("{path}?after=4"), None, usize::MAX).await, all[4..]);
    let header_first = read(&alice, &format!("{path}?after=1"), Some(6), usize::MAX).await;
    assert_eq!(header_first, all[6..]);
    assert!(read(&alice, &format!("{path}?after={}", all.len()), None, usize::MAX).await.is_empty());
}

#[tokio::test]
async fn progress_of_an_attempt_reaches_its_watchers_once() {
    let world = World::start().await;
    let alice = world.key("alice", &[Role::Submitter]).await;
    let player = Player::start(&world).await;
    let job = alice.submit(&plain()).await;
    let lease = player.claim().await.remove(0);
    let line = |text: &str| json!({"at": 1, "kind": "note", "text": text});
    let batch = json!({"first": 0, "lines": [line("one"), line("two")]});
    let path = format!("{}/events", crate::play::lease_path(&lease));
    for _ in 0..2 {
        player.holder(&lease).post(&path, &batch).await.done();
    }
    let events = serde_json::to_string(&lines(&alice, job).await).unwrap();
    assert_eq!(
        (events.matches("note: one").count(), events.matches("note: two").count()),
        (1, 1),
        "{events}"
    );
    let mut kind = line("x");
    kind["kind"] = json!("k".repeat(5_000));
    for long in [line(&"x".repeat(5_000)), kind] {
        let long = json!({"first": 2, "lines": [long]});
        player.holder(&lease).post(&path, &long).await.refused("invalid_request");
    }
}

#[tokio::test]
async fn what_cannot_be_a_position_is_refused() {
    let world = World::start().await;
    let alice = world.key("alice", &[Role::Submitter]).await;
    let job = alice.submit(&plain()).await;
    let path = format!("/v1/jobs/{job}/events");
    for query in ["?after=-1", "?after=x", "?format=xml", "?follow=maybe", "?from=1"] {
        alice.get(&format!("{path}{query}")).await.refused("invalid_request");
    }
    let request = alice.request(reqwest::Method::GET, &path).header("last-event-id", "x");
    crate::world::send(request).await.refused("invalid_request");
}
