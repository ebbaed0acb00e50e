//! Keys: wrong, revoked, expired, too busy.

use std::sync::atomic::Ordering;

use df_contract::api::{KeyCreate, KeyCreated, KeyView, SystemView};
use df_contract::{Role, Timestamp};
use df_gateway::limits::{RATE_BURST, RATE_PER_SECOND};
use reqwest::Method;
use serde_json::json;

use crate::world::{World, send};

#[tokio::test]
async fn without_a_live_key_there_is_nothing() {
    let world = World::start().await;
    let admin = &world.admin;
    let answer = send(admin.anonymous(Method::GET, "/v1/jobs")).await;
    answer.refused("unauthenticated");
    assert_eq!(answer.headers["www-authenticate"], "Bearer");
    let wrong = format!("dfk_{}", "0".repeat(64));
    for token in [wrong.as_str(), "dfk_short", "nonsense", "dfl1.job.x~1.00"] {
        let code = if token.starts_with("dfl1") { "forbidden" } else { "unauthenticated" };
        admin.with(token).get("/v1/jobs").await.refused(code);
    }
    let basic = admin.anonymous(Method::GET, "/v1/jobs").header("authorization", "Basic YTpi");
    send(basic).await.refused("unauthenticated");
    assert_eq!(send(admin.anonymous(Method::GET, "/healthz")).await.status, 200);
}

#[tokio::test]
async fn a_revoked_key_opens_nothing_more() {
    let world = World::start().await;
    let made = world.created("acme", "alice", &[Role::Viewer]).await;
    let alice = world.admin.with(&made.secret);
    assert_eq!(alice.get("/v1/jobs").await.status, 200);
    world.admin.delete(&format!("/v1/keys/{}", made.key.id)).await.done();
    alice.get("/v1/jobs").await.refused("unauthenticated");
    let keys: Vec<KeyView> = world.admin.get("/v1/keys").await.ok();
    assert!(keys.iter().any(|key| key.id == made.key.id && key.revoked));
    assert!(!world.admin.get("/v1/keys").await.text().contains(&made.secret[4..]));
    world.admin.delete("/v1/keys/key_00000000-0000-7000-8000-000000000000").await.refused("not_found");
    world.admin.delete("/v1/keys/mine").await.refused("not_found");
}

#[tokio::test]
async fn a_key_ends_when_it_says() {
    let world = World::start().await;
    let end = world.clock.load(Ordering::SeqCst) + 60_000;
    let wanted = KeyCreate {
        identity: "alice".to_owned(),
        roles: [Role::Viewer].into(),
        tenant: None,
        class: None,
        expires_at: Some(Timestamp(end)),
    };
    let made: KeyCreated = world.admin.post("/v1/keys", &wanted).await.ok();
    let alice = world.admin.with(&made.secret);
    assert_eq!(alice.get("/v1/jobs").await.status, 200);
    world.clock.store(end, Ordering::SeqCst);
    alice.get("/v1/jobs").await.refused("unauthenticated");
}

#[tokio::test]
async fn keys_that_would_break_the_planes_are_not_made() {
    let world = World::start().await;
    for body in [
        json!({"identity": "a", "roles": []}),
        json!({"identity": "a", "roles": ["governance"]}),
        json!({"identity": "a", "roles": ["worker", "approver"]}),
        json!({"identity": "devfactoryd", "roles": ["viewer"]}),
        json!({"identity": "a", "roles": ["viewer"], "class": "trusted"}),
        json!({"identity": "a", "roles": ["king"]}),
        json!({"identity": "a", "roles": ["viewer"], "tenant": "Not A Slug"}),
    ] {
        world.admin.post("/v1/keys", &body).await.refused("invalid_request");
    }
}

#[tokio::test]
async fn the_system_view_says_whether_four_eyes_can_be_had() {
    let world = World::start().await;
    let system = async || world.admin.get("/v1/system").await.ok::<SystemView>();
    assert!(!system().await.four_eyes_possible, "an admin alone is one pair of eyes");
    world.key("root", &[Role::Approver]).await;
    assert!(!system().await.four_eyes_possible, "a second key is not a second person");
    world.key_in("other", "carol", &[Role::Approver]).await;
    let view = system().await;
    assert!(!view.four_eyes_possible, "an approver of another tenant has no eyes here");
    world.key("bob", &[Role::Submitter]).await;
    let view = system().await;
    assert!(view.four_eyes_possible);
    assert_eq!((view.approver_identities, view.submitter_identities), (2, 2));
    assert!(!view.proxy_reachable);
}

#[tokio::test]
async fn a_key_that_asks_too_often_is_told_to_wait() {
    let world = World::start().await;
    let busy = world.key("busy", &[Role::Viewer]).await;
    let mut refused = None;
    // The test's clock moves a few milliseconds with each request, which earns some back.
    for _ in 0..RATE_BURST * 4 {
        let answer = busy.get("/v1/jobs").await;
        if answer.status != 200 {
            refused = Some(answer);
            break;
        }
        world.clock.fetch_sub(1_000 / RATE_PER_SECOND, Ordering::SeqCst);
    }
    let answer = refused.expect("a refusal");
    answer.refused("rate_limited");
    assert!(answer.headers.contains_key("retry-after"));
    assert_eq!(world.admin.get("/v1/jobs").await.status, 200, "others are not held up");
}
