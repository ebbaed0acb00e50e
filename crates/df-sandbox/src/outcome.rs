//! What a run did.

use serde::{Deserialize, Serialize};

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// 127: no such program inside; 126: it could not be executed.
    Code(i32),
    Signal(i32),
    /// Wall time was used up and the run was killed.
    Timeout,
    /// The caller asked.
    Cancelled,
}

impl Exit {
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }
}

/// A layer of isolation that was in force during a run, to be recorded with its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// Never the host's uid 0.
    UnprivilegedUid,
    /// A uid that no other concurrent run has.
    OwnUid,
    /// User, pid, network, ipc, uts and mount namespaces; no further user namespace can be made inside.
    Namespaces,
    /// Loopback only.
    NoNetwork,
    MinimalRoot,
    NoCapabilities,
    NoNewPrivileges,
    Seccomp,
    ResourceLimits,
    MemoryCgroup,
    PidsCgroup,
}

impl Layer {
    /// The name under which it is recorded, the same as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnprivilegedUid => "unprivileged_uid",
            Self::OwnUid => "own_uid",
            Self::Namespaces => "namespaces",
            Self::NoNetwork => "no_network",
            Self::MinimalRoot => "minimal_root",
            Self::NoCapabilities => "no_capabilities",
            Self::NoNewPrivileges => "no_new_privileges",
            Self::Seccomp => "seccomp",
            Self::ResourceLimits => "resource_limits",
            Self::MemoryCgroup => "memory_cgroup",
            Self::PidsCgroup => "pids_cgroup",
        }
    }
}

/// What became of the spool file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spooled {
    pub bytes: u64,
    /// False when the cap was reached or writing failed.
    pub complete: bool,
}

/// Result of one run. That the command failed is an outcome; that it could not be started is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub exit: Exit,
    /// The kernel killed something for exceeding the memory limit. Known only under [`Layer::MemoryCgroup`].
    pub oom: bool,
    /// Standard output and error in the order written: at most `output_bytes` of head and tail, and between them a
    /// line saying how much was left out.
    pub output: Vec<u8>,
    /// All bytes written, kept or not.
    pub output_total_bytes: u64,
    pub output_truncated: bool,
    pub spooled: Option<Spooled>,
    pub layers: Vec<Layer>,
    pub wall_ms: u64,
}
