//! What to run, where, and under which limits.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use crate::error::SpecError;

/// Longest single argument or `NAME=value` the kernel accepts (`MAX_ARG_STRLEN`).
const ARGUMENT_BYTES_MAX: usize = 128 * 1024;
/// Upper bound on arguments and on environment entries.
const ARGUMENTS_MAX: usize = 4096;
/// Upper bound on extra read-only mounts.
const MOUNTS_MAX: usize = 64;
/// The inner helper needs some room of its own.
const MEMORY_BYTES_MIN: u64 = 64 << 20;
const PIDS_MIN: u64 = 4;
const OPEN_FILES_MIN: u64 = 16;
/// Paths inside the sandbox which belong to the sandbox itself.
const RESERVED: [&str; 12] = [
    "/bin",
    "/dev",
    "/etc",
    "/home",
    "/lib",
    "/lib64",
    "/proc",
    "/run",
    "/sbin",
    "/sys",
    "/tmp",
    "/workspace",
];

/// How the program may use the workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkspaceAccess {
    ReadWrite,
    ReadOnly,
}

/// A host file or directory shown read-only inside. Its contents must be readable by any user: ownership of these
/// is never changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadOnlyMount {
    pub host: PathBuf,
    /// Absolute path inside; neither one of the sandbox's own directories nor `/usr` itself.
    pub inside: PathBuf,
}

/// Keeps the full output in a host file, up to a cap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spool {
    /// Created by the run; must not exist.
    pub path: PathBuf,
    pub max_bytes: u64,
}

/// Limits on one run. Every field is enforced; see `docs/sandbox.md` for by what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// For the whole run where a memory cgroup is writable, else address space per process. Also caps each of the
    /// private `/tmp`, home and `/dev/shm`, at half of this.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub pids: u64,
    /// CPU seconds per process.
    pub cpu_seconds: u64,
    /// Wall time in milliseconds, then TERM, then KILL.
    pub wall_ms: u64,
    /// Largest single file.
    pub file_bytes: u64,
    /// Open files per process.
    pub open_files: u64,
    /// Output kept in memory (head and tail); more is counted and dropped.
    pub output_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 2 << 30,
            pids: 256,
            cpu_seconds: 600,
            wall_ms: 600_000,
            file_bytes: 512 << 20,
            open_files: 1024,
            output_bytes: 256 << 10,
        }
    }
}

/// One command to run in a sandbox. Standard input is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxSpec {
    /// Host directory mounted at [`crate::WORKSPACE`]. While it runs, nobody else may write there: when started as root its
    /// ownership is lent to the run's uid and taken back afterwards.
    pub workspace: PathBuf,
    pub access: WorkspaceAccess,
    pub read_only_mounts: Vec<ReadOnlyMount>,
    /// All the program's environment but `PATH`, `HOME`, `TMPDIR`, `LANG`, `USER`, which it may override.
    pub env: BTreeMap<String, String>,
    pub limits: Limits,
    /// Program and arguments; the program is looked up in `PATH` inside.
    pub command: Vec<String>,
    /// Relative to the workspace; empty for the workspace itself.
    pub cwd: PathBuf,
    pub spool: Option<Spool>,
}

impl SandboxSpec {
    /// A read-write run of `command` at the top of `workspace` with default limits and no extra environment.
    pub fn new<S: Into<String>>(workspace: impl Into<PathBuf>, command: impl IntoIterator<Item = S>) -> Self {
        Self {
            workspace: workspace.into(),
            access: WorkspaceAccess::ReadWrite,
            read_only_mounts: Vec::new(),
            env: BTreeMap::new(),
            limits: Limits::default(),
            command: command.into_iter().map(Into::into).collect(),
            cwd: PathBuf::new(),
            spool: None,
        }
    }

    pub(crate) fn check(&self) -> Result<(), SpecError> {
        if !self.workspace.is_absolute() || self.workspace.parent().is_none() {
            return Err(SpecError::Workspace(self.workspace.clone()));
        }
        self.check_command()?;
        self.check_env()?;
        if !self.cwd.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(SpecError::Cwd(self.cwd.clone()));
        }
        if self.read_only_mounts.len() > MOUNTS_MAX {
            return Err(SpecError::TooManyMounts { limit: MOUNTS_MAX });
        }
        self.read_only_mounts.iter().try_for_each(check_mount)?;
        self.limits.check()
    }

    fn check_command(&self) -> Result<(), SpecError> {
        if self.command.first().is_none_or(String::is_empty) {
            return Err(SpecError::EmptyCommand);
        }
        if self.command.len() > ARGUMENTS_MAX {
            return Err(SpecError::TooManyArguments { limit: ARGUMENTS_MAX });
        }
        match self.command.iter().position(|argument| !fits(argument)) {
            Some(index) => Err(SpecError::Argument { index, limit: ARGUMENT_BYTES_MAX }),
            None => Ok(()),
        }
    }

    fn check_env(&self) -> Result<(), SpecError> {
        if self.env.len() > ARGUMENTS_MAX {
            return Err(SpecError::TooManyArguments { limit: ARGUMENTS_MAX });
        }
        for (name, value) in &self.env {
            let named = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                && name.bytes().next().is_some_and(|b| !b.is_ascii_digit());
            if !named || !fits(value) || !fits(name) {
                return Err(SpecError::EnvEntry { name: name.chars().take(64).collect() });
            }
        }
        Ok(())
    }
}

