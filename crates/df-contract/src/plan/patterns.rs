//! Path patterns: which are valid, what they match, and whether two of them may match a common path.

/// Longest pattern, in bytes.
const MAX_PATTERN_BYTES: usize = 512;

/// Whether `pattern` is relative, stays inside the tree, does not touch git's own files, and is a valid glob.
pub fn is_tree_pattern(pattern: &str) -> bool {
    !pattern.is_empty()
        && pattern.len() <= MAX_PATTERN_BYTES
        && !pattern.starts_with('/')
        && !pattern.contains('\\')
        && !pattern.chars().any(char::is_control)
        && pattern
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != ".." && !part.eq_ignore_ascii_case(".git"))
        && globset::Glob::new(pattern).is_ok()
}

/// Whether the glob `pattern` matches `path`. `*` stays within a path component, `**` crosses them; a pattern
/// without wildcard also matches everything below it when it names a directory (`src` matches `src/a.py`).
pub fn pattern_matches(pattern: &str, path: &str) -> bool {
    let below = pattern.trim_end_matches('/');
    if path == below || path.strip_prefix(below).is_some_and(|rest| rest.starts_with('/')) {
        return true;
    }
    // Compiling is the dear part, so what the literal beginning rules out never gets there.
    let Some(wild) = pattern.find(['*', '?', '[', '{', '\\']) else { return false };
    path.starts_with(&pattern[..wild])
        && globset::GlobBuilder::new(pattern)
            .literal_separator(true)
            .build()
            .is_ok_and(|g| g.compile_matcher().is_match(path))
}

/// A pattern cut into components, ready to be compared with many others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape<'p> {
    parts: Vec<&'p str>,
    /// How many components at the beginning have no wildcard.
    literal: usize,
}

impl<'p> Shape<'p> {
    pub(super) fn of(pattern: &'p str) -> Self {
        let parts = components(pattern);
        let literal = parts.iter().take_while(|part| !part.contains(WILD)).count();
        Self { parts, literal }
    }

    /// The components before the first wildcard. Two patterns can only meet when the one's are the beginning of the
    /// other's: elsewhere two different names stand in the same place.
    pub(super) fn literal(&self) -> &[&'p str] {
        &self.parts[..self.literal]
    }

    /// Whether the two might match a common path. Errs on the side of yes, with one exception: a name with an
    /// extension (`web/x.js`) is taken for a file, below which nobody else writes.
    pub(super) fn may_meet(&self, other: &Self) -> bool {
        let (a, b) = (&self.parts, &other.parts);
        // Row by row: meet[j] says whether the rest of `a` from here and `b[j..]` have a path in common.
        let rest_is_any = |rest: &[&str]| rest.iter().all(|part| *part == "**");
        let mut meet: Vec<bool> = (0..=b.len()).map(|j| rest_is_any(&b[j..])).collect();
        for i in (0..a.len()).rev() {
            let below = std::mem::replace(&mut meet, vec![false; b.len() + 1]);
            meet[b.len()] = rest_is_any(&a[i..]);
            for j in (0..b.len()).rev() {
                meet[j] = match (a[i], b[j]) {
                    ("**", _) | (_, "**") => below[j] || meet[j + 1] || below[j + 1],
                    (x, y) => below[j + 1] && names_may_meet(x, y),
                };
            }
        }
        meet[0]
    }
}

/// A pattern cut at its slashes, with `**` for all that cannot be cut (a brace group over several components) and
/// for what lies below a directory named in full.
fn components(pattern: &str) -> Vec<&str> {
    let mut parts: Vec<&str> = pattern.trim_end_matches('/').split('/').collect();
    let torn = |part: &&str| part.matches('{').count() != part.matches('}').count();
    if let Some(at) = parts.iter().position(torn) {
        parts.truncate(at);
        parts.push("**");
    } else if !pattern.contains(WILD) && !parts.last().is_some_and(|name| name[1..].contains('.')) {
        parts.push("**");
    }
    parts
}

const WILD: [char; 4] = ['*', '?', '[', '{'];

/// Whether one name could fit both patterns, by their literal beginnings and ends.
fn names_may_meet(a: &str, b: &str) -> bool {
    let ends = |p: &'_ str| {
        let begin = p.find(WILD)?;
        let end = p.rfind(['*', '?', ']', '}']).map_or(p.len(), |i| i + 1);
        Some((begin, end))
    };
    let fits = |name: &str, p: &str, (begin, end): (usize, usize)| {
        name.starts_with(&p[..begin]) && name.ends_with(&p[end..])
    };
    match (ends(a), ends(b)) {
        (None, None) => a == b,
        (Some(cut), None) => fits(b, a, cut),
        (None, Some(cut)) => fits(a, b, cut),
        (Some((x, end_x)), Some((y, end_y))) => {
            let (begin_a, begin_b, end_a, end_b) = (&a[..x], &b[..y], &a[end_x..], &b[end_y..]);
            (begin_a.starts_with(begin_b) || begin_b.starts_with(begin_a))
                && (end_a.ends_with(end_b) || end_b.ends_with(end_a))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may_meet(a: &str, b: &str) -> bool {
        Shape::of(a).may_meet(&Shape::of(b))
    }

    #[test]
    fn patterns_meet_when_some_path_fits_both() {
        for (a, b) in [
            ("src/*/x", "src/foo"),
            ("**/*.py", "src"),
            ("**/x", "a/**/b/x"),
            ("src/**", "src"),
            ("{src/a,tests/b}/c.py", "tests/b/c.py"),
            ("src/{a,b}.py", "src/b.py"),
            ("a*", "*b"),
            ("[st]*/x", "src/x"),
            ("a/**/z", "a/z"),
            ("x.d/**", "x.d/y"),
        ] {
            assert!(may_meet(a, b) && may_meet(b, a), "{a} {b}");
        }
        for (a, b) in [
            ("src/*.py", "src/x.js"),
            ("src/**/*.py", "src/**/*.js"),
            ("src/*/x", "src/x.py"),
            ("**/*.py", "web/x.js"),
            ("src/a*", "src/b*"),
            ("src/*", "src/a/b.py"),
            ("tests/**", "src/tests"),
        ] {
            assert!(!may_meet(a, b) && !may_meet(b, a), "{a} {b}");
        }
    }

    #[test]
    fn a_glob_star_stays_within_a_component() {
        assert!(pattern_matches("src/*.py", "src/a.py"));
        assert!(!pattern_matches("src/*.py", "src/b/a.py"));
        assert!(pattern_matches("src/**", "src/b/a.py"));
        assert!(pattern_matches("src", "src/b/a.py"));
        assert!(!pattern_matches("src", "srcs"));
    }
}
