//! Prices as an operator writes them: rows, or the short form by model.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::ConfigError;
use crate::calendar::Day;

/// Most rows of a price table.
pub const MAX_PRICES: usize = 20_000;
/// Longest file of prices read, in bytes.
const MAX_PRICE_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// What a model costs from a day on, at a tier, from a size of the prompt on. Money in nano-USD per million tokens
/// (1 USD per million = 1,000,000,000).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    pub model: String,
    /// The accounts this price is for, by their `provider`; all when absent. A row that names it goes before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    #[serde(default)]
    pub tier: Tier,
    /// First day it holds, UTC; always when absent. The latest day that has come rules, with all its bands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Day>,
    /// It holds for prompts of at least so many tokens; the highest band that is reached rules.
    #[serde(default)]
    pub min_input_tokens: u64,
    /// Input that no cache served.
    pub input_nano_usd_per_million: u64,
    /// As input unless given; the same for what is written to a cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read_nano_usd_per_million: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_5m_nano_usd_per_million: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_1h_nano_usd_per_million: Option<u64>,
    pub output_nano_usd_per_million: u64,
    /// As output unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_nano_usd_per_million: Option<u64>,
    /// Nano-USD for each request.
    #[serde(default)]
    pub request_nano_usd: u64,
}

/// How urgently a provider is asked to answer; each has a price of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    #[default]
    Standard,
    Batch,
    Flex,
    Priority,
}

impl Tier {
    /// From the field `service_tier`; all names but these three mean the usual one.
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "batch" => Tier::Batch,
            "flex" => Tier::Flex,
            "priority" => Tier::Priority,
            _usual => Tier::Standard,
        }
    }
}

/// The short form: `[prices.MODEL]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Short {
    input_nano_usd_per_million: u64,
    output_nano_usd_per_million: u64,
}

impl Short {
    fn price(self, model: String) -> Price {
        Price {
            model,
            provider: None,
            tier: Tier::Standard,
            from: None,
            min_input_tokens: 0,
            input_nano_usd_per_million: self.input_nano_usd_per_million,
            cache_read_nano_usd_per_million: None,
            cache_write_5m_nano_usd_per_million: None,
            cache_write_1h_nano_usd_per_million: None,
            output_nano_usd_per_million: self.output_nano_usd_per_million,
            reasoning_nano_usd_per_million: None,
            request_nano_usd: 0,
        }
    }
}

/// `[[prices]]` rows, or `[prices.MODEL]`.
pub(super) fn either<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Price>, D::Error> {
    struct Either;
    impl<'de> Visitor<'de> for Either {
        type Value = Vec<Price>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("rows of [[prices]], or [prices.MODEL]")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<Vec<Price>, A::Error> {
            let mut all = Vec::new();
            while let Some(row) = rows.next_element()? {
                all.push(row);
            }
            Ok(all)
        }
        fn visit_map<A: MapAccess<'de>>(self, mut models: A) -> Result<Vec<Price>, A::Error> {
            let mut all = BTreeMap::new();
            while let Some((model, short)) = models.next_entry::<String, Short>()? {
                all.insert(model, short);
            }
            Ok(all.into_iter().map(|(model, short)| short.price(model)).collect())
        }
    }
    from.deserialize_any(Either)
}

/// The rows of a JSONL file, one price a line; empty lines are passed over.
pub(super) fn read_file(path: &Path) -> Result<Vec<Price>, ConfigError> {
    let read = |source| ConfigError::Read { path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(read)?.len() > MAX_PRICE_FILE_BYTES {
        return Err(ConfigError::Invalid(format!(
            "the file {} is larger than {MAX_PRICE_FILE_BYTES} bytes",
            path.display()
        )));
    }
    let text = std::fs::read_to_string(path).map_err(read)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let parsed = lines.map(|(at, line)| {
        serde_json::from_str(line)
            .map_err(|e| ConfigError::Invalid(format!("{}, line {}: {e}", path.display(), at + 1)))
    });
    parsed.collect()
}

/// Two rows for the same thing would leave the price to chance.
pub(super) fn check(prices: &[Price]) -> Result<(), ConfigError> {
    if prices.len() > MAX_PRICES {
        return Err(ConfigError::Invalid(format!("more than {MAX_PRICES} prices")));
    }
    let mut known = std::collections::BTreeSet::new();
    for p in prices {
        if !known.insert((&p.model, &p.provider, p.tier as u8, p.from, p.min_input_tokens)) {
            return Err(ConfigError::Invalid(format!(
                "two prices of `{}` for the same provider, tier, day and size of prompt",
                p.model
            )));
        }
    }
    Ok(())
}
