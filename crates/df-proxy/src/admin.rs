//! The other end of the admin API: what the proxy's own command line speaks to a running proxy.

use std::path::PathBuf;

use df_contract::Problem;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use crate::config::{Config, ConfigError, Secret};

/// Why the running proxy could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error("no proxy runs with this data directory: {path} cannot be read. Start it, and try again")]
    NotRunning {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the proxy does not answer")]
    Unreachable(#[source] reqwest::Error),
    #[error(transparent)]
    Refused(Box<Problem>),
}

/// A client of the proxy that runs with a configuration: its address and admin token are read from its data
/// directory.
#[derive(Debug)]
pub struct AdminClient {
    base: String,
    token: Secret,
    http: reqwest::Client,
}

impl AdminClient {
    pub fn open(config: &Config) -> Result<Self, AdminError> {
        // An error only says that the process has a provider already.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let path = config.data_dir.join("proxy.addr");
        let address =
            std::fs::read_to_string(&path).map_err(|source| AdminError::NotRunning { path, source })?;
        Ok(Self {
            base: format!("http://{}/admin/v1", address.trim()),
            token: Secret::from_file(&config.admin_token_path())?,
            http: reqwest::Client::builder().no_proxy().build().map_err(AdminError::Unreachable)?,
        })
    }

    /// `path` begins with `/` and stands below `/admin/v1`.
    pub async fn get(&self, path: &str) -> Result<Value, AdminError> {
        self.send(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, AdminError> {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    pub async fn delete(&self, path: &str) -> Result<Value, AdminError> {
        self.send(self.request(Method::DELETE, path)).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base)).bearer_auth(self.token.expose())
    }

    async fn send(&self, request: RequestBuilder) -> Result<Value, AdminError> {
        let response = request.send().await.map_err(AdminError::Unreachable)?;
        if response.status().is_success() {
            return response.json().await.map_err(AdminError::Unreachable);
        }
        let problem = response.json::<Problem>().await.map_err(AdminError::Unreachable)?;
        Err(AdminError::Refused(Box::new(problem)))
    }
}
