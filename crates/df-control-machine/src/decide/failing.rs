//! What becomes of a failure: another attempt, a conflict to resolve, or the end of the task and of what builds on it.

use df_contract::access::role_may_claim;
use df_contract::api::FailureView;
use df_contract::plan::patterns_may_clash;
use df_contract::task::{Conflict, TreeRef};
use df_contract::{FailureKind, OnFailure, PlanTask, TaskSlug, TaskState};

use super::{Draft, OUT_OF_BUDGET, governing, tasks};
use crate::command::Rejection;
use crate::job;
use crate::record::{FailureNote, JobRecord, TaskRecord};
use crate::retry;
use crate::task::TaskEvent;

/// A lease that was lost is nobody's failure, but a task that loses every worker that takes it must end.
pub(super) fn lost(draft: &mut Draft, slug: &TaskSlug, detail: &str) -> Result<(), Rejection> {
    let most = draft.record.retry_rule(FailureKind::LeaseExpired).attempts;
    let task = draft.record.tasks.get_mut(slug).ok_or_else(|| Rejection::TaskUnknown(slug.clone()))?;
    task.lost_leases += 1;
    if task.lost_leases >= most {
        return give_up(draft, slug, FailureKind::LeaseExpired, detail);
    }
    draft.task(slug, TaskEvent::Returned, &format!("{}: {detail}", FailureKind::LeaseExpired.as_str()))
}

/// The worker handed the lease back in good order. It counts as nothing, but one that is handed back again and again
/// waits, and comes later in its line, so that it keeps no other from a worker that finishes nothing.
pub(super) fn handed_back(draft: &mut Draft, slug: &TaskSlug, detail: &str) -> Result<(), Rejection> {
    let at = draft.at;
    let task = draft.record.tasks.get_mut(slug).ok_or_else(|| Rejection::TaskUnknown(slug.clone()))?;
    task.handed_back = task.handed_back.saturating_add(1);
    let wait = retry::hand_back_wait(task.handed_back);
    if wait.0 > 0 {
        task.not_before = at.plus(wait);
    }
    draft.task(slug, TaskEvent::Returned, detail)
}

/// The attempt that holds `slug` failed of itself.
pub(super) fn failed(
    draft: &mut Draft,
    slug: &TaskSlug,
    kind: FailureKind,
    detail: &str,
    seed: u64,
) -> Result<(), Rejection> {
    // Before the decision there is no budget to wait for: whoever reports this then has failed.
    if kind == FailureKind::BudgetExhausted
        && job::is_working(draft.record.state)
        && !is_of_its_share(&draft.record, slug, detail)
    {
        draft.task(slug, TaskEvent::Returned, &format!("{}: {detail}", kind.as_str()))?;
        return governing::pause(draft, &format!("{OUT_OF_BUDGET}: {detail}"));
    }
    let merges = draft.task_ref(slug)?.merges.clone();
    match (merges, kind) {
        (Some(of), FailureKind::MergeConflict) => return resolve(draft, slug, &of, detail),
        (Some(of), FailureKind::CheckFailure | FailureKind::DependencyConflict) => {
            return redo_change(draft, slug, &of, kind, detail);
        }
        (Some(_) | None, _) => {}
    }
    let failures = note_failure(draft, slug, kind, detail)?;
    let rule = draft.record.retry_rule(kind);
    if failures >= rule.attempts {
        return give_up(draft, slug, kind, detail);
    }
    if let Some(spent) = spent_its_share(&draft.record, slug, rule.budget_percent) {
        return give_up(draft, slug, kind, &format!("{detail}\n{spent}"));
    }
    let not_before = draft.at.plus(retry::backoff(rule, failures, seed));
    if let Some(task) = draft.record.tasks.get_mut(slug) {
        task.not_before = not_before;
    }
    draft.task(slug, TaskEvent::Retried, &format!("{}: {detail}", kind.as_str()))
}

/// Whether what is used up is the task's own share of the budget, by the account that the proxy names. A pause would
/// not help: more budget for the job leaves the plan's shares as they are.
fn is_of_its_share(record: &JobRecord, slug: &TaskSlug, detail: &str) -> bool {
    let names = |p: &PlanTask| p.tokens.is_some() || p.nano_usd.is_some();
    // Where some tasks name a share, the others of the plan have one too.
    let of_plan = |slug: &TaskSlug| {
        record
            .plan
            .as_ref()
            .is_some_and(|p| p.tasks.iter().any(names) && p.tasks.iter().any(|t| t.slug == *slug))
    };
    let share = |t: &TaskRecord| t.plan_task.as_ref().is_some_and(|p| names(p) || of_plan(&p.slug));
    let Some(task) = record.tasks.get(slug).filter(|t| share(t)) else { return false };
    let mut accounts =
        task.attempt.map(JobRecord::attempt_account).into_iter().chain([record.task_account(slug)]);
    accounts.any(|account| detail.contains(&format!("`{account}`")))
}

