//! What makes a plan valid.

use std::collections::{BTreeMap, BTreeSet};

use super::graph::{Ancestors, Graph};
use super::patterns::Shape;
use super::{Plan, PlanTask, is_tree_pattern};
use crate::{Role, TaskSlug};

/// Most components of a path that a plan names.
const MAX_PATH_DEPTH: usize = 24;
/// Most findings that are reported one by one.
pub const MAX_FINDINGS: usize = 100;
/// Most pairs of patterns that are compared. Patterns that begin with different names cost nothing; a plan of many
/// patterns that begin with a wildcard would.
pub const MAX_COMPARISONS: usize = 2_000_000;

/// Bounds on a plan. There is no default: who proposed it decides which set holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanLimits {
    pub tasks: usize,
    /// Layers.
    pub depth: usize,
    /// Tasks of one layer.
    pub width: usize,
    /// Dependencies of all tasks together.
    pub dependencies: usize,
    /// Paths of all tasks together.
    pub paths: usize,
    pub paths_per_task: usize,
    pub instruction_bytes: usize,
    /// Bytes of all texts of the plan together.
    pub bytes: usize,
}

impl PlanLimits {
    /// For a plan that a coordinator proposes.
    pub const COORDINATOR: Self = Self {
        tasks: 64,
        depth: 16,
        width: 32,
        dependencies: 2_048,
        paths: 512,
        paths_per_task: 64,
        instruction_bytes: 32 * 1024,
        bytes: 2 * 1024 * 1024,
    };
    /// For a plan that comes with the job, and for whatever a job's plan grows to.
    pub const SUPPLIED: Self = Self {
        tasks: 2_048,
        depth: 256,
        width: 1_024,
        dependencies: 16_384,
        paths: 8_192,
        paths_per_task: 64,
        instruction_bytes: 32 * 1024,
        bytes: 4 * 1024 * 1024,
    };
}

/// One thing wrong with a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("the plan has no tasks")]
    Empty,
    #[error("the plan has {got} tasks, the limit is {limit}")]
    TooManyTasks { got: usize, limit: usize },
    #[error("the plan is {got} tasks deep, the limit is {limit}")]
    TooDeep { got: usize, limit: usize },
    #[error("{got} tasks of the plan stand side by side, the limit is {limit}; let some wait for others")]
    TooWide { got: usize, limit: usize },
    #[error("the tasks name {got} dependencies in all, the limit is {limit}")]
    TooManyDependencies { got: usize, limit: usize },
    #[error("the texts of the plan have {got} bytes in all, the limit is {limit}")]
    TooLong { got: usize, limit: usize },
    #[error("two tasks are called `{0}`")]
    DuplicateSlug(TaskSlug),
    #[error("the plan names {got} paths in all, the limit is {limit}")]
    TooManyPaths { got: usize, limit: usize },
    #[error("task slug `{0}` has a dot or is `intake` or `plan`; those are made by the factory itself")]
    ReservedSlug(TaskSlug),
    #[error("task `{task}` depends on `{on}`, which the plan does not have")]
    UnknownDependency { task: TaskSlug, on: TaskSlug },
    #[error("the tasks {} depend on each other in a circle", join(.0))]
    Cycle(Vec<TaskSlug>),
    #[error(
        "tasks `{a}` and `{b}` may both write `{path}` and neither waits for the other; order them or divide the paths"
    )]
    Overlap { a: TaskSlug, b: TaskSlug, path: String },
    #[error(
        "too many path patterns begin with a wildcard or with the same directories to be compared with each other; begin them with different directories"
    )]
    TooEntangled,
    #[error("task `{task}`: `{path}` is not a relative path pattern inside the tree")]
    BadPath { task: TaskSlug, path: String },
    #[error("task `{task}` names no path it may write")]
    NoPaths { task: TaskSlug },
    #[error("task `{task}`: {what} is {got}, the limit is {limit}")]
    TooLarge { task: TaskSlug, what: &'static str, got: usize, limit: usize },
    #[error("task `{task}` is for role `{}`; only backend, frontend, devops, qa and registered-agent build", role.as_str())]
    NotABuilder { task: TaskSlug, role: Role },
    #[error("task `{task}` is for a registered agent and does not say which; name it as `agent`")]
    NoAgent { task: TaskSlug },
    #[error("task `{task}` ({}) may not write `{path}`", role.as_str())]
    PathOutsideRole { task: TaskSlug, role: Role, path: String },
    #[error("the tasks' shares add up to {asked} {unit}, the job may spend {cap}; give them smaller shares")]
    BudgetExceeded { unit: &'static str, asked: u64, cap: u64 },
    #[error(
        "the shares of the other tasks leave {left} {unit} for {tasks} task(s) that name none, and each needs {least} at least; give smaller shares"
    )]
    BudgetLeavesNothing { unit: &'static str, left: u64, tasks: usize, least: u64 },
    #[error("the new plan has a task `{0}`, and the job has or had one of that name; choose another")]
    SlugUsed(TaskSlug),
    #[error("and more findings; correct these first")]
    More,
}

