//! read, write, edit, apply_patch.

use df_contract::Digest;
use serde::Deserialize;
use serde_json::Value;

use super::toolbox::{ToolAnswer, ToolBox, ToolError, arguments};
use crate::edit::apply::apply_patch;
use crate::edit::replace::{Places, replace};
use crate::workspace::relative;

/// Lines and bytes shown by one read.
const READ_LINES_MAX: usize = 2_000;
const READ_BYTES_MAX: usize = 48 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    path: String,
    offset: Option<usize>,
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Write {
    path: String,
    content: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Edit {
    path: String,
    old: String,
    new: String,
    #[serde(default)]
    replace_all: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    patch: String,
}

impl ToolBox {
    pub(crate) fn read(&mut self, args: Value) -> ToolAnswer {
        let result = self.try_read(args);
        self.answer(result)
    }

    pub(crate) fn write(&mut self, args: Value) -> ToolAnswer {
        let result = self.try_write(args);
        self.answer(result)
    }

    pub(crate) fn edit(&mut self, args: Value) -> ToolAnswer {
        let result = self.try_edit(args);
        self.answer(result)
    }

    pub(crate) fn patch(&mut self, args: Value) -> ToolAnswer {
        let result = self.try_patch(args);
        self.answer(result)
    }

    fn try_read(&mut self, args: Value) -> Result<String, ToolError> {
        let Read { path, offset, limit } = arguments(args)?;
        let (path, text) = match path.strip_prefix("log:") {
            Some(number) => (path.clone(), self.log(number)?),
            None => {
                let path = relative(&path)?;
                let text = self.workspace.read_text(&path)?;
                self.seen.insert(path.clone(), Digest::of(text.as_bytes()));
                (path, text)
            }
        };
        numbered(&path, &text, offset.unwrap_or(1).max(1), limit.unwrap_or(READ_LINES_MAX))
    }

    fn try_write(&mut self, args: Value) -> Result<String, ToolError> {
        let Write { path, content } = arguments(args)?;
        let path = relative(&path)?;
        self.rights.check(&path)?;
        let existed = self.workspace.mode(&path)?.is_some();
        if existed {
            self.fresh(&path)?;
        }
        self.workspace.replace(&path, content.as_bytes())?;
        self.seen.insert(path.clone(), Digest::of(content.as_bytes()));
        let verb = if existed { "replaced" } else { "made" };
        Ok(format!("{verb} {path} ({} lines, {} bytes)", content.lines().count(), content.len()))
    }

    fn try_edit(&mut self, args: Value) -> Result<String, ToolError> {
        let Edit { path, old, new, replace_all } = arguments(args)?;
        let path = relative(&path)?;
        self.rights.check(&path)?;
        self.fresh(&path)?;
        let text = self.workspace.read_text(&path)?;
        let places = if replace_all { Places::All } else { Places::One };
        let (text, count) = replace(&text, &old, &new, places)?;
        self.workspace.replace(&path, text.as_bytes())?;
        self.seen.insert(path.clone(), Digest::of(text.as_bytes()));
        let places = if count == 1 { "place" } else { "places" };
        Ok(format!("edited {path} in {count} {places}"))
    }

    fn try_patch(&mut self, args: Value) -> Result<String, ToolError> {
        let Patch { patch } = arguments(args)?;
        let done = apply_patch(&self.workspace, &self.rights, &patch)?;
        let mut lines = vec!["applied:".to_owned()];
        for (mark, path) in done {
            match self.workspace.read(&path) {
                Ok(bytes) if mark != 'D' => self.seen.insert(path.clone(), Digest::of(&bytes)),
                Ok(_) | Err(_) => self.seen.remove(&path),
            };
            lines.push(format!("{mark} {path}"));
        }
        Ok(lines.join("\n"))
    }

    /// That the model knows the file as it is now.
    fn fresh(&self, path: &str) -> Result<(), ToolError> {
        let now = Digest::of(&self.workspace.read(path)?);
        match self.seen.get(path) {
            None => Err(ToolError::Unread(path.to_owned())),
            Some(seen) if *seen == now => Ok(()),
            Some(_) => Err(ToolError::Stale(path.to_owned())),
        }
    }
}

fn numbered(path: &str, text: &str, offset: usize, limit: usize) -> Result<String, ToolError> {
    let total = text.lines().count();
    if total == 0 {
        return Ok(format!("{path} is empty"));
    }
    if offset > total {
        return Err(ToolError::PastEnd { offset, lines: total });
    }
    let mut shown = String::new();
    let mut next = offset;
    for line in text.lines().skip(offset - 1).take(limit.clamp(1, READ_LINES_MAX)) {
        if shown.len() + line.len() > READ_BYTES_MAX {
            break;
        }
        shown.push_str(&format!("{next:>5}\t{line}\n"));
        next += 1;
    }
    if next == offset {
        return Err(ToolError::LongLine { path: path.to_owned(), limit: READ_BYTES_MAX });
    }
    if next <= total {
        shown.push_str(&format!("[lines {offset}-{} of {total}; go on with offset {next}]\n", next - 1));
    }
    Ok(shown)
}
