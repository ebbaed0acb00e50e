//! An upstream attempt without streaming.

use serde_json::Value;
use tokio::time::sleep;

use super::{Call, Client, Ended, Frame};
use crate::accounts::{OpenAi, classify_in_stream};
use crate::core::Core;
use crate::recording::Response;
use crate::select::Lane;
use crate::upstream::read_whole;
use crate::usage::Said;

pub(super) async fn answer(
    core: &Core,
    call: &Call,
    server: &OpenAi,
    lane: &Lane,
    client: &mut Client,
) -> Ended {
    let Ok(body) = body(core, call, server) else { return Ended::failed("the request could not be written") };
    let exchange = async {
        let opened = core.clients.open(server, body, lane).await?;
        read_whole(opened.response).await
    };
    // Read on when the client has gone: the provider bills the whole answer.
    let drained = async {
        client.left().await;
        sleep(core.limits.drain_timeout()).await;
    };
    let bytes = tokio::select! {
        read = exchange => match read {
            Ok(bytes) => bytes,
            Err(failure) => return Ended::Failed(failure),
        },
        () = drained => return Ended::failed("the client left and the answer did not come"),
    };
    let Ok(value) = serde_json::from_slice::<Value>(&bytes) else {
        return Ended::failed("the answer is no JSON");
    };
    if !value["error"].is_null() {
        return Ended::Failed(classify_in_stream(&value));
    }
    if !value["choices"].is_array() {
        return Ended::failed("the answer has no choices");
    }
    client.send(Frame::Begin { recording: None }).await;
    Ended::Answered {
        said: Said::of_openai(&value),
        response: response_of(&value),
        last: vec![Frame::Whole(bytes.into())],
    }
}

/// The request as this account must get it.
pub(super) fn body(core: &Core, call: &Call, server: &OpenAi) -> Result<Vec<u8>, crate::error::CallError> {
    let model = &call.request.model;
    let name = server.models.upstream_name(model).unwrap_or(model);
    call.request.body_for(name, server.output_limit, core.limits.default_output_tokens)
}

/// The first choice of a whole completion.
pub(super) fn response_of(completion: &Value) -> Option<Response> {
    let choice = completion["choices"].get(0)?;
    Some(Response {
        message: choice["message"].clone(),
        finish_reason: choice["finish_reason"].as_str()?.to_owned(),
    })
}
