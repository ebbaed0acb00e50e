//! Removing trees in which something hostile has run: it may have taken our own right to look into a directory, or put
//! directories into each other until the usual way, which holds each of them open, runs out of handles.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// Removes `dir` with all in it, whatever that is. Not there = removed.
///
/// Every directory is moved beside `dir` before it is emptied, so that no path gets long and one is open at a time: the
/// handles of this process are not only ours.
pub(super) fn remove_tree(dir: &Path) -> io::Result<()> {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".parts");
    // Nothing hostile can write there: only what is below `dir` was theirs.
    let parts = dir.with_file_name(name);
    let mut waiting = Vec::new();
    match std::fs::symlink_metadata(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
        Ok(_) => {
            waiting.push(dir.to_owned());
            match std::fs::create_dir(&parts) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                made => made?,
            }
        }
    }
    // What an earlier try did not finish.
    match directories(&parts) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => waiting.extend(found?),
    }
    let mut moved = 0_u64;
    while let Some(one) = waiting.pop() {
        take_apart(&one, &parts, &mut moved, &mut waiting)?;
    }
    std::fs::remove_dir(&parts)
}

/// The same on a thread that may block.
pub(super) async fn remove(dir: &Path) -> io::Result<()> {
    let dir = dir.to_owned();
    tokio::task::spawn_blocking(move || remove_tree(&dir)).await.map_err(io::Error::other)?
}

/// Removes `one` and its files; its directories go to `parts` and are added to `waiting`.
fn take_apart(one: &Path, parts: &Path, moved: &mut u64, waiting: &mut Vec<PathBuf>) -> io::Result<()> {
    open_up(one)?;
    for entry in std::fs::read_dir(one)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            std::fs::remove_file(entry.path())?;
            continue;
        }
        // To move a directory is to write into it.
        open_up(&entry.path())?;
        let to = loop {
            *moved += 1;
            let to = parts.join(moved.to_string());
            if !to.exists() {
                break to;
            }
        };
        std::fs::rename(entry.path(), &to)?;
        waiting.push(to);
    }
    std::fs::remove_dir(one)
}

fn directories(of: &Path) -> io::Result<Vec<PathBuf>> {
    std::fs::read_dir(of)?.map(|entry| Ok(entry?.path())).collect()
}

/// Gives us back all rights to a directory, and to nothing that a link in its place leads to.
fn open_up(dir: &Path) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let handle = rustix::fs::open(dir, flags, Mode::empty())?;
    let name = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&handle));
    std::fs::set_permissions(name, std::fs::Permissions::from_mode(0o700))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More directories in each other than any process may have open.
    const DEPTH: usize = 3_000;

    fn deep(below: &Path) {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut at = rustix::fs::open(below, flags, Mode::empty()).unwrap();
        for _ in 0..DEPTH {
            rustix::fs::mkdirat(&at, "d", Mode::from_raw_mode(0o700)).unwrap();
            at = rustix::fs::openat(&at, "d", flags, Mode::empty()).unwrap();
        }
    }

    #[test]
    fn a_tree_goes_however_deep_or_shut_it_is() {
        let place = tempfile::tempdir().unwrap();
        let (tree, other) = (place.path().join("tree"), place.path().join("other"));
        std::fs::create_dir_all(tree.join("shut/inner")).unwrap();
        std::fs::create_dir_all(&other).unwrap();
        std::fs::write(other.join("kept"), "x").unwrap();
        std::fs::write(tree.join("shut/inner/file"), "x").unwrap();
        std::os::unix::fs::symlink(&other, tree.join("shut/link")).unwrap();
        deep(&tree);
        // Left by a life that ended in the middle of it.
        std::fs::create_dir_all(place.path().join("tree.parts/1/left")).unwrap();
        for dir in ["shut/inner", "shut"] {
            std::fs::set_permissions(tree.join(dir), std::fs::Permissions::from_mode(0o000)).unwrap();
        }
        remove_tree(&tree).unwrap();
        // An end that came in the middle, and nothing at all.
        std::fs::create_dir_all(place.path().join("tree.parts/7")).unwrap();
        remove_tree(&tree).unwrap();
        remove_tree(&tree).unwrap();
        let left: Vec<_> = std::fs::read_dir(place.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["other"]);
        assert!(other.join("kept").exists(), "links are not followed");
    }
}
