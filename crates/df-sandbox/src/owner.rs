//! Lends a workspace to the uid of a run, and takes it back.

use std::collections::HashMap;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Uid, chownat, fchown};

use crate::tree::{Found, WalkError, WalkLimits, printable, walk};

/// What a workspace may hold at most: beyond, it is not taken back and must be discarded.
const LIMITS: WalkLimits = WalkLimits { entries: 2_000_000, depth: 200, path_bytes: 16 << 10 };

/// Gives everything in the tree to `uid`. Refuses a file with a hard link outside the tree: giving that away would
/// give away a host file under another name.
pub(crate) fn lend(root: BorrowedFd<'_>, uid: u32) -> Result<(), WalkError> {
    refuse_foreign_hard_links(root)?;
    give(root, uid)
}

/// Gives everything in the tree to `uid`, links themselves rather than their targets. No process of the run may be
/// alive. Changing owner also makes the kernel clear set-user-ID and set-group-ID bits.
pub(crate) fn give(root: BorrowedFd<'_>, uid: u32) -> Result<(), WalkError> {
    let (owner, group) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(uid)));
    fchown(root, owner, group).map_err(|errno| WalkError::os(b".", errno))?;
    walk(root, LIMITS, &mut |found: &Found<'_>| {
        chownat(found.parent, found.name, owner, group, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| WalkError::os(found.path, errno))?;
        descend(found)
    })
}

fn refuse_foreign_hard_links(root: BorrowedFd<'_>) -> Result<(), WalkError> {
    let mut links = HashMap::new();
    walk(root, LIMITS, &mut |found: &Found<'_>| {
        if found.file_type() != FileType::Directory && found.stat.st_nlink > 1 {
            let inode = (found.stat.st_dev, found.stat.st_ino);
            let entry = links.entry(inode).or_insert_with(|| (found.stat.st_nlink, printable(found.path)));
            entry.0 -= 1;
        }
        descend(found)
    })?;
    match links.into_values().find(|(outside, _)| *outside > 0) {
        Some((_, path)) => Err(WalkError::ForeignHardLink { path }),
        None => Ok(()),
    }
}

fn descend(found: &Found<'_>) -> Result<Option<OwnedFd>, WalkError> {
    if found.file_type() != FileType::Directory {
        return Ok(None);
    }
    found.open_dir().map(Some).map_err(|errno| WalkError::os(found.path, errno))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::path::Path;

    use std::os::fd::AsFd;

    use super::*;

    fn open(dir: &Path) -> OwnedFd {
        std::fs::File::open(dir).unwrap().into()
    }

    #[test]
    fn a_hard_link_from_outside_is_refused_and_one_within_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        std::fs::create_dir_all(tree.join("sub")).unwrap();
        std::fs::write(tree.join("a"), "x").unwrap();
        std::fs::hard_link(tree.join("a"), tree.join("sub/b")).unwrap();
        refuse_foreign_hard_links(open(&tree).as_fd()).unwrap();
        std::fs::write(dir.path().join("host"), "x").unwrap();
        std::fs::hard_link(dir.path().join("host"), tree.join("sub/stolen")).unwrap();
        let refused = refuse_foreign_hard_links(open(&tree).as_fd()).unwrap_err();
        assert!(matches!(refused, WalkError::ForeignHardLink { path } if path == "sub/stolen"));
    }

    #[test]
    fn links_change_owner_and_their_targets_do_not() {
        if !rustix::process::geteuid().is_root() {
            return; // Only root can give files away; as an ordinary user a run uses that user's own uid.
        }
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        let host = dir.path().join("host");
        std::fs::write(&host, "x").unwrap();
        symlink(&host, tree.join("link")).unwrap();
        lend(open(&tree).as_fd(), 61_999).unwrap();
        assert_eq!(std::fs::metadata(&host).unwrap().uid(), 0);
        assert_eq!(std::fs::symlink_metadata(tree.join("link")).unwrap().uid(), 61_999);
        assert_eq!(std::fs::metadata(&tree).unwrap().uid(), 61_999);
    }
}
