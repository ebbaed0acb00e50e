//! The configuration files of a local stack, written at every start from what the command line says.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use df_contract::{ErrorCode, Problem};
use serde::Serialize;

use crate::args::StackArgs;

/// The name under which jobs ask for the one model of a local stack.
const MODEL: &str = "default";

/// Where things are.
pub(crate) struct Layout {
    pub(crate) daemon_dir: PathBuf,
    pub(crate) proxy_dir: PathBuf,
    pub(crate) worker_dir: PathBuf,
    pub(crate) logs: PathBuf,
    pub(crate) daemon_config: PathBuf,
    pub(crate) proxy_config: PathBuf,
    pub(crate) worker_config: PathBuf,
    pub(crate) admin_key: PathBuf,
    pub(crate) worker_key: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            daemon_dir: root.join("daemon"),
            proxy_dir: root.join("proxy"),
            worker_dir: root.join("worker"),
            logs: root.join("logs"),
            daemon_config: root.join("daemon.toml"),
            proxy_config: root.join("proxy.toml"),
            worker_config: root.join("worker.toml"),
            admin_key: root.join("admin.key"),
            worker_key: root.join("worker.key"),
        }
    }
}

/// Who answers as the model.
pub(crate) enum Model {
    Recorded {
        path: PathBuf,
    },
    Server {
        base_url: String,
        model: String,
        key_env: Option<String>,
        record_to: Option<PathBuf>,
    },
    /// No account: jobs are governed, and wait or fail where a model is needed.
    Nobody,
}

impl Model {
    /// What the options say; the conversation that ships with a job when they say nothing.
    pub(crate) fn choose(args: &StackArgs, shipped: Option<PathBuf>) -> anyhow::Result<Self> {
        let invalid = |told: &str| Problem::new(ErrorCode::ConfigInvalid, told);
        let absolute = |path: &Path| std::path::absolute(path).with_context(|| path.display().to_string());
        match (&args.base_url, &args.model, &args.recording) {
            (Some(_), _, Some(_)) => Err(invalid("give either --base-url or --recording").into()),
            (Some(base_url), Some(model), None) => Ok(Self::Server {
                base_url: base_url.clone(),
                model: model.clone(),
                key_env: std::env::var_os(&args.key_env).is_some().then(|| args.key_env.clone()),
                record_to: args.record.as_deref().map(absolute).transpose()?,
            }),
            (Some(_), None, None) => Err(invalid("--base-url needs --model as well").into()),
            (None, Some(_), _) => Err(invalid("--model needs --base-url as well").into()),
            (None, None, Some(path)) => Ok(Self::Recorded { path: absolute(path)? }),
            (None, None, None) => match shipped {
                Some(path) => Ok(Self::Recorded { path: absolute(&path)? }),
                None => Ok(Self::Nobody),
            },
        }
    }
}

#[derive(Serialize)]
struct ProxyFile<'a> {
    listen: String,
    data_dir: &'a Path,
    grant_key_file: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    record_to: Option<&'a Path>,
    accounts: Vec<Account<'a>>,
    routes: std::collections::BTreeMap<&'static str, Vec<&'static str>>,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Account<'a> {
    Recorded {
        id: &'static str,
        path: &'a Path,
    },
    OpenaiCompatible {
        id: &'static str,
        base_url: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        key_env: Option<&'a str>,
        models: std::collections::BTreeMap<&'static str, &'a str>,
    },
}

pub(crate) fn write_proxy(layout: &Layout, model: &Model) -> anyhow::Result<()> {
    let (accounts, record_to) = match model {
        Model::Recorded { path } => (vec![Account::Recorded { id: "recorded", path }], None),
        Model::Server { base_url, model, key_env, record_to } => {
            let models = std::collections::BTreeMap::from([(MODEL, model.as_str())]);
            let account =
                Account::OpenaiCompatible { id: "server", base_url, key_env: key_env.as_deref(), models };
            (vec![account], record_to.as_deref())
        }
        Model::Nobody => (Vec::new(), None),
    };
    let ids = match model {
        Model::Recorded { .. } => vec!["recorded"],
        Model::Server { .. } => vec!["server"],
        Model::Nobody => Vec::new(),
    };
    let routes = if ids.is_empty() { [].into() } else { [(MODEL, ids)].into() };
    let file = ProxyFile {
        listen: keep_port(&layout.proxy_dir.join("proxy.addr"), "127.0.0.1:0")?,
        data_dir: &layout.proxy_dir,
        grant_key_file: layout.daemon_dir.join("grant.pub"),
        record_to,
        accounts,
        routes,
    };
    write(layout, &layout.proxy_config, &file)
}

#[derive(Serialize)]
struct DaemonFile<'a> {
    listen: String,
    data_dir: &'a Path,
    proxy: DaemonProxy<'a>,
    orchestration: Orchestration<'a>,
}

#[derive(Serialize)]
struct DaemonProxy<'a> {
    url: &'a str,
    admin_token_file: PathBuf,
}

#[derive(Serialize)]
struct Orchestration<'a> {
    proxy_url: &'a str,
    default_model: &'static str,
}

pub(crate) fn write_daemon(layout: &Layout, listen: &str, proxy_url: &str) -> anyhow::Result<()> {
    let file = DaemonFile {
        listen: keep_port(&layout.daemon_dir.join("daemon.addr"), listen)?,
        data_dir: &layout.daemon_dir,
        proxy: DaemonProxy { url: proxy_url, admin_token_file: layout.proxy_dir.join("admin.token") },
        orchestration: Orchestration { proxy_url, default_model: MODEL },
    };
    write(layout, &layout.daemon_config, &file)
}

#[derive(Serialize)]
struct WorkerFile<'a> {
    daemon_url: &'a str,
    worker_key_file: &'a Path,
    work_dir: &'a Path,
}

pub(crate) fn write_worker(layout: &Layout, daemon_url: &str) -> anyhow::Result<()> {
    let file = WorkerFile { daemon_url, worker_key_file: &layout.worker_key, work_dir: &layout.worker_dir };
    write(layout, &layout.worker_config, &file)
}

/// A process that is started again must come back where the others look for it: port 0 is drawn once, here, and the
/// address file of an earlier life goes.
fn keep_port(address_file: &Path, listen: &str) -> anyhow::Result<String> {
    let _ = std::fs::remove_file(address_file);
    if !listen.ends_with(":0") {
        return Ok(listen.to_owned());
    }
    let drawn = std::net::TcpListener::bind(listen).context("a free port")?;
    Ok(drawn.local_addr().context("a free port")?.to_string())
}

fn write<T: Serialize>(layout: &Layout, path: &Path, file: &T) -> anyhow::Result<()> {
    for folder in [&layout.daemon_dir, &layout.proxy_dir, &layout.worker_dir, &layout.logs] {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    std::fs::write(path, toml::to_string(file)?).with_context(|| path.display().to_string())
}
