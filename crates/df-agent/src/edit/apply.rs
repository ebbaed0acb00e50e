//! Applies a parsed patch: everything is worked out on a staging copy in memory first, then written; when writing
//! fails half way, what was written is put back. A patch that fails leaves every file as it was.

use std::collections::BTreeMap;

use crate::edit::parse::{Hunk, Line, ParseError, Section, parse};
use crate::edit::seek;
use crate::rights::{Denied, Rights};
use crate::workspace::{FileError, NEW_FILE_MODE, Workspace, relative};

/// Lines of a hunk repeated in an error.
const SHOWN_LINES: usize = 6;

/// Why a patch was refused. The texts go to the model; no file has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PatchError {
    #[error("{0}")]
    Parse(#[from] ParseError),
    #[error("{0}")]
    Denied(#[from] Denied),
    #[error("{0}")]
    File(#[from] FileError),
    #[error("`{0}` already exists; use `*** Update File: ` or another name")]
    Exists(String),
    #[error(
        "hunk {hunk} of `{path}`: the line after `@@` is not in the file after line {after}: {anchor}\nHunks must follow the order of the file."
    )]
    Anchor { path: String, hunk: usize, after: usize, anchor: String },
    #[error(
        "hunk {hunk} of `{path}` does not match the file after line {after}. Expected to find:\n{shown}\nRead the file again; hunks must follow its order."
    )]
    Mismatch { path: String, hunk: usize, after: usize, shown: String },
    #[error(
        "hunk {hunk} of `{path}` matches at lines {lines}; add more context, or a line such as `@@ def name` before it"
    )]
    Ambiguous { path: String, hunk: usize, lines: String },
}

/// A file as the patch leaves it: content and mode, or gone.
type Staged = BTreeMap<String, Option<(Vec<u8>, u32)>>;

/// Applies `patch`, all or nothing. Returns one line per changed file, in the order of paths.
pub(crate) fn apply_patch(
    workspace: &Workspace,
    rights: &Rights,
    patch: &str,
) -> Result<Vec<(char, String)>, PatchError> {
    let sections = parse(patch)?;
    let mut staged = Staged::new();
    for section in &sections {
        stage(workspace, rights, section, &mut staged)?;
    }
    commit(workspace, &staged)
}

fn stage(
    workspace: &Workspace,
    rights: &Rights,
    section: &Section,
    staged: &mut Staged,
) -> Result<(), PatchError> {
    match section {
        Section::Add { path, lines } => {
            let path = writable(rights, path)?;
            if current(workspace, staged, &path)?.is_some() {
                return Err(PatchError::Exists(path));
            }
            let mut text = lines.join("\n");
            text.push('\n');
            staged.insert(path, Some((text.into_bytes(), NEW_FILE_MODE)));
        }
        Section::Delete { path } => {
            let path = writable(rights, path)?;
            existing(workspace, staged, &path)?;
            staged.insert(path, None);
        }
        Section::Update { path, move_to, hunks } => {
            let path = writable(rights, path)?;
            let (bytes, mode) = existing(workspace, staged, &path)?;
            let text = String::from_utf8(bytes).map_err(|_| FileError::NotText(path.clone()))?;
            let text = apply_hunks(&path, &text, hunks)?;
            let target = match move_to {
                None => path,
                Some(to) => {
                    let to = writable(rights, to)?;
                    if to != path && current(workspace, staged, &to)?.is_some() {
                        return Err(PatchError::Exists(to));
                    }
                    staged.insert(path, None);
                    to
                }
            };
            staged.insert(target, Some((text.into_bytes(), mode)));
        }
    }
    Ok(())
}

fn writable(rights: &Rights, path: &str) -> Result<String, PatchError> {
    let path = relative(path)?;
    rights.check(&path)?;
    Ok(path)
}

fn current(workspace: &Workspace, staged: &Staged, path: &str) -> Result<Option<(Vec<u8>, u32)>, PatchError> {
    if let Some(file) = staged.get(path) {
        return Ok(file.clone());
    }
    match workspace.mode(path)? {
        None => Ok(None),
        Some(mode) => Ok(Some((workspace.read(path)?, mode))),
    }
}

fn existing(workspace: &Workspace, staged: &Staged, path: &str) -> Result<(Vec<u8>, u32), PatchError> {
    current(workspace, staged, path)?.ok_or_else(|| FileError::Missing(path.to_owned()).into())
}

