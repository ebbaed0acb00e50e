//! Reads V4A patches (`*** Begin Patch`), the format that GPT and Codex models write unasked.

/// Largest patch, in bytes, and most files in one.
const PATCH_BYTES_MAX: usize = 1024 * 1024;
const SECTIONS_MAX: usize = 200;

/// Why a patch cannot be read. The texts go to the model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParseError {
    #[error("the patch has {0} bytes, the limit is {PATCH_BYTES_MAX}")]
    TooLarge(usize),
    #[error("the patch changes more than {SECTIONS_MAX} files")]
    TooManySections,
    #[error("a patch starts with the line `*** Begin Patch`")]
    NoBegin,
    #[error("the patch has no `*** End Patch` line; it seems to be cut off")]
    NoEnd,
    #[error("the patch is empty")]
    Empty,
    #[error(
        "line {line}: `{text}` is not `*** Add File: `, `*** Update File: ` or `*** Delete File: ` followed by a path"
    )]
    Header { line: usize, text: String },
    #[error("line {line}: every line of an added file starts with `+`")]
    AddLine { line: usize },
    #[error("line {line}: a line in a hunk starts with a space, `+`, `-` or `@@`; got `{text}`")]
    HunkLine { line: usize, text: String },
    #[error("line {line}: the update of `{path}` changes nothing")]
    EmptyUpdate { line: usize, path: String },
}

/// One file's part of a patch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Section {
    Add { path: String, lines: Vec<String> },
    Delete { path: String },
    Update { path: String, move_to: Option<String>, hunks: Vec<Hunk> },
}

/// One place of change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Hunk {
    /// Lines after `@@`, outermost first: the hunk lies after them.
    pub(crate) anchors: Vec<String>,
    pub(crate) body: Vec<Line>,
    pub(crate) at_end: bool,
}

/// One line of a hunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    Keep(String),
    Cut(String),
    Put(String),
}

impl Hunk {
    /// The lines that must be in the file.
    pub(crate) fn old(&self) -> Vec<String> {
        let old = |line: &Line| match line {
            Line::Keep(text) | Line::Cut(text) => Some(text.clone()),
            Line::Put(_) => None,
        };
        self.body.iter().filter_map(old).collect()
    }
}

/// Parses the patch; text around the markers (a heredoc, a code fence) is ignored.
pub(crate) fn parse(patch: &str) -> Result<Vec<Section>, ParseError> {
    if patch.len() > PATCH_BYTES_MAX {
        return Err(ParseError::TooLarge(patch.len()));
    }
    let lines: Vec<&str> = patch.lines().collect();
    let begin = lines.iter().position(|l| l.trim() == "*** Begin Patch").ok_or(ParseError::NoBegin)?;
    let end = lines.iter().rposition(|l| l.trim() == "*** End Patch").ok_or(ParseError::NoEnd)?;
    let mut reader = Reader { lines: &lines[..end.max(begin + 1)], at: begin + 1 };
    let mut sections = Vec::new();
    while let Some(line) = reader.peek() {
        if line.trim().is_empty() {
            reader.at += 1;
            continue;
        }
        if sections.len() >= SECTIONS_MAX {
            return Err(ParseError::TooManySections);
        }
        sections.push(reader.section()?);
    }
    if sections.is_empty() { Err(ParseError::Empty) } else { Ok(sections) }
}

struct Reader<'p> {
    lines: &'p [&'p str],
    at: usize,
}

