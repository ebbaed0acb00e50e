//! File access inside an attempt's workspace. The tree is hostile: commands of the agent may have put links, pipes or
//! devices anywhere, so every path is resolved by the kernel beneath the root and never through a link.

mod walk;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Largest file the tools read or write, in bytes.
pub(crate) const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Permission bits of files that the tools make.
pub(crate) const NEW_FILE_MODE: u32 = 0o644;
/// Longest path, in bytes.
const PATH_BYTES_MAX: usize = 512;
/// Names tried for a temporary file before giving up.
const TEMPORARY_NAMES_MAX: u32 = 64;
/// How often the kernel may ask to resolve a path again because the tree moved.
const RESOLVE_TRIES_MAX: u32 = 8;
/// The workspace's place in the sandbox: models may name files by it.
const INSIDE: &str = "/workspace";

const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// Why a file could not be used. The texts go to the model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FileError {
    #[error("`{0}` is not a path inside the workspace; use relative paths such as src/app.py")]
    BadPath(String),
    #[error("`{0}` does not exist")]
    Missing(String),
    #[error("`{0}` is or goes through a symbolic link, or leaves the workspace; links are not followed")]
    Link(String),
    #[error("`{0}` is a directory")]
    Directory(String),
    #[error("`{0}` is not a regular file, or a part of its path is not a directory")]
    NotAFile(String),
    #[error("`{path}` has {bytes} bytes, the limit is {FILE_BYTES_MAX}")]
    TooLarge { path: String, bytes: u64 },
    #[error("`{0}` is not UTF-8 text")]
    NotText(String),
    #[error("`{path}`: {source}")]
    Io { path: String, source: Errno },
}

impl FileError {
    fn from_errno(path: &str, source: Errno) -> Self {
        let path = path.to_owned();
        match source {
            Errno::NOENT => Self::Missing(path),
            Errno::LOOP | Errno::XDEV => Self::Link(path),
            Errno::ISDIR => Self::Directory(path),
            Errno::NOTDIR | Errno::NXIO => Self::NotAFile(path),
            Errno::INVAL | Errno::NAMETOOLONG => Self::BadPath(path),
            source => Self::Io { path, source },
        }
    }

    fn from_io(path: &str, error: &std::io::Error) -> Self {
        Self::from_errno(path, Errno::from_io_error(error).unwrap_or(Errno::IO))
    }
}

/// Turns what a model wrote into a plain relative path: `/workspace/a`, `./a` and `a/` are all `a`. The root is `.`.
pub(crate) fn relative(path: &str) -> Result<String, FileError> {
    let inside = match path.strip_prefix(INSIDE) {
        Some("") => ".",
        Some(rest) if rest.starts_with('/') => &rest[1..],
        Some(_) | None => path,
    };
    let bad = || FileError::BadPath(path.chars().take(120).collect());
    if path.is_empty()
        || path.len() > PATH_BYTES_MAX
        || path.chars().any(char::is_control)
        || inside.starts_with('/')
    {
        return Err(bad());
    }
    let trimmed = inside.trim_end_matches('/');
    let parts: Vec<&str> = trimmed.split('/').filter(|part| *part != ".").collect();
    if trimmed.is_empty() || parts.is_empty() {
        return Ok(".".to_owned());
    }
    if parts.iter().any(|part| matches!(*part, "" | "..")) {
        return Err(bad());
    }
    Ok(parts.join("/"))
}

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Link,
    Other,
}

impl Kind {
    fn of(mode: u32) -> Self {
        match FileType::from_raw_mode(mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Link,
            FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => Kind::Other,
        }
    }
}

/// An open workspace directory.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: OwnedFd,
}

