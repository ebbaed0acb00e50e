//! The price table: which row rules a call, and what a usage costs by it.

use std::collections::HashMap;

use df_contract::{NanoUsd, Timestamp, Tokens, digest_json};

use crate::calendar::Day;
use crate::config::{ConfigError, Price, Tier};
use crate::ledger::{Amount, PriceVersion};
use crate::usage::Usage;

const TOKENS_PER_PRICE: u128 = 1_000_000;

/// All prices, by model.
#[derive(Debug, Default)]
pub(crate) struct Prices(HashMap<String, Vec<Row>>);

#[derive(Debug)]
struct Row {
    price: Price,
    version: PriceVersion,
}

/// What is being bought.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Purchase<'a> {
    pub(crate) model: &'a str,
    /// Of the account.
    pub(crate) provider: Option<&'a str>,
    pub(crate) tier: Tier,
    /// When it was asked for: a price that changes during a call does not change the call's.
    pub(crate) at: Timestamp,
}

impl Prices {
    pub(crate) fn new(prices: &[Price]) -> Result<Self, ConfigError> {
        let mut by_model: HashMap<String, Vec<Row>> = HashMap::new();
        for price in prices {
            let digest = digest_json(price)
                .map_err(|_| ConfigError::Invalid(format!("the price of `{}` has no form", price.model)))?;
            let mut version = [0; 8];
            hex::decode_to_slice(&digest.as_str()[..16], &mut version)
                .map_err(|_| ConfigError::Invalid("a digest is no hex".into()))?;
            let row = Row { price: price.clone(), version: PriceVersion(version) };
            by_model.entry(price.model.clone()).or_default().push(row);
        }
        Ok(Self(by_model))
    }

    /// What `usage` costs; none if nothing prices it. Rounded up per counter: a fraction is never given away.
    pub(crate) fn charge(&self, of: Purchase<'_>, usage: Usage) -> Option<Amount> {
        let row = self.row(of, usage.all_input())?;
        let p = &row.price;
        let (input, output) = (p.input_nano_usd_per_million, p.output_nano_usd_per_million);
        let write_5m = p.cache_write_5m_nano_usd_per_million.unwrap_or(input);
        let parts = [
            (usage.uncached_input, input),
            (usage.cache_read, p.cache_read_nano_usd_per_million.unwrap_or(input)),
            (usage.cache_write_5m, write_5m),
            (usage.cache_write_1h, p.cache_write_1h_nano_usd_per_million.unwrap_or(write_5m)),
            (usage.output, output),
            (usage.reasoning, p.reasoning_nano_usd_per_million.unwrap_or(output)),
        ];
        let sum = parts.into_iter().map(|(tokens, price)| cost(tokens, price));
        let nano_usd = sum.fold(NanoUsd(p.request_nano_usd), NanoUsd::saturating_add);
        Some(Amount { usage, nano_usd, price: Some(row.version) })
    }

    /// The provider's own rows before those for all; then the latest day that has come; then the highest band that
    /// is reached. A tier without rows costs what the usual one does, but never `priority`, which costs more.
    fn row(&self, of: Purchase<'_>, input: Tokens) -> Option<&Row> {
        let today = Some(Day::of(of.at));
        let rows: Vec<&Row> = self.0.get(of.model)?.iter().filter(|row| row.price.from <= today).collect();
        let find = |provider: Option<&str>, tier: Tier| {
            let mine = || {
                rows.iter().filter(move |r| r.price.provider.as_deref() == provider && r.price.tier == tier)
            };
            let from = mine().map(|r| r.price.from).max()?;
            mine()
                .filter(|r| r.price.from == from && r.price.min_input_tokens <= input.0)
                .max_by_key(|r| r.price.min_input_tokens)
        };
        let either = |tier| of.provider.and_then(|p| find(Some(p), tier)).or_else(|| find(None, tier));
        match of.tier {
            Tier::Standard | Tier::Priority => either(of.tier).copied(),
            Tier::Batch | Tier::Flex => either(of.tier).or_else(|| either(Tier::Standard)).copied(),
        }
    }
}

