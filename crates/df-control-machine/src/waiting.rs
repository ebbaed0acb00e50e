//! What keeps a ready task from being claimed, for the people who wait for it. A picture of a moment: the scheduler
//! itself asks nothing of this.

use std::collections::BTreeMap;

use df_contract::api::{WaitingKind, WaitingView};
use df_contract::{SandboxTier, TaskState, Timestamp};

use crate::breaker::Breaker;
use crate::place::{self, Line};
use crate::record::{JobRecord, TaskRecord};
use crate::schedule::{Needs, Rules, Runner, Running, Worker};

/// What surrounds the tasks that wait.
#[derive(Debug, Clone, Default)]
pub struct Room {
    /// Every live session with the places it has free.
    pub workers: Vec<(Worker, u32)>,
    pub rules: Rules,
    pub running: Running,
    pub breakers: BTreeMap<Runner, Breaker>,
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
        backoff(task, now)
            .or_else(|| no_worker(&needs, room))
            .or_else(|| cap(record, &needs, room))
            .or_else(|| breaker(&needs, room, now))
            .unwrap_or_else(|| place(&needs, room))
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

fn backoff(task: &TaskRecord, now: Timestamp) -> Option<WaitingView> {
    let left = task.not_before.since(now);
    (left.0 > 0)
        .then(|| view(WaitingKind::BackOff, format!("tried again in {:.1} s", left.0 as f64 / 1_000.0)))
}

/// The first thing that no connected worker has, of those that have everything before it.
fn no_worker(needs: &Needs, room: &Room) -> Option<WaitingView> {
    let all = || room.workers.iter().map(|(worker, _)| worker);
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
        full("this agent", rules.agents.get(agent).copied(), running.agents.get(agent)).or_else(|| {
            full("this runtime", rules.runtimes.get(runtime).copied(), running.runtimes.get(runtime))
        })
    });
    full("this tenant", rules.tenant_cap(&record.tenant), running.tenants.get(&record.tenant))
        .or_else(|| full("this job", rules.max_per_job, running.jobs.get(&record.id)))
        .or(of_runner)
}

fn breaker(needs: &Needs, room: &Room, now: Timestamp) -> Option<WaitingView> {
    let runner = needs.runner.as_ref()?;
    let breaker = room.breakers.get(runner).filter(|breaker| !breaker.admits(now))?;
    let agent = &runner.agent;
    let told = match breaker {
        Breaker::Open { until, .. } => {
            format!(
                "the agent `{agent}` keeps failing; one task is let through in {} s",
                until.since(now).0 / 1_000
            )
        }
        Breaker::Closed { .. } | Breaker::HalfOpen { .. } => {
            format!("the agent `{agent}` keeps failing; one task is out to see whether it works again")
        }
    };
    Some(view(WaitingKind::Breaker, told))
}

fn place(needs: &Needs, room: &Room) -> WaitingView {
    let free = room.workers.iter().any(|(worker, free)| *free > 0 && worker.fits(needs));
    let told =
        if free { "a worker is about to take it" } else { "every worker that could do it is at capacity" };
    view(WaitingKind::Place, told.to_owned())
}

#[cfg(test)]
mod tests;
