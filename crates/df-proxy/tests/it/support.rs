//! A proxy in a directory of its own, with grants for it.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use df_contract::api::{UsagePage, UsageRow};
use df_contract::grant::BudgetCap;
use df_contract::{AttemptId, DurationMs, Grant, GrantClaims, JobId, NanoUsd, Timestamp, Tokens};
use df_proxy::Proxy;
use df_proxy::config::Config;
use ed25519_dalek::SigningKey;
use reqwest::Response;
use serde_json::{Value, json};

use crate::upstream::Upstream;

/// What the accounts' keys look like; must be found nowhere.
pub(crate) const KEY_TEXT: &str = "sk-test-do-not-show-0123456789";

pub(crate) struct Harness {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) proxy: Proxy,
    key: SigningKey,
    http: reqwest::Client,
}

pub(crate) fn now() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64)
}

/// The configuration of accounts `a0`, `a1`, ... over `upstreams`, all serving every model, each asked when those
/// before it cannot answer.
pub(crate) fn accounts(upstreams: &[&Upstream]) -> String {
    let pools: Vec<String> = (0..upstreams.len()).map(|i| format!("'p{i}'")).collect();
    let mut text = listed(upstreams, "");
    for i in 0..upstreams.len() {
        text += &format!("[[pools]]\nid = 'p{i}'\naccounts = ['a{i}']\n");
    }
    text + &format!("[routes]\n'*' = [{}]\n", pools.join(", "))
}

/// The same accounts as one pool, each with `more` in its table.
pub(crate) fn pooled(upstreams: &[&Upstream], more: &str) -> String {
    let ids: Vec<String> = (0..upstreams.len()).map(|i| format!("'a{i}'")).collect();
    listed(upstreams, more) + &format!("[routes]\n'*' = [{}]\n", ids.join(", "))
}

fn listed(upstreams: &[&Upstream], more: &str) -> String {
    let account = |(i, upstream): (usize, &&Upstream)| {
        format!(
            "[[accounts]]\nid = 'a{i}'\nkind = 'openai-compatible'\nbase_url = 'http://{}/v1'\nkey_file = 'key'\n{more}\n",
            upstream.address
        )
    };
    upstreams.iter().enumerate().map(account).collect()
}

/// The claims of a good grant for model `m`, budgeted in tokens.
pub(crate) fn claims() -> GrantClaims {
    let now = now();
    GrantClaims {
        tenant: "acme".parse().unwrap(),
        job: JobId::mint(Timestamp(1), [1; 10]),
        task: "api".parse().unwrap(),
        attempt: AttemptId::mint(Timestamp(1), [2; 10]),
        epoch: 1,
        caps: vec![cap("job", Some(1_000_000), None)],
        models: vec!["m".into()],
        plan: None,
        issued_at: now,
        expires_at: now.plus(DurationMs(60_000)),
    }
}

pub(crate) fn cap(account: &str, tokens: Option<u64>, nano_usd: Option<u64>) -> BudgetCap {
    BudgetCap {
        account: account.into(),
        version: 1,
        tokens: tokens.map(Tokens),
        nano_usd: nano_usd.map(NanoUsd),
    }
}

