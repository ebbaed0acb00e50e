//! What is put in, and how a job with it must end.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use df_contract::{Digest, FailureKind, Lease};
use df_testkit::{Fault, file_task, planned_job};
use serde_json::{Value, json};

use crate::shapes;

/// A source that cannot be read.
pub(crate) const NO_ARCHIVE: &[u8] = b"this is no archive";

/// What the worker that fails has, and at first no other.
pub(crate) const LABEL: &str = "patched";
/// Every kind of failure is seen at least so often among the many.
pub(crate) const LEAST: usize = 10;

/// The model of the `n`th job, where it is one whose provider is away: one of its own, so that no other job meets it.
pub(crate) fn model_away(n: usize) -> String {
    format!("away-{n}")
}

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
    MergeResolved,
    BudgetRaised,
    ShareUsedUp,
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
    pub(crate) const ALL: [Scenario; 25] = [
        Scenario::Plain,
        Scenario::ModelAway,
        Scenario::ModelRefuses,
        Scenario::CheckFails,
        Scenario::ContractBroken,
        Scenario::PolicyBroken,
        Scenario::GoesInCircles,
        Scenario::MergeConflict,
        Scenario::MergeBreaksCheck,
        Scenario::MergeResolved,
        Scenario::BudgetRaised,
        Scenario::ShareUsedUp,
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
            Scenario::MergeResolved => "name-file",
            Scenario::BudgetRaised => "poor",
            Scenario::ShareUsedUp => "share",
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

    /// How many jobs of this kind are among the many; those of no failure make up the rest.
    pub(crate) fn copies(self) -> usize {
        match self {
            Scenario::Plain => 0,
            // Two scenarios or three that put in the same.
            Scenario::PolicyBroken => 4,
            Scenario::SkippedTask | Scenario::PlannedAnew => 3,
            Scenario::Infrastructure | Scenario::ReportedTwice => 5,
            Scenario::MergeConflict => 8,
            Scenario::CheckFails => 6,
            Scenario::MergeResolved
            | Scenario::MergeBreaksCheck
            | Scenario::WorkerDrains
            | Scenario::BudgetRaised => 4,
            // Put in by a model: a worker or the daemon that is killed may take one with it.
            Scenario::ModelAway
            | Scenario::ModelRefuses
            | Scenario::ContractBroken
            | Scenario::GoesInCircles
            | Scenario::ShareUsedUp => LEAST + 1,
            Scenario::SourceUnreadable
            | Scenario::AgentCrashes
            | Scenario::ToolFails
            | Scenario::DependencyRefused
            | Scenario::DependencyConflict
            | Scenario::RecordingMismatch
            | Scenario::Stalls
            | Scenario::WorkerVanishes => LEAST,
        }
    }

    /// The many: every kind in turn until each has its copies, and plain jobs up to `jobs`.
    pub(crate) fn many(jobs: usize) -> Vec<Scenario> {
        let most = Self::ALL.iter().map(|s| s.copies()).max().unwrap_or(0);
        let due = |round: usize| Self::ALL.into_iter().filter(move |s| s.copies() > round);
        let mut all: Vec<Scenario> = (0..most).flat_map(due).collect();
        assert!(all.len() < jobs, "{} jobs with a failure leave no room for plain ones", all.len());
        all.resize(jobs, Self::Plain);
        all
    }

    /// A few that an ordinary run has time for.
    pub(crate) fn few() -> Vec<Scenario> {
        vec![
            Scenario::Plain,
            Scenario::SkippedTask,
            Scenario::PlannedAnew,
            Scenario::MergeConflict,
            Scenario::MergeResolved,
            Scenario::CheckFails,
            Scenario::AgentCrashes,
            Scenario::WorkerDrains,
        ]
    }

    /// The kind of failure that must then be in the audit log.
    pub(crate) fn injects(self) -> Option<FailureKind> {
        Some(match self {
            Scenario::Plain | Scenario::BudgetRaised | Scenario::WorkerDrains => return None,
            Scenario::ModelAway => FailureKind::ModelUnavailable,
            Scenario::ModelRefuses => FailureKind::ModelRefused,
            Scenario::CheckFails | Scenario::MergeBreaksCheck => FailureKind::CheckFailure,
            Scenario::ContractBroken => FailureKind::ContractBreach,
            Scenario::PolicyBroken | Scenario::SkippedTask | Scenario::PlannedAnew => {
                FailureKind::PolicyBreach
            }
            Scenario::GoesInCircles => FailureKind::LimitReached,
            Scenario::MergeConflict | Scenario::MergeResolved => FailureKind::MergeConflict,
            Scenario::ShareUsedUp => FailureKind::BudgetExhausted,
            Scenario::SourceUnreadable => FailureKind::SourceUnreadable,
            Scenario::AgentCrashes => FailureKind::AgentCrash,
            Scenario::ToolFails => FailureKind::ToolFailure,
            Scenario::Infrastructure | Scenario::ReportedTwice => FailureKind::Infrastructure,
            Scenario::DependencyRefused => FailureKind::DependencyRefused,
            Scenario::DependencyConflict => FailureKind::DependencyConflict,
            Scenario::RecordingMismatch => FailureKind::RecordingMismatch,
            Scenario::Stalls => FailureKind::Stalled,
            Scenario::WorkerVanishes => FailureKind::LeaseExpired,
        })
    }

    pub(crate) fn ends(self) -> Ends {
        match self {
            Scenario::PolicyBroken => Ends::Failed("policy_breach"),
            Scenario::MergeConflict => Ends::Failed("task `clash-"),
            Scenario::MergeBreaksCheck => Ends::Failed("check_failure"),
            Scenario::ShareUsedUp => Ends::Failed("budget_exhausted"),
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
            | Scenario::MergeResolved
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
        let mut job = planned_job(&format!("Job {n} {self:?}"), &self.tasks(n));
        if self.is_faulty() {
            job["labels"] = json!([LABEL]);
        }
        match self {
            Scenario::SkippedTask => of(&mut job, slug)["on_failure"] = json!("skip"),
            Scenario::PlannedAnew => job["on_failure"] = json!("replan"),
            // Less than one call.
            Scenario::ShareUsedUp => of(&mut job, slug)["tokens"] = json!(1_000),
            Scenario::ModelAway => job["model"] = json!(model_away(n)),
            Scenario::BudgetRaised => job["budget"] = json!({"tokens": 5_000}),
            Scenario::SourceUnreadable => {
                job["source"] = json!({"kind": "tarball", "digest": Digest::of(NO_ARCHIVE)});
            }
            _ => {}
        }
        job
    }

    fn tasks(self, n: usize) -> Vec<Value> {
        let slug = self.slug();
        match self {
            Scenario::MergeConflict => shapes::clash(),
            Scenario::MergeResolved => shapes::one_name(),
            Scenario::MergeBreaksCheck => shapes::alone(),
            Scenario::SkippedTask | Scenario::PlannedAnew => {
                vec![file_task("good", &[]), file_task(slug, &[]), file_task("after", &[slug])]
            }
            Scenario::BudgetRaised => shapes::shape(1, slug),
            // The worker that fails keeps all else that it is given.
            _ if self.is_faulty() => shapes::rooted(n, slug),
            _ => shapes::shape(n, slug),
        }
    }

    /// Whether it is the faulty worker that fails.
    pub(crate) fn is_faulty(self) -> bool {
        fault_of(self.slug()).is_some()
    }
}

fn of<'a>(job: &'a mut Value, slug: &str) -> &'a mut Value {
    let tasks = job["plan"]["tasks"].as_array_mut().unwrap();
    tasks.iter_mut().find(|t| t["slug"] == slug).unwrap()
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

/// The fate of each lease: its fault once; whatever else it gets it keeps for a worker that works.
pub(crate) fn fault(faulted: &Faulted) -> impl Fn(&Lease) -> Fault + Send + Sync + 'static {
    let faulted = Arc::clone(faulted);
    move |lease| {
        let Some(fault) = fault_of(lease.slug.as_str()) else { return Fault::Keep };
        let first = faulted.lock().unwrap().insert(format!("{}/{}", lease.job, lease.slug));
        if first { fault } else { Fault::Keep }
    }
}

#[test]
fn every_kind_of_failure_is_put_in_often_enough() {
    // All of them can end an attempt: a new kind needs a scenario.
    for kind in FailureKind::ALL {
        let of_kind = Scenario::ALL.into_iter().filter(|s| s.injects() == Some(*kind));
        let jobs: usize = of_kind.map(Scenario::copies).sum();
        assert!(jobs >= LEAST, "{}: {jobs} jobs", kind.as_str());
    }
    assert!(Scenario::many(crate::JOBS).contains(&Scenario::Plain));
}
