//! How tasks are made from plans and stages.

use std::collections::BTreeSet;

use df_contract::{JobSpec, LeaseKind, Plan, PlanTask, Role, TaskSlug};

use crate::command::Rejection;
use crate::record::TaskRecord;

fn slug(text: &str) -> Result<TaskSlug, Rejection> {
    text.parse().map_err(|e: df_contract::IdError| Rejection::Contract(e.to_string()))
}

/// A task of a stage (intake, plan, validate, deliver): depends on nothing.
pub(super) fn single(name: &str, kind: LeaseKind, role: Role, title: &str) -> Result<TaskRecord, Rejection> {
    Ok(TaskRecord::new(slug(name)?, kind, role, title.to_owned(), BTreeSet::new()))
}

/// The merge task of a plan's task.
pub(super) fn merge_slug(task: &TaskSlug) -> Result<TaskSlug, Rejection> {
    slug(&format!("integrate.{task}"))
}

/// A plan's task as two: the agent's work, which waits for the merges of every earlier wave, and its own merge.
///
/// A plan runs in waves (the layers of its graph), so that what an agent finds in its tree follows from the plan
/// alone and not from who was faster: only then can a run be replayed against a recorded conversation.
pub(super) fn of_plan(
    task: &PlanTask,
    waits: BTreeSet<TaskSlug>,
) -> Result<(TaskRecord, TaskRecord), Rejection> {
    let mut work = TaskRecord::new(task.slug.clone(), LeaseKind::Agent, task.role, task.title.clone(), waits);
    work.plan_task = Some(task.clone());
    let title = format!("Merge: {}", task.title);
    let after = BTreeSet::from([task.slug.clone()]);
    let mut merge =
        TaskRecord::new(merge_slug(&task.slug)?, LeaseKind::Integrate, Role::Worker, title, after);
    merge.merges = Some(task.slug.clone());
    merge.plan_task = Some(task.clone());
    Ok((work, merge))
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
        on_failure: None,
    })
}
