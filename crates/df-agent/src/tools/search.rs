//! glob and grep: sorted, bounded, without ignored files.

use globset::{GlobBuilder, GlobMatcher};
use regex::RegexBuilder;
use serde::Deserialize;
use serde_json::Value;

use super::toolbox::{ToolAnswer, ToolBox, ToolError, arguments};
use crate::workspace::{Kind, relative};

/// Paths in one answer of glob, lines in one of grep.
const GLOB_PATHS_MAX: usize = 300;
const GREP_LINES_MAX: usize = 200;
/// Bytes of a matching line shown.
const GREP_LINE_BYTES_MAX: usize = 240;
/// Bytes read by one grep, and size of a compiled expression.
const GREP_READ_BYTES_MAX: u64 = 64 * 1024 * 1024;
const REGEX_BYTES_MAX: usize = 1024 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Glob {
    pattern: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Grep {
    pattern: String,
    path: Option<String>,
    glob: Option<String>,
}

impl ToolBox {
    pub(crate) fn glob(&mut self, args: Value) -> ToolAnswer {
        let result = self.try_glob(args);
        self.answer(result)
    }

    pub(crate) fn grep(&mut self, args: Value) -> ToolAnswer {
        let result = self.try_grep(args);
        self.answer(result)
    }

    fn try_glob(&self, args: Value) -> Result<String, ToolError> {
        let Glob { pattern } = arguments(args)?;
        let matcher = matcher(&pattern)?;
        let listing = self.workspace.list(".")?;
        let paths: Vec<&str> = listing
            .found
            .iter()
            .filter(|found| matcher.is_match(&found.path))
            .map(|found| found.path.as_str())
            .collect();
        if paths.is_empty() {
            return Ok("no file matches".to_owned());
        }
        let mut text = paths[..paths.len().min(GLOB_PATHS_MAX)].join("\n");
        if paths.len() > GLOB_PATHS_MAX {
            text.push_str(&format!("\n[{} more; use a narrower pattern]", paths.len() - GLOB_PATHS_MAX));
        }
        if listing.cut {
            text.push_str("\n[the tree is larger than what is searched]");
        }
        Ok(text)
    }

    fn try_grep(&self, args: Value) -> Result<String, ToolError> {
        let Grep { pattern, path, glob } = arguments(args)?;
        let regex = RegexBuilder::new(&pattern)
            .size_limit(REGEX_BYTES_MAX)
            .build()
            .map_err(|e| ToolError::Pattern(pattern.clone(), e.to_string()))?;
        let matcher = glob.as_deref().map(matcher).transpose()?;
        let mut lines = Vec::new();
        let mut budget = GREP_READ_BYTES_MAX;
        let mut cut = false;
        for path in self.searched(path.as_deref())? {
            if matcher.as_ref().is_some_and(|m| !m.is_match(&path)) {
                continue;
            }
            // What cannot be read as text has no lines to find.
            let Ok(text) = self.workspace.read_text(&path) else { continue };
            let Some(left) = budget.checked_sub(text.len() as u64) else {
                cut = true;
                break;
            };
            budget = left;
            let found = text.lines().enumerate().filter(|(_, line)| regex.is_match(line));
            lines.extend(
                found
                    .map(|(n, line)| format!("{path}:{}: {}", n + 1, shorten(line)))
                    .take(GREP_LINES_MAX + 1),
            );
            if lines.len() > GREP_LINES_MAX {
                lines.truncate(GREP_LINES_MAX);
                cut = true;
                break;
            }
        }
        if lines.is_empty() && !cut {
            return Ok("no line matches".to_owned());
        }
        if cut {
            lines.push("[more was left out; search more narrowly]".to_owned());
        }
        Ok(lines.join("\n"))
    }

    fn searched(&self, path: Option<&str>) -> Result<Vec<String>, ToolError> {
        let from = relative(path.unwrap_or("."))?;
        if self.workspace.kind(&from)? == Some(Kind::File) {
            return Ok(vec![from]);
        }
        let found = self.workspace.list(&from)?.found;
        Ok(found.into_iter().filter(|f| f.kind == Kind::File).map(|f| f.path).collect())
    }
}

/// A glob over relative paths; one without a slash matches file names anywhere.
fn matcher(pattern: &str) -> Result<GlobMatcher, ToolError> {
    let plain = pattern.strip_prefix("/workspace/").or(pattern.strip_prefix("./")).unwrap_or(pattern);
    let anywhere = if plain.contains('/') { plain.to_owned() } else { format!("**/{plain}") };
    GlobBuilder::new(&anywhere)
        .literal_separator(true)
        .build()
        .map(|glob| glob.compile_matcher())
        .map_err(|e| ToolError::Pattern(pattern.to_owned(), e.to_string()))
}

fn shorten(line: &str) -> String {
    match line.char_indices().find(|(i, c)| i + c.len_utf8() > GREP_LINE_BYTES_MAX) {
        Some((end, _)) => format!("{} [...]", &line[..end]),
        None => line.to_owned(),
    }
}
