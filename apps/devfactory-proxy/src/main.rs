//! `devfactory-proxy`: the AI proxy as a process. Everything it does is in df-proxy.

mod commands;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use commands::Command;
use df_contract::{ErrorCode, Problem};
use df_proxy::config::Config;
use df_proxy::{AdminError, StartError};

/// Serves OpenAI-compatible chat completions over several accounts, under signed grants and hard budgets.
#[derive(Debug, Parser)]
#[command(name = "devfactory-proxy", version)]
struct Arguments {
    /// The configuration, a TOML file.
    #[arg(long, env = "DEVFACTORY_PROXY_CONFIG")]
    config: PathBuf,
    /// Check the configuration, the keys and the recordings, and end.
    #[arg(long)]
    check: bool,
    /// Stop also when standard input ends, as it does when the process that holds its other end is gone.
    #[arg(long)]
    stop_at_eof: bool,
    /// Asks a running proxy; without a command, this is the proxy.
    #[command(subcommand)]
    command: Option<Command>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The log may not be set up yet, and whoever started this reads the end of stderr.
            let code = code_of(&error);
            let problem = Problem::new(code, format!("{error:#}"));
            let _closed = writeln!(std::io::stderr(), "{problem}");
            code.exit_status().into()
        }
    }
}

fn code_of(error: &anyhow::Error) -> ErrorCode {
    let asking = error.downcast_ref::<AdminError>().map(commands::code_of);
    let starting = error.downcast_ref::<StartError>().map(StartError::code);
    asking.or(starting).unwrap_or(ErrorCode::Internal)
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let config = Config::load(&arguments.config).map_err(StartError::Config)?;
    if arguments.check {
        df_proxy::check(&config)?;
        writeln!(
            std::io::stdout(),
            "{}",
            serde_json::json!({"event": "checked", "config": arguments.config})
        )?;
        return Ok(());
    }
    if let Some(command) = arguments.command {
        return tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("the runtime cannot be started")?
            .block_on(commands::run(&config, command));
    }
    df_observability::init_json_logs("devfactory-proxy", &config.log)?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be started")?
        .block_on(serve(config, arguments.stop_at_eof))
}

async fn serve(config: Config, stop_at_eof: bool) -> anyhow::Result<()> {
    // Before anything is opened, so that a signal during the start is not lost.
    let told = df_observability::told_to_stop(stop_at_eof).context("signals cannot be watched")?;
    let proxy = df_proxy::start(config).await?;
    announce(&proxy)?;
    told.await;
    proxy.stop().await;
    Ok(())
}

/// One line on stdout for whoever started this process; the same address is in `proxy.addr` in the data directory.
fn announce(proxy: &df_proxy::Proxy) -> anyhow::Result<()> {
    let line = serde_json::json!({"event": "listening", "address": proxy.address().to_string()});
    let mut out = std::io::stdout();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("stdout is closed")
}
