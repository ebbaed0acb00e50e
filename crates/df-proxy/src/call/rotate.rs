//! Who is asked, who is asked next, and when it is better to wait.
//!
//! Retries at the same account and moves to another have budgets of their own. When nobody can be asked now and
//! somebody will be soon, the call waits, up to `park_ms` in all.

use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::sleep;

use super::{Call, Client, attempt};
use crate::accounts::{Failure, Retry, Route};
use crate::clock;
use crate::core::Core;
use crate::error::CallError;
use crate::select::{Choice, Need, SlotId, Wait, Why};

/// The longest pause between two tries.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// Calls that wait for the same moment come back within this part of the wait after it, not all at once.
const SPREAD: u32 = 10;

/// Asks accounts until one answers or nobody is left.
pub(super) async fn run(core: &Core, call: &Call, client: &mut Client) -> Result<(), CallError> {
    let model = &call.request.model;
    let route = core.pool.route(model).ok_or_else(|| CallError::ModelUnknown(model.clone()))?;
    let mut turn = Turn::new(core, call, &route)?;
    loop {
        let picked = match turn.pick() {
            Choice::Picked(picked) => picked,
            Choice::Wait(wait) => match turn.pause_until(&wait) {
                Some(pause) => {
                    tokio::select! {
                        () = sleep(pause) => continue,
                        () = client.left() => return Ok(()),
                    }
                }
                None => return Err(turn.tried.into_error(&wait)),
            },
        };
        let id = picked.slot.id();
        let Some(account) = core.pool.account(id) else {
            return Err(CallError::Unavailable("the account is gone".into()));
        };
        if !turn.may_ask(id) {
            picked.permit.cancel();
            return Err(turn.tried.into_error(&Wait::default()));
        }
        let Some(failure) = attempt(core, call, account, picked.permit, client).await? else { return Ok(()) };
        tracing::warn!(
            account = account.id, model, caller = %call.caller,
            failure = failure.name(), detail = ?failure_detail(&failure), "an account did not answer"
        );
        if client.is_gone() {
            return Ok(());
        }
        if let Failure::Request { status, code, message } = failure {
            return Err(CallError::Refused { status, code, message });
        }
        if let Some(pause) = turn.after(id, &failure) {
            sleep(pause).await;
        }
    }
}

/// Never a provider's own text: it may quote the request.
fn failure_detail(failure: &Failure) -> Option<&str> {
    if let Failure::Provider { what, .. } = failure { Some(what) } else { None }
}

/// Where one call stands.
struct Turn<'a> {
    core: &'a Core,
    call: &'a Call,
    route: &'a Route,
    affinity: u64,
    only: Option<SlotId>,
    retries: u32,
    rotations: u32,
    park_left: Duration,
    /// To be asked once more before anybody else.
    again: Option<SlotId>,
    asked: bool,
    exclude: SmallVec<[SlotId; 8]>,
    tried: Tried,
}

impl<'a> Turn<'a> {
    fn new(core: &'a Core, call: &'a Call, route: &'a Route) -> Result<Self, CallError> {
        let tenant = call.caller.tenant();
        let only = match &call.account {
            None => None,
            // One answer for all that cannot be had, so that nobody learns which accounts there are.
            Some(name) => {
                let found = core.pool.find(name).filter(|id| route.tiers(tenant).any(|tier| tier.has(*id)));
                Some(found.ok_or_else(|| {
                    CallError::Invalid(format!("no account `{name}` serves this model for this tenant"))
                })?)
            }
        };
        Ok(Self {
            core,
            call,
            route,
            affinity: call.request.cache_key(tenant, call.session.as_deref()),
            only,
            retries: core.limits.retries,
            rotations: core.limits.rotations,
            park_left: core.limits.park(),
            again: None,
            asked: false,
            exclude: SmallVec::new(),
            tried: Tried::default(),
        })
    }

    /// The account to be asked again, else the first tier that has somebody.
    fn pick(&mut self) -> Choice {
        if let Some(id) = self.again {
            match self.ask_tiers(Some(id)) {
                Choice::Picked(picked) => return Choice::Picked(picked),
                // It was shut meanwhile.
                Choice::Wait(_) => self.exclude.push(id),
            }
            self.again = None;
        }
        self.ask_tiers(self.only)
    }

