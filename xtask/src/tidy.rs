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
    let paths: BTreeSet<&str> = files.iter().map(String::as_str).collect();
    for path in &files {
        check_file(workspace, path, &paths, &mut outcome)?;
    }
    outcome.problems.extend(errors::check(&paths));
    outcome.summary = format!("tidy: {} files", files.len());
    Ok(outcome)
}

fn check_file(
    workspace: &Workspace,
    path: &str,
    paths: &BTreeSet<&str>,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let bytes = workspace.read(path)?;
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
        outcome.problems.extend(links::check(path, content, paths));
    }
    if path.ends_with("Cargo.toml") {
        outcome.problems.extend(manifests::check(path, content));
    }
    Ok(())
}
