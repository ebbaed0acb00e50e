//! Takes files out of a tree written by something hostile, before any host tool looks at it.
//!
//! Only regular files come out, opened beneath the root without following any link. Everything else is reported, never
//! silently left out. Set-user-ID bits, ownership, times and extended attributes stay behind.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat2};

use crate::tree::{Found, WalkError, WalkLimits, printable, walk};

mod name;
#[cfg(test)]
mod tests;

pub use name::is_git_name;

/// Bounds on what is collected. Exceeding a total is an error: a partial tree would be worse than none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CollectLimits {
    /// Entries of any kind, refused ones included.
    pub entries: usize,
    pub total_bytes: u64,
    /// A larger file is refused; the others are still collected.
    pub file_bytes: u64,
    /// Of the relative path.
    pub path_bytes: usize,
    /// Directories within directories.
    pub depth: usize,
}

impl Default for CollectLimits {
    fn default() -> Self {
        Self { entries: 100_000, total_bytes: 1 << 30, file_bytes: 64 << 20, path_bytes: 1024, depth: 64 }
    }
}

/// One entry of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative, `/`-separated. Of a refused entry, control characters are escaped.
    pub path: String,
    pub kind: EntryKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    File { bytes: u64, executable: bool },
    Refused(Refusal),
}

/// Why an entry is not collected. A refused directory is not entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("is a symbolic link")]
    Symlink,
    #[error("is a FIFO")]
    Fifo,
    #[error("is a socket")]
    Socket,
    #[error("is a device")]
    Device,
    #[error("is larger than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("has a control character in its name")]
    ControlCharacter,
    #[error("has a name that is not UTF-8")]
    NotUtf8,
    #[error("has a name that some file system takes for .git")]
    GitDirectory,
    #[error("could not be opened")]
    Unreadable,
    #[error("changed while it was read")]
    Changed,
}

/// Why nothing was collected.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    #[error("tree cannot be walked")]
    Walk(#[from] WalkError),
    #[error("files together exceed {limit} bytes")]
    TooManyBytes { limit: u64 },
    #[error("{what} could not be opened")]
    Root { what: &'static str, source: std::io::Error },
    #[error("destination is not empty")]
    DestinationNotEmpty,
    #[error("{path} could not be written")]
    Write { path: String, source: std::io::Error },
}

/// What [`copy_out`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub files: u64,
    pub bytes: u64,
    /// Path (escaped as in [`Entry`]) and reason.
    pub skipped: Vec<(String, Refusal)>,
}

/// Lists the tree in byte order of names, without directories.
pub fn snapshot(directory: &Path, limits: CollectLimits) -> Result<Vec<Entry>, CollectError> {
    let mut entries = Vec::new();
    collect(directory, limits, &mut |path, kind| {
        let kind = match kind {
            Ok((_, file)) => EntryKind::File { bytes: file.bytes, executable: file.executable },
            Err(refusal) => EntryKind::Refused(refusal),
        };
        entries.push(Entry { path, kind });
        Ok(())
    })?;
    Ok(entries)
}

/// Copies all collectable files of `source` into the empty directory `destination`, as new files of the caller's with
/// mode 0644 or 0755. On error the destination holds a part and must be discarded.
pub fn copy_out(source: &Path, destination: &Path, limits: CollectLimits) -> Result<Report, CollectError> {
    let root = open_root(destination, "destination")?;
    let empty = std::fs::read_dir(destination).map(|mut entries| entries.next().is_none());
    if !empty.map_err(|source| CollectError::Root { what: "destination", source })? {
        return Err(CollectError::DestinationNotEmpty);
    }
    let mut report = Report::default();
    collect(source, limits, &mut |path, kind| {
        let copied = match kind {
            Ok((file, meta)) => copy(&root, &path, file, meta)
                .map_err(|source| CollectError::Write { path: path.clone(), source })?,
            Err(refusal) => Err(refusal),
        };
        match copied {
            Ok(bytes) => {
                report.files += 1;
                report.bytes += bytes;
            }
            Err(refusal) => report.skipped.push((path, refusal)),
        }
        Ok(())
    })?;
    Ok(report)
}

