//! Where things are.

use std::path::{Path, PathBuf};

#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) daemon_dir: PathBuf,
    pub(super) proxy_dir: PathBuf,
    pub(super) worker_dir: PathBuf,
    pub(super) logs: PathBuf,
    pub(super) daemon_config: PathBuf,
    pub(super) proxy_config: PathBuf,
    pub(super) worker_config: PathBuf,
    pub(super) admin_key: PathBuf,
    pub(super) worker_key: PathBuf,
    pub(super) proxy_token: PathBuf,
}

impl Layout {
    pub(super) fn new(root: &Path) -> Self {
        let layout = Self {
            daemon_dir: root.join("daemon"),
            proxy_dir: root.join("proxy"),
            worker_dir: root.join("worker"),
            logs: root.join("logs"),
            daemon_config: root.join("daemon.toml"),
            proxy_config: root.join("proxy.toml"),
            worker_config: root.join("worker.toml"),
            admin_key: root.join("admin.key"),
            worker_key: root.join("worker.key"),
            proxy_token: root.join("proxy/admin.token"),
        };
        for folder in [&layout.daemon_dir, &layout.proxy_dir, &layout.worker_dir, &layout.logs] {
            std::fs::create_dir_all(folder).expect("a directory of the installation");
        }
        layout
    }

    /// The configuration of a worker beside the first.
    pub(super) fn more_worker_config(&self, n: u32) -> PathBuf {
        self.worker_config.with_file_name(format!("worker-{n}.toml"))
    }

    /// Where it works.
    pub(super) fn more_worker_dir(&self, n: u32) -> PathBuf {
        self.worker_dir.with_file_name(format!("worker-{n}"))
    }

    /// The seed of the daemon's signing key, in hex.
    pub(super) fn grant_key(&self) -> PathBuf {
        self.daemon_dir.join("grant.key")
    }

    /// The files in which keys belong.
    pub(super) fn key_files(&self) -> Vec<PathBuf> {
        vec![
            self.admin_key.clone(),
            self.worker_key.clone(),
            self.proxy_token.clone(),
            self.grant_key(),
            self.daemon_dir.join("lease.key"),
        ]
    }
}
