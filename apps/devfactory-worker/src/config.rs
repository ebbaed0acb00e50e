//! The worker's configuration: one TOML file, every key optional, and the command line on top of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use df_agent::daemon::WorkerKey;
use df_agent::executors::{ExecutorConfig, Target};
use df_agent::runtime::WorkerConfig;
use df_contract::agent::Runtime;
use df_contract::{AgentName, ErrorCode, LeaseKind, Problem, SandboxTier};
use df_sandbox::{Limits, SandboxConfig};
use serde::Deserialize;

use crate::Args;

/// Most leases one worker holds at the same time.
const MAX_CAPACITY: u32 = 256;
/// Most labels of one worker.
const MAX_LABELS: usize = 64;
const MAX_LABEL_BYTES: usize = 48;

/// `devfactory-worker.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Address of the daemon, without `/v1`.
    pub(crate) daemon_url: String,
    /// A file with the worker's key; `DEVFACTORY_WORKER_KEY` goes before it.
    pub(crate) worker_key_file: Option<PathBuf>,
    /// A name for people.
    pub(crate) name: String,
    /// Attempts live here and are removed; nothing in it needs keeping. One process only.
    pub(crate) work_dir: PathBuf,
    /// Leases held at the same time.
    pub(crate) capacity: u32,
    pub(crate) kinds: Vec<LeaseKind>,
    /// What this worker has that others may not, such as `gpu` or `zone-a`: jobs and agents may ask for labels.
    pub(crate) labels: BTreeSet<String>,
    /// Filter of the logs, such as `info` or `info,df_agent=debug`.
    pub(crate) log: String,
    /// Prefixes of `https://` or `file://` addresses from which an intake may fetch.
    pub(crate) allowed_git_urls: Vec<String>,
    /// Delivery targets beside `bundle`, by name.
    pub(crate) targets: BTreeMap<String, Target>,
    pub(crate) limits: RunLimits,
    pub(crate) sandbox: SandboxConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            daemon_url: "http://127.0.0.1:8460".to_owned(),
            worker_key_file: None,
            name: "worker".to_owned(),
            work_dir: PathBuf::from("/var/lib/devfactory-worker"),
            capacity: 4,
            kinds: LeaseKind::ALL.to_vec(),
            labels: BTreeSet::new(),
            log: "info".to_owned(),
            allowed_git_urls: Vec::new(),
            targets: BTreeMap::new(),
            limits: RunLimits::default(),
            sandbox: SandboxConfig::default(),
        }
    }
}

/// Limits of every run in a sandbox. Wall time is that of the check or the tool call.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RunLimits {
    memory_bytes: u64,
    pids: u64,
    cpu_seconds: u64,
    file_bytes: u64,
    open_files: u64,
}

impl Default for RunLimits {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            memory_bytes: limits.memory_bytes,
            pids: limits.pids,
            cpu_seconds: limits.cpu_seconds,
            file_bytes: limits.file_bytes,
            open_files: limits.open_files,
        }
    }
}

impl Config {
    /// Reads the file, if one is named, and applies the command line.
    pub(crate) fn load(args: &Args) -> Result<Self, Problem> {
        let mut config = match &args.config {
            Some(path) => parse(path, &read(path)?)?,
            None => Self::default(),
        };
        if let Some(url) = &args.daemon_url {
            config.daemon_url.clone_from(url);
        }
        if let Some(dir) = &args.work_dir {
            config.work_dir.clone_from(dir);
        }
        if let Some(name) = &args.name {
            config.name.clone_from(name);
        }
        if let Some(capacity) = args.capacity {
            config.capacity = capacity;
        }
        config.validate()?;
        Ok(config)
    }

    fn validate(&self) -> Result<(), Problem> {
        let mut errors = Vec::new();
        if !(1..=MAX_CAPACITY).contains(&self.capacity) {
            errors.push(format!("`capacity` is {}; it goes from 1 to {MAX_CAPACITY}", self.capacity));
        }
        if self.kinds.is_empty() {
            errors.push("`kinds` is empty; name at least one kind of lease".to_owned());
        }
        let labels = self.labels.iter().filter(|l| !is_label(l));
        errors.extend(labels.map(|l| {
            format!(
                "label `{l}`: lower-case letters, digits and single hyphens, at most {MAX_LABEL_BYTES} bytes"
            )
        }));
        if self.labels.len() > MAX_LABELS {
            errors.push(format!("`labels` has {} entries, the limit is {MAX_LABELS}", self.labels.len()));
        }
        if !self.daemon_url.starts_with("http://") && !self.daemon_url.starts_with("https://") {
            errors.push(format!("`daemon_url` is `{}`; it starts with http:// or https://", self.daemon_url));
        }
        if !self.work_dir.is_absolute() {
            errors.push(format!("`work_dir` is `{}`; it must be absolute", self.work_dir.display()));
        }
        if self.targets.contains_key("bundle") {
            errors.push("a target is called `bundle`; that name is taken by the artefact bundle".to_owned());
        }
        for (name, Target::Directory { path }) in &self.targets {
            if !path.is_absolute() {
                errors.push(format!("target `{name}`: `{}` must be absolute", path.display()));
            }
        }
        if errors.is_empty() {
            return Ok(());
        }
        Err(Problem::new(ErrorCode::ConfigInvalid, "the worker's configuration has mistakes")
            .with_errors(errors))
    }

