//! Why a job failed, in one paragraph a person can act on.

use std::fmt::Write as _;

use df_contract::{FailureKind, TaskState};
use df_control_machine::task::is_ended;
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
    if !matches!(out.chars().last(), Some('.' | '!' | '?' | '…')) {
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
    // The new plan never came: what it was to mend lies deeper than why it did not.
    if let Some(replan) = &record.replan {
        let _ = write!(out, " It was to be planned anew because of {}.", evidence(&replan.cause));
    }
    let _ = write!(out, " What to do: {}.", advice(record, note));
    out
}

/// Where a job stood when its time was up, the failure it was busy with, and what can be done.
pub(crate) fn out_of_time(record: &JobRecord) -> String {
    let mut out = format!("the job's deadline or wall-clock budget has passed in {}.", record.state);
    let open = |t: &&TaskRecord| matches!(t.state, TaskState::Ready | TaskState::Leased);
    let open: Vec<String> = record
        .tasks
        .values()
        .filter(open)
        .take(MAX_NAMED)
        .map(|t| format!("`{}` ({}, {} attempt(s))", t.slug, t.state, t.attempts))
        .collect();
    if !open.is_empty() {
        let _ = write!(out, " Not finished: {}.", open.join(", "));
    }
    let failures =
        record.tasks.values().filter(|t| !is_ended(t.state)).filter_map(|t| Some((t, t.failures.last()?)));
    if let Some((task, failure)) = failures.max_by_key(|(task, _)| task.failures.len()) {
        let _ = write!(
            out,
            " What failed most of it: `{}`, {} time(s), last with {}: {}",
            task.slug,
            task.failures.len(),
            failure.kind.as_str(),
            evidence(&failure.detail)
        );
        if !out.ends_with(['.', '!', '?', '…']) {
            out.push('.');
        }
    }
    let _ = write!(
        out,
        " What to do: give it more time; `devfactory retry {}` begins a new job from what is merged.",
        record.id
    );
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

#[cfg(test)]
mod tests {
    use df_contract::{AttemptId, CommandId, JobId, LeaseKind, Role, Timestamp};
    use df_control_machine::{Actor, Command, CommandBody, decide};

    use super::*;

    fn failed(note: FailureNote) -> JobRecord {
        let at = Timestamp(1);
        let spec = serde_json::json!({"title": "t", "description": "d"});
        let command = Command {
            id: CommandId::mint(at, [2; 10]),
            job: JobId::mint(at, [1; 10]),
            actor: Actor { name: "alice".to_owned(), role: Role::Submitter },
            at,
            body: CommandBody::Submit {
                tenant: "acme".parse().unwrap(),
                submitter: "alice".to_owned(),
                spec: Box::new(serde_json::from_value(spec).unwrap()),
            },
        };
        let mut record = decide(None, &command).unwrap().record;
        for (slug, state) in [("api", TaskState::Failed), ("web", TaskState::Skipped)] {
            let slug: df_contract::TaskSlug = slug.parse().unwrap();
            let (kind, role) = (LeaseKind::Agent, Role::Backend);
            let mut task = TaskRecord::new(slug.clone(), kind, role, slug.to_string(), [].into());
            task.state = state;
            task.attempt = Some(AttemptId::mint(at, [3; 10]));
            let plan_task = serde_json::json!({"slug": slug, "role": "backend", "title": "x", "instructions": "x", "paths": ["x"]});
            task.plan_task = Some(serde_json::from_value(plan_task).unwrap());
            record.tasks.insert(slug, task);
        }
        record.root_cause = Some(note);
        record
    }

    #[test]
    fn the_paragraph_names_the_task_the_evidence_what_followed_and_what_to_do() {
        let detail = "check `unit` failed:\n\n  FAIL test_codec\nexpected 3\ngot 4\na\nb\nc\nd".to_owned();
        let kind = FailureKind::CheckFailure;
        let record = failed(FailureNote { task: "api".parse().unwrap(), kind, detail, attempts: 3 });
        let told = root_cause(&record);
        let want = format!(
            "task `api` (backend) failed after 3 attempt(s): check_failure: check `unit` failed: / FAIL test_codec / \
             expected 3 / got 4 / a / b … Skipped, because they build on it: `web`. What to do: read the check's \
             output in the attempt's trace; then `devfactory retry {}` begins a new job from what is merged.",
            record.id
        );
        assert_eq!(told, want);
        assert!(!told.contains('\n'));
    }

    #[test]
    fn a_new_plan_that_never_came_and_time_that_ran_out_name_what_lay_beneath() {
        let kind = FailureKind::ContractBreach;
        let note =
            FailureNote { task: "plan.2".parse().unwrap(), kind, detail: "no plan".to_owned(), attempts: 2 };
        let mut record = failed(note);
        record.replans = 1;
        let cause = "`api`: check_failure: red\nevidence".to_owned();
        record.replan = Some(df_contract::task::Replan { cause, finished: [].into(), dropped: [].into() });
        let told = root_cause(&record);
        assert!(told.contains("planned anew because of `api`: check_failure: red / evidence."), "{told}");

        let slug = "api".parse().unwrap();
        let api = record.tasks.get_mut(&slug).unwrap();
        (api.state, api.attempts) = (TaskState::Leased, 2);
        let detail = "exit 1\nboom".to_owned();
        api.failures = vec![df_contract::api::FailureView { kind: FailureKind::CheckFailure, detail }];
        let told = out_of_time(&record);
        let want = "Not finished: `api` (LEASED, 2 attempt(s)). What failed most of it: `api`, 1 time(s), last with \
                    check_failure: exit 1 / boom. What to do: give it more time; `devfactory retry job_";
        assert!(told.contains(want) && !told.contains('\n'), "{told}");
    }

    #[test]
    fn evidence_is_bounded_and_never_empty() {
        let kind = FailureKind::Infrastructure;
        let told = |detail: String| {
            root_cause(&failed(FailureNote { task: "api".parse().unwrap(), kind, detail, attempts: 1 }))
        };
        assert!(told("ไ".repeat(100_000)).len() < MAX_EVIDENCE_BYTES + 600);
        assert!(told(" \n ".to_owned()).contains("it left no word"));
    }
}