impl Workspace {
    /// Opens the directory. All paths given to the methods are results of [`relative`].
    pub(crate) fn open(path: &Path) -> Result<Self, FileError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, path, flags, Mode::empty())
            .map_err(|e| FileError::from_errno("workspace", e))?;
        Ok(Self { root })
    }

    fn resolve(&self, path: &str, flags: OFlags) -> Result<OwnedFd, FileError> {
        open_beneath(&self.root, path, flags).map_err(|e| FileError::from_errno(path, e))
    }

    /// What is at `path`, without following a link; `None` when nothing is.
    pub(crate) fn kind(&self, path: &str) -> Result<Option<Kind>, FileError> {
        match self.resolve(path, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(fd) => {
                let stat = rustix::fs::fstat(&fd).map_err(|e| FileError::from_errno(path, e))?;
                Ok(Some(Kind::of(stat.st_mode)))
            }
            Err(FileError::Missing(_)) => Ok(None),
            Err(FileError::Link(_)) => Ok(Some(Kind::Link)),
            Err(other) => Err(other),
        }
    }

    /// The bytes of a regular file of at most [`FILE_BYTES_MAX`].
    pub(crate) fn read(&self, path: &str) -> Result<Vec<u8>, FileError> {
        // NONBLOCK: opening a pipe must not wait for a writer.
        let fd = self.resolve(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        let stat = rustix::fs::fstat(&fd).map_err(|e| FileError::from_errno(path, e))?;
        match Kind::of(stat.st_mode) {
            Kind::File => {}
            Kind::Directory => return Err(FileError::Directory(path.to_owned())),
            Kind::Link | Kind::Other => return Err(FileError::NotAFile(path.to_owned())),
        }
        let mut bytes = Vec::new();
        File::from(fd)
            .take(FILE_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| FileError::from_io(path, &e))?;
        let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX).max(bytes.len() as u64);
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(FileError::TooLarge { path: path.to_owned(), bytes: size });
        }
        Ok(bytes)
    }

    /// The text of a file.
    pub(crate) fn read_text(&self, path: &str) -> Result<String, FileError> {
        String::from_utf8(self.read(path)?).map_err(|_| FileError::NotText(path.to_owned()))
    }

    /// The permission bits of a regular file; `None` when nothing is there.
    pub(crate) fn mode(&self, path: &str) -> Result<Option<u32>, FileError> {
        match self.kind(path)? {
            None => Ok(None),
            Some(Kind::File) => {
                let fd = self.resolve(path, OFlags::PATH | OFlags::NOFOLLOW)?;
                let stat = rustix::fs::fstat(&fd).map_err(|e| FileError::from_errno(path, e))?;
                Ok(Some(stat.st_mode & 0o777))
            }
            Some(Kind::Directory) => Err(FileError::Directory(path.to_owned())),
            Some(Kind::Link) => Err(FileError::Link(path.to_owned())),
            Some(Kind::Other) => Err(FileError::NotAFile(path.to_owned())),
        }
    }

    /// Puts `bytes` at `path` in one step (temporary file, then rename), keeping the mode of a file that was there
    /// and making missing directories.
    pub(crate) fn replace(&self, path: &str, bytes: &[u8]) -> Result<(), FileError> {
        let mode = self.mode(path)?.unwrap_or(NEW_FILE_MODE);
        self.put(path, bytes, mode)
    }

    /// Like [`Self::replace`], with the mode as an argument.
    pub(crate) fn put(&self, path: &str, bytes: &[u8], mode: u32) -> Result<(), FileError> {
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(FileError::TooLarge { path: path.to_owned(), bytes: bytes.len() as u64 });
        }
        self.mode(path)?;
        let (parent, name) = self.parent(path, Missing::Make)?;
        write_then_rename(&parent, name, bytes, Mode::from_raw_mode(mode & 0o777))
            .map_err(|e| FileError::from_errno(path, e))
    }

    /// Removes a file or a link (never what the link points to).
    pub(crate) fn remove(&self, path: &str) -> Result<(), FileError> {
        let (parent, name) = self.parent(path, Missing::Refuse)?;
        rustix::fs::unlinkat(&parent, name, AtFlags::empty()).map_err(|e| FileError::from_errno(path, e))
    }

    fn parent<'p>(&self, path: &'p str, missing: Missing) -> Result<(OwnedFd, &'p str), FileError> {
        let error = |e| FileError::from_errno(path, e);
        let (dirs, name) = path.rsplit_once('/').unwrap_or(("", path));
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let mut at = open_beneath(&self.root, ".", flags).map_err(error)?;
        for part in dirs.split('/').filter(|part| !part.is_empty()) {
            at = match (open_beneath(&at, part, flags), missing) {
                (Err(Errno::NOENT), Missing::Make) => {
                    rustix::fs::mkdirat(&at, part, Mode::from_raw_mode(0o755)).map_err(error)?;
                    open_beneath(&at, part, flags).map_err(error)?
                }
                (opened, Missing::Make | Missing::Refuse) => opened.map_err(error)?,
            };
        }
        Ok((at, name))
    }
}

#[derive(Clone, Copy)]
enum Missing {
    Make,
    Refuse,
}

fn open_beneath(at: &impl AsFd, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC;
    for _ in 1..RESOLVE_TRIES_MAX {
        match rustix::fs::openat2(at, path, flags, Mode::empty(), BENEATH) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            done => return done,
        }
    }
    rustix::fs::openat2(at, path, flags, Mode::empty(), BENEATH)
}

fn write_then_rename(parent: &OwnedFd, name: &str, bytes: &[u8], mode: Mode) -> Result<(), Errno> {
    let (temporary, fd) = temporary_file(parent)?;
    let io = |e: std::io::Error| Errno::from_io_error(&e).unwrap_or(Errno::IO);
    let mut file = File::from(fd);
    let written = file
        .write_all(bytes)
        .map_err(io)
        .and_then(|()| rustix::fs::fchmod(&file, mode))
        .and_then(|()| rustix::fs::renameat(parent, temporary.as_str(), parent, name));
    if written.is_err() {
        // The first error is the one to tell; a temporary file left behind is found by the diff.
        let _ = rustix::fs::unlinkat(parent, temporary.as_str(), AtFlags::empty());
    }
    written
}

fn temporary_file(parent: &OwnedFd) -> Result<(String, OwnedFd), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for n in 0..TEMPORARY_NAMES_MAX {
        let name = format!(".df-write-{n}.tmp");
        match rustix::fs::openat(parent, name.as_str(), flags, Mode::from_raw_mode(0o600)) {
            Err(Errno::EXIST) => {}
            Err(other) => return Err(other),
            Ok(fd) => return Ok((name, fd)),
        }
    }
    Err(Errno::EXIST)
}

#[cfg(test)]
mod tests;
