//! Agent: one attempt in a sandboxed checkout; what it leaves is taken out, looked at and committed by us.

use std::collections::BTreeSet;
use std::path::Path;

use df_contract::task::{AgentStatus, Conflict, Product};
use df_contract::{AgentResult, AgentTask, FailureKind, Revision, Role};
use df_sandbox::collect::{CollectLimits, Refusal, copy_out};
use tokio::sync::mpsc;

use super::bench::Bench;
use super::junk::{is_builtin_junk, without_junk};
use super::packages::require_granted;
use super::paths::require_within;
use super::stop::Stop;
use crate::attempt::{Attempt, AttemptReport, ProgressNote, run_attempt};
use crate::git::{
    CommitSpec, Identity, Laid, MAX_FILE_BYTES, MAX_PATH_BYTES, MAX_TREE_BYTES, Marked, Sides, TreeEntry,
    list_files,
};
use crate::manifest::Manifest;
use crate::rights::Rights;

/// Where the attempt's files are copied before they are committed.
const COLLECTED: &str = "collected";
/// Lines of progress an agent may be ahead of its watchers.
const NOTES_AHEAD: usize = 64;
/// The name of the trace among an attempt's artefacts.
const TRACE: &str = "trace";
/// Entries that may stand in a workspace, by-products included.
const MAX_ENTRIES: usize = 200_000;

pub(super) async fn run(bench: &Bench<'_>, task: &AgentTask) -> Result<Product, Stop> {
    bench.import(&task.base).await?;
    let (workspace, base) = bench.checkout(&task.base.revision, "workspace").await?;
    let laid = match &task.input.conflict {
        Some(conflict) => Some(lay(bench, task, conflict, &workspace).await?),
        None => None,
    };
    let AttemptReport { mut result, blobs, denied_writes } =
        converse(bench, task, &workspace, laid.as_ref()).await?;
    for blob in blobs {
        bench.daemon.upload(blob).await?;
    }
    if denied_writes > 0 {
        bench.progress.note("note", format!("{denied_writes} writes outside the task's paths were refused"));
    }
    let trace = result.artefacts.get(TRACE).cloned();
    let product = match result.status.clone() {
        AgentStatus::Failed { kind, detail } => Err(Stop::failed(kind, detail)),
        AgentStatus::NeedsInput { question } => Err(Stop::failed(
            FailureKind::ContractBreach,
            format!("the agent asks instead of finishing: {question}"),
        )),
        AgentStatus::Succeeded if task.r#type == Role::Coordinator => plan(result),
        AgentStatus::Succeeded => {
            match change(bench, task, &base, &workspace, &result, laid.as_ref()).await {
                Ok(revision) => {
                    let tree = bench.publish(&revision).await?;
                    result.tree = Some(tree.clone());
                    Ok(Product::Change { tree, result })
                }
                Err(stop) => Err(stop),
            }
        }
    };
    product.map_err(|stop| match stop {
        Stop::Failed { kind, detail, trace: None } => Stop::Failed { kind, detail, trace },
        other => other,
    })
}

/// Lays the change that does not merge on the fresh checkout of the job branch.
async fn lay(
    bench: &Bench<'_>,
    task: &AgentTask,
    conflict: &Conflict,
    workspace: &Path,
) -> Result<Laid, Stop> {
    bench.import(&conflict.theirs).await?;
    bench.import(&conflict.ancestor).await?;
    let sides = Sides {
        ours: &task.base.revision,
        ancestor: &conflict.ancestor.revision,
        theirs: &conflict.theirs.revision,
        label: conflict.of.as_str(),
    };
    let laid = bench.repo.lay(sides, workspace).await?;
    let (taken, marked, left) = (laid.taken.len(), laid.marked.len(), laid.undecided.len());
    let text = format!(
        "the change of {} on the job branch: {taken} paths fit, {marked} have markers, {left} are left to decide",
        conflict.of
    );
    bench.progress.note("git", text);
    Ok(laid)
}

/// The attempt itself. Commands run in the sandbox; files are written by the agent's tools below the workspace.
async fn converse(
    bench: &Bench<'_>,
    task: &AgentTask,
    workspace: &Path,
    laid: Option<&Laid>,
) -> Result<AttemptReport, Stop> {
    let manifest =
        Manifest::of(task).map_err(|e| Stop::failed(FailureKind::ContractBreach, e.to_string()))?;
    let runner = bench.runner(workspace);
    let (progress, mut notes) = mpsc::channel::<ProgressNote>(NOTES_AHEAD);
    let attempt = Attempt {
        task,
        manifest: &manifest,
        workspace,
        laid,
        runner: &runner,
        http: &bench.shop.http,
        progress,
        token: bench.token.clone(),
        cancel: bench.cancel.clone(),
    };
    let forward = async {
        while let Some(note) = notes.recv().await {
            bench.progress.note(note.kind.as_str(), note.text);
        }
    };
    let (report, ()) = tokio::join!(run_attempt(attempt), forward);
    if bench.is_cancelled() { Err(Stop::Cancelled) } else { Ok(report) }
}

fn plan(result: AgentResult) -> Result<Product, Stop> {
    match result.plan.clone() {
        Some(plan) => Ok(Product::Plan { plan, result }),
        None => Err(Stop::failed(FailureKind::ContractBreach, "the coordinator finished without a plan")),
    }
}

