//! Why a job failed, in one paragraph a person can act on.

use std::fmt::Write as _;

use df_contract::{FailureKind, TaskState};
use df_control_machine::{FailureNote, JobRecord, TaskRecord};

/// Most lines of the evidence, and most bytes, that the paragraph quotes; the whole is in the attempt's trace.
const MAX_EVIDENCE_LINES: usize = 6;
const MAX_EVIDENCE_BYTES: usize = 1_200;
/// Most tasks that the paragraph names one by one.
const MAX_NAMED: usize = 8;

/// The task at the root, what was tried, the evidence, what else came to nothing, and what can be done.
pub(crate) fn root_cause(record: &JobRecord) -> String {
    let Some(note) = &record.root_cause else { return "a task failed".to_owned() };
    let task = record.tasks.get(&note.task);
    let role = task.map_or(String::new(), |t| format!(" ({})", t.role.as_str()));
    let mut out = format!(
        "task `{}`{role} failed after {} attempt(s): {}: {}",
        note.task,
        note.attempts,
        note.kind.as_str(),
        evidence(&note.detail)
    );
    if !matches!(out.chars().last(), Some('.' | '!' | '?')) {
        out.push('.');
    }
    if let Some(checks) = task.and_then(failing_checks) {
        let _ = write!(out, " Checks that failed: {checks}.");
    }
    let skipped = named(record.tasks.values().filter(|t| t.state == TaskState::Skipped));
    if let Some(skipped) = skipped {
        let _ = write!(out, " Skipped, because they build on it: {skipped}.");
    }
    if record.replans > 0 {
        let dropped = record.tasks.values().filter(|t| t.state == TaskState::Cancelled);
        let dropped = named(dropped).map_or(String::new(), |d| format!(", which dropped {d}"));
        let _ = write!(out, " The rest was planned anew {} time(s){dropped}.", record.replans);
    }
    let _ = write!(out, " What to do: {}.", advice(record, note));
    out
}

/// The first lines of what the failure said, as one text.
fn evidence(detail: &str) -> String {
    let lines: Vec<&str> = detail.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let mut text = lines.iter().take(MAX_EVIDENCE_LINES).copied().collect::<Vec<_>>().join(" / ");
    let cut = text.floor_char_boundary(MAX_EVIDENCE_BYTES);
    if lines.len() > MAX_EVIDENCE_LINES || cut < text.len() {
        text.truncate(cut);
        text.push_str(" …");
    }
    if text.is_empty() { "it left no word".to_owned() } else { text }
}

fn failing_checks(task: &TaskRecord) -> Option<String> {
    let failed: Vec<String> = task
        .output
        .checks
        .iter()
        .filter(|c| !c.passed)
        .take(MAX_NAMED)
        .map(|c| format!("`{}`", c.id))
        .collect();
    (!failed.is_empty()).then(|| failed.join(", "))
}

/// The plan's tasks among `tasks`, without their merges.
fn named<'a>(tasks: impl Iterator<Item = &'a TaskRecord>) -> Option<String> {
    let slugs: Vec<&TaskRecord> = tasks.filter(|t| t.plan_task.is_some() && t.merges.is_none()).collect();
    let shown: Vec<String> = slugs.iter().take(MAX_NAMED).map(|t| format!("`{}`", t.slug)).collect();
    let more = slugs.len().saturating_sub(MAX_NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!shown.is_empty()).then(|| shown.join(", ") + &more)
}

fn advice(record: &JobRecord, note: &FailureNote) -> String {
    let again = format!("`devfactory retry {}` begins a new job from what is merged", record.id);
    let cause = match note.kind {
        FailureKind::SourceUnreadable => return "mend the source and submit the job again".to_owned(),
        FailureKind::BudgetExhausted => Some("ask for a higher budget"),
        FailureKind::LimitReached => Some("cut the task smaller, or raise its limits"),
        FailureKind::ModelUnavailable | FailureKind::ModelRefused => {
            Some("look at the proxy's accounts and models")
        }
        FailureKind::RecordingMismatch => Some("record the conversation again, or name a model"),
        FailureKind::DependencyRefused => Some("ask for the package in `capabilities.dependencies`"),
        FailureKind::DependencyConflict => Some("say which of the packages is to give way"),
        FailureKind::PolicyBreach => Some("widen the paths of the task in the plan"),
        FailureKind::ContractBreach => Some("make the instructions clearer, or name another model"),
        FailureKind::AgentCrash
        | FailureKind::ToolFailure
        | FailureKind::Infrastructure
        | FailureKind::LeaseExpired
        | FailureKind::Stalled => Some("read the worker's log"),
        FailureKind::CheckFailure => Some("read the check's output in the attempt's trace"),
        FailureKind::MergeConflict => Some("order the tasks that write the same files"),
    };
    cause.map_or(again.clone(), |cause| format!("{cause}; then {again}"))
}
