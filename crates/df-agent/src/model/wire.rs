//! The chat completion dialect: what is sent, and answers put together from their pieces.

use df_contract::Tokens;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Tool calls in one answer.
pub(crate) const TOOL_CALLS_MAX: usize = 64;

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    System(String),
    User(String),
    Assistant { content: Option<String>, tool_calls: Vec<ToolCall> },
    Tool { call_id: String, content: String },
}

/// A tool call as the model wrote it; `arguments` should be JSON.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct ToolCall {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) arguments: String,
}

impl Message {
    pub(crate) fn to_json(&self) -> Value {
        match self {
            Message::System(text) => json!({"role": "system", "content": text}),
            Message::User(text) => json!({"role": "user", "content": text}),
            Message::Assistant { content, tool_calls } if tool_calls.is_empty() => {
                json!({"role": "assistant", "content": content.as_deref().unwrap_or("")})
            }
            Message::Assistant { content, tool_calls } => {
                let calls: Vec<Value> = tool_calls.iter().map(ToolCall::to_json).collect();
                json!({"role": "assistant", "content": content, "tool_calls": calls})
            }
            Message::Tool { call_id, content } => {
                json!({"role": "tool", "tool_call_id": call_id, "content": content})
            }
        }
    }

    /// Bytes the message takes of the context.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Message::System(text) | Message::User(text) | Message::Tool { content: text, .. } => text.len(),
            Message::Assistant { content, tool_calls } => {
                let calls: usize = tool_calls.iter().map(|c| c.name.len() + c.arguments.len()).sum();
                calls + content.as_ref().map_or(0, String::len)
            }
        }
    }
}

impl ToolCall {
    fn to_json(&self) -> Value {
        let function = json!({"name": self.name, "arguments": self.arguments});
        json!({"id": self.id, "type": "function", "function": function})
    }
}

/// Why the model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stop {
    Done,
    /// The answer was cut off at the output limit.
    Length,
    /// The provider withheld the answer.
    Filtered,
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) content: Option<String>,
    pub(crate) tool_calls: Vec<ToolCall>,
    pub(crate) stop: Stop,
    /// Input and output; absent when the server counts nothing.
    pub(crate) usage: Option<(Tokens, Tokens)>,
}

/// One `data:` chunk of a stream, or a whole answer: only what is used of it.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<UsageCount>,
    /// An error that arrives inside a stream.
    pub(crate) error: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(alias = "message", default)]
    delta: Delta,
    finish_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Delta {
    content: Option<String>,
    tool_calls: Option<Vec<CallDelta>>,
}

#[derive(Debug, Deserialize)]
struct CallDelta {
    index: Option<usize>,
    id: Option<String>,
    #[serde(default)]
    function: FunctionDelta,
}

#[derive(Debug, Default, Deserialize)]
struct FunctionDelta {
    name: Option<String>,
    arguments: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct UsageCount {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

/// An answer in the making.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    content: String,
    calls: Vec<ToolCall>,
    stop: Option<Stop>,
    usage: Option<UsageCount>,
}

impl Assembly {
    /// Adds a chunk; false when it has more tool calls than allowed.
    pub(crate) fn push(&mut self, chunk: Chunk) -> bool {
        self.usage = chunk.usage.or(self.usage);
        let Some(choice) = chunk.choices.into_iter().next() else { return true };
        self.content.push_str(choice.delta.content.as_deref().unwrap_or_default());
        for call in choice.delta.tool_calls.unwrap_or_default() {
            let fresh = call.id.as_ref().is_some_and(|id| !id.is_empty())
                && self.calls.iter().all(|c| Some(&c.id) != call.id.as_ref());
            let index = match call.index {
                Some(index) => index,
                None if fresh || self.calls.is_empty() => self.calls.len(),
                None => self.calls.len() - 1,
            };
            if index >= TOOL_CALLS_MAX {
                return false;
            }
            if self.calls.len() <= index {
                self.calls.resize(index + 1, ToolCall::default());
            }
            let slot = &mut self.calls[index];
            if let Some(id) = call.id.filter(|id| !id.is_empty()) {
                slot.id = id;
            }
            slot.name.push_str(call.function.name.as_deref().unwrap_or_default());
            slot.arguments.push_str(call.function.arguments.as_deref().unwrap_or_default());
        }
        if let Some(reason) = choice.finish_reason {
            self.stop = Some(match reason.as_str() {
                "length" => Stop::Length,
                "content_filter" => Stop::Filtered,
                _ => Stop::Done,
            });
        }
        true
    }

    /// The answer, if it came to its end. Calls without an id get one from their place.
    pub(crate) fn finish(self) -> Option<Answer> {
        let stop = self.stop?;
        let named = |(n, mut call): (usize, ToolCall)| {
            if call.id.is_empty() {
                call.id = format!("call_{n}");
            }
            call
        };
        let usage = self.usage.map(|u| (Tokens(u.prompt_tokens), Tokens(u.completion_tokens)));
        Some(Answer {
            content: Some(self.content).filter(|text| !text.is_empty()),
            tool_calls: self
                .calls
                .into_iter()
                .filter(|c| !c.name.is_empty())
                .enumerate()
                .map(named)
                .collect(),
            stop,
            usage,
        })
    }
}
