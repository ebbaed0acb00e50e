//! A whole job, from text to delivered bytes, with people in between.

use df_contract::api::{JobPage, JobView};
use df_contract::{Digest, JobState, LeaseKind, Role};
use serde_json::{Value, json};

use crate::play::{CHECK_LOG, Player, SOFTWARE, TRACE};
use crate::world::{Client, HIDDEN_COMMAND, HIDDEN_CONTENT, World, plain, sensitive};

async fn waiting(alice: &Client, player: &Player) -> JobView {
    let id = alice.submit(&sensitive(alice).await).await;
    player.play().await;
    let view = alice.job(id).await;
    assert_eq!(view.summary.state, JobState::AwaitingApproval, "{:?}", view.cause);
    view
}

#[tokio::test]
async fn a_job_goes_from_text_to_delivered_bytes_with_four_eyes_on_it() {
    let world = World::start().await;
    let alice = world.key("alice", &[Role::Submitter, Role::Approver]).await;
    let bob = world.key("bob", &[Role::Approver]).await;
    let player = Player::start(&world).await;
    let view = waiting(&alice, &player).await;
    let path = format!("/v1/jobs/{}", view.summary.id);

    alice.post(&format!("{path}/approve"), &json!({})).await.refused("four_eyes");
    let seen = view.approval.as_ref().unwrap().job_version;
    let stale = json!({"job_version": seen + 1, "comment": "looks fine"});
    bob.post(&format!("{path}/approve"), &stale).await.refused("approval_stale");
    let other = json!({"job_version": seen, "plan_digest": Digest::of(b"a plan of before")});
    bob.post(&format!("{path}/approve"), &other).await.refused("approval_stale");
    let fresh = json!({"job_version": seen, "comment": "looks fine"});
    bob.post(&format!("{path}/approve"), &fresh).await.ok::<JobView>();
    bob.post(&format!("{path}/approve"), &fresh).await.refused("illegal_transition");

    let mut kinds: Vec<LeaseKind> = player.play().await.iter().map(|lease| lease.kind()).collect();
    let mut view = alice.job(view.summary.id).await;
    if view.summary.state == JobState::AwaitingApproval {
        assert_eq!(view.approval.as_ref().unwrap().subject, "delivery");
        bob.post(&format!("{path}/approve"), &json!({})).await.ok::<JobView>();
        kinds.extend(player.play().await.iter().map(|lease| lease.kind()));
        view = alice.job(view.summary.id).await;
    }
    assert_eq!(view.summary.state, JobState::Completed, "{:?}", view.cause);
    let order =
        [LeaseKind::Agent, LeaseKind::Agent, LeaseKind::Integrate, LeaseKind::Validate, LeaseKind::Deliver];
    assert_eq!(kinds, order, "coordinator, agent, merge, validation, delivery");
    let tree = alice.get(&format!("{path}/artifacts/tree.tar")).await;
    assert_eq!((tree.status, tree.body.as_slice()), (200, SOFTWARE));
    bob.post(&format!("{path}/cancel"), &json!({})).await.refused("forbidden");
    alice.post(&format!("{path}/cancel"), &json!({"cause": "late"})).await.refused("illegal_transition");
}

