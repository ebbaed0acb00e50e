//! Integrate: one change onto the job's branch, its paths looked at again, its checks and those of the tasks before it
//! run again on the merged tree.

use df_contract::lease::{MAX_RECHECKS, Recheck};
use df_contract::task::{Product, TreeRef};
use df_contract::{AcceptanceCheck, CheckResult, FailureKind, Revision, Role, TaskSlug};

use super::bench::Bench;
use super::checks::{failures, run_check};
use super::packages::require_agreement;
use super::paths::require_within;
use super::stop::Stop;
use crate::git::MergeOutcome;
use crate::rights::Rights;

/// What is merged onto what, and what it may touch.
pub(super) struct Merge<'a> {
    pub(super) task: &'a TaskSlug,
    pub(super) title: &'a str,
    pub(super) head: &'a TreeRef,
    pub(super) change: &'a TreeRef,
    pub(super) paths: &'a [String],
    pub(super) protected: &'a [String],
    pub(super) role: Role,
    pub(super) checks: &'a [AcceptanceCheck],
    pub(super) rechecks: &'a [Recheck],
}

pub(super) async fn run(bench: &Bench<'_>, merge: Merge<'_>) -> Result<Product, Stop> {
    bench.import(merge.head).await?;
    bench.import(merge.change).await?;
    let (head, change) = (&merge.head.revision, &merge.change.revision);
    let start = bench.repo.merge_base(head, change).await?;
    let changed = bench.repo.changed_paths(&start, change).await?;
    require_within(&Rights::new(merge.role, merge.paths, merge.protected), &changed)?;

    let message = format!("Merge {}: {}", merge.task, merge.title);
    let merged = match bench.repo.merge(head, change, &message, (bench.shop.clock)()).await? {
        MergeOutcome::Merged(revision) => revision,
        MergeOutcome::Conflict(paths) => {
            let list: Vec<&str> = paths.iter().map(String::as_str).collect();
            let text = format!("`{}` does not merge: both sides changed {}", merge.task, list.join(", "));
            return Err(Stop::failed(FailureKind::MergeConflict, text));
        }
    };
    bench.progress.note("git", format!("merged {} as {merged}", merge.task));
    // The merged tree as a whole must be one that can be checked out.
    bench.repo.files(&merged).await?;
    require_agreement(bench, &merged, &changed).await?;
    let mut checks = Vec::new();
    for check in merge.checks {
        checks.push(run_check(bench, &merged, check).await?);
    }
    if let Some(text) = failures(&checks) {
        let text = format!("after merging `{}`: {text}", merge.task);
        return Err(Stop::failed(FailureKind::CheckFailure, text));
    }
    for recheck in merge.rechecks.iter().take(MAX_RECHECKS) {
        checks.push(run_recheck(bench, &merge, &merged, recheck).await?);
    }
    let tree = bench.publish(&merged).await?;
    Ok(Product::Merge { tree, checks })
}

/// Runs a check of an earlier task. It speaks against this merge when it passes without it and not with it; what was
/// broken before is not this task's to answer for, and is found again when the result is validated.
async fn run_recheck(
    bench: &Bench<'_>,
    merge: &Merge<'_>,
    merged: &Revision,
    recheck: &Recheck,
) -> Result<CheckResult, Stop> {
    let check =
        AcceptanceCheck { id: format!("{}/{}", recheck.task, recheck.check.id), ..recheck.check.clone() };
    let result = run_check(bench, merged, &check).await?;
    let Some(text) = failures(std::slice::from_ref(&result)) else { return Ok(result) };
    if !run_check(bench, &merge.head.revision, &check).await?.passed {
        let text = format!("{}: it failed before this merge as well", check.id);
        bench.progress.note("check", text);
        return Ok(result);
    }
    let text = format!("merging `{}` breaks what `{}` made: {text}", merge.task, recheck.task);
    Err(Stop::failed(FailureKind::CheckFailure, text))
}
