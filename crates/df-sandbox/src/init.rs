//! Second stage, inside: the first process of the sandbox.
//!
//! It checks the confinement it was started in, adds the limits and the system call filter, starts the command, reaps,
//! passes TERM on to everyone, and ends with the command, which ends every other process. Being pid 1 itself (instead
//! of `bwrap`'s reaper) leaves no unfiltered process inside for the command to take over.

use std::convert::Infallible;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::net::{SendFlags, send};
use rustix::process::{
    DumpableBehavior, Pid, Resource, Rlimit, WaitOptions, set_dumpable_behavior, setrlimit, wait,
};

use crate::HOME;
use crate::launch::{REFUSED_STATUS, said};
use crate::outcome::Layer;
use crate::plan::{InitPlan, Report};
use crate::seccomp;

/// As shells say it.
const NOT_FOUND: i32 = 127;
const NOT_EXECUTABLE: i32 = 126;
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What holds by construction once every check of this stage passed.
const LAYERS: [Layer; 8] = [
    Layer::UnprivilegedUid,
    Layer::Namespaces,
    Layer::NoNetwork,
    Layer::MinimalRoot,
    Layer::NoCapabilities,
    Layer::NoNewPrivileges,
    Layer::Seccomp,
    Layer::ResourceLimits,
];

/// Entry of the `sandbox-init` stage; `arguments` are those after its name.
pub fn sandbox_init_main(mut arguments: impl Iterator<Item = String>) -> ! {
    let mut descriptor = || arguments.next().and_then(|word| word.parse().ok()).filter(|fd: &RawFd| *fd > 2);
    let (Some(plan), Some(report)) = (descriptor(), descriptor()) else { std::process::exit(REFUSED_STATUS) };
    // SAFETY: the launch stage opened both for this process alone, and nothing else here refers to them.
    #[expect(unsafe_code, reason = "descriptors arrive by number")]
    let (plan, report) = unsafe { (OwnedFd::from_raw_fd(plan), OwnedFd::from_raw_fd(report)) };
    let Err(refusal) = init(plan, &report);
    tell(&report, &Report::Refused(refusal));
    std::process::exit(REFUSED_STATUS)
}

fn init(plan: OwnedFd, report: &OwnedFd) -> Result<Infallible, String> {
    let mut text = String::new();
    std::fs::File::from(plan).read_to_string(&mut text).map_err(said("reading the plan"))?;
    let plan: InitPlan = serde_json::from_str(&text).map_err(said("reading the plan"))?;
    fcntl_setfd(report, FdFlags::CLOEXEC).map_err(said("guarding the report socket"))?;
    close_others(report)?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    check_confinement()?;
    limit(&plan).map_err(said("setting resource limits"))?;
    // Same-uid processes may otherwise open this one's memory and descriptors through /proc.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(said("guarding the first process"))?;
    rustix::thread::set_no_new_privs(true).map_err(said("setting no_new_privs"))?;
    seccomp::install()?;
    pass_on_term()?;
    tell(report, &Report::Ready(LAYERS.to_vec()));
    supervise(&plan, report)
}

/// Refuses to go on in a sandbox weaker than it should be.
fn check_confinement() -> Result<(), String> {
    if rustix::process::getpid() != Pid::INIT {
        return Err("not the first process of a pid namespace".into());
    }
    let status = std::fs::read_to_string("/proc/self/status").map_err(said("reading /proc/self/status"))?;
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        let value = status.lines().find_map(|line| line.strip_prefix(set)).unwrap_or("missing");
        if !is_zero(value.trim()) {
            return Err(format!("capabilities left in {set}"));
        }
    }
    let interfaces =
        std::fs::read_to_string("/proc/self/net/dev").map_err(said("listing network interfaces"))?;
    if interfaces.lines().skip(2).any(|line| !line.trim_start().starts_with("lo:")) {
        return Err("a network interface other than loopback is present".into());
    }
    if OpenOptions::new().write(true).open("/proc/sys/kernel/core_pattern").is_ok() {
        return Err("kernel settings are writable: started by host root".into());
    }
    match std::fs::create_dir("/probe") {
        Ok(()) => Err("the root directory is writable".into()),
        Err(_) => Ok(()),
    }
}

