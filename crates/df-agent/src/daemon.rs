//! The worker's side of the daemon's HTTP interface.
//!
//! The daemon may be killed and started again at any moment: what it did not refuse is tried again, with growing
//! pauses, until it answers or the caller has no more use for the answer.

mod error;
mod lease;
mod retry;

use std::sync::Arc;
use std::time::Duration;

use df_contract::SessionId;
use df_contract::lease::{
    Claim, Claimed, Heartbeat, HeartbeatReply, SessionOpen, SessionOpened, Watch, Watched,
};
use reqwest::{Method, RequestBuilder, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use error::DaemonError;
pub use lease::LeaseClient;
pub use retry::until_answered;
pub(crate) use retry::wanted;

/// Longest answer that is not a blob, in bytes.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For requests that are answered at once.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// A heartbeat that takes longer is of no use: the next one is due.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(4);
/// Beyond the time a claim waits for work.
const CLAIM_GRACE: Duration = Duration::from_secs(10);

/// A worker's key. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct WorkerKey(String);

impl WorkerKey {
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into())
    }
}

impl std::fmt::Debug for WorkerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WorkerKey(..)")
    }
}

/// A client without proxies or redirects: the daemon and the model proxy are reached directly or not at all.
pub fn http_client() -> Result<reqwest::Client, reqwest::Error> {
    // An error says that a provider is in place already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .build()
}

/// The daemon at one address. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Daemon {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    http: reqwest::Client,
    base: String,
    key: WorkerKey,
}

impl Daemon {
    /// `base` is the daemon's address without `/v1`, such as `http://127.0.0.1:8460`.
    pub fn new(http: reqwest::Client, base: &str, key: WorkerKey) -> Self {
        Self { inner: Arc::new(Inner { http, base: base.trim_end_matches('/').to_owned(), key }) }
    }

    pub async fn open_session(&self, open: &SessionOpen) -> Result<SessionOpened, DaemonError> {
        let request = self.request(Method::POST, "/v1/worker/sessions").timeout(REQUEST_TIMEOUT);
        self.json("open a session", request.json(open)).await
    }

    /// Waits for work as long as `claim` says.
    pub async fn claim(&self, session: SessionId, claim: &Claim) -> Result<Claimed, DaemonError> {
        let path = format!("/v1/worker/sessions/{session}/claim");
        let request = self.request(Method::POST, &path).timeout(claim.wait_ms.to_std() + CLAIM_GRACE);
        self.json("claim work", request.json(claim)).await
    }

    pub async fn heartbeat(
        &self,
        session: SessionId,
        beat: &Heartbeat,
    ) -> Result<HeartbeatReply, DaemonError> {
        let path = format!("/v1/worker/sessions/{session}/heartbeat");
        let request = self.request(Method::POST, &path).timeout(HEARTBEAT_TIMEOUT);
        self.json("send a heartbeat", request.json(beat)).await
    }

    /// Waits until one of the leases is lost, as long as `watch` says.
    pub async fn watch(&self, session: SessionId, watch: &Watch) -> Result<Watched, DaemonError> {
        let path = format!("/v1/worker/sessions/{session}/watch");
        let request = self.request(Method::POST, &path).timeout(watch.wait_ms.to_std() + CLAIM_GRACE);
        self.json("watch leases", request.json(watch)).await
    }

    /// Ends the session; its leases go back at once.
    pub async fn close_session(&self, session: SessionId) -> Result<(), DaemonError> {
        let path = format!("/v1/worker/sessions/{session}");
        let request = self.request(Method::DELETE, &path).timeout(HEARTBEAT_TIMEOUT);
        self.send(request).await.map(|_| ())
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.request_as(method, path, &self.inner.key.0)
    }

    fn request_as(&self, method: Method, path: &str, bearer: &str) -> RequestBuilder {
        self.inner.http.request(method, format!("{}{path}", self.inner.base)).bearer_auth(bearer)
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, DaemonError> {
        let unreachable = |source| DaemonError::Unreachable { address: self.inner.base.clone(), source };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = read_answer(response).await.unwrap_or_default();
        Err(match serde_json::from_slice(&body) {
            Ok(problem) => DaemonError::Refused(Box::new(problem)),
            Err(_) => DaemonError::Status(status.as_u16()),
        })
    }

    async fn json<T: DeserializeOwned>(
        &self,
        what: &'static str,
        request: RequestBuilder,
    ) -> Result<T, DaemonError> {
        let body = read_answer(self.send(request).await?)
            .await
            .map_err(|source| DaemonError::Unreachable { address: self.inner.base.clone(), source })?;
        serde_json::from_slice(&body).map_err(|source| DaemonError::Answer { what, source })
    }

    async fn post<T: Serialize>(&self, path: &str, bearer: &str, body: &T) -> Result<(), DaemonError> {
        let request = self.request_as(Method::POST, path, bearer).timeout(REQUEST_TIMEOUT);
        self.send(request.json(body)).await.map(|_| ())
    }
}

/// The body up to the limit; what is cut there cannot be read as JSON and is refused as such.
async fn read_answer(mut response: Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER_BYTES {
            body.clear();
            break;
        }
    }
    Ok(body)
}
