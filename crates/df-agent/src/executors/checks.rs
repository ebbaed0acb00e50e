//! Checks: each in a checkout and a sandbox of its own, so that none can prepare the ground for the next.

use std::time::Duration;

use df_contract::{AcceptanceCheck, CheckResult, DurationMs, HiddenCheck, Revision};

use super::bench::Bench;
use super::clear;
use super::stop::Stop;
use crate::git::unpack_tar;
use crate::runner::{CommandOutcome, CommandRunner};

/// No check runs longer, whatever it asks for.
const MAX_CHECK_TIMEOUT: DurationMs = DurationMs::from_secs(1800);
/// A check that runs on shows a sign of life this often.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
/// Output of a check that goes into a report.
const TAIL_BYTES: usize = 4 * 1024;
/// Where the files of a hidden check appear.
const HIDDEN_DIR: &str = ".devfactory-hidden";

/// Runs one check on `revision`; its whole output becomes a blob.
pub(super) async fn run_check(
    bench: &Bench<'_>,
    revision: &Revision,
    check: &AcceptanceCheck,
) -> Result<CheckResult, Stop> {
    let (copy, _) = bench.checkout(revision, "check").await?;
    let outcome = run_shown(bench, &copy, &check.id, &check.command, check.timeout_ms).await?;
    clear::remove(&copy).await?;
    let passed = outcome.passed();
    let mut output_tail = tail(&outcome.output);
    if outcome.timed_out {
        output_tail.push_str("\n[killed: the check's time was used up]");
    }
    let log = if outcome.full_output.is_empty() {
        None
    } else {
        Some(bench.daemon.upload(outcome.full_output).await?)
    };
    let verdict = if passed { "passed" } else { "failed" };
    bench.progress.note("check", format!("{}: {verdict} in {} ms", check.id, outcome.wall_ms.0));
    Ok(CheckResult {
        id: check.id.clone(),
        passed,
        exit_code: outcome.exit,
        wall_ms: outcome.wall_ms,
        output_tail,
        log,
    })
}

/// Runs one hidden check. What it printed and how exactly it ended stay here: only passed or not leaves the worker.
/// That holds for what goes wrong with it as well: an error may name its files.
pub(super) async fn run_hidden(
    bench: &Bench<'_>,
    revision: &Revision,
    check: &HiddenCheck,
) -> Result<CheckResult, Stop> {
    run_unsealed(bench, revision, check).await.map_err(|stop| match stop {
        Stop::Cancelled => Stop::Cancelled,
        Stop::Failed { kind, .. } => {
            let text =
                format!("hidden check `{}` could not be run; its files or command are faulty", check.id);
            Stop::failed(kind, text)
        }
    })
}

async fn run_unsealed(
    bench: &Bench<'_>,
    revision: &Revision,
    check: &HiddenCheck,
) -> Result<CheckResult, Stop> {
    let (copy, _) = bench.checkout(revision, "hidden").await?;
    let inside = copy.join(HIDDEN_DIR);
    match tokio::fs::symlink_metadata(&inside).await {
        // Whatever the tree itself keeps under that name must not stand in for the check.
        Ok(meta) if meta.is_dir() => clear::remove(&inside).await?,
        Ok(_) => tokio::fs::remove_file(&inside).await?,
        Err(_) => {}
    }
    if let Some(blob) = &check.blob {
        let archive = bench.path("hidden.tar");
        bench.daemon.fetch(blob, &archive).await?;
        unpack_tar(&archive, &inside)?;
        tokio::fs::remove_file(&archive).await?;
    }
    let outcome = run_shown(bench, &copy, &check.id, &check.command, check.timeout_ms).await?;
    clear::remove(&copy).await?;
    bench
        .progress
        .note("check", format!("{}: {}", check.id, if outcome.passed() { "passed" } else { "failed" }));
    Ok(CheckResult {
        id: check.id.clone(),
        passed: outcome.passed(),
        exit_code: None,
        wall_ms: outcome.wall_ms,
        output_tail: String::new(),
        log: None,
    })
}

/// Runs a command and says now and then that it still runs.
async fn run_shown(
    bench: &Bench<'_>,
    copy: &std::path::Path,
    id: &str,
    command: &str,
    timeout: DurationMs,
) -> Result<CommandOutcome, Stop> {
    bench.progress.note("check", format!("{id}: running"));
    let runner = bench.runner(copy);
    let run = runner.run(command, timeout.min(MAX_CHECK_TIMEOUT), bench.cancel.clone());
    tokio::pin!(run);
    loop {
        tokio::select! {
            outcome = &mut run => return Ok(outcome?),
            () = tokio::time::sleep(SIGN_OF_LIFE) => bench.progress.note("check", format!("{id}: still running")),
        }
    }
}

/// The failed checks with the ends of their outputs, for the next attempt to read; `None` when all passed.
pub(super) fn failures(results: &[CheckResult]) -> Option<String> {
    let failed: Vec<String> = results
        .iter()
        .filter(|r| !r.passed)
        .map(|r| {
            let code = r.exit_code.map_or_else(|| "killed".to_owned(), |c| format!("exit {c}"));
            format!("check `{}` failed ({code}):\n{}", r.id, r.output_tail)
        })
        .collect();
    if failed.is_empty() { None } else { Some(failed.join("\n\n")) }
}

fn tail(output: &str) -> String {
    let from = output.ceil_char_boundary(output.len().saturating_sub(TAIL_BYTES));
    output[from..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_keeps_the_end_and_whole_characters() {
        assert_eq!(tail("short"), "short");
        let long = format!("{}end", "ก".repeat(TAIL_BYTES));
        let kept = tail(&long);
        assert!(kept.ends_with("end") && kept.len() <= TAIL_BYTES, "{}", kept.len());
    }
}
