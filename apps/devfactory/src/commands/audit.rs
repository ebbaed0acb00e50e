//! The audit log, verified without a daemon: chains, states, and the tables against both.

use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::Context as _;
use df_contract::{ErrorCode, Problem};
use df_control_audit::{ExportLine, Verified, verify_export};

use crate::args::Cli;
use crate::stack::binaries;

pub(crate) fn verify(cli: &Cli, data_dir: Option<&Path>, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let lines = match file {
        Some(file) => read(std::fs::File::open(file).with_context(|| file.display().to_string())?)?,
        None => export(&daemon_dir(data_dir.unwrap_or(Path::new(".devfactory"))))?,
    };
    let verified = verify_export(lines, &lifecycle());
    told(cli, &verified)
}

/// The daemon's directory: the one given, or the one below it when it is a stack's.
fn daemon_dir(given: &Path) -> PathBuf {
    let below = given.join("daemon");
    if below.is_dir() { below } else { given.to_owned() }
}

/// The life cycles that the daemon itself decides with.
fn lifecycle() -> df_control_audit::Lifecycle {
    df_control_audit::Lifecycle {
        job: df_control_machine::replay::job_step,
        task: df_control_machine::replay::task_step,
    }
}

fn export(data_dir: &Path) -> anyhow::Result<Vec<ExportLine>> {
    let binary = binaries::sibling("devfactoryd")?;
    let done = Command::new(&binary).arg("audit-export").arg("--data-dir").arg(data_dir).output();
    let done = done.with_context(|| format!("{} could not be started", binary.display()))?;
    if !done.status.success() {
        let why = String::from_utf8_lossy(&done.stderr).trim().to_owned();
        return Err(Problem::new(
            ErrorCode::StoreUnavailable,
            format!("the log could not be exported: {why}"),
        )
        .into());
    }
    read(done.stdout.as_slice())
}

fn read(source: impl std::io::Read) -> anyhow::Result<Vec<ExportLine>> {
    std::io::BufReader::new(source)
        .lines()
        .map(|line| serde_json::from_str(&line?).context("a line of the export could not be read"))
        .collect()
}

fn told(cli: &Cli, verified: &Verified) -> anyhow::Result<ExitCode> {
    let found: Vec<String> = verified.findings.iter().map(ToString::to_string).collect();
    if cli.json {
        crate::output::line(format_args!(
            "{}",
            serde_json::json!({"jobs": verified.jobs, "records": verified.records, "findings": found})
        ));
    } else {
        crate::output::line(format_args!("{} job(s), {} record(s)", verified.jobs, verified.records));
    }
    if found.is_empty() {
        if !cli.json {
            crate::output::line(format_args!("every chain verifies, and the tables say what the log says"));
        }
        return Ok(ExitCode::SUCCESS);
    }
    Err(Problem::new(ErrorCode::AuditBroken, format!("{} finding(s)", found.len())).with_errors(found).into())
}
