//! A local stack: proxy, daemon and worker as child processes, started in order and started again when they die.

pub(crate) mod binaries;
mod config;
mod process;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use df_contract::api::SystemView;
use df_contract::{ErrorCode, Problem};

use crate::args::StackArgs;
use crate::client::Client;
use config::{Layout, Model};
use process::Child;

/// How long a process may take until it listens.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A running stack. Its processes end with this one, however it ends.
pub(crate) struct Stack {
    pub(crate) data_dir: PathBuf,
    pub(crate) daemon_url: String,
    pub(crate) proxy_url: String,
    /// Set when this start made the installation.
    pub(crate) fresh_admin_key: Option<String>,
    layout: Layout,
    children: Vec<Child>,
}

impl Stack {
    /// Starts everything. `shipped` is a recorded conversation to use when no other model is named.
    pub(crate) async fn start(
        args: &StackArgs,
        listen: &str,
        shipped: Option<PathBuf>,
    ) -> anyhow::Result<Self> {
        let model = Model::choose(args, shipped)?;
        std::fs::create_dir_all(&args.data_dir).with_context(|| args.data_dir.display().to_string())?;
        let data_dir = args.data_dir.canonicalize().context("data directory")?;
        let layout = Layout::new(&data_dir);
        let fresh = !layout.admin_key.exists();
        let daemon = binaries::sibling("devfactoryd")?;
        process::run_once(&daemon, &["init", "--data-dir", &text(&layout.daemon_dir)])?;

        let mut children = Vec::new();
        let proxy = binaries::sibling("devfactory-proxy")?;
        config::write_proxy(&layout, &model)?;
        let proxy_addr = layout.proxy_dir.join("proxy.addr");
        children.push(Child::start(
            "devfactory-proxy",
            &proxy,
            &["--stop-at-eof", "--config", &text(&layout.proxy_config)],
            &layout,
        )?);
        let proxy_url = format!("http://{}", listening(&proxy_addr, &mut children).await?);

        config::write_daemon(&layout, listen, &proxy_url)?;
        let daemon_addr = layout.daemon_dir.join("daemon.addr");
        let (admin, worker_key) = (text(&layout.admin_key), text(&layout.worker_key));
        let serve = [
            "serve",
            "--stop-at-eof",
            "--config",
            &text(&layout.daemon_config),
            "--admin-key-file",
            &admin,
            "--worker-key-file",
            &worker_key,
        ];
        children.push(Child::start("devfactoryd", &daemon, &serve, &layout)?);
        let daemon_url = format!("http://{}", listening(&daemon_addr, &mut children).await?);

        let worker = binaries::sibling("devfactory-worker")?;
        config::write_worker(&layout, &daemon_url)?;
        children.push(Child::start(
            "devfactory-worker",
            &worker,
            &["--stop-at-eof", "--config", &text(&layout.worker_config)],
            &layout,
        )?);
        let mut stack = Self { data_dir, daemon_url, proxy_url, fresh_admin_key: None, layout, children };
        stack.worker_connected().await?;
        if fresh {
            stack.fresh_admin_key = Some(stack.admin_key()?);
        }
        Ok(stack)
    }

    /// Waits until the daemon knows a worker: without one every job would wait in silence.
    async fn worker_connected(&mut self) -> anyhow::Result<()> {
        let client = Client::new(Some(&self.daemon_url), Some(&self.admin_key()?))?;
        let begun = std::time::Instant::now();
        while client.get::<SystemView>("/v1/system").await?.workers.is_empty() {
            for child in &self.children {
                child.check()?;
            }
            if begun.elapsed() > START_TIMEOUT {
                let told = format!(
                    "no worker connected in {} s; see {}",
                    START_TIMEOUT.as_secs(),
                    self.layout.logs.display()
                );
                return Err(Problem::new(ErrorCode::SandboxUnavailable, told).into());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// The admin key of this installation, as its owner may read it.
    pub(crate) fn admin_key(&self) -> anyhow::Result<String> {
        let text =
            std::fs::read_to_string(&self.layout.admin_key).context("the admin key of the local stack")?;
        Ok(text.trim().to_owned())
    }

    /// Stops worker, daemon and proxy, in this order.
    pub(crate) async fn stop(self) {
        for child in self.children.into_iter().rev() {
            child.stop().await;
        }
    }
}

/// Returns when this process is told to stop, by ctrl-c or SIGTERM.
pub(crate) async fn told_to_stop() -> anyhow::Result<()> {
    let mut terminate =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).context("signal")?;
    tokio::select! {
        done = tokio::signal::ctrl_c() => done.context("ctrl-c"),
        _ = terminate.recv() => Ok(()),
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Waits until a process has written the address it listens on.
async fn listening(file: &Path, children: &mut [Child]) -> anyhow::Result<String> {
    let begun = std::time::Instant::now();
    loop {
        if let Ok(address) = std::fs::read_to_string(file)
            && let address = address.trim()
            && !address.is_empty()
            && tokio::net::TcpStream::connect(address).await.is_ok()
        {
            return Ok(address.to_owned());
        }
        for child in children.iter_mut() {
            child.check()?;
        }
        if begun.elapsed() > START_TIMEOUT {
            let told = format!(
                "{} was not written in {} s; see the logs beside it",
                file.display(),
                START_TIMEOUT.as_secs()
            );
            return Err(Problem::new(ErrorCode::DaemonUnreachable, told).into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
