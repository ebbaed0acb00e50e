//! The worker's side: what a lease opens, and what it no longer opens.

use std::sync::atomic::Ordering;

use df_contract::api::SystemView;
use df_contract::lease::{Claimed, HeartbeatReply, Watched, Work};
use df_contract::{Digest, Lease, Role, TaskState};
use reqwest::Method;
use serde_json::{Value, json};

use crate::play::{Player, lease_path, report};
use crate::world::{Client, World, plain, send, sensitive};

#[tokio::test]
async fn a_lease_that_was_lost_can_report_nothing() {
    let world = World::start().await;
    let alice = world.key("alice", &[Role::Submitter]).await;
    let player = Player::start(&world).await;
    let job = alice.submit(&plain()).await;
    let lease = player.claim().await.remove(0);
    let product = player.product(&lease).await;

    // The session dies unnoticed: its lease goes to somebody else under a higher epoch.
    world.clock.fetch_add(60_000, Ordering::SeqCst);
    world.orchestrator.reap().await.unwrap();
    let second = Player::start(&world).await;
    let again = second.claim().await.remove(0);
    assert_eq!((again.slug.clone(), again.epoch > lease.epoch), (lease.slug.clone(), true));

    player.report(&lease, product.clone()).await.refused("stale_lease");
    let blob = player
        .holder(&lease)
        .request(Method::PUT, &format!("/v1/blobs/{}", Digest::of(b"late")))
        .body("late");
    send(blob).await.refused("stale_lease");
    let batch = json!({"first": 0, "lines": []});
    player
        .holder(&lease)
        .post(&format!("{}/events", lease_path(&lease)), &batch)
        .await
        .refused("stale_lease");
    let claim = json!({"kinds": ["intake"], "max": 1, "wait_ms": 0});
    let path = format!("/v1/worker/sessions/{}/claim", player.session);
    player.client.post(&path, &claim).await.refused("stale_lease");
    let task = alice.job(job).await.tasks.remove(0);
    assert_eq!((task.state, task.epoch), (TaskState::Leased, again.epoch));
    second.report(&again, product).await.done();
}

#[tokio::test]
async fn a_report_sent_again_gets_the_first_answer_and_another_does_not() {
    let world = World::start().await;
    let alice = world.key("alice", &[Role::Submitter]).await;
    let player = Player::start(&world).await;
    let job = alice.submit(&plain()).await;
    let lease = player.claim().await.remove(0);
    let product = player.product(&lease).await;
    player.report(&lease, product.clone()).await.done();
    let version = alice.job(job).await.version;
    player.report(&lease, product).await.done();
    assert_eq!(alice.job(job).await.version, version, "accepted once");
    let failed = json!({"attempt": lease.attempt, "outcome": {"outcome": "failed", "kind": "infrastructure", "detail": "x"}});
    let path = format!("{}/report", lease_path(&lease));
    player.holder(&lease).post(&path, &failed).await.refused("idempotency_conflict");
}

#[tokio::test]
async fn a_report_names_only_what_was_uploaded() {
    let world = World::start().await;
    let alice = world.key("alice", &[Role::Submitter]).await;
    let player = Player::start(&world).await;
    alice.submit(&plain()).await;
    let lease = player.claim().await.remove(0);
    let mut body = report(&lease, player.product(&lease).await);
    body["outcome"]["product"]["base"]["bundle"] = json!(Digest::of(b"never uploaded"));
    let path = format!("{}/report", lease_path(&lease));
    player.holder(&lease).post(&path, &body).await.refused("blob_missing");
}

#[tokio::test]
async fn a_lease_opens_its_own_and_nothing_else() {
    let world = World::start().await;
    let alice = world.key("alice", &[Role::Submitter]).await;
    let player = Player::start(&world).await;
    for _ in 0..2 {
        alice.submit(&plain()).await;
    }
    let leases = player.claim().await;
    let (mine, other) = (&leases[0], &leases[1]);
    let holder = player.holder(mine);
    let body = report(other, player.product(other).await);
    holder.post(&format!("{}/report", lease_path(other)), &body).await.refused("forbidden");
    for path in ["/v1/jobs", "/v1/system", "/v1/keys"] {
        holder.get(path).await.refused("forbidden");
    }
    holder.post("/v1/jobs", &plain()).await.refused("forbidden");
    let forged = player.client.with(&mine.token.0.replace('~', "~9"));
    forged.get(&format!("/v1/blobs/{}", Digest::zero())).await.refused("unauthenticated");
    // The worker's own key is no lease, and a lease's token opens no session.
    player.client.post(&format!("{}/report", lease_path(mine)), &body).await.refused("forbidden");
    holder.post("/v1/worker/sessions", &json!({"name": "x", "capacity": 1})).await.refused("forbidden");
}

