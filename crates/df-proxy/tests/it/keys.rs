//! Standing keys: the proxy as a plain gateway.

use serde_json::{Value, json};

use crate::support::{Harness, accounts, ask, files_with};
use crate::upstream::{Upstream, whole};

/// A key for model `m` of `tenant` with a cap in tokens: its id and its text.
async fn key(proxy: &Harness, tenant: &str, tokens: u64) -> (String, String) {
    let wish =
        json!({"name": "tests", "tenant": tenant, "models": ["m"], "tokens": tokens, "period": "month"});
    let answer = proxy.admin_post("/admin/v1/keys", &wish).await;
    assert_eq!(answer.status(), 200);
    let answer: Value = answer.json().await.unwrap();
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    (text(&answer["key"]["id"]), text(&answer["token"]))
}

async fn code(response: reqwest::Response) -> (u16, String) {
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap();
    (status, body["error"]["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_key_calls_within_its_cap_and_its_rows_are_its_own() {
    let upstream = Upstream::new([whole("hi")]).await;
    let proxy = Harness::new(&accounts(&[&upstream])).await;
    let (id, text) = key(&proxy, "acme", 80).await;
    let (_, other) = key(&proxy, "umbra", 80).await;
    // Each call may need its bytes / 4 and 20, about 50 in all, and spends 15.
    let mut answered = 0;
    while answered < 5 && proxy.post(&text, &ask(false)).await.status() == 200 {
        answered += 1;
    }
    assert!((1..5).contains(&answered), "{answered}");
    assert_eq!(code(proxy.post(&text, &ask(false)).await).await, (402, "budget_exhausted".into()));
    assert_eq!(proxy.post(&other, &ask(false)).await.status(), 200, "another tenant's cap is another's");

    let rows = proxy.ledger(answered + 1).await;
    let mine: Vec<_> = rows.iter().filter(|row| row["key"] == id.as_str()).collect();
    assert_eq!(mine.len(), answered);
    assert!(mine.iter().all(|r| r["tenant"] == "acme" && r["outcome"] == "settled" && r["output"] == 5));
    let page = proxy.admin("/admin/v1/usage").await;
    assert_eq!(
        (&page["rows"], &page["cursor"]),
        (&json!([]), &json!(answered + 1)),
        "no job has spent anything"
    );
    let keys = proxy.admin("/admin/v1/keys").await;
    let listed = keys["keys"].as_array().unwrap().iter().find(|k| k["id"] == id.as_str()).unwrap();
    assert_eq!(listed["spent_tokens"], 15 * answered as u64);
    let models: Value = proxy.get("/v1/models", &text).await.json().await.unwrap();
    assert_eq!(models["data"][0]["id"], "m");
}

#[tokio::test]
async fn a_revoked_an_expired_and_a_changed_key_are_refused_over_restarts() {
    let upstream = Upstream::new([whole("hi")]).await;
    let mut proxy = Harness::new(&accounts(&[&upstream])).await;
    let (id, text) = key(&proxy, "acme", 1_000).await;
    let (_, kept) = key(&proxy, "acme", 1_000).await;
    let wish = json!({"name": "old", "tenant": "acme", "models": ["*"], "expires_at": 1});
    let expired: Value = proxy.admin_post("/admin/v1/keys", &wish).await.json().await.unwrap();
    let last = if kept.ends_with('0') { '1' } else { '0' };
    let changed = format!("{}{last}", &kept[..kept.len() - 1]);
    assert_eq!(proxy.post(&text, &ask(false)).await.status(), 200);
    assert_eq!(proxy.admin_delete(&format!("/admin/v1/keys/{id}")).await.status(), 200);
    assert_eq!(proxy.admin_delete("/admin/v1/keys/nobody").await.status(), 404);
    for _ in 0..2 {
        for wrong in [&text, &changed, expired["token"].as_str().unwrap(), "dfk1.", "dfk1.x.y"] {
            assert_eq!(code(proxy.post(wrong, &ask(false)).await).await, (401, "unauthenticated".into()));
        }
        assert_eq!(proxy.post(&kept, &ask(false)).await.status(), 200);
        let dir = proxy.stop().await;
        assert!(files_with(&dir.path().join("data"), kept.split('.').nth(2).unwrap()).is_empty());
        proxy = Harness::within(dir, &accounts(&[&upstream])).await;
    }
}

#[tokio::test]
async fn a_key_covers_its_models_and_a_wrong_wish_is_named() {
    let upstream = Upstream::new([whole("hi")]).await;
    let proxy = Harness::new(&accounts(&[&upstream])).await;
    let (_, text) = key(&proxy, "acme", 1_000).await;
    let other = json!({"model": "x", "messages": [{"role": "user", "content": "a"}]});
    assert_eq!(code(proxy.post(&text, &other).await).await, (403, "model_forbidden".into()));
    let every = json!({"name": "all", "tenant": "acme", "models": ["*"]});
    let every: Value = proxy.admin_post("/admin/v1/keys", &every).await.json().await.unwrap();
    assert_eq!(proxy.post(every["token"].as_str().unwrap(), &other).await.status(), 200);
    for (wish, expect) in [
        (json!({"name": "", "tenant": "acme", "models": ["m"]}), "`name`"),
        (json!({"name": "a", "tenant": "acme", "models": []}), "`models`"),
        (json!({"name": "a", "tenant": "NO SUCH", "models": ["m"]}), "tenant"),
        (json!({"name": "a", "tenant": "acme", "models": ["m"], "secret": 1}), "unknown field"),
    ] {
        let refused = proxy.admin_post("/admin/v1/keys", &wish).await;
        let problem: Value = refused.json().await.unwrap();
        assert_eq!(problem["code"], "invalid_request", "{problem}");
        assert!(problem["detail"].as_str().unwrap().to_lowercase().contains(expect), "{problem}");
    }
    assert_eq!(proxy.get("/admin/v1/keys", &text).await.status(), 401, "a key is no admin token");
}