fn join(slugs: &[TaskSlug]) -> String {
    slugs.iter().map(TaskSlug::as_str).collect::<Vec<_>>().join(", ")
}

impl Plan {
    /// What is wrong with the plan, at most [`MAX_FINDINGS`] and a word that there is more; empty = valid.
    pub fn validate(&self, limits: &PlanLimits) -> Vec<PlanError> {
        self.validate_after(limits, &BTreeSet::new())
    }

    /// Like [`Self::validate`] for a plan of which some tasks are `finished`: these come before all others, whether
    /// the others name them or not.
    pub fn validate_after(&self, limits: &PlanLimits, finished: &BTreeSet<TaskSlug>) -> Vec<PlanError> {
        let mut found = self.sizes(limits);
        if !found.is_empty() {
            return found;
        }
        let mut slugs = BTreeSet::new();
        for task in &self.tasks {
            if !slugs.insert(&task.slug) {
                found.push(PlanError::DuplicateSlug(task.slug.clone()));
            }
            task.validate(limits, &mut found);
        }
        for task in &self.tasks {
            for on in task.depends_on.iter().filter(|on| !slugs.contains(on)) {
                found.push(PlanError::UnknownDependency { task: task.slug.clone(), on: on.clone() });
            }
        }
        if found.is_empty() {
            match Graph::of(self) {
                Err(circle) => found.push(PlanError::Cycle(circle)),
                Ok(graph) if graph.depth() > limits.depth => {
                    found.push(PlanError::TooDeep { got: graph.depth(), limit: limits.depth });
                }
                Ok(graph) if graph.width() > limits.width => {
                    found.push(PlanError::TooWide { got: graph.width(), limit: limits.width });
                }
                Ok(graph) => self.overlaps(&graph.ancestors(), finished, &mut found),
            }
        }
        if found.len() > MAX_FINDINGS {
            found.truncate(MAX_FINDINGS);
            found.push(PlanError::More);
        }
        found
    }

    /// What must hold before anything is looked at one by one: it bounds the work of all that follows.
    fn sizes(&self, limits: &PlanLimits) -> Vec<PlanError> {
        let sum = |of: fn(&PlanTask) -> usize| self.tasks.iter().map(of).fold(0, usize::saturating_add);
        let (tasks, paths) = (self.tasks.len(), sum(|t| t.paths.len()));
        let dependencies = sum(|t| t.depends_on.len());
        let bytes = sum(PlanTask::text_bytes).saturating_add(self.summary.len());
        let mut found = Vec::new();
        if tasks == 0 {
            found.push(PlanError::Empty);
        }
        if tasks > limits.tasks {
            found.push(PlanError::TooManyTasks { got: tasks, limit: limits.tasks });
        }
        if paths > limits.paths {
            found.push(PlanError::TooManyPaths { got: paths, limit: limits.paths });
        }
        if dependencies > limits.dependencies {
            found.push(PlanError::TooManyDependencies { got: dependencies, limit: limits.dependencies });
        }
        if bytes > limits.bytes {
            found.push(PlanError::TooLong { got: bytes, limit: limits.bytes });
        }
        found
    }

