//! The execution daemon: claims leases from the daemon and works on them in sandboxes.

mod check;
mod config;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use clap::Parser;
use df_agent::daemon::{Daemon, http_client};
use df_agent::executors::Executors;
use df_agent::runtime::Worker;
use df_contract::{ErrorCode, Problem, Timestamp};
use df_sandbox::{Sandbox, Status};
use tokio::sync::watch;

use check::{GitCheck, MachineCheck};
use config::Config;

/// Claims work from devfactoryd and does it in sandboxes.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// The TOML file; without one every setting has its default.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Address of the daemon. Not from the clients' environment: a worker belongs to one daemon.
    #[arg(long)]
    daemon_url: Option<String>,
    /// Directory for attempts.
    #[arg(long)]
    work_dir: Option<PathBuf>,
    /// A name for people.
    #[arg(long)]
    name: Option<String>,
    /// Leases held at the same time.
    #[arg(long)]
    capacity: Option<u32>,
    /// Prints what this machine can enforce as JSON and ends: 0 when a worker would start, 1 when not.
    #[arg(long)]
    check: bool,
    /// Stop also when standard input ends, as it does when the process that holds its other end is gone.
    #[arg(long)]
    stop_at_eof: bool,
}

fn main() -> ExitCode {
    df_sandbox::dispatch();
    let args = Args::parse();
    match run(&args) {
        Ok(code) => code,
        Err(error) => {
            let code = error.downcast_ref::<Problem>().map_or(ErrorCode::Internal, |p| p.code);
            tracing::error!(code = code.code(), error = format!("{error:#}"), "worker cannot go on");
            code.exit_status().into()
        }
    }
}

fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = Config::load(args);
    let filter = config.as_ref().map_or("info", |c| c.log.as_str());
    df_observability::init_json_logs("devfactory-worker", filter)?;
    let config = config?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if args.check {
        return runtime.block_on(print_check(&config));
    }
    runtime.block_on(work(&config, args.stop_at_eof))?;
    Ok(ExitCode::SUCCESS)
}

async fn print_check(config: &Config) -> anyhow::Result<ExitCode> {
    let scratch = std::env::temp_dir();
    let found = MachineCheck::run(&config.sandbox, &scratch).await;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string_pretty(&found)?)?;
    Ok(if found.usable { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn work(config: &Config, stop_at_eof: bool) -> anyhow::Result<()> {
    // Never on the command line: `ps` shows it.
    let key = std::env::var_os("DEVFACTORY_WORKER_KEY");
    let key = config.worker_key(key.as_deref().and_then(|k| k.to_str()))?;
    let _lock = lock(&config.work_dir)?;
    let git = GitCheck::run(&config.work_dir.join("empty-home")).await;
    if git.status != Status::Present {
        let text = format!("git cannot be used ({}): {}", git.detail, git.fix);
        return Err(Problem::new(ErrorCode::SandboxUnavailable, text).into());
    }
    let sandbox = Sandbox::open(config.sandbox.clone())
        .map_err(|e| Problem::new(ErrorCode::SandboxUnavailable, e.to_string()))?;
    let http = http_client()?;
    let daemon = Daemon::new(http.clone(), &config.daemon_url, key);
    let executors = Executors::open(&config.work_dir, sandbox, http, config.executors(), now)?;
    let worker = Worker::new(daemon, Arc::new(executors), config.worker(), now);
    let stop = when_told(stop_at_eof)?;
    tracing::info!(
        address = config.daemon_url,
        worker = config.name,
        capacity = config.capacity,
        "worker started"
    );
    worker.run(stop).await?;
    tracing::info!("worker stopped");
    Ok(())
}

/// The one clock of this process.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Held for the life of the process: two workers in one directory would clear away each other's work.
fn lock(work_dir: &Path) -> anyhow::Result<std::fs::File> {
    let unusable = |e: std::io::Error| {
        let text = format!("the work directory {} cannot be used: {e}", work_dir.display());
        Problem::new(ErrorCode::ConfigInvalid, text)
    };
    std::fs::create_dir_all(work_dir).map_err(unusable)?;
    let file = std::fs::File::create(work_dir.join("lock")).map_err(unusable)?;
    file.try_lock().map_err(|_| {
        let text = format!("another worker uses {}; give this one its own `work_dir`", work_dir.display());
        Problem::new(ErrorCode::StoreLocked, text)
    })?;
    Ok(file)
}

/// True once the process is told to stop.
fn when_told(stop_at_eof: bool) -> anyhow::Result<watch::Receiver<bool>> {
    let told = df_observability::told_to_stop(stop_at_eof)?;
    let (sender, stop) = watch::channel(false);
    tokio::spawn(async move {
        told.await;
        tracing::info!("asked to stop: work is given back");
        sender.send_replace(true);
    });
    Ok(stop)
}
