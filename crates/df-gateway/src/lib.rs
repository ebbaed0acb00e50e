//! The HTTP API under `/v1`: who asks, may they, and what the answer looks like.
//!
//! Every endpoint is one entry of [`Endpoint`], which names the action it is and how far it reaches. The router is
//! built from that list, and a guard in front of each handler authenticates, limits and authorises by it, so that a
//! handler is extract, call, map, and no route can exist that nobody decided about.
//!
//! What this crate deliberately does not know: what is legal or allowed (df-control-machine, df-control-governance),
//! how work is scheduled, clocks and randomness (handed in with the orchestrator), and how code is run.

mod auth;
mod endpoint;
mod error;
mod extract;
mod gateway;
mod guard;
pub mod limits;
mod rate;
mod router;
mod routes;
mod trace;
mod view;

pub use auth::{KEY_PREFIX, KeyError, MintedKey, key_hash, mint_key};
pub use endpoint::{Door, Endpoint, Rule, Target};
pub use error::ApiError;
pub use gateway::Gateway;
pub use router::{router, serve};
pub use view::{job_view, shown_blobs};
