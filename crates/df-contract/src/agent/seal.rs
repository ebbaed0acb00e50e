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
    #[error("the signature does not fit tenant, name, manifest, version number and key")]
    Signature,
}

/// What a registrant puts their name to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registration<'a> {
    /// Whose agent it is; absent = everybody's.
    pub tenant: Option<&'a TenantId>,
    pub name: &'a AgentName,
    pub digest: &'a Digest,
    /// Which registration of the name it is, from 1; 0 = from before they were counted.
    pub number: u64,
}

/// The id of a public key: the SHA-256 of its 32 bytes.
pub fn key_id(public_key: &[u8; 32]) -> Digest {
    Digest::of(public_key)
}

/// What the registrant signs: the purpose, the id of the key, whose agent it is, its name, its digest and the number of
/// the registration, each on a line. So a signature is good for one place in the order of versions: an earlier one
/// cannot be put back with it. What was registered before versions were counted has neither key nor number.
pub fn signed_text(of: &Registration<'_>, key: &Digest) -> String {
    let Registration { tenant, name, digest, number } = of;
    let tenant = tenant.map_or("-", TenantId::as_str);
    match number {
        0 => format!("devfactory-agent-v1\n{tenant}\n{name}\n{digest}\n"),
        number => format!("devfactory-agent-v2\n{key}\n{tenant}\n{name}\n{digest}\n{number}\n"),
    }
}

/// Public key and signature, as hex, for the key that `seed` stands for.
pub fn sign(seed: &[u8; 32], of: &Registration<'_>) -> (String, String) {
    let key = SigningKey::from_bytes(seed);
    let public = key.verifying_key().to_bytes();
    let signature = key.sign(signed_text(of, &key_id(&public)).as_bytes());
    (hex::encode(public), hex::encode(signature.to_bytes()))
}

impl RegisteredAgent {
    /// What its registrant signed.
    pub fn registration(&self) -> Registration<'_> {
        let (tenant, name) = (self.tenant.as_ref(), &self.manifest.name);
        Registration { tenant, name, digest: &self.digest, number: self.number }
    }

    /// Whether it is still what was signed: digest over the manifest, signature over its [`Registration`].
    pub fn verify(&self) -> Result<(), SealError> {
        if self.manifest.digest().ok().as_ref() != Some(&self.digest) {
            return Err(SealError::Digest);
        }
        let mut key = [0; 32];
        hex::decode_to_slice(&self.public_key, &mut key).map_err(|_| SealError::Key)?;
        let mut signature = [0; 64];
        hex::decode_to_slice(&self.signature, &mut signature).map_err(|_| SealError::Malformed)?;
        let text = signed_text(&self.registration(), &key_id(&key));
        VerifyingKey::from_bytes(&key)
            .map_err(|_| SealError::Key)?
            .verify_strict(text.as_bytes(), &Signature::from_bytes(&signature))
            .map_err(|_| SealError::Signature)
    }
}
