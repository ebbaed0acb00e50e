//! What must hold for every record. Tests check it after each command; `audit verify` and the store may as well.

use df_contract::{JobState, LeaseKind, TaskState};

use crate::job::is_terminal;
use crate::record::JobRecord;
use crate::task::is_ended;

/// The sentences that `record` breaks; empty = sound.
pub fn broken(record: &JobRecord) -> Vec<String> {
    let mut found = Vec::new();
    let waits = matches!(record.state, JobState::AwaitingApproval | JobState::Paused);
    if waits != record.resume_to.is_some() {
        found.push(format!("resume_to is {:?} in {}", record.resume_to, record.state));
    }
    if (record.state == JobState::AwaitingApproval) != record.approval.is_some() {
        found.push(format!("an approval waits = {} in {}", record.approval.is_some(), record.state));
    }
    if is_terminal(record.state) && record.budget_request.is_some() {
        found.push("more budget is asked for after the end".to_owned());
    }
    if let (Some(raised), Some(decision)) = (record.raised, &record.decision)
        && raised.tokens < decision.obligations.tokens
    {
        found.push("a raised cap is lower than the decided one".to_owned());
    }
    if record.tasks.values().any(|t| t.kind == LeaseKind::Agent) && record.decision.is_none() {
        found.push("agent work exists without a decision".to_owned());
    }
    if is_terminal(record.state) {
        for task in record.tasks.values().filter(|t| !is_ended(t.state)) {
            found.push(format!(
                "the job has ended in {} but task {} is {}",
                record.state, task.slug, task.state
            ));
        }
    }
    if record.state == JobState::Paused && record.tasks.values().any(|t| t.state == TaskState::Leased) {
        found.push("a paused job has a lease".to_owned());
    }
    let merging =
        record.tasks.values().filter(|t| t.kind == LeaseKind::Integrate && t.state == TaskState::Leased);
    if merging.count() > 1 {
        found.push("two changes are being merged at once".to_owned());
    }
    for task in record.tasks.values() {
        if (task.state == TaskState::Leased) != task.session.is_some() {
            found.push(format!("task {} is {} with session {:?}", task.slug, task.state, task.session));
        }
        let ran = matches!(task.state, TaskState::Leased | TaskState::Succeeded | TaskState::Failed);
        let met = |s| record.tasks.get(s).is_some_and(|t| t.state == TaskState::Succeeded);
        if ran && !task.depends_on.iter().all(met) && task.kind != LeaseKind::Integrate {
            found.push(format!("task {} runs before what it builds on", task.slug));
        }
    }
    found
}
