//! `cargo xtask loc`: the size of the tree per package. Blank lines are not counted; comments are, because
//! here they carry the reasons.

use std::collections::{BTreeMap, BTreeSet};

use crate::{outcome::Outcome, tokens, workspace::Workspace};

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Size {
    files: usize,
    source: usize,
    tests: usize,
}

impl Size {
    fn add(&mut self, other: Self) {
        self.files += other.files;
        self.source += other.source;
        self.tests += other.tests;
    }
}

pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<Outcome> {
    let mut packages: BTreeMap<String, Size> = BTreeMap::new();
    let mut others: BTreeMap<String, Size> = BTreeMap::new();
    for path in workspace.files()? {
        if path == "Cargo.lock" {
            continue;
        }
        let content = String::from_utf8_lossy(&workspace.read(&path)?).into_owned();
        match package_of(&path) {
            Some(package) if path.ends_with(".rs") => {
                packages.entry(package).or_default().add(rust_size(&path, &content)?);
            }
            Some(_) | None => {
                let folder = path.split_once('/').map_or(".", |(folder, _)| folder);
                let source = content.lines().filter(|line| !line.trim().is_empty()).count();
                others.entry(folder.to_owned()).or_default().add(Size { files: 1, source, tests: 0 });
            }
        }
    }
    Ok(Outcome { notes: render(&packages, &others), summary: String::new(), ..Outcome::default() })
}

fn render(packages: &BTreeMap<String, Size>, others: &BTreeMap<String, Size>) -> Vec<String> {
    let row = |name: &str, size: &Size| {
        format!("{name:<24} {:>6} {:>8} {:>8}", size.files, size.source, size.tests)
    };
    let mut total = Size::default();
    packages.values().for_each(|size| total.add(*size));
    let mut lines = vec![format!("{:<24} {:>6} {:>8} {:>8}", "Rust, by package", "files", "source", "tests")];
    lines.extend(packages.iter().map(|(name, size)| row(name, size)));
    lines.push(row("total", &total));
    lines.push(String::new());
    lines.push(format!("{:<24} {:>6} {:>8}", "other, by folder", "files", "lines"));
    lines
        .extend(others.iter().map(|(name, size)| format!("{name:<24} {:>6} {:>8}", size.files, size.source)));
    lines
}

/// The package a path belongs to, by the workspace's folder rule.
fn package_of(path: &str) -> Option<String> {
    let mut parts = path.split('/');
    match parts.next()? {
        "apps" | "crates" | "extensions" => parts.next().map(str::to_owned),
        "xtask" => Some("xtask".to_owned()),
        _ => None,
    }
}

fn rust_size(path: &str, content: &str) -> anyhow::Result<Size> {
    let lines = || content.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    if is_test_file(path) {
        return Ok(Size { files: 1, source: 0, tests: lines().count() });
    }
    let test_lines: BTreeSet<usize> =
        tokens::test_items(tokens::parse(content)?).into_iter().flatten().collect();
    let tests = lines().filter(|(index, _)| test_lines.contains(&(index + 1))).count();
    Ok(Size { files: 1, source: lines().count() - tests, tests })
}

fn is_test_file(path: &str) -> bool {
    path.contains("/tests/") || path.contains("/benches/") || path.ends_with("/tests.rs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inline_tests_are_counted_apart() {
        let content = "//! A.\n\nfn a() {}\n\n#[cfg(test)]\nmod tests {\n\n    fn b() {}\n}\n";
        let size = rust_size("crates/a/src/lib.rs", content).unwrap();
        assert_eq!(size, Size { files: 1, source: 2, tests: 4 });
    }

    #[test]
    fn test_files_are_tests_throughout() {
        for path in ["crates/a/tests/e2e.rs", "crates/a/src/b/tests.rs", "crates/a/src/tests/more.rs"] {
            assert_eq!(rust_size(path, "fn a() {}\n").unwrap(), Size { files: 1, source: 0, tests: 1 });
        }
    }

    #[test]
    fn packages_are_found_by_folder() {
        let check = |path: &str, expected: Option<&str>| assert_eq!(package_of(path).as_deref(), expected);
        check("crates/df-agent/src/lib.rs", Some("df-agent"));
        check("apps/devfactory/src/main.rs", Some("devfactory"));
        check("xtask/src/main.rs", Some("xtask"));
        check("docs/README.md", None);
        check("README.md", None);
    }
}