#[derive(Clone, Copy)]
struct Meta {
    bytes: u64,
    executable: bool,
}

type Visit<'a> = dyn FnMut(String, Result<(File, Meta), Refusal>) -> Result<(), CollectError> + 'a;

fn collect(directory: &Path, limits: CollectLimits, visit: &mut Visit<'_>) -> Result<(), CollectError> {
    let root = open_root(directory, "source")?;
    let bounds = WalkLimits { entries: limits.entries, depth: limits.depth, path_bytes: limits.path_bytes };
    let mut total = 0u64;
    walk(root.as_fd(), bounds, &mut |found: &Found<'_>| {
        let opened = open(found, limits);
        if let Ok(Opened::Directory(directory)) = opened {
            return Ok(Some(directory));
        }
        let path = printable(found.path);
        match opened {
            Ok(Opened::File(file, meta)) => {
                total = total.saturating_add(meta.bytes);
                if total > limits.total_bytes {
                    return Err(CollectError::TooManyBytes { limit: limits.total_bytes });
                }
                visit(path, Ok((file, meta)))?;
            }
            Ok(Opened::Directory(_)) => {}
            Err(refusal) => visit(path, Err(refusal))?,
        }
        Ok(None)
    })
}

enum Opened {
    Directory(OwnedFd),
    File(File, Meta),
}

fn open(found: &Found<'_>, limits: CollectLimits) -> Result<Opened, Refusal> {
    name::check(found.name.to_bytes())?;
    match found.file_type() {
        FileType::Directory => found.open_dir().map(Opened::Directory).map_err(|_| Refusal::Unreadable),
        FileType::RegularFile => open_file(found, limits),
        FileType::Symlink => Err(Refusal::Symlink),
        FileType::Fifo => Err(Refusal::Fifo),
        FileType::Socket => Err(Refusal::Socket),
        FileType::CharacterDevice | FileType::BlockDevice => Err(Refusal::Device),
        FileType::Unknown => Err(Refusal::Unreadable),
    }
}

/// What was a regular file when looked at may have become anything by the time it is open: look again.
fn open_file(found: &Found<'_>, limits: CollectLimits) -> Result<Opened, Refusal> {
    let fd = found.open_file().map_err(|_| Refusal::Unreadable)?;
    let stat = fstat(&fd).map_err(|_| Refusal::Unreadable)?;
    let same = stat.st_ino == found.stat.st_ino && stat.st_dev == found.stat.st_dev;
    if !same || FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Refusal::Changed);
    }
    let bytes = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
    if bytes > limits.file_bytes {
        return Err(Refusal::TooLarge { limit: limits.file_bytes });
    }
    Ok(Opened::File(File::from(fd), Meta { bytes, executable: stat.st_mode & 0o111 != 0 }))
}

/// The outer error is the destination's fault, the inner one the source's.
fn copy(root: &OwnedFd, path: &str, source: File, meta: Meta) -> std::io::Result<Result<u64, Refusal>> {
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    for (index, _) in path.match_indices('/') {
        match mkdirat(root, &path[..index], Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let mode = Mode::from_raw_mode(if meta.executable { 0o755 } else { 0o644 });
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut target = File::from(openat2(root, path, flags, mode, beneath)?);
    let copied = std::io::copy(&mut source.take(meta.bytes.saturating_add(1)), &mut target)?;
    if copied == meta.bytes {
        return Ok(Ok(copied));
    }
    rustix::fs::unlinkat(root, path, rustix::fs::AtFlags::empty())?;
    Ok(Err(Refusal::Changed))
}

fn open_root(path: &Path, what: &'static str) -> Result<OwnedFd, CollectError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|errno| CollectError::Root { what, source: errno.into() })
}
