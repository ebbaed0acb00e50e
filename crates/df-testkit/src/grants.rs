//! Calls of models under a grant, without a worker in between.

use df_contract::api::JobView;
use df_contract::grant::BudgetCap;
use df_contract::{AttemptId, DurationMs, ErrorCode, Grant, GrantClaims, Timestamp, Tokens};
use ed25519_dalek::SigningKey;
use reqwest::Method;
use serde_json::json;

use crate::api::Api;
use crate::factory::TestFactory;

const LIFE: DurationMs = DurationMs::from_secs(240);

/// The proxy under a grant for the attempt that holds `slug` now, as the daemon gave one to its worker.
pub fn task_grant(factory: &TestFactory, view: &JobView, slug: &str) -> Api {
    let task = view.tasks.iter().find(|task| task.slug.as_str() == slug).expect("the task");
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("a clock");
    let now = Timestamp(u64::try_from(since.as_millis()).expect("a time"));
    let job = view.summary.id;
    let tokens = view.caps.as_ref().map(|caps| caps.tokens).or(Some(Tokens(1)));
    let claims = GrantClaims {
        tenant: "default".parse().expect("a tenant"),
        job,
        task: task.slug.clone(),
        attempt: AttemptId::mint(now, [6; 10]),
        epoch: task.epoch,
        caps: vec![BudgetCap { account: format!("job:{job}"), version: 1, nano_usd: None, tokens }],
        models: vec!["default".into()],
        plan: None,
        issued_at: now,
        expires_at: now.plus(LIFE),
    };
    let mut seed = [0; 32];
    hex::decode_to_slice(factory.grant_seed(), &mut seed).expect("a key");
    let grant = Grant::sign(&claims, &SigningKey::from_bytes(&seed)).expect("a grant");
    Api::new(&factory.proxy_url(), grant.expose())
}

/// Calls a model: whether the grant was refused because it is withdrawn. Any other refusal is a failure.
pub async fn revoked(proxy: &Api) -> bool {
    let body =
        json!({"model": "default", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 64});
    let headers = [("content-type", "application/json")];
    let body = body.to_string().into_bytes();
    let answer = proxy.raw(Method::POST, "/v1/chat/completions", &headers, body).await;
    let (status, body) = answer.expect("an answer of the proxy");
    if status == 200 {
        return false;
    }
    let text = String::from_utf8_lossy(&body).into_owned();
    assert!(text.contains(ErrorCode::GrantRevoked.code()), "{status} {text}");
    true
}
