//! From a record and a claimed task to the lease that a worker receives. Pure.

use std::collections::{BTreeMap, BTreeSet};

use df_contract::lease::{MAX_RECHECKS, Recheck, Work};
use df_contract::task::{TaskConstraints, TaskInput, TreeRef};
use df_contract::{AgentTask, Digest, LeaseKind, PlanTask, Role, Source, TaskSlug};
use df_control_machine::{JobRecord, TaskRecord, retry};

use crate::{OrchestrationConfig, OrchestrationError, grants, report};

/// What the lease on `task` is about.
pub fn work_of(
    record: &JobRecord,
    task: &TaskRecord,
    grant: &str,
    config: &OrchestrationConfig,
) -> Result<Work, OrchestrationError> {
    let head = || record.head.clone().ok_or(OrchestrationError::Incomplete("there is a head after intake"));
    let planned =
        || task.plan_task.as_ref().ok_or(OrchestrationError::Incomplete("a plan's task has its plan"));
    Ok(match task.kind {
        LeaseKind::Intake => Work::Intake {
            source: record.spec.source.clone(),
            protected_paths: record.spec.protected_paths.clone(),
        },
        LeaseKind::Agent => Work::Agent { task: Box::new(agent_task(record, task, grant, config)?) },
        LeaseKind::Integrate => {
            let (of, plan) = (task.merges.clone(), planned()?);
            let of = of.ok_or(OrchestrationError::Incomplete("a merge names its task"))?;
            let changed = record.tasks.get(&of);
            let change = changed.and_then(|t| t.output.tree.clone());
            // What resolves a conflict may write more than the plan's task.
            let made_by = changed.and_then(|t| t.plan_task.as_ref()).unwrap_or(plan);
            Work::Integrate {
                task: plan.slug.clone(),
                title: plan.title.clone(),
                head: head()?,
                change: change.ok_or(OrchestrationError::Incomplete("a merge has a change"))?,
                paths: made_by.paths.clone(),
                protected_paths: protected_paths(record),
                role: plan.role,
                checks: plan.checks.clone(),
                rechecks: rechecks(record.merged_tasks().into_iter().rev(), plan),
            }
        }
        LeaseKind::Validate => Work::Validate {
            base: record
                .base
                .clone()
                .ok_or(OrchestrationError::Incomplete("there is a base after intake"))?,
            head: head()?,
            acceptance: record.spec.acceptance.clone(),
            hidden: record.spec.hidden_checks.clone(),
        },
        LeaseKind::Deliver => Work::Deliver {
            target: task.target.clone().unwrap_or_else(|| "bundle".to_owned()),
            head: head()?,
            documents: report::documents(record),
        },
    })
}

/// Checks of the tasks merged `before`, the last merged first: what they made must outlast this merge. A command that
/// runs anyway is not run twice.
fn rechecks<'a>(before: impl Iterator<Item = &'a PlanTask>, merged: &'a PlanTask) -> Vec<Recheck> {
    let mut seen: BTreeSet<&str> = merged.checks.iter().map(|c| c.command.as_str()).collect();
    before
        .filter(|task| task.slug != merged.slug)
        .flat_map(|task| task.checks.iter().map(move |check| (task, check)))
        .filter(|(_, check)| seen.insert(&check.command))
        .map(|(task, check)| Recheck { task: task.slug.clone(), check: check.clone() })
        .take(MAX_RECHECKS)
        .collect()
}

fn agent_task(
    record: &JobRecord,
    task: &TaskRecord,
    grant: &str,
    config: &OrchestrationConfig,
) -> Result<AgentTask, OrchestrationError> {
    let decision =
        record.decision.as_ref().ok_or(OrchestrationError::Incomplete("agent work has a decision"))?;
    let caps = &decision.obligations;
    let plan = task.plan_task.clone();
    let (instructions, paths, outputs, checks) = match &plan {
        Some(p) => (p.instructions.clone(), p.paths.clone(), p.expected_outputs.clone(), p.checks.clone()),
        None => (COORDINATOR.to_owned(), Vec::new(), Vec::new(), Vec::new()),
    };
    Ok(AgentTask {
        id: task.slug.clone(),
        job: record.id,
        r#type: task.role,
        title: task.title.clone(),
        instructions,
        input: input(record, task, plan.as_ref()),
        expected_outputs: outputs,
        checks,
        constraints: TaskConstraints {
            paths: if task.role == Role::Coordinator { Vec::new() } else { paths },
            protected_paths: protected_paths(record),
            network: caps.network,
            dependencies: caps.dependencies.iter().cloned().collect(),
            max_steps: config.attempt_max_steps,
            max_tokens: grants::task_tokens(record, task),
            max_nano_usd: grants::task_money(record, task),
            max_wall_ms: config.attempt_wall_ms,
        },
        base: task.base.clone().ok_or(OrchestrationError::Incomplete("a ready task has a base"))?,
        attempt: task.attempt.ok_or(OrchestrationError::Incomplete("a leased task has an attempt"))?,
        epoch: task.epoch,
        model_endpoint: config.proxy_url.clone(),
        model: grants::model(record, task, config)?,
        agent: None,
        agent_digest: None,
        model_token: grant.to_owned(),
    })
}

