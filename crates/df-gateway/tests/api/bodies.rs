//! Requests that cannot be read: each is refused with a code, and nothing inside leaks.

use df_contract::{Digest, Role};
use df_gateway::limits::{MAX_JOB_BYTES, MAX_SMALL_BYTES};
use reqwest::Method;
use serde_json::json;

use crate::world::{Client, World, plain, send};

async fn raw(client: &Client, body: impl Into<reqwest::Body>) -> crate::world::Answer {
    let request = client.request(Method::POST, "/v1/jobs").header("content-type", "application/json");
    send(request.body(body)).await
}

#[tokio::test]
async fn a_body_that_does_not_fit_is_named_by_field_and_line() {
    let world = World::start().await;
    let alice = world.key("alice", &[Role::Submitter]).await;
    let broken = raw(&alice, "{\"title\": \"t\",\n \"description\" \"d\"}").await.refused("invalid_request");
    assert!(broken.detail.contains("line 2"), "{}", broken.detail);
    let mut unknown = plain();
    unknown["descriptoin"] = json!("x");
    let unknown = alice.post("/v1/jobs", &unknown).await.refused("invalid_request");
    assert!(unknown.detail.contains("descriptoin"), "{}", unknown.detail);
    let missing = raw(&alice, "{}").await.refused("invalid_request");
    assert!(missing.detail.contains("title"), "{}", missing.detail);
    raw(&alice, "").await.refused("invalid_request");
    raw(&alice, "[".repeat(100_000)).await.refused("invalid_request");
    raw(&alice, vec![0xff, 0xfe]).await.refused("invalid_request");
}

#[tokio::test]
async fn a_job_that_is_not_valid_tells_every_finding() {
    let world = World::start().await;
    let alice = world.key("alice", &[Role::Submitter]).await;
    let mut spec = plain();
    spec["title"] = json!(" ");
    spec["priority"] = json!(101);
    let problem = alice.post("/v1/jobs", &spec).await.refused("invalid_job");
    assert_eq!(problem.errors.len(), 2, "{problem}");
    let task = |slug: &str, on: &str| {
        json!({"slug": slug, "role": "backend", "title": "t", "instructions": "i", "paths": [format!("{slug}/**")],
            "depends_on": [on]})
    };
    let mut cyclic = plain();
    cyclic["plan"] = json!({"summary": "s", "tasks": [task("a", "b"), task("b", "a")]});
    let problem = alice.post("/v1/jobs", &cyclic).await.refused("invalid_job");
    assert!(problem.to_string().contains("circle"), "{problem}");
    let mut local = plain();
    local["source"] = json!({"kind": "path", "path": "/etc"});
    alice.post("/v1/jobs", &local).await.refused("invalid_job");
    let mut unsent = plain();
    unsent["source"] = json!({"kind": "bundle", "digest": Digest::of(b"not uploaded")});
    alice.post("/v1/jobs", &unsent).await.refused("blob_missing");
}

#[tokio::test]
async fn a_wrong_plan_is_refused_and_leaves_nothing_behind() {
    let world = World::start().await;
    let alice = world.key("alice", &[Role::Submitter]).await;
    let task = |slug: &str, on: &[&str], path: &str| json!({"slug": slug, "role": "backend", "title": "t", "instructions": "i", "paths": [path], "depends_on": on});
    let greedy = |tokens: u64| {
        let mut greedy = task("a", &[], "x");
        greedy["tokens"] = json!(tokens);
        greedy
    };
    let mut nobody = task("a", &[], "x");
    nobody["role"] = json!("registered-agent");
    let many = |n: usize| (0..n).map(|i| task(&format!("t{i}"), &[], &format!("d{i}"))).collect::<Vec<_>>();
    for (tasks, expect) in [
        (vec![], "the plan has no tasks"),
        (vec![task("a", &["b"], "x"), task("b", &["a"], "y")], "in a circle"),
        (vec![task("a", &[], "x"), task("a", &[], "y")], "two tasks are called `a`"),
        (vec![task("a", &["gone"], "x")], "which the plan does not have"),
        (vec![task("a", &[], "src"), task("b", &[], "src/*.py")], "may both write"),
        (vec![task("a", &[], "../x")], "not a relative path pattern"),
        (vec![nobody], "does not say which"),
        (vec![greedy(50_001)], "50001 tokens, the job may spend 50000"),
        (vec![greedy(49_500), task("b", &[], "y")], "leave 500 tokens"),
        (many(1_025), "1025 tasks of the plan stand side by side"),
        (many(2_049), "2049 tasks, the limit is 2048"),
    ] {
        let mut spec = plain();
        spec["budget"] = json!({"tokens": 50_000});
        spec["plan"] = json!({"summary": "s", "tasks": tasks});
        let problem = alice.post("/v1/jobs", &spec).await.refused("invalid_job");
        assert!(problem.errors.iter().any(|e| e.contains(expect)), "{expect}: {problem}");
    }
    let page: df_contract::api::JobPage = alice.get("/v1/jobs").await.ok();
    assert!(page.jobs.is_empty());

    // The largest there may be fits through the door.
    let mut spec = plain();
    let tasks = (0..1_024).map(|i| {
        let mut task = task(&format!("t{i}"), &[], &format!("d{i}"));
        task["instructions"] = json!("\n".repeat(4_000));
        task
    });
    spec["plan"] = json!({"summary": "s", "tasks": tasks.collect::<Vec<_>>()});
    alice.submit(&spec).await;
}

