//! One call from its grant to its settlement: reserve, ask an account, try another, answer, settle, record.
//!
//! A call runs in a task of its own and always ends in a settlement; the client only holds the receiving end of its
//! frames. A client that goes away therefore changes nothing but how long the answer is still read.

mod client;
mod recorded;
mod request;
mod rotate;
mod stream;
mod whole;

use std::sync::Arc;

use df_contract::{GrantClaims, NanoUsd, Tokens};
use tokio::time::timeout;

pub(crate) use client::{Client, Frame};
pub(crate) use request::ChatRequest;

use crate::accounts::{Account, Backend, Failure, OpenAi};
use crate::clock;
use crate::config::Price;
use crate::core::Core;
use crate::error::CallError;
use crate::ledger::{Amount, Outcome, Payer, Reservation, Spender};
use crate::recording::{Entry, Fingerprint, RecordedUsage, Response};
use crate::select::{At, Permit, Used, Verdict};
use crate::usage::Usage;

const TOKENS_PER_PRICE: u128 = 1_000_000;

/// A call that was let in.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) claims: GrantClaims,
    pub(crate) request: ChatRequest,
    /// Present if somebody records or replays.
    pub(crate) fingerprint: Option<Fingerprint>,
    /// The session that the client names: its calls share a cache.
    pub(crate) session: Option<String>,
    /// The account that the client wants, and no other.
    pub(crate) account: Option<String>,
}

/// How one upstream attempt ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The model's answer is complete. What is still to be sent goes out after the settlement.
    Answered { usage: Option<Usage>, response: Option<Response>, last: Vec<Frame> },
    /// Nothing was passed on; somebody else may be asked.
    Failed(Failure),
    /// The answer had begun, and then broke.
    BrokenOff,
    /// The recording does not fit.
    Mismatch(String),
}

impl Ended {
    fn failed(what: &str) -> Self {
        Ended::Failed(Failure::Provider { what: what.into(), maybe_billed: true })
    }

    /// What is told of a failure, wherever the provider said it, does not hold the account's key.
    fn redacted(self, server: &OpenAi) -> Self {
        match self {
            Ended::Failed(failure) => Ended::Failed(failure.redacted(server.key.as_ref())),
            ended @ (Ended::Answered { .. } | Ended::BrokenOff | Ended::Mismatch(_)) => ended,
        }
    }
}

/// Answers the call within its time; whatever happens, the client gets an end or an error.
pub(crate) async fn answer(core: Arc<Core>, call: Call, mut client: Client) {
    let answered = timeout(core.limits.request_timeout(), rotate::run(&core, &call, &mut client)).await;
    let error = match answered {
        Ok(Ok(())) => {
            let claims = &call.claims;
            tracing::info!(
                job = %claims.job, task = %claims.task, attempt = %claims.attempt, epoch = claims.epoch,
                model = call.request.model, "a call ended"
            );
            return;
        }
        Ok(Err(error)) => error,
        Err(_elapsed) => CallError::Unavailable("the time for the whole call is over".into()),
    };
    tracing::warn!(
        job = %call.claims.job, task = %call.claims.task, attempt = %call.claims.attempt, epoch = call.claims.epoch,
        model = call.request.model, code = error.code().code(), "a call failed"
    );
    client.send(Frame::Fail(error)).await;
}

/// One upstream attempt with its own reservation. None = the call is over.
async fn attempt(
    core: &Core,
    call: &Call,
    account: &Account,
    permit: Permit,
    client: &mut Client,
) -> Result<Option<Failure>, CallError> {
    let (price, estimate, held) = match reserve(core, call, account) {
        Ok(reserved) => reserved,
        Err(error) => {
            permit.cancel();
            return Err(error);
        }
    };
    let sent = clock::steady();
    let lane = permit.lane();
    let ended = match &account.backend {
        Backend::Recorded(recording) => recorded::answer(recording, call, client).await,
        Backend::OpenAi(server) => {
            let ended = if call.request.stream {
                stream::answer(core, call, server, lane, client).await
            } else {
                whole::answer(core, call, server, lane, client).await
            };
            ended.redacted(server)
        }
    };
    let outcome = match &ended {
        Ended::Answered { usage: Some(usage), .. } => Outcome::Settled(charge(price, *usage)),
        Ended::Answered { usage: None, .. } | Ended::BrokenOff => Outcome::Estimated,
        Ended::Failed(failure) if failure.maybe_billed() => Outcome::Estimated,
        Ended::Failed(_) | Ended::Mismatch(_) => Outcome::Failed,
    };
    let (taken, verdict) = shown(core, call, &ended, client, sent);
    permit.end(taken, verdict, clock::steady());
    // Before the last frame: a client that asks again at once finds the budget as it now is.
    held.settle(outcome);
    match ended {
        Ended::Answered { usage, response, last } => {
            if let (Backend::OpenAi(_), Some(response)) = (&account.backend, response) {
                record(core, call, response, usage.unwrap_or(estimate.usage)).await;
            }
            for frame in last {
                client.send(frame).await;
            }
            Ok(None)
        }
        Ended::Failed(failure) => Ok(Some(failure)),
        Ended::BrokenOff => Err(CallError::BrokenOff),
        Ended::Mismatch(difference) => Err(CallError::RecordingMismatch(difference)),
    }
}

