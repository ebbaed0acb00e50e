//! What must hold for every record. Tests check it after each command; `audit verify` and the store may as well.

use std::collections::BTreeSet;

use df_contract::{JobState, LeaseKind, TaskState};

use crate::job::is_terminal;
use crate::record::{JobRecord, TaskRecord};
use crate::retry::MAX_REPLANS;
use crate::task::is_ended;

/// The sentences that `record` breaks; empty = sound.
pub fn broken(record: &JobRecord) -> Vec<String> {
    let mut found = Vec::new();
    waiting(record, &mut found);
    budget(record, &mut found);
    ends(record, &mut found);
    branch(record, &mut found);
    order(record, &mut found);
    for task in record.tasks.values() {
        leases(task, &mut found);
    }
    found
}

/// What waits for people waits in the state for it.
fn waiting(record: &JobRecord, found: &mut Vec<String>) {
    let waits = matches!(record.state, JobState::AwaitingApproval | JobState::Paused);
    if waits != record.resume_to.is_some() {
        found.push(format!("resume_to is {:?} in {}", record.resume_to, record.state));
    }
    if (record.state == JobState::AwaitingApproval) != record.approval.is_some() {
        found.push(format!("an approval waits = {} in {}", record.approval.is_some(), record.state));
    }
    if record.tasks.values().any(|t| t.kind == LeaseKind::Agent) && record.decision.is_none() {
        found.push("agent work exists without a decision".to_owned());
    }
    if record.replans > MAX_REPLANS {
        found.push(format!("planned anew {} times", record.replans));
    }
}

/// Caps only rise.
fn budget(record: &JobRecord, found: &mut Vec<String>) {
    if is_terminal(record.state) && record.budget_request.is_some() {
        found.push("more budget is asked for after the end".to_owned());
    }
    if let (Some(raised), Some(decision)) = (record.raised, &record.decision)
        && raised.tokens < decision.obligations.tokens
    {
        found.push("a raised cap is lower than the decided one".to_owned());
    }
}

/// Nothing goes on in a job that has ended, and nothing is leased in one that is paused.
fn ends(record: &JobRecord, found: &mut Vec<String>) {
    if is_terminal(record.state) {
        for task in record.tasks.values().filter(|t| !is_ended(t.state)) {
            let (state, slug, of_task) = (record.state, &task.slug, task.state);
            found.push(format!("the job has ended in {state} but task {slug} is {of_task}"));
        }
    }
    let leased = |t: &TaskRecord| t.state == TaskState::Leased;
    if record.state == JobState::Paused && record.tasks.values().any(leased) {
        found.push("a paused job has a lease".to_owned());
    }
    let merging = record.tasks.values().filter(|t| t.kind == LeaseKind::Integrate && leased(t));
    if merging.count() > 1 {
        found.push("two changes are being merged at once".to_owned());
    }
}

/// The job branch holds exactly the merges that are numbered, from 1 without gaps, and its head is the last of them.
fn branch(record: &JobRecord, found: &mut Vec<String>) {
    let stands = |t: &&TaskRecord| t.kind == LeaseKind::Integrate && t.state == TaskState::Succeeded;
    let merged: BTreeSet<_> =
        record.tasks.values().filter(stands).filter_map(|t| Some(&t.plan_task.as_ref()?.slug)).collect();
    let integrated = record.integrated();
    let listed: BTreeSet<_> = integrated.iter().collect();
    if merged != listed || listed.len() != integrated.len() {
        found.push(format!("merges of {merged:?} stand, but {integrated:?} are numbered"));
    }
    let numbers: BTreeSet<u32> = record.tasks.values().filter_map(|t| t.merge_number).collect();
    if !numbers.iter().copied().eq((1..).take(integrated.len())) {
        found.push(format!("the merges have the numbers {numbers:?}"));
    }
    let tip = match integrated.last() {
        Some(last) => record.merge_of(last).and_then(|merge| merge.output.tree.as_ref()),
        None => record.base.as_ref(),
    };
    if record.head.as_ref() != tip {
        found.push("the head is not where the last listed merge left it".to_owned());
    }
}

/// Nothing runs before what it builds on, before its wave, or for a change that is not there.
fn order(record: &JobRecord, found: &mut Vec<String>) {
    let open = |t: &&TaskRecord| t.wave > 0 && !is_ended(t.state);
    let wave = record.tasks.values().filter(open).map(|t| t.wave).min().unwrap_or(u32::MAX);
    let succeeded = |slug| record.tasks.get(slug).is_some_and(|t| t.state == TaskState::Succeeded);
    if !record.tasks.is_sound() {
        found.push("what is kept beside the tasks is not what they say".to_owned());
    }
    for task in record.tasks.values() {
        // When a task has failed for good, the rest waits for the job to end or to be planned anew.
        let goes_on = record.state == JobState::InProgress && record.tasks.census().failed == 0;
        let waits = task.state == TaskState::Pending && task.wave <= wave;
        if goes_on && waits && task.depends_on.iter().all(succeeded) {
            found.push(format!("task {} waits for nothing", task.slug));
        }
        let runs = matches!(task.state, TaskState::Ready | TaskState::Leased);
        if runs && task.wave > wave {
            found.push(format!("task {} of wave {} runs in wave {wave}", task.slug, task.wave));
        }
        if runs && task.merges.as_ref().is_some_and(|of| !succeeded(of)) {
            found.push(format!("task {} merges a change that is not there", task.slug));
        }
        // What failed for good or was dropped stays so when what it was built on is rolled back.
        let ran = task.state == TaskState::Succeeded && !record.is_dropped(task);
        if (runs || ran) && !task.depends_on.iter().all(succeeded) && task.kind != LeaseKind::Integrate {
            found.push(format!("task {} runs before what it builds on", task.slug));
        }
    }
}

fn leases(task: &TaskRecord, found: &mut Vec<String>) {
    if (task.state == TaskState::Leased) != task.session.is_some() {
        found.push(format!("task {} is {} with session {:?}", task.slug, task.state, task.session));
    }
    if is_ended(task.state) != task.ended_at.is_some() {
        found.push(format!("task {} is {} and ended at {:?}", task.slug, task.state, task.ended_at));
    }
}