    /// The key from the environment, else from the file.
    pub(crate) fn worker_key(&self, from_environment: Option<&str>) -> Result<WorkerKey, Problem> {
        let text = match (from_environment, &self.worker_key_file) {
            (Some(key), _) => key.to_owned(),
            (None, Some(path)) => read(path)?,
            (None, None) => {
                let text = "no worker key: set DEVFACTORY_WORKER_KEY or `worker_key_file`";
                return Err(Problem::new(ErrorCode::ConfigInvalid, text));
            }
        };
        if text.trim().is_empty() {
            return Err(Problem::new(ErrorCode::ConfigInvalid, "the worker key is empty"));
        }
        Ok(WorkerKey::new(text.trim()))
    }

    pub(crate) fn executors(&self) -> ExecutorConfig {
        let RunLimits { memory_bytes, pids, cpu_seconds, file_bytes, open_files } = self.limits;
        ExecutorConfig {
            allowed_git_urls: self.allowed_git_urls.clone(),
            targets: self.targets.clone(),
            limits: Limits { memory_bytes, pids, cpu_seconds, file_bytes, open_files, ..Limits::default() },
        }
    }

    pub(crate) fn worker(&self) -> WorkerConfig {
        WorkerConfig {
            name: self.name.clone(),
            capacity: self.capacity,
            kinds: self.kinds.clone(),
            labels: self.labels.clone(),
            // A worker whose sandbox cannot be enforced does not start, and this is the one it has.
            tiers: BTreeSet::from([SandboxTier::Bwrap]),
            runtimes: BTreeSet::from([Runtime::Builtin]),
        }
    }
}

/// As in manifests of agents.
fn is_label(label: &str) -> bool {
    label.len() <= MAX_LABEL_BYTES && label.parse::<AgentName>().is_ok()
}

fn read(path: &Path) -> Result<String, Problem> {
    std::fs::read_to_string(path).map_err(|e| {
        Problem::new(ErrorCode::ConfigInvalid, format!("{} cannot be read: {e}", path.display()))
    })
}

fn parse(path: &Path, text: &str) -> Result<Config, Problem> {
    toml::from_str(text)
        .map_err(|e| Problem::new(ErrorCode::ConfigInvalid, format!("{}: {e}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str) {
        let found = parse(Path::new("w.toml"), text).and_then(|c| c.validate());
        let text = found.err().map(|p| p.to_string()).unwrap_or_default();
        assert!(if expect.is_empty() { text.is_empty() } else { text.contains(expect) }, "{text}");
    }

    #[test]
    fn mistakes_are_named() {
        check("", "");
        check("[targets.out]\nkind = \"directory\"\npath = \"/srv/out\"\n[limits]\npids = 64\n", "");
        check("daemon_ulr = 'x'", "daemon_ulr");
        check("capacity = 0", "from 1 to 256");
        check("kinds = ['build']", "build");
        check("labels = ['zone-a', 'gpu']", "");
        check("labels = ['Zone A']", "label `Zone A`");
        check("daemon_url = 'localhost:1'", "http://");
        check("[targets.bundle]\nkind = \"directory\"\npath = \"/x\"", "taken");
        check("[targets.out]\nkind = \"directory\"\npath = \"x\"", "must be absolute");
        check("[targets.out]\nkind = \"ftp\"", "ftp");
        check("[sandbox]\nbwarp = '/x'", "bwarp");
    }

    #[test]
    fn the_environment_goes_before_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        std::fs::write(&file, "from-file\n").unwrap();
        let config = Config { worker_key_file: Some(file), ..Config::default() };
        assert_eq!(config.worker_key(Some("env")).unwrap(), WorkerKey::new("env"));
        assert_eq!(config.worker_key(None).unwrap(), WorkerKey::new("from-file"));
        assert!(Config::default().worker_key(None).is_err());
        assert!(Config::default().worker_key(Some(" ")).is_err());
    }
}
