//! Signatures of registrants: who put a manifest into the registry.

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use super::RegisteredAgent;
use crate::{AgentName, Digest, TenantId};

/// Why a registration is not the registrant's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("the manifest does not have the digest under which it is registered")]
    Digest,
    #[error("`public_key` is not an Ed25519 key of 64 hex digits")]
    Key,
    #[error("`signature` is not an Ed25519 signature of 128 hex digits")]
    Malformed,
    #[error("the signature does not fit tenant, name, manifest and key")]
    Signature,
}

/// What the registrant signs: the purpose, whose agent it is, its name and its digest, each on a line.
pub fn signed_text(tenant: Option<&TenantId>, name: &AgentName, digest: &Digest) -> String {
    let tenant = tenant.map_or("-", TenantId::as_str);
    format!("devfactory-agent-v1\n{tenant}\n{name}\n{digest}\n")
}

/// Public key and signature, as hex, for the key that `seed` stands for.
pub fn sign(
    seed: &[u8; 32],
    tenant: Option<&TenantId>,
    name: &AgentName,
    digest: &Digest,
) -> (String, String) {
    let key = SigningKey::from_bytes(seed);
    let signature = key.sign(signed_text(tenant, name, digest).as_bytes());
    (hex::encode(key.verifying_key().to_bytes()), hex::encode(signature.to_bytes()))
}

impl RegisteredAgent {
    /// Whether it is still what was signed: digest over the manifest, signature over whose it is, name and digest.
    pub fn verify(&self) -> Result<(), SealError> {
        if self.manifest.digest().ok().as_ref() != Some(&self.digest) {
            return Err(SealError::Digest);
        }
        let mut key = [0; 32];
        hex::decode_to_slice(&self.public_key, &mut key).map_err(|_| SealError::Key)?;
        let mut signature = [0; 64];
        hex::decode_to_slice(&self.signature, &mut signature).map_err(|_| SealError::Malformed)?;
        let text = signed_text(self.tenant.as_ref(), &self.manifest.name, &self.digest);
        VerifyingKey::from_bytes(&key)
            .map_err(|_| SealError::Key)?
            .verify_strict(text.as_bytes(), &Signature::from_bytes(&signature))
            .map_err(|_| SealError::Signature)
    }
}
