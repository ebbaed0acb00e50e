//! Every package inherits the workspace's lints: a crate that forgets to is a crate without rules.
//!
//! Cargo cannot inherit all lints but one, so a package that must relax one copies the tables; then every other
//! lint has to stand there at the workspace's level.

use anyhow::Context;
use toml::{Table, Value};

/// A manifest with tables of its own, and the one lint in which they differ.
struct Relaxed {
    manifest: &'static str,
    tool: &'static str,
    lint: &'static str,
    level: &'static str,
}

/// The sandbox is the one package that may hold unsafe code: refused, with each use excused and explained.
const RELAXED: [Relaxed; 1] =
    [Relaxed { manifest: "crates/df-sandbox/Cargo.toml", tool: "rust", lint: "unsafe_code", level: "deny" }];

/// The `[workspace.lints]` of the root manifest.
pub(super) fn workspace_lints(root_manifest: &str) -> anyhow::Result<Table> {
    let manifest: Table = root_manifest.parse().context("reading the root manifest")?;
    let lints = manifest.get("workspace").and_then(|workspace| workspace.get("lints"));
    lints.and_then(Value::as_table).cloned().context("the root manifest has no [workspace.lints]")
}

pub(super) fn check(path: &str, content: &str, workspace: &Table) -> Vec<String> {
    let manifest: Table = match content.parse() {
        Ok(manifest) => manifest,
        Err(error) => return vec![format!("{path}: {error}")],
    };
    if !manifest.contains_key("package") {
        return Vec::new();
    }
    let own = manifest.get("lints").and_then(Value::as_table);
    if own.and_then(|lints| lints.get("workspace")).and_then(Value::as_bool) == Some(true) {
        return Vec::new();
    }
    match (own, RELAXED.iter().find(|relaxed| relaxed.manifest == path)) {
        (Some(own), Some(relaxed)) => differences(own, workspace, relaxed),
        _ => vec![format!("{path}: write `[lints]` with `workspace = true`")],
    }
}

fn differences(own: &Table, workspace: &Table, relaxed: &Relaxed) -> Vec<String> {
    let mut problems = Vec::new();
    for (tool, lints) in workspace {
        for (lint, level) in lints.as_table().into_iter().flatten() {
            let here = relaxed.tool == tool && relaxed.lint == lint;
            let wanted = if here { &Value::from(relaxed.level) } else { level };
            if own.get(tool).and_then(|lints| lints.get(lint)) != Some(wanted) {
                problems.push(format!("{}: [lints.{tool}] must have {lint} = {wanted}", relaxed.manifest));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "[workspace.lints.rust]\nunsafe_code = \"forbid\"\nunused = \"warn\"\n";
    const RELAXING: &str = RELAXED[0].manifest;

    fn problems(path: &str, lints: &str) -> Vec<String> {
        check(path, &format!("[package]\nname = \"a\"\n{lints}"), &workspace_lints(ROOT).unwrap())
    }

    #[test]
    fn inherited_lints_pass_and_anything_else_is_refused() {
        assert!(problems("a/Cargo.toml", "[lints]\nworkspace = true\n").is_empty());
        assert_eq!(problems("a/Cargo.toml", "").len(), 1);
        assert_eq!(problems("a/Cargo.toml", "[lints]\nworkspace = false\n").len(), 1);
        let copied = "[lints.rust]\nunsafe_code = \"forbid\"\nunused = \"warn\"\n";
        assert_eq!(problems("a/Cargo.toml", copied).len(), 1, "a copy goes stale");
    }

    #[test]
    fn a_relaxing_package_may_differ_in_its_one_lint_only() {
        let good = "[lints.rust]\nunsafe_code = \"deny\"\nunused = \"warn\"\nmore = \"deny\"\n";
        assert!(problems(RELAXING, good).is_empty());
        assert_eq!(problems(RELAXING, "[lints.rust]\nunsafe_code = \"deny\"\n").len(), 1, "one is missing");
        let weaker = "[lints.rust]\nunsafe_code = \"deny\"\nunused = \"allow\"\n";
        assert_eq!(problems(RELAXING, weaker).len(), 1);
        assert_eq!(problems(RELAXING, "[lints.rust]\nunused = \"warn\"\n").len(), 1, "relaxed, not left out");
        let off = "[lints.rust]\nunsafe_code = \"allow\"\nunused = \"warn\"\n";
        assert_eq!(problems(RELAXING, off).len(), 1);
        assert_eq!(problems(RELAXING, "").len(), 1);
    }

    #[test]
    fn a_virtual_manifest_has_no_lints_of_its_own_and_a_broken_one_is_reported() {
        let lints = workspace_lints(ROOT).unwrap();
        assert!(check("Cargo.toml", ROOT, &lints).is_empty());
        assert_eq!(check("Cargo.toml", "[package", &lints).len(), 1);
        assert!(workspace_lints("[workspace]\n").is_err());
    }
}
