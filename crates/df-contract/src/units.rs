//! Units as newtypes: money, tokens, durations, instants. Units never mix by accident.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            pub const ZERO: Self = Self(0);
            /// Adds, stopping at the largest value.
            pub const fn saturating_add(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }
            /// Subtracts, stopping at zero.
            pub const fn saturating_sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }
        }
    };
}

unit!(
    /// Money in thousand-millionths of a US dollar (1 USD = 1,000,000,000).
    NanoUsd(u64));
unit!(
    /// Model tokens.
    Tokens(u64));
unit!(
    /// A length of time in milliseconds.
    DurationMs(u64));
unit!(
    /// An instant: milliseconds since 1970-01-01T00:00:00Z.
    Timestamp(u64));

impl Timestamp {
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms)
    }
    pub const fn as_millis(self) -> u64 {
        self.0
    }
    pub const fn plus(self, d: DurationMs) -> Self {
        Self(self.0.saturating_add(d.0))
    }
    /// Time from `earlier` to `self`; zero when the clock went backwards.
    pub const fn since(self, earlier: Self) -> DurationMs {
        DurationMs(self.0.saturating_sub(earlier.0))
    }
}

impl DurationMs {
    pub const fn from_secs(s: u64) -> Self {
        Self(s.saturating_mul(1000))
    }
    pub const fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }
}

impl fmt::Display for NanoUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}.{:09}", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_shows_every_nano_dollar() {
        assert_eq!(NanoUsd(1).to_string(), "$0.000000001");
        assert_eq!(NanoUsd(2_500_000_000).to_string(), "$2.500000000");
    }

    #[test]
    fn arithmetic_never_wraps() {
        assert_eq!(Tokens(u64::MAX).saturating_add(Tokens(1)), Tokens(u64::MAX));
        assert_eq!(Tokens(1).saturating_sub(Tokens(2)), Tokens::ZERO);
    }
}
