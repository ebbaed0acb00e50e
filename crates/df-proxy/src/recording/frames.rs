//! What versions of Python print differently around the same failure: carets, frames of the standard library, source
//! lines of an expression that spans several, warnings of the interpreter.

use std::sync::LazyLock;

use regex::Regex;

struct Patterns {
    frame: Regex,
    library: Regex,
    carets: Regex,
    warning: Regex,
}

static PATTERNS: LazyLock<Option<Patterns>> = LazyLock::new(|| {
    Some(Patterns {
        frame: Regex::new(r#"^\s*File "[^"]+", line \d+"#).ok()?,
        library: Regex::new(r#"^\s*File "([^"]*/lib(64)?/python3(\.\d+)?/[^"]*|<frozen [^"]*)", line \d+"#)
            .ok()?,
        carets: Regex::new(r"^[ ]*[~^][~^ ]*$").ok()?,
        warning: Regex::new(r"^\S+:\d+: (Resource|Deprecation|PendingDeprecation|Syntax)Warning: ").ok()?,
    })
});

fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// `text` with LF line ends, without trailing blanks, and without the noise described above.
pub(super) fn without_interpreter_noise(text: &str) -> String {
    let lines: Vec<&str> = text.split('\n').map(|l| l.trim_end()).collect();
    let Some(patterns) = PATTERNS.as_ref() else { return lines.join("\n") };
    kept_of(patterns, &lines).join("\n")
}

fn kept_of<'a>(patterns: &Patterns, lines: &[&'a str]) -> Vec<&'a str> {
    let mut kept: Vec<&str> = Vec::with_capacity(lines.len());
    let mut at = 0;
    while let Some(&line) = lines.get(at) {
        at += 1;
        if patterns.carets.is_match(line) {
            continue;
        }
        if patterns.warning.is_match(line) {
            // The source line that caused it follows, indented.
            at += usize::from(
                lines.get(at).is_some_and(|next| indent(next) > indent(line) && !next.is_empty()),
            );
            continue;
        }
        if !patterns.frame.is_match(line) {
            kept.push(line);
            continue;
        }
        let library = patterns.library.is_match(line);
        if !library {
            kept.push(line);
        }
        let body = body_of_frame(patterns, &lines[at..], indent(line));
        if !library && let Some(source) = lines[at..at + body].iter().find(|l| !patterns.carets.is_match(l)) {
            kept.push(source);
        }
        at += body;
    }
    kept
}

/// How many of `lines` belong to a frame whose `File` line is indented by `outer`.
fn body_of_frame(patterns: &Patterns, lines: &[&str], outer: usize) -> usize {
    lines.iter().take_while(|l| !l.is_empty() && indent(l) > outer && !patterns.frame.is_match(l)).count()
}
