//! `run`: from a job file to delivered software, in one command.

use std::path::Path;
use std::process::ExitCode;

use df_contract::JobState;
use df_contract::api::JobView;

use super::artifacts;
use super::jobs::{at_rest, exit_code, print_event, submit_to};
use crate::args::{Cli, RunArgs};
use crate::client::Client;
use crate::stack::{Stack, told_to_stop};
use crate::{job_file, render, watch};

/// The conversation that ships with an example, beside its job file.
const RECORDING: &str = "recording.jsonl";
/// A stack of `run`'s own takes any free port.
const ANY_PORT: &str = "127.0.0.1:0";

pub(crate) async fn run(cli: &Cli, args: &RunArgs) -> anyhow::Result<ExitCode> {
    // Whatever is wrong with the job file is said before anything is started.
    job_file::read(&args.job)?;
    if cli.url.is_some() {
        let client = super::client(cli)?;
        return carry_out(cli, args, &client).await;
    }
    let shipped = job_file::locate(&args.job).with_file_name(RECORDING);
    let shipped = shipped.exists().then_some(shipped);
    let stack = Stack::start(&args.stack, ANY_PORT, shipped).await?;
    let done = async {
        let client = Client::new(Some(&stack.daemon_url), Some(&stack.admin_key()?))?;
        carry_out(cli, args, &client).await
    };
    let done = tokio::select! {
        done = done => done,
        _ = told_to_stop() => Err(anyhow::anyhow!("interrupted; the job goes on with the next `devfactory up`")),
    };
    stack.stop().await;
    done
}

async fn carry_out(cli: &Cli, args: &RunArgs, client: &Client) -> anyhow::Result<ExitCode> {
    let submitted = submit_to(client, &args.job, None).await?;
    let job = submitted.id.to_string();
    if !cli.json {
        crate::output::line(format_args!("job {job}"));
    }
    let state = watch::follow(client, &job, 0, at_rest, |e| print_event(cli.json, e)).await?;
    if state == JobState::Completed {
        fetch(cli, client, &job, &args.out).await?;
    }
    let view: JobView = client.get(&format!("/v1/jobs/{job}")).await?;
    super::show(cli, &view, |v| format!("\n{}", render::job(v)))?;
    if !cli.json {
        advise(cli, args, state, &job);
    }
    Ok(exit_code(state))
}

async fn fetch(cli: &Cli, client: &Client, job: &str, out: &Path) -> anyhow::Result<()> {
    let fetched = artifacts::fetch(client, job, out).await?;
    if !cli.json {
        crate::output::line(format_args!(
            "\ndelivered to {} (the software is in {})",
            out.display(),
            out.join("software").display()
        ));
        for (path, digest) in fetched {
            crate::output::line(format_args!("  {}  sha256:{digest}", path.display()));
        }
    }
    Ok(())
}

fn advise(cli: &Cli, args: &RunArgs, state: JobState, job: &str) {
    // A stack of our own ends with us; the job stays in its data directory.
    let again =
        format!("start its stack again (devfactory up --data-dir {}) and, ", args.stack.data_dir.display());
    let first = if cli.url.is_some() { "" } else { again.as_str() };
    match state {
        JobState::AwaitingApproval => crate::output::line(format_args!(
            "\nthe job waits for an approval that its submitter cannot give; {first}with another identity's key:\n  devfactory approve {job}"
        )),
        JobState::Paused => crate::output::line(format_args!(
            "\nthe job is paused; {first}as an operator:\n  devfactory resume {job}"
        )),
        JobState::Draft
        | JobState::GovernanceAnalysis
        | JobState::Approved
        | JobState::Rejected
        | JobState::TaskPlanning
        | JobState::InProgress
        | JobState::Validating
        | JobState::Deployable
        | JobState::Completed
        | JobState::Failed
        | JobState::Cancelled => {}
    }
}