/// Commits what the attempt left, when it is what the task allows and promised.
async fn change(
    bench: &Bench<'_>,
    task: &AgentTask,
    base: &[TreeEntry],
    workspace: &Path,
    result: &AgentResult,
    laid: Option<&Laid>,
) -> Result<Revision, Stop> {
    let revision = commit(bench, task, base, workspace, result).await?;
    require_resolved(bench, laid)?;
    let changed = bench.repo.changed_paths(&task.base.revision, &revision).await?;
    require_within(&Rights::of(task), &changed)?;
    require_outputs(bench, task, &revision).await?;
    let granted = &task.constraints.dependencies;
    require_granted(bench, &task.base.revision, &revision, &changed, granted).await?;
    // A task may find its work done already; then its own checks must have said so.
    let shown_done = !result.checks.is_empty() && result.checks.iter().all(|c| c.passed);
    if changed.is_empty() && !shown_done {
        let text = "the agent finished without changing anything, and no check of the task shows that nothing was to do";
        return Err(Stop::failed(FailureKind::ContractBreach, text));
    }
    bench.progress.note("git", format!("{} paths changed, committed as {revision}", changed.len()));
    Ok(revision)
}

async fn commit(
    bench: &Bench<'_>,
    task: &AgentTask,
    base: &[TreeEntry],
    workspace: &Path,
    result: &AgentResult,
) -> Result<Revision, Stop> {
    let collected = bench.path(COLLECTED);
    std::fs::create_dir(&collected)?;
    let (from, to) = (workspace.to_owned(), collected.clone());
    let limits = CollectLimits {
        entries: MAX_ENTRIES,
        total_bytes: MAX_TREE_BYTES,
        file_bytes: MAX_FILE_BYTES,
        path_bytes: MAX_PATH_BYTES,
        ..CollectLimits::default()
    };
    let report = tokio::task::spawn_blocking(move || copy_out(&from, &to, limits))
        .await
        .map_err(|e| std::io::Error::other(e.to_string()))?
        .map_err(|e| Stop::failed(FailureKind::ContractBreach, super::stop::chain(&e)))?;
    require_plain(&report.skipped)?;
    let known: BTreeSet<&str> = base.iter().map(|e| e.path.as_str()).collect();
    let files = without_junk(&collected, list_files(&collected)?, &known);
    let branch = format!("refs/heads/df/{}/{}", task.id, task.epoch);
    let message = message(task, result);
    let spec = CommitSpec {
        branch: &branch,
        parent: Some(&task.base.revision),
        message: &message,
        author: Identity::of(task.r#type.as_str()),
        at: (bench.shop.clock)(),
    };
    Ok(bench.repo.commit(files, base, spec).await?)
}

/// Conflict markers in what was collected are no result, whatever the agent said.
fn require_resolved(bench: &Bench<'_>, laid: Option<&Laid>) -> Result<(), Stop> {
    let collected = bench.path(COLLECTED);
    // A file that is gone has no markers.
    let remains = |m: &&Marked| std::fs::read(collected.join(&m.path)).is_ok_and(|text| m.remains(&text));
    let marked = laid.iter().flat_map(|laid| &laid.marked).filter(remains);
    let paths: Vec<&str> = marked.map(|m| m.path.as_str()).collect();
    if paths.is_empty() {
        return Ok(());
    }
    let text = format!("conflict markers remain in {}", paths.join(", "));
    Err(Stop::failed(FailureKind::ContractBreach, text))
}

/// What cannot be part of a tree and is no by-product either must not vanish silently.
fn require_plain(skipped: &[(String, Refusal)]) -> Result<(), Stop> {
    let wrong: Vec<String> = skipped
        .iter()
        .filter(|(path, refusal)| match refusal {
            // Left over by something that ran, of no meaning in a tree.
            Refusal::Fifo | Refusal::Socket | Refusal::Device | Refusal::GitDirectory => false,
            Refusal::Symlink
            | Refusal::TooLarge { .. }
            | Refusal::ControlCharacter
            | Refusal::NotUtf8
            | Refusal::Unreadable
            | Refusal::Changed => !is_builtin_junk(path),
        })
        .map(|(path, refusal)| format!("`{path}` {refusal}"))
        .take(20)
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let text =
        format!("the tree holds what cannot be committed: {}; only plain files can be", wrong.join(", "));
    Err(Stop::failed(FailureKind::ContractBreach, text))
}

async fn require_outputs(bench: &Bench<'_>, task: &AgentTask, revision: &Revision) -> Result<(), Stop> {
    let files = bench.repo.files(revision).await?;
    let missing: Vec<&str> = task
        .expected_outputs
        .iter()
        .map(String::as_str)
        .filter(|wanted| !files.iter().any(|f| df_contract::plan::pattern_matches(wanted, &f.path)))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let text = format!("the committed tree lacks {} (made but ignored by `.gitignore`?)", missing.join(", "));
    Err(Stop::failed(FailureKind::ContractBreach, text))
}

fn message(task: &AgentTask, result: &AgentResult) -> String {
    let text = result.commit_message.trim();
    let text = if text.is_empty() { task.title.trim() } else { text };
    format!(
        "{text}\n\nDevfactory-Job: {}\nDevfactory-Task: {}\nDevfactory-Attempt: {}\n",
        task.job, task.id, task.attempt
    )
}
