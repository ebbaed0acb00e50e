//! `cargo xtask tidy`: rules about the tree that no compiler lint covers.

use std::collections::BTreeSet;

use crate::{outcome::Outcome, workspace::Workspace};

mod errors;
mod links;
mod manifests;
mod rust;
mod text;

pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<Outcome> {
    let files = workspace.files()?;
    let mut outcome = Outcome::default();
    let tree = Tree {
        workspace,
        paths: files.iter().map(String::as_str).collect(),
        lints: manifests::workspace_lints(&workspace.read_text("Cargo.toml")?)?,
    };
    for path in &files {
        tree.check_file(path, &mut outcome)?;
    }
    outcome.problems.extend(errors::check(&tree.paths));
    outcome.summary = format!("tidy: {} files", files.len());
    Ok(outcome)
}

/// What the rules for a single file need to know of the others.
struct Tree<'a> {
    workspace: &'a Workspace,
    paths: BTreeSet<&'a str>,
    lints: toml::Table,
}

impl Tree<'_> {
    fn check_file(&self, path: &str, outcome: &mut Outcome) -> anyhow::Result<()> {
        let bytes = self.workspace.read(path)?;
        let Some(content) = text::decode(&bytes) else {
            outcome.problems.push(format!("{path}: binary files are not kept in the repository"));
            return Ok(());
        };
        outcome.problems.extend(text::check(path, content));
        outcome.notes.extend(text::long_file(path, content));
        if path.ends_with(".rs") {
            outcome.problems.extend(rust::check(path, content));
        }
        if path.ends_with(".md") {
            outcome.problems.extend(links::check(path, content, &self.paths));
        }
        if path.ends_with("Cargo.toml") {
            outcome.problems.extend(manifests::check(path, content, &self.lints));
        }
        Ok(())
    }
}
