//! The daemon's HTTP API, as one identity.

use df_contract::api::{JobPage, JobView, KeyCreate, KeyCreated, Submitted, SystemView, Vote};
use df_contract::{ErrorCode, JobId, Problem, Role};
use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Longest wait for an answer.
const ANSWER_WITHIN: std::time::Duration = std::time::Duration::from_secs(60);
/// Jobs asked for at once.
const PAGE: usize = 100;

/// Why there is no answer of the wanted kind.
#[derive(Debug)]
pub enum ApiError {
    /// The server refused, with its reasons.
    Problem(Problem),
    /// There was no answer: whether the command had an effect is unknown.
    Unanswered(String),
}

impl ApiError {
    /// The stable code of a refusal.
    pub fn code(&self) -> ErrorCode {
        match self {
            ApiError::Problem(problem) => problem.code,
            ApiError::Unanswered(why) => panic!("no answer, so no code: {why}"),
        }
    }
}

/// A client with one key.
#[derive(Debug, Clone)]
pub struct Api {
    http: reqwest::Client,
    base: String,
    key: String,
}

impl Api {
    pub fn new(base: &str, key: &str) -> Self {
        // Fails only when another thread was first, with the same provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(ANSWER_WITHIN)
            // A server that was killed leaves dead connections in a pool.
            .pool_max_idle_per_host(0)
            .build()
            .expect("an HTTP client");
        Self { http, base: base.to_owned(), key: key.to_owned() }
    }

    pub fn key(&self) -> &str {
        &self.key
    }

    /// The same server for somebody else.
    pub fn with_key(&self, key: &str) -> Self {
        Self { key: key.to_owned(), ..self.clone() }
    }

    /// Sends bytes as they are; answers status and body.
    pub async fn raw(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<(u16, Vec<u8>), ApiError> {
        let mut request = self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.key);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let unanswered = |e: reqwest::Error| ApiError::Unanswered(format!("{path}: {e:?}"));
        let answer = request.body(body).send().await.map_err(unanswered)?;
        let status = answer.status().as_u16();
        Ok((status, answer.bytes().await.map_err(unanswered)?.to_vec()))
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Vec<u8>, ApiError> {
        let (status, body) = self.raw(method, path, headers, body).await?;
        if (200..300).contains(&status) {
            return Ok(body);
        }
        let problem: Problem = serde_json::from_slice(&body).unwrap_or_else(|e| {
            panic!(
                "{path}: status {status} without a problem document ({e}): {}",
                String::from_utf8_lossy(&body)
            )
        });
        assert_eq!(problem.status, status, "{path}: {problem:?}");
        Err(ApiError::Problem(problem))
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        Ok(read(path, &self.call(Method::GET, path, &[], Vec::new()).await?))
    }

    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ApiError> {
        self.post_with(path, &[], body).await
    }

    async fn post_with<T: DeserializeOwned>(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &impl Serialize,
    ) -> Result<T, ApiError> {
        let mut all = vec![("content-type", "application/json")];
        all.extend(headers);
        let body = serde_json::to_vec(body).expect("a body");
        Ok(read(path, &self.call(Method::POST, path, &all, body).await?))
    }

    pub async fn submit(&self, spec: &Value) -> Result<Submitted, ApiError> {
        self.post("/v1/jobs", spec).await
    }

    /// The same key with the same job returns the first job.
    pub async fn submit_once(&self, spec: &Value, idempotency_key: &str) -> Result<Submitted, ApiError> {
        self.post_with("/v1/jobs", &[("idempotency-key", idempotency_key)], spec).await
    }

    pub async fn job(&self, id: JobId) -> Result<JobView, ApiError> {
        self.get(&format!("/v1/jobs/{id}")).await
    }

    /// Every job there is.
    pub async fn jobs(&self) -> Result<Vec<JobId>, ApiError> {
        let mut found = Vec::new();
        let mut after = String::new();
        loop {
            let page: JobPage = self.get(&format!("/v1/jobs?limit={PAGE}{after}")).await?;
            found.extend(page.jobs.iter().map(|job| job.id));
            match page.next {
                Some(next) => after = format!("&after={next}"),
                None => return Ok(found),
            }
        }
    }

    pub async fn approve(&self, id: JobId) -> Result<JobView, ApiError> {
        let vote = Vote { comment: "seen".into(), ..Vote::default() };
        self.post(&format!("/v1/jobs/{id}/approve"), &vote).await
    }

    pub async fn reject(&self, id: JobId) -> Result<JobView, ApiError> {
        let vote = Vote { comment: "seen".into(), ..Vote::default() };
        self.post(&format!("/v1/jobs/{id}/reject"), &vote).await
    }

    pub async fn system(&self) -> Result<SystemView, ApiError> {
        self.get("/v1/system").await
    }

    /// Makes a key for `identity` and answers with the client that uses it.
    pub async fn identity(&self, identity: &str, roles: &[Role]) -> Api {
        self.identity_of(None, identity, roles).await
    }

    /// The same in a tenant; in the caller's own when none is named.
    pub async fn identity_of(&self, tenant: Option<&str>, identity: &str, roles: &[Role]) -> Api {
        let body = KeyCreate {
            identity: identity.to_owned(),
            roles: roles.iter().copied().collect(),
            tenant: tenant.map(|t| t.parse().expect("the name of a tenant")),
            class: None,
            expires_at: None,
        };
        let made: KeyCreated = self.post("/v1/keys", &body).await.expect("a key");
        self.with_key(&made.secret)
    }
}

fn read<T: DeserializeOwned>(path: &str, body: &[u8]) -> T {
    serde_json::from_slice(body).unwrap_or_else(|e| {
        panic!("{path}: the answer does not fit ({e}): {}", String::from_utf8_lossy(body))
    })
}
