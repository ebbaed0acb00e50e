//! What people and programs send: job files, requests, grants.

use df_contract::api::JobView;
use df_contract::grant::BudgetCap;
use df_contract::{AttemptId, DurationMs, ErrorCode, Grant, GrantClaims, JobId, Problem, Role};
use df_contract::{Timestamp, Tokens};
use df_testkit::{Api, Limit, Model, Setup, TestFactory, file_task, planned_job, run_cli};
use ed25519_dalek::SigningKey;
use reqwest::Method;
use serde_json::{Value, json};

/// Just over what the daemon takes as a job.
const OVERSIZED: usize = 9 * 1024 * 1024;

fn quiet() -> Setup {
    Setup { without_worker: true, ..Setup::new(Model::Nobody) }
}

fn cyclic() -> Value {
    planned_job("A circle", &[file_task("a", &["b"]), file_task("b", &["a"])])
}

#[test]
fn job_files_with_mistakes_are_refused_before_anything_is_sent() {
    let home = tempfile::tempdir().unwrap();
    let overlapping = planned_job(
        "Two writers",
        &[file_task("a", &[]), {
            let mut task = file_task("b", &[]);
            task["paths"] = json!(["b.txt", "a.txt"]);
            task
        }],
    );
    let outside = planned_job(
        "Outside",
        &[{
            let mut task = file_task("a", &[]);
            task["paths"] = json!(["../a.txt"]);
            task
        }],
    );
    let unfit = planned_job(
        "A tester that builds",
        &[{
            let mut task = file_task("a", &[]);
            task["role"] = json!("qa");
            task
        }],
    );
    let more = |key: &str, value: Value| {
        let mut task = file_task("a", &[]);
        task[key] = value;
        task
    };
    let huge = (0..2_049).map(|n| file_task(&format!("t{n}"), &[])).collect::<Vec<_>>();
    let of = |tasks: &[Value]| planned_job("A plan", tasks).to_string();
    for (name, text, expect) in [
        ("no-tasks.json", of(&[]), "the plan has no tasks"),
        ("twice.json", of(&[file_task("a", &[]), more("paths", json!(["b"]))]), "two tasks are called `a`"),
        ("dangling.json", of(&[file_task("a", &["gone"])]), "which the plan does not have"),
        ("itself.json", of(&[file_task("a", &["a"])]), "circle"),
        ("huge.json", of(&huge), "2049 tasks, the limit is 2048"),
        ("field.json", of(&[more("pahts", json!([]))]), "pahts"),
        ("name.json", of(&[file_task("Not A Name", &[])]), "Not A Name"),
        ("broken.toml", "title = \"t\ndescription".to_owned(), "TOML parse error"),
        ("unknown.toml", "title = 't'\ndescription = 'd'\ntitel = 'x'".to_owned(), "titel"),
        ("missing.toml", "title = 't'".to_owned(), "description"),
        ("empty.json", "{\"title\": \" \", \"description\": \"d\"}".to_owned(), "title"),
        ("cyclic.json", cyclic().to_string(), "circle"),
        ("overlapping.json", overlapping.to_string(), "both write"),
        ("outside.json", outside.to_string(), "not a relative path"),
        ("unfit.json", unfit.to_string(), "may not write"),
    ] {
        let file = home.path().join(name);
        std::fs::write(&file, text).unwrap();
        let env = [("DEVFACTORY_URL", "http://127.0.0.1:1"), ("DEVFACTORY_API_KEY", "dfk_none")];
        let refused =
            run_cli(home.path(), &["--json", "submit", file.to_str().unwrap()], &env, Limit::PROCESS);
        let problem = refused.problem();
        assert_eq!((refused.code, problem.code), (Some(1), ErrorCode::InvalidJob), "{name}: {problem}");
        assert!(problem.to_string().contains(expect), "{name}: {problem}");
    }
}