#[tokio::test]
async fn blobs_come_down_only_to_the_lease_whose_work_names_them() {
    let world = World::start().await;
    let alice = world.key("alice", &[Role::Submitter]).await;
    let player = Player::start(&world).await;
    let source = alice.put_blob(b"a bundle").await;
    let mut spec = sensitive(&alice).await;
    spec["source"] = json!({"kind": "bundle", "digest": source});
    alice.submit(&spec).await;
    let lease = player.claim().await.remove(0);
    assert!(matches!(lease.work, Work::Intake { .. }));
    let holder = player.holder(&lease);
    let answer = holder.get(&format!("/v1/blobs/{source}")).await;
    assert_eq!((answer.status, answer.body.as_slice()), (200, b"a bundle".as_slice()));
    let hidden = Digest::of(crate::world::HIDDEN_CONTENT);
    holder.get(&format!("/v1/blobs/{hidden}")).await.refused("forbidden");
    alice.get(&format!("/v1/blobs/{source}")).await.refused("forbidden");
}

#[tokio::test]
async fn a_session_belongs_to_its_key_and_its_class_limits_it() {
    let world = World::start().await;
    let alice = world.key("alice", &[Role::Submitter]).await;
    let player = Player::start(&world).await;
    alice.submit(&plain()).await;
    let thief = world.key("worker-2", &[Role::Worker]).await;
    let base = format!("/v1/worker/sessions/{}", player.session);
    let ask = json!({"kinds": ["intake"], "max": 1, "wait_ms": 0});
    thief.post(&format!("{base}/claim"), &ask).await.refused("stale_lease");
    thief.post(&format!("{base}/heartbeat"), &json!({"held": []})).await.refused("stale_lease");
    thief.delete(&base).await.refused("stale_lease");

    let remote = json!({"identity": "far", "roles": ["worker"]});
    let remote: Value = world.admin.post("/v1/keys", &remote).await.ok();
    let remote = world.admin.with(remote["secret"].as_str().unwrap());
    let opened: Value = remote.post("/v1/worker/sessions", &json!({"name": "far", "capacity": 4})).await.ok();
    assert_eq!(opened["class"], "remote");
    let path = format!("/v1/worker/sessions/{}/claim", opened["session"].as_str().unwrap());
    assert!(
        remote.post(&path, &ask).await.ok::<Claimed>().leases.is_empty(),
        "intake is for trusted workers"
    );
    assert_eq!(world.admin.get("/v1/system").await.ok::<SystemView>().workers.len(), 2);
}

#[tokio::test]
async fn a_heartbeat_tells_what_is_lost_and_a_closed_session_gives_back() {
    let world = World::start().await;
    let alice = world.key("alice", &[Role::Submitter]).await;
    let player = Player::start(&world).await;
    let job = alice.submit(&plain()).await;
    let lease = player.claim().await.remove(0);
    let held = |epoch: u64| json!({"job": lease.job, "slug": lease.slug, "epoch": epoch});
    let beat = json!({"held": [held(lease.epoch), held(lease.epoch + 1)]});
    let base = format!("/v1/worker/sessions/{}", player.session);
    let reply: HeartbeatReply = player.client.post(&format!("{base}/heartbeat"), &beat).await.ok();
    assert_eq!(reply.lost.iter().map(|l| l.epoch).collect::<Vec<_>>(), [lease.epoch + 1]);
    player.client.delete(&base).await.done();
    assert_eq!(alice.job(job).await.tasks[0].state, TaskState::Ready);
    player.client.post(&format!("{base}/heartbeat"), &json!({"held": []})).await.refused("stale_lease");
}

/// A watch is answered by the loss itself, and by nothing else that happens.
#[tokio::test]
async fn a_watch_tells_at_once_what_is_lost() {
    let world = World::start().await;
    let alice = world.key("alice", &[Role::Submitter]).await;
    let player = Player::start(&world).await;
    for _ in 0..2 {
        alice.submit(&plain()).await;
    }
    let leases = player.claim().await;
    let held = |lease: &Lease| json!({"job": lease.job, "slug": lease.slug, "epoch": lease.epoch});
    let (kept, lost) = (&leases[0], &leases[1]);
    let path = format!("/v1/worker/sessions/{}/watch", player.session);
    let watch = |wait_ms: u64| json!({"held": [held(kept), held(lost)], "wait_ms": wait_ms});
    let now: Watched = player.client.post(&path, &watch(0)).await.ok();
    assert!(now.lost.is_empty());
    let waiting = watch(20_000);
    let cancel = async {
        let priority = alice.post(&format!("/v1/jobs/{}/priority", kept.job), &json!({"priority": 1})).await;
        priority.ok::<Value>();
        alice.post(&format!("/v1/jobs/{}/cancel", lost.job), &json!({"cause": "enough"})).await.ok::<Value>();
    };
    let (told, ()) = tokio::join!(player.client.post(&path, &waiting), cancel);
    let told: Watched = told.ok();
    assert_eq!(told.lost.iter().map(|lease| lease.job).collect::<Vec<_>>(), [lost.job]);

    let thief = world.key("worker-2", &[Role::Worker]).await;
    thief.post(&path, &watch(0)).await.refused("stale_lease");
    let many = json!({"held": vec![held(kept); 1_025], "wait_ms": 0});
    player.client.post(&path, &many).await.refused("body_too_large");
}

