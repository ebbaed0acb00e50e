//! The sandbox as callers see it: opened once, run many times.

use std::io::PipeReader;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot, watch};

use crate::cgroup::{Group, Parents};
use crate::config::{SandboxConfig, UidPool};
use crate::error::SandboxError;
use crate::outcome::{Exit, Layer, Outcome};
use crate::output::Capture;
use crate::plan::{InitPlan, LaunchPlan, Mount, Privileged};
use crate::probe::{Capabilities, missing_layer};
use crate::spec::{Limits, SandboxSpec, WorkspaceAccess, utf8};
use crate::supervise::{Finished, supervise};
use crate::{WORKSPACE, owner, uid};

/// A machine that was found able to enforce every layer. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sandbox {
    host: Arc<Host>,
    permits: Arc<Semaphore>,
}

/// What a run needs to know of the machine.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) bwrap: PathBuf,
    pub(crate) init: PathBuf,
    pub(crate) root: Option<RootMode>,
    pub(crate) cgroups: Parents,
}

/// Started as root: where runs get their uids, and where they are staged.
#[derive(Debug)]
pub(crate) struct RootMode {
    pub(crate) uids: UidPool,
    pub(crate) state_dir: PathBuf,
    pub(crate) stage: PathBuf,
}

impl Sandbox {
    /// Says, layer by layer, what this machine can enforce and what to do about what it cannot. Runs a trial sandbox.
    pub fn probe(config: &SandboxConfig) -> Capabilities {
        crate::probe::probe(config).0
    }

    /// Opens the sandbox, or says which layer cannot be enforced. Runs a trial sandbox first; blocks for as long.
    pub fn open(config: SandboxConfig) -> Result<Self, SandboxError> {
        let permits = Arc::new(Semaphore::new(config.max_concurrent.max(1)));
        match crate::probe::probe(&config) {
            (_, Some(host)) => {
                host.cgroups.sweep();
                Ok(Self { host: Arc::new(host), permits })
            }
            (capabilities, None) => Err(missing_layer(capabilities)),
        }
    }

    /// Runs one command to its end and sees all its processes dead. `cancel` turning true, or dropping the future, ends
    /// the run early (TERM, two seconds, KILL).
    ///
    /// # Errors
    /// The command was not started, or the workspace could not be taken back.
    pub async fn run(
        &self,
        spec: SandboxSpec,
        mut cancel: watch::Receiver<bool>,
    ) -> Result<Outcome, SandboxError> {
        spec.check()?;
        let cancelled = async move {
            if cancel.wait_for(|wanted| *wanted).await.is_err() {
                // Nobody is left who could cancel.
                std::future::pending::<()>().await;
            }
        };
        tokio::pin!(cancelled);
        let permit = tokio::select! {
            permit = Arc::clone(&self.permits).acquire_owned() => permit,
            () = &mut cancelled => return Ok(never_started()),
        };
        let (cancel_end, cancel_handle) =
            std::io::pipe().map_err(SandboxError::os("making the cancel pipe"))?;
        let (done, result) = oneshot::channel();
        let host = Arc::clone(&self.host);
        std::thread::Builder::new()
            .name("sandbox-run".into())
            .spawn(move || {
                let _permit = permit;
                let _ = done.send(host.run(&spec, cancel_end));
            })
            .map_err(SandboxError::os("starting the supervisor thread"))?;
        tokio::pin!(result);
        let finished = tokio::select! {
            finished = &mut result => finished,
            () = &mut cancelled => {
                drop(cancel_handle);
                result.await
            }
        };
        finished.unwrap_or_else(|_| Err(SandboxError::SetUp { detail: "the supervisor thread ended".into() }))
    }
}

/// Cancelled while it waited for its turn.
fn never_started() -> Outcome {
    Outcome {
        exit: Exit::Cancelled,
        oom: false,
        output: Vec::new(),
        output_total_bytes: 0,
        output_truncated: false,
        spooled: None,
        layers: Vec::new(),
        wall_ms: 0,
    }
}

