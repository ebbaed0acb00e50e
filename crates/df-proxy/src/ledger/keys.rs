//! Standing keys: credentials of the proxy's own, for its use as a plain gateway. They live in the journal, as the
//! digest of their text; the text is shown once.

use std::collections::BTreeMap;
use std::sync::Arc;

use df_contract::grant::BudgetCap;
use df_contract::{NanoUsd, TenantId, Timestamp, Tokens};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::LedgerError;
use crate::calendar::Day;

/// Most keys, revoked ones included.
pub(super) const MAX_KEYS: usize = 100_000;
const MAX_KEY_NAME_BYTES: usize = 100;
const MAX_KEY_MODELS: usize = 100;
/// The text of every key begins so.
pub(crate) const KEY_PREFIX: &str = "dfk1.";
/// Stands for every model that some route serves.
const ANY_MODEL: &str = "*";
const ID_BYTES: usize = 6;
const SECRET_BYTES: usize = 32;

/// When a key's spending begins anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Period {
    #[default]
    Never,
    Day,
    Month,
}

/// What is asked for a new key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewKey {
    /// For people: who uses it, what for.
    pub(crate) name: String,
    pub(crate) tenant: TenantId,
    /// Models that may be asked for; `*` = every one that is served.
    pub(crate) models: Vec<String>,
    #[serde(default)]
    pub(crate) nano_usd: Option<NanoUsd>,
    #[serde(default)]
    pub(crate) tokens: Option<Tokens>,
    #[serde(default)]
    pub(crate) period: Period,
    #[serde(default)]
    pub(crate) expires_at: Option<Timestamp>,
}

/// A key as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StandingKey {
    pub(crate) id: String,
    pub(crate) name: String,
    /// SHA-256 of its text.
    digest: [u8; 32],
    pub(crate) tenant: TenantId,
    pub(crate) models: Vec<String>,
    pub(crate) nano_usd: Option<NanoUsd>,
    pub(crate) tokens: Option<Tokens>,
    pub(crate) period: Period,
    pub(crate) created_at: Timestamp,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) revoked_at: Option<Timestamp>,
}

/// Why a text is no good key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyError {
    #[error("there is no such key")]
    Unknown,
    #[error("the key `{0}` was revoked")]
    Revoked(String),
    #[error("the key `{0}` has expired")]
    Expired(String),
}

impl StandingKey {
    /// A key and its text.
    pub(super) fn mint(new: NewKey, now: Timestamp) -> (Self, String) {
        let (id, secret): ([u8; ID_BYTES], [u8; SECRET_BYTES]) = (rand::random(), rand::random());
        let id = hex::encode(id);
        let text = format!("{KEY_PREFIX}{id}.{}", hex::encode(secret));
        let NewKey { name, tenant, models, nano_usd, tokens, period, expires_at } = new;
        let digest = Sha256::digest(&text).into();
        let key = Self {
            id,
            name,
            digest,
            tenant,
            models,
            nano_usd,
            tokens,
            period,
            created_at: now,
            expires_at,
            revoked_at: None,
        };
        (key, text)
    }

    pub(crate) fn covers_all(&self) -> bool {
        self.models.iter().any(|known| known == ANY_MODEL)
    }

    /// The same key, withdrawn; one that was withdrawn before stays as it was.
    pub(super) fn revoked(&self, now: Timestamp) -> Self {
        Self { revoked_at: self.revoked_at.or(Some(now)), ..self.clone() }
    }

    /// Whether it may be used.
    pub(super) fn usable(&self, now: Timestamp) -> Result<(), KeyError> {
        if self.revoked_at.is_some() {
            return Err(KeyError::Revoked(self.id.clone()));
        }
        match self.expires_at {
            Some(expiry) if expiry <= now => Err(KeyError::Expired(self.id.clone())),
            Some(_) | None => Ok(()),
        }
    }

    /// The level that its calls are held on now. A key without caps has one too, so that its spending is known.
    pub(crate) fn cap(&self, now: Timestamp) -> BudgetCap {
        let account = match self.period {
            Period::Never => format!("key:{}", self.id),
            Period::Day => format!("key:{}/{}", self.id, Day::of(now)),
            Period::Month => format!("key:{}/{}", self.id, Day::of(now).month()),
        };
        BudgetCap { account, version: 1, nano_usd: self.nano_usd, tokens: self.tokens }
    }
}

/// All keys by their id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Keys(BTreeMap<String, Arc<StandingKey>>);

impl Keys {
    pub(super) fn put(&mut self, key: Arc<StandingKey>) {
        self.0.insert(key.id.clone(), key);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<StandingKey>> {
        self.0.values()
    }

    pub(super) fn get(&self, id: &str) -> Option<&Arc<StandingKey>> {
        self.0.get(id)
    }

    /// The key whose text this is. Compares digests in constant time.
    pub(super) fn named_by(&self, text: &str, now: Timestamp) -> Result<Arc<StandingKey>, KeyError> {
        let (id, _) =
            text.strip_prefix(KEY_PREFIX).and_then(|rest| rest.split_once('.')).ok_or(KeyError::Unknown)?;
        let key = self.0.get(id).ok_or(KeyError::Unknown)?;
        let digest: [u8; 32] = Sha256::digest(text).into();
        if !bool::from(digest.ct_eq(&key.digest)) {
            return Err(KeyError::Unknown);
        }
        key.usable(now)?;
        Ok(Arc::clone(key))
    }
}

/// What an operator sees of a key.
#[derive(Debug, Serialize)]
pub(crate) struct KeyView {
    id: String,
    name: String,
    tenant: TenantId,
    models: Vec<String>,
    nano_usd: Option<NanoUsd>,
    tokens: Option<Tokens>,
    period: Period,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
    /// Of the period that runs.
    spent_tokens: u64,
    spent_nano_usd: u64,
}

impl KeyView {
    pub(super) fn of(key: &StandingKey, spent: super::budget::Sum) -> Self {
        Self {
            id: key.id.clone(),
            name: key.name.clone(),
            tenant: key.tenant.clone(),
            models: key.models.clone(),
            nano_usd: key.nano_usd,
            tokens: key.tokens,
            period: key.period,
            created_at: key.created_at,
            expires_at: key.expires_at,
            revoked_at: key.revoked_at,
            spent_tokens: spent.tokens,
            spent_nano_usd: spent.nano_usd,
        }
    }
}

/// What is wrong with the wish for a key.
pub(super) fn check(new: &NewKey) -> Result<(), LedgerError> {
    let wrong = |why: String| Err(LedgerError::KeyInvalid(why));
    if new.name.is_empty() || new.name.len() > MAX_KEY_NAME_BYTES {
        return wrong(format!("`name` must have 1 to {MAX_KEY_NAME_BYTES} bytes"));
    }
    if new.models.is_empty() || new.models.len() > MAX_KEY_MODELS {
        return wrong(format!("`models` must name 1 to {MAX_KEY_MODELS} models, or `*`"));
    }
    Ok(())
}
