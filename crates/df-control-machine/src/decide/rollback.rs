//! The job branch back at an earlier integrated point, as a new recorded step.

use std::collections::BTreeSet;

use df_contract::task::TreeRef;
use df_contract::{JobState, LeaseKind, TaskSlug, TaskState, Timestamp};

use super::{AuditBody, Draft};
use crate::command::Rejection;
use crate::record::{JobRecord, TaskOutput, TaskRecord};
use crate::task::TaskEvent;

const CAUSE: &str = "rolled back";

/// Undoes every merge after that of `to`, or all of them. What was undone is done again, from the head as it is then;
/// so is all of later waves, since it began from trees that are no more.
pub(super) fn rollback(draft: &mut Draft, to: Option<&TaskSlug>) -> Result<(), Rejection> {
    let (state, resume_to) = (draft.record.state, draft.record.resume_to);
    let paused = state == JobState::Paused && resume_to == Some(JobState::InProgress);
    if state != JobState::InProgress && !paused {
        return Err(draft.not_now("rollback", "only work in progress can be rolled back"));
    }
    let mut integrated = draft.record.integrated();
    let kept = match to {
        None => 0,
        Some(to) => {
            let at = integrated.iter().position(|slug| slug == to);
            at.ok_or_else(|| Rejection::Invalid(format!("`{to}` is not in the job branch")))? + 1
        }
    };
    let undone = integrated.split_off(kept);
    if undone.is_empty() {
        return Err(Rejection::Invalid("nothing was merged after that; there is nothing to undo".to_owned()));
    }
    let head = match to {
        None => draft.record.base.clone(),
        Some(to) => draft.record.merge_of(to).and_then(|merge| merge.output.tree.clone()),
    };
    let head = head.ok_or_else(|| Rejection::Invalid("the tree of that point is not known".to_owned()))?;
    draft.record.head = Some(head.clone());
    draft.note(AuditBody::RolledBack { to: to.cloned(), head, undone: undone.clone() });
    let undone: BTreeSet<TaskSlug> = undone.into_iter().collect();
    let (work, merges) = affected(&draft.record, &undone);
    for slug in &work {
        start_over(draft, slug)?;
    }
    for slug in &merges {
        start_over(draft, slug)?;
        merge_the_change(draft, slug);
    }
    draft.unblock()
}

/// The work and the merges to start over: what was undone, all of later waves, whatever began from a tree that is no
/// more, and the merge that runs. What has not begun or has ended badly stays as it is.
fn affected(record: &JobRecord, undone: &BTreeSet<TaskSlug>) -> (BTreeSet<TaskSlug>, BTreeSet<TaskSlug>) {
    let planned = || record.tasks.values().filter(|t| t.plan_task.is_some() && !record.is_dropped(t));
    let of = |t: &TaskRecord| t.plan_task.as_ref().is_some_and(|p| undone.contains(&p.slug));
    let first = planned().filter(|t| of(t)).map(|t| t.wave).min().unwrap_or(u32::MAX);
    let gone: Vec<&TreeRef> =
        undone.iter().filter_map(|slug| record.merge_of(slug)?.output.tree.as_ref()).collect();
    let hit = |t: &TaskRecord| of(t) || t.wave > first || t.base.as_ref().is_some_and(|b| gone.contains(&b));
    let begun = |t: &TaskRecord| match t.state {
        TaskState::Ready | TaskState::Leased | TaskState::Succeeded => true,
        // What the gate asked for after this point is asked for again when it is still so.
        TaskState::Pending => t.merges.is_some() || t.is_rework(),
        TaskState::Failed | TaskState::Cancelled | TaskState::Skipped => false,
    };
    let slugs = |found: &mut dyn Iterator<Item = &TaskRecord>| found.map(|t| t.slug.clone()).collect();
    let work: BTreeSet<TaskSlug> =
        slugs(&mut planned().filter(|t| t.kind == LeaseKind::Agent && begun(t) && hit(t)));
    let merge = |t: &&TaskRecord| {
        let changes = t.merges.as_ref().is_some_and(|of| work.contains(of));
        t.kind == LeaseKind::Integrate && begun(t) && (hit(t) || changes || t.state == TaskState::Leased)
    };
    let merges = slugs(&mut planned().filter(merge));
    (work, merges)
}

fn start_over(draft: &mut Draft, slug: &TaskSlug) -> Result<(), Rejection> {
    if draft.task_ref(slug)?.state != TaskState::Pending {
        draft.task(slug, TaskEvent::RolledBack, CAUSE)?;
    }
    let task = draft.record.tasks.get_mut(slug).ok_or_else(|| Rejection::TaskUnknown(slug.clone()))?;
    let dropped = task.is_rework() || task.conflict.is_some();
    task.output = TaskOutput::default();
    task.undone += 1;
    task.spent_before = task.spend.tokens();
    task.failures.clear();
    (task.lost_leases, task.handed_back) = (0, 0);
    task.not_before = Timestamp(0);
    (task.base, task.merge_number) = (None, None);
    if dropped {
        draft.task(slug, TaskEvent::Cancelled, CAUSE)?;
        draft.say_again(slug);
    }
    Ok(())
}

/// A merge that waited for a conflict to be resolved merges the change itself again: the conflict may not come back.
fn merge_the_change(draft: &mut Draft, slug: &TaskSlug) {
    let tasks = &draft.record.tasks;
    let Some((of, plan_task)) = tasks.get(slug).and_then(|t| t.merges.as_ref().zip(t.plan_task.as_ref()))
    else {
        return;
    };
    if tasks.get(of).is_none_or(|t| t.state == TaskState::Cancelled) {
        let own = plan_task.slug.clone();
        draft.record.tasks.depend(slug, BTreeSet::from([own.clone()]));
        if let Some(task) = draft.record.tasks.get_mut(slug) {
            task.merges = Some(own);
        }
    }
}
