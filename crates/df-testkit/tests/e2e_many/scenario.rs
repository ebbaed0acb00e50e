//! What is put in, and how a job with it must end.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use df_contract::{Digest, FailureKind, Lease};
use df_testkit::{Fault, file_task, planned_job};
use serde_json::{Value, json};

/// A source that cannot be read.
pub(crate) const NO_ARCHIVE: &[u8] = b"this is no archive";

/// One kind of job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scenario {
    Plain,
    ModelAway,
    ModelRefuses,
    CheckFails,
    ContractBroken,
    PolicyBroken,
    GoesInCircles,
    MergeConflict,
    MergeBreaksCheck,
    BudgetRaised,
    SourceUnreadable,
    AgentCrashes,
    ToolFails,
    Infrastructure,
    ReportedTwice,
    DependencyRefused,
    DependencyConflict,
    RecordingMismatch,
    Stalls,
    WorkerVanishes,
    WorkerDrains,
    SkippedTask,
    PlannedAnew,
}

/// How a job ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ends {
    Completed,
    /// Without this task.
    CompletedWithout(&'static str),
    /// With a cause that says this.
    Failed(&'static str),
}

impl Scenario {
    pub(crate) const ALL: [Scenario; 23] = [
        Scenario::Plain,
        Scenario::ModelAway,
        Scenario::ModelRefuses,
        Scenario::CheckFails,
        Scenario::ContractBroken,
        Scenario::PolicyBroken,
        Scenario::GoesInCircles,
        Scenario::MergeConflict,
        Scenario::MergeBreaksCheck,
        Scenario::BudgetRaised,
        Scenario::SourceUnreadable,
        Scenario::AgentCrashes,
        Scenario::ToolFails,
        Scenario::Infrastructure,
        Scenario::ReportedTwice,
        Scenario::DependencyRefused,
        Scenario::DependencyConflict,
        Scenario::RecordingMismatch,
        Scenario::Stalls,
        Scenario::WorkerVanishes,
        Scenario::WorkerDrains,
        Scenario::SkippedTask,
        Scenario::PlannedAnew,
    ];

    /// The task that fails, at first or for good.
    fn slug(self) -> &'static str {
        match self {
            Scenario::Plain => "plain",
            Scenario::ModelAway => "away",
            Scenario::ModelRefuses => "refused",
            Scenario::CheckFails => "failing",
            Scenario::ContractBroken => "broken",
            Scenario::PolicyBroken | Scenario::SkippedTask | Scenario::PlannedAnew => "outside",
            Scenario::GoesInCircles => "circling",
            Scenario::MergeConflict => "clash-file",
            Scenario::MergeBreaksCheck => "alone",
            Scenario::BudgetRaised => "poor",
            Scenario::SourceUnreadable => "unread",
            Scenario::AgentCrashes => "agent-crash",
            Scenario::ToolFails => "tool-failure",
            Scenario::Infrastructure => "infrastructure",
            Scenario::ReportedTwice => "twice",
            Scenario::DependencyRefused => "dependency-refused",
            Scenario::DependencyConflict => "dependency-conflict",
            Scenario::RecordingMismatch => "recording-mismatch",
            Scenario::Stalls => "stalled",
            Scenario::WorkerVanishes => "vanish",
            Scenario::WorkerDrains => "drain",
        }
    }

    /// The kinds of failure that must then be in the audit log.
    pub(crate) fn injects(self) -> &'static [&'static str] {
        match self {
            Scenario::Plain | Scenario::BudgetRaised | Scenario::WorkerVanishes | Scenario::WorkerDrains => {
                &[]
            }
            Scenario::ModelAway => &["model_unavailable"],
            Scenario::ModelRefuses => &["model_refused"],
            Scenario::CheckFails | Scenario::MergeBreaksCheck => &["check_failure"],
            Scenario::ContractBroken => &["contract_breach"],
            Scenario::PolicyBroken | Scenario::SkippedTask | Scenario::PlannedAnew => &["policy_breach"],
            Scenario::GoesInCircles => &["limit_reached"],
            Scenario::MergeConflict => &["merge_conflict"],
            Scenario::SourceUnreadable => &["source_unreadable"],
            Scenario::AgentCrashes => &["agent_crash"],
            Scenario::ToolFails => &["tool_failure"],
            Scenario::Infrastructure | Scenario::ReportedTwice => &["infrastructure"],
            Scenario::DependencyRefused => &["dependency_refused"],
            Scenario::DependencyConflict => &["dependency_conflict"],
            Scenario::RecordingMismatch => &["recording_mismatch"],
            Scenario::Stalls => &["stalled"],
        }
    }

    pub(crate) fn ends(self) -> Ends {
        match self {
            Scenario::PolicyBroken => Ends::Failed("policy_breach"),
            Scenario::MergeConflict => Ends::Failed("task `clash-"),
            Scenario::MergeBreaksCheck => Ends::Failed("check_failure"),
            Scenario::SourceUnreadable => Ends::Failed("source_unreadable"),
            Scenario::DependencyRefused => Ends::Failed("dependency_refused"),
            Scenario::RecordingMismatch => Ends::Failed("recording_mismatch"),
            Scenario::SkippedTask => Ends::CompletedWithout("after"),
            Scenario::Plain
            | Scenario::ModelAway
            | Scenario::ModelRefuses
            | Scenario::CheckFails
            | Scenario::ContractBroken
            | Scenario::GoesInCircles
            | Scenario::BudgetRaised
            | Scenario::AgentCrashes
            | Scenario::ToolFails
            | Scenario::Infrastructure
            | Scenario::ReportedTwice
            | Scenario::DependencyConflict
            | Scenario::Stalls
            | Scenario::WorkerVanishes
            | Scenario::WorkerDrains
            | Scenario::PlannedAnew => Ends::Completed,
        }
    }

    /// The `n`th job, of this kind; shapes take turns.
    pub(crate) fn job(self, n: usize) -> Value {
        let slug = self.slug();
        let title = format!("Job {n} {self:?}");
        let mut tasks = match self {
            Scenario::MergeConflict => clash(),
            Scenario::MergeBreaksCheck => alone(),
            Scenario::SkippedTask | Scenario::PlannedAnew => {
                vec![file_task("good", &[]), file_task(slug, &[]), file_task("after", &[slug])]
            }
            _ if self.is_faulty() => vec![file_task(slug, &[]), file_task("last", &[slug])],
            _ => shape(n, slug),
        };
        if self == Scenario::SkippedTask {
            tasks[1]["on_failure"] = json!("skip");
        }
        let mut job = planned_job(&title, &tasks);
        if self.is_faulty() {
            job["labels"] = json!(["patched"]);
        }
        match self {
            Scenario::PlannedAnew => job["on_failure"] = json!("replan"),
            Scenario::BudgetRaised => job["budget"] = json!({"tokens": 5_000}),
            Scenario::SourceUnreadable => {
                job["source"] = json!({"kind": "tarball", "digest": Digest::of(NO_ARCHIVE)});
            }
            _ => {}
        }
        job
    }

    /// Whether it is the faulty worker that fails.
    pub(crate) fn is_faulty(self) -> bool {
        fault_of(self.slug()).is_some()
    }
}