    fn ask_tiers(&self, only: Option<SlotId>) -> Choice {
        let request = &self.call.request;
        let need = Need {
            input: request.input_estimate().0,
            output: request.output_estimate(self.core.limits.default_output_tokens).0,
            affinity: Some(self.affinity),
            only,
            exclude: &self.exclude,
        };
        let (now, mut wait) = (clock::steady(), Wait::default());
        for tier in self.route.tiers(self.call.caller.tenant()) {
            match tier.pick(&need, rand::random(), now) {
                Choice::Picked(picked) => return Choice::Picked(picked),
                Choice::Wait(other) => wait = wait.or(other),
            }
        }
        Choice::Wait(wait)
    }

    /// How long to wait before picking again; None if nobody will be free in time.
    fn pause_until(&mut self, wait: &Wait) -> Option<Duration> {
        let exact = Duration::from_nanos(wait.until?.0.saturating_sub(clock::steady().0));
        let spread = rand::random_range(0..=u64::try_from((exact / SPREAD).as_nanos()).unwrap_or(0));
        let pause = exact + Duration::from_nanos(spread);
        if exact > self.park_left {
            return None;
        }
        self.park_left = self.park_left.saturating_sub(pause.max(Duration::from_millis(1)));
        // Whoever refused before may be asked after the wait; the budget of moves still counts.
        self.exclude.clear();
        Some(pause)
    }

    /// Whether this one may be asked still: the first and a retry may, any other is a move.
    fn may_ask(&mut self, id: SlotId) -> bool {
        let retry = self.again.take() == Some(id);
        if retry || !std::mem::replace(&mut self.asked, true) {
            return true;
        }
        match self.rotations.checked_sub(1) {
            Some(left) => {
                self.rotations = left;
                true
            }
            None => false,
        }
    }

    /// After a failure: how long to pause, if the same account is asked again.
    fn after(&mut self, id: SlotId, failure: &Failure) -> Option<Duration> {
        if failure.retry() == Retry::Same && self.retries > 0 {
            let pause = pause(self.core, self.retries);
            self.retries -= 1;
            self.again = Some(id);
            return Some(pause);
        }
        // At a limit it is out by itself, and may be asked again when it is not.
        if !matches!(failure, Failure::Rate { .. } | Failure::SlowDown { .. }) {
            self.exclude.push(id);
        }
        self.tried.note(failure, self.core.limits.rate_cooling_ms);
        None
    }
}

/// Doubles with each try; half of it is chance, so that calls that failed together do not come back together.
fn pause(core: &Core, retries_left: u32) -> Duration {
    let doubled = core.limits.retry_pause_ms << (core.limits.retries - retries_left).min(10);
    let half = doubled / 2;
    let chance = if half == 0 { 0 } else { rand::random_range(0..=half) };
    Duration::from_millis(half + chance).min(MAX_PAUSE)
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
    fn note(&mut self, failure: &Failure, default_wait_ms: u64) {
        self.accounts += 1;
        self.name(failure.name());
        if let Failure::Rate { retry_after, .. } | Failure::SlowDown { retry_after } = failure {
            self.rate_limited += 1;
            let wait = retry_after.map_or(default_wait_ms, |wait| wait.0);
            self.retry_after_ms = Some(self.retry_after_ms.map_or(wait, |known| known.min(wait)));
        }
    }

    fn name(&mut self, why: &'static str) {
        if !self.why.contains(&why) {
            self.why.push(why);
        }
    }

    /// 429 only if waiting helps everybody who could answer.
    fn into_error(mut self, wait: &Wait) -> CallError {
        if self.accounts == 0 && wait.whys.only(Why::TooLarge) {
            let text = "the call needs more tokens at once than the limits of any account allow";
            return CallError::Invalid(text.into());
        }
        let mut others = false;
        for (why, name) in [
            (Why::Credential, "credential refused"),
            (Why::Billing, "out of money or quota"),
            (Why::Model, "model missing"),
            (Why::Broken, "provider unavailable"),
            (Why::TooLarge, "limit too small for the call"),
            (Why::Draining, "draining"),
        ] {
            if wait.whys.has(why) {
                others = true;
                self.name(name);
            }
        }
        if wait.whys.has(Why::Rate) {
            self.name("rate limited");
        }
        let now = clock::steady();
        let from_wait = wait.rate_until.map(|until| until.ms_since(now));
        let tried = self.accounts.max(wait.seen);
        match from_wait.or(self.retry_after_ms) {
            Some(wait_ms) if !others && self.rate_limited == self.accounts => {
                CallError::RateLimited { tried, retry_after_s: wait_ms.div_ceil(1000).max(1) }
            }
            _ => CallError::Unavailable(format!("{tried} tried, {}", self.why.join(", "))),
        }
    }
}