impl<'p> Reader<'p> {
    fn peek(&self) -> Option<&'p str> {
        self.lines.get(self.at).copied()
    }

    fn section(&mut self) -> Result<Section, ParseError> {
        let text = self.peek().unwrap_or_default().trim_end();
        let line = self.at + 1;
        self.at += 1;
        let after = |prefix: &str| {
            text.trim_start().strip_prefix(prefix).map(|p| p.trim().to_owned()).filter(|p| !p.is_empty())
        };
        if let Some(path) = after("*** Add File:") {
            Ok(Section::Add { path, lines: self.added()? })
        } else if let Some(path) = after("*** Delete File:") {
            Ok(Section::Delete { path })
        } else if let Some(path) = after("*** Update File:") {
            self.update(path, line)
        } else {
            Err(ParseError::Header { line, text: shorten(text) })
        }
    }

    fn added(&mut self) -> Result<Vec<String>, ParseError> {
        let mut lines = Vec::new();
        while let Some(line) = self.peek().filter(|l| !is_header(l)) {
            match line.strip_prefix('+') {
                Some(content) => lines.push(content.to_owned()),
                // A blank line before the next header is harmless; inside the file it would be a lost `+`.
                None if line.trim().is_empty() && self.rest_is_blank() => {}
                None => return Err(ParseError::AddLine { line: self.at + 1 }),
            }
            self.at += 1;
        }
        Ok(lines)
    }

    fn rest_is_blank(&self) -> bool {
        let rest = &self.lines[self.at..];
        rest.iter().take_while(|l| !is_header(l)).all(|l| l.trim().is_empty())
    }

    fn update(&mut self, path: String, line: usize) -> Result<Section, ParseError> {
        let move_to = self
            .peek()
            .and_then(|l| l.trim().strip_prefix("*** Move to:"))
            .map(|to| to.trim().to_owned())
            .filter(|to| !to.is_empty());
        if move_to.is_some() {
            self.at += 1;
        }
        let mut hunks = Vec::new();
        let mut hunk = Hunk::default();
        while let Some(line) = self.peek().filter(|l| !is_header(l) || is_end_of_file(l)) {
            self.hunk_line(line, &mut hunk, &mut hunks)?;
            self.at += 1;
        }
        if !hunk.body.is_empty() {
            hunks.push(hunk);
        }
        if hunks.is_empty() && move_to.is_none() {
            return Err(ParseError::EmptyUpdate { line, path });
        }
        Ok(Section::Update { path, move_to, hunks })
    }

    fn hunk_line(&self, line: &str, hunk: &mut Hunk, hunks: &mut Vec<Hunk>) -> Result<(), ParseError> {
        if let Some(anchor) = line.strip_prefix("@@") {
            if !hunk.body.is_empty() {
                hunks.push(std::mem::take(hunk));
            }
            let anchor = anchor.trim_end().strip_prefix(' ').unwrap_or(anchor.trim_end());
            // `@@ -1,3 +1,4 @@` is a habit from unified diffs; line numbers are not trusted.
            let numbers =
                anchor.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
            if !anchor.is_empty() && !numbers {
                hunk.anchors.push(anchor.to_owned());
            }
            return Ok(());
        }
        if is_end_of_file(line) {
            hunk.at_end = true;
            if !hunk.body.is_empty() {
                hunks.push(std::mem::take(hunk));
            }
            return Ok(());
        }
        match line.chars().next() {
            None => {
                if self.rest_is_blank() {
                    return Ok(());
                }
                hunk.body.push(Line::Keep(String::new()));
            }
            Some(' ') => hunk.body.push(Line::Keep(line[1..].to_owned())),
            Some('-') => hunk.body.push(Line::Cut(line[1..].to_owned())),
            Some('+') => hunk.body.push(Line::Put(line[1..].to_owned())),
            Some(_) => return Err(ParseError::HunkLine { line: self.at + 1, text: shorten(line) }),
        }
        Ok(())
    }
}

fn is_header(line: &str) -> bool {
    line.starts_with("*** ")
}

fn is_end_of_file(line: &str) -> bool {
    line.trim_end() == "*** End of File"
}

fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, expect: &str) {
        let error = parse(body).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    }

    #[test]
    fn all_kinds_of_sections_are_read() {
        let patch = "cat <<'EOF'\n*** Begin Patch\n*** Add File: a.txt\n+one\n+\n\n*** Delete File: b.txt\n\
                     *** Update File: c.py\n*** Move to: d.py\n@@ class A\n@@ def f\n x\n-y\n+z\n*** End of File\n*** End Patch\nEOF";
        let lines = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let hunk = Hunk {
            anchors: lines(&["class A", "def f"]),
            body: vec![Line::Keep("x".into()), Line::Cut("y".into()), Line::Put("z".into())],
            at_end: true,
        };
        assert_eq!(
            parse(patch).unwrap(),
            [
                Section::Add { path: "a.txt".into(), lines: lines(&["one", ""]) },
                Section::Delete { path: "b.txt".into() },
                Section::Update { path: "c.py".into(), move_to: Some("d.py".into()), hunks: vec![hunk] },
            ]
        );
    }

    #[test]
    fn malformed_patches_say_where() {
        check("--- a\n+++ b\n", "Begin Patch");
        check("*** Begin Patch\n*** Add File: a\n+x", "cut off");
        check("*** Begin Patch\n*** End Patch", "empty");
        check("*** Begin Patch\n*** Frob File: a\n*** End Patch", "line 2");
        check("*** Begin Patch\n*** Add File: a\nx\n*** End Patch", "line 3: every line");
        check("*** Begin Patch\n*** Add File: a\n+x\n\n+y\n*** End Patch", "line 4: every line");
        check("*** Begin Patch\n*** Update File: a\n*** End Patch", "changes nothing");
        check("*** Begin Patch\n*** Update File: a\n@@\nfoo\n*** End Patch", "got `foo`");
        check("*** End Patch\n*** Begin Patch\n", "empty");
        check(&"x".repeat(PATCH_BYTES_MAX + 1), "limit");
    }
}
