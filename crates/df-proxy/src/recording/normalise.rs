//! Removes from a text what differs between two runs of the same work: places, times, ids, and what another version
//! of Python prints differently. Idempotent. docs/recordings.md lists the rules; keep it true.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde_json::Value;

use super::frames;

/// Deepest JSON that is looked into; what is deeper is compared as it is.
const MAX_DEPTH: usize = 32;
/// How often the rules are applied at most.
const MAX_PASSES: usize = 8;

struct Rule {
    pattern: Regex,
    replacement: &'static str,
}

/// In order: a rule sees what the rules before it have left.
const RULES: &[(&str, &str)] = &[
    // Identifiers.
    (
        r"(^|[^0-9a-zA-Z])[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b",
        "$1<uuid>",
    ),
    // Instants: ISO 8601, HTTP dates, access logs, ctime and git, ls, bare dates, seconds and milliseconds of the epoch.
    (r"\b\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}([.,]\d+)?)?( ?(Z\b|UTC\b|[+-]\d{2}:?\d{2}\b))?", "<time>"),
    (
        r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun),? (\d{1,2} [A-Z][a-z]{2}|[A-Z][a-z]{2} +\d{1,2})( \d{4})? \d{2}:\d{2}:\d{2}( (GMT|UTC|[A-Z]{3,4}))?( \d{4})?( [+-]\d{4})?\b",
        "<time>",
    ),
    (r"\b\d{1,2}/[A-Z][a-z]{2}/\d{4}[: ]\d{2}:\d{2}:\d{2}( [+-]\d{4})?\b", "<time>"),
    (r"\b(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) +\d{1,2} +(\d{2}:\d{2}|\d{4})\b", "<time>"),
    (r"\b(19|20)\d{2}-\d{2}-\d{2}\b", "<date>"),
    (r"\b1[5-9]\d{8}(\.\d+)?\b|\b1[5-9]\d{11}\b", "<time>"),
    // Lengths of time; before the clock times, which would take the front of `0:00:01.5`.
    (r"\b\d+:\d{2}:\d{2}\.\d+\b", "<duration>"),
    (r"\b\d{1,2}:\d{2}:\d{2}\b", "<time>"),
    (r"\b(\d+h ?)?(\d+m ?)\d+(\.\d+)?s\b", "<duration>"),
    (
        r"\b\d+(\.\d+)?(e[+-]?\d+)? ?(ns|µs|us|usec|ms|msec|milliseconds?|s|secs?|seconds?|min|minutes?)\b",
        "<duration>",
    ),
    // Ports of this machine.
    (r"(127\.0\.0\.1|0\.0\.0\.0|localhost|\[::1\]|\[::\]):\d{2,5}\b", "$1:<port>"),
    (r#"(['"](?:127\.0\.0\.1|0\.0\.0\.0|localhost|::1)['"], ?)\d{2,5}\b"#, "$1<port>"),
    (
        r"(?i)\b(port\b['\x22]?(?: ?[=:])? ?)(?:[1-9]\d{4}|102[4-9]|10[3-9]\d|1[1-9]\d{2}|[2-9]\d{3})\b",
        "$1<port>",
    ),
    // Processes and descriptors.
    (r"(?i)\b(pid[ =:]{1,2})\d+\b", "$1<pid>"),
    (r"\bfd=\d+", "fd=<fd>"),
    // Versions of Python.
    (r"\bPython([ /])3\.\d+(\.\d+)?((a|b|rc)\d+)?\+?", "Python$1<version>"),
    (r"\bpython3\.\d+\b", "python3"),
    (r"\bcpython-3\d{1,2}\b", "cpython-<version>"),
    // Addresses and hashes.
    (r"\b0x[0-9a-fA-F]{6,}\b", "<hex>"),
    (r"\b[0-9a-fA-F]{12,}\b", "<hex>"),
    // How much of an output was left out depends on how long the varying parts were.
    (
        r"\b\d+ ((?:more )?(?:bytes|chars|characters|lines) (?:omitted|truncated|elided|cut|left out))",
        "<n> $1",
    ),
];

static COMPILED: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    RULES
        .iter()
        .filter_map(|(pattern, replacement)| Some(Rule { pattern: Regex::new(pattern).ok()?, replacement }))
        .collect()
});

/// Paths below places whose name is decided at run time. The character before keeps URL paths out.
static PATH: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r#"(?P<before>^|[^\w/>.~-])/(?:tmp|var/tmp|dev/shm|home|root|run|work|workspace|private/tmp|var/folders|Users)(?P<rest>(?:/[^\s"'`:,;()<>\[\]{}|/\\]+)+)"#,
    )
    .ok()
});
static TEMP_NAME: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\btmp[a-z0-9_]{8}\b").ok());

/// The text without what varies. A replacement can make room for another, so rules are applied until nothing changes.
pub(crate) fn normalise_text(text: &str) -> String {
    let mut text = Cow::Borrowed(text);
    for _ in 0..MAX_PASSES {
        let next = one_pass(&text);
        if next == text {
            break;
        }
        text = Cow::Owned(next);
    }
    text.into_owned()
}

fn one_pass(text: &str) -> String {
    if let Some(mut value) = json_inside(text) {
        normalise_value(&mut value, 0);
        return value.to_string();
    }
    let lines = frames::without_interpreter_noise(text);
    let mut text = replace_paths(&lines);
    for rule in COMPILED.iter() {
        if let Cow::Owned(changed) = rule.pattern.replace_all(&text, rule.replacement) {
            text = changed;
        }
    }
    text.trim_end().to_owned()
}

fn json_inside(text: &str) -> Option<Value> {
    if !text.trim_start().starts_with(['{', '[']) {
        return None;
    }
    serde_json::from_str(text).ok()
}

/// Normalises every text inside `value`, and numbers that are instants or lengths of time.
pub(super) fn normalise_value(value: &mut Value, depth: usize) {
    if depth > MAX_DEPTH {
        return;
    }
    match value {
        Value::String(text) => *text = normalise_text(text),
        Value::Array(items) => items.iter_mut().for_each(|item| normalise_value(item, depth + 1)),
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                if field.is_number() && ["duration", "elapsed", "took"].iter().any(|n| name.contains(n)) {
                    *field = "<duration>".into();
                }
                normalise_value(field, depth + 1);
            }
        }
        Value::Number(number) => {
            let text = number.to_string();
            let changed = normalise_text(&text);
            if changed != text {
                *value = changed.into();
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

/// `/tmp/tmpab12cd34/app/x.py` becomes `<path>/x.py`; a name made by the temp directory itself goes too.
fn replace_paths(text: &str) -> String {
    let (Some(path), Some(temp)) = (PATH.as_ref(), TEMP_NAME.as_ref()) else { return text.to_owned() };
    let text = path.replace_all(text, |found: &Captures<'_>| {
        let before = found.name("before").map_or("", |m| m.as_str());
        let parts: Vec<&str> = found.name("rest").map_or("", |m| m.as_str()).split('/').skip(1).collect();
        match parts.as_slice() {
            [_, .., last] if !temp.is_match(last) => format!("{before}<path>/{last}"),
            _ => format!("{before}<path>"),
        }
    });
    temp.replace_all(&text, "<tmp>").into_owned()
}

#[cfg(test)]
mod tests;
