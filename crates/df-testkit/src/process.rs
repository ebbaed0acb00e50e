//! One process under test: a clean environment, its output in a file, and an end that is certain.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Lines of a log that are shown when a test fails.
const TAIL_LINES: usize = 60;

/// How a process is started. It inherits nothing but `PATH`.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) path: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
    /// `HOME` and `TMPDIR` are made below it.
    pub(crate) home: PathBuf,
}

impl Program {
    pub(crate) fn command(&self) -> Command {
        let temporary = self.home.join("tmp");
        std::fs::create_dir_all(&temporary).expect("a directory for temporary files");
        let mut command = Command::new(&self.path);
        command
            .args(&self.args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.home)
            .env("TMPDIR", temporary)
            .env("RUST_BACKTRACE", "1")
            .envs(self.env.iter().map(|(k, v)| (k, v)))
            .current_dir(&self.home)
            .stdin(Stdio::null());
        command
    }
}

/// A process that is started, killed and started again; it dies with its owner.
#[derive(Debug)]
pub(crate) struct Process {
    program: Program,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    pub(crate) fn new(program: Program, logs: &Path) -> Self {
        let log = logs.join(format!("{}.log", program.name));
        Self { program, log, child: None }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.program.name
    }

    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Starts it; its output is added to what its earlier lives wrote.
    pub(crate) fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.program.name);
        let log = std::fs::File::options().create(true).append(true).open(&self.log).expect("a log file");
        let mut command = self.program.command();
        command.stdout(log.try_clone().expect("a log file")).stderr(log);
        self.child = Some(
            command
                .spawn()
                .unwrap_or_else(|e| panic!("{} could not be started: {e}", self.program.path.display())),
        );
    }

    /// The exit status, if it has ended by itself.
    pub(crate) fn ended(&mut self) -> Option<std::process::ExitStatus> {
        let child = self.child.as_mut()?;
        let status = child.try_wait().expect("the state of a child")?;
        self.child = None;
        Some(status)
    }

    /// SIGKILL, and sees it dead.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // An error means that it has ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub(crate) fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("-- the end of the log of {}:\n{}", self.program.name, self.tail());
        }
    }
}
