//! Sorted, bounded listing of a hostile tree that respects its `.gitignore` files.
//!
//! Ignore files are read by [`Workspace::read`], not by the walker of the `ignore` crate: a `.gitignore` may be a pipe
//! or a link to a file of the host.

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::fs::{AtFlags, Dir, OFlags};

use super::{FileError, Kind, Workspace};

/// Most entries listed, and deepest directory.
const ENTRIES_MAX: usize = 20_000;
const DEPTH_MAX: usize = 32;
const IGNORE_LINES_MAX: usize = 1_000;
/// Never listed: git's own files and what tools leave behind.
const ALWAYS_SKIPPED: [&str; 6] =
    [".git", "__pycache__", "node_modules", ".pytest_cache", ".mypy_cache", ".ruff_cache"];

/// One thing in the tree that is not a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) path: String,
    pub(crate) bytes: u64,
    pub(crate) kind: Kind,
}

/// Files in the order of their paths.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) found: Vec<Found>,
    /// Whether there is more than the limits allow.
    pub(crate) cut: bool,
}

impl Workspace {
    /// Everything below `from` (`.` for all) that is not ignored.
    pub(crate) fn list(&self, from: &str) -> Result<Listing, FileError> {
        self.walk(from, Ignored::LeftOut)
    }

    /// Everything, whatever the tree's `.gitignore` files say.
    pub(crate) fn list_ignored_too(&self) -> Result<Listing, FileError> {
        self.walk(".", Ignored::Listed)
    }

    fn walk(&self, from: &str, ignored: Ignored) -> Result<Listing, FileError> {
        let mut walk = Walk { workspace: self, ignored, listing: Listing::default(), ignores: Vec::new() };
        for dir in ancestors(from) {
            walk.push_ignore(&dir);
        }
        walk.directory(if from == "." { "" } else { from }, 0)?;
        walk.listing.found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(walk.listing)
    }
}

/// The directories above `from`, outermost first; none for the root.
fn ancestors(from: &str) -> Vec<String> {
    if from == "." {
        return Vec::new();
    }
    let ends = from.match_indices('/').map(|(i, _)| from[..i].to_owned());
    std::iter::once(String::new()).chain(ends).collect()
}

/// What becomes of ignored files.
#[derive(Clone, Copy)]
enum Ignored {
    LeftOut,
    Listed,
}

struct Walk<'w> {
    workspace: &'w Workspace,
    ignored: Ignored,
    listing: Listing,
    ignores: Vec<Gitignore>,
}

impl Walk<'_> {
    fn directory(&mut self, dir: &str, depth: usize) -> Result<(), FileError> {
        if depth > DEPTH_MAX {
            self.listing.cut = true;
            return Ok(());
        }
        let added = self.push_ignore(dir);
        for (name, bytes, kind) in self.entries(dir)? {
            let path = if dir.is_empty() { name.clone() } else { format!("{dir}/{name}") };
            if ALWAYS_SKIPPED.contains(&name.as_str()) || self.ignored(&path, kind == Kind::Directory) {
                continue;
            }
            if self.listing.found.len() >= ENTRIES_MAX {
                self.listing.cut = true;
                break;
            }
            match kind {
                // A directory that went away or turned into something else meanwhile is simply not listed.
                Kind::Directory => drop(self.directory(&path, depth + 1)),
                Kind::File | Kind::Link | Kind::Other => {
                    self.listing.found.push(Found { path, bytes, kind });
                }
            }
        }
        if added {
            self.ignores.pop();
        }
        Ok(())
    }

    /// Entries with UTF-8 names, sorted.
    fn entries(&self, dir: &str) -> Result<Vec<(String, u64, Kind)>, FileError> {
        let shown = if dir.is_empty() { "." } else { dir };
        let fd = self.workspace.resolve(shown, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let error = |e| FileError::from_errno(shown, e);
        let mut entries = Vec::new();
        for entry in Dir::read_from(&fd).map_err(error)?.take(ENTRIES_MAX) {
            let entry = entry.map_err(error)?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if matches!(name, "." | "..") || name.chars().any(char::is_control) {
                continue;
            }
            if let Ok(stat) = rustix::fs::statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                let bytes = u64::try_from(stat.st_size).unwrap_or(0);
                entries.push((name.to_owned(), bytes, Kind::of(stat.st_mode)));
            }
        }
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(entries)
    }

    fn push_ignore(&mut self, dir: &str) -> bool {
        match self.ignored {
            Ignored::LeftOut => {}
            Ignored::Listed => return false,
        }
        let file = if dir.is_empty() { ".gitignore".to_owned() } else { format!("{dir}/.gitignore") };
        let Ok(text) = self.workspace.read_text(&file) else { return false };
        let mut builder = GitignoreBuilder::new(format!("/{dir}"));
        for line in text.lines().take(IGNORE_LINES_MAX) {
            // A line that is no valid pattern ignores nothing, as in git.
            let _ = builder.add_line(None, line);
        }
        match builder.build() {
            Ok(ignore) => self.ignores.push(ignore),
            Err(_) => return false,
        }
        true
    }

    fn ignored(&self, path: &str, is_dir: bool) -> bool {
        let absolute = format!("/{path}");
        self.ignores
            .iter()
            .rev()
            .map(|ignore| ignore.matched(&absolute, is_dir))
            .find(|matched| !matched.is_none())
            .is_some_and(|matched| matched.is_ignore())
    }
}
