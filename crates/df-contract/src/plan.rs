//! A plan: a bounded, acyclic graph of tasks whose paths are disjoint or whose order is fixed.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{AcceptanceCheck, AgentName, NanoUsd, Role, TaskSlug, Tokens};

/// The work of a job, cut into tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// What the plan is about, in a sentence or two.
    pub summary: String,
    pub tasks: Vec<PlanTask>,
}

/// One task of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanTask {
    pub slug: TaskSlug,
    /// `backend`, `frontend`, `devops`, `qa`, or `registered-agent` together with `agent`.
    pub role: Role,
    pub title: String,
    pub instructions: String,
    /// Slugs of the tasks whose integrated result this one builds on.
    #[serde(default)]
    pub depends_on: Vec<TaskSlug>,
    /// Globs of the paths this task may write, relative to the root of the tree.
    pub paths: Vec<String>,
    /// Files that must exist afterwards.
    #[serde(default)]
    pub expected_outputs: Vec<String>,
    /// Commands that must exit 0 in the task's tree and again after its merge.
    #[serde(default)]
    pub checks: Vec<AcceptanceCheck>,
    /// This task's share of the job's tokens; absent = an equal share of what is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Tokens>,
    /// This task's share of the job's money.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nano_usd: Option<NanoUsd>,
    /// The registered agent that does it; absent = the built-in one of the role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// What becomes of the job when this task fails for good; absent = as the job says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
}

/// What becomes of a job when one of its tasks fails for good.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The job fails.
    #[default]
    Fail,
    /// The task and all that builds on it are left out; the rest goes on.
    Skip,
    /// What is finished stays, and the coordinator plans the rest anew, a bounded number of times.
    Replan,
}

impl OnFailure {
    pub const fn as_str(self) -> &'static str {
        match self {
            OnFailure::Fail => "fail",
            OnFailure::Skip => "skip",
            OnFailure::Replan => "replan",
        }
    }
}

/// Bounds on any plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanLimits {
    pub tasks: usize,
    pub depth: usize,
    pub paths_per_task: usize,
    pub instruction_bytes: usize,
    /// Paths of all tasks together: every pair is compared.
    pub paths: usize,
}

/// Most components of a path that a plan names.
const MAX_PATH_DEPTH: usize = 24;

impl Default for PlanLimits {
    fn default() -> Self {
        Self { tasks: 64, depth: 16, paths_per_task: 64, instruction_bytes: 32 * 1024, paths: 512 }
    }
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
    #[error("task `{task}`: `{path}` is not a relative path pattern inside the tree")]
    BadPath { task: TaskSlug, path: String },
    #[error("task `{task}` names no path it may write")]
    NoPaths { task: TaskSlug },
    #[error("task `{task}`: {what} is {got}, the limit is {limit}")]
    TooLarge { task: TaskSlug, what: &'static str, got: usize, limit: usize },
    #[error("task `{task}` is for role `{}`; only backend, frontend, devops and qa build", role.as_str())]
    NotABuilder { task: TaskSlug, role: Role },
    #[error("task `{task}` ({}) may not write `{path}`", role.as_str())]
    PathOutsideRole { task: TaskSlug, role: Role, path: String },
}

fn join(slugs: &[TaskSlug]) -> String {
    slugs.iter().map(TaskSlug::as_str).collect::<Vec<_>>().join(", ")
}

impl Plan {
    /// Everything that is wrong with the plan; empty = valid.
    pub fn validate(&self, limits: &PlanLimits) -> Vec<PlanError> {
        let mut found = Vec::new();
        if self.tasks.is_empty() {
            return vec![PlanError::Empty];
        }
        if self.tasks.len() > limits.tasks {
            return vec![PlanError::TooManyTasks { got: self.tasks.len(), limit: limits.tasks }];
        }
        let paths = self.tasks.iter().map(|t| t.paths.len()).sum();
        if paths > limits.paths {
            return vec![PlanError::TooManyPaths { got: paths, limit: limits.paths }];
        }
        let mut by_slug = BTreeMap::new();
        for task in &self.tasks {
            if by_slug.insert(&task.slug, task).is_some() {
                found.push(PlanError::DuplicateSlug(task.slug.clone()));
            }
            task.validate(limits, &mut found);
        }
        for task in &self.tasks {
            for on in task.depends_on.iter().filter(|on| !by_slug.contains_key(on)) {
                found.push(PlanError::UnknownDependency { task: task.slug.clone(), on: on.clone() });
            }
        }
        if !found.is_empty() {
            return found;
        }
        match self.layers() {
            Err(cycle) => found.push(PlanError::Cycle(cycle)),
            Ok(layers) if layers.len() > limits.depth => {
                found.push(PlanError::TooDeep { got: layers.len(), limit: limits.depth });
            }
            Ok(_) => self.overlaps(&mut found),
        }
        found
    }

