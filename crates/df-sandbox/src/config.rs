//! What the operator decides about sandboxes.

use std::path::PathBuf;

/// Unprivileged uids for runs started as root: one per concurrent run, so that two runs never share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UidPool {
    /// First uid (and gid) of the pool. No account may own any of them.
    pub first: u32,
    pub count: u32,
}

/// Whether cgroups are used for memory and process limits where they are writable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CgroupUse {
    WhenWritable,
    Never,
}

/// Configuration of a [`crate::Sandbox`].
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SandboxConfig {
    /// `None`: the first `bwrap` of `/usr/bin`, `/usr/local/bin`, `/bin`.
    pub bwrap: Option<PathBuf>,
    /// The binary whose `main` calls [`crate::dispatch`]; `None`: the running one.
    pub init: Option<PathBuf>,
    pub uids: UidPool,
    /// Locks and staging when started as root. Created, root-owned.
    pub state_dir: PathBuf,
    pub cgroup: CgroupUse,
    /// A cgroup v2 directory delegated to sandboxes; `None`: the caller's own cgroup.
    pub cgroup_parent: Option<PathBuf>,
    /// Runs at the same time in this process; more wait.
    pub max_concurrent: usize,
}

impl Default for SandboxConfig {
    fn default() -> Self {
        Self {
            bwrap: None,
            init: None,
            uids: UidPool { first: 61_000, count: 64 },
            state_dir: PathBuf::from("/run/devfactory-sandbox"),
            cgroup: CgroupUse::WhenWritable,
            cgroup_parent: None,
            max_concurrent: 16,
        }
    }
}
