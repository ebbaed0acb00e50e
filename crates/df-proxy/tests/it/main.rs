//! The proxy over HTTP, against scripted upstreams: real servers that play the outside world.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up must fail")]

mod budgets;
mod calls;
mod keys;
mod prices;
mod recordings;
mod rotation;
mod selection;
mod support;
mod upstream;
