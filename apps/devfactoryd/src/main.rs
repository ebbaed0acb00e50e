//! The control daemon: API, governance, state machine, orchestration. Wiring only.
//!
//! It opens no workspace, runs no build step, starts no process and sees no provider's secret.

mod args;
mod config;
mod first_start;
mod secrets;
mod serve;
mod show;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use df_contract::Problem;

use crate::args::{Cli, Command, ConfigCommand};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A reader that has gone away is no reason to fail differently.
            let _ = writeln!(std::io::stderr(), "devfactoryd: {}", told(&error));
            error.downcast_ref::<Problem>().map_or(ExitCode::FAILURE, |p| p.code.exit_status().into())
        }
    }
}

fn told(error: &anyhow::Error) -> String {
    error.downcast_ref::<Problem>().map_or_else(|| format!("{error:#}"), ToString::to_string)
}

fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Serve(args) => runtime()?.block_on(serve::serve(args)),
        Command::Init(args) => runtime()?.block_on(serve::init(args)),
        Command::AuditExport { data_dir, out } => show::audit_export(&data_dir, out.as_deref()),
        Command::Config { command: ConfigCommand::Show(args) } => show::config(&args),
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
