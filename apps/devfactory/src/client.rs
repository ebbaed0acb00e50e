//! The HTTP client: every answer is either the wanted type or a [`Problem`].

use std::time::Duration;

use anyhow::Context as _;
use df_contract::{Digest, ErrorCode, Problem};
use reqwest::{Method, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Address of a stack started with `devfactory up` and its defaults.
pub(crate) const DEFAULT_URL: &str = "http://127.0.0.1:8460";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client of one daemon, with one key.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    key: String,
}

impl Client {
    pub(crate) fn new(url: Option<&str>, key: Option<&str>) -> anyhow::Result<Self> {
        let key = key.ok_or_else(|| {
            Problem::new(
                ErrorCode::Unauthenticated,
                "no API key was given; set DEVFACTORY_API_KEY to a key made with `devfactory keys create`, \
                 or to the admin key that the first start printed",
            )
        })?;
        let http =
            reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).build().context("HTTP client")?;
        let base = url.unwrap_or(DEFAULT_URL).trim_end_matches('/').to_owned();
        Ok(Self { http, base, key: key.to_owned() })
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.json(self.send(self.request(Method::GET, path)).await?).await
    }

    pub(crate) async fn post<B: Serialize + ?Sized, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> anyhow::Result<T> {
        self.json(self.send(self.request(Method::POST, path).json(body)).await?).await
    }

    pub(crate) async fn post_keyed<B: Serialize + ?Sized, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
        idempotency_key: Option<&str>,
    ) -> anyhow::Result<T> {
        let mut request = self.request(Method::POST, path).json(body);
        if let Some(key) = idempotency_key {
            request = request.header("Idempotency-Key", key);
        }
        self.json(self.send(request).await?).await
    }

    /// A request whose answer has no body.
    pub(crate) async fn order<B: Serialize + ?Sized>(&self, path: &str, body: &B) -> anyhow::Result<()> {
        self.send(self.request(Method::POST, path).json(body)).await.map(|_| ())
    }

    pub(crate) async fn delete(&self, path: &str) -> anyhow::Result<()> {
        self.send(self.request(Method::DELETE, path)).await.map(|_| ())
    }

    pub(crate) async fn bytes(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        let answer = self.send(self.request(Method::GET, path)).await?;
        Ok(answer.bytes().await.map_err(|e| self.unreachable(&e))?.to_vec())
    }

    /// Uploads a blob under its own digest.
    pub(crate) async fn put_blob(&self, content: Vec<u8>) -> anyhow::Result<Digest> {
        let digest = Digest::of(&content);
        let request = self.request(Method::PUT, &format!("/v1/blobs/{digest}"));
        self.send(request.header("content-type", "application/octet-stream").body(content)).await?;
        Ok(digest)
    }

    /// Opens the event stream of a job after event `after`.
    pub(crate) async fn events(&self, job: &str, after: u64) -> anyhow::Result<Response> {
        let request = self.request(Method::GET, &format!("/v1/jobs/{job}/events?after={after}"));
        self.send(request.header("accept", "text/event-stream")).await
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.key)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Response> {
        let answer = request.send().await.map_err(|e| self.unreachable(&e))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status().as_u16();
        let body = answer.bytes().await.unwrap_or_default();
        let problem = serde_json::from_slice::<Problem>(&body).unwrap_or_else(|_| {
            Problem::new(
                ErrorCode::Internal,
                format!("{} answered with status {status} and no problem document", self.base),
            )
        });
        Err(problem.into())
    }

    async fn json<T: DeserializeOwned>(&self, answer: Response) -> anyhow::Result<T> {
        let body = answer.bytes().await.map_err(|e| self.unreachable(&e))?;
        serde_json::from_slice(&body)
            .context("the daemon's answer could not be read; is it of another version?")
    }

    fn unreachable(&self, error: &reqwest::Error) -> Problem {
        let why = if error.is_timeout() { "it did not answer in time" } else { "the connection failed" };
        let told =
            format!("{} does not answer ({why}); is the stack up? `devfactory up` starts one", self.base);
        Problem::new(ErrorCode::DaemonUnreachable, told)
    }
}
