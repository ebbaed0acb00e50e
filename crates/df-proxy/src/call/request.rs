//! A chat completion request: the few fields the proxy must know; all others pass through as they came.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use df_contract::{TenantId, Tokens};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::config::{OutputLimit, Tier};
use crate::error::CallError;
use crate::recording::Fingerprint;
use crate::usage::MAX_CALL_TOKENS;

/// Bytes of a request that count as one token before the provider has said.
const BYTES_PER_TOKEN: u64 = 4;
/// Most choices of one request.
const MAX_CHOICES: u64 = 16;
const MAX_MODEL_BYTES: usize = 256;
/// Messages that tell one conversation from another: the system's and the first of the user's.
const BEGINNING: usize = 2;

#[derive(Debug)]
pub(crate) struct ChatRequest {
    fields: BTreeMap<String, Box<RawValue>>,
    pub(crate) model: String,
    pub(crate) stream: bool,
    /// Whether the client wants to see the chunk with the usage.
    pub(crate) wants_usage: bool,
    pub(crate) tier: Tier,
    max_output: Option<u64>,
    choices: u64,
    bytes: u64,
    /// Hash of the first messages.
    beginning: u64,
}

#[derive(Debug, Default, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

impl ChatRequest {
    pub(crate) fn parse(body: &[u8]) -> Result<Self, CallError> {
        let invalid =
            |e: serde_json::Error| CallError::Invalid(format!("the body is no chat completion request: {e}"));
        let fields: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(body).map_err(invalid)?;
        fn field<T: for<'a> Deserialize<'a>>(
            fields: &BTreeMap<String, Box<RawValue>>,
            name: &str,
        ) -> Result<Option<T>, CallError> {
            let Some(raw) = fields.get(name) else { return Ok(None) };
            serde_json::from_str(raw.get()).map_err(|e| CallError::Invalid(format!("`{name}`: {e}")))
        }
        let model: String = field(&fields, "model")?.unwrap_or_default();
        if model.is_empty() || model.len() > MAX_MODEL_BYTES {
            return Err(CallError::Invalid("`model` must name a model".into()));
        }
        let messages = field::<Vec<Box<RawValue>>>(&fields, "messages")?.unwrap_or_default();
        if messages.is_empty() {
            return Err(CallError::Invalid("`messages` must hold at least one message".into()));
        }
        let mut beginning = DefaultHasher::new();
        messages.iter().take(BEGINNING).for_each(|message| message.get().hash(&mut beginning));
        let choices = field(&fields, "n")?.unwrap_or(1);
        if !(1..=MAX_CHOICES).contains(&choices) {
            return Err(CallError::Invalid(format!("`n` must be 1 to {MAX_CHOICES}")));
        }
        // Two names of one limit. A server may heed either, so the lower is the limit, and only one is passed on.
        let limits = [field(&fields, "max_completion_tokens")?, field(&fields, "max_tokens")?];
        let max_output = limits.into_iter().flatten().min();
        if max_output.is_some_and(|n: u64| n > MAX_CALL_TOKENS) {
            return Err(CallError::Invalid(format!("the limit on output must be at most {MAX_CALL_TOKENS}")));
        }
        Ok(Self {
            model,
            stream: field(&fields, "stream")?.unwrap_or(false),
            wants_usage: field::<StreamOptions>(&fields, "stream_options")?
                .is_some_and(|o| o.include_usage == Some(true)),
            tier: field::<String>(&fields, "service_tier")?.map_or(Tier::Standard, |name| Tier::named(&name)),
            max_output,
            choices,
            bytes: body.len() as u64,
            beginning: beginning.finish(),
            fields,
        })
    }

    pub(crate) fn input_estimate(&self) -> Tokens {
        Tokens(self.bytes.div_ceil(BYTES_PER_TOKEN))
    }

    pub(crate) fn output_estimate(&self, default: u64) -> Tokens {
        Tokens(self.max_output.unwrap_or(default).saturating_mul(self.choices))
    }

    /// The body for an account: its name of the model, usage always asked for, output always bounded.
    pub(crate) fn body_for(
        &self,
        model: &str,
        limit: OutputLimit,
        default_output: u64,
    ) -> Result<Vec<u8>, CallError> {
        let raw = |value: Value| {
            RawValue::from_string(value.to_string()).map_err(|e| CallError::Invalid(e.to_string()))
        };
        let mut fields = self.fields.clone();
        fields.insert("model".into(), raw(model.into())?);
        for either in [OutputLimit::MaxTokens, OutputLimit::MaxCompletionTokens] {
            fields.remove(either.field());
        }
        fields.insert(limit.field().into(), raw(self.max_output.unwrap_or(default_output).into())?);
        if self.stream {
            let given = self.fields.get("stream_options").and_then(|o| serde_json::from_str(o.get()).ok());
            let mut options = given.filter(Value::is_object).unwrap_or_else(|| json!({}));
            options["include_usage"] = true.into();
            fields.insert("stream_options".into(), raw(options)?);
        }
        serde_json::to_vec(&fields).map_err(|e| CallError::Invalid(e.to_string()))
    }

