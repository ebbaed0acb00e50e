//! What the caller tells the two stages, and what they report back.
//!
//! The caller writes a [`LaunchPlan`] to the launch stage's standard input. The launch stage prepares the host side and
//! becomes `bwrap`, which starts the init stage; that one reads its [`InitPlan`] from a descriptor of its own, so that no
//! environment value ever stands in an argument list, and reports over a socket with one JSON [`Report`] a message.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::outcome::Layer;

pub(crate) const LAUNCH_STAGE: &str = "sandbox-launch";
pub(crate) const INIT_STAGE: &str = "sandbox-init";
/// Where the helper binary is mounted inside.
pub(crate) const INIT_INSIDE: &str = "/run/df-init";
/// Uid and gid the program sees as its own.
pub(crate) const INSIDE_ID: u32 = 1000;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LaunchPlan {
    pub(crate) bwrap: String,
    /// The launch stage gives up if this is no longer its parent.
    pub(crate) parent_pid: u32,
    /// Set when started as root.
    pub(crate) privileged: Option<Privileged>,
    pub(crate) workspace: Mount,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) init_binary: String,
    /// Directories whose `cgroup.procs` the launch stage joins.
    pub(crate) cgroups: Vec<String>,
    /// Size of each private tmpfs.
    pub(crate) scratch_bytes: u64,
    pub(crate) init: InitPlan,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Privileged {
    /// Uid and gid to become before `bwrap` starts.
    pub(crate) uid: u32,
    /// Directory over which the launch stage mounts a private tmpfs: from there the unprivileged uid can reach
    /// sources whose parent directories it may not search.
    pub(crate) stage: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mount {
    pub(crate) host: String,
    pub(crate) inside: String,
    pub(crate) writable: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InitPlan {
    pub(crate) command: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) cwd: String,
    pub(crate) cpu_seconds: u64,
    pub(crate) file_bytes: u64,
    pub(crate) open_files: u64,
    pub(crate) pids: u64,
    /// Only where no memory cgroup holds: some runtimes reserve far more address space than they use.
    pub(crate) address_space_bytes: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    /// A stage would not go on; the command was not started.
    Refused(String),
    /// Everything is in force; the command starts next.
    Ready(Vec<Layer>),
    Code(i32),
    Signal(i32),
}
