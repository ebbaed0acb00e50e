//! What keeps a ready task from being claimed, for the people who wait for it. A picture of a moment: the scheduler
//! itself asks nothing of this.

use std::collections::BTreeSet;

use df_contract::api::{WaitingKind, WaitingView};
use df_contract::{Digest, SandboxTier, TaskState, TenantId, Timestamp};

use crate::breaker::Breaker;
use crate::place::{self, Line};
use crate::record::{JobRecord, TaskRecord};
use crate::retry;
use crate::schedule::{Breakers, Needs, Rules, Running, Worker, breaker_of};

/// What surrounds the tasks that wait.
#[derive(Debug, Clone, Default)]
pub struct Room {
    /// Every live session.
    pub workers: Vec<Present>,
    pub rules: Rules,
    pub running: Running,
    /// Versions of the job's agents that are disabled.
    pub disabled: BTreeSet<Digest>,
}

/// A live session.
#[derive(Debug, Clone)]
pub struct Present {
    pub worker: Worker,
    /// Places it has free.
    pub free: u32,
    /// Breakers of its worker.
    pub breakers: Breakers,
}

impl Present {
    /// What of the tenant's agent stands against a claim here at `now`.
    fn shut(&self, tenant: &TenantId, needs: &Needs, now: Timestamp) -> Option<Breaker> {
        breaker_of(&self.breakers, tenant, needs).filter(|breaker| !breaker.admits(now))
    }
}

/// What a ready task of `record` waits for; nothing for a task that is not ready, or whose job does not admit it now.
pub fn waiting_for(
    record: &JobRecord,
    task: &TaskRecord,
    room: &Room,
    now: Timestamp,
) -> Option<WaitingView> {
    if task.state != TaskState::Ready {
        return None;
    }
    let needs = place::needs(record, task);
    let line = Line::of(record);
    let found = if line.has(task) {
        disabled(&needs, room)
            .or_else(|| backoff(task, now))
            .or_else(|| no_worker(&needs, room))
            .or_else(|| cap(record, &needs, room))
            .or_else(|| breaker(record, &needs, room, now))
            .unwrap_or_else(|| place(record, &needs, room, now))
    } else if line.merge().is_some() || record.tasks.values().any(|t| merges_now(t, task)) {
        view(WaitingKind::Turn, "changes are merged one at a time".to_owned())
    } else {
        return None;
    };
    Some(found)
}

fn view(kind: WaitingKind, detail: String) -> WaitingView {
    WaitingView { kind, detail }
}

fn merges_now(other: &TaskRecord, task: &TaskRecord) -> bool {
    other.kind == task.kind && other.state == TaskState::Leased && task.merges.is_some()
}

fn disabled(needs: &Needs, room: &Room) -> Option<WaitingView> {
    let (runner, version) = (needs.runner.as_ref()?, needs.version.as_ref()?);
    room.disabled.contains(version).then(|| {
        let told = format!("version {:.12} of the agent `{}` is disabled", version.as_str(), runner.agent);
        view(WaitingKind::Agent, told)
    })
}

fn backoff(task: &TaskRecord, now: Timestamp) -> Option<WaitingView> {
    let left = task.not_before.since(now);
    (!retry::is_due(task.not_before, now))
        .then(|| view(WaitingKind::BackOff, format!("tried again in {:.1} s", left.0 as f64 / 1_000.0)))
}

/// The first thing that no connected worker has, of those that have everything before it.
fn no_worker(needs: &Needs, room: &Room) -> Option<WaitingView> {
    let all = || room.workers.iter().map(|present| &present.worker);
    let kind = needs.kind.as_str();
    if !all().any(|w| w.class.may_hold(needs.kind)) {
        return Some(view(
            WaitingKind::Worker,
            format!("no worker is connected that may hold `{kind}` leases"),
        ));
    }
    let strong = |w: &&Worker, least: SandboxTier| w.tiers.iter().any(|tier| *tier >= least);
    if let Some(least) = needs.min_tier
        && !all().any(|w| strong(&w, least))
    {
        let told = format!("no connected worker has a sandbox of the tier {least:?} or stronger");
        return Some(view(WaitingKind::Tier, told));
    }
    if let Some(runner) = &needs.runner
        && !all().any(|w| w.runtimes.contains(&runner.runtime))
    {
        let told = format!("no connected worker runs agents of the runtime `{}`", runner.runtime.as_str());
        return Some(view(WaitingKind::Runtime, told));
    }
    if all().any(|w| w.fits(needs)) {
        return None;
    }
    let labels: Vec<&str> = needs.labels.iter().map(String::as_str).collect();
    let (kind, told) = if labels.is_empty() {
        (WaitingKind::Worker, "no one connected worker has all that it needs".to_owned())
    } else {
        let told = format!("no connected worker that could do it has the labels {}", labels.join(", "));
        (WaitingKind::Label, told)
    };
    Some(view(kind, told))
}

fn cap(record: &JobRecord, needs: &Needs, room: &Room) -> Option<WaitingView> {
    let (rules, running) = (&room.rules, &room.running);
    let full = |what: &str, cap: Option<u32>, held: Option<&u32>| {
        let (cap, held) = (cap?, held.copied().unwrap_or(0));
        (held >= cap)
            .then(|| view(WaitingKind::Cap, format!("{held} of the {cap} leases of {what} are held")))
    };
    let of_runner = needs.runner.as_ref().and_then(|runner| {
        let (agent, runtime) = (&runner.agent, &runner.runtime);
        let held = running.agent_leases(&record.tenant, agent);
        full("this agent", rules.agents.get(agent).copied(), held).or_else(|| {
            full("this runtime", rules.runtimes.get(runtime).copied(), running.runtimes.get(runtime))
        })
    });
    full("this tenant", rules.tenant_cap(&record.tenant), running.tenants.get(&record.tenant))
        .or_else(|| full("this job", rules.max_per_job, running.jobs.get(&record.id)))
        .or(of_runner)
}

/// Where every worker that could do it has seen the agent fail too often. Says when the first of them tries it again.
fn breaker(record: &JobRecord, needs: &Needs, room: &Room, now: Timestamp) -> Option<WaitingView> {
    let agent = &needs.runner.as_ref()?.agent;
    let able = room.workers.iter().filter(|present| present.worker.fits(needs));
    let shut: Option<Vec<Breaker>> = able.map(|present| present.shut(&record.tenant, needs, now)).collect();
    let next = shut?.into_iter().min_by_key(|breaker| match breaker {
        Breaker::Open { until, .. } => *until,
        Breaker::Closed { .. } | Breaker::HalfOpen { .. } => Timestamp(u64::MAX),
    })?;
    let told = match next {
        Breaker::Open { until, .. } => {
            format!(
                "the agent `{agent}` keeps failing on every worker that could do it; one task is let through in {} s",
                until.since(now).0 / 1_000
            )
        }
        Breaker::Closed { .. } | Breaker::HalfOpen { .. } => {
            format!("the agent `{agent}` keeps failing; one task is out to see whether it works again")
        }
    };
    Some(view(WaitingKind::Breaker, told))
}

fn place(record: &JobRecord, needs: &Needs, room: &Room, now: Timestamp) -> WaitingView {
    let free = room.workers.iter().any(|present| {
        present.free > 0 && present.worker.fits(needs) && present.shut(&record.tenant, needs, now).is_none()
    });
    let told =
        if free { "a worker is about to take it" } else { "every worker that could do it is at capacity" };
    view(WaitingKind::Place, told.to_owned())
}

#[cfg(test)]
mod tests;