async fn refusal(api: &Api, method: Method, path: &str, body: Vec<u8>) -> Problem {
    let headers = [("content-type", "application/json")];
    let (status, body) = api.raw(method, path, &headers, body).await.unwrap();
    let problem: Problem = serde_json::from_slice(&body)
        .unwrap_or_else(|e| panic!("{status} {e}: {}", String::from_utf8_lossy(&body)));
    assert_eq!(problem.status, status);
    assert!(!problem.detail.is_empty() && problem.r#type.contains(problem.code.code()), "{problem:?}");
    problem
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_cannot_be_served_are_refused_with_their_code() {
    let factory = TestFactory::start(quiet()).await;
    let alice = factory.identity("alice", &[Role::Submitter]).await;
    let job = |more: Value| {
        let mut job = planned_job("A job", &[file_task("a", &[])]);
        for (key, value) in more.as_object().unwrap() {
            job[key] = value.clone();
        }
        job.to_string().into_bytes()
    };
    let unknown = format!("/v1/jobs/{}", JobId::mint(Timestamp(1), [3; 10]));
    let nowhere = format!("dfk_{}", "0".repeat(64));
    let (wrong, malformed) = (alice.with_key(&nowhere), alice.with_key("hunter2"));
    let oversized = job(json!({"description": "x".repeat(OVERSIZED)}));
    let missing = job(json!({"source": {"kind": "tarball", "digest": "0".repeat(64)}}));
    let viewer = factory.identity("victor", &[Role::Viewer]).await;
    for (name, who, method, path, body, expect) in [
        ("no JSON", &alice, Method::POST, "/v1/jobs", b"{\"title\":".to_vec(), ErrorCode::InvalidRequest),
        (
            "unknown field",
            &alice,
            Method::POST,
            "/v1/jobs",
            job(json!({"titel": 1})),
            ErrorCode::InvalidRequest,
        ),
        ("no title", &alice, Method::POST, "/v1/jobs", job(json!({"title": ""})), ErrorCode::InvalidJob),
        ("cyclic plan", &alice, Method::POST, "/v1/jobs", cyclic().to_string().into(), ErrorCode::InvalidJob),
        ("oversized", &alice, Method::POST, "/v1/jobs", oversized, ErrorCode::BodyTooLarge),
        ("missing blob", &alice, Method::POST, "/v1/jobs", missing, ErrorCode::BlobMissing),
        ("wrong key", &wrong, Method::GET, "/v1/jobs", vec![], ErrorCode::Unauthenticated),
        ("no key's form", &malformed, Method::GET, "/v1/jobs", vec![], ErrorCode::Unauthenticated),
        ("may not submit", &viewer, Method::POST, "/v1/jobs", job(json!({})), ErrorCode::Forbidden),
        ("unknown job", &alice, Method::GET, &unknown, vec![], ErrorCode::JobUnknown),
        ("no such address", &alice, Method::GET, "/v1/joobs", vec![], ErrorCode::NotFound),
    ] {
        let problem = refusal(who, method, path, body).await;
        assert_eq!(problem.code, expect, "{name}: {problem}");
    }
    let digest = format!("/v1/blobs/{}", "0".repeat(64));
    let (status, body) = alice.raw(Method::PUT, &digest, &[], b"other".to_vec()).await.unwrap();
    let problem: Problem = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, problem.code), (422, ErrorCode::BlobDigest), "{problem}");
    assert_eq!(factory.admin().jobs().await.unwrap(), [], "nothing that was refused left a job");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_idempotency_key_is_the_same_job_or_refused() {
    let factory = TestFactory::start(quiet()).await;
    let spec = planned_job("A job", &[file_task("a", &[])]);
    let first = factory.admin().submit_once(&spec, "once").await.unwrap();
    let again = factory.admin().submit_once(&spec, "once").await.unwrap();
    assert_eq!(first.id, again.id);
    let other = planned_job("Another job", &[file_task("a", &[])]);
    let refused = factory.admin().submit_once(&other, "once").await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::IdempotencyConflict);
    let view: JobView = factory.admin().job(first.id).await.unwrap();
    assert_eq!(view.summary.title, "A job");
    assert_eq!(factory.admin().jobs().await.unwrap(), [first.id]);
}

/// A grant as the daemon would sign it, issued `age` ago with a life of one minute.
fn grant(seed: [u8; 32], age: DurationMs) -> Grant {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let issued_at = Timestamp(u64::try_from(since.as_millis()).unwrap() - age.0);
    let job = JobId::mint(issued_at, [5; 10]);
    let claims = GrantClaims {
        tenant: "default".parse().unwrap(),
        job,
        task: "a".parse().unwrap(),
        attempt: AttemptId::mint(issued_at, [6; 10]),
        epoch: 1,
        caps: vec![BudgetCap {
            account: format!("job:{job}"),
            version: 1,
            nano_usd: None,
            tokens: Some(Tokens(100_000)),
        }],
        models: vec!["default".into()],
        plan: None,
        issued_at,
        expires_at: issued_at.plus(DurationMs::from_secs(60)),
    };
    Grant::sign(&claims, &SigningKey::from_bytes(&seed)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn grants_that_are_late_or_forged_open_nothing() {
    let model = df_testkit::ScriptedModel::start(|_| df_testkit::Reply::text("hello")).await;
    let factory = TestFactory::start(Setup { without_worker: true, ..model.setup() }).await;
    let mut seed = [0; 32];
    hex::decode_to_slice(factory.grant_seed(), &mut seed).unwrap();
    let (fresh, old) = (DurationMs::ZERO, DurationMs::from_secs(120));
    let body =
        json!({"model": "default", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 64});
    let mut other = body.clone();
    other["model"] = json!("another");
    for (name, token, body, expect) in [
        ("expired", grant(seed, old).expose().to_owned(), &body, Some(ErrorCode::GrantExpired)),
        ("forged", grant([7; 32], fresh).expose().to_owned(), &body, Some(ErrorCode::GrantInvalid)),
        ("no grant", "dfg1.x".to_owned(), &body, Some(ErrorCode::GrantInvalid)),
        ("another model", grant(seed, fresh).expose().to_owned(), &other, Some(ErrorCode::ModelForbidden)),
        ("a good one", grant(seed, fresh).expose().to_owned(), &body, None),
    ] {
        let proxy = Api::new(&factory.proxy_url(), &token);
        let headers = [("content-type", "application/json")];
        let body = body.to_string().into_bytes();
        let answer = proxy.raw(Method::POST, "/v1/chat/completions", &headers, body).await.unwrap();
        let (status, text) = (answer.0, String::from_utf8_lossy(&answer.1).into_owned());
        match expect {
            Some(code) => {
                assert_eq!(status, code.http_status(), "{name}: {text}");
                assert!(text.contains(code.code()), "{name}: {text}");
            }
            None => assert_eq!(status, 200, "{name}: {text}"),
        }
    }
    assert_eq!(model.tally().spend.calls, 1, "only the good grant reached the provider");
}
