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
    glob_matches(pattern, path)
}

/// Whether a task that was given `pattern` may write `path`. As [`pattern_matches`], but for two things that plans are
/// compared without: below a name that is a file's (`web/x.js`), and below a name with a wildcard in it, nothing is given.
pub fn pattern_grants(pattern: &str, path: &str) -> bool {
    if pattern.contains(WILD) || names_a_file(pattern) {
        pattern == path || glob_matches(pattern, path)
    } else {
        pattern_matches(pattern, path)
    }
}

fn glob_matches(pattern: &str, path: &str) -> bool {
    // Compiling is the dear part, so what the literal beginning rules out never gets there.
    let Some(wild) = pattern.find(['*', '?', '[', '{', '\\']) else { return false };
    path.starts_with(&pattern[..wild])
        && globset::GlobBuilder::new(pattern)
            .literal_separator(true)
            .build()
            .is_ok_and(|g| g.compile_matcher().is_match(path))
}

/// Whether something that `a` gives might stand in the way of something that `b` gives: the same path, or one that is a
/// file where the other needs a directory. Errs on the side of yes.
pub fn patterns_may_clash(a: &str, b: &str) -> bool {
    let (a, b) = (Shape::of(a), Shape::of(b));
    a.may_meet(&b) || a.below().may_meet(&b) || a.may_meet(&b.below())
}

/// Endings of files. A directory may have a dot in its name too (`v1.2`, `conf.d`), so only a name that ends in one of
/// these is taken for a file's; every other may be a directory, and what lies below it is compared.
const FILE_ENDINGS: &[&str] = &[
    "adoc",
    "bash",
    "bat",
    "bmp",
    "c",
    "cc",
    "cfg",
    "cjs",
    "clj",
    "cmake",
    "cmd",
    "conf",
    "cpp",
    "cs",
    "css",
    "csv",
    "cts",
    "cxx",
    "dart",
    "erl",
    "ex",
    "exs",
    "fish",
    "fs",
    "gif",
    "go",
    "gradle",
    "graphql",
    "groovy",
    "h",
    "hbs",
    "hcl",
    "hh",
    "hpp",
    "hs",
    "htm",
    "html",
    "ico",
    "ini",
    "ipynb",
    "java",
    "jl",
    "jpeg",
    "jpg",
    "js",
    "json",
    "json5",
    "jsonc",
    "jsonl",
    "jsx",
    "kt",
    "kts",
    "less",
    "lock",
    "log",
    "lua",
    "m",
    "md",
    "mdx",
    "mjs",
    "mk",
    "ml",
    "mm",
    "mod",
    "mts",
    "nix",
    "pdf",
    "php",
    "pl",
    "png",
    "properties",
    "proto",
    "ps1",
    "py",
    "pyi",
    "r",
    "rb",
    "rego",
    "rs",
    "rst",
    "sass",
    "scala",
    "scss",
    "sh",
    "sql",
    "sum",
    "svelte",
    "svg",
    "swift",
    "tf",
    "tfvars",
    "thrift",
    "toml",
    "ts",
    "tsv",
    "tsx",
    "txt",
    "vue",
    "wasm",
    "webp",
    "xml",
    "yaml",
    "yml",
    "zig",
    "zsh",
];

/// Whether a pattern without wildcard names a file, by the ending of its last name.
pub(crate) fn names_a_file(pattern: &str) -> bool {
    let name = pattern.rsplit('/').next().unwrap_or(pattern);
    let ending = name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).map(|(_, ending)| ending);
    !pattern.contains(WILD) && ending.is_some_and(|e| FILE_ENDINGS.iter().any(|f| f.eq_ignore_ascii_case(e)))
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

    /// All that lies below what the pattern gives, and that itself.
    fn below(&self) -> Self {
        let mut below = self.clone();
        below.parts.push("**");
        below
    }

    /// Whether [`pattern_grants`] might give the two a common path. Errs on the side of yes.
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
    } else if !pattern.contains(WILD) && !names_a_file(pattern) {
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
            (".github", ".github/workflows/ci.yml"),
            ("v1.2", "v1.2/api/a.py"),
            ("list.d", "list.d/items.txt"),
            ("pkg.egg", "**/*.py"),
            ("Makefile", "Makefile/x"),
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
            ("README.MD", "README.MD/x"),
            (".github", "docs/.github"),
            ("a*", "a.d/inner"),
        ] {
            assert!(!may_meet(a, b) && !may_meet(b, a), "{a} {b}");
        }
    }

    #[test]
    fn patterns_clash_where_one_needs_a_file_and_the_other_a_directory() {
        for (a, b, expect) in [
            ("x*", "x/inner", true),
            ("x.txt", "x.txt/inner", true),
            ("src/*.py", "src/a.py/**", true),
            ("src/**", "src/a", true),
            ("src/**", "tests/**", false),
            ("src/a.py", "src/b.py", false),
        ] {
            assert_eq!((patterns_may_clash(a, b), patterns_may_clash(b, a)), (expect, expect), "{a} {b}");
        }
    }

    #[test]
    fn what_is_given_lies_below_directories_alone() {
        for (pattern, path, expect) in [
            (".github", ".github/workflows/ci.yml", true),
            ("v1.2", "v1.2/a.py", true),
            ("web/x.js", "web/x.js", true),
            ("web/x.js", "web/x.js/y", false),
            ("src/*", "src/*", true),
            ("src/*", "src/*/y", false),
        ] {
            assert_eq!(pattern_grants(pattern, path), expect, "{pattern} {path}");
        }
        assert!(pattern_matches("web/x.js", "web/x.js/y"), "what is protected stays so");
    }

    proptest::proptest! {
        /// Two tasks that are taken for disjoint are never given the same path.
        #[test]
        fn no_overlap_is_missed(a in pattern(), b in pattern(), path in path()) {
            proptest::prop_assume!(is_tree_pattern(&a) && is_tree_pattern(&b) && is_tree_pattern(&path));
            if pattern_grants(&a, &path) && pattern_grants(&b, &path) {
                proptest::prop_assert!(may_meet(&a, &b) && patterns_may_clash(&a, &b), "{a} {b} {path}");
            }
        }
    }

    fn joined(
        names: &'static [&'static str],
        most: usize,
    ) -> impl proptest::strategy::Strategy<Value = String> {
        use proptest::prelude::*;
        prop::collection::vec(prop::sample::select(names), 1..most).prop_map(|parts| parts.join("/"))
    }

    fn pattern() -> impl proptest::strategy::Strategy<Value = String> {
        joined(
            &["a", "v1.2", "*", "**", "a*", "*.py", "?", "{a,b.py}", "{a/v1.2,b}", "[ab].py", "a.py", ".a"],
            4,
        )
    }

    fn path() -> impl proptest::strategy::Strategy<Value = String> {
        joined(&["a", "b", "v1.2", "a.py", "b.py", ".a", "*", "a*"], 5)
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
