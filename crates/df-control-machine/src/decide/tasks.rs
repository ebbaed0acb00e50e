//! How tasks are made from plans and stages.

use std::collections::BTreeSet;

use df_contract::task::Conflict;
use df_contract::{JobSpec, LeaseKind, OnFailure, Plan, PlanTask, Role, TaskSlug};

use crate::command::Rejection;
use crate::record::{self, TaskRecord};

fn slug(text: &str) -> Result<TaskSlug, Rejection> {
    text.parse().map_err(|e: df_contract::IdError| Rejection::Contract(e.to_string()))
}

/// A task of a stage (intake, plan, validate, deliver): depends on nothing.
pub(super) fn single(name: &str, kind: LeaseKind, role: Role, title: &str) -> Result<TaskRecord, Rejection> {
    Ok(TaskRecord::new(slug(name)?, kind, role, title.to_owned(), BTreeSet::new()))
}

/// The merge task of a plan's task.
fn merge_slug(task: &TaskSlug) -> Result<TaskSlug, Rejection> {
    record::merge_slug(task).ok_or_else(|| Rejection::Contract(format!("`{task}` is too long a slug")))
}

/// A plan's task as two: the agent's work, which waits for the merges of what it builds on, and its own merge.
pub(super) fn of_plan(task: &PlanTask) -> Result<(TaskRecord, TaskRecord), Rejection> {
    let waits: BTreeSet<TaskSlug> = task.depends_on.iter().map(merge_slug).collect::<Result<_, _>>()?;
    let mut work = TaskRecord::new(task.slug.clone(), LeaseKind::Agent, task.role, task.title.clone(), waits);
    work.plan_task = Some(task.clone());
    work.agent.clone_from(&task.agent);
    let title = format!("Merge: {}", task.title);
    let after = BTreeSet::from([task.slug.clone()]);
    let mut merge =
        TaskRecord::new(merge_slug(&task.slug)?, LeaseKind::Integrate, Role::Worker, title, after);
    merge.merges = Some(task.slug.clone());
    merge.plan_task = Some(task.clone());
    Ok((work, merge))
}

pub(super) fn resolve_slug(number: usize, of: &TaskSlug) -> Result<TaskSlug, Rejection> {
    slug(&format!("resolve.{of}.{number}"))
}

/// The task that resolves the conflict between the job branch and the change of the plan's task `of`; it may write
/// `paths`.
pub(super) fn resolve(
    number: usize,
    of: &PlanTask,
    paths: Vec<String>,
    conflict: Conflict,
) -> Result<TaskRecord, Rejection> {
    let title = format!("Merge conflict: {}", of.title);
    let slug = resolve_slug(number, &of.slug)?;
    let mut task = TaskRecord::new(slug, LeaseKind::Agent, of.role, title, BTreeSet::new());
    task.plan_task = Some(PlanTask { paths, ..of.clone() });
    task.agent.clone_from(&of.agent);
    task.conflict = Some(conflict);
    Ok(task)
}

/// The task that answers a refusal by the output gate: may write what any task of the plan could.
pub(super) fn rework(number: u32, plan: &Plan, spec: &JobSpec, found: &str) -> Result<PlanTask, Rejection> {
    let paths: BTreeSet<String> = plan.tasks.iter().flat_map(|t| t.paths.iter().cloned()).collect();
    Ok(PlanTask {
        slug: slug(&format!("rework.{number}"))?,
        role: Role::Backend,
        title: "Mend what the output gate refused".to_owned(),
        instructions: format!(
            "The finished work was validated and refused. Find the cause of each finding and mend it; \
             change nothing else.\n\nFindings:\n{found}"
        ),
        depends_on: Vec::new(),
        paths: paths.into_iter().collect(),
        expected_outputs: Vec::new(),
        checks: spec.acceptance.clone(),
        tokens: None,
        nano_usd: None,
        agent: None,
        // What the gate refused is not to go out: without it there is no job.
        on_failure: Some(OnFailure::Fail),
    })
}
