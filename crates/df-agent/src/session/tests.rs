//! Whole attempts: a real workspace, real commands, and a scripted model behind a real HTTP server.

mod agents;
mod ends;
mod limits;
mod model;
mod support;
mod tooling;
