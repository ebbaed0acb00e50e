//! The HTTP client: one request to one account, and what its failure means.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Response, redirect};
use serde_json::Value;

use super::{MAX_RESPONSE_BYTES, headers};
use crate::accounts::{Failure, OpenAi, Refusal, classify};
use crate::clock;
use crate::select::Lane;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of a refusal that are read, and how long it may take.
const MAX_ERROR_BYTES: usize = 64 * 1024;
const ERROR_TIMEOUT: Duration = Duration::from_secs(10);

/// One client for the world, and one that never asks a proxy of the environment for this machine.
#[derive(Debug, Clone)]
pub(crate) struct Clients {
    world: reqwest::Client,
    loopback: reqwest::Client,
}

/// An upstream that has said 200.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) response: Response,
    pub(crate) is_json: bool,
}

impl Clients {
    /// Needs a crypto provider to be installed. Redirects are not followed: they would carry the key elsewhere.
    pub(crate) fn new() -> Result<Self, reqwest::Error> {
        let builder =
            || reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).redirect(redirect::Policy::none());
        Ok(Self { world: builder().build()?, loopback: builder().no_proxy().build()? })
    }

    /// Sends the request and waits for the head of the answer. What that says of limits goes to `lane`, whatever the
    /// answer is.
    pub(crate) async fn open(&self, server: &OpenAi, body: Vec<u8>, lane: &Lane) -> Result<Opened, Failure> {
        let client = if server.loopback { &self.loopback } else { &self.world };
        let mut request = client.post(&server.url).header(CONTENT_TYPE, "application/json").body(body);
        if let Some(key) = &server.key {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose()))
                .map_err(|_| Failure::Credential)?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let response = request.send().await.map_err(|error| unreachable(&error))?;
        let status = response.status().as_u16();
        let now = clock::now();
        lane.hear(&headers::heard(response.headers(), now), clock::steady());
        if status == 200 {
            let kind = response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
            let is_json = kind.starts_with("application/json");
            return Ok(Opened { response, is_json });
        }
        let retry_after = headers::retry_after(response.headers(), now);
        let body = tokio::time::timeout(ERROR_TIMEOUT, refusal(response)).await.unwrap_or_default();
        Err(classify(Refusal { status, retry_after, body: &body }))
    }
}

/// A connection that was never made cannot have cost anything; one that broke may have.
fn unreachable(error: &reqwest::Error) -> Failure {
    let what = if error.is_connect() { "no connection" } else { "the connection broke" };
    Failure::Provider { what: what.into(), maybe_billed: !error.is_connect() }
}

/// The body of a refusal.
async fn refusal(mut response: Response) -> Value {
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_ERROR_BYTES {
            bytes.truncate(MAX_ERROR_BYTES);
            break;
        }
    }
    serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()))
}

/// The whole body of an answer, up to [`MAX_RESPONSE_BYTES`].
pub(crate) async fn read_whole(mut response: Response) -> Result<Vec<u8>, Failure> {
    let broken = |what: &str| Failure::Provider { what: what.into(), maybe_billed: true };
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|_| broken("the answer broke off"))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_RESPONSE_BYTES {
            return Err(broken("the answer is too large"));
        }
    }
    Ok(bytes)
}
