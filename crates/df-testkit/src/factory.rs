//! A whole installation in a temporary directory: proxy, daemon and worker, each killed and started at will.

mod config;
mod layout;
mod observe;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use df_contract::Role;

use crate::api::Api;
use crate::binaries::binary;
use crate::cli::{self, CliOutput, run_cli};
use crate::clock;
use crate::limit::{Limit, poll};
use crate::model::PROVIDER_KEY;
use crate::port;
use crate::process::{Process, Program};
use layout::Layout;

/// Environment variable in which the proxy finds the provider's key.
const PROVIDER_KEY_ENV: &str = "DF_TEST_PROVIDER_KEY";

/// Who answers as the model.
#[derive(Debug, Clone)]
pub enum Model {
    /// A recorded conversation.
    Recorded { path: PathBuf },
    /// An OpenAI-compatible server, up to and including the version.
    Server { base_url: String },
    /// No account at all.
    Nobody,
}

/// What a factory is started with.
#[derive(Debug, Clone)]
pub struct Setup {
    pub model: Model,
    /// Models beside the default one, at the same server, each by an account of its own: what befalls one touches no other.
    pub models_apart: Vec<String>,
    /// Leases the worker holds at the same time.
    pub capacity: u32,
    /// Another `bwrap` than the machine's.
    pub bwrap: Option<PathBuf>,
    /// Workers beside the first, each a process of its own.
    pub more_workers: u32,
    /// The worker is started by the test itself, or never.
    pub without_worker: bool,
    /// Processes whose wall clock the test sets with [`TestFactory::set_clock`].
    pub clocks: Vec<Member>,
    /// More of the daemon's `[orchestration]` table, in TOML.
    pub orchestration: toml::Table,
}

impl Setup {
    pub fn new(model: Model) -> Self {
        Self {
            model,
            models_apart: Vec::new(),
            capacity: 3,
            bwrap: None,
            more_workers: 0,
            without_worker: false,
            clocks: Vec::new(),
            orchestration: toml::Table::new(),
        }
    }
}

/// One of the three long-running processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Member {
    Proxy,
    Daemon,
    Worker,
}

impl Member {
    pub const ALL: [Member; 3] = [Member::Proxy, Member::Daemon, Member::Worker];
}

/// The running installation. Everything it started dies with it.
#[derive(Debug)]
pub struct TestFactory {
    // Before the directory, so that nothing runs in it any more when it is removed.
    worker: Process,
    more_workers: Vec<Process>,
    daemon: Process,
    proxy: Process,
    ports: Ports,
    layout: Layout,
    admin: Api,
    root: tempfile::TempDir,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    daemon: u16,
    proxy: u16,
}

impl TestFactory {
    /// Makes an installation and starts it.
    pub async fn start(setup: Setup) -> Self {
        let root = tempfile::Builder::new().prefix("devfactory-test-").tempdir().expect("a directory");
        let layout = Layout::new(root.path());
        let ports = Ports { daemon: port::draw(), proxy: port::draw() };
        config::write(&layout, &setup, ports);
        // First, because the proxy wants the public half of the grant key before there is a daemon.
        let mut init: Vec<OsString> =
            vec!["init".into(), "--data-dir".into(), layout.daemon_dir.clone().into()];
        init.extend(key_args(&layout));
        cli::run(cli::program("devfactoryd", root.path(), init, &[]), root.path(), Limit::PROCESS)
            .succeeded();

        let process = |name, args, env| {
            let program = Program { name, path: binary(name), args, env, home: root.path().to_owned() };
            Process::new(program, &layout.logs)
        };
        let clock = |member: Member| match setup.clocks.contains(&member) {
            true => clock::environment(root.path()),
            false => Vec::new(),
        };
        let mut proxy_env = clock(Member::Proxy);
        proxy_env.push((OsString::from(PROVIDER_KEY_ENV), OsString::from(PROVIDER_KEY)));
        let proxy = process("devfactory-proxy", with_config(&layout.proxy_config), proxy_env);
        let daemon = process("devfactoryd", daemon_args(&layout), clock(Member::Daemon));
        let worker = process("devfactory-worker", with_config(&layout.worker_config), clock(Member::Worker));
        let more_workers = (0..setup.more_workers)
            .map(|n| process("devfactory-worker", with_config(&layout.more_worker_config(n)), Vec::new()))
            .collect();
        let base = format!("http://127.0.0.1:{}", ports.daemon);
        let mut factory =
            Self { worker, more_workers, daemon, proxy, ports, layout, admin: Api::new(&base, ""), root };
        factory.restart(Member::Proxy).await;
        factory.restart(Member::Daemon).await;
        factory.admin = factory.admin.with_key(&read_key(&factory.layout.admin_key));
        if !setup.without_worker {
            factory.restart(Member::Worker).await;
            factory.more_workers.iter_mut().for_each(Process::start);
        }
        factory
    }

