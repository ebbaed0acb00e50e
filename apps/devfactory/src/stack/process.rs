//! Child processes: logs to a file, started again when they die, stopped with a signal and then for good.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::config::Layout;

/// Between two starts of a process that keeps dying.
const RESTART_DELAY: Duration = Duration::from_millis(500);
/// A process that dies sooner than this after its first start is not started again: its configuration is wrong.
const FIRST_LIFE: Duration = Duration::from_secs(3);
/// How long a process may take to stop before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs a program to its end; its errors are ours.
pub(crate) fn run_once(program: &Path, args: &[&str]) -> anyhow::Result<()> {
    let done = Command::new(program).args(args).output().with_context(|| program.display().to_string())?;
    let told = String::from_utf8_lossy(&done.stderr);
    anyhow::ensure!(done.status.success(), "{} {}: {}", program.display(), args.join(" "), told.trim());
    Ok(())
}

/// One supervised process.
pub(crate) struct Child {
    name: &'static str,
    log: PathBuf,
    pid: Arc<AtomicU32>,
    stopping: Arc<AtomicBool>,
    failed: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Child {
    pub(crate) fn start(
        name: &'static str,
        program: &Path,
        args: &[&str],
        layout: &Layout,
    ) -> anyhow::Result<Self> {
        let log = layout.logs.join(format!("{name}.log"));
        let (pid, stopping, failed) = <(Arc<AtomicU32>, Arc<AtomicBool>, Arc<AtomicBool>)>::default();
        let first = spawn(program, args, &log)?;
        pid.store(first.id(), Ordering::SeqCst);
        let supervisor = Supervisor {
            program: program.to_owned(),
            args: args.iter().map(|a| (*a).to_owned()).collect(),
            log: log.clone(),
            pid: Arc::clone(&pid),
            stopping: Arc::clone(&stopping),
            failed: Arc::clone(&failed),
        };
        let thread = std::thread::spawn(move || supervisor.run(first));
        Ok(Self { name, log, pid, stopping, failed, thread: Some(thread) })
    }

    /// Fails when the process could not even start properly, with the end of its log.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if !self.failed.load(Ordering::SeqCst) {
            return Ok(());
        }
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(5).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        anyhow::bail!("{} ended at once; the end of {}:\n{}", self.name, self.log.display(), tail.join("\n"))
    }

    pub(crate) async fn stop(mut self) {
        self.signal_stop();
        if let Some(thread) = self.thread.take() {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    fn signal_stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        signal(self.pid.load(Ordering::SeqCst), "-TERM");
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.signal_stop();
    }
}

fn signal(pid: u32, which: &str) {
    if pid != 0 {
        let _ = Command::new("kill").arg(which).arg(pid.to_string()).stderr(Stdio::null()).status();
    }
}

fn spawn(program: &Path, args: &[&str], log: &Path) -> anyhow::Result<std::process::Child> {
    use std::os::unix::process::CommandExt as _;
    let file = std::fs::File::options()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| log.display().to_string())?;
    Command::new(program)
        .args(args)
        // Nothing is ever written. Its other end closes with this process, also by `kill -9`, and the child stops then.
        .stdin(Stdio::piped())
        .stdout(file.try_clone()?)
        .stderr(file)
        // A group of its own: ctrl-c at the terminal reaches this process only, which then stops them in order.
        .process_group(0)
        .spawn()
        .with_context(|| format!("{} could not be started", program.display()))
}

struct Supervisor {
    program: PathBuf,
    args: Vec<String>,
    log: PathBuf,
    pid: Arc<AtomicU32>,
    stopping: Arc<AtomicBool>,
    failed: Arc<AtomicBool>,
}

impl Supervisor {
    fn run(self, first: std::process::Child) {
        let mut child = first;
        let mut begun = Instant::now();
        let mut lives = 1u32;
        loop {
            let ended = self.wait(&mut child);
            self.pid.store(0, Ordering::SeqCst);
            if self.stopping.load(Ordering::SeqCst) {
                return;
            }
            if lives == 1 && begun.elapsed() < FIRST_LIFE && ended.is_some_and(|s| s.code().is_some()) {
                self.failed.store(true, Ordering::SeqCst);
                return;
            }
            std::thread::sleep(RESTART_DELAY);
            let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
            match spawn(&self.program, &args, &self.log) {
                Ok(next) => {
                    self.pid.store(next.id(), Ordering::SeqCst);
                    child = next;
                    begun = Instant::now();
                    lives += 1;
                }
                Err(_) => {
                    self.failed.store(true, Ordering::SeqCst);
                    return;
                }
            }
        }
    }

    /// Waits for the end; once told to stop, not longer than [`STOP_TIMEOUT`].
    fn wait(&self, child: &mut std::process::Child) -> Option<std::process::ExitStatus> {
        let mut told = None;
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) => {}
                Err(_) => return None,
            }
            if self.stopping.load(Ordering::SeqCst) {
                let since = *told.get_or_insert_with(|| {
                    signal(child.id(), "-TERM");
                    Instant::now()
                });
                if since.elapsed() > STOP_TIMEOUT {
                    let _ = child.kill();
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
