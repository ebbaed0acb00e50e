//! A walk over a hostile directory tree that never follows a link out of it, and always ends.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, openat2, statat};
use rustix::io::Errno;

/// Every component must be a real directory of the same mount.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// Why a walk stopped. Paths are relative to its root, with control characters escaped.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    #[error("more than {limit} entries")]
    TooManyEntries { limit: usize },
    #[error("deeper than {limit} directories at {path}")]
    TooDeep { path: String, limit: usize },
    #[error("path longer than {limit} bytes at {path}")]
    PathTooLong { path: String, limit: usize },
    #[error("{path} has hard links outside the tree")]
    ForeignHardLink { path: String },
    #[error("{path} could not be read or changed")]
    Os { path: String, source: io::Error },
}

impl WalkError {
    pub(crate) fn os(path: &[u8], errno: Errno) -> Self {
        Self::Os { path: printable(path), source: errno.into() }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct WalkLimits {
    pub(crate) entries: usize,
    pub(crate) depth: usize,
    pub(crate) path_bytes: usize,
}

/// One entry, looked at without following it.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    pub(crate) parent: BorrowedFd<'a>,
    pub(crate) name: &'a CStr,
    /// Relative to the root of the walk.
    pub(crate) path: &'a [u8],
    pub(crate) stat: Stat,
}

impl Found<'_> {
    pub(crate) fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// Opens this entry only if it is still a directory beneath its parent.
    pub(crate) fn open_dir(&self) -> Result<OwnedFd, Errno> {
        self.open(OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Opens this entry for reading without waiting for a writer should it have become a FIFO.
    pub(crate) fn open_file(&self) -> Result<OwnedFd, Errno> {
        self.open(OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
    }

    fn open(&self, flags: OFlags) -> Result<OwnedFd, Errno> {
        openat2(self.parent, self.name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), BENEATH)
    }
}

/// Visits everything beneath `root` in byte order of names, parents first. The visitor returns the opened directory
/// to descend into, or `None`.
pub(crate) fn walk<E: From<WalkError>>(
    root: BorrowedFd<'_>,
    limits: WalkLimits,
    visit: &mut impl FnMut(&Found<'_>) -> Result<Option<OwnedFd>, E>,
) -> Result<(), E> {
    let mut state = Walk { limits, seen: 0, path: Vec::new() };
    state.directory(root, 0, visit)
}

struct Walk {
    limits: WalkLimits,
    seen: usize,
    path: Vec<u8>,
}

impl Walk {
    /// Recursion is bounded by `limits.depth`.
    fn directory<E: From<WalkError>>(
        &mut self,
        directory: BorrowedFd<'_>,
        depth: usize,
        visit: &mut impl FnMut(&Found<'_>) -> Result<Option<OwnedFd>, E>,
    ) -> Result<(), E> {
        if depth > self.limits.depth {
            return Err(WalkError::TooDeep { path: printable(&self.path), limit: self.limits.depth }.into());
        }
        for name in self.names(directory)? {
            let parent_len = self.path.len();
            if depth > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name.to_bytes());
            if self.path.len() > self.limits.path_bytes {
                let path = printable(&self.path);
                return Err(WalkError::PathTooLong { path, limit: self.limits.path_bytes }.into());
            }
            let stat = statat(directory, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|errno| WalkError::os(&self.path, errno))?;
            let found = Found { parent: directory, name: &name, path: &self.path, stat };
            if let Some(child) = visit(&found)? {
                self.directory(child.as_fd(), depth + 1, visit)?;
            }
            self.path.truncate(parent_len);
        }
        Ok(())
    }

    fn names(&mut self, directory: BorrowedFd<'_>) -> Result<Vec<std::ffi::CString>, WalkError> {
        let entries = Dir::read_from(directory).map_err(|errno| WalkError::os(&self.path, errno))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|errno| WalkError::os(&self.path, errno))?;
            if matches!(entry.file_name().to_bytes(), b"." | b"..") {
                continue;
            }
            self.seen += 1;
            if self.seen > self.limits.entries {
                return Err(WalkError::TooManyEntries { limit: self.limits.entries });
            }
            names.push(entry.file_name().to_owned());
        }
        names.sort_unstable();
        Ok(names)
    }
}

/// A path as text that cannot disturb a log or a terminal.
pub(crate) fn printable(path: &[u8]) -> String {
    String::from_utf8_lossy(path)
        .chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect()
}
