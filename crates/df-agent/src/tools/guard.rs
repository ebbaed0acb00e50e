//! Puts back what a command changed although the attempt may not write it.
//!
//! A command in the sandbox may write anywhere in the workspace: formatters, test runs, a program's own data files. A
//! change outside the rights would end the attempt as a breach of policy when its diff is checked; undone at once and
//! said plainly, it is a mistake the agent can correct. Convenience, not the fence: that is the worker's check of the diff.

use std::collections::BTreeMap;

use super::toolbox::ToolBox;
use crate::workspace::{Kind, Workspace};

/// Bytes of files kept for this. A tree with more is not guarded.
const GUARDED_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Paths named in the note to the model.
const NAMED_PATHS_MAX: usize = 10;
const EXECUTABLE: u32 = 0o111;

/// The files that may not be written, as the attempt found them. A link or other special file is only known to exist.
#[derive(Debug)]
pub(crate) struct Guard {
    files: BTreeMap<String, Option<(Vec<u8>, u32)>>,
}

impl Guard {
    /// Remembers the files that `writable` denies; `None` when they are too many or too large.
    pub(super) fn of(workspace: &Workspace, writable: impl Fn(&str) -> bool) -> Option<Self> {
        // Ignored or not: which files the base has must not depend on what the attempt writes into a `.gitignore`.
        let listing = workspace.list_ignored_too().ok().filter(|listing| !listing.cut)?;
        let guarded: Vec<_> = listing.found.into_iter().filter(|f| !writable(&f.path)).collect();
        if guarded.iter().map(|f| f.bytes).sum::<u64>() > GUARDED_BYTES_MAX {
            return None;
        }
        let mut files = BTreeMap::new();
        for found in guarded {
            let file = match found.kind {
                Kind::File => Some((workspace.read(&found.path).ok()?, workspace.mode(&found.path).ok()??)),
                Kind::Directory | Kind::Link | Kind::Other => None,
            };
            files.insert(found.path, file);
        }
        Some(Self { files })
    }

    /// Undoes changes; the paths that were changed, made or removed, sorted.
    fn restore(&self, workspace: &Workspace, writable: impl Fn(&str) -> bool) -> Vec<String> {
        let mut undone = Vec::new();
        // New things first: one may stand where a file has to be put back.
        for found in workspace.list(".").unwrap_or_default().found {
            if !writable(&found.path) && !self.files.contains_key(&found.path) {
                // What cannot be undone is left to the check of the diff.
                let _ = workspace.remove(&found.path);
                undone.push(found.path);
            }
        }
        for (path, file) in &self.files {
            let Some((bytes, mode)) = file else { continue };
            let same_mode =
                matches!(workspace.mode(path), Ok(Some(now)) if now & EXECUTABLE == mode & EXECUTABLE);
            if same_mode && workspace.read(path).is_ok_and(|now| now == *bytes) {
                continue;
            }
            if matches!(workspace.kind(path), Ok(Some(Kind::Link | Kind::Other))) {
                let _ = workspace.remove(path);
            }
            let _ = workspace.put(path, bytes, *mode);
            undone.push(path.clone());
        }
        undone.sort();
        undone
    }
}

impl ToolBox {
    /// After a command: undoes what it may not have done. A note for the model when there was something.
    pub(crate) fn put_back(&mut self) -> Option<String> {
        let rights = &self.rights;
        let undone = self.guard.as_ref()?.restore(&self.workspace, |path| rights.check(path).is_ok());
        if undone.is_empty() {
            return None;
        }
        self.denied_writes =
            self.denied_writes.saturating_add(u32::try_from(undone.len()).unwrap_or(u32::MAX));
        let mut named = undone.iter().take(NAMED_PATHS_MAX).cloned().collect::<Vec<_>>().join(", ");
        if undone.len() > NAMED_PATHS_MAX {
            named.push_str(&format!(" and {} more", undone.len() - NAMED_PATHS_MAX));
        }
        Some(format!(
            "[note: the command changed files outside this task's paths; they are as they were before: {named}. {}]",
            self.rights.describe()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_the_base_has_is_kept_whatever_is_ignored_before_or_after() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let to = dir.path().join(path);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::write(to, text).unwrap();
        };
        write(".gitignore", "build/\n*.db\n");
        write("build/x", "base");
        let workspace = Workspace::open(dir.path()).unwrap();
        let writable = |path: &str| path == ".gitignore";
        let guard = Guard::of(&workspace, writable).unwrap();
        write("data.db", "a by-product, ignored");
        assert_eq!(guard.restore(&workspace, writable), Vec::<String>::new());
        write(".gitignore", "*.db\n");
        assert_eq!(guard.restore(&workspace, writable), Vec::<String>::new());
        write("build/x", "changed");
        write("new", "");
        assert_eq!(guard.restore(&workspace, writable), ["build/x", "new"]);
        assert_eq!(workspace.read("build/x").unwrap(), b"base");
    }
}
