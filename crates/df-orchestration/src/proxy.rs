//! What the daemon says to the proxy: reads settled usage, withdraws grants.

use std::time::Duration;

use df_contract::api::{Revocation, UsagePage};

/// A request to the proxy takes no longer than this.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Most ledger rows read at once.
pub const USAGE_PAGE: u32 = 500;

/// Why the proxy could not be asked. It is tried again at the next round.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    #[error("the proxy at {url} does not answer")]
    Unreachable {
        url: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("the proxy answered {status} to {path}")]
    Refused { path: &'static str, status: u16 },
}

/// The proxy's word that it lives.
#[derive(Debug, Clone, Copy, serde::Deserialize)]
pub struct ProxyHealth {
    /// Accounts at model providers, recordings among them; absent from proxies that do not tell.
    #[serde(default)]
    pub accounts: Option<u64>,
}

/// A client of the proxy's administration interface.
#[derive(Clone)]
pub struct ProxyClient {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl std::fmt::Debug for ProxyClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProxyClient").field("base", &self.base).finish_non_exhaustive()
    }
}

impl ProxyClient {
    /// `base` is the proxy's address without `/v1`; `token` its administration token.
    pub fn new(base: &str, token: String) -> Result<Self, ProxyError> {
        let http = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build();
        let http = http.map_err(|source| ProxyError::Unreachable { url: base.to_owned(), source })?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned(), token })
    }

    /// Settled usage after ledger position `after`, oldest first.
    pub async fn usage(&self, after: u64) -> Result<UsagePage, ProxyError> {
        let path = "/admin/v1/usage";
        let url = format!("{}{path}?after={after}&limit={USAGE_PAGE}", self.base);
        let answer = self.answered(path, self.http.get(url)).await?;
        answer.json().await.map_err(|source| self.unreachable(source))
    }

    /// Kills every grant of a task up to an epoch. Safe to repeat.
    pub async fn revoke(&self, revocation: &Revocation) -> Result<(), ProxyError> {
        let path = "/admin/v1/revocations";
        let url = format!("{}{path}", self.base);
        self.answered(path, self.http.post(url).json(revocation)).await.map(|_| ())
    }

    /// What the proxy says of itself; nothing when it does not answer.
    pub async fn health(&self) -> Option<ProxyHealth> {
        let answer = self.http.get(format!("{}/healthz", self.base)).send().await.ok()?;
        if answer.status().is_success() { answer.json().await.ok() } else { None }
    }

    async fn answered(
        &self,
        path: &'static str,
        request: reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, ProxyError> {
        let answer =
            request.bearer_auth(&self.token).send().await.map_err(|source| self.unreachable(source))?;
        let status = answer.status();
        if status.is_success() {
            Ok(answer)
        } else {
            Err(ProxyError::Refused { path, status: status.as_u16() })
        }
    }

    fn unreachable(&self, source: reqwest::Error) -> ProxyError {
        ProxyError::Unreachable { url: self.base.clone(), source }
    }
}