    /// Tasks in layers: each depends only on earlier layers. The error names the tasks of a circle.
    pub fn layers(&self) -> Result<Vec<Vec<TaskSlug>>, Vec<TaskSlug>> {
        let mut left: BTreeMap<&TaskSlug, BTreeSet<&TaskSlug>> =
            self.tasks.iter().map(|t| (&t.slug, t.depends_on.iter().collect())).collect();
        let mut layers = Vec::new();
        while !left.is_empty() {
            let free: Vec<&TaskSlug> = left
                .iter()
                .filter(|(_, on)| on.iter().all(|d| !left.contains_key(d)))
                .map(|(s, _)| *s)
                .collect();
            if free.is_empty() {
                return Err(left.keys().map(|s| (*s).clone()).collect());
            }
            left.retain(|slug, _| !free.contains(slug));
            layers.push(free.into_iter().cloned().collect());
        }
        Ok(layers)
    }

    /// The slugs that `slug` waits for, directly or not.
    pub fn ancestors(&self, slug: &TaskSlug) -> BTreeSet<TaskSlug> {
        let mut seen = BTreeSet::new();
        let mut queue = vec![slug.clone()];
        while let Some(next) = queue.pop() {
            for task in self.tasks.iter().filter(|t| t.slug == next) {
                queue.extend(task.depends_on.iter().filter(|d| seen.insert((*d).clone())).cloned());
            }
        }
        seen
    }

