//! One call from its grant to its settlement: reserve, ask an account, try another, answer, settle, record.
//!
//! A call runs in a task of its own and always ends in a settlement; the client only holds the receiving end of its
//! frames. A client that goes away therefore changes nothing but how long the answer is still read.

mod client;
mod recorded;
mod request;
mod stream;
mod whole;

use std::sync::Arc;
use std::time::Duration;

use df_contract::{GrantClaims, NanoUsd, Tokens};
use tokio::time::{sleep, timeout};

pub(crate) use client::{Client, Frame};
pub(crate) use request::ChatRequest;

use crate::accounts::{Account, Backend, Cause, Failure, OpenAi, Retry};
use crate::clock;
use crate::config::Price;
use crate::core::Core;
use crate::error::CallError;
use crate::ledger::{Amount, Outcome, Payer, Spender};
use crate::recording::{Entry, Fingerprint, RecordedUsage, Response};
use crate::usage::Usage;

const TOKENS_PER_PRICE: u128 = 1_000_000;
/// The longest pause between two tries.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// A call that was let in.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) claims: GrantClaims,
    pub(crate) request: ChatRequest,
    /// Present if somebody records or replays.
    pub(crate) fingerprint: Option<Fingerprint>,
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
    let answered = timeout(core.limits.request_timeout(), rotate(&core, &call, &mut client)).await;
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

/// What was tried in vain, for the final error.
#[derive(Debug, Default)]
struct Tried {
    accounts: usize,
    rate_limited: usize,
    retry_after_ms: Option<u64>,
    why: Vec<&'static str>,
}

impl Tried {
    fn note_cooling(&mut self, account: &Account, why: &'static str) {
        self.accounts += 1;
        if !self.why.contains(&why) {
            self.why.push(why);
        }
        let now = clock::now();
        if let Some((until, Cause::Rate)) = account.cooling(now) {
            self.rate_limited += 1;
            let wait = until.since(now).0;
            self.retry_after_ms = Some(self.retry_after_ms.map_or(wait, |known| known.min(wait)));
        }
    }

    /// 429 only if waiting helps everybody who could answer.
    fn into_error(self) -> CallError {
        match self.retry_after_ms {
            Some(wait) if self.rate_limited == self.accounts => {
                CallError::RateLimited { tried: self.accounts, retry_after_s: wait.div_ceil(1000).max(1) }
            }
            _ => CallError::Unavailable(format!("{} tried, {}", self.accounts, self.why.join(", "))),
        }
    }
}

async fn rotate(core: &Core, call: &Call, client: &mut Client) -> Result<(), CallError> {
    let model = &call.request.model;
    let candidates = core.pool.candidates(model).ok_or_else(|| CallError::ModelUnknown(model.clone()))?;
    let (mut retries, mut rotations, mut first) = (core.limits.retries, core.limits.rotations, true);
    let mut tried = Tried::default();
    for account in candidates {
        if let Some((_, cause)) = account.cooling(clock::now()) {
            let why = match cause {
                Cause::Credential => "credential refused",
                Cause::Billing => "out of money or quota",
                Cause::Rate => "rate limited",
            };
            tried.note_cooling(account, why);
            continue;
        }
        if !std::mem::take(&mut first) {
            match rotations.checked_sub(1) {
                Some(left) => rotations = left,
                None => break,
            }
        }
        loop {
            let Some(failure) = attempt(core, call, account, client).await? else { return Ok(()) };
            failure.apply(account, &core.limits, clock::now());
            tracing::warn!(
                account = account.id, model, job = %call.claims.job, task = %call.claims.task,
                failure = failure.name(), detail = ?failure_detail(&failure), "an account did not answer"
            );
            if client.is_gone() {
                return Ok(());
            }
            if let Failure::Request { status, code, message } = failure {
                return Err(CallError::Refused { status, code, message });
            }
            if failure.retry() == Retry::Same && retries > 0 {
                sleep(pause(core, retries)).await;
                retries -= 1;
                continue;
            }
            tried.note_cooling(account, failure.name());
            break;
        }
    }
    Err(tried.into_error())
}

/// Never a provider's own text: it may quote the request.
fn failure_detail(failure: &Failure) -> Option<&str> {
    if let Failure::Provider { what, .. } = failure { Some(what) } else { None }
}

/// Doubles with each try; half of it is chance, so that calls that failed together do not come back together.
fn pause(core: &Core, retries_left: u32) -> Duration {
    let doubled = core.limits.retry_pause_ms << (core.limits.retries - retries_left).min(10);
    let half = doubled / 2;
    let chance = if half == 0 { 0 } else { rand::random_range(0..=half) };
    Duration::from_millis(half + chance).min(MAX_PAUSE)
}

/// One upstream attempt with its own reservation. None = the call is over.
async fn attempt(
    core: &Core,
    call: &Call,
    account: &Account,
    client: &mut Client,
) -> Result<Option<Failure>, CallError> {
    let price = price(core, call, account)?;
    let estimate = charge(
        price,
        Usage::plain(
            call.request.input_estimate(),
            call.request.output_estimate(core.limits.default_output_tokens),
        ),
    );
    let held = core.ledger.reserve(payer(call, account), &call.claims.caps, estimate)?;
    let _counted = account.enter();
    let ended = match &account.backend {
        Backend::Recorded(recording) => recorded::answer(recording, call, client).await,
        Backend::OpenAi(server) => {
            let ended = if call.request.stream {
                stream::answer(core, call, server, client).await
            } else {
                whole::answer(core, call, server, client).await
            };
            ended.redacted(server)
        }
    };
    let outcome = match &ended {
        Ended::Answered { usage: Some(usage), .. } => Outcome::Settled(charge(price, *usage)),
        Ended::Answered { usage: None, .. } | Ended::BrokenOff => Outcome::Estimated,
        Ended::Failed(Failure::Provider { maybe_billed: true, .. }) => Outcome::Estimated,
        Ended::Failed(_) | Ended::Mismatch(_) => Outcome::Failed,
    };
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
