//! What becomes of blobs: late results keep their trace, and what nobody names is swept away, but never too soon.

use std::sync::atomic::Ordering;

use df_contract::{Digest, EventKind, JobEventView, LeaseKind, Role};
use df_orchestration::reconcile::BLOB_GRACE;
use serde_json::json;

use crate::play::{Player, lease_path};
use crate::world::{HIDDEN_CONTENT, World, plain, sensitive};

/// Well beyond the grace, and beyond what an attempt may take.
const LATER: u64 = BLOB_GRACE.0 * 2;

#[tokio::test]
async fn a_late_result_is_refused_and_says_so_with_its_trace() {
    let world = World::start().await;
    let alice = world.key("alice", &[Role::Submitter]).await;
    let player = Player::start(&world).await;
    let job = alice.submit(&sensitive(&alice).await).await;
    let lease = player.claim().await.remove(0);
    let trace = player.holder(&lease).put_blob(b"{\"step\":\"late\"}").await;
    world.admin.post(&format!("/v1/jobs/{job}/cancel"), &json!({})).await.ok::<serde_json::Value>();
    let late = |trace: &Digest| {
        let outcome = json!({"outcome": "failed", "kind": "tool_failure", "detail": "x", "trace": trace});
        json!({"attempt": lease.attempt, "outcome": outcome})
    };
    let path = format!("{}/report", lease_path(&lease));
    player.holder(&lease).post(&path, &late(&trace)).await.refused("stale_lease");
    // One that could not be uploaded any more is late all the same.
    player.holder(&lease).post(&path, &late(&Digest::of(b"never uploaded"))).await.refused("stale_lease");
    // A worker that wants to smuggle a hidden check out as its trace.
    player.holder(&lease).post(&path, &late(&Digest::of(HIDDEN_CONTENT))).await.refused("stale_lease");

    let events = alice.get(&format!("/v1/jobs/{job}/events?format=jsonl&follow=false")).await.text();
    let events: Vec<JobEventView> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let stale: Vec<_> = events
        .into_iter()
        .filter_map(|event| match event.event {
            EventKind::StaleResult { slug, held, current, trace } => Some((slug, held, current, trace)),
            _ => None,
        })
        .collect();
    assert_eq!(stale.len(), 3);
    assert_eq!((&stale[0].0, stale[0].1, &stale[0].3), (&lease.slug, lease.epoch, &Some(trace.clone())));
    assert!(stale[0].2 > lease.epoch);
    assert_eq!(stale[1].3, None);
    let shown = world.admin.get(&format!("/v1/jobs/{job}/blobs/{trace}")).await;
    assert_eq!(shown.body, b"{\"step\":\"late\"}");
    let hidden = Digest::of(HIDDEN_CONTENT);
    world.admin.get(&format!("/v1/jobs/{job}/blobs/{hidden}")).await.refused("blob_missing");

    world.clock.fetch_add(LATER, Ordering::SeqCst);
    world.orchestrator.orphan_blobs(&world.blobs).await.unwrap();
    assert!(world.blobs.has(&trace).await && world.blobs.has(&hidden).await, "the job keeps them");
}

/// The job's record tells of the last attempt alone; what the one before left is evidence too.
#[tokio::test]
async fn what_a_superseded_attempt_left_outlives_every_sweep() {
    let world = World::start().await;
    let alice = world.key("alice", &[Role::Submitter]).await;
    let player = Player::start(&world).await;
    let job = alice.submit(&plain()).await;
    let (lease, log, orphan) = loop {
        let lease = player.claim().await.remove(0);
        if lease.kind() != LeaseKind::Agent {
            let product = player.product(&lease).await;
            player.report(&lease, product).await.done();
            continue;
        }
        let log = player.holder(&lease).put_blob(b"test_api.py: 1 failed").await;
        let orphan = player.holder(&lease).put_blob(b"uploaded and never reported").await;
        break (lease, log, orphan);
    };
    assert!(world.blobs.keep(&orphan, world.orchestrator.env().now()).await.unwrap());
    let outcome = json!({"outcome": "failed", "kind": "check_failure", "detail": "red"});
    let gone = Digest::of(b"never uploaded");
    let report = json!({"attempt": lease.attempt, "outcome": outcome, "evidence": [log, gone]});
    player.holder(&lease).post(&format!("{}/report", lease_path(&lease)), &report).await.done();
    let played = player.play().await;
    assert!(played.iter().any(|l| l.slug == lease.slug && l.epoch > lease.epoch), "superseded");

    world.clock.fetch_add(LATER, Ordering::SeqCst);
    world.orchestrator.orphan_blobs(&world.blobs).await.unwrap();
    assert!(!world.blobs.has(&orphan).await, "nobody named it");
    let shown = alice.get(&format!("/v1/jobs/{job}/blobs/{log}")).await;
    assert_eq!(shown.body, b"test_api.py: 1 failed");
    alice.get(&format!("/v1/jobs/{job}/blobs/{gone}")).await.refused("blob_missing");
    let audit = world.orchestrator.store().audit(job).await.unwrap();
    assert!(audit.iter().any(|r| r.body["kind"] == "evidence" && r.body["blobs"] == json!([log])));
}

#[tokio::test]
async fn orphans_are_swept_after_their_grace_and_nothing_else_is() {
    let world = World::start().await;
    let alice = world.key("alice", &[Role::Submitter]).await;
    let player = Player::start(&world).await;
    let done = alice.submit(&sensitive(&alice).await).await;
    player.play().await;
    // Uploads carry the time of the machine; these count as made now.
    let orphan = alice.put_blob(b"nothing came of this").await;
    let source = alice.put_blob(b"a source of a job to come").await;
    let now = world.orchestrator.env().now();
    for digest in [&orphan, &source] {
        assert!(world.blobs.keep(digest, now).await.unwrap());
    }
    assert_eq!(world.orchestrator.orphan_blobs(&world.blobs).await.unwrap(), 0, "too young");
    world.clock.fetch_add(LATER, Ordering::SeqCst);
    // Submitted late, by a client that was away: naming it makes it young before the job is there.
    let mut spec = plain();
    spec["source"] = json!({"kind": "bundle", "digest": source});
    let late = alice.submit(&spec).await;
    assert!(world.orchestrator.orphan_blobs(&world.blobs).await.unwrap() >= 1);
    assert!(!world.blobs.has(&orphan).await && world.blobs.has(&source).await);
    assert!(world.blobs.has(&Digest::of(HIDDEN_CONTENT)).await);
    world.clock.fetch_add(LATER, Ordering::SeqCst);
    assert_eq!(
        world.orchestrator.orphan_blobs(&world.blobs).await.unwrap(),
        0,
        "what a job names stays for ever"
    );
    assert!(world.blobs.has(&source).await);
    let mut gone = plain();
    gone["source"] = json!({"kind": "bundle", "digest": orphan});
    alice.post("/v1/jobs", &gone).await.refused("blob_missing");
    for job in [done, late] {
        world.admin.get(&format!("/v1/jobs/{job}")).await.ok::<serde_json::Value>();
    }
}
