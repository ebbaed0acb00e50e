//! Grants: what an attempt may ask of the proxy, signed by the daemon with Ed25519.
//!
//! Token form: `dfg1.` + base64url(claims, canonical JSON) + `.` + base64url(signature over the first two parts).
//! The daemon holds the signing key, the proxy the verifying half. A grant lives at most [`MAX_GRANT_LIFE`].

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{AttemptId, Digest, DurationMs, JobId, NanoUsd, TaskSlug, TenantId, Timestamp, Tokens};

/// The longest a grant may live.
pub const MAX_GRANT_LIFE: DurationMs = DurationMs(5 * 60 * 1000);
/// The longest grant token a proxy reads, in bytes.
pub const MAX_GRANT_BYTES: usize = 8 * 1024;
const PREFIX: &str = "dfg1";

/// What the daemon grants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantClaims {
    pub tenant: TenantId,
    pub job: JobId,
    pub task: TaskSlug,
    pub attempt: AttemptId,
    pub epoch: u64,
    /// Caps, outermost first: tenant, job, task, attempt. A call must fit all of them. The last, [`plan_level`], caps
    /// nothing and says which plan of the job the grant is of.
    pub caps: Vec<BudgetCap>,
    /// Models that may be asked for; empty = none.
    pub models: Vec<String>,
    /// The accepted plan that the task is of; absent for a coordinator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Digest>,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
}

const PLAN: &str = "plan:";

/// The level by which a job's plans follow one another: its version is the number of the plan, and a grant of an
/// earlier one than the newest that is known is refused.
pub fn plan_level(job: JobId, number: u64) -> BudgetCap {
    BudgetCap { account: format!("{PLAN}{job}"), version: number, nano_usd: None, tokens: None }
}

/// Whether a level is a [`plan_level`].
pub fn is_plan_level(level: &BudgetCap) -> bool {
    level.account.starts_with(PLAN)
}

/// One level of the budget. The highest version of a level wins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BudgetCap {
    /// `tenant:acme`, `job:job_...`, `task:job_.../api` (`...@2` after the second rollback), `attempt:att_...`,
    /// `plan:job_...`.
    pub account: String,
    pub version: u64,
    /// Absent = no cap in money at this level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nano_usd: Option<NanoUsd>,
    /// Absent = no cap in tokens at this level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Tokens>,
}

/// A signed grant. Its text is a secret: `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Grant(String);

impl std::fmt::Debug for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Grant(..)")
    }
}

/// Why a token is no valid grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    #[error("the token is not a grant (it must have the form dfg1.CLAIMS.SIGNATURE)")]
    Malformed,
    #[error("the grant's signature does not fit the daemon's key")]
    Signature,
    #[error("the grant expired {0} ms ago; a worker gets a fresh one with its heartbeat")]
    Expired(u64),
    #[error("the grant would live longer than {} ms", MAX_GRANT_LIFE.0)]
    TooLong,
    #[error("the claims have no canonical form")]
    Claims,
}

impl Grant {
    /// Signs `claims`.
    pub fn sign(claims: &GrantClaims, key: &SigningKey) -> Result<Self, GrantError> {
        if claims.expires_at.since(claims.issued_at) > MAX_GRANT_LIFE {
            return Err(GrantError::TooLong);
        }
        let body = crate::canonical_json(claims).map_err(|_| GrantError::Claims)?;
        let signed = format!("{PREFIX}.{}", B64.encode(body));
        let signature = key.sign(signed.as_bytes());
        Ok(Self(format!("{signed}.{}", B64.encode(signature.to_bytes()))))
    }

    /// The bearer token.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Checks form, signature, life span and expiry, in this order.
    pub fn verify(token: &str, key: &VerifyingKey, now: Timestamp) -> Result<GrantClaims, GrantError> {
        if token.len() > MAX_GRANT_BYTES {
            return Err(GrantError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(GrantError::Malformed)?;
        let body = signed.strip_prefix("dfg1.").ok_or(GrantError::Malformed)?;
        let raw = B64.decode(signature).map_err(|_| GrantError::Malformed)?;
        let signature = Signature::from_slice(&raw).map_err(|_| GrantError::Malformed)?;
        key.verify_strict(signed.as_bytes(), &signature).map_err(|_| GrantError::Signature)?;
        let body = B64.decode(body).map_err(|_| GrantError::Malformed)?;
        let claims: GrantClaims = serde_json::from_slice(&body).map_err(|_| GrantError::Malformed)?;
        if claims.expires_at.since(claims.issued_at) > MAX_GRANT_LIFE {
            return Err(GrantError::TooLong);
        }
        if now >= claims.expires_at {
            return Err(GrantError::Expired(now.since(claims.expires_at).0));
        }
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(expires: u64) -> GrantClaims {
        let now = Timestamp(1_000);
        GrantClaims {
            tenant: "acme".parse().unwrap(),
            job: JobId::mint(now, [1; 10]),
            task: "api".parse().unwrap(),
            attempt: AttemptId::mint(now, [2; 10]),
            epoch: 3,
            caps: vec![BudgetCap {
                account: "tenant:acme".into(),
                version: 1,
                nano_usd: None,
                tokens: Some(Tokens(10)),
            }],
            models: vec!["m".into()],
            plan: None,
            issued_at: now,
            expires_at: Timestamp(expires),
        }
    }

    #[test]
    fn a_signed_grant_verifies_until_it_expires() {
        let key = SigningKey::from_bytes(&[9; 32]);
        let grant = Grant::sign(&claims(2_000), &key).unwrap();
        assert_eq!(
            Grant::verify(grant.expose(), &key.verifying_key(), Timestamp(1_999)).unwrap(),
            claims(2_000)
        );
        assert_eq!(
            Grant::verify(grant.expose(), &key.verifying_key(), Timestamp(2_000)),
            Err(GrantError::Expired(0))
        );
        assert_eq!(Grant::sign(&claims(1_000 + 300_001), &key).unwrap_err(), GrantError::TooLong);
        assert!(!format!("{grant:?}").contains(grant.expose()));
    }

    #[test]
    fn any_changed_byte_is_refused() {
        let key = SigningKey::from_bytes(&[9; 32]);
        let text = Grant::sign(&claims(2_000), &key).unwrap().expose().to_owned();
        for i in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[i] = if bytes[i] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(Grant::verify(&changed, &key.verifying_key(), Timestamp(1_500)).is_err(), "byte {i}");
        }
        let other = SigningKey::from_bytes(&[8; 32]);
        assert_eq!(
            Grant::verify(&text, &other.verifying_key(), Timestamp(1_500)),
            Err(GrantError::Signature)
        );
    }
}
