//! Lease tokens: `dfl1.<job>.<slug>~<epoch>.<hex HMAC-SHA256>`, keyed by a secret of the daemon.
//!
//! The token says which lease it is for; whether that lease is still held is looked up with every use.

use df_contract::lease::HeldLease;
use df_contract::{JobId, LeaseToken, TaskSlug};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::OrchestrationError;

const PREFIX: &str = "dfl1";

/// Issues and checks lease tokens.
#[derive(Clone)]
pub struct LeaseTokens {
    key: [u8; 32],
}

impl std::fmt::Debug for LeaseTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LeaseTokens")
    }
}

impl LeaseTokens {
    pub fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    fn mac(&self, signed: &str) -> Option<String> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).ok()?;
        mac.update(signed.as_bytes());
        Some(hex::encode(mac.finalize().into_bytes()))
    }

    pub fn issue(&self, job: JobId, slug: &TaskSlug, epoch: u64) -> LeaseToken {
        let signed = format!("{PREFIX}.{job}.{slug}~{epoch}");
        let mac = self.mac(&signed).unwrap_or_default();
        LeaseToken(format!("{signed}.{mac}"))
    }

    /// Which lease the token stands for. Constant-time in the MAC.
    pub fn verify(&self, token: &str) -> Result<HeldLease, OrchestrationError> {
        use subtle::ConstantTimeEq as _;
        let bad = OrchestrationError::LeaseToken;
        let Some((signed, given)) = token.rsplit_once('.') else { return Err(bad) };
        let Some(mac) = self.mac(signed) else { return Err(bad) };
        if !bool::from(mac.as_bytes().ct_eq(given.as_bytes())) {
            return Err(bad);
        }
        let parse = || {
            let (job, rest) = signed.strip_prefix("dfl1.")?.split_once('.')?;
            let (slug, epoch) = rest.rsplit_once('~')?;
            Some(HeldLease { job: job.parse().ok()?, slug: slug.parse().ok()?, epoch: epoch.parse().ok()? })
        };
        parse().ok_or(bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use df_contract::Timestamp;

    #[test]
    fn a_token_stands_for_its_lease_and_no_other() {
        let tokens = LeaseTokens::new([1; 32]);
        let job = JobId::mint(Timestamp(5), [5; 10]);
        let slug: TaskSlug = "integrate.api".parse().unwrap();
        let token = tokens.issue(job, &slug, 7);
        assert_eq!(tokens.verify(&token.0).unwrap(), HeldLease { job, slug, epoch: 7 });
        assert!(tokens.verify(&token.0.replace("~7", "~8")).is_err());
        assert!(LeaseTokens::new([2; 32]).verify(&token.0).is_err());
        assert!(tokens.verify("").is_err() && tokens.verify("dfl1.x.y").is_err());
    }
}
