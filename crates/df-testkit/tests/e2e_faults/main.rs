//! Bad input and broken surroundings: each fault is a clear, coded error.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod agents;
mod commands;
mod merging;
mod requests;
mod surroundings;
