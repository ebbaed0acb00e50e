//! The transition tables as Markdown, for docs/workflow.md. Rendered from the functions, so they cannot drift.

use std::fmt::Write as _;

use df_contract::{JobState, TaskState};

use crate::job::{self, JobEvent, JobStatus};
use crate::task::{self, TaskEvent};

/// Both tables.
pub fn render_markdown() -> String {
    let mut out = String::from("### Jobs\n\n| from | event | to |\n|---|---|---|\n");
    for from in JobState::ALL {
        for event in JobEvent::ALL {
            // Any value serves: the table shows that the job goes on where it was bound for.
            let status = JobStatus { state: *from, resume_to: Some(JobState::InProgress) };
            if let Ok(to) = job::next(status, *event) {
                let goes_on = matches!(event, JobEvent::ApprovalGranted | JobEvent::Resumed);
                let shown = match (goes_on, to.resume_to) {
                    (true, _) => "where it was bound for".to_owned(),
                    (false, Some(later)) => format!("{} (then {later})", to.state),
                    (false, None) => to.state.to_string(),
                };
                let _ = writeln!(out, "| {from} | {} | {shown} |", name(event));
            }
        }
    }
    out.push_str("\n### Tasks\n\n| from | event | to | epoch |\n|---|---|---|---|\n");
    for from in TaskState::ALL {
        for event in TaskEvent::ALL {
            if let Ok(to) = task::next(*from, *event) {
                let epoch = if event.bumps_epoch() { "+1" } else { "" };
                let _ = writeln!(out, "| {from} | {} | {to} | {epoch} |", name(event));
            }
        }
    }
    out
}

fn name<T: serde::Serialize>(event: &T) -> String {
    serde_json::to_value(event).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_table_names_the_gates() {
        let text = super::render_markdown();
        assert!(text.contains("| VALIDATING | gate_refused | IN_PROGRESS |"), "{text}");
        assert!(text.contains("| AWAITING_APPROVAL | approval_granted | where it was bound for |"), "{text}");
        assert!(text.contains("| LEASED | returned | READY | +1 |"), "{text}");
        assert!(!text.contains("| COMPLETED |  "), "{text}");
    }
}
