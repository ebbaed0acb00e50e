//! Who asks: a grant or a standing key for calls, the admin token for the admin API.

use std::sync::Arc;

use axum::http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::call::Caller;
use crate::clock;
use crate::core::Core;
use crate::error::CallError;
use crate::ledger::KEY_PREFIX;

/// Under which task the conversations of standing keys are recorded and replayed.
const KEY_TASK: &str = "gateway";

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// A grant of the daemon's, or a standing key of the proxy's own.
pub(super) fn caller(core: &Core, headers: &HeaderMap) -> Result<Arc<Caller>, CallError> {
    let token = bearer(headers).ok_or(CallError::NoCredential)?;
    let now = clock::now();
    if token.starts_with(KEY_PREFIX) {
        let key = core.ledger.key(token, now).map_err(CallError::Key)?;
        let task = KEY_TASK.parse().map_err(|_| CallError::Lost)?;
        return Ok(Arc::new(Caller::of_key(&key, task, now)));
    }
    core.grants.verify(token, now).map_err(CallError::Grant)
}

/// Compares digests in constant time, so that nothing is learnt from how long a wrong token took.
pub(super) fn admin(core: &Core, headers: &HeaderMap) -> Result<(), CallError> {
    let given: [u8; 32] = Sha256::digest(bearer(headers).ok_or(CallError::NotAdmin)?).into();
    if bool::from(given.ct_eq(&core.admin_digest)) { Ok(()) } else { Err(CallError::NotAdmin) }
}