fn shape(n: usize, slug: &str) -> Vec<Value> {
    match n % 4 {
        0 => vec![file_task(slug, &[])],
        1 => vec![file_task("first", &[]), file_task(slug, &["first"]), file_task("last", &[slug])],
        2 => vec![file_task("one", &[]), file_task("two", &[]), file_task(slug, &[])],
        _ => vec![
            file_task("top", &[]),
            file_task(slug, &["top"]),
            file_task("side", &["top"]),
            file_task("bottom", &[slug, "side"]),
        ],
    }
}

fn clash() -> Vec<Value> {
    let mut file = file_task("clash-file", &[]);
    let mut dir = file_task("clash-dir", &[]);
    for (task, path) in [(&mut file, "clash.txt"), (&mut dir, "clash.txt/inner")] {
        task["paths"] = json!([path]);
        task["expected_outputs"] = json!([path]);
        task["checks"] = json!([{"id": format!("{}-there", path.replace(['/', '.'], "-")), "command": format!("test -f {path}")}]);
    }
    vec![file, dir]
}

fn alone() -> Vec<Value> {
    let mut alone = file_task("alone", &[]);
    alone["checks"] = json!([{"id": "nobody-else", "command": "test $(ls | wc -l) -eq 1"}]);
    vec![file_task("crowd", &[]), alone]
}

/// What the faulty worker does with a task of this name the first time it gets it.
fn fault_of(slug: &str) -> Option<Fault> {
    Some(match slug {
        // A real worker takes back what a command writes elsewhere; this one lets it get as far as a report.
        "outside" => Fault::Fail(FailureKind::PolicyBreach),
        "agent-crash" => Fault::Fail(FailureKind::AgentCrash),
        "tool-failure" => Fault::Fail(FailureKind::ToolFailure),
        "infrastructure" => Fault::Fail(FailureKind::Infrastructure),
        "twice" => Fault::FailTwice(FailureKind::Infrastructure),
        "dependency-refused" => Fault::Fail(FailureKind::DependencyRefused),
        "dependency-conflict" => Fault::Fail(FailureKind::DependencyConflict),
        "recording-mismatch" => Fault::Fail(FailureKind::RecordingMismatch),
        "stalled" => Fault::Stall,
        "vanish" => Fault::Vanish,
        "drain" => Fault::HandBack,
        _ => return None,
    })
}

/// Leases that had their fault.
pub(crate) type Faulted = Arc<Mutex<HashSet<String>>>;

/// The fate of each lease: its fault once; whatever else it gets is handed back for a worker that works.
pub(crate) fn fault(faulted: &Faulted) -> impl Fn(&Lease) -> Fault + Send + Sync + 'static {
    let faulted = Arc::clone(faulted);
    move |lease| {
        let Some(fault) = fault_of(lease.slug.as_str()) else { return Fault::HandBack };
        let first = faulted.lock().unwrap().insert(format!("{}/{}", lease.job, lease.slug));
        if first { fault } else { Fault::Keep }
    }
}

/// Chains side by side: ten wide, and as deep as it takes.
pub(crate) fn wide_and_deep(count: usize) -> Value {
    const WIDE: usize = 10;
    let slug = |n: usize| format!("t{n}");
    let task = |n: usize| match n.checked_sub(WIDE) {
        None => file_task(&slug(n), &[]),
        Some(before) => file_task(&slug(n), &[&slug(before)]),
    };
    let mut job = planned_job(&format!("{count} tasks"), &(0..count).map(task).collect::<Vec<_>>());
    job["budget"] = json!({"tokens": 20_000_000});
    job
}
