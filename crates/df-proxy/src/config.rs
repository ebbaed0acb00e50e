//! The proxy's configuration: one TOML file, unknown fields refused, no secret inside it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use df_contract::TenantId;
use serde::Deserialize;

mod check;
mod limits;
mod pools;
mod price;
mod secret;

pub use crate::calendar::{Day, NoDay};
pub use limits::Limits;
pub(crate) use pools::Placement;
pub use pools::{DomainConfig, LimitConfig, PoolConfig, Terms};
pub use price::{MAX_PRICES, Price, Tier};
pub use secret::Secret;

/// Longest configuration file read, in bytes.
pub const MAX_CONFIG_BYTES: u64 = 1024 * 1024;
/// Most accounts of one configuration.
pub const MAX_ACCOUNTS: usize = 10_000;
/// The route for every model that has none of its own.
pub const ANY_MODEL: &str = "*";

/// What the proxy is told at start. Paths are relative to the configuration file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address to listen on; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Where the ledger, the lock and the admin token live.
    pub data_dir: PathBuf,
    /// Filter of the log: `info`, or `info,df_proxy=debug`.
    #[serde(default = "default_log")]
    pub log: String,
    /// The daemon's verifying key as 64 hex digits. Exactly one of this and `grant_key_file`.
    #[serde(default)]
    pub grant_key: Option<String>,
    #[serde(default)]
    pub grant_key_file: Option<PathBuf>,
    /// Made with a fresh token at first start; `admin.token` in the data directory unless given.
    #[serde(default)]
    pub admin_token_file: Option<PathBuf>,
    /// Append every settled conversation to this file.
    #[serde(default)]
    pub record_to: Option<PathBuf>,
    #[serde(default)]
    pub accounts: Vec<AccountConfig>,
    #[serde(default)]
    pub domains: Vec<DomainConfig>,
    #[serde(default)]
    pub pools: Vec<PoolConfig>,
    /// Model name, or `*` for all others, to pools in the order in which they are asked. Accounts named one after
    /// another are a pool.
    #[serde(default)]
    pub routes: BTreeMap<String, Vec<String>>,
    /// `[[prices]]` rows, or the short `[prices.MODEL]`.
    #[serde(default, deserialize_with = "price::either")]
    pub prices: Vec<Price>,
    /// Further rows, one JSON object a line.
    #[serde(default)]
    pub prices_file: Option<PathBuf>,
    #[serde(default)]
    pub limits: Limits,
}

fn default_log() -> String {
    "info".into()
}

/// Somebody who can answer.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum AccountConfig {
    OpenaiCompatible(OpenAiConfig),
    Recorded(RecordedConfig),
}

impl AccountConfig {
    pub fn id(&self) -> &str {
        match self {
            AccountConfig::OpenaiCompatible(c) => &c.id,
            AccountConfig::Recorded(c) => &c.id,
        }
    }

    pub(crate) fn placement(&self) -> Placement<'_> {
        match self {
            AccountConfig::OpenaiCompatible(c) => Placement {
                domains: &c.domains,
                limits: &c.limits,
                tenants: &c.tenants,
                owner: c.owner.as_ref(),
                terms: c.terms,
                price_band: c.price_band,
            },
            AccountConfig::Recorded(c) => Placement {
                domains: &[],
                limits: &[],
                tenants: &c.tenants,
                owner: None,
                terms: Terms::SelfHosted,
                price_band: 0,
            },
        }
    }
}

/// A server that speaks the OpenAI chat completions protocol.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenAiConfig {
    pub id: String,
    /// Whose prices it has, where a row of the price table names one.
    #[serde(default)]
    pub provider: Option<String>,
    /// Up to and including the version: `https://api.openai.com/v1`.
    pub base_url: String,
    /// Environment variable that holds the key; at most one of this and `key_file`, neither for a server without keys.
    #[serde(default)]
    pub key_env: Option<String>,
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// Models it serves; all when absent.
    #[serde(default)]
    pub models: Models,
    /// How this server calls its limit on output tokens.
    #[serde(default)]
    pub output_limit: OutputLimit,
    /// Quota domains it belongs to.
    #[serde(default)]
    pub domains: Vec<String>,
    /// Limits of its own.
    #[serde(default)]
    pub limits: Vec<LimitConfig>,
    /// The only tenants it serves; all when absent.
    #[serde(default)]
    pub tenants: Vec<TenantId>,
    #[serde(default)]
    pub owner: Option<TenantId>,
    #[serde(default)]
    pub terms: Terms,
    /// Of accounts that could take a call, those of the lowest band go first.
    #[serde(default)]
    pub price_band: u8,
}

/// A recorded conversation that is replayed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedConfig {
    pub id: String,
    pub path: PathBuf,
    /// The only tenants it serves; all when absent.
    #[serde(default)]
    pub tenants: Vec<TenantId>,
}

/// Which models an account serves, and what they are called there.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(untagged)]
pub enum Models {
    #[default]
    Any,
    Listed(Vec<String>),
    Renamed(BTreeMap<String, String>),
}

impl Models {
    /// What `model` is called at the account; none if it is not served.
    pub fn upstream_name<'a>(&'a self, model: &'a str) -> Option<&'a str> {
        match self {
            Models::Any => Some(model),
            Models::Listed(names) => names.iter().any(|n| n == model).then_some(model),
            Models::Renamed(names) => names.get(model).map(String::as_str),
        }
    }
}

/// Name of the request field that bounds the output.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputLimit {
    #[default]
    MaxTokens,
    MaxCompletionTokens,
}

impl OutputLimit {
    pub const fn field(self) -> &'static str {
        match self {
            OutputLimit::MaxTokens => "max_tokens",
            OutputLimit::MaxCompletionTokens => "max_completion_tokens",
        }
    }
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("the file {path} cannot be read")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the file {path} is larger than {MAX_CONFIG_BYTES} bytes")]
    TooLarge { path: PathBuf },
    #[error("the configuration does not parse: {0}")]
    Parse(Box<toml::de::Error>),
    #[error("{0}")]
    Invalid(String),
}

impl Config {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read { path: path.to_owned(), source };
        if std::fs::metadata(path).map_err(read)?.len() > MAX_CONFIG_BYTES {
            return Err(ConfigError::TooLarge { path: path.to_owned() });
        }
        let text = std::fs::read_to_string(path).map_err(read)?;
        Self::parse(&text, path.parent().unwrap_or(Path::new(".")))
    }

    /// Parses and checks; `base` is what relative paths are relative to.
    pub fn parse(text: &str, base: &Path) -> Result<Self, ConfigError> {
        let mut config: Config = toml::from_str(text).map_err(|e| ConfigError::Parse(Box::new(e)))?;
        config.resolve(base);
        if let Some(path) = &config.prices_file {
            config.prices.extend(price::read_file(path)?);
        }
        config.check()?;
        Ok(config)
    }

    fn resolve(&mut self, base: &Path) {
        self.data_dir = base.join(&self.data_dir);
        for path in
            [&mut self.grant_key_file, &mut self.admin_token_file, &mut self.record_to, &mut self.prices_file]
        {
            *path = path.as_ref().map(|p| base.join(p));
        }
        for account in &mut self.accounts {
            match account {
                AccountConfig::OpenaiCompatible(c) => c.key_file = c.key_file.as_ref().map(|p| base.join(p)),
                AccountConfig::Recorded(c) => c.path = base.join(&c.path),
            }
        }
    }

    /// Where the admin token is.
    pub fn admin_token_path(&self) -> PathBuf {
        self.admin_token_file.clone().unwrap_or_else(|| self.data_dir.join("admin.token"))
    }
}
