//! The handlers: extract, call, map.

pub(crate) mod agents;
pub(crate) mod artefacts;
pub(crate) mod ask;
pub(crate) mod blobs;
pub(crate) mod events;
pub(crate) mod jobs;
pub(crate) mod keys;
pub(crate) mod system;
pub(crate) mod worker;
