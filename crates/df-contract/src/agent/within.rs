//! Whether everything that one path pattern matches is matched by another.

use crate::plan::names_a_file;

/// Characters that make a component a pattern.
const WILD: [char; 4] = ['*', '?', '[', '{'];

/// Whether every path that `inner` matches is one that `outer` matches, as [`crate::plan::pattern_matches`] has it.
/// Errs on the side of no. `docs` and `docs/**` count as the same, and a last name that ends as a file's does (`docs/a.md`)
/// as a file, below which nothing lies.
pub fn pattern_within(inner: &str, outer: &str) -> bool {
    if inner == outer {
        return true;
    }
    let (Some(outer), false) = (components(outer), is_torn(inner)) else { return false };
    let Some(inner) = components(inner) else { return false };
    // Row by row: fits[j] says whether the rest of `inner` from here lies within `outer[j..]`.
    let all_any = |rest: &[&str]| rest.iter().all(|part| *part == "**");
    let mut fits: Vec<bool> = (0..=outer.len()).map(|j| all_any(&outer[j..])).collect();
    for part in inner.iter().rev() {
        let after = std::mem::replace(&mut fits, vec![false; outer.len() + 1]);
        for j in (0..outer.len()).rev() {
            fits[j] = match (*part, outer[j]) {
                // The outer `**` swallows this component, or ends before it.
                (_, "**") => after[j] || (*part != "**" && fits[j + 1]),
                ("**", _) => false,
                (x, y) => after[j + 1] && name_within(x, y),
            };
        }
    }
    fits[0]
}

/// The pattern cut at its slashes, `**` for what lies below a directory named in full. `None` where a group or a class
/// crosses a slash.
fn components(pattern: &str) -> Option<Vec<&str>> {
    if is_torn(pattern) {
        return None;
    }
    let mut parts: Vec<&str> = pattern.trim_end_matches('/').split('/').collect();
    if !pattern.contains(WILD) && !names_a_file(pattern) {
        parts.push("**");
    }
    Some(parts)
}

fn is_torn(pattern: &str) -> bool {
    let odd = |part: &str, open: char, close: char| part.matches(open).count() != part.matches(close).count();
    pattern.split('/').any(|part| odd(part, '{', '}') || odd(part, '[', ']'))
}

/// Whether every name that fits `x` fits `y`.
fn name_within(x: &str, y: &str) -> bool {
    if x == y || y == "*" {
        return true;
    }
    // Only a single star can be compared by beginning and end.
    let Some((begin, end)) = y.split_once('*').filter(|(b, e)| !b.contains(WILD) && !e.contains(WILD)) else {
        return false;
    };
    let head = x.find(WILD).map_or(x, |at| &x[..at]);
    let tail = x.rfind(['*', '?', ']', '}']).map_or(x, |at| &x[at + 1..]);
    let room = x.contains(WILD) || x.len() >= begin.len() + end.len();
    room && head.starts_with(begin) && tail.ends_with(end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::plan::{is_tree_pattern, pattern_matches};

    fn check(inner: &str, outer: &str, expect: bool) {
        assert_eq!(pattern_within(inner, outer), expect, "{inner} within {outer}");
    }

    #[test]
    fn patterns_lie_within_patterns() {
        for (inner, outer) in [
            ("docs/a.md", "docs/**"),
            ("docs/*.md", "docs/**"),
            ("docs", "docs/**"),
            ("docs/**", "docs"),
            ("docs/deep/**/x.md", "docs/**/*.md"),
            ("README.md", "*.md"),
            ("a/b/c.md", "**/*.md"),
            ("a/a*b.md", "a/a*.md"),
            ("src/{a,b}.py", "src/*.py"),
            ("src/[ab].py", "src/*.py"),
            ("{a,b/c}.py", "{a,b/c}.py"),
            ("**", "**"),
        ] {
            check(inner, outer, true);
        }
        for (inner, outer) in [
            ("docs/**", "docs/*.md"),
            ("**", "docs/**"),
            ("**/*.md", "docs/**"),
            ("docs2/a.md", "docs/**"),
            ("docs/a/b.md", "docs/*.md"),
            ("docs/*", "docs/*.md"),
            ("docs", "docs/*"),
            ("a.md", "a.md*.md"),
            ("{a,b/c}.py", "*.py"),
            ("[d/x]ocs.md", "*/*.md"),
            ("src/x.py", "src/[x].py"),
            ("*.md", "a*.md"),
            ("a/**", "a/**/b"),
        ] {
            check(inner, outer, false);
        }
    }

    fn pattern() -> impl Strategy<Value = String> {
        let name = prop::sample::select(vec![
            "a", "b", "*", "**", "a*", "*b", "?", "{a,b}", "[ab]", "a.b", "*.b", "ab", "a.md",
        ]);
        prop::collection::vec(name, 1..4).prop_map(|parts| parts.join("/"))
    }

    fn path() -> impl Strategy<Value = String> {
        let name = prop::sample::select(vec!["a", "b", "ab", "aab", "a.b", "b.b", "c", "a.md"]);
        prop::collection::vec(name, 1..5).prop_map(|parts| parts.join("/"))
    }

    /// What lies in the sets of a pattern, with the two conventions of [`pattern_within`].
    fn holds(pattern: &str, path: &str) -> bool {
        if names_a_file(pattern) { pattern == path } else { pattern_matches(pattern, path) }
    }

    proptest! {
        #[test]
        fn what_is_within_is_matched(inner in pattern(), outer in pattern(), path in path()) {
            prop_assume!(is_tree_pattern(&inner) && is_tree_pattern(&outer));
            if pattern_within(&inner, &outer) && holds(&inner, &path) {
                // `docs/**` does not match `docs` itself, which `docs` does.
                let below = format!("{path}/x");
                prop_assert!(
                    pattern_matches(&outer, &path) || pattern_matches(&outer, &below),
                    "{} fits {} and not {}", path, inner, outer
                );
            }
        }
    }
}
