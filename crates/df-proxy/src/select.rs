//! Who is asked: accounts with limits, tiers of them, and one pick in constant expected time (RFC 0001).
//!
//! Pure: the time ([`At`]) and one random number per pick are arguments. What it deliberately does not know: HTTP,
//! money, names of tenants or models. The caller gives it members and reports what became of each pick.
//!
//! ```
//! use std::sync::Arc;
//! use df_proxy::select::{At, Axis, Bucket, Choice, Lane, Member, Need, Slot, SlotId, Standing, Tier, Upstream};
//!
//! let limit = Arc::new(Bucket::new(Axis::RequestsPerMinute, 1));
//! let lane = Arc::new(Lane::new(vec![limit], Arc::new(Upstream::default())));
//! let slot = Arc::new(Slot::new(SlotId(7), 0, Vec::new(), Standing::Active));
//! let tier = Tier::new(vec![Member::new(slot, lane)]);
//! let need = Need { input: 100, output: 50, ..Need::default() };
//! let now = At::from_millis(1_000);
//! let Choice::Picked(picked) = tier.pick(&need, 42, now) else { panic!("it is free") };
//! assert_eq!(picked.slot.id(), SlotId(7));
//! let Choice::Wait(wait) = tier.pick(&need, 43, now) else { panic!("one a minute") };
//! assert_eq!(wait.until, Some(now.plus_ms(60_000)));
//! ```

mod alias;
mod breaker;
mod bucket;
mod cooling;
mod lane;
mod learn;
mod maglev;
mod permit;
mod pick;
mod slot;
mod tier;
mod time;
mod upstream;
mod verdict;

pub use breaker::Breaker;
pub use bucket::{Axis, Bucket};
pub use cooling::{Cause, Cooling, Gate};
pub use lane::Lane;
pub use learn::{Heard, Signal};
pub use permit::{Permit, Used};
pub use pick::{Choice, Need, Picked, Wait, Why, Whys};
pub use slot::{Slot, SlotId, Standing};
pub use tier::{Member, Tier};
pub use time::{At, Draws, mix64};
pub use upstream::Upstream;
pub use verdict::Verdict;

#[cfg(test)]
mod tests;
