//! Replaces one exact, unique piece of text; never guesses by similarity.

/// Lines of the file shown around the nearest place when nothing matches.
const NEAR_LINES: usize = 8;

/// Why a replacement was refused. The texts go to the model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReplaceError {
    #[error("`old` is empty; to make a new file use write")]
    EmptyOld,
    #[error("`old` and `new` are the same")]
    NoChange,
    #[error("`old` does not occur in the file.{0}")]
    NotFound(String),
    #[error(
        "`old` occurs {count} times (first at lines {lines}); add surrounding lines to make it unique, or set replace_all"
    )]
    Ambiguous { count: usize, lines: String },
}

/// How many places to replace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Places {
    One,
    All,
}

/// `text` with `old` replaced by `new`, and how many places changed. A file with CRLF line ends also matches text
/// with plain ones, and keeps its own.
pub(crate) fn replace(
    text: &str,
    old: &str,
    new: &str,
    places: Places,
) -> Result<(String, usize), ReplaceError> {
    if old.is_empty() {
        return Err(ReplaceError::EmptyOld);
    }
    if old == new {
        return Err(ReplaceError::NoChange);
    }
    if !text.contains(old) && text.contains("\r\n") && !old.contains('\r') {
        let crlf = |s: &str| s.replace('\n', "\r\n");
        let (old, new) = (crlf(old), crlf(&new.replace("\r\n", "\n")));
        if text.contains(&old) {
            return replace_found(text, &old, &new, places);
        }
    }
    replace_found(text, old, new, places)
}

fn replace_found(text: &str, old: &str, new: &str, places: Places) -> Result<(String, usize), ReplaceError> {
    let at: Vec<usize> = text.match_indices(old).map(|(i, _)| i).collect();
    match (at.len(), places) {
        (0, Places::One | Places::All) => Err(ReplaceError::NotFound(nearest(text, old))),
        (1, Places::One) | (1.., Places::All) => Ok((text.replace(old, new), at.len())),
        (count, Places::One) => {
            let line = |i: &usize| (text[..*i].matches('\n').count() + 1).to_string();
            let lines = at.iter().take(5).map(line).collect::<Vec<_>>().join(", ");
            Err(ReplaceError::Ambiguous { count, lines })
        }
    }
}

/// Shows the part of the file that shares most lines with `old`, ignoring white space at the ends of lines.
fn nearest(text: &str, old: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let wanted: Vec<&str> = old.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let span = old.lines().count().max(1);
    let score = |at: usize| {
        let end = (at + span).min(lines.len());
        lines[at..end].iter().filter(|l| wanted.contains(&l.trim())).count()
    };
    let best = (0..lines.len()).map(|at| (score(at), at)).max_by_key(|(n, at)| (*n, usize::MAX - at));
    match best {
        Some((n, at)) if n > 0 => {
            let end = (at + span.min(NEAR_LINES)).min(lines.len());
            let shown = lines[at..end].join("\n");
            format!(" The nearest lines are {}-{end}; check white space and spelling:\n{shown}", at + 1)
        }
        Some(_) | None => " No line of it is in the file; read the file again.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, old: &str, new: &str, places: Places, expect: Result<&str, &str>) {
        match (replace(text, old, new, places), expect) {
            (Ok((got, _)), Ok(want)) => assert_eq!(got, want),
            (Err(got), Err(want)) => assert!(got.to_string().contains(want), "{got}"),
            (got, want) => panic!("{got:?} instead of {want:?}"),
        }
    }

    #[test]
    fn only_exact_and_unique_text_is_replaced() {
        check("a b c", "b", "x", Places::One, Ok("a x c"));
        check("b b", "b", "x", Places::All, Ok("x x"));
        check("b\nb\n", "b", "x", Places::One, Err("occurs 2 times (first at lines 1, 2)"));
        check("a", "", "x", Places::One, Err("empty"));
        check("a", "a", "a", Places::One, Err("the same"));
        check("a\r\nb\r\n", "a\nb", "a\nc", Places::One, Ok("a\r\nc\r\n"));
    }

    #[test]
    fn a_miss_shows_the_nearest_lines() {
        let text = "def f():\n    return 1\n\ndef g():\n    return 2\n";
        check(text, "def g():\n  return 2", "", Places::One, Err("lines are 4-5"));
        check(text, "zebra", "", Places::All, Err("No line of it"));
    }
}