pub(crate) fn is_zero(hex: &str) -> bool {
    !hex.is_empty() && hex.bytes().all(|digit| digit == b'0')
}

fn limit(plan: &InitPlan) -> Result<(), Errno> {
    let set = |resource, value| setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) });
    set(Resource::Core, 0)?;
    set(Resource::Cpu, plan.cpu_seconds)?;
    set(Resource::Fsize, plan.file_bytes)?;
    set(Resource::Nofile, plan.open_files)?;
    // This process counts too.
    set(Resource::Nproc, plan.pids + 1)?;
    set(Resource::Memlock, 64 << 10)?;
    set(Resource::Msgqueue, 0)?;
    plan.address_space_bytes.map_or(Ok(()), |bytes| set(Resource::As, bytes))
}

#[expect(unsafe_code, reason = "no safe form closes a range of descriptors")]
fn close_others(report: &OwnedFd) -> Result<(), String> {
    use std::os::fd::AsRawFd;
    let kept = report.as_raw_fd().cast_unsigned();
    for (first, last) in [(3, kept - 1), (kept + 1, u32::MAX)] {
        if first > last {
            continue;
        }
        // SAFETY: this process owns nothing above 2 but `report`, which both ranges leave out.
        if unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } != 0 {
            return Err(format!("closing descriptors: {}", std::io::Error::last_os_error()));
        }
    }
    Ok(())
}

#[expect(unsafe_code, reason = "signal handlers have no safe form without a thread")]
fn pass_on_term() -> Result<(), String> {
    extern "C" fn everyone(_signal: libc::c_int) {
        // SAFETY: kill is async-signal-safe; -1 is every process of this pid namespace but the first.
        unsafe { libc::kill(-1, libc::SIGTERM) };
    }
    let handler: extern "C" fn(libc::c_int) = everyone;
    // SAFETY: the handler has the right type and calls one async-signal-safe function.
    match unsafe { libc::signal(libc::SIGTERM, handler as libc::sighandler_t) } {
        libc::SIG_ERR => Err(format!("handling TERM: {}", std::io::Error::last_os_error())),
        _ => Ok(()),
    }
}

/// Starts the command, reaps whatever ends, and ends with the command.
fn supervise(plan: &InitPlan, report: &OwnedFd) -> Result<Infallible, String> {
    if let Err(error) = std::env::set_current_dir(&plan.cwd) {
        fail(report, NOT_EXECUTABLE, &plan.cwd, &error)
    }
    let (program, arguments) = plan.command.split_first().ok_or("empty command")?;
    let child = Command::new(program)
        .arg0(program)
        .args(arguments)
        .env_clear()
        .envs([("PATH", PATH), ("HOME", HOME), ("TMPDIR", "/tmp"), ("LANG", "C.UTF-8"), ("USER", "sandbox")])
        .envs(&plan.env)
        .spawn();
    let child = match child {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            fail(report, NOT_FOUND, program, &error)
        }
        Err(error) => fail(report, NOT_EXECUTABLE, program, &error),
    };
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get().cast_unsigned() == child.id() => {
                let signal = || Report::Signal(status.terminating_signal().unwrap_or(libc::SIGKILL));
                finish(report, &status.exit_status().map_or_else(signal, Report::Code))
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(format!("waiting for the command: {errno}")),
        }
    }
}

/// The command never ran; says so where its output would be.
fn fail(report: &OwnedFd, status: i32, what: &str, error: &std::io::Error) -> ! {
    let line = format!("sandbox: {what}: {error}\n");
    let _ = rustix::io::write(rustix::stdio::stderr(), line.as_bytes());
    finish(report, &Report::Code(status))
}

fn finish(report: &OwnedFd, outcome: &Report) -> ! {
    tell(report, outcome);
    std::process::exit(0)
}

fn tell(report: &OwnedFd, message: &Report) {
    let text = serde_json::to_vec(message).unwrap_or_default();
    let _ = send(report, &text, SendFlags::NOSIGNAL);
}
