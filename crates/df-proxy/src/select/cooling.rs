//! Who is out until when, and why.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::{At, Breaker};

/// Why something is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    Credential,
    Billing,
    Rate,
    /// The account does not have the model.
    Model,
}

/// `until in ms << 3 | cause`, so that both change in one store. It only ever moves later, so that a short cooling
/// never ends a long one.
#[derive(Debug, Default)]
pub struct Cooling(AtomicU64);

impl Cooling {
    pub fn cool(&self, until: At, cause: Cause) {
        let cause = match cause {
            Cause::Credential => 1,
            Cause::Billing => 2,
            Cause::Rate => 3,
            Cause::Model => 4,
        };
        self.0.fetch_max(until.as_millis() << 3 | cause, Ordering::AcqRel);
    }

    pub fn state(&self, now: At) -> Option<(At, Cause)> {
        let word = self.0.load(Ordering::Acquire);
        if word == 0 {
            return None;
        }
        let until = At::from_millis(word >> 3);
        let cause = match word & 7 {
            1 => Cause::Credential,
            2 => Cause::Billing,
            3 => Cause::Rate,
            4 => Cause::Model,
            _never => return None,
        };
        (until > now).then_some((until, cause))
    }
}

/// What stands before an account, a billing domain, or a model at a provider.
#[derive(Debug, Default)]
pub struct Gate {
    pub cooling: Cooling,
    pub breaker: Breaker,
}

impl Gate {
    /// Out until then; it comes back through one probe and a ramp.
    pub(super) fn shut(&self, until: At, cause: Cause) {
        self.cooling.cool(until, cause);
        self.breaker.trip(until);
    }
}
