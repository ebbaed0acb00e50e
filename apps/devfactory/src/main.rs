//! `devfactory`: the command line, a client of the HTTP API. `up` and `run` also start a local stack from the
//! sibling binaries.
#![expect(clippy::print_stderr, reason = "a command line prints")]

mod args;
mod client;
mod commands;
mod job_file;
mod output;
mod render;
mod signing_key;
mod stack;
mod watch;

use args::{AuditCommand, Cli, Command, GovernanceCommand, PlanCommand};
use clap::Parser as _;
use df_contract::Problem;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = Cli::parse();
    let json = cli.json;
    match dispatch(cli).await {
        Ok(code) => code,
        Err(error) => {
            report(&error, json);
            std::process::ExitCode::FAILURE
        }
    }
}

async fn dispatch(cli: Cli) -> anyhow::Result<std::process::ExitCode> {
    let done = std::process::ExitCode::SUCCESS;
    match &cli.command {
        Command::Up(up) => commands::up::up(up).await?,
        Command::Run(run) => return commands::run::run(&cli, run).await,
        Command::Submit { job, idempotency_key } => {
            commands::jobs::submit(&cli, job, idempotency_key.as_deref()).await?;
        }
        Command::List { state, limit } => commands::jobs::list(&cli, state.as_deref(), *limit).await?,
        Command::Status { job: Some(job) } => commands::jobs::status(&cli, job).await?,
        Command::Status { job: None } => commands::system::status(&cli).await?,
        Command::Watch { job, after } => return commands::jobs::watch(&cli, job, *after).await,
        Command::Approve(vote) => commands::jobs::vote(&cli, vote, true).await?,
        Command::Reject(vote) => commands::jobs::vote(&cli, vote, false).await?,
        Command::Cancel { job, cause } => commands::jobs::steer(&cli, job, "cancel", cause).await?,
        Command::Pause { job, cause } => commands::jobs::steer(&cli, job, "pause", cause).await?,
        Command::Resume { job } => commands::jobs::steer(&cli, job, "resume", "").await?,
        Command::Retry { job, from_start, idempotency_key } => {
            commands::ask::retry(&cli, job, *from_start, idempotency_key.as_deref()).await?;
        }
        Command::Message { job, text } => commands::ask::message(&cli, job, text).await?,
        Command::Budget { job, tokens, usd } => commands::ask::budget(&cli, job, *tokens, *usd).await?,
        Command::Priority { job, priority } => commands::ask::priority(&cli, job, *priority).await?,
        Command::Tasks { command } => commands::tasks::tasks(&cli, command).await?,
        Command::Artifacts { job, out } => commands::artifacts::artifacts(&cli, job, out.as_deref()).await?,
        Command::Keys { command } => commands::keys::keys(&cli, command).await?,
        Command::Agents { command } => commands::agents::agents(&cli, command).await?,
        Command::Doctor { data_dir } => return commands::doctor::doctor(&cli, data_dir.as_deref()).await,
        Command::Audit { command: AuditCommand::Verify { data_dir, file } } => {
            return commands::audit::verify(&cli, data_dir.as_deref(), file.as_deref());
        }
        Command::Plan { command: PlanCommand::Check { file, job } } => {
            return commands::plan::check(&cli, file, job.as_deref());
        }
        Command::Plan { command: PlanCommand::Show { plan, svg } } => {
            commands::plan::show(&cli, plan, svg.as_deref()).await?;
        }
        Command::Governance { command: GovernanceCommand::Explain { job } } => {
            commands::jobs::explain(&cli, job).await?;
        }
    }
    Ok(done)
}

/// Errors go to standard error: as problem+json with `--json`, as sentences without.
fn report(error: &anyhow::Error, json: bool) {
    match error.downcast_ref::<Problem>() {
        Some(problem) if json => eprintln!("{}", serde_json::to_string(problem).unwrap_or_default()),
        Some(problem) => {
            eprintln!("{}", render::plain(&format!("error: {problem}\nsee {}", problem.r#type)));
        }
        None if json => eprintln!("{}", serde_json::json!({"error": format!("{error:#}")})),
        None => eprintln!("{}", render::plain(&format!("error: {error:#}"))),
    }
}
