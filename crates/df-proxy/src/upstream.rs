//! What is sent to and read from an OpenAI-compatible server.

mod assemble;
mod client;
mod headers;
mod sse;

pub(crate) use assemble::{Assembly, completion, stream_of};
pub(crate) use client::{Clients, Opened, read_whole};
pub(crate) use headers::duration;
pub(crate) use sse::{Events, STREAM_END};

/// Most bytes of one answer.
pub(crate) const MAX_RESPONSE_BYTES: usize = 64 * 1024 * 1024;
