//! One call from its grant to its settlement: reserve, ask an account, try another, answer, settle, record.
//!
//! A call runs in a task of its own and always ends in a settlement; the client only holds the receiving end of its
//! frames. A client that goes away therefore changes nothing but how long the answer is still read.

mod caller;
mod client;
mod recorded;
mod request;
mod rotate;
mod stream;
mod whole;

use std::sync::Arc;

use tokio::time::timeout;

pub(crate) use caller::Caller;
pub(crate) use client::{Client, Frame};
pub(crate) use request::ChatRequest;

use crate::accounts::{Account, Backend, Failure, OpenAi};
use crate::clock;
use crate::core::Core;
use crate::error::CallError;
use crate::ledger::{Amount, Outcome, Payer, Reservation};
use crate::prices::Purchase;
use crate::recording::{Entry, Fingerprint, RecordedUsage, Response};
use crate::select::{At, Permit, Used, Verdict};
use crate::usage::{Said, Usage};

/// A call that was let in.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) caller: Arc<Caller>,
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
    Answered { said: Option<Said>, response: Option<Response>, last: Vec<Frame> },
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
            tracing::info!(caller = %call.caller, model = call.request.model, "a call ended");
            return;
        }
        Ok(Err(error)) => error,
        Err(_elapsed) => CallError::Unavailable("the time for the whole call is over".into()),
    };
    tracing::warn!(
        caller = %call.caller, model = call.request.model, code = error.code().code(), "a call failed"
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
    let (buying, estimate, held) = match reserve(core, call, account) {
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
        Ended::Answered { said: Some(said), .. } => {
            let served = Purchase { tier: said.tier.unwrap_or(buying.tier), ..buying };
            // A tier that nobody priced is charged as the one that was asked for.
            let priced = core.prices.charge(served, said.usage).is_some();
            let known = price(core, call, account, if priced { served } else { buying }, said.usage);
            known.map_or(Outcome::Estimated, Outcome::Settled)
        }
        Ended::Answered { said: None, .. } | Ended::BrokenOff => Outcome::Estimated,
        Ended::Failed(failure) if failure.maybe_billed() => Outcome::Estimated,
        Ended::Failed(_) | Ended::Mismatch(_) => Outcome::Failed,
    };
    let (taken, verdict) = shown(core, call, &ended, client, sent);
    permit.end(taken, verdict, clock::steady());
    // Before the last frame: a client that asks again at once finds the budget as it now is.
    held.settle(outcome);
    match ended {
        Ended::Answered { said, response, last } => {
            if let (Backend::OpenAi(_), Some(response)) = (&account.backend, response) {
                record(core, call, response, said.map_or(estimate.usage, |said| said.usage)).await;
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
fn reserve<'a>(
    core: &Core,
    call: &'a Call,
    account: &'a Account,
) -> Result<(Purchase<'a>, Amount, Reservation), CallError> {
    let buying = purchase(call, account);
    let output = call.request.output_estimate(core.limits.default_output_tokens);
    let may_need = Usage::plain(call.request.input_estimate(), output);
    let estimate = price(core, call, account, buying, may_need)?;
    let held = core.ledger.reserve(payer(call, account), &call.caller.caps, estimate)?;
    Ok((buying, estimate, held))
}

/// What an attempt shows of its account: tokens that count against its limits, and how it did. What a client cut short
/// shows nothing.
fn shown(core: &Core, call: &Call, ended: &Ended, client: &Client, sent: At) -> (Option<Used>, Verdict) {
    match ended {
        Ended::Answered { said, .. } => {
            let used = said.map(|said| said.usage).map(|u| Used {
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
    Payer { by: call.caller.spender.clone(), account: account.id.clone(), model: call.request.model.clone() }
}

fn purchase<'a>(call: &'a Call, account: &'a Account) -> Purchase<'a> {
    let provider = match &account.backend {
        Backend::OpenAi(server) => server.priced_as.as_deref(),
        Backend::Recorded(_) => None,
    };
    Purchase { model: &call.request.model, provider, tier: call.request.tier, at: clock::now() }
}

/// A replay costs nothing. A live model without a price serves budgets in tokens only.
fn price(
    core: &Core,
    call: &Call,
    account: &Account,
    buying: Purchase<'_>,
    usage: Usage,
) -> Result<Amount, CallError> {
    let free = Amount { usage, ..Amount::default() };
    match (&account.backend, core.prices.charge(buying, usage)) {
        (Backend::Recorded(_), _) => Ok(free),
        (Backend::OpenAi(_), Some(amount)) => Ok(amount),
        (Backend::OpenAi(_), None) if call.caller.caps.iter().any(|c| c.nano_usd.is_some()) => {
            Err(CallError::ModelUnpriced(call.request.model.clone()))
        }
        (Backend::OpenAi(_), None) => Ok(free),
    }
}

async fn record(core: &Core, call: &Call, mut response: Response, usage: Usage) {
    let (Some(recorder), Some(asked)) = (&core.recorder, &call.fingerprint) else { return };
    response.message = request::message_to_record(&response.message, asked.step);
    let entry = Entry {
        task: call.caller.task.clone(),
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