    /// Data, configuration, keys and logs of the installation.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    pub fn daemon_dir(&self) -> &Path {
        &self.layout.daemon_dir
    }

    pub fn daemon_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.daemon)
    }

    pub fn proxy_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.proxy)
    }

    /// The API as the identity of the first start.
    pub fn admin(&self) -> &Api {
        &self.admin
    }

    /// The proxy's administration, with its own token.
    pub fn proxy_admin(&self) -> Api {
        Api::new(&self.proxy_url(), &read_key(&self.layout.proxy_token))
    }

    /// The API as somebody new.
    pub async fn identity(&self, identity: &str, roles: &[Role]) -> Api {
        self.admin.identity(identity, roles).await
    }

    /// Starts one more worker, with more in its configuration than the others have.
    pub fn add_worker(&mut self, more: &toml::Table) {
        let n = self.more_workers.len() as u32;
        let config = config::more_worker(&self.layout, n, more);
        let program = Program {
            name: "devfactory-worker",
            path: binary("devfactory-worker"),
            args: with_config(&config),
            env: Vec::new(),
            home: self.root.path().to_owned(),
        };
        let mut worker = Process::new(program, &self.layout.logs);
        worker.start();
        self.more_workers.push(worker);
    }

    /// A client with the worker's key, to act as a worker.
    pub fn as_worker(&self) -> Api {
        self.admin.with_key(&read_key(&self.layout.worker_key))
    }

    fn process(&mut self, member: Member) -> &mut Process {
        match member {
            Member::Proxy => &mut self.proxy,
            Member::Daemon => &mut self.daemon,
            Member::Worker => &mut self.worker,
        }
    }

    /// `kill -9`.
    pub fn kill(&mut self, member: Member) {
        self.process(member).kill();
    }

    /// Starts what was killed and waits until it listens. The worker listens to nobody: it is only started.
    pub async fn restart(&mut self, member: Member) {
        self.process(member).start();
        let port = match member {
            Member::Proxy => self.ports.proxy,
            Member::Daemon => self.ports.daemon,
            Member::Worker => return,
        };
        let process = self.process(member);
        poll(Limit::PROCESS, process.name(), async || {
            if let Some(status) = process.ended() {
                panic!("{} ended at its start with {status}:\n{}", process.name(), process.tail());
            }
            let connected = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
            connected.map(drop).map_err(|e| e.to_string())
        })
        .await;
    }

    /// Waits until a process has ended by itself; answers whether it called that a success, and its log.
    pub async fn ended(&mut self, member: Member) -> (bool, String) {
        let process = self.process(member);
        let status = poll(Limit::PROCESS, "the end of a process", async || {
            process.ended().ok_or_else(|| format!("{} runs; its log:\n{}", process.name(), process.tail()))
        })
        .await;
        (status.success(), process.log())
    }

    /// What a process has logged, in all its lives.
    pub fn log(&self, member: Member) -> String {
        match member {
            Member::Proxy => self.proxy.log(),
            Member::Daemon => self.daemon.log(),
            Member::Worker => self.worker.log(),
        }
    }

    /// Sets the wall clock of the members named in [`Setup::clocks`] to so many seconds from the real time, while they
    /// run. Their monotonic clock goes on.
    pub fn set_clock(&self, ahead_s: i64) {
        clock::set(self.root(), ahead_s);
    }

    /// Runs `devfactory` against this installation, as the owner of `api`.
    pub fn cli_as(&self, api: &Api, args: &[&str]) -> CliOutput {
        let url = self.daemon_url();
        let env = [("DEVFACTORY_URL", url.as_str()), ("DEVFACTORY_API_KEY", api.key())];
        run_cli(self.root(), args, &env, Limit::JOB)
    }

    /// Starts a second daemon beside the running one, on another port when `port` says so; it must end by itself.
    pub fn second_daemon(&self, other_data: bool, other_port: bool) -> CliOutput {
        let twin = Layout::new(&self.root().join("twin"));
        let data = if other_data { &twin.daemon_dir } else { &self.layout.daemon_dir };
        let port = if other_port { port::draw() } else { self.ports.daemon };
        let config = config::second_daemon(&self.layout, &twin, data, Ports { daemon: port, ..self.ports });
        let mut args: Vec<OsString> = ["serve", "--config"].iter().map(OsString::from).collect();
        args.push(config.into_os_string());
        cli::run(cli::program("devfactoryd", self.root(), args, &[]), self.root(), Limit::PROCESS)
    }
}

fn with_config(path: &Path) -> Vec<OsString> {
    vec!["--config".into(), path.into()]
}

fn daemon_args(layout: &Layout) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec!["serve".into()];
    args.extend(with_config(&layout.daemon_config));
    args.extend(key_args(layout));
    args
}

fn key_args(layout: &Layout) -> Vec<OsString> {
    let (admin, worker) = (layout.admin_key.clone(), layout.worker_key.clone());
    vec!["--admin-key-file".into(), admin.into(), "--worker-key-file".into(), worker.into()]
}

fn read_key(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.trim().to_owned()
}
