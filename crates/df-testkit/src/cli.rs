//! The command line, run to its end.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use df_contract::Problem;
use serde::de::DeserializeOwned;

use crate::binaries::binary;
use crate::factory::TestFactory;
use crate::limit::Limit;
use crate::process::Program;

/// How long a command that is told to end may take.
const END_WITHIN: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What a command printed and how it ended.
#[derive(Debug, Clone)]
pub struct CliOutput {
    /// Absent when a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl CliOutput {
    /// Standard output as one JSON document.
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("no such JSON ({e}): {self:?}"))
    }

    /// The problem document that a failed command with `--json` leaves on standard error.
    pub fn problem(&self) -> Problem {
        let line = self.stderr.lines().find(|line| line.starts_with('{'));
        line.and_then(|line| serde_json::from_str(line).ok())
            .unwrap_or_else(|| panic!("no problem document: {self:?}"))
    }

    pub fn succeeded(&self) -> &Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }
}

/// Runs `devfactory` in a clean environment below `home`. At the limit it is told to end, as ctrl-c does, and the test
/// fails.
pub fn run_cli<A: AsRef<OsStr>>(home: &Path, args: &[A], env: &[(&str, &str)], limit: Limit) -> CliOutput {
    let args = args.iter().map(|a| a.as_ref().to_owned()).collect();
    run(program("devfactory", home, args, env), home, limit)
}

pub(crate) fn program(name: &'static str, home: &Path, args: Vec<OsString>, env: &[(&str, &str)]) -> Program {
    let env = env.iter().map(|(k, v)| (OsString::from(k), OsString::from(v))).collect();
    Program { name, path: binary(name), args, env, home: home.to_owned() }
}

/// Output goes through files: a full pipe would stop a talkative command.
pub(crate) fn run(program: Program, scratch: &Path, limit: Limit) -> CliOutput {
    let out = tempfile::NamedTempFile::new_in(scratch).expect("a temporary file");
    let err = tempfile::NamedTempFile::new_in(scratch).expect("a temporary file");
    let mut command = program.command();
    command.stdout(Stdio::from(out.reopen().expect("its handle")));
    command.stderr(Stdio::from(err.reopen().expect("its handle")));
    // A group of its own, so that what it started can be ended with it.
    let mut child = command.process_group(0).spawn().expect("a command that can be started");
    let text = |file: &tempfile::NamedTempFile| {
        String::from_utf8_lossy(&std::fs::read(file.path()).expect("its output")).into_owned()
    };
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("the state of a child") {
            break status;
        }
        if begun.elapsed() > limit.time() {
            end_group(&mut child);
            panic!(
                "{} {:?} did not end within {limit:?}:\n{}\n{}",
                program.name,
                program.args,
                text(&out),
                text(&err)
            );
        }
        std::thread::sleep(LOOK_EVERY);
    };
    CliOutput { code: status.code(), stdout: text(&out), stderr: text(&err) }
}

/// Tells the command and what it started to end, and kills what does not.
fn end_group(child: &mut std::process::Child) {
    use rustix::process::{Pid, Signal, kill_process_group};
    let group = Pid::from_child(child);
    let _ = kill_process_group(group, Signal::INT);
    let begun = Instant::now();
    while begun.elapsed() < END_WITHIN && !matches!(child.try_wait(), Ok(Some(_))) {
        std::thread::sleep(LOOK_EVERY);
    }
    let _ = kill_process_group(group, Signal::KILL);
    let _ = child.wait();
}

/// Runs a script of the examples against `factory`, as its admin.
pub fn run_script(factory: &TestFactory, script: &Path, limit: Limit) -> CliOutput {
    let (url, devfactory) = (factory.daemon_url(), binary("devfactory"));
    let env = [
        ("DEVFACTORY_URL", url.as_str()),
        ("DEVFACTORY_API_KEY", factory.admin().key()),
        ("DEVFACTORY", devfactory.to_str().expect("a path in UTF-8")),
    ];
    let env = env.iter().map(|(k, v)| (OsString::from(k), OsString::from(v))).collect();
    let home = factory.root().to_owned();
    run(
        Program { name: "script", path: script.to_owned(), args: Vec::new(), env, home },
        factory.root(),
        limit,
    )
}
