//! Commands to a running proxy, through its admin API. What they print is JSON.

use std::io::Write as _;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use df_proxy::config::Config;
use df_proxy::{AdminClient, AdminError};
use serde_json::{Value, json};

const NANO_USD_DIGITS: usize = 9;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Standing keys, for use of the proxy as a plain gateway.
    #[command(subcommand)]
    Keys(Keys),
    /// Prints every row of the ledger, one JSON object a line, oldest first.
    Usage {
        /// The number of the row to begin after.
        #[arg(long, default_value_t = 0)]
        after: u64,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Makes a key. Its text is printed once and kept nowhere.
    Add(NewKey),
    /// All keys, with what they have spent in the period that runs.
    List,
    /// Withdraws a key for ever.
    Revoke { id: String },
}

#[derive(Debug, Args)]
pub(crate) struct NewKey {
    /// Who uses it, what for.
    #[arg(long)]
    name: String,
    #[arg(long)]
    tenant: String,
    /// A model it may ask for; may be given several times. `*` = every one that is served.
    #[arg(long = "model", required = true)]
    models: Vec<String>,
    /// Most tokens, in all or in each period.
    #[arg(long)]
    tokens: Option<u64>,
    /// Most money in US dollars, in all or in each period: `12.50`.
    #[arg(long, value_parser = nano_usd)]
    usd: Option<u64>,
    /// When its spending begins anew, in UTC.
    #[arg(long, value_enum, default_value_t = Period::Never)]
    period: Period,
    /// Instant of its end, in milliseconds since 1970; it has none unless given.
    #[arg(long)]
    expires_at_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Period {
    Never,
    Day,
    Month,
}

impl Period {
    fn name(self) -> &'static str {
        match self {
            Period::Never => "never",
            Period::Day => "day",
            Period::Month => "month",
        }
    }
}

/// Dollars with up to nine decimals, exactly.
fn nano_usd(text: &str) -> Result<u64, String> {
    let wrong = || "give dollars like 12.50, with at most nine decimals".to_owned();
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(decimals) || decimals.len() > NANO_USD_DIGITS {
        return Err(wrong());
    }
    format!("{whole}{decimals:0<NANO_USD_DIGITS$}").parse().map_err(|_| wrong())
}

pub(crate) async fn run(config: &Config, command: Command) -> anyhow::Result<()> {
    let proxy = AdminClient::open(config)?;
    match command {
        Command::Keys(Keys::Add(new)) => print(&proxy.post("/keys", &wish(new)).await?),
        Command::Keys(Keys::List) => {
            let list = proxy.get("/keys").await?;
            list["keys"].as_array().into_iter().flatten().try_for_each(print)
        }
        Command::Keys(Keys::Revoke { id }) => print(&proxy.delete(&format!("/keys/{id}")).await?),
        Command::Usage { after } => usage(&proxy, after).await,
    }
}

fn wish(new: NewKey) -> Value {
    json!({
        "name": new.name,
        "tenant": new.tenant,
        "models": new.models,
        "tokens": new.tokens,
        "nano_usd": new.usd,
        "period": new.period.name(),
        "expires_at": new.expires_at_ms,
    })
}

async fn usage(proxy: &AdminClient, mut after: u64) -> anyhow::Result<()> {
    loop {
        let page = proxy.get(&format!("/ledger?after={after}")).await?;
        page["rows"].as_array().into_iter().flatten().try_for_each(print)?;
        match page["cursor"].as_u64() {
            Some(cursor) if cursor > after => after = cursor,
            Some(_) | None => return Ok(()),
        }
    }
}

fn print(value: &Value) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{value}").context("stdout is closed")
}

/// The stable code of what went wrong.
pub(crate) fn code_of(error: &AdminError) -> df_contract::ErrorCode {
    match error {
        AdminError::Refused(problem) => problem.code,
        AdminError::Config(_) => df_contract::ErrorCode::ConfigInvalid,
        AdminError::NotRunning { .. } | AdminError::Unreachable(_) => {
            df_contract::ErrorCode::UpstreamUnavailable
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_read_exactly() {
        for (text, expect) in [
            ("12.50", Some(12_500_000_000)),
            ("0.000000001", Some(1)),
            ("3", Some(3_000_000_000)),
            ("0.0000000001", None),
            (".5", None),
            ("-1", None),
            ("1e3", None),
            ("99999999999999", None),
        ] {
            assert_eq!(nano_usd(text).ok(), expect, "{text}");
        }
    }
}
