//! The client's end of a call: a bounded line of frames.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::clock;
use crate::error::CallError;
use crate::select::At;

/// Frames waiting for a slow client.
const FRAME_QUEUE: usize = 64;
/// A client that takes nothing for this long counts as gone.
const STALL_LIMIT: Duration = Duration::from_secs(120);

/// What is told to the client, in this order: `Begin`, then `Event`s and `End`, or one `Whole`; `Fail` at any time is
/// the last.
#[derive(Debug)]
pub(crate) enum Frame {
    /// The answer begins. `recording` is the value of the header `x-devfactory-recording`.
    Begin {
        recording: Option<&'static str>,
    },
    Event(String),
    Whole(Bytes),
    End,
    Fail(CallError),
}

#[derive(Debug)]
pub(crate) struct Client {
    frames: mpsc::Sender<Frame>,
    gone: bool,
    begun: Option<At>,
}

impl Client {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Frame>) {
        let (frames, receiver) = mpsc::channel(FRAME_QUEUE);
        (Self { frames, gone: false, begun: None }, receiver)
    }

    /// Sends a frame; a client that has gone or stalls gets nothing more.
    pub(crate) async fn send(&mut self, frame: Frame) {
        if matches!(frame, Frame::Begin { .. }) {
            self.begun = Some(clock::steady());
        }
        if !self.gone {
            self.gone = !matches!(timeout(STALL_LIMIT, self.frames.send(frame)).await, Ok(Ok(())));
        }
    }

    /// When the answer began, whether or not the client still saw it.
    pub(crate) fn begun(&self) -> Option<At> {
        self.begun
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone || self.frames.is_closed()
    }

    /// Returns when the client goes.
    pub(crate) async fn left(&self) {
        if !self.gone {
            self.frames.closed().await;
        }
    }
}