/// Holds the estimate on every level of the budget.
fn reserve(core: &Core, call: &Call, account: &Account) -> Result<(Price, Amount, Reservation), CallError> {
    let price = price(core, call, account)?;
    let output = call.request.output_estimate(core.limits.default_output_tokens);
    let estimate = charge(price, Usage::plain(call.request.input_estimate(), output));
    let held = core.ledger.reserve(payer(call, account), &call.claims.caps, estimate)?;
    Ok((price, estimate, held))
}

/// What an attempt shows of its account: tokens that count against its limits, and how it did. What a client cut short
/// shows nothing.
fn shown(core: &Core, call: &Call, ended: &Ended, client: &Client, sent: At) -> (Option<Used>, Verdict) {
    match ended {
        Ended::Answered { usage, .. } => {
            let used = usage.map(|u| Used {
                input: u.all_input().0,
                cached: u.cache_read.0,
                output: u.all_output().0,
            });
            let input = used.map_or(call.request.input_estimate().0, |used| used.input);
            // Without a stream the answer begins when it is complete, which says nothing of the first token.
            let begun = client.begun().filter(|_| call.request.stream);
            (used, Verdict::Good { ttft: begun.map(|at| (at.0.saturating_sub(sent.0), input)) })
        }
        Ended::Failed(Failure::Provider { .. }) | Ended::BrokenOff if client.is_gone() => {
            (None, Verdict::Nothing)
        }
        Ended::BrokenOff => (None, Verdict::Broken),
        Ended::Failed(failure) => {
            ((!failure.maybe_billed()).then(Used::default), failure.verdict(&core.limits))
        }
        Ended::Mismatch(_) => (Some(Used::default()), Verdict::Nothing),
    }
}

fn payer(call: &Call, account: &Account) -> Payer {
    let claims = &call.claims;
    Payer {
        by: Spender::Grant {
            tenant: claims.tenant.clone(),
            job: claims.job,
            task: claims.task.clone(),
            epoch: claims.epoch,
            attempt: claims.attempt,
        },
        account: account.id.clone(),
        model: call.request.model.clone(),
    }
}

/// A replay costs nothing. A live model without a price serves budgets in tokens only.
fn price(core: &Core, call: &Call, account: &Account) -> Result<Price, CallError> {
    let free = Price { input_nano_usd_per_million: 0, output_nano_usd_per_million: 0 };
    let model = &call.request.model;
    match (&account.backend, core.prices.get(model)) {
        (Backend::Recorded(_), _) => Ok(free),
        (Backend::OpenAi(_), Some(price)) => Ok(*price),
        (Backend::OpenAi(_), None) if call.claims.caps.iter().any(|c| c.nano_usd.is_some()) => {
            Err(CallError::ModelUnpriced(model.clone()))
        }
        (Backend::OpenAi(_), None) => Ok(free),
    }
}

/// Rounded up per axis: a fraction of a nano-dollar is never given away.
fn charge(price: Price, usage: Usage) -> Amount {
    let cost = |tokens: Tokens, per_million: u64| {
        let exact = (u128::from(tokens.0) * u128::from(per_million)).div_ceil(TOKENS_PER_PRICE);
        NanoUsd(u64::try_from(exact).unwrap_or(u64::MAX))
    };
    Amount {
        usage,
        nano_usd: cost(usage.all_input(), price.input_nano_usd_per_million)
            .saturating_add(cost(usage.all_output(), price.output_nano_usd_per_million)),
        price: None,
    }
}

async fn record(core: &Core, call: &Call, mut response: Response, usage: Usage) {
    let (Some(recorder), Some(asked)) = (&core.recorder, &call.fingerprint) else { return };
    response.message = request::message_to_record(&response.message, asked.step);
    let entry = Entry {
        task: call.claims.task.clone(),
        step: asked.step,
        model: call.request.model.clone(),
        messages_key: asked.messages_key.clone(),
        messages: asked.messages.clone(),
        system_digest: asked.system_digest.clone(),
        tools_digest: asked.tools_digest.clone(),
        response,
        usage: RecordedUsage { input_tokens: usage.all_input(), output_tokens: usage.all_output() },
    };
    recorder.append(entry).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_rounded_up_and_never_wraps() {
        let price = Price { input_nano_usd_per_million: 150_000_000, output_nano_usd_per_million: 1 };
        let usage = Usage::plain(Tokens(1_000), Tokens(1));
        assert_eq!(charge(price, usage).nano_usd, NanoUsd(150_001));
        let huge = Price { input_nano_usd_per_million: u64::MAX, output_nano_usd_per_million: u64::MAX };
        let all = Usage::plain(Tokens(u64::MAX), Tokens(u64::MAX));
        assert_eq!(charge(huge, all).nano_usd, NanoUsd(u64::MAX));
    }
}