    /// What calls have in common that should meet the same prompt cache: what the client names, and how the conversation
    /// begins. Sub-agents of one session begin differently, and so do not all fall upon one account.
    pub(crate) fn cache_key(&self, tenant: &TenantId, session: Option<&str>) -> u64 {
        let mut hasher = DefaultHasher::new();
        tenant.as_str().hash(&mut hasher);
        session.hash(&mut hasher);
        self.fields.get("prompt_cache_key").map(|raw| raw.get()).hash(&mut hasher);
        self.beginning.hash(&mut hasher);
        hasher.finish()
    }

    pub(crate) fn fingerprint(&self) -> Option<Fingerprint> {
        let value = |name: &str| self.fields.get(name).and_then(|raw| serde_json::from_str(raw.get()).ok());
        let messages: Vec<Value> = value("messages").and_then(|m: Value| m.as_array().cloned())?;
        Fingerprint::of(&messages, &value("tools").unwrap_or_default())
    }
}

/// What is kept of an answer: role, content, tool calls. Ids of tool calls become step and position, so that a
/// recording is the same whichever provider it came from.
pub(super) fn message_to_record(message: &Value, step: u64) -> Value {
    let mut kept = json!({"role": "assistant", "content": message["content"]});
    if let Some(calls) = message["tool_calls"].as_array().filter(|calls| !calls.is_empty()) {
        let numbered = calls.iter().enumerate().map(|(i, call)| {
            json!({"id": format!("call_{step}_{i}"), "type": "function", "function": call["function"]})
        });
        kept["tool_calls"] = numbered.collect();
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ChatRequest, CallError> {
        ChatRequest::parse(text.as_bytes())
    }

    #[test]
    fn unknown_fields_pass_and_usage_is_always_asked_for() {
        let r = parse(r#"{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true,"seed":7,"tools":[{"z":1,"a":2}]}"#).unwrap();
        let body =
            String::from_utf8(r.body_for("up", OutputLimit::MaxCompletionTokens, 99).unwrap()).unwrap();
        let value: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (&value["model"], &value["seed"], &value["max_completion_tokens"]),
            (&"up".into(), &7.into(), &99.into())
        );
        assert_eq!(value["stream_options"]["include_usage"], true);
        assert!(!r.wants_usage);
        assert!(body.contains(r#"[{"z":1,"a":2}]"#), "the order inside a tool schema is the client's");
    }

    #[test]
    fn estimates_are_bytes_and_the_named_limit() {
        let text = r#"{"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens":10,"n":3}"#;
        let r = parse(text).unwrap();
        assert_eq!(r.input_estimate(), Tokens(text.len().div_ceil(4) as u64));
        assert_eq!(r.output_estimate(500), Tokens(30));
    }

    #[test]
    fn the_output_is_bounded_by_what_was_reserved_and_by_nothing_else() {
        let text = r#"{"model":"m","messages":[{}],"max_completion_tokens":1,"max_tokens":900000}"#;
        let r = parse(text).unwrap();
        assert_eq!(r.output_estimate(500), Tokens(1));
        for limit in [OutputLimit::MaxTokens, OutputLimit::MaxCompletionTokens] {
            let body: Value = serde_json::from_slice(&r.body_for("m", limit, 500).unwrap()).unwrap();
            let sent: Vec<_> = ["max_tokens", "max_completion_tokens"]
                .into_iter()
                .filter_map(|name| Some((name, body.get(name)?.as_u64()?)))
                .collect();
            assert_eq!(sent, [(limit.field(), 1)]);
        }
    }

    #[test]
    fn wrong_requests_are_named() {
        for (text, expect) in [
            ("nonsense", "no chat completion request"),
            ("[]", "no chat completion request"),
            (r#"{"messages":[{}]}"#, "`model`"),
            (r#"{"model":"m","messages":[]}"#, "`messages`"),
            (r#"{"model":"m","messages":[{}],"max_tokens":-1}"#, "`max_tokens`"),
            (r#"{"model":"m","messages":[{}],"n":1000}"#, "`n`"),
            (r#"{"model":"m","messages":[{}],"max_tokens":18446744073709551615}"#, "at most"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(matches!(error, CallError::Invalid(_)) && error.to_string().contains(expect), "{error}");
        }
    }
}