impl Host {
    /// One whole run, on the calling thread.
    pub(crate) fn run(&self, spec: &SandboxSpec, cancel: PipeReader) -> Result<Outcome, SandboxError> {
        let workspace = uid::lock_workspace(&spec.workspace)?;
        let slot = self.root.as_ref().map(|root| uid::acquire(root.uids, &root.state_dir)).transpose()?;
        let group = Group::create(&self.cgroups, &spec.limits)
            .map_err(SandboxError::os("making the run's cgroup"))?;
        let plan = self.plan(spec, slot.as_ref().map(|slot| slot.uid), &group)?;
        let capture = Capture::new(spec.limits.output_bytes, spec.spool.as_ref())?;
        let lent = Lent::new(spec, workspace.as_fd(), slot.as_ref().map(|slot| slot.uid))?;
        let finished =
            supervise(&plan, &self.init, Duration::from_millis(spec.limits.wall_ms), capture, cancel);
        lent.take_back()?;
        let mut outcome = outcome(finished?, group.oom());
        if !outcome.layers.is_empty() {
            outcome.layers.extend(slot.is_some().then_some(Layer::OwnUid));
            outcome.layers.extend(group.layers());
            outcome.layers.sort_unstable();
        }
        tracing::debug!(exit = ?outcome.exit, oom = outcome.oom, wall_ms = outcome.wall_ms, "sandbox run ended");
        Ok(outcome)
    }

    fn plan(&self, spec: &SandboxSpec, uid: Option<u32>, group: &Group) -> Result<LaunchPlan, SandboxError> {
        let writable = match spec.access {
            WorkspaceAccess::ReadWrite => true,
            WorkspaceAccess::ReadOnly => false,
        };
        let mounts = spec.read_only_mounts.iter();
        let mounts = mounts.map(|mount| {
            Ok(Mount { host: utf8(&mount.host)?, inside: utf8(&mount.inside)?, writable: false })
        });
        let privileged = match (&self.root, uid) {
            (Some(root), Some(uid)) => Some(Privileged { uid, stage: utf8(&root.stage)? }),
            _ => None,
        };
        let cgroups = group.directories();
        Ok(LaunchPlan {
            bwrap: utf8(&self.bwrap)?,
            parent_pid: std::process::id(),
            privileged,
            workspace: Mount { host: utf8(&spec.workspace)?, inside: WORKSPACE.into(), writable },
            mounts: mounts.collect::<Result<_, crate::SpecError>>()?,
            init_binary: utf8(&self.init)?,
            cgroups: cgroups.iter().map(|path| utf8(path)).collect::<Result<_, _>>()?,
            scratch_bytes: spec.limits.memory_bytes / 2,
            init: init_plan(spec, &spec.limits, group.holds_memory())?,
        })
    }
}

fn init_plan(spec: &SandboxSpec, limits: &Limits, memory_held: bool) -> Result<InitPlan, SandboxError> {
    Ok(InitPlan {
        command: spec.command.clone(),
        env: spec.env.clone(),
        cwd: format!("{WORKSPACE}/{}", utf8(&spec.cwd)?),
        cpu_seconds: limits.cpu_seconds,
        file_bytes: limits.file_bytes,
        open_files: limits.open_files,
        pids: limits.pids,
        address_space_bytes: (!memory_held).then_some(limits.memory_bytes),
    })
}

fn outcome(finished: Finished, oom: bool) -> Outcome {
    let output_total_bytes = finished.capture.total();
    let (output, output_truncated, spooled) = finished.capture.finish();
    Outcome {
        exit: finished.exit,
        oom,
        output,
        output_total_bytes,
        output_truncated,
        spooled,
        layers: finished.layers,
        wall_ms: finished.wall_ms,
    }
}

/// A workspace that belongs to the run's uid for now; nothing to do where the run has the caller's own.
struct Lent<'a> {
    spec: &'a SandboxSpec,
    workspace: BorrowedFd<'a>,
    lent: bool,
}

impl<'a> Lent<'a> {
    fn new(spec: &'a SandboxSpec, workspace: BorrowedFd<'a>, uid: Option<u32>) -> Result<Self, SandboxError> {
        if let Some(uid) = uid {
            owner::lend(workspace, uid).map_err(|source| {
                // Best effort: the caller hears of the first failure.
                let _ = owner::give(workspace, 0);
                SandboxError::WorkspaceHandOver { path: spec.workspace.clone(), source }
            })?;
        }
        Ok(Self { spec, workspace, lent: uid.is_some() })
    }

    fn take_back(self) -> Result<(), SandboxError> {
        if !self.lent {
            return Ok(());
        }
        owner::give(self.workspace, 0)
            .map_err(|source| SandboxError::WorkspaceTakeBack { path: self.spec.workspace.clone(), source })
    }
}
