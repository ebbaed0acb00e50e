//! New files that are by-products of running things and no part of a change.
//!
//! Two sources: a built-in list, and the `.gitignore` files of the collected tree itself. Neither can hide a change to
//! a file that the base has: only paths the base lacks are looked at.

use std::collections::BTreeSet;
use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::git::TreeFile;

/// Directories that tools make wherever they run.
const JUNK_DIRS: &[&str] = &[
    ".git",
    "__pycache__",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    ".tox",
    ".venv",
    "node_modules",
    ".npm",
    ".cache",
    ".devfactory-hidden",
];
const JUNK_SUFFIXES: &[&str] = &[".pyc", ".pyo", ".swp"];
const JUNK_FILES: &[&str] = &[".DS_Store", ".coverage"];

/// Whether `path` is junk wherever it turns up.
pub(super) fn is_builtin_junk(path: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or(path);
    path.split('/').any(|part| JUNK_DIRS.contains(&part))
        || JUNK_SUFFIXES.iter().any(|suffix| file.ends_with(suffix))
        || JUNK_FILES.contains(&file)
}

/// `files` without those that are junk and that `base` does not have.
pub(super) fn without_junk(root: &Path, files: Vec<TreeFile>, base: &BTreeSet<&str>) -> Vec<TreeFile> {
    let ignores = ignore_files(root, &files);
    files
        .into_iter()
        .filter(|f| {
            base.contains(f.path.as_str()) || !(is_builtin_junk(&f.path) || is_ignored(&ignores, &f.path))
        })
        .collect()
}

/// The tree's `.gitignore` files, outermost first, each with the directory it speaks of.
fn ignore_files(root: &Path, files: &[TreeFile]) -> Vec<(String, Gitignore)> {
    let mut found: Vec<(String, Gitignore)> = files
        .iter()
        .filter(|f| f.path == ".gitignore" || f.path.ends_with("/.gitignore"))
        .filter_map(|f| {
            let dir = f.path.trim_end_matches(".gitignore").to_owned();
            let mut builder = GitignoreBuilder::new(root.join(&dir));
            // A line that cannot be read ignores nothing.
            let _ = builder.add(&f.on_disk);
            Some((dir, builder.build().ok()?))
        })
        .collect();
    found.sort_by_key(|(dir, _)| dir.len());
    found
}

/// The innermost file that says something about the path, or about a directory above it, decides.
fn is_ignored(ignores: &[(String, Gitignore)], path: &str) -> bool {
    let mut verdict = false;
    for (_, rules) in ignores.iter().filter(|(dir, _)| path.starts_with(dir.as_str())) {
        let below = rules.path().join(path_below(path, ignores, rules));
        let matched = rules.matched_path_or_any_parents(&below, false);
        if matched.is_ignore() {
            verdict = true;
        } else if matched.is_whitelist() {
            verdict = false;
        }
    }
    verdict
}

fn path_below<'p>(path: &'p str, ignores: &[(String, Gitignore)], rules: &Gitignore) -> &'p str {
    let dir = ignores.iter().find(|(_, r)| std::ptr::eq(r, rules)).map_or("", |(dir, _)| dir.as_str());
    path.strip_prefix(dir).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::list_files;

    fn kept(files: &[(&str, &str)], base: &[&str]) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let to = dir.path().join(path);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::write(to, content).unwrap();
        }
        let base = base.iter().copied().collect();
        let listed = list_files(dir.path()).unwrap();
        without_junk(dir.path(), listed, &base).into_iter().map(|f| f.path).collect()
    }

    #[test]
    fn by_products_are_left_out_and_sources_are_kept() {
        let files = [
            ("a.py", ""),
            ("__pycache__/a.pyc", ""),
            ("web/node_modules/x/i.js", ""),
            (".gitignore", "*.db\n/out/\n!keep.db\n"),
            ("data.db", ""),
            ("keep.db", ""),
            ("out/x", ""),
            ("src/out/x", ""),
            ("src/.gitignore", "local*\n"),
            ("src/local.txt", ""),
            ("local.txt", ""),
        ];
        let expect = [".gitignore", "a.py", "keep.db", "local.txt", "src/.gitignore", "src/out/x"];
        assert_eq!(kept(&files, &[]), expect);
    }

    #[test]
    fn what_the_base_has_is_never_junk() {
        let files = [(".gitignore", "*\n"), ("vendor/node_modules/x.js", "changed"), ("new", "")];
        assert_eq!(kept(&files, &["vendor/node_modules/x.js"]), ["vendor/node_modules/x.js"]);
    }
}