fn commit(workspace: &Workspace, staged: &Staged) -> Result<Vec<(char, String)>, PatchError> {
    let mut before = Vec::new();
    for path in staged.keys() {
        before.push((path, current(workspace, &Staged::new(), path)?));
    }
    let mut done = Vec::new();
    // Removals first: a file may make room for a directory of its name.
    let removals_first = |wanted: &&(_, Option<(Vec<u8>, u32)>)| wanted.1.is_some();
    let mut order: Vec<_> = staged.iter().map(|(path, file)| (path, file.clone())).collect();
    order.sort_by_key(|wanted| removals_first(&wanted));
    for (path, file) in &order {
        let was = before.iter().find(|(p, _)| p == path).and_then(|(_, was)| was.as_ref());
        let result = set(workspace, path, file.as_ref(), was.is_some());
        if let Err(error) = result {
            for (path, was) in done.into_iter().rev() {
                let path: &str = path;
                // Best effort on a disk that just failed; the worker's diff shows what is left.
                let _ = set(workspace, path, was, true);
            }
            return Err(error.into());
        }
        done.push((path.as_str(), was));
    }
    let mark = |(path, was): &(&String, Option<(Vec<u8>, u32)>)| match (was, &staged[*path]) {
        (None, Some(_)) => Some(('A', (*path).clone())),
        (Some(_), None) => Some(('D', (*path).clone())),
        (Some(_), Some(_)) => Some(('M', (*path).clone())),
        (None, None) => None,
    };
    Ok(before.iter().filter_map(mark).collect())
}

fn set(
    workspace: &Workspace,
    path: &str,
    file: Option<&(Vec<u8>, u32)>,
    exists: bool,
) -> Result<(), FileError> {
    match file {
        Some((bytes, mode)) => workspace.put(path, bytes, *mode),
        None if exists => workspace.remove(path),
        None => Ok(()),
    }
}

/// Works on lines without their ends; the ends and the last line's newline stay as the file has them.
fn apply_hunks(path: &str, text: &str, hunks: &[Hunk]) -> Result<String, PatchError> {
    let crlf = text.contains("\r\n") && !text.replace("\r\n", "").contains('\n');
    let end = if crlf { "\r\n" } else { "\n" };
    let final_newline = text.is_empty() || text.ends_with('\n');
    let mut lines: Vec<String> = text.split(end).map(str::to_owned).collect();
    if final_newline {
        lines.pop();
    }
    let mut out: Vec<String> = Vec::new();
    let mut cursor = 0;
    for (n, hunk) in hunks.iter().enumerate() {
        let at = locate(path, &lines, hunk, n + 1, cursor)?;
        out.extend_from_slice(&lines[cursor..at]);
        cursor = at;
        for line in &hunk.body {
            match line {
                // The file's own line: context found by a lenient match must not be rewritten.
                Line::Keep(_) if cursor < lines.len() => {
                    out.push(lines[cursor].clone());
                    cursor += 1;
                }
                Line::Keep(_) => {}
                Line::Cut(_) => cursor = (cursor + 1).min(lines.len()),
                Line::Put(text) => out.push(text.clone()),
            }
        }
    }
    out.extend_from_slice(&lines[cursor..]);
    let mut text = out.join(end);
    if final_newline && !out.is_empty() {
        text.push_str(end);
    }
    Ok(text)
}

fn locate(path: &str, lines: &[String], hunk: &Hunk, n: usize, cursor: usize) -> Result<usize, PatchError> {
    let mut from = cursor;
    let mut last_anchor = cursor;
    for anchor in &hunk.anchors {
        let found = seek::places(lines, std::slice::from_ref(anchor), from);
        last_anchor = *found.first().ok_or_else(|| PatchError::Anchor {
            path: path.to_owned(),
            hunk: n,
            after: from,
            anchor: anchor.clone(),
        })?;
        from = last_anchor + 1;
    }
    let old = hunk.old();
    if old.is_empty() {
        return Ok(if hunk.anchors.is_empty() || hunk.at_end { lines.len() } else { from });
    }
    let mut found = seek::places(lines, &old, from);
    if found.is_empty() && !hunk.anchors.is_empty() {
        // Many models repeat the `@@` line as the first line of context.
        found = seek::places(lines, &old, last_anchor);
    }
    if found.is_empty() && old.last().is_some_and(String::is_empty) {
        // A blank line at the end of a hunk is often no line of the file.
        found = seek::places(lines, &old[..old.len() - 1], from)
            .into_iter()
            .filter(|at| at + old.len() - 1 == lines.len())
            .collect();
    }
    let at_end = found.iter().rev().find(|at| **at + old.len() >= lines.len());
    match (found.as_slice(), hunk.at_end.then_some(at_end).flatten()) {
        (_, Some(at)) => Ok(*at),
        ([], None) => {
            let shown = old.iter().take(SHOWN_LINES).cloned().collect::<Vec<_>>().join("\n");
            Err(PatchError::Mismatch { path: path.to_owned(), hunk: n, after: from, shown })
        }
        ([one], None) => Ok(*one),
        ([first, ..], None) if !hunk.anchors.is_empty() => Ok(*first),
        (several, None) => {
            let lines = several.iter().take(5).map(|at| (at + 1).to_string()).collect::<Vec<_>>().join(", ");
            Err(PatchError::Ambiguous { path: path.to_owned(), hunk: n, lines })
        }
    }
}

#[cfg(test)]
mod tests;
