//! Chunks of a stream to the message they spell, and a message to chunks.

use df_contract::Timestamp;
use serde_json::{Map, Value, json};

use crate::recording::Response;
use crate::usage::{Said, Usage};

/// Most tool calls of one message.
const MAX_TOOL_CALLS: usize = 256;

/// The first choice of a stream as it grows.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    content: String,
    calls: Vec<Map<String, Value>>,
    finish_reason: Option<String>,
    pub(crate) said: Option<Said>,
}

impl Assembly {
    /// Adds a chunk; says whether it carries something generated, so that the answer has begun.
    pub(crate) fn push(&mut self, chunk: &Value) -> bool {
        if let Some(said) = Said::of_openai(chunk) {
            self.said = Some(said);
        }
        let mut generated = false;
        for choice in chunk["choices"].as_array().into_iter().flatten() {
            let delta = &choice["delta"];
            let said = ["content", "reasoning_content", "reasoning", "refusal"];
            generated |= said.iter().any(|name| delta[*name].as_str().is_some_and(|t| !t.is_empty()));
            generated |= delta["tool_calls"].as_array().is_some_and(|calls| !calls.is_empty());
            generated |= choice["finish_reason"].is_string();
            if choice["index"].as_u64().unwrap_or(0) == 0 {
                self.content.push_str(delta["content"].as_str().unwrap_or_default());
                delta["tool_calls"].as_array().into_iter().flatten().for_each(|call| self.push_call(call));
                if let Some(reason) = choice["finish_reason"].as_str() {
                    self.finish_reason = Some(reason.to_owned());
                }
            }
        }
        generated
    }

    fn push_call(&mut self, part: &Value) {
        let index = part["index"].as_u64().and_then(|i| usize::try_from(i).ok()).unwrap_or(self.calls.len());
        if index >= MAX_TOOL_CALLS {
            return;
        }
        while self.calls.len() <= index {
            self.calls.push(Map::new());
        }
        let call = &mut self.calls[index];
        for (name, value) in [
            ("id", &part["id"]),
            ("name", &part["function"]["name"]),
            ("arguments", &part["function"]["arguments"]),
        ] {
            let Some(text) = value.as_str() else { continue };
            let known = call.get(name).and_then(Value::as_str).unwrap_or_default();
            // Arguments come in pieces; an id or name that comes again is the same one.
            let grown = if name == "arguments" { format!("{known}{text}") } else { text.to_owned() };
            call.insert(name.into(), grown.into());
        }
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.finish_reason.is_some()
    }

    /// The message, once finished.
    pub(crate) fn response(&self) -> Option<Response> {
        let finish_reason = self.finish_reason.clone()?;
        let content = if self.content.is_empty() { Value::Null } else { self.content.as_str().into() };
        let mut message = json!({"role": "assistant", "content": content});
        let call = |c: &Map<String, Value>| {
            let text = |name: &str| c.get(name).cloned().unwrap_or_else(|| "".into());
            json!({"id": text("id"), "type": "function",
                   "function": {"name": text("name"), "arguments": text("arguments")}})
        };
        if !self.calls.is_empty() {
            message["tool_calls"] = self.calls.iter().map(call).collect();
        }
        Some(Response { message, finish_reason })
    }
}

fn usage_json(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.all_input(),
        "completion_tokens": usage.all_output(),
        "total_tokens": usage.total(),
    })
}

/// A whole completion in the API's form.
pub(crate) fn completion(id: &str, model: &str, at: Timestamp, response: &Response, usage: Usage) -> Value {
    json!({
        "id": id,
        "object": "chat.completion",
        "created": at.as_millis() / 1000,
        "model": model,
        "choices": [{"index": 0, "message": response.message, "finish_reason": response.finish_reason}],
        "usage": usage_json(usage),
    })
}

/// The chunks that spell a whole completion, the one with the usage last.
pub(crate) fn stream_of(completion: &Value) -> Vec<Value> {
    let chunk = |choices: Value| {
        let mut chunk = completion.clone();
        chunk["object"] = "chat.completion.chunk".into();
        chunk["choices"] = choices;
        if let Some(fields) = chunk.as_object_mut() {
            fields.remove("usage");
        }
        chunk
    };
    let mut chunks = Vec::new();
    for choice in completion["choices"].as_array().into_iter().flatten() {
        let delta = |delta: Value, finish: Value| {
            chunk(json!([{"index": choice["index"], "delta": delta, "finish_reason": finish}]))
        };
        let message = &choice["message"];
        chunks.push(delta(json!({"role": "assistant", "content": ""}), Value::Null));
        if message["content"].as_str().is_some_and(|t| !t.is_empty()) {
            chunks.push(delta(json!({"content": message["content"]}), Value::Null));
        }
        for (index, call) in message["tool_calls"].as_array().into_iter().flatten().enumerate() {
            let mut call = call.clone();
            call["index"] = index.into();
            chunks.push(delta(json!({"tool_calls": [call]}), Value::Null));
        }
        chunks.push(delta(json!({}), choice["finish_reason"].clone()));
    }
    let mut last = chunk(json!([]));
    last["usage"] = completion["usage"].clone();
    chunks.push(last);
    chunks
}

#[cfg(test)]
mod tests {
    use df_contract::Tokens;

    use super::*;

    #[test]
    fn a_message_survives_being_cut_into_chunks() {
        let response = Response {
            message: json!({"role": "assistant", "content": "héllo", "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "run", "arguments": "{\"x\":1}"}},
                {"id": "b", "type": "function", "function": {"name": "edit", "arguments": "{}"}},
            ]}),
            finish_reason: "tool_calls".into(),
        };
        let usage = Usage::plain(Tokens(7), Tokens(3));
        let whole = completion("id", "m", Timestamp(5_000), &response, usage);
        assert_eq!(Said::of_openai(&whole).map(|s| s.usage), Some(usage));
        let mut assembly = Assembly::default();
        let begun: Vec<bool> = stream_of(&whole).iter().map(|c| assembly.push(c)).collect();
        assert_eq!(begun, [false, true, true, true, true, false]);
        assert_eq!((assembly.response().unwrap(), assembly.said.map(|s| s.usage)), (response, Some(usage)));
    }

    #[test]
    fn arguments_that_come_in_pieces_are_joined() {
        let mut assembly = Assembly::default();
        for part in [
            json!({"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}),
            json!({"index": 0, "function": {"arguments": "{\"a\""}}),
            json!({"index": 0, "function": {"arguments": ":1}"}}),
        ] {
            assembly.push(&json!({"choices": [{"index": 0, "delta": {"tool_calls": [part]}}]}));
        }
        assert!(!assembly.is_finished());
        assembly.push(&json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}));
        let call = &assembly.response().unwrap().message["tool_calls"][0];
        assert_eq!((&call["function"]["arguments"], &call["id"]), (&"{\"a\":1}".into(), &"c".into()));
    }
}
