//! Who asks: a grant for calls, the admin token for the admin API.

use axum::http::{HeaderMap, header};
use df_contract::{Grant, GrantClaims};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::clock;
use crate::core::Core;
use crate::error::CallError;

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

pub(super) fn grant(core: &Core, headers: &HeaderMap) -> Result<GrantClaims, CallError> {
    let token = bearer(headers).ok_or(CallError::NoCredential)?;
    Grant::verify(token, &core.grant_key, clock::now()).map_err(CallError::Grant)
}

/// Compares digests in constant time, so that nothing is learnt from how long a wrong token took.
pub(super) fn admin(core: &Core, headers: &HeaderMap) -> Result<(), CallError> {
    let given: [u8; 32] = Sha256::digest(bearer(headers).ok_or(CallError::NotAdmin)?).into();
    if bool::from(given.ct_eq(&core.admin_digest)) { Ok(()) } else { Err(CallError::NotAdmin) }
}