pub(crate) fn ask(stream: bool) -> Value {
    json!({"model": "m", "max_tokens": 20, "stream": stream,
           "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "hello"}]})
}

impl Harness {
    pub(crate) async fn new(config: &str) -> Self {
        Self::within(tempfile::tempdir().unwrap(), config).await
    }

    /// With short pauses, so that no test waits for a default.
    pub(crate) async fn within(dir: tempfile::TempDir, config: &str) -> Self {
        let key = SigningKey::from_bytes(&[9; 32]);
        std::fs::write(dir.path().join("key"), KEY_TEXT).unwrap();
        let limits = if config.contains("[limits]") { "" } else { "[limits]\nretry_pause_ms = 1\n" };
        let public = hex::encode(key.verifying_key().to_bytes());
        let text =
            format!("listen = '127.0.0.1:0'\ndata_dir = 'data'\ngrant_key = '{public}'\n{config}\n{limits}");
        let proxy = df_proxy::start(Config::parse(&text, dir.path()).unwrap()).await.unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { dir, proxy, key, http }
    }

    pub(crate) fn grant(&self, claims: &GrantClaims) -> String {
        Grant::sign(claims, &self.key).unwrap().expose().to_owned()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.proxy.address())
    }

    pub(crate) async fn post(&self, token: &str, body: &Value) -> Response {
        let request = self.http.post(self.url("/v1/chat/completions")).bearer_auth(token);
        request.json(body).send().await.unwrap()
    }

    /// A call of `tenant` with headers of its own.
    pub(crate) async fn call_as(&self, tenant: &str, headers: &[(&str, &str)], body: &Value) -> Response {
        let mut claims = claims();
        claims.tenant = tenant.parse().unwrap();
        claims.caps = vec![cap(tenant, Some(1_000_000), None)];
        let mut request = self.http.post(self.url("/v1/chat/completions")).bearer_auth(self.grant(&claims));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.json(body).send().await.unwrap()
    }

    /// A call with a good grant.
    pub(crate) async fn call(&self, body: &Value) -> Response {
        self.post(&self.grant(&claims()), body).await
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Response {
        self.http.get(self.url(path)).bearer_auth(token).send().await.unwrap()
    }

    pub(crate) fn admin_token(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("data/admin.token")).unwrap().trim().to_owned()
    }

    pub(crate) async fn admin(&self, path: &str) -> Value {
        let response = self.get(path, &self.admin_token()).await;
        assert_eq!(response.status(), 200);
        response.json().await.unwrap()
    }

    pub(crate) async fn admin_post(&self, path: &str, body: &Value) -> Response {
        self.http.post(self.url(path)).bearer_auth(self.admin_token()).json(body).send().await.unwrap()
    }

    pub(crate) async fn admin_delete(&self, path: &str) -> Response {
        self.http.delete(self.url(path)).bearer_auth(self.admin_token()).send().await.unwrap()
    }

    /// Every row of the ledger, once there are `count`.
    pub(crate) async fn ledger(&self, count: usize) -> Vec<Value> {
        loop {
            let page = self.admin("/admin/v1/ledger").await;
            let rows = page["rows"].as_array().unwrap();
            if rows.len() >= count {
                assert_eq!(rows.len(), count);
                return rows.clone();
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn revoke(&self, body: &Value) -> Response {
        let request = self.http.post(self.url("/admin/v1/revocations")).bearer_auth(self.admin_token());
        request.json(body).send().await.unwrap()
    }

    /// Settlements are written a moment after the answer: waits until there are `count`.
    pub(crate) async fn usage(&self, count: usize) -> Vec<UsageRow> {
        loop {
            let page: UsagePage =
                serde_json::from_value(self.admin("/admin/v1/usage?after=0").await).unwrap();
            if page.rows.len() >= count {
                assert_eq!(page.rows.len(), count);
                return page.rows;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn stop(self) -> tempfile::TempDir {
        self.proxy.stop().await;
        self.dir
    }
}

/// The data of each event of a stream.
pub(crate) fn events(body: &str) -> Vec<String> {
    body.split("\n\n").filter_map(|e| e.strip_prefix("data: ")).map(str::to_owned).collect()
}

/// The text that a stream spells.
pub(crate) fn spelt(events: &[String]) -> String {
    let chunks = events.iter().filter_map(|e| serde_json::from_str::<Value>(e).ok());
    chunks.filter_map(|c| c["choices"][0]["delta"]["content"].as_str().map(str::to_owned)).collect()
}

/// Every file below `dir` that contains `text`.
pub(crate) fn files_with(dir: &Path, text: &str) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, text));
        } else if std::fs::read(&path).unwrap().windows(text.len()).any(|w| w == text.as_bytes()) {
            found.push(path);
        }
    }
    found
}
