//! The one place where the proxy reads clocks.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use df_contract::Timestamp;

use crate::select::At;

/// The first reading is one hour after the start of [`At`], so that nothing before it is cut off at zero.
const BEFORE_START: At = At::from_millis(60 * 60 * 1000);
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Now; a clock before 1970 reads as 1970.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Now on a clock that never goes back, for limits and waits.
pub(crate) fn steady() -> At {
    At(BEFORE_START.0.saturating_add(u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX)))
}