/// Why the tokens that the task has used leave no room for another attempt.
fn spent_its_share(record: &JobRecord, slug: &TaskSlug, percent: u32) -> Option<String> {
    let task = record.tasks.get(slug)?;
    let (slice, spent) = (record.slice(task)?.0, task.tokens_of_share().0);
    let limit = u128::from(slice) * u128::from(percent) / 100;
    (spent > 0 && u128::from(spent) >= limit).then(|| {
        format!("no further attempt: {spent} of the task's {slice} tokens are used, an attempt begins below {limit}")
    })
}

/// A change that does not fit the job branch becomes a task of its own, which is given both sides and what they
/// began from; its result is what is merged then.
fn resolve(draft: &mut Draft, merge: &TaskSlug, of: &TaskSlug, detail: &str) -> Result<(), Rejection> {
    let kind = FailureKind::MergeConflict;
    let waiting = draft.task_ref(merge)?;
    let (wave, rank) = (waiting.wave, waiting.rank + 1);
    let plan_task = waiting.plan_task.clone().ok_or_else(|| Rejection::TaskUnknown(of.clone()))?;
    let failures = note_failure(draft, &plan_task.slug, kind, detail)?;
    if failures >= draft.record.retry_rule(kind).attempts {
        return give_up(draft, merge, kind, detail);
    }
    let change = draft.task_ref(of)?;
    let (Some(theirs), Some(ancestor)) = (change.output.tree.clone(), change.base.clone()) else {
        return give_up(draft, merge, kind, detail);
    };
    let paths = paths_of_both(&draft.record, change, &ancestor);
    let number = resolves_of(&draft.record, &plan_task.slug) + 1;
    let conflict = Conflict { of: plan_task.slug.clone(), theirs, ancestor, detail: detail.to_owned() };
    let mut task = tasks::resolve(number, &plan_task, paths, conflict)?;
    (task.wave, task.rank) = (wave, rank);
    draft.task(merge, TaskEvent::Requeued, &format!("{}: {detail}", kind.as_str()))?;
    let mut on = draft.task_ref(merge)?.depends_on.clone();
    on.insert(task.slug.clone());
    draft.record.tasks.depend(merge, on);
    if let Some(waiting) = draft.record.tasks.get_mut(merge) {
        waiting.merges = Some(task.slug.clone());
    }
    draft.create(task)
}

/// What a conflict's task may write: what the change could, and what those could whose changes came to the job branch
/// since its `ancestor` and may be in its way. Else a file where a directory is needed could not be moved out of the
/// way. The role's own class of paths still holds.
fn paths_of_both(record: &JobRecord, change: &TaskRecord, ancestor: &TreeRef) -> Vec<String> {
    let Some(own) = &change.plan_task else { return Vec::new() };
    let began =
        |slug: &TaskSlug| record.merge_of(slug).is_some_and(|m| m.output.tree.as_ref() == Some(ancestor));
    let integrated = record.integrated();
    let since = integrated.iter().rposition(began).map_or(0, |at| at + 1);
    let merged = |slug: &TaskSlug| {
        let of = record.merge_of(slug).and_then(|merge| merge.merges.as_ref())?;
        record.tasks.get(of).and_then(|task| task.plan_task.as_ref())
    };
    let clashes =
        |other: &&PlanTask| own.paths.iter().any(|a| other.paths.iter().any(|b| patterns_may_clash(a, b)));
    let others = integrated[since..].iter().filter_map(merged).filter(clashes);
    let mut paths = own.paths.clone();
    for path in others.flat_map(|other| &other.paths) {
        if role_may_claim(own.role, path) && !paths.contains(path) {
            paths.push(path.clone());
        }
    }
    paths
}

/// How many conflicts of a change have had tasks: they are numbered without gaps.
fn resolves_of(record: &JobRecord, of: &TaskSlug) -> usize {
    let slugs = (1..).map_while(|number| tasks::resolve_slug(number, of).ok());
    slugs.take_while(|slug| record.tasks.contains_key(slug)).count()
}

