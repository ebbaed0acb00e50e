//! Hostile programs in a real sandbox. Each test tries something that must fail and looks at the host afterwards.
//!
//! Needs bubblewrap; passes as root and as an ordinary user. Nothing here reaches for an address outside this machine.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod confinement;
mod files;
mod kernel;
mod lifecycle;
mod limits;
mod network;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use df_sandbox::{CgroupUse, Outcome, Sandbox, SandboxConfig, SandboxSpec};

/// A workspace in a directory of its own, with room beside it for what the sandbox must not reach.
#[derive(Debug)]
pub struct Workshop {
    pub dir: tempfile::TempDir,
    pub workspace: PathBuf,
}

pub fn workshop() -> Workshop {
    let dir = tempfile::tempdir().unwrap();
    let workspace = dir.path().join("workspace");
    std::fs::create_dir(&workspace).unwrap();
    Workshop { dir, workspace }
}

impl Workshop {
    pub fn python(&self, program: &str) -> SandboxSpec {
        python(&self.workspace, program)
    }

    pub fn run(&self, program: &str) -> Outcome {
        run(self.python(program))
    }
}

/// The probes are Python, run by the interpreter in `/usr`, with the C library at hand for bare system calls.
pub fn python(workspace: &Path, program: &str) -> SandboxSpec {
    let prelude = "\
import ctypes, errno, fcntl, os, signal, socket, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def call(*args):
    ctypes.set_errno(0)
    result = libc.syscall(*[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
    return 'ok' if result >= 0 else errno.errorcode.get(ctypes.get_errno(), '?')
def attempt(f, *args, **named):
    try:
        f(*args, **named)
        return 'ok'
    except OSError as e:
        return errno.errorcode.get(e.errno, str(e.errno))
";
    SandboxSpec::new(workspace, ["/usr/bin/python3", "-c", &format!("{prelude}{program}")])
}

pub fn config(cgroup: CgroupUse) -> SandboxConfig {
    SandboxConfig {
        init: Some(env!("CARGO_BIN_EXE_df-sandbox-init").into()),
        cgroup,
        ..SandboxConfig::default()
    }
}

pub fn open(cgroup: CgroupUse) -> Sandbox {
    match Sandbox::open(config(cgroup)) {
        Ok(sandbox) => sandbox,
        Err(error) => panic!("these tests need a working sandbox: {error}"),
    }
}

pub fn sandbox() -> &'static Sandbox {
    static SANDBOX: OnceLock<Sandbox> = OnceLock::new();
    SANDBOX.get_or_init(|| open(CgroupUse::WhenWritable))
}

pub fn run(spec: SandboxSpec) -> Outcome {
    run_in(sandbox(), spec)
}

pub fn run_in(sandbox: &Sandbox, spec: SandboxSpec) -> Outcome {
    let (_cancel, cancelled) = tokio::sync::watch::channel(false);
    runtime().block_on(sandbox.run(spec, cancelled)).unwrap()
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

pub fn text(outcome: &Outcome) -> String {
    String::from_utf8(outcome.output.clone()).unwrap()
}

/// Runs a probe and compares all it printed.
#[track_caller]
pub fn check(program: &str, expect: &str) {
    let outcome = workshop().run(program);
    assert_eq!(text(&outcome).trim_end(), expect);
}
