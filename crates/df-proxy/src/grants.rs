//! Grants that were verified: each token's signature is checked once, and its expiry at every call.
//!
//! What it deliberately does not know: revocations. The ledger is asked about them at every call.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use df_contract::{Grant, GrantError, Timestamp};
use ed25519_dalek::VerifyingKey;
use sha2::{Digest as _, Sha256};

use crate::call::Caller;

const SHARDS: usize = 16;
/// Tokens of one generation of a shard. Two generations are kept, so that between 2,048 and 4,096 tokens are known.
const GENERATION: usize = 128;

type Token = [u8; 32];
type Known = HashMap<Token, (Arc<Caller>, Timestamp)>;

/// The daemon's verifying key, and what it has verified. Tokens are kept as their SHA-256.
#[derive(Debug)]
pub(crate) struct Grants {
    key: VerifyingKey,
    shards: [Mutex<Shard>; SHARDS],
}

/// A full generation becomes the old one, and the one before it is forgotten; a token that is used moves on.
#[derive(Debug, Default)]
struct Shard {
    young: Known,
    old: Known,
}

impl Shard {
    fn get(&mut self, token: &Token) -> Option<(Arc<Caller>, Timestamp)> {
        if let Some(known) = self.young.get(token) {
            return Some(known.clone());
        }
        let known = self.old.remove(token)?;
        self.put(*token, known.clone());
        Some(known)
    }

    fn put(&mut self, token: Token, known: (Arc<Caller>, Timestamp)) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(token, known);
    }
}

impl Grants {
    pub(crate) fn new(key: VerifyingKey) -> Self {
        Self { key, shards: std::array::from_fn(|_| Mutex::default()) }
    }

    /// As [`Grant::verify`].
    pub(crate) fn verify(&self, token: &str, now: Timestamp) -> Result<Arc<Caller>, GrantError> {
        let digest: Token = Sha256::digest(token).into();
        let shard = &self.shards[usize::from(digest[0]) % SHARDS];
        let known = shard.lock().unwrap_or_else(PoisonError::into_inner).get(&digest);
        if let Some((caller, expires_at)) = known {
            return if now < expires_at {
                Ok(caller)
            } else {
                Err(GrantError::Expired(now.since(expires_at).0))
            };
        }
        let claims = Grant::verify(token, &self.key, now)?;
        let expires_at = claims.expires_at;
        let caller = Arc::new(Caller::of_grant(claims));
        let known = (Arc::clone(&caller), expires_at);
        shard.lock().unwrap_or_else(PoisonError::into_inner).put(digest, known);
        Ok(caller)
    }
}

#[cfg(test)]
mod tests {
    use df_contract::{AttemptId, DurationMs, GrantClaims, JobId};
    use ed25519_dalek::SigningKey;

    use super::*;

    fn token(key: &SigningKey, n: u16) -> String {
        let issued_at = Timestamp(1_000);
        let mut random = [0; 10];
        random[..2].copy_from_slice(&n.to_be_bytes());
        let claims = GrantClaims {
            tenant: "acme".parse().unwrap(),
            job: JobId::mint(issued_at, random),
            task: "api".parse().unwrap(),
            attempt: AttemptId::mint(issued_at, [2; 10]),
            epoch: 1,
            caps: Vec::new(),
            models: vec!["m".into()],
            plan: None,
            issued_at,
            expires_at: issued_at.plus(DurationMs(500)),
        };
        Grant::sign(&claims, key).unwrap().expose().to_owned()
    }

    #[test]
    fn a_known_token_still_expires_and_a_changed_one_is_not_known() {
        let key = SigningKey::from_bytes(&[9; 32]);
        let grants = Grants::new(key.verifying_key());
        let good = token(&key, 1);
        let first = grants.verify(&good, Timestamp(1_100)).unwrap();
        assert!(Arc::ptr_eq(&first, &grants.verify(&good, Timestamp(1_499)).unwrap()), "verified once");
        assert_eq!(grants.verify(&good, Timestamp(1_510)).unwrap_err(), GrantError::Expired(10));
        let forged = token(&SigningKey::from_bytes(&[8; 32]), 1);
        for _ in 0..2 {
            assert_eq!(grants.verify(&forged, Timestamp(1_100)).unwrap_err(), GrantError::Signature);
        }
        assert_eq!(grants.verify("dfg1.x", Timestamp(1_100)).unwrap_err(), GrantError::Malformed);
    }

    #[test]
    fn it_never_grows_beyond_its_limit_and_keeps_what_is_used() {
        let mut shard = Shard::default();
        let key = SigningKey::from_bytes(&[9; 32]);
        let grants = Grants::new(key.verifying_key());
        let caller = grants.verify(&token(&key, 1), Timestamp(1_100)).unwrap();
        let name = |n: usize| -> Token { Sha256::digest(n.to_be_bytes()).into() };
        for n in 0..10 * GENERATION {
            shard.put(name(n), (Arc::clone(&caller), Timestamp(0)));
            assert!(shard.get(&name(0)).is_some(), "used all the time, so never forgotten");
            assert!(shard.young.len() <= GENERATION && shard.old.len() <= GENERATION);
        }
        assert!(shard.get(&name(1)).is_none());
    }
}