#[tokio::test]
async fn nothing_that_can_be_read_holds_a_hidden_check() {
    let world = World::start().await;
    let alice = world.key("alice", &[Role::Submitter]).await;
    let player = Player::start(&world).await;
    let view = waiting(&alice, &player).await;
    let (id, path) = (view.summary.id, format!("/v1/jobs/{}", view.summary.id));
    for _ in 0..2 {
        world.admin.post(&format!("{path}/approve"), &json!({})).await;
        player.play().await;
    }
    assert_eq!(alice.job(id).await.summary.state, JobState::Completed);

    let hidden = Digest::of(HIDDEN_CONTENT);
    let mut paths: Vec<String> =
        ["", "/events?format=jsonl&follow=false", "/audit", "/artifacts", "/artifacts/tree.tar"]
            .iter()
            .map(|tail| format!("{path}{tail}"))
            .collect();
    for content in [TRACE, CHECK_LOG, SOFTWARE] {
        paths.push(format!("{path}/blobs/{}", Digest::of(content)));
    }
    paths.extend(["/v1/jobs", "/v1/system", "/v1/keys"].map(str::to_owned));
    for path in paths {
        let answer = world.admin.get(&path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let text = answer.text();
        assert!(!text.contains(HIDDEN_COMMAND) && !text.contains("the secret input"), "{path}: {text}");
        // The audit log names what was delivered by digest; a digest opens nothing by itself.
        assert!(path.ends_with("/audit") || !text.contains(hidden.as_str()), "{path}: {text}");
    }
    world.admin.get(&format!("{path}/blobs/{hidden}")).await.refused("blob_missing");
    world.admin.get(&format!("{path}/artifacts/notes.txt")).await.refused("not_found");
    world.admin.get(&format!("/v1/blobs/{hidden}")).await.refused("forbidden");
    let other = Digest::of(format!("{id}/intake/1").as_bytes());
    world.admin.get(&format!("{path}/blobs/{other}")).await.refused("blob_missing");
}

#[tokio::test]
async fn an_approver_rejects_and_the_job_is_over() {
    let world = World::start().await;
    let alice = world.key("alice", &[Role::Submitter]).await;
    let bob = world.key("bob", &[Role::Approver]).await;
    let player = Player::start(&world).await;
    let view = waiting(&alice, &player).await;
    let path = format!("/v1/jobs/{}", view.summary.id);
    let voted: JobView = bob.post(&format!("{path}/reject"), &json!({"comment": "no"})).await.ok();
    assert_eq!(voted.summary.state, JobState::Rejected);
    assert!(player.play().await.is_empty());
}

#[tokio::test]
async fn a_key_with_the_same_spec_is_the_same_job() {
    let world = World::start().await;
    let alice = world.key("alice", &[Role::Submitter]).await;
    let submit = async |client: &Client, spec: &Value| {
        let request = client.request(reqwest::Method::POST, "/v1/jobs");
        crate::world::send(request.header("idempotency-key", "order-7").json(spec)).await
    };
    let first: Value = submit(&alice, &plain()).await.ok();
    let again: Value = submit(&alice, &plain()).await.ok();
    assert_eq!(first["id"], again["id"]);
    let mut other = plain();
    other["title"] = json!("Lengthen links");
    submit(&alice, &other).await.refused("idempotency_conflict");
    let bob = world.key("bob", &[Role::Submitter]).await;
    let bobs: Value = submit(&bob, &plain()).await.ok();
    assert_ne!(first["id"], bobs["id"], "the key is the caller's own");
}

#[tokio::test]
async fn tenants_do_not_see_each_other() {
    let world = World::start().await;
    let alice = world.key("alice", &[Role::Submitter]).await;
    let eve = world.key_in("evil", "eve", &[Role::Submitter, Role::Approver, Role::Viewer]).await;
    // The same name in another tenant is somebody else.
    let twin = world.key_in("evil", "alice", &[Role::Submitter]).await;
    let id = alice.submit(&plain()).await;
    for client in [&eve, &twin] {
        for tail in ["", "/events", "/artifacts", "/artifacts/tree.tar", "/audit"] {
            client.get(&format!("/v1/jobs/{id}{tail}")).await.refused("job_unknown");
        }
        for verb in ["approve", "reject", "cancel", "pause", "resume"] {
            client.post(&format!("/v1/jobs/{id}/{verb}"), &json!({})).await.refused("job_unknown");
        }
        assert!(client.get("/v1/jobs").await.ok::<JobPage>().jobs.is_empty());
    }
    assert_eq!(alice.get("/v1/jobs").await.ok::<JobPage>().jobs.len(), 1);
    alice.get("/v1/jobs/job_nonsense").await.refused("job_unknown");
}

#[tokio::test]
async fn jobs_are_listed_in_pages_newest_first() {
    let world = World::start().await;
    let alice = world.key("alice", &[Role::Submitter]).await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(alice.submit(&plain()).await);
    }
    made.reverse();
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page: JobPage = alice.get(&format!("/v1/jobs?limit=2{after}")).await.ok();
        seen.extend(page.jobs.iter().map(|job| job.id));
        match page.next {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen, made);
    let ended: JobPage = alice.get("/v1/jobs?state=COMPLETED").await.ok();
    assert!(ended.jobs.is_empty());
    alice.get("/v1/jobs?limit=0").await.refused("invalid_request");
    alice.get("/v1/jobs?state=DONE").await.refused("invalid_request");
    alice.get("/v1/jobs?stat=DRAFT").await.refused("invalid_request");
}
