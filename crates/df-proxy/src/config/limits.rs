//! Limits an operator may change, with their defaults.

use std::time::Duration;

use serde::Deserialize;

/// Times in milliseconds unless the name says otherwise.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Calls served at once; more are told to come back.
    pub max_in_flight: usize,
    /// Most bytes of a request.
    pub max_request_bytes: usize,
    /// How long a request's body may take to arrive.
    pub body_timeout_ms: u64,
    /// Output tokens assumed, and asked for, when a request names no limit.
    pub default_output_tokens: u64,
    /// A whole call, over all accounts.
    pub request_timeout_ms: u64,
    /// The longest silence of an upstream within a stream.
    pub idle_timeout_ms: u64,
    /// How long an answer is still read after its client has gone.
    pub drain_timeout_ms: u64,
    /// Calls in flight are given this long at a stop.
    pub shutdown_timeout_ms: u64,
    /// Further tries at the same account, over the whole call.
    pub retries: u32,
    /// Moves to another account, over the whole call.
    pub rotations: u32,
    /// First pause before a retry; doubles each time.
    pub retry_pause_ms: u64,
    /// How long a call waits, in all, for an account to be free again rather than be refused.
    pub park_ms: u64,
    /// How long an account stays out after its key was refused.
    pub credential_cooling_ms: u64,
    /// How long an account stays out after it ran out of money.
    pub billing_cooling_ms: u64,
    /// How long an account stays out after a 429 that names no time.
    pub rate_cooling_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_in_flight: 256,
            max_request_bytes: 16 * 1024 * 1024,
            body_timeout_ms: 60 * 1000,
            default_output_tokens: 8192,
            request_timeout_ms: 30 * 60 * 1000,
            idle_timeout_ms: 5 * 60 * 1000,
            drain_timeout_ms: 60 * 1000,
            shutdown_timeout_ms: 20 * 1000,
            retries: 2,
            rotations: 4,
            retry_pause_ms: 250,
            park_ms: 5 * 1000,
            credential_cooling_ms: 10 * 60 * 1000,
            billing_cooling_ms: 30 * 60 * 1000,
            rate_cooling_ms: 10 * 1000,
        }
    }
}

impl Limits {
    pub(crate) fn body_timeout(&self) -> Duration {
        Duration::from_millis(self.body_timeout_ms)
    }
    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }
    pub(crate) fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms)
    }
    pub(crate) fn park(&self) -> Duration {
        Duration::from_millis(self.park_ms)
    }
    pub(crate) fn drain_timeout(&self) -> Duration {
        Duration::from_millis(self.drain_timeout_ms)
    }
    pub(crate) fn shutdown_timeout(&self) -> Duration {
        Duration::from_millis(self.shutdown_timeout_ms)
    }
}
