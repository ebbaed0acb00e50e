//! Recorded conversations: how they are written, read and matched (docs/recordings.md).
//!
//! A request fits an entry when the task's slug, the step (assistant messages so far) and the normalised non-system
//! messages are the same. Nothing else takes part, above all no job id. What the normalisation removes is listed in
//! [`normalise`].

mod entry;
mod frames;
mod normalise;
mod replay;
mod writer;

pub(crate) use entry::{Entry, Fingerprint, RecordedUsage, Response};
pub(crate) use replay::Recording;
pub use replay::RecordingError;
pub(crate) use writer::Recorder;