#[tokio::test]
async fn bodies_have_limits_whether_they_say_their_length_or_not() {
    let world = World::start().await;
    let alice = world.key("alice", &[Role::Submitter]).await;
    raw(&alice, "x".repeat(MAX_JOB_BYTES + 1)).await.refused("body_too_large");
    // Chunked: the length is not known before the body is read.
    let pieces = (0..20).map(|_| Ok::<_, std::io::Error>("x".repeat(MAX_JOB_BYTES / 10)));
    let stream = reqwest::Body::wrap_stream(futures::stream::iter(pieces));
    raw(&alice, stream).await.refused("body_too_large");
    let vote = json!({"comment": "x".repeat(MAX_SMALL_BYTES)});
    let id = alice.submit(&plain()).await;
    world.admin.post(&format!("/v1/jobs/{id}/approve"), &vote).await.refused("body_too_large");
}

#[tokio::test]
async fn the_wrong_address_method_or_type_is_a_problem_too() {
    let world = World::start().await;
    let alice = world.key("alice", &[Role::Submitter]).await;
    alice.get("/").await.refused("not_found");
    alice.get("/v1/nothing").await.refused("not_found");
    let wrong = send(alice.request(Method::PATCH, "/v1/jobs")).await;
    assert_eq!(wrong.refused("invalid_request").status, 405);
    assert!(wrong.headers.contains_key("allow"));
    let text = alice.request(Method::POST, "/v1/jobs").header("content-type", "text/plain").body("{}");
    assert_eq!(send(text).await.refused("invalid_request").status, 415);
    let id = alice.request(Method::POST, "/v1/jobs").header("idempotency-key", "").json(&plain());
    send(id).await.refused("invalid_request");
}

#[tokio::test]
async fn a_blob_is_kept_only_under_its_own_digest() {
    let world = World::start().await;
    let alice = world.key("alice", &[Role::Submitter]).await;
    let put = async |address: &str, body: &'static str| {
        send(alice.request(Method::PUT, &format!("/v1/blobs/{address}")).body(body)).await
    };
    let digest = Digest::of(b"right");
    put(digest.as_str(), "wrong").await.refused("blob_digest");
    let mut spec = plain();
    spec["source"] = json!({"kind": "tarball", "digest": digest});
    alice.post("/v1/jobs", &spec).await.refused("blob_missing");
    put("..%2f..%2fetc%2fpasswd", "x").await.refused("not_found");
    put(digest.as_str(), "right").await.done();
    put(digest.as_str(), "right").await.done();
    alice.submit(&spec).await;
}

#[tokio::test]
async fn answers_carry_the_id_of_their_request() {
    let world = World::start().await;
    let given = send(world.admin.request(Method::GET, "/v1/jobs").header("x-request-id", "abc-1")).await;
    assert_eq!(given.headers["x-request-id"], "abc-1");
    let odd = send(world.admin.request(Method::GET, "/v1/jobs").header("x-request-id", "a b{}")).await;
    assert_ne!(odd.headers["x-request-id"], "a b{}");
    assert_eq!(odd.headers["cache-control"], "no-store");
}

#[tokio::test]
async fn a_store_that_is_gone_is_said_without_its_inside() {
    let world = World::start().await;
    world.orchestrator.store().close().await;
    let answer = world.admin.get("/v1/jobs").await;
    let problem = answer.refused("store_unavailable");
    assert!(!problem.detail.contains("closed"), "{}", problem.detail);
    assert!(answer.headers.contains_key("retry-after"));
}