/// What no agent may touch: by the job's own wish, and by the decision.
fn protected_paths(record: &JobRecord) -> Vec<String> {
    let decided = record.decision.iter().flat_map(|d| &d.obligations.protected_paths);
    let all: BTreeSet<&String> = record.spec.protected_paths.iter().chain(decided).collect();
    all.into_iter().cloned().collect()
}

const COORDINATOR: &str = "Plan the job: cut it into tasks for the agents and propose the plan.";

fn input(record: &JobRecord, task: &TaskRecord, plan: Option<&PlanTask>) -> TaskInput {
    let depends: Vec<TaskSlug> = plan.map(|p| p.depends_on.clone()).unwrap_or_default();
    let summary = |slug: TaskSlug| {
        let text = record.tasks.get(&slug).map(|t| t.output.summary.clone())?;
        Some((slug, text))
    };
    TaskInput {
        job_title: record.spec.title.clone(),
        job_description: record.spec.description.clone(),
        dependency_summaries: depends.into_iter().filter_map(summary).collect::<BTreeMap<_, _>>(),
        previous_failure: previous_failure(task),
        acceptance: record.spec.acceptance.clone(),
        messages: task.messages.clone(),
        conflict: task.conflict.clone(),
        replan: record.replan.clone().filter(|_| task.role == Role::Coordinator),
        ..TaskInput::default()
    }
}

/// The last failure that the next attempt can learn from.
fn previous_failure(task: &TaskRecord) -> Option<String> {
    let last = task.failures.iter().rev().find(|f| retry::teaches(f.kind))?;
    Some(format!("{}: {}", last.kind.as_str(), last.detail))
}

/// Blobs that the holder of a lease on this work may read.
pub fn readable_blobs(work: &Work) -> BTreeSet<Digest> {
    let tree = |t: &TreeRef| t.bundle.clone();
    match work {
        Work::Intake { source, .. } => match source {
            Source::Bundle { digest } | Source::Tarball { digest } => BTreeSet::from([digest.clone()]),
            Source::Empty | Source::Path { .. } | Source::Git { .. } => BTreeSet::new(),
        },
        Work::Agent { task } => {
            let sides = task.input.conflict.iter().flat_map(|c| [tree(&c.theirs), tree(&c.ancestor)]);
            sides.chain([tree(&task.base)]).collect()
        }
        Work::Integrate { head, change, .. } => BTreeSet::from([tree(head), tree(change)]),
        Work::Validate { base, head, hidden, .. } => {
            let hidden = hidden.iter().filter_map(|h| h.blob.clone());
            hidden.chain([tree(base), tree(head)]).collect()
        }
        Work::Deliver { head, .. } => BTreeSet::from([tree(head)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(slug: &str, commands: &[&str]) -> PlanTask {
        let checks: Vec<_> = commands.iter().map(|c| serde_json::json!({"id": c, "command": c})).collect();
        serde_json::from_value(
            serde_json::json!({"slug": slug, "role": "backend", "title": "t", "instructions": "i",
            "paths": ["x"], "checks": checks}),
        )
        .unwrap()
    }

    #[test]
    fn earlier_checks_run_again_once_each_and_no_more_than_fit() {
        let merged = task("new", &["make test"]);
        let before =
            [task("b", &["make test", "lint"]), task("new", &["old"]), task("a", &["lint", "types"])];
        let found = rechecks(before.iter(), &merged);
        let shown: Vec<_> = found.iter().map(|r| (r.task.as_str(), r.check.command.as_str())).collect();
        assert_eq!(shown, [("b", "lint"), ("a", "types")]);
        let many: Vec<_> = (0..100).map(|n| task(&format!("t{n}"), &[&format!("c{n}")])).collect();
        let found = rechecks(many.iter(), &merged);
        assert_eq!((found.len(), found[0].task.as_str()), (MAX_RECHECKS, "t0"));
    }
}
