//! What a call used, in counters that do not overlap, whatever the dialect it was said in.

use df_contract::Tokens;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::Tier;

/// Most tokens that one call can ask for or be said to have used. More is a lie or a mistake, and sums of it would
/// mean nothing.
pub(crate) const MAX_CALL_TOKENS: u64 = 1 << 32;

/// Tokens by what they cost. The counters are disjoint: their sum is what was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Usage {
    pub(crate) uncached_input: Tokens,
    pub(crate) cache_read: Tokens,
    pub(crate) cache_write_5m: Tokens,
    pub(crate) cache_write_1h: Tokens,
    pub(crate) output: Tokens,
    pub(crate) reasoning: Tokens,
}

impl Usage {
    /// Without caches and without reasoning.
    pub(crate) fn plain(input: Tokens, output: Tokens) -> Self {
        Self { uncached_input: input, output, ..Self::default() }
    }

    /// All that was read, from a cache or not.
    pub(crate) fn all_input(&self) -> Tokens {
        self.uncached_input
            .saturating_add(self.cache_read)
            .saturating_add(self.cache_write_5m)
            .saturating_add(self.cache_write_1h)
    }

    /// All that was written, visible or not.
    pub(crate) fn all_output(&self) -> Tokens {
        self.output.saturating_add(self.reasoning)
    }

    pub(crate) fn total(&self) -> Tokens {
        self.all_input().saturating_add(self.all_output())
    }

    /// From the `usage` of a chat completion or a chunk of one; none if it does not say, or says what cannot be.
    ///
    /// `cached_tokens` and `cache_write_tokens` are parts of `prompt_tokens`, `reasoning_tokens` of
    /// `completion_tokens`. A part larger than its whole is cut down to it: the whole is what is billed.
    fn of_openai(body: &Value) -> Option<Self> {
        let usage = body["usage"].as_object()?;
        let input = count(usage, "prompt_tokens")?;
        let output = count(usage, "completion_tokens")?;
        let detail = |of: &str, name: &str| {
            usage.get(of).and_then(|d| d[name].as_u64()).filter(|n| *n <= MAX_CALL_TOKENS).unwrap_or(0)
        };
        let cache_read = detail("prompt_tokens_details", "cached_tokens").min(input);
        let cache_write = detail("prompt_tokens_details", "cache_write_tokens").min(input - cache_read);
        let reasoning = detail("completion_tokens_details", "reasoning_tokens").min(output);
        Some(Self {
            uncached_input: Tokens(input - cache_read - cache_write),
            cache_read: Tokens(cache_read),
            cache_write_5m: Tokens(cache_write),
            cache_write_1h: Tokens::ZERO,
            output: Tokens(output - reasoning),
            reasoning: Tokens(reasoning),
        })
    }
}

/// What a provider says of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) usage: Usage,
    /// The tier that served it, which may be another than was asked for.
    pub(crate) tier: Option<Tier>,
}

impl Said {
    /// From a chat completion or a chunk of one.
    pub(crate) fn of_openai(body: &Value) -> Option<Self> {
        let tier = body["service_tier"].as_str().map(Tier::named);
        Usage::of_openai(body).map(|usage| Self { usage, tier })
    }
}

/// A counter; none if it is absent or cannot be true.
fn count(usage: &Map<String, Value>, name: &str) -> Option<u64> {
    usage.get(name)?.as_u64().filter(|n| *n <= MAX_CALL_TOKENS)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parts_are_taken_out_of_their_whole() {
        let usage = Usage::of_openai(&json!({"usage": {
            "prompt_tokens": 1000, "completion_tokens": 300,
            "prompt_tokens_details": {"cached_tokens": 600, "cache_write_tokens": 150},
            "completion_tokens_details": {"reasoning_tokens": 250},
        }}))
        .unwrap();
        let numbers =
            [usage.uncached_input, usage.cache_read, usage.cache_write_5m, usage.output, usage.reasoning];
        assert_eq!(numbers.map(|t| t.0), [250, 600, 150, 50, 250]);
        assert_eq!(usage.total(), Tokens(1300), "the counters are disjoint");
    }

    #[test]
    fn a_part_never_exceeds_its_whole_and_absurd_numbers_are_no_answer() {
        let said = |usage: Value| Usage::of_openai(&json!({ "usage": usage }));
        let lie = said(json!({"prompt_tokens": 5, "completion_tokens": 2,
            "prompt_tokens_details": {"cached_tokens": 9, "cache_write_tokens": u64::MAX},
            "completion_tokens_details": {"reasoning_tokens": 3}}))
        .unwrap();
        assert_eq!((lie.all_input(), lie.all_output()), (Tokens(5), Tokens(2)));
        assert_eq!(said(json!({"prompt_tokens": u64::MAX, "completion_tokens": 2})), None);
        assert_eq!(said(json!({"prompt_tokens": 2})), None);
        assert_eq!(said(json!({"prompt_tokens": -1, "completion_tokens": 2})), None);
        assert_eq!(said(Value::Null), None);
    }
}