/// What a worker says it has ends up in what every claim looks through.
#[tokio::test]
async fn a_session_has_labels_as_jobs_can_ask_for_them() {
    let world = World::start().await;
    let worker = world.key("worker-1", &[Role::Worker]).await;
    let many: Vec<String> = (0..65).map(|n| format!("l{n}")).collect();
    for (labels, says) in [
        (json!(["GPU"]), "`GPU`"),
        (json!(["zone a"]), "`zone a`"),
        (json!(["\u{1b}[31mred"]), "lower-case"),
        (json!(["x".repeat(49)]), "48 bytes"),
        (json!([""]), "lower-case"),
        (json!(many), "64"),
    ] {
        let open = json!({"name": "w", "capacity": 1, "labels": labels});
        let problem = worker.post("/v1/worker/sessions", &open).await.refused("invalid_request");
        assert!(problem.detail.contains(says) && !problem.detail.contains('\u{1b}'), "{problem}");
    }
    let open = json!({"name": "w", "capacity": 1, "labels": ["gpu", "zone-a"]});
    worker.post("/v1/worker/sessions", &open).await.ok::<Value>();
    assert_eq!(
        world.admin.get("/v1/system").await.ok::<SystemView>().workers.len(),
        1,
        "no other was opened"
    );
}

/// Results for what is not there, not theirs, or over: refused, and the jobs are what they were.
#[tokio::test]
async fn a_result_that_fits_nothing_changes_nothing() {
    let world = World::start().await;
    let alice = world.key("alice", &[Role::Submitter]).await;
    let player = Player::start(&world).await;
    for _ in 0..3 {
        alice.submit(&plain()).await;
    }
    let leases = player.claim().await;
    let [mine, other, gone] = leases.as_slice() else { panic!("{leases:?}") };
    alice.post(&format!("/v1/jobs/{}/cancel", gone.job), &json!({})).await.ok::<Value>();
    let products = [player.product(mine).await, player.product(other).await];
    let before = [alice.job(mine.job).await, alice.job(other.job).await, alice.job(gone.job).await];
    let path = format!("{}/report", lease_path(mine));
    let foreign = json!({"attempt": other.attempt, "outcome": report(mine, products[0].clone())["outcome"]});
    let to = |job: &str, slug: &str, epoch: u64| format!("/v1/worker/leases/{job}/{slug}/{epoch}/report");
    let (job, body) = (mine.job.to_string(), report(mine, products[0].clone()));
    let late = json!({"attempt": gone.attempt,
        "outcome": {"outcome": "failed", "kind": "agent_crash", "detail": "too late"}});
    for (holder, path, body, code) in [
        (mine, path.clone(), &foreign, "stale_lease"),
        (mine, to(&job, "nobody", 1), &body, "forbidden"),
        (mine, to(&job, mine.slug.as_str(), mine.epoch + 1), &body, "forbidden"),
        (mine, to("job_nonsense", mine.slug.as_str(), mine.epoch), &body, "forbidden"),
        (mine, format!("{}/report", lease_path(other)), &report(other, products[1].clone()), "forbidden"),
        (mine, path.clone(), &json!({"attempt": mine.attempt}), "invalid_request"),
        (
            mine,
            path,
            &json!({"attempt": mine.attempt, "outcome": {"outcome": "succeeded"}}),
            "invalid_request",
        ),
        (gone, format!("{}/report", lease_path(gone)), &late, "stale_lease"),
    ] {
        let problem = player.holder(holder).post(&path, body).await.refused(code);
        assert!(!problem.detail.is_empty(), "{problem}");
        let after = [alice.job(mine.job).await, alice.job(other.job).await, alice.job(gone.job).await];
        for (after, before) in after.iter().zip(&before) {
            let shown = |view| serde_json::to_value(view).unwrap();
            assert_eq!(shown(after), shown(before), "{path}");
        }
    }
}

/// Who sees that an agent fails on a worker: the tenant whose tasks it fails, and whoever may see every tenant.
#[tokio::test]
async fn the_system_view_lists_failing_agents_to_their_tenant() {
    let world = World::start().await;
    let alice = world.key("alice", &[Role::Submitter]).await;
    let stranger = world.key_in("other", "carol", &[Role::Viewer]).await;
    let player = Player::start(&world).await;
    alice.submit(&plain()).await;
    let intake = player.claim().await.remove(0);
    let product = player.product(&intake).await;
    player.report(&intake, product).await.done();
    let lease = player.claim().await.remove(0);
    let outcome = json!({"outcome": "failed", "kind": "agent_crash", "detail": "gone"});
    let report = json!({"attempt": lease.attempt, "outcome": outcome, "sandbox_layers": []});
    player.holder(&lease).post(&format!("{}/report", lease_path(&lease)), &report).await.done();
    let breakers = async |client: &Client| client.get("/v1/system").await.ok::<SystemView>().breakers;
    assert!(breakers(&stranger).await.is_empty());
    for client in [&alice, &world.admin] {
        let found = breakers(client).await;
        let shown: Vec<_> = found.iter().map(|b| (b.worker.as_str(), b.agent.as_str(), b.failures)).collect();
        assert_eq!(shown, [("worker-1", "coordinator", 1)]);
    }
}