    fn overlaps(&self, found: &mut Vec<PlanError>) {
        let before: Vec<BTreeSet<TaskSlug>> = self.tasks.iter().map(|t| self.ancestors(&t.slug)).collect();
        for (i, a) in self.tasks.iter().enumerate() {
            for (b, before_b) in self.tasks.iter().zip(&before).skip(i + 1) {
                if before[i].contains(&b.slug) || before_b.contains(&a.slug) {
                    continue;
                }
                if let Some(path) = a.paths.iter().find(|p| b.paths.iter().any(|q| patterns_may_meet(p, q))) {
                    found.push(PlanError::Overlap {
                        a: a.slug.clone(),
                        b: b.slug.clone(),
                        path: path.clone(),
                    });
                }
            }
        }
    }
}

impl PlanTask {
    fn validate(&self, limits: &PlanLimits, found: &mut Vec<PlanError>) {
        let task = || self.slug.clone();
        if !self.slug.is_plain() || matches!(self.slug.as_str(), "intake" | "plan") {
            found.push(PlanError::ReservedSlug(task()));
        }
        match self.role {
            Role::Backend | Role::Frontend | Role::Devops | Role::Qa | Role::RegisteredAgent => {}
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

    /// Whether this task may write `path` (a plain relative path).
    pub fn may_write(&self, path: &str) -> bool {
        is_tree_pattern(path)
            && self.paths.iter().any(|p| pattern_matches(p, path))
            && crate::access::role_may_write(self.role, path)
    }
}

/// Whether `pattern` is relative, stays inside the tree, does not touch git's own files, and is a valid glob.
pub fn is_tree_pattern(pattern: &str) -> bool {
    !pattern.is_empty()
        && pattern.len() <= 512
        && !pattern.starts_with('/')
        && !pattern.contains('\\')
        && !pattern.chars().any(char::is_control)
        && pattern
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != ".." && !part.eq_ignore_ascii_case(".git"))
        && globset::Glob::new(pattern).is_ok()
}

/// Whether the glob `pattern` matches `path`. `*` stays within a path component, `**` crosses them; a pattern
/// without wildcard also matches everything below it when it names a directory (`src` matches `src/a.py`).
pub fn pattern_matches(pattern: &str, path: &str) -> bool {
    let below = pattern.trim_end_matches('/');
    if path == below || path.strip_prefix(below).is_some_and(|rest| rest.starts_with('/')) {
        return true;
    }
    // Compiling is the dear part, so what the literal beginning rules out never gets there.
    let Some(wild) = pattern.find(['*', '?', '[', '{', '\\']) else { return false };
    path.starts_with(&pattern[..wild])
        && globset::GlobBuilder::new(pattern)
            .literal_separator(true)
            .build()
            .is_ok_and(|g| g.compile_matcher().is_match(path))
}

/// Whether two patterns might match a common path. Errs on the side of yes, with one exception: a name with an
/// extension (`web/x.js`) is taken for a file, below which nobody else writes.
fn patterns_may_meet(a: &str, b: &str) -> bool {
    let (a, b) = (components(a), components(b));
    // Row by row: meet[j] says whether the rest of `a` from here and `b[j..]` have a path in common.
    let rest_is_any = |rest: &[&str]| rest.iter().all(|part| *part == "**");
    let mut meet: Vec<bool> = (0..=b.len()).map(|j| rest_is_any(&b[j..])).collect();
    for i in (0..a.len()).rev() {
        let below = std::mem::replace(&mut meet, vec![false; b.len() + 1]);
        meet[b.len()] = rest_is_any(&a[i..]);
        for j in (0..b.len()).rev() {
            meet[j] = match (a[i], b[j]) {
                ("**", _) | (_, "**") => below[j] || meet[j + 1] || below[j + 1],
                (x, y) => below[j + 1] && names_may_meet(x, y),
            };
        }
    }
    meet[0]
}

/// A pattern cut at its slashes, with `**` for all that cannot be cut (a brace group over several components) and
/// for what lies below a directory named in full.
fn components(pattern: &str) -> Vec<&str> {
    let mut parts: Vec<&str> = pattern.trim_end_matches('/').split('/').collect();
    let torn = |part: &&str| part.matches('{').count() != part.matches('}').count();
    if let Some(at) = parts.iter().position(torn) {
        parts.truncate(at);
        parts.push("**");
    } else if !pattern.contains(WILD) && !parts.last().is_some_and(|name| name[1..].contains('.')) {
        parts.push("**");
    }
    parts
}

const WILD: [char; 4] = ['*', '?', '[', '{'];

/// Whether one name could fit both patterns, by their literal beginnings and ends.
fn names_may_meet(a: &str, b: &str) -> bool {
    let ends = |p: &'_ str| {
        let begin = p.find(WILD)?;
        let end = p.rfind(['*', '?', ']', '}']).map_or(p.len(), |i| i + 1);
        Some((begin, end))
    };
    let fits = |name: &str, p: &str, (begin, end): (usize, usize)| {
        name.starts_with(&p[..begin]) && name.ends_with(&p[end..])
    };
    match (ends(a), ends(b)) {
        (None, None) => a == b,
        (Some(cut), None) => fits(b, a, cut),
        (None, Some(cut)) => fits(a, b, cut),
        (Some((x, end_x)), Some((y, end_y))) => {
            let (begin_a, begin_b, end_a, end_b) = (&a[..x], &b[..y], &a[end_x..], &b[end_y..]);
            (begin_a.starts_with(begin_b) || begin_b.starts_with(begin_a))
                && (end_a.ends_with(end_b) || end_b.ends_with(end_a))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Add as _;

    use super::*;

    fn task(slug: &str, on: &[&str], paths: &[&str]) -> PlanTask {
        PlanTask {
            slug: slug.parse().unwrap(),
            role: Role::Backend,
            title: slug.into(),
            instructions: "x".into(),
            depends_on: on.iter().map(|s| s.parse().unwrap()).collect(),
            paths: paths.iter().map(|s| (*s).to_owned()).collect(),
            expected_outputs: vec![],
            checks: vec![],
            tokens: None,
            nano_usd: None,
            agent: None,
            on_failure: None,
        }
    }

    fn check(tasks: Vec<PlanTask>, expect: &str) {
        let found = Plan { summary: "s".into(), tasks }.validate(&PlanLimits::default());
        let text = found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        assert!(if expect.is_empty() { text.is_empty() } else { text.contains(expect) }, "{text}");
    }

    #[test]
    fn plans_are_checked() {
        check(vec![task("a", &[], &["src/**"]), task("b", &["a"], &["src/**"])], "");
        check(vec![task("a", &[], &["src/**"]), task("b", &[], &["web/**"])], "");
        check(vec![], "no tasks");
        check(vec![task("a", &["b"], &["x"]), task("b", &["a"], &["y"])], "circle");
        check(vec![task("a", &["z"], &["x"])], "does not have");
        check(vec![task("a", &[], &["x"]), task("a", &[], &["y"])], "two tasks");
        check(vec![task("a", &[], &["src/**"]), task("b", &[], &["src/x.py"])], "both write");
        check(vec![task("a", &[], &["src"]), task("b", &[], &["src/*.py"])], "both write");
        check(vec![task("a", &[], &["**/*.py"]), task("b", &[], &["web/x.js"])], "");
        for outside in ["../x", "/etc/x", ".git/hooks/x", "a/.GIT/x", "a//b", "a\\b", "a\nb"] {
            check(vec![task("a", &[], &[outside])], "not a relative path");
        }
        for made in ["integrate.a", "plan", "intake"] {
            check(vec![task(made, &[], &["x"])], "made by the factory itself");
        }
        check(
            (0..9)
                .map(|i| {
                    let paths: Vec<String> = (0..60).map(|p| format!("d{i}/{p}.py")).collect();
                    task(&format!("t{i}"), &[], &paths.iter().map(String::as_str).collect::<Vec<_>>())
                })
                .collect(),
            "540 paths",
        );
        check(vec![task("a", &[], &[&"d/".repeat(24).add("x")])], "not a relative path");
        check(vec![task("a", &[], &[])], "names no path");
        check((0..65).map(|i| task(&format!("t{i}"), &[], &[&format!("d{i}")])).collect(), "65 tasks");
        let deep = (0..17).map(|i| {
            task(
                &format!("t{i}"),
                &if i == 0 { vec![] } else { vec![format!("t{}", i - 1)] }
                    .iter()
                    .map(String::as_str)
                    .collect::<Vec<_>>(),
                &["x"],
            )
        });
        check(deep.collect(), "17 tasks deep");
    }

    #[test]
    fn patterns_meet_when_some_path_fits_both() {
        for (a, b) in [
            ("src/*/x", "src/foo"),
            ("**/*.py", "src"),
            ("**/x", "a/**/b/x"),
            ("src/**", "src"),
            ("{src/a,tests/b}/c.py", "tests/b/c.py"),
            ("src/{a,b}.py", "src/b.py"),
            ("a*", "*b"),
            ("[st]*/x", "src/x"),
            ("a/**/z", "a/z"),
            ("x.d/**", "x.d/y"),
        ] {
            assert!(patterns_may_meet(a, b) && patterns_may_meet(b, a), "{a} {b}");
        }
        for (a, b) in [
            ("src/*.py", "src/x.js"),
            ("src/**/*.py", "src/**/*.js"),
            ("src/*/x", "src/x.py"),
            ("**/*.py", "web/x.js"),
            ("src/a*", "src/b*"),
            ("src/*", "src/a/b.py"),
            ("tests/**", "src/tests"),
        ] {
            assert!(!patterns_may_meet(a, b) && !patterns_may_meet(b, a), "{a} {b}");
        }
    }

    #[test]
    fn a_glob_star_stays_within_a_component() {
        assert!(pattern_matches("src/*.py", "src/a.py"));
        assert!(!pattern_matches("src/*.py", "src/b/a.py"));
        assert!(pattern_matches("src/**", "src/b/a.py"));
        assert!(pattern_matches("src", "src/b/a.py"));
        assert!(!pattern_matches("src", "srcs"));
    }
}
