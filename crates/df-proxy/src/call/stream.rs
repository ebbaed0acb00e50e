//! A streamed upstream attempt. Nothing is passed on before the first generated token, so that until then another
//! account can take over, even when the error comes inside a 200 stream.

use reqwest::Response as HttpResponse;
use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::{Call, Client, Ended, Frame, whole};
use crate::accounts::{OpenAi, classify_in_stream};
use crate::core::Core;
use crate::select::Lane;
use crate::upstream::{Assembly, Events, MAX_RESPONSE_BYTES, Opened, STREAM_END, read_whole, stream_of};
use crate::usage::Said;

pub(super) async fn answer(
    core: &Core,
    call: &Call,
    server: &OpenAi,
    lane: &Lane,
    client: &mut Client,
) -> Ended {
    let Ok(body) = whole::body(core, call, server) else {
        return Ended::failed("the request could not be written");
    };
    let opened = match timeout(core.limits.idle_timeout(), core.clients.open(server, body, lane)).await {
        Ok(Ok(opened)) => opened,
        Ok(Err(failure)) => return Ended::Failed(failure),
        Err(_elapsed) => return Ended::failed("no answer in time"),
    };
    let mut relay = Relay::new(call.request.wants_usage);
    if opened.is_json {
        return whole_as_stream(core, opened, relay, client).await;
    }
    match relay.run(core, opened.response, client).await {
        Stop::Complete => relay.complete(client).await,
        Stop::Told(ended) => ended,
        Stop::Broken(what) if relay.begun => {
            tracing::warn!(what, "an upstream broke off in the middle of its answer");
            Ended::BrokenOff
        }
        Stop::Broken(what) => Ended::failed(what),
    }
}

/// Some servers answer a request for a stream with one JSON body: a client that waits for events would wait for ever.
async fn whole_as_stream(core: &Core, opened: Opened, mut relay: Relay, client: &mut Client) -> Ended {
    let read = timeout(core.limits.idle_timeout(), read_whole(opened.response)).await;
    let Ok(Ok(bytes)) = read else { return Ended::failed("the answer broke off") };
    let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    if !value["error"].is_null() {
        return Ended::Failed(classify_in_stream(&value));
    }
    if !value["choices"].is_array() {
        return Ended::failed("the answer has no choices");
    }
    for chunk in stream_of(&value) {
        relay.take(chunk.to_string(), &chunk, client).await;
    }
    relay.assembly.said = Said::of_openai(&value);
    relay.complete(client).await
}

/// Why reading ended.
enum Stop {
    Complete,
    Told(Ended),
    Broken(&'static str),
}

struct Relay {
    wants_usage: bool,
    begun: bool,
    waiting: Vec<String>,
    assembly: Assembly,
    bytes: usize,
}

impl Relay {
    fn new(wants_usage: bool) -> Self {
        Self { wants_usage, begun: false, waiting: Vec::new(), assembly: Assembly::default(), bytes: 0 }
    }

    async fn run(&mut self, core: &Core, mut response: HttpResponse, client: &mut Client) -> Stop {
        let mut events = Events::default();
        let mut drain_until: Option<Instant> = None;
        loop {
            let idle = Instant::now() + core.limits.idle_timeout();
            let until = drain_until.map_or(idle, |drain| drain.min(idle));
            let chunk = tokio::select! {
                chunk = tokio::time::timeout_at(until, response.chunk()) => chunk,
                () = client.left(), if drain_until.is_none() => {
                    drain_until = Some(Instant::now() + core.limits.drain_timeout());
                    continue;
                }
            };
            let (bytes, last) = match chunk {
                Ok(Ok(Some(bytes))) => (bytes, false),
                Ok(Ok(None)) => (bytes::Bytes::new(), true),
                Ok(Err(_)) => return Stop::Broken("the connection broke"),
                Err(_elapsed) => return Stop::Broken("no data in time"),
            };
            self.bytes += bytes.len();
            if self.bytes > MAX_RESPONSE_BYTES {
                return Stop::Broken("the answer is too large");
            }
            let Ok(mut complete) = events.push(&bytes) else {
                return Stop::Broken("an event cannot be read");
            };
            if last {
                complete.extend(events.rest());
            }
            for data in complete {
                if let Some(stop) = self.event(data, client).await {
                    return stop;
                }
            }
            if last {
                return self.end();
            }
        }
    }

    fn end(&self) -> Stop {
        if self.assembly.is_finished() {
            Stop::Complete
        } else {
            Stop::Broken("the stream ended without a finish reason")
        }
    }

    async fn event(&mut self, data: String, client: &mut Client) -> Option<Stop> {
        if data.trim() == STREAM_END {
            return Some(self.end());
        }
        let Ok(chunk) = serde_json::from_str::<Value>(&data) else {
            return Some(Stop::Broken("an event is no JSON"));
        };
        if !chunk["error"].is_null() {
            let told = if self.begun { Ended::BrokenOff } else { Ended::Failed(classify_in_stream(&chunk)) };
            return Some(Stop::Told(told));
        }
        // A line end within JSON means nothing there; to the client it would end the event's line.
        let data = if data.contains(['\n', '\r']) { chunk.to_string() } else { data };
        self.take(data, &chunk, client).await;
        None
    }

    async fn take(&mut self, data: String, chunk: &Value, client: &mut Client) {
        let generated = self.assembly.push(chunk);
        let only_usage =
            chunk["usage"].is_object() && chunk["choices"].as_array().is_none_or(|c| c.is_empty());
        if !only_usage || self.wants_usage {
            self.waiting.push(data);
        }
        if generated && !self.begun {
            self.begin(client).await;
        }
        if self.begun {
            for data in self.waiting.drain(..) {
                client.send(Frame::Event(data)).await;
            }
        }
    }

    async fn begin(&mut self, client: &mut Client) {
        self.begun = true;
        client.send(Frame::Begin { recording: None }).await;
    }

    async fn complete(mut self, client: &mut Client) -> Ended {
        if !self.begun {
            self.begin(client).await;
        }
        let rest = self.waiting.drain(..).map(Frame::Event).chain([Frame::End]).collect();
        Ended::Answered { said: self.assembly.said, response: self.assembly.response(), last: rest }
    }
}
