//! Keys: how they look, how they are made, and whose request it is.

use std::collections::BTreeSet;

use axum::http::{HeaderMap, header};
use df_contract::api::{KeyCreate, KeyCreated};
use df_contract::{Digest, ErrorCode, KeyId, Role, TenantId, WorkerClass};
use df_orchestration::Env;
use df_store::{KeyRow, Store};
use subtle::ConstantTimeEq as _;

use crate::error::{ApiError, refused};
use crate::limits::MAX_IDENTITY_BYTES;

/// Every API and worker key begins with this; 64 hex digits follow.
pub const KEY_PREFIX: &str = "dfk_";
const LEASE_PREFIX: &str = "dfl1.";
const KEY_HEX_DIGITS: usize = 64;

/// Names that the daemon's own acts carry in the audit log.
const RESERVED: &[&str] = &["devfactoryd", "governance", "reaper"];

/// Whose request it is.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) key: KeyId,
    pub(crate) hash: Digest,
    pub(crate) identity: String,
    pub(crate) tenant: TenantId,
    pub(crate) roles: BTreeSet<Role>,
    /// Of a worker key; the least trusted class unless the key says otherwise.
    pub(crate) class: WorkerClass,
}

impl Caller {
    /// In orchestration's words.
    pub(crate) fn asks(&self) -> df_orchestration::users::Caller {
        df_orchestration::users::Caller {
            identity: self.identity.clone(),
            tenant: self.tenant.clone(),
            roles: self.roles.clone(),
        }
    }
}

impl From<KeyRow> for Caller {
    fn from(row: KeyRow) -> Self {
        Self {
            key: row.id,
            hash: row.hash,
            identity: row.identity,
            tenant: row.tenant,
            roles: row.roles,
            class: row.class.unwrap_or(WorkerClass::Remote),
        }
    }
}

/// What stands behind `authorization: Bearer`.
pub(crate) enum Bearer<'a> {
    Key(&'a str),
    Lease(&'a str),
}

pub(crate) fn bearer(headers: &HeaderMap) -> Result<Bearer<'_>, ApiError> {
    let missing = || refused(ErrorCode::Unauthenticated, "send `authorization: Bearer KEY`");
    let text = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).ok_or_else(missing)?;
    let (scheme, token) = text.split_once(' ').ok_or_else(missing)?;
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Err(missing());
    }
    Ok(if token.starts_with(LEASE_PREFIX) { Bearer::Lease(token) } else { Bearer::Key(token) })
}

/// Finds the live key behind a secret. One answer for every way to be wrong, so that nothing can be learnt.
pub(crate) async fn caller(store: &Store, env: &Env, secret: &str) -> Result<Caller, ApiError> {
    let unknown = || refused(ErrorCode::Unauthenticated, "the key is not known, was revoked, or has expired");
    if !looks_like_key(secret) {
        return Err(unknown());
    }
    live(store, env, key_hash(secret)).await?.ok_or_else(unknown)
}

/// The caller behind a hash while the key lives.
pub(crate) async fn live(store: &Store, env: &Env, hash: Digest) -> Result<Option<Caller>, ApiError> {
    let row = store.key_by_hash(hash.clone()).await?;
    let same = |row: &KeyRow| bool::from(row.hash.as_str().as_bytes().ct_eq(hash.as_str().as_bytes()));
    Ok(row.filter(|row| same(row) && row.is_live(env.now())).map(Caller::from))
}

fn looks_like_key(secret: &str) -> bool {
    secret
        .strip_prefix(KEY_PREFIX)
        .is_some_and(|hex| hex.len() == KEY_HEX_DIGITS && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// What is kept of a secret. It has 256 bits of its own, so one round of SHA-256 is enough.
pub fn key_hash(secret: &str) -> Digest {
    Digest::of(secret.as_bytes())
}

/// A new key: the row to keep, and the secret to show once.
pub struct MintedKey {
    pub row: KeyRow,
    pub secret: String,
}

impl std::fmt::Debug for MintedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MintedKey").field("key", &self.row.id).finish_non_exhaustive()
    }
}

impl MintedKey {
    pub(crate) fn created(self) -> KeyCreated {
        KeyCreated { key: self.row.view(), secret: self.secret }
    }
}

/// Why no such key can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error(
        "`identity` must have 1 to {MAX_IDENTITY_BYTES} bytes, no control characters and no space at its ends"
    )]
    Identity,
    #[error("the identity `{0}` is one of the daemon's own; choose another")]
    Reserved(String),
    #[error("`roles` is empty; give at least one")]
    NoRole,
    #[error("the role `{}` is not given to keys", .0.as_str())]
    NotAKeyRole(Role),
    #[error("a worker's key has the role `worker` alone")]
    MixedWorker,
    #[error("`class` is for keys with the role `worker`")]
    ClassWithoutWorker,
    #[error("`expires_at` has passed already")]
    Expired,
}

