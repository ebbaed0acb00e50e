//! An answer from a recording, whole or streamed.

use serde_json::Value;

use super::{Call, Client, Ended, Frame};
use crate::clock;
use crate::recording::Recording;
use crate::upstream::{completion, stream_of};
use crate::usage::{Said, Usage};

/// Characters of the key that name a replayed answer.
const ID_CHARS: usize = 16;

pub(super) async fn answer(recording: &Recording, call: &Call, client: &mut Client) -> Ended {
    let Some(asked) = &call.fingerprint else {
        return Ended::Mismatch("the request has no canonical form, so nothing recorded can fit it".into());
    };
    let fit = match recording.find(&call.caller.task, asked) {
        Ok(fit) => fit,
        Err(difference) => return Ended::Mismatch(difference),
    };
    let entry = fit.entry;
    let usage = Usage::plain(entry.usage.input_tokens, entry.usage.output_tokens);
    let id = format!("chatcmpl-{}", entry.messages_key.as_str().get(..ID_CHARS).unwrap_or_default());
    let whole = completion(&id, &call.request.model, clock::now(), &entry.response, usage);
    client.send(Frame::Begin { recording: Some(fit.header()) }).await;
    let last = if call.request.stream {
        let hide_usage = |chunk: &Value| call.request.wants_usage || chunk["usage"].is_null();
        let events = stream_of(&whole).into_iter().filter(hide_usage).map(|c| Frame::Event(c.to_string()));
        events.chain([Frame::End]).collect()
    } else {
        vec![Frame::Whole(whole.to_string().into())]
    };
    Ended::Answered { said: Some(Said { usage, tier: None }), response: None, last }
}
