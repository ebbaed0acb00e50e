//! What the model answers.

use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::Ask;

const BYTES_PER_TOKEN: usize = 4;

/// One answer.
#[derive(Debug, Clone)]
pub struct Reply {
    what: What,
    think: Option<Duration>,
}

#[derive(Debug, Clone)]
enum What {
    Answer { text: Option<String>, calls: Vec<(String, String)> },
    Error { status: u16, message: String },
}

impl Reply {
    pub fn text(text: &str) -> Self {
        Self { what: What::Answer { text: Some(text.to_owned()), calls: Vec::new() }, think: None }
    }

    /// Tool calls: names and arguments.
    pub fn calls(calls: &[(&str, Value)]) -> Self {
        let calls =
            calls.iter().map(|(name, arguments)| ((*name).to_owned(), arguments.to_string())).collect();
        Self { what: What::Answer { text: None, calls }, think: None }
    }

    /// One call whose arguments are sent as they are.
    pub fn raw_call(name: &str, arguments: &str) -> Self {
        let calls = vec![(name.to_owned(), arguments.to_owned())];
        Self { what: What::Answer { text: None, calls }, think: None }
    }

    pub fn write(path: &str, content: &str) -> Self {
        Self::calls(&[("write", json!({"path": path, "content": content}))])
    }

    pub fn finish(summary: &str) -> Self {
        Self::calls(&[("finish", json!({"summary": summary, "commit_message": format!("test: {summary}")}))])
    }

    pub fn plan(plan: &Value) -> Self {
        Self::calls(&[("propose_plan", json!({"plan": plan}))])
    }

    /// The provider's refusal.
    pub fn error(status: u16, message: &str) -> Self {
        Self { what: What::Error { status, message: message.to_owned() }, think: None }
    }

    /// The same after a while: something must be under way when a process is killed.
    pub fn after(mut self, think: Duration) -> Self {
        self.think = Some(think);
        self
    }

    pub(crate) fn thinks_for(&self) -> Option<Duration> {
        self.think
    }

    pub(crate) fn is_answer(&self) -> bool {
        matches!(self.what, What::Answer { .. })
    }

    pub(crate) fn tokens(&self) -> u64 {
        let bytes = match &self.what {
            What::Answer { text, calls } => {
                let calls: usize = calls.iter().map(|(name, arguments)| name.len() + arguments.len()).sum();
                calls + text.as_ref().map_or(0, String::len)
            }
            What::Error { .. } => 0,
        };
        (bytes / BYTES_PER_TOKEN) as u64 + 1
    }

    pub(crate) fn into_response(self, ask: &Ask, input: u64, output: u64) -> Response {
        let (text, calls) = match self.what {
            What::Answer { text, calls } => (text, calls),
            What::Error { status, message } => {
                let status = StatusCode::from_u16(status).expect("a status");
                return (status, axum::Json(json!({"error": {"message": message}}))).into_response();
            }
        };
        let reason = if calls.is_empty() { "stop" } else { "tool_calls" };
        let calls: Vec<Value> = calls
            .iter()
            .enumerate()
            .map(|(n, (name, arguments))| {
                let id = format!("call_{}_{n}", ask.turn());
                json!({"index": n, "id": id, "type": "function",
                       "function": {"name": name, "arguments": arguments}})
            })
            .collect();
        let mut message = json!({"role": "assistant", "content": text});
        if !calls.is_empty() {
            message["tool_calls"] = calls.into();
        }
        let usage =
            json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output});
        let model = &ask.request["model"];
        if !ask.streams() {
            return axum::Json(
                json!({"id": "scripted", "object": "chat.completion", "created": 0, "model": model,
                "choices": [{"index": 0, "message": message, "finish_reason": reason}], "usage": usage}),
            )
            .into_response();
        }
        let chunk = |choices: Value, usage: &Value| {
            json!({"id": "scripted", "object": "chat.completion.chunk", "created": 0, "model": model,
                   "choices": choices, "usage": usage})
        };
        let chunks = [
            chunk(json!([{"index": 0, "delta": message, "finish_reason": null}]), &Value::Null),
            chunk(json!([{"index": 0, "delta": {}, "finish_reason": reason}]), &Value::Null),
            chunk(json!([]), &usage),
        ];
        let mut body: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
        body.push_str("data: [DONE]\n\n");
        ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
    }
}
