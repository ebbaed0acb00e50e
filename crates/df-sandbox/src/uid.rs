//! Exclusive use of what a run needs to itself: a uid out of the pool, and its workspace.

use std::fs::{DirBuilder, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::config::UidPool;
use crate::error::SandboxError;

/// How long a run waits for a uid when other processes hold the whole pool.
const WAIT_MAX: Duration = Duration::from_secs(60);
const WAIT_STEP: Duration = Duration::from_millis(50);

/// A uid that no other run on this machine has. The lock dies with its holder, however that ends.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) uid: u32,
    _lock: Lock,
}

/// An exclusive file lock. Undone explicitly: a child being forked at that moment holds copies of all descriptors, and
/// merely closing this one would leave the lock to it.
#[derive(Debug)]
pub(crate) struct Lock(OwnedFd);

impl std::os::fd::AsFd for Lock {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

pub(crate) fn acquire(pool: UidPool, state_dir: &Path) -> Result<Slot, SandboxError> {
    let start = Instant::now();
    loop {
        for uid in pool.first..pool.first.saturating_add(pool.count) {
            if let Some(lock) = try_lock(&state_dir.join(format!("uid-{uid}.lock")))? {
                return Ok(Slot { uid, _lock: lock });
            }
        }
        if start.elapsed() > WAIT_MAX {
            return Err(SandboxError::NoFreeUid { slots: pool.count });
        }
        std::thread::sleep(WAIT_STEP);
    }
}

fn try_lock(path: &Path) -> Result<Option<Lock>, SandboxError> {
    let nofollow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(nofollow)
        .open(path)
        .map_err(SandboxError::os("opening a uid lock"))?;
    lock(file.into()).map_err(SandboxError::errno("locking a uid"))
}

fn lock(file: OwnedFd) -> Result<Option<Lock>, Errno> {
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(Lock(file))),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// A number no other trial of this process had.
pub(crate) fn next_trial() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// Opens the workspace and takes it for one run; the lock ends with the value.
pub(crate) fn lock_workspace(path: &Path) -> Result<Lock, SandboxError> {
    let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, rustix::fs::Mode::empty());
    let directory =
        opened.map_err(|errno| SandboxError::WorkspaceOpen { path: path.into(), source: errno.into() })?;
    lock(directory)
        .map_err(SandboxError::errno("locking the workspace"))?
        .ok_or_else(|| SandboxError::WorkspaceBusy { path: path.into() })
}

/// Creates the state directory and the stage within it; returns the stage.
pub(crate) fn prepare_state_dir(state_dir: &Path) -> Result<PathBuf, SandboxError> {
    let refuse = |detail: String| SandboxError::StateDir { path: state_dir.into(), detail };
    let stage = state_dir.join("stage");
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(&stage)
        .map_err(|source| refuse(format!("could not be created: {source}")))?;
    for directory in [state_dir, &stage] {
        let found = std::fs::symlink_metadata(directory).map_err(|source| refuse(source.to_string()))?;
        if !found.is_dir() || found.uid() != 0 || found.mode() & 0o022 != 0 {
            return Err(refuse("must be a directory that only root can write".into()));
        }
    }
    Ok(stage)
}

/// The account that already owns a uid of the pool, if any.
pub(crate) fn account_in_pool(pool: UidPool, passwd: &str) -> Option<&str> {
    let taken = pool.first..pool.first.saturating_add(pool.count);
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid: u32 = fields.nth(1)?.parse().ok()?;
        taken.contains(&uid).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workspace_is_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        let held = lock_workspace(dir.path()).unwrap();
        assert!(matches!(lock_workspace(dir.path()), Err(SandboxError::WorkspaceBusy { .. })));
        drop(held);
        lock_workspace(dir.path()).unwrap();
        assert!(matches!(
            lock_workspace(&dir.path().join("absent")),
            Err(SandboxError::WorkspaceOpen { .. })
        ));
    }

    #[test]
    fn uids_of_the_pool_are_given_once_each() {
        let dir = tempfile::tempdir().unwrap();
        let pool = UidPool { first: 61_000, count: 2 };
        let (first, second) = (acquire(pool, dir.path()).unwrap(), acquire(pool, dir.path()).unwrap());
        assert_eq!((first.uid, second.uid), (61_000, 61_001));
        drop(first);
        assert_eq!(acquire(pool, dir.path()).unwrap().uid, 61_000);
    }

    #[test]
    fn an_account_inside_the_pool_is_found() {
        let passwd = "root:x:0:0::/root:/bin/sh\nana:x:61003:100::/home/ana:/bin/sh\nbroken\n";
        assert_eq!(account_in_pool(UidPool { first: 61_000, count: 4 }, passwd), Some("ana"));
        assert_eq!(account_in_pool(UidPool { first: 61_000, count: 3 }, passwd), None);
    }
}
