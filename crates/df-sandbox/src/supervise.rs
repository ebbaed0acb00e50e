//! Starts one run, watches it, and sees it dead.
//!
//! Synchronous, on a thread that lives as long as the run: the kernel's parent death signal follows the *thread* that
//! started a child, and a thread of a runtime may end earlier.

use std::io::{PipeReader, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::error::SandboxError;
use crate::outcome::{Exit, Layer};
use crate::output::Capture;
use crate::plan::{LAUNCH_STAGE, LaunchPlan, Report};

/// From TERM to KILL.
const TERM_GRACE: Duration = Duration::from_secs(2);
/// How long a run that must stop may take to become ready to be stopped.
const SETUP_GRACE: Duration = Duration::from_secs(5);
/// Output still in the pipe after the end is read for at most this long.
const DRAIN_GRACE: Duration = Duration::from_secs(2);
const READ_BYTES: usize = 64 << 10;
const REPORT_BYTES_MAX: usize = 4096;
/// How much of a failed set-up's output goes into the error.
const DETAIL_BYTES_MAX: usize = 2000;

pub(crate) struct Finished {
    pub(crate) exit: Exit,
    pub(crate) layers: Vec<Layer>,
    pub(crate) capture: Capture,
    pub(crate) wall_ms: u64,
}

/// Runs the plan to its end. Afterwards no process of it is alive. `cancel` asks for the end by becoming readable or
/// closed.
pub(crate) fn supervise(
    plan: &LaunchPlan,
    init_binary: &Path,
    wall: Duration,
    capture: Capture,
    cancel: PipeReader,
) -> Result<Finished, SandboxError> {
    let mut run = Run::start(plan, init_binary, wall, capture, cancel)?;
    let watched = run.watch();
    if watched.is_err() {
        run.kill_now();
    }
    let status = run.child.wait().map_err(SandboxError::os("waiting for the sandbox"))?;
    let settled = run.settle();
    watched?;
    settled?;
    run.finish(status)
}

struct Run {
    child: Child,
    /// Of the launch stage, which becomes the outer `bwrap`.
    outer: OwnedFd,
    /// Of the first process inside, once it has reported.
    inner: Option<OwnedFd>,
    reports: OwnedFd,
    output: Option<PipeReader>,
    cancel: Option<PipeReader>,
    capture: Capture,
    start: Instant,
    wall: Duration,
    stop: Option<Stop>,
    layers: Option<Vec<Layer>>,
    refusal: Option<String>,
    ended: Option<Exit>,
}

struct Stop {
    why: Exit,
    since: Instant,
    killed: bool,
}

impl Run {
    fn start(
        plan: &LaunchPlan,
        init_binary: &Path,
        wall: Duration,
        capture: Capture,
        cancel: PipeReader,
    ) -> Result<Self, SandboxError> {
        let (reports, report) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(SandboxError::errno("making the report socket"))?;
        // The kernel then attaches the sender's pid, as seen from here, to each report.
        rustix::net::sockopt::set_socket_passcred(&reports, true)
            .map_err(SandboxError::errno("preparing the report socket"))?;
        let (output, output_end) = std::io::pipe().map_err(SandboxError::os("making the output pipe"))?;
        rustix::io::ioctl_fionbio(&output, true).map_err(SandboxError::errno("preparing the output pipe"))?;
        let start = Instant::now();
        let child = Command::new(init_binary)
            .arg(LAUNCH_STAGE)
            .env_clear()
            .current_dir("/")
            .stdin(plan_file(plan)?)
            .stdout(Stdio::from(report))
            .stderr(output_end)
            .spawn()
            .map_err(SandboxError::os("starting the sandbox helper"))?;
        let outer = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())
            .map_err(SandboxError::errno("watching the sandbox helper"))?;
        Ok(Self {
            child,
            outer,
            inner: None,
            reports,
            output: Some(output),
            cancel: Some(cancel),
            capture,
            start,
            wall,
            stop: None,
            layers: None,
            refusal: None,
            ended: None,
        })
    }

    fn watch(&mut self) -> Result<(), SandboxError> {
        loop {
            let [outer, report, output, cancel] = self.wait_for_events()?;
            if output {
                self.read_output();
            }
            if report {
                self.read_reports()?;
            }
            if cancel {
                self.cancel = None;
                self.begin_stop(Exit::Cancelled);
            }
            if outer {
                return Ok(());
            }
            if self.start.elapsed() >= self.wall {
                self.begin_stop(Exit::Timeout);
            }
            self.escalate();
        }
    }

    fn wait_for_events(&self) -> Result<[bool; 4], SandboxError> {
        // The output comes with back-pressure, so it may be left for the next turn; closed streams are not polled.
        let mut fds =
            vec![PollFd::new(&self.outer, PollFlags::IN), PollFd::new(&self.reports, PollFlags::IN)];
        let optional: [Option<&PipeReader>; 2] = [self.output.as_ref(), self.cancel.as_ref()];
        fds.extend(optional.iter().flatten().map(|fd| PollFd::new(*fd, PollFlags::IN)));
        let timeout = Timespec::try_from(self.next_deadline()).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(SandboxError::errno("waiting for the sandbox")(errno)),
        }
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let mut next = |present: bool| present && ready.next().unwrap_or(false);
        Ok([next(true), next(true), next(self.output.is_some()), next(self.cancel.is_some())])
    }

    fn next_deadline(&self) -> Duration {
        let until = |since: Instant, after: Duration| after.saturating_sub(since.elapsed());
        match &self.stop {
            None => until(self.start, self.wall),
            Some(stop) if stop.killed => Duration::from_secs(1),
            Some(stop) => until(stop.since, if self.inner.is_some() { TERM_GRACE } else { SETUP_GRACE }),
        }
    }

    fn begin_stop(&mut self, why: Exit) {
        if self.stop.is_none() {
            self.stop = Some(Stop { why, since: Instant::now(), killed: false });
            self.terminate();
        }
    }

    fn terminate(&self) {
        if let Some(inner) = &self.inner {
            let _ = pidfd_send_signal(inner, Signal::TERM);
        }
    }

    fn escalate(&mut self) {
        let grace = if self.inner.is_some() { TERM_GRACE } else { SETUP_GRACE };
        if self.stop.as_ref().is_some_and(|stop| !stop.killed && stop.since.elapsed() >= grace) {
            self.kill_now();
        }
    }

    /// Ending the first process inside ends all others before it can be reaped; the outer one then ends by itself.
    fn kill_now(&mut self) {
        let _ = pidfd_send_signal(self.inner.as_ref().unwrap_or(&self.outer), Signal::KILL);
        if let Some(stop) = &mut self.stop {
            stop.killed = true;
        }
    }

    fn read_output(&mut self) {
        let Some(output) = &mut self.output else { return };
        let mut buffer = vec![0; READ_BYTES];
        match output.read(&mut buffer) {
            Ok(0) => self.output = None,
            Ok(count) => self.capture.push(&buffer[..count]),
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted
                ) => {}
            Err(_) => self.output = None,
        }
    }

    fn read_reports(&mut self) -> Result<(), SandboxError> {
        while let Some((report, sender)) = receive(self.reports.as_fd()) {
            match report {
                Report::Ready(layers) => {
                    self.layers = Some(layers);
                    let pidfd =
                        sender.ok_or(Errno::SRCH).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()));
                    self.inner = match pidfd {
                        Ok(pidfd) => Some(pidfd),
                        // Ended and reaped already: the outer process ends next.
                        Err(Errno::SRCH) => None,
                        Err(errno) => return Err(SandboxError::errno("watching the inner process")(errno)),
                    };
                    if let Some(stop) = &mut self.stop {
                        stop.since = Instant::now();
                        self.terminate();
                    }
                }
                Report::Refused(why) => self.refusal = Some(why),
                Report::Code(code) => self.ended = Some(Exit::Code(code)),
                Report::Signal(signal) => self.ended = Some(Exit::Signal(signal)),
            }
        }
        Ok(())
    }

    /// After the outer process: makes sure that the inner one, and so all others, are gone, and reads what is left.
    fn settle(&mut self) -> Result<(), SandboxError> {
        self.read_reports()?;
        if let Some(inner) = &self.inner {
            let _ = pidfd_send_signal(inner, Signal::KILL);
            let mut fds = [PollFd::new(inner, PollFlags::IN)];
            while fds[0].revents().is_empty() {
                match poll(&mut fds, None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(errno) => return Err(SandboxError::errno("waiting for the inner process")(errno)),
                }
            }
        }
        let end = Instant::now();
        while let Some(output) = &self.output
            && end.elapsed() < DRAIN_GRACE
        {
            let timeout = Timespec::try_from(DRAIN_GRACE).ok();
            let _ = poll(&mut [PollFd::new(output, PollFlags::IN)], timeout.as_ref());
            self.read_output();
        }
        Ok(())
    }

    fn finish(self, status: ExitStatus) -> Result<Finished, SandboxError> {
        let wall_ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let exit = match (self.stop, self.ended, &self.layers) {
            (Some(stop), _, _) => stop.why,
            (None, Some(exit), _) => exit,
            // The first process was killed from outside, for memory as a rule.
            (None, None, Some(_)) => Exit::Signal(libc::SIGKILL),
            (None, None, None) => {
                let (output, ..) = self.capture.finish();
                let said =
                    String::from_utf8_lossy(&output[..output.len().min(DETAIL_BYTES_MAX)]).trim().to_owned();
                let detail = self.refusal.unwrap_or(if said.is_empty() { status.to_string() } else { said });
                return Err(SandboxError::SetUp { detail });
            }
        };
        Ok(Finished { exit, layers: self.layers.unwrap_or_default(), capture: self.capture, wall_ms })
    }
}

fn plan_file(plan: &LaunchPlan) -> Result<std::fs::File, SandboxError> {
    let fd = memfd_create("plan", MemfdFlags::CLOEXEC).map_err(SandboxError::errno("making the plan"))?;
    let mut file = std::fs::File::from(fd);
    let text = serde_json::to_vec(plan)
        .map_err(std::io::Error::other)
        .map_err(SandboxError::os("writing the plan"))?;
    file.write_all(&text).and_then(|()| file.rewind()).map_err(SandboxError::os("writing the plan"))?;
    Ok(file)
}

/// The next report that is there, with its sender's pid.
fn receive(socket: std::os::fd::BorrowedFd<'_>) -> Option<(Report, Option<Pid>)> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; REPORT_BYTES_MAX];
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(socket, &mut [std::io::IoSliceMut::new(&mut bytes)], &mut control, flags).ok()?;
    let sender = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmCredentials(sender) => Some(sender.pid),
        _ => None,
    });
    serde_json::from_slice(&bytes[..received.bytes]).ok().map(|report| (report, sender))
}