impl Limits {
    fn check(&self) -> Result<(), SpecError> {
        let floors = [
            ("memory_bytes", self.memory_bytes, MEMORY_BYTES_MIN),
            ("pids", self.pids, PIDS_MIN),
            ("cpu_seconds", self.cpu_seconds, 1),
            ("wall_ms", self.wall_ms, 1),
            ("open_files", self.open_files, OPEN_FILES_MIN),
        ];
        match floors.into_iter().find(|(_, value, floor)| value < floor) {
            Some((name, value, floor)) => Err(SpecError::LimitTooLow { name, value, floor }),
            None => Ok(()),
        }
    }
}

fn fits(text: &str) -> bool {
    text.len() < ARGUMENT_BYTES_MAX && !text.contains('\0')
}

fn check_mount(mount: &ReadOnlyMount) -> Result<(), SpecError> {
    let plain = mount.inside.components().skip(1).all(|part| matches!(part, Component::Normal(_)));
    let reserved = RESERVED.iter().any(|own| mount.inside.starts_with(own))
        || mount.inside.parent().is_none()
        || mount.inside.starts_with("/usr");
    let text = mount.inside.to_str().is_some_and(|path| !path.contains(['\0', '\n']));
    if !mount.host.is_absolute() || !mount.inside.is_absolute() || !plain || reserved || !text {
        return Err(SpecError::Mount { inside: mount.inside.clone() });
    }
    Ok(())
}

/// Lossless text of a path, or the error naming it: plans travel as JSON.
pub(crate) fn utf8(path: &Path) -> Result<String, SpecError> {
    path.to_str().map(str::to_owned).ok_or_else(|| SpecError::PathNotUtf8(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> SandboxSpec {
        SandboxSpec::new("/srv/w", ["true"])
    }

    #[test]
    fn a_plain_spec_is_accepted() {
        assert_eq!(spec().check(), Ok(()));
    }

    #[test]
    fn what_leaves_the_workspace_is_refused() {
        for cwd in ["/etc", "../x", "a/../../b"] {
            let bad = SandboxSpec { cwd: cwd.into(), ..spec() };
            assert_eq!(bad.check(), Err(SpecError::Cwd(cwd.into())));
        }
        for inside in
            ["/", "/usr", "/usr/bin", "/proc/x", "/workspace/tools", "/opt/../etc", "opt", "/run/df-init"]
        {
            let mount = ReadOnlyMount { host: "/opt".into(), inside: inside.into() };
            let bad = SandboxSpec { read_only_mounts: vec![mount], ..spec() };
            assert_eq!(bad.check(), Err(SpecError::Mount { inside: inside.into() }), "{inside}");
        }
        let mount = ReadOnlyMount { host: "/opt".into(), inside: "/opt/tools".into() };
        assert_eq!(SandboxSpec { read_only_mounts: vec![mount], ..spec() }.check(), Ok(()));
    }

    #[test]
    fn malformed_commands_and_environments_are_refused() {
        assert_eq!(SandboxSpec { command: vec![], ..spec() }.check(), Err(SpecError::EmptyCommand));
        let nul = SandboxSpec { command: vec!["a".into(), "b\0c".into()], ..spec() };
        assert_eq!(nul.check(), Err(SpecError::Argument { index: 1, limit: ARGUMENT_BYTES_MAX }));
        for name in ["", "1A", "A=B", "A B"] {
            let env = BTreeMap::from([(name.to_owned(), String::new())]);
            assert_eq!(SandboxSpec { env, ..spec() }.check(), Err(SpecError::EnvEntry { name: name.into() }));
        }
        let limits = Limits { pids: 1, ..Limits::default() };
        let low = SpecError::LimitTooLow { name: "pids", value: 1, floor: PIDS_MIN };
        assert_eq!(SandboxSpec { limits, ..spec() }.check(), Err(low));
    }
}
