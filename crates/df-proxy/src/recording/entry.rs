//! One recorded call, and what of a request is compared with it.

use df_contract::{Digest, TaskSlug, Tokens, digest_json};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::normalise::{normalise_text, normalise_value};

/// A line of a recording.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    pub(crate) task: TaskSlug,
    pub(crate) step: u64,
    pub(crate) model: String,
    /// SHA-256 over the canonical JSON of `messages`; found again from `messages` when the recording is read.
    pub(crate) messages_key: Digest,
    /// Normalised and without system messages, kept so that a first difference can be shown.
    pub(crate) messages: Vec<Value>,
    pub(crate) system_digest: Digest,
    pub(crate) tools_digest: Digest,
    pub(crate) response: Response,
    pub(crate) usage: RecordedUsage,
}

/// What the model answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Response {
    pub(crate) message: Value,
    pub(crate) finish_reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecordedUsage {
    pub(crate) input_tokens: Tokens,
    pub(crate) output_tokens: Tokens,
}

/// What of a request takes part in matching.
#[derive(Debug, Clone)]
pub(crate) struct Fingerprint {
    pub(crate) step: u64,
    pub(crate) messages: Vec<Value>,
    pub(crate) messages_key: Digest,
    pub(crate) system_digest: Digest,
    pub(crate) tools_digest: Digest,
}

impl Fingerprint {
    /// None if the numbers in the request have no canonical form.
    pub(crate) fn of(messages: &[Value], tools: &Value) -> Option<Self> {
        let is_system = |m: &&Value| matches!(role(m), "system" | "developer");
        let system: Vec<String> =
            messages.iter().filter(is_system).map(|m| normalise_text(&text_of(&m["content"]))).collect();
        let step = messages.iter().filter(|m| role(m) == "assistant").count() as u64;
        let rest = normalise_messages(messages.iter().filter(|m| !is_system(m)));
        Some(Self {
            step,
            messages_key: digest_json(&rest).ok()?,
            messages: rest,
            system_digest: digest_json(&system).ok()?,
            tools_digest: digest_json(tools).ok()?,
        })
    }
}

fn role(message: &Value) -> &str {
    message["role"].as_str().unwrap_or_default()
}

/// The texts of a content: a string, or parts.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts
            .iter()
            .map(|p| p["text"].as_str().map_or_else(|| p.to_string(), str::to_owned))
            .collect::<Vec<_>>()
            .join("\n"),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Only what carries meaning is kept of a message: role, text, tool calls. Tool-call ids become their position.
pub(super) fn normalise_messages<'a>(messages: impl Iterator<Item = &'a Value>) -> Vec<Value> {
    let mut ids: Vec<String> = Vec::new();
    let mut position = |id: &str| {
        let at = ids.iter().position(|known| known == id).unwrap_or_else(|| {
            ids.push(id.to_owned());
            ids.len() - 1
        });
        format!("call_{}", at + 1)
    };
    messages
        .map(|message| {
            let mut kept = Map::new();
            kept.insert("role".into(), role(message).into());
            let text = normalise_text(&text_of(&message["content"]));
            if !text.is_empty() {
                kept.insert("content".into(), text.into());
            }
            let calls: Vec<Value> = message["tool_calls"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|call| {
                    json!({
                        "id": position(call["id"].as_str().unwrap_or_default()),
                        "name": call["function"]["name"].as_str().or(call["name"].as_str()).unwrap_or_default(),
                        "arguments": arguments_of(call),
                    })
                })
                .collect();
            if !calls.is_empty() {
                kept.insert("tool_calls".into(), calls.into());
            }
            if let Some(id) = message["tool_call_id"].as_str() {
                kept.insert("tool_call_id".into(), position(id).into());
            }
            Value::Object(kept)
        })
        .collect()
}

/// Arguments as JSON, however they are spaced; what is no JSON stays text. Also reads the form it writes.
fn arguments_of(call: &Value) -> Value {
    let given =
        if call["function"].is_object() { &call["function"]["arguments"] } else { &call["arguments"] };
    let mut value = match given {
        Value::String(text) => serde_json::from_str(text).unwrap_or_else(|_| given.clone()),
        other => other.clone(),
    };
    normalise_value(&mut value, 0);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation(id: &str, arguments: &str, output: &str) -> Vec<Value> {
        vec![
            json!({"role": "system", "content": "be good"}),
            json!({"role": "user", "content": [{"type": "text", "text": "fix /tmp/tmpab12cd34/x/app.py"}]}),
            json!({"role": "assistant", "content": null, "reasoning_content": "hm",
                   "tool_calls": [{"id": id, "type": "function", "function": {"name": "run", "arguments": arguments}}]}),
            json!({"role": "tool", "tool_call_id": id, "content": output}),
        ]
    }

    #[test]
    fn what_varies_between_runs_does_not_change_the_key() {
        let a = Fingerprint::of(
            &conversation("call_x", r#"{"cmd":"t","n":1}"#, "Ran 1 test in 0.1s"),
            &Value::Null,
        )
        .unwrap();
        let b = Fingerprint::of(
            &conversation("call_y", r#"{"n": 1, "cmd": "t"}"#, "Ran 1 test in 9.7s\r\n"),
            &Value::Null,
        )
        .unwrap();
        assert_eq!((a.step, &a.messages_key), (1, &b.messages_key));
        let c = Fingerprint::of(
            &conversation("call_x", r#"{"cmd":"t","n":1}"#, "Ran 2 tests in 0.1s"),
            &Value::Null,
        )
        .unwrap();
        assert_ne!(a.messages_key, c.messages_key);
        assert_eq!(normalise_messages(a.messages.iter()), a.messages, "what is stored normalises to itself");
    }

    #[test]
    fn system_and_tools_are_digests_of_their_own() {
        let mut changed = conversation("c", "{}", "x");
        changed[0]["content"] = "be better".into();
        let a = Fingerprint::of(&conversation("c", "{}", "x"), &json!([{"type": "function"}])).unwrap();
        let b = Fingerprint::of(&changed, &Value::Null).unwrap();
        assert_eq!(a.messages_key, b.messages_key);
        assert_ne!(a.system_digest, b.system_digest);
        assert_ne!(a.tools_digest, b.tools_digest);
    }
}
