//! Jobs: submit, look, follow, vote, steer.

use std::path::Path;
use std::process::ExitCode;

use df_contract::api::{Cause, JobPage, JobView, Submitted, Vote};
use df_contract::{JobEventView, JobState};

use super::{client, show};
use crate::args::{Cli, VoteArgs};
use crate::client::Client;
use crate::{job_file, render, watch};

pub(crate) async fn submit(cli: &Cli, job: &Path, key: Option<&str>) -> anyhow::Result<()> {
    let client = client(cli)?;
    let submitted = submit_to(&client, job, key).await?;
    show(cli, &submitted, |s| format!("{}  {}\n", s.id, s.state))
}

/// Reads, packs and submits a job file.
pub(crate) async fn submit_to(client: &Client, job: &Path, key: Option<&str>) -> anyhow::Result<Submitted> {
    let spec = job_file::upload(job_file::read(job)?, job, client).await?;
    client.post_keyed("/v1/jobs", &spec, key).await
}

pub(crate) async fn list(cli: &Cli, state: Option<&str>, limit: u32) -> anyhow::Result<()> {
    let filter = state.map(|s| format!("&state={s}")).unwrap_or_default();
    let page: JobPage = client(cli)?.get(&format!("/v1/jobs?limit={limit}{filter}")).await?;
    show(cli, &page, render::page)
}

pub(crate) async fn status(cli: &Cli, job: &str) -> anyhow::Result<()> {
    let view: JobView = client(cli)?.get(&format!("/v1/jobs/{job}")).await?;
    show(cli, &view, render::job)
}

pub(crate) async fn explain(cli: &Cli, job: &str) -> anyhow::Result<()> {
    let view: JobView = client(cli)?.get(&format!("/v1/jobs/{job}")).await?;
    match &view.decision {
        Some(decision) => show(cli, decision, df_control_governance::explain),
        None => anyhow::bail!("the job has no decision yet: it is {}", view.summary.state),
    }
}

/// States in which nothing happens until somebody acts.
pub(crate) fn at_rest(state: JobState) -> bool {
    df_control_machine::job::is_terminal(state)
        || matches!(state, JobState::AwaitingApproval | JobState::Paused)
}

pub(crate) fn print_event(json: bool, event: &JobEventView) {
    if json {
        crate::output::line(format_args!("{}", serde_json::to_string(event).unwrap_or_default()));
    } else if let Some(line) = render::event_line(event) {
        crate::output::line(format_args!("{:>5} {}", event.seq, render::plain(&line)));
    }
}

pub(crate) async fn watch(cli: &Cli, job: &str, after: u64) -> anyhow::Result<ExitCode> {
    let client = client(cli)?;
    let ended = df_control_machine::job::is_terminal;
    let state = watch::follow(&client, job, after, ended, |e| print_event(cli.json, e)).await?;
    Ok(exit_code(state))
}

/// 0 for a completed job, 3 for one that ended otherwise, 4 for one that waits for somebody.
pub(crate) fn exit_code(state: JobState) -> ExitCode {
    match state {
        JobState::Completed => ExitCode::SUCCESS,
        JobState::AwaitingApproval | JobState::Paused => ExitCode::from(4),
        JobState::Draft
        | JobState::GovernanceAnalysis
        | JobState::Approved
        | JobState::Rejected
        | JobState::TaskPlanning
        | JobState::InProgress
        | JobState::Validating
        | JobState::Deployable
        | JobState::Failed
        | JobState::Cancelled => ExitCode::from(3),
    }
}

pub(crate) async fn vote(cli: &Cli, args: &VoteArgs, approve: bool) -> anyhow::Result<()> {
    let verb = if approve { "approve" } else { "reject" };
    let client = client(cli)?;
    // The vote always names what it is about: what waits at this moment, unless a version that was looked at is given.
    let waits: JobView = client.get(&format!("/v1/jobs/{}", args.job)).await?;
    // What waits in the job's own way is voted on before a request for more budget.
    let waiting = waits.approval.or(waits.budget_request.map(|request| request.approval));
    let job_version = args.job_version.or(waiting.as_ref().map(|a| a.job_version));
    let seen = waiting.as_ref().map(|a| a.plan_digest.clone()).unwrap_or_default();
    let plan_digest = args.plan_digest.clone().or(seen);
    let artefact = waiting.and_then(|a| a.artefact);
    let body = Vote { job_version, plan_digest, artefact, comment: args.comment.clone() };
    let view: JobView = client.post(&format!("/v1/jobs/{}/{verb}", args.job), &body).await?;
    show(cli, &view, |v| format!("{}  {}\n", v.summary.id, v.summary.state))
}

pub(crate) async fn steer(cli: &Cli, job: &str, verb: &str, cause: &str) -> anyhow::Result<()> {
    let body = Cause { cause: cause.to_owned() };
    let view: JobView = client(cli)?.post(&format!("/v1/jobs/{job}/{verb}"), &body).await?;
    show(cli, &view, |v| format!("{}  {}\n", v.summary.id, v.summary.state))
}