/// A merge that breaks checks, or wants packages that contradict each other, leaves the job branch where it was; it is the change's failure, and the change is made
/// again on the new head.
fn redo_change(
    draft: &mut Draft,
    merge: &TaskSlug,
    of: &TaskSlug,
    kind: FailureKind,
    detail: &str,
) -> Result<(), Rejection> {
    let failures = note_failure(draft, of, kind, detail)?;
    let rule = draft.record.retry_rule(kind);
    if failures >= rule.attempts {
        return give_up(draft, merge, kind, detail);
    }
    if let Some(spent) = spent_its_share(&draft.record, of, rule.budget_percent) {
        return give_up(draft, merge, kind, &format!("{detail}\n{spent}"));
    }
    let cause = format!("{}: {detail}", kind.as_str());
    draft.task(merge, TaskEvent::Requeued, &format!("the merge of `{of}` was undone: {cause}"))?;
    draft.task(of, TaskEvent::Reopened, &cause)
}

/// Remembers the failure; answers how many of its kind the task has had.
fn note_failure(
    draft: &mut Draft,
    slug: &TaskSlug,
    kind: FailureKind,
    detail: &str,
) -> Result<u32, Rejection> {
    let task = draft.record.tasks.get_mut(slug).ok_or_else(|| Rejection::TaskUnknown(slug.clone()))?;
    task.failures.push(FailureView { kind, detail: detail.to_owned() });
    Ok(task.failures.iter().filter(|f| f.kind == kind).count().try_into().unwrap_or(u32::MAX))
}

/// The task fails for good. What builds on it is skipped, unless the rest is to be planned anew.
fn give_up(draft: &mut Draft, slug: &TaskSlug, kind: FailureKind, detail: &str) -> Result<(), Rejection> {
    let alone = draft.record.failed_task().is_none();
    let policy = draft.record.on_failure_of(draft.task_ref(slug)?);
    let wave = draft.open_wave();
    draft.task(slug, TaskEvent::Failed, &format!("{}: {detail}", kind.as_str()))?;
    if draft.record.root_cause.is_none() || (alone && policy != OnFailure::Skip) {
        draft.record.root_cause = Some(attributed(&draft.record, slug, kind, detail));
    }
    match policy {
        OnFailure::Fail => skip_dependents(draft, slug),
        OnFailure::Skip => {
            if let Some(task) = draft.record.tasks.get_mut(slug) {
                task.tolerated = true;
            }
            skip_dependents(draft, slug)?;
            draft.unblock_after(slug, wave)
        }
        OnFailure::Replan => Ok(()),
    }
}

fn attributed(record: &JobRecord, slug: &TaskSlug, kind: FailureKind, detail: &str) -> FailureNote {
    let of = record.tasks.get(slug).and_then(|t| t.plan_task.as_ref()).map_or(slug, |p| &p.slug);
    let attempts = record.tasks.get(of).map_or(0, |t| t.attempts);
    FailureNote { task: of.clone(), kind, detail: detail.to_owned(), attempts }
}

/// Skips all that waits for `slug`, directly or not.
fn skip_dependents(draft: &mut Draft, slug: &TaskSlug) -> Result<(), Rejection> {
    let mut dead = vec![slug.clone()];
    while let Some(one) = dead.pop() {
        let waiting = draft.record.tasks.dependents(&one).filter(|t| t.state == TaskState::Pending);
        let waiting: Vec<TaskSlug> = waiting.map(|t| t.slug.clone()).collect();
        for next in waiting {
            draft.task(&next, TaskEvent::Skipped, &format!("it builds on `{slug}`, which failed"))?;
            dead.push(next);
        }
    }
    Ok(())
}

/// Ends what a new plan drops.
pub(super) fn drop_unfinished(draft: &mut Draft) -> Result<(), Rejection> {
    let planned = |t: &&TaskRecord| t.plan_task.is_some();
    let open = |t: &&TaskRecord| !crate::task::is_ended(t.state);
    let dropped: Vec<TaskSlug> =
        draft.record.tasks.values().filter(planned).filter(open).map(|t| t.slug.clone()).collect();
    for slug in &dropped {
        draft.task(slug, TaskEvent::Cancelled, "dropped by re-planning")?;
        draft.say_again(slug);
    }
    let failed = draft.record.tasks.values().filter(|t| t.state == TaskState::Failed);
    let failed: Vec<TaskSlug> = failed.map(|t| t.slug.clone()).collect();
    for slug in failed {
        if let Some(task) = draft.record.tasks.get_mut(&slug) {
            task.tolerated = true;
        }
    }
    Ok(())
}
