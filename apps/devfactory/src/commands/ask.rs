//! What people ask of a job: to try again, to hear something, to spend more, to go first.

use df_contract::api::{BudgetAsk, JobView, Priority, Retry, Say, Submitted};
use df_contract::{NanoUsd, Tokens};
use serde::Serialize;

use super::{client, show};
use crate::args::Cli;

pub(crate) async fn retry(cli: &Cli, job: &str, from_start: bool, key: Option<&str>) -> anyhow::Result<()> {
    let path = format!("/v1/jobs/{job}/retry");
    let made: Submitted = client(cli)?.post_keyed(&path, &Retry { from_start }, key).await?;
    show(cli, &made, |s| format!("{}  {}\n", s.id, s.state))
}

pub(crate) async fn message(cli: &Cli, job: &str, text: &str) -> anyhow::Result<()> {
    ask(cli, job, "message", &Say { text: text.to_owned() }, |_| {
        "taken; the agent task that starts next is told\n".to_owned()
    })
    .await
}

pub(crate) async fn budget(
    cli: &Cli,
    job: &str,
    tokens: Option<u64>,
    nano_usd: Option<NanoUsd>,
) -> anyhow::Result<()> {
    let body = BudgetAsk { tokens: tokens.map(Tokens), nano_usd };
    ask(cli, job, "budget", &body, |view| match &view.budget_request {
        Some(request) => format!(
            "asked; {} approval(s) wanted: `devfactory approve {}` by somebody else\n",
            request.approval.needed, view.summary.id
        ),
        None => format!("{}  {}\n", view.summary.id, view.summary.state),
    })
    .await
}

pub(crate) async fn priority(cli: &Cli, job: &str, priority: i8) -> anyhow::Result<()> {
    let told = |view: &JobView| format!("{}  priority {}\n", view.summary.id, view.summary.priority);
    ask(cli, job, "priority", &Priority { priority }, told).await
}

pub(crate) async fn ask(
    cli: &Cli,
    job: &str,
    what: &str,
    body: &impl Serialize,
    text: impl FnOnce(&JobView) -> String,
) -> anyhow::Result<()> {
    let view: JobView = client(cli)?.post(&format!("/v1/jobs/{job}/{what}"), body).await?;
    show(cli, &view, text)
}

/// `12.50` as nano-dollars, exactly.
pub(crate) fn usd(text: &str) -> Result<NanoUsd, String> {
    let wrong =
        || format!("`{text}` is not an amount such as 12.50 with at most nine digits after the point");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return Err(wrong());
    }
    let nano: u64 = format!("{fraction:0<9}").parse().map_err(|_| wrong())?;
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    whole.checked_mul(1_000_000_000).and_then(|w| w.checked_add(nano)).map(NanoUsd).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Option<u64>) {
        assert_eq!(usd(text).ok(), expect.map(NanoUsd), "{text}");
    }

    #[test]
    fn dollars_are_read_exactly_or_not_at_all() {
        check("12.50", Some(12_500_000_000));
        check("0.000000001", Some(1));
        check("7", Some(7_000_000_000));
        check("18446744073.709551615", Some(u64::MAX));
        for wrong in ["18446744073.709551616", "1.0000000001", "-1", "1,50", "", ".5", "1.", "$1", "1e3"] {
            check(wrong, None);
        }
    }
}
