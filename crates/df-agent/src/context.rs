//! The brief: the first message of an attempt, built from the task alone, so that an attempt that was lost starts again
//! with the identical one.

mod situation;

use df_contract::agent::AgentOffer;
use df_contract::{AcceptanceCheck, AgentTask, Role};

use crate::git::Laid;
use crate::rights::Rights;
use crate::workspace::{Kind, Workspace};

/// Bytes of each part that are shown.
const DESCRIPTION_BYTES_MAX: usize = 48 * 1024;
const INSTRUCTIONS_BYTES_MAX: usize = 32 * 1024;
const SUMMARY_BYTES_MAX: usize = 4 * 1024;
const FAILURE_BYTES_MAX: usize = 8 * 1024;
/// Files of the repository map.
const MAP_FILES_MAX: usize = 400;

/// Builds the brief. `laid`: what laying the task's conflict on the workspace came to.
pub(crate) fn brief(task: &AgentTask, rights: &Rights, workspace: &Workspace, laid: Option<&Laid>) -> String {
    let mut parts = vec![
        format!("# The job: {}", task.input.job_title),
        shortened(&task.input.job_description, DESCRIPTION_BYTES_MAX),
    ];
    let coordinates = task.r#type == Role::Coordinator;
    if coordinates {
        parts.push("# Your task\nMake the plan for this job.".to_owned());
    } else {
        parts.push(format!("# Your task: {} ({})", task.title, task.id));
    }
    parts.push(shortened(&task.instructions, INSTRUCTIONS_BYTES_MAX));
    if coordinates {
        if !task.constraints.protected_paths.is_empty() {
            let paths = task.constraints.protected_paths.join(", ");
            parts.push(format!("## Protected: no task may write these\n{paths}"));
        }
        parts.extend(offers(&task.input.agents));
    } else {
        parts.push(format!("## What you may write\n{}", rights.describe()));
    }
    if !task.expected_outputs.is_empty() {
        parts.push(format!("## Files that must exist at the end\n{}", task.expected_outputs.join("\n")));
    }
    parts.extend(checks("## Checks of this task, run by `finish`", &task.checks));
    parts.extend(checks(
        "## Acceptance checks of the whole job, run when every task is done",
        &task.input.acceptance,
    ));
    if !task.input.dependency_summaries.is_empty() {
        parts.push("## What the tasks before yours say they did".to_owned());
        for (slug, summary) in &task.input.dependency_summaries {
            parts.push(format!("### {slug}\n{}", shortened(summary, SUMMARY_BYTES_MAX)));
        }
    }
    parts.extend(task.input.replan.as_ref().map(situation::replan));
    parts.extend(task.input.conflict.as_ref().map(|conflict| situation::conflict(conflict, laid)));
    parts.extend(situation::messages(&task.input.messages));
    if let Some(failure) = &task.input.previous_failure {
        let failure = shortened(failure, FAILURE_BYTES_MAX);
        parts.push(format!("## The attempt before this one failed\n{failure}\nIts changes are gone: the workspace is as it was before it. Avoid the same failure."));
    }
    parts.push(map(workspace));
    parts.retain(|part| !part.trim().is_empty());
    parts.join("\n\n")
}

/// The registered agents that a plan may name.
fn offers(agents: &[AgentOffer]) -> Option<String> {
    let line = |offer: &AgentOffer| {
        let paths = match offer.paths.is_empty() {
            true => "any that the role may write".to_owned(),
            false => offer.paths.join(", "),
        };
        format!("- `{}` (role `{}`; paths: {paths}): {}", offer.name, offer.role.as_str(), offer.description)
    };
    let lines: Vec<String> = agents.iter().map(line).collect();
    let title = "## Registered agents that a task may name as `agent`\nName one where it fits a task better than the four \
                 roles' own agents: then `agent` is its name, `role` the role listed with it, and `paths` lie within its \
                 paths.";
    (!lines.is_empty()).then(|| format!("{title}\n{}", lines.join("\n")))
}

fn checks(title: &str, checks: &[AcceptanceCheck]) -> Option<String> {
    let line = |check: &AcceptanceCheck| format!("- {}: `{}`", check.id, check.command);
    let lines: Vec<String> = checks.iter().map(line).collect();
    (!lines.is_empty()).then(|| format!("{title}\n{}", lines.join("\n")))
}

fn map(workspace: &Workspace) -> String {
    let Ok(listing) = workspace.list(".") else { return String::new() };
    if listing.found.is_empty() {
        return "## Files in the workspace\nNone: the repository is empty.".to_owned();
    }
    let total = listing.found.len();
    let mut lines = vec!["## Files in the workspace (bytes)".to_owned()];
    for found in listing.found.iter().take(MAP_FILES_MAX) {
        lines.push(match found.kind {
            Kind::File => format!("{} ({})", found.path, found.bytes),
            Kind::Link => format!("{} (link, not followed)", found.path),
            Kind::Directory | Kind::Other => format!("{} (no regular file)", found.path),
        });
    }
    if total > MAP_FILES_MAX || listing.cut {
        lines.push(format!("[{} more; use glob]", total.saturating_sub(MAP_FILES_MAX)));
    }
    lines.join("\n")
}

fn shortened(text: &str, limit: usize) -> String {
    let text = text.trim();
    if text.len() <= limit {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(limit);
    format!("{}\n[... {} bytes left out ...]", &text[..end], text.len() - end)
}
