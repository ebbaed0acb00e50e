//! The real git binary, hardened: it only ever sees bare repositories that this crate made itself.
//!
//! A tree that an agent wrote is never a working tree of git, and no configuration, hook, filter, attribute or
//! submodule of it is ever read: checkouts are written file by file from `cat-file`, commits are fed file by file to
//! `fast-import`. No command here can reach a network.

mod changes;
mod checkout;
mod commit;
mod conflict;
mod error;
mod fetch;
mod process;
mod repo;
mod unpack;

pub use changes::MergeOutcome;
pub use checkout::{TreeEntry, TreeMode};
pub use commit::{CommitSpec, Identity, TreeFile, list_files};
pub use conflict::{Laid, MAX_CONFLICTS, Marked, Sides, Undecided};
pub use error::GitError;
pub use fetch::is_allowed_url;
pub use process::Git;
pub use repo::{Repo, SourceHead};
pub use unpack::{pack_tar, unpack_tar};

use df_sandbox::collect::is_git_name;

/// Most files in a tree, and most bytes in all of them and in one.
pub const MAX_TREE_FILES: usize = 50_000;
pub const MAX_TREE_BYTES: u64 = 512 * 1024 * 1024;
pub const MAX_FILE_BYTES: u64 = 100 * 1024 * 1024;
/// Longest path in a tree, in bytes.
pub const MAX_PATH_BYTES: usize = 1024;

/// Whether `path` may stand in a tree that is written to or read from disk: relative, inside, nothing of git's own.
pub fn is_safe_path(path: &str) -> bool {
    !path.is_empty()
        && path.len() <= MAX_PATH_BYTES
        && !path.starts_with('/')
        && !path.chars().any(char::is_control)
        && path.split('/').all(|part| {
            !part.is_empty() && part != "." && part != ".." && part.len() < 256 && !is_git_name(part)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_the_tree_or_enter_git_are_unsafe() {
        for good in ["a", "a/b.py", ".github/ci.yml", "ไทย/ก.txt", "a b", ".gitignore", "x.git"] {
            assert!(is_safe_path(good), "{good}");
        }
        for bad in [
            "",
            "/a",
            "../a",
            "a/../b",
            "a//b",
            "./a",
            ".git",
            "a/.GIT/config",
            "a/git~1/config",
            "a\nb",
            "a/",
            "a\0b",
        ] {
            assert!(!is_safe_path(bad), "{bad:?}");
        }
    }
}