fn cost(tokens: Tokens, per_million: u64) -> NanoUsd {
    let exact = (u128::from(tokens.0) * u128::from(per_million)).div_ceil(TOKENS_PER_PRICE);
    NanoUsd(u64::try_from(exact).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-03-01 00:00 UTC.
    const MARCH: Timestamp = Timestamp(1_772_323_200_000);

    fn table(rows: &str) -> Prices {
        let head = "listen = '127.0.0.1:0'\ndata_dir = 'd'\ngrant_key = 'k'\n";
        let config =
            crate::config::Config::parse(&format!("{head}{rows}"), std::path::Path::new("/")).unwrap();
        Prices::new(&config.prices).unwrap()
    }

    fn row(rest: &str) -> String {
        format!("[[prices]]\nmodel = 'm'\noutput_nano_usd_per_million = 0\n{rest}\n")
    }

    /// What 1,000,000 uncached tokens of input cost.
    fn input_price(
        prices: &Prices,
        provider: Option<&str>,
        tier: Tier,
        at: Timestamp,
        input: u64,
    ) -> Option<u64> {
        let usage = Usage::plain(Tokens(input), Tokens::ZERO);
        let amount = prices.charge(Purchase { model: "m", provider, tier, at }, usage)?;
        Some(amount.nano_usd.0 * 1_000_000 / input)
    }

    #[test]
    fn money_is_rounded_up_per_counter_and_never_wraps() {
        let prices = table(
            "[prices.m]\ninput_nano_usd_per_million = 150000000\noutput_nano_usd_per_million = 1\n
             [prices.huge]\ninput_nano_usd_per_million = 9223372036854775807\noutput_nano_usd_per_million = 9223372036854775807",
        );
        let of = |model| Purchase { model, provider: None, tier: Tier::Standard, at: MARCH };
        let charge = |model, usage| prices.charge(of(model), usage).unwrap().nano_usd;
        assert_eq!(charge("m", Usage::plain(Tokens(1_000), Tokens(1))), NanoUsd(150_001));
        assert_eq!(charge("huge", Usage::plain(Tokens(u64::MAX), Tokens(u64::MAX))), NanoUsd(u64::MAX));
        assert!(prices.charge(of("unknown"), Usage::default()).is_none());
    }

    #[test]
    fn each_counter_has_its_price_and_its_default() {
        let all = row("input_nano_usd_per_million = 10000000\ncache_read_nano_usd_per_million = 1000000
             cache_write_5m_nano_usd_per_million = 12500000\ncache_write_1h_nano_usd_per_million = 20000000
             reasoning_nano_usd_per_million = 7000000\nrequest_nano_usd = 3");
        let few = row("input_nano_usd_per_million = 10000000").replace("million = 0", "million = 5000000");
        let usage = Usage {
            uncached_input: Tokens(1),
            cache_read: Tokens(100),
            cache_write_5m: Tokens(10_000),
            cache_write_1h: Tokens(1_000_000),
            output: Tokens(0),
            reasoning: Tokens(100_000_000),
        };
        let charge = |rows: &str| {
            let of = Purchase { model: "m", provider: None, tier: Tier::Standard, at: MARCH };
            table(rows).charge(of, usage).unwrap().nano_usd.0
        };
        assert_eq!(charge(&all), 10 + 100 + 125_000 + 20_000_000 + 700_000_000 + 3);
        assert_eq!(charge(&few), 10 + 1_000 + 100_000 + 10_000_000 + 500_000_000);
    }

    #[test]
    fn days_bands_providers_and_tiers_choose_the_row() {
        let rows = [
            row("input_nano_usd_per_million = 1000000"),
            row("input_nano_usd_per_million = 2000000\nmin_input_tokens = 200"),
            row("input_nano_usd_per_million = 3000000\nfrom = '2026-03-01'"),
            row("input_nano_usd_per_million = 4000000\nfrom = '2999-01-01'"),
            row("input_nano_usd_per_million = 5000000\nprovider = 'azure'"),
            row("input_nano_usd_per_million = 6000000\ntier = 'batch'"),
        ];
        let prices = table(&rows.concat());
        let before = Timestamp(MARCH.0 - 1);
        for (provider, tier, at, input, expect) in [
            (None, Tier::Standard, before, 199, Some(1_000_000)),
            (None, Tier::Standard, before, 200, Some(2_000_000)),
            (None, Tier::Standard, MARCH, 100, Some(3_000_000)),
            // The new day restates no band, so it has none.
            (None, Tier::Standard, MARCH, 200, Some(3_000_000)),
            (Some("azure"), Tier::Standard, MARCH, 200, Some(5_000_000)),
            (Some("other"), Tier::Standard, MARCH, 200, Some(3_000_000)),
            (None, Tier::Batch, MARCH, 200, Some(6_000_000)),
            (None, Tier::Flex, MARCH, 200, Some(3_000_000)),
            (None, Tier::Priority, MARCH, 200, None),
        ] {
            assert_eq!(
                input_price(&prices, provider, tier, at, input),
                expect,
                "{provider:?} {tier:?} {input}"
            );
        }
    }

    #[test]
    fn a_version_names_the_row_by_its_content() {
        let version = |rows: &str| {
            let of = Purchase { model: "m", provider: None, tier: Tier::Standard, at: MARCH };
            table(rows).charge(of, Usage::default()).unwrap().price.unwrap()
        };
        let first = row("input_nano_usd_per_million = 1");
        assert_eq!(version(&first), version(&first));
        assert_ne!(version(&first), version(&row("input_nano_usd_per_million = 2")));
    }
}
