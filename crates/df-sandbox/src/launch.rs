//! First stage, outside: prepares the host side of one run, gives up every privilege, becomes `bwrap`.
//!
//! A process of its own because it must be single-threaded to leave its mount namespace and its uid for good. It gets
//! nothing but three descriptors: the plan (0), the report socket (1), the output pipe (2).
//!
//! `bwrap` is never started by host uid 0. It would map that uid into the sandbox, where it still is the host's root
//! for every file, `/proc/sys/kernel/core_pattern` included: a way to run code as root outside.

use std::convert::Infallible;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};
use rustix::process::{Gid, Signal, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags};

use crate::argv;
use crate::plan::{INIT_INSIDE, INIT_STAGE, LaunchPlan, Mount, Privileged, Report};

/// Exit status of a stage that would not go on; the report says why.
pub(crate) const REFUSED_STATUS: i32 = 70;

/// Entry of the `sandbox-launch` stage. Returns to nobody: it becomes `bwrap` or exits.
pub fn sandbox_launch_main() -> ! {
    let Err(refusal) = launch();
    let report = serde_json::to_vec(&Report::Refused(refusal)).unwrap_or_default();
    let _ = rustix::net::send(rustix::stdio::stdout(), &report, rustix::net::SendFlags::NOSIGNAL);
    std::process::exit(REFUSED_STATUS)
}

fn launch() -> Result<Infallible, String> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(said("reading the plan"))?;
    let mut plan: LaunchPlan = serde_json::from_str(&text).map_err(said("reading the plan"))?;
    for cgroup in &plan.cgroups {
        std::fs::write(format!("{cgroup}/cgroup.procs"), "0").map_err(said("joining a cgroup"))?;
    }
    if let Some(privileged) = plan.privileged.take() {
        stage(&mut plan, &privileged.stage)?;
        drop_root(&privileged)?;
    }
    drop_capabilities()?;
    tie_to_parent(plan.parent_pid)?;
    become_bwrap(&plan)
}

/// Binds every source under a private tmpfs, in a mount namespace of this process's own.
fn stage(plan: &mut LaunchPlan, directory: &str) -> Result<(), String> {
    // SAFETY: only the mount namespace is left, no descriptor table; this process has a single thread.
    #[expect(unsafe_code, reason = "rustix marks it unsafe for its other flags")]
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }
        .map_err(said("leaving the mount namespace"))?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .map_err(said("making mounts private"))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", directory, "tmpfs", flags, c"mode=0755,size=1m").map_err(said("mounting the stage"))?;
    let binary = Mount { host: plan.init_binary.clone(), inside: String::new(), writable: false };
    plan.init_binary = staged(directory, "init", &binary)?;
    plan.workspace.host = staged(directory, "workspace", &plan.workspace)?;
    for (index, mount) in plan.mounts.iter_mut().enumerate() {
        mount.host = staged(directory, &format!("mount-{index}"), mount)?;
    }
    Ok(())
}

fn staged(directory: &str, name: &str, source: &Mount) -> Result<String, String> {
    let place = format!("{directory}/{name}");
    let kind = std::fs::metadata(&source.host).map_err(said(&format!("finding {}", source.host)))?;
    if kind.is_dir() {
        std::fs::DirBuilder::new().mode(0o755).create(&place).map_err(said("making a mount point"))?;
    } else {
        std::fs::File::create(&place).map_err(said("making a mount point"))?;
    }
    mount_bind(&*source.host, &*place).map_err(said(&format!("binding {}", source.host)))?;
    Ok(place)
}

fn drop_root(to: &Privileged) -> Result<(), String> {
    if to.uid == 0 {
        return Err("uid 0 is never used for a sandbox".into());
    }
    let (uid, gid) = (Uid::from_raw(to.uid), Gid::from_raw(to.uid));
    rustix::thread::set_thread_groups(&[]).map_err(said("dropping groups"))?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(said("dropping the gid"))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(said("dropping the uid"))
}

/// Also checks, from the kernel's answer, that nothing privileged is left.
fn drop_capabilities() -> Result<(), String> {
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::clear_ambient_capability_set().map_err(said("dropping ambient capabilities"))?;
    rustix::thread::set_capabilities(None, none).map_err(said("dropping capabilities"))?;
    let status = std::fs::read_to_string("/proc/self/status").map_err(said("reading /proc/self/status"))?;
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).unwrap_or_default()
    };
    if field("Uid:").split_whitespace().any(|uid| uid == "0") || field("Uid:").is_empty() {
        return Err("still running as uid 0".into());
    }
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        if !crate::init::is_zero(field(set)) {
            return Err(format!("capabilities left in {set}"));
        }
    }
    Ok(())
}

/// Changing uid cleared any death signal, so this comes after it and before the check that makes it race-free.
fn tie_to_parent(parent: u32) -> Result<(), String> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(said("setting the death signal"))?;
    match rustix::process::getppid() {
        Some(pid) if pid.as_raw_nonzero().get().cast_unsigned() == parent => Ok(()),
        _ => Err("the supervisor is gone".into()),
    }
}

fn become_bwrap(plan: &LaunchPlan) -> Result<Infallible, String> {
    let init_plan = serde_json::to_vec(&plan.init).map_err(said("writing the inner plan"))?;
    let init_plan = inherited("plan", &init_plan)?;
    let synthetic: Vec<OwnedFd> = argv::SYNTHETIC
        .iter()
        .map(|(_, text)| inherited("file", text.as_bytes()))
        .collect::<Result<_, _>>()?;
    let numbers: Vec<RawFd> = synthetic.iter().map(AsRawFd::as_raw_fd).collect();
    let arguments = argv::arguments(plan, &numbers, argv::host_top);
    let arguments: Vec<u8> = arguments.iter().flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect();
    let arguments = inherited("arguments", &arguments)?;
    // Not close-on-exec: the inner stage reports over it.
    let report = rustix::io::dup(rustix::stdio::stdout()).map_err(said("keeping the report socket"))?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr()).map_err(said("joining the output streams"))?;
    let null = std::fs::File::open("/dev/null").map_err(said("opening /dev/null"))?;
    rustix::stdio::dup2_stdin(&null).map_err(said("closing the plan"))?;
    let error = Command::new(&plan.bwrap)
        .env_clear()
        .args(["--args", &arguments.as_raw_fd().to_string(), "--", INIT_INSIDE, INIT_STAGE])
        .args([init_plan.as_raw_fd().to_string(), report.as_raw_fd().to_string()])
        .exec();
    // Standard output is no longer the socket; put it back for the refusal.
    let _ = rustix::stdio::dup2_stdout(&report);
    Err(format!("starting {}: {error}", plan.bwrap))
}

/// A descriptor holding `bytes` that the next program inherits.
fn inherited(name: &str, bytes: &[u8]) -> Result<OwnedFd, String> {
    let fd = memfd_create(name, MemfdFlags::empty()).map_err(said("making a memory file"))?;
    let mut file = std::fs::File::from(fd);
    file.write_all(bytes).and_then(|()| file.rewind()).map_err(said("filling a memory file"))?;
    Ok(file.into())
}

pub(crate) fn said<E: std::fmt::Display>(attempted: &str) -> impl FnOnce(E) -> String {
    move |error| format!("{attempted}: {error}")
}