/// Makes a key. `tenant` is used where the request names none.
pub fn mint_key(env: &Env, wanted: KeyCreate, tenant: &TenantId) -> Result<MintedKey, KeyError> {
    check_identity(&wanted.identity)?;
    check_roles(&wanted)?;
    let now = env.now();
    if wanted.expires_at.is_some_and(|end| end <= now) {
        return Err(KeyError::Expired);
    }
    let secret = format!("{KEY_PREFIX}{}", env.secret());
    let worker = wanted.roles.contains(&Role::Worker);
    let row = KeyRow {
        id: env.key_id(),
        identity: wanted.identity,
        roles: wanted.roles,
        tenant: wanted.tenant.unwrap_or_else(|| tenant.clone()),
        class: worker.then(|| wanted.class.unwrap_or(WorkerClass::Remote)),
        hash: key_hash(&secret),
        created_at: now,
        expires_at: wanted.expires_at,
        revoked: false,
    };
    Ok(MintedKey { row, secret })
}

fn check_identity(identity: &str) -> Result<(), KeyError> {
    let fits = (1..=MAX_IDENTITY_BYTES).contains(&identity.len());
    if !fits || identity.chars().any(char::is_control) || identity.trim() != identity {
        return Err(KeyError::Identity);
    }
    if RESERVED.contains(&identity) || identity.starts_with("worker:") {
        return Err(KeyError::Reserved(identity.to_owned()));
    }
    Ok(())
}

fn check_roles(wanted: &KeyCreate) -> Result<(), KeyError> {
    if wanted.roles.is_empty() {
        return Err(KeyError::NoRole);
    }
    if let Some(role) = wanted.roles.iter().find(|r| !is_key_role(**r)) {
        return Err(KeyError::NotAKeyRole(*role));
    }
    let worker = wanted.roles.contains(&Role::Worker);
    match (worker, wanted.roles.len(), wanted.class) {
        (true, 2.., _) => Err(KeyError::MixedWorker),
        (false, _, Some(_)) => Err(KeyError::ClassWithoutWorker),
        (true, _, _) | (false, _, None) => Ok(()),
    }
}

/// Roles of people and of worker daemons. The others are played by the factory itself.
fn is_key_role(role: Role) -> bool {
    match role {
        Role::Worker
        | Role::Submitter
        | Role::Approver
        | Role::Operator
        | Role::Auditor
        | Role::Viewer
        | Role::Admin => true,
        Role::Governance
        | Role::Coordinator
        | Role::Backend
        | Role::Frontend
        | Role::Devops
        | Role::Qa
        | Role::RegisteredAgent
        | Role::Proxy
        | Role::Deployer => false,
    }
}

#[cfg(test)]
mod tests {
    use df_contract::Timestamp;

    use super::*;

    fn env() -> Env {
        Env::new(|| Timestamp(1_000), |bytes| bytes.fill(7))
    }

    fn wanted(identity: &str, roles: &[Role]) -> KeyCreate {
        let roles = roles.iter().copied().collect();
        KeyCreate { identity: identity.to_owned(), roles, tenant: None, class: None, expires_at: None }
    }

    fn check(wanted: KeyCreate, expect: Result<Option<WorkerClass>, KeyError>) {
        let made = mint_key(&env(), wanted, &"acme".parse().unwrap()).map(|m| m.row.class);
        assert_eq!(made, expect);
    }

    #[test]
    fn keys_are_made_for_people_and_workers_only() {
        check(wanted("alice", &[Role::Submitter, Role::Approver]), Ok(None));
        check(wanted("w", &[Role::Worker]), Ok(Some(WorkerClass::Remote)));
        let trusted = KeyCreate { class: Some(WorkerClass::Trusted), ..wanted("w", &[Role::Worker]) };
        check(trusted, Ok(Some(WorkerClass::Trusted)));
        check(wanted("w", &[Role::Worker, Role::Admin]), Err(KeyError::MixedWorker));
        check(wanted("a", &[Role::Governance]), Err(KeyError::NotAKeyRole(Role::Governance)));
        check(wanted("a", &[]), Err(KeyError::NoRole));
        check(wanted(" a", &[Role::Viewer]), Err(KeyError::Identity));
        check(wanted("a\nb", &[Role::Viewer]), Err(KeyError::Identity));
        check(wanted("governance", &[Role::Viewer]), Err(KeyError::Reserved("governance".to_owned())));
        check(wanted("worker:x", &[Role::Viewer]), Err(KeyError::Reserved("worker:x".to_owned())));
        let classy = KeyCreate { class: Some(WorkerClass::Trusted), ..wanted("a", &[Role::Viewer]) };
        check(classy, Err(KeyError::ClassWithoutWorker));
        let late = KeyCreate { expires_at: Some(Timestamp(1_000)), ..wanted("a", &[Role::Viewer]) };
        check(late, Err(KeyError::Expired));
    }

    #[test]
    fn the_secret_is_not_kept_and_not_printed() {
        let made = mint_key(&env(), wanted("alice", &[Role::Viewer]), &"acme".parse().unwrap()).unwrap();
        assert!(looks_like_key(&made.secret), "{}", made.secret);
        assert_eq!(made.row.hash, key_hash(&made.secret));
        let kept = serde_json::to_string(&made.row).unwrap();
        assert!(!kept.contains(&made.secret[4..]) && !format!("{made:?}").contains(&made.secret[4..]));
    }
}
