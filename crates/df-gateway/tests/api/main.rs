//! The API over real connections: a server on a free port, the memory store, and a worker that the tests play.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod agents;
mod ask;
mod blobs;
mod bodies;
mod commands;
mod events;
mod keys;
mod leases;
mod life;
mod matrix;
mod play;
mod world;