    /// Finds the pairs of tasks that may write the same path while neither waits for the other. Patterns are put in
    /// order by their beginnings without wildcards, so that all that a pattern can meet stands right behind it.
    fn overlaps(&self, ancestors: &Ancestors, finished: &BTreeSet<TaskSlug>, found: &mut Vec<PlanError>) {
        let done: Vec<bool> = self.tasks.iter().map(|t| finished.contains(&t.slug)).collect();
        let mut shapes: Vec<(Shape<'_>, usize, usize)> = Vec::new();
        for (i, task) in self.tasks.iter().enumerate().filter(|(i, _)| !done[*i]) {
            shapes.extend(task.paths.iter().enumerate().map(|(n, path)| (Shape::of(path), i, n)));
        }
        shapes.sort_by(|(a, i, n), (b, j, m)| (a.literal(), i, n).cmp(&(b.literal(), j, m)));
        let mut pairs = BTreeMap::new();
        let mut compared = 0;
        for (at, (shape, i, n)) in shapes.iter().enumerate() {
            let near = shapes[at + 1..].iter().take_while(|(o, ..)| o.literal().starts_with(shape.literal()));
            for (other, j, m) in near {
                let (a, b, of_a) = if i < j { (*i, *j, *n) } else { (*j, *i, *m) };
                if a == b || ancestors.ordered(a, b) || pairs.contains_key(&(a, b)) {
                    continue;
                }
                compared += 1;
                if compared > MAX_COMPARISONS || pairs.len() > MAX_FINDINGS {
                    break;
                }
                if shape.may_meet(other) {
                    pairs.insert((a, b), of_a);
                }
            }
        }
        for ((a, b), path) in pairs {
            let (a, b) = (&self.tasks[a], &self.tasks[b]);
            let path = a.paths[path].clone();
            found.push(PlanError::Overlap { a: a.slug.clone(), b: b.slug.clone(), path });
        }
        if found.is_empty() && compared > MAX_COMPARISONS {
            found.push(PlanError::TooEntangled);
        }
    }

    /// What is wrong with a coordinator's plan that goes on from the `finished` tasks of a job that has also `used` other
    /// slugs. A new task may depend on new and on finished ones.
    pub fn validate_continuation(
        &self,
        finished: &BTreeSet<TaskSlug>,
        used: &BTreeSet<TaskSlug>,
    ) -> Vec<PlanError> {
        let again = |slug: &TaskSlug| finished.contains(slug) || used.contains(slug);
        let found: Vec<PlanError> = self
            .tasks
            .iter()
            .filter(|t| again(&t.slug))
            .map(|t| PlanError::SlugUsed(t.slug.clone()))
            .take(MAX_FINDINGS)
            .collect();
        if !found.is_empty() {
            return found;
        }
        // What it builds on is there already.
        let mut alone = self.clone();
        alone.tasks.iter_mut().for_each(|t| t.depends_on.retain(|on| !finished.contains(on)));
        alone.validate(&PlanLimits::COORDINATOR)
    }

    /// The plan that goes on from `finished` with `new`: what is finished stays word for word and comes first. A new
    /// task may depend on new and on finished ones; it may not have a slug of `finished` or `used`.
    pub fn extend(finished: &Plan, used: &BTreeSet<TaskSlug>, new: Plan) -> Result<Plan, Vec<PlanError>> {
        let done: BTreeSet<TaskSlug> = finished.tasks.iter().map(|t| t.slug.clone()).collect();
        let found = new.validate_continuation(&done, used);
        if !found.is_empty() {
            return Err(found);
        }
        let mut whole = Plan { summary: new.summary, tasks: finished.tasks.clone() };
        whole.tasks.extend(new.tasks);
        let found = whole.validate_after(&PlanLimits::SUPPLIED, &done);
        if found.is_empty() { Ok(whole) } else { Err(found) }
    }
}

impl PlanTask {
    fn text_bytes(&self) -> usize {
        let checks = self.checks.iter().map(|c| c.id.len() + c.command.len());
        let paths = self.paths.iter().chain(&self.expected_outputs).map(String::len);
        self.title.len() + self.instructions.len() + checks.sum::<usize>() + paths.sum::<usize>()
    }

    fn validate(&self, limits: &PlanLimits, found: &mut Vec<PlanError>) {
        let task = || self.slug.clone();
        if !self.slug.is_plain() || matches!(self.slug.as_str(), "intake" | "plan") {
            found.push(PlanError::ReservedSlug(task()));
        }
        match self.role {
            Role::Backend | Role::Frontend | Role::Devops | Role::Qa => {}
            Role::RegisteredAgent if self.agent.is_none() => found.push(PlanError::NoAgent { task: task() }),
            Role::RegisteredAgent => {}
            Role::Governance
            | Role::Coordinator
            | Role::Worker
            | Role::Proxy
            | Role::Deployer
            | Role::Submitter
            | Role::Approver
            | Role::Operator
            | Role::Auditor
            | Role::Viewer
            | Role::Admin => {
                found.push(PlanError::NotABuilder { task: task(), role: self.role });
            }
        }
        let longest_check = self.checks.iter().map(|c| c.command.len()).max().unwrap_or(0);
        if self.paths.is_empty() {
            found.push(PlanError::NoPaths { task: task() });
        }
        for (what, got, limit) in [
            ("the number of paths", self.paths.len(), limits.paths_per_task),
            ("the length of the instructions", self.instructions.len(), limits.instruction_bytes),
            ("the number of checks", self.checks.len(), limits.paths_per_task),
            ("the number of expected outputs", self.expected_outputs.len(), limits.paths_per_task),
            ("the number of dependencies", self.depends_on.len(), limits.tasks),
            ("the length of the title", self.title.len(), crate::job::MAX_TITLE_BYTES),
            ("the length of a check's command", longest_check, crate::job::MAX_COMMAND_BYTES),
        ] {
            if got > limit {
                found.push(PlanError::TooLarge { task: task(), what, got, limit });
            }
        }
        for path in self.paths.iter().chain(&self.expected_outputs) {
            if !is_tree_pattern(path) || path.split('/').count() > MAX_PATH_DEPTH {
                found.push(PlanError::BadPath { task: task(), path: path.clone() });
            } else if !crate::access::role_may_claim(self.role, path) {
                found.push(PlanError::PathOutsideRole { task: task(), role: self.role, path: path.clone() });
            }
        }
    }
}
