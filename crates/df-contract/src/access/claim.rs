//! Whether a role may be given a whole path pattern: only if it may write every path that the pattern matches.

use super::{is_infra_dir, is_infra_first, is_test_dir, is_test_name};

/// Characters that make a component a pattern.
const WILD: [char; 4] = ['*', '?', '[', '{'];
/// Most alternatives of one component that are looked at; beyond it the answer is no.
const MAX_ALTERNATIVES: usize = 64;
/// Names without an extension that are files all the same, by their beginning.
const FILES: [&str; 6] =
    ["Dockerfile", "Containerfile", "Makefile", "Procfile", ".dockerignore", ".containerignore"];
/// What the names of infrastructure files begin with.
const INFRA_HEADS: [&str; 4] = ["Dockerfile", "Containerfile", "docker-compose", "compose."];

/// Whether every path that `pattern` matches is test code. Errs on the side of no.
pub(super) fn claims_tests(pattern: &str) -> bool {
    let Some(parts) = components(pattern) else { return false };
    parts.iter().any(|part| part.all(|one| one.literal().is_some_and(is_test_dir)))
        || ends_with_a(pattern, &parts, |name| match name.literal() {
            Some(name) => is_test_name(name),
            None => {
                let has_mark = |mark: &str| name.0.split(WILD_OR_STOP).any(|run| run.contains(mark));
                name.head().starts_with("test_")
                    || name.tail().rsplit_once('.').is_some_and(|(base, _)| base.ends_with("_test"))
                    || (!name.0.contains('[') && (has_mark(".test.") || has_mark(".spec.")))
            }
        })
}

/// Whether every path that `pattern` matches is infrastructure. Errs on the side of no.
pub(super) fn claims_infra(pattern: &str) -> bool {
    let Some(parts) = components(pattern) else { return false };
    let dirs = &parts[..parts.len().saturating_sub(1)];
    parts.first().is_some_and(|part| part.all(|one| one.literal().is_some_and(is_infra_first)))
        || dirs.iter().any(|part| part.all(|one| one.literal().is_some_and(is_infra_dir)))
        || ends_with_a(pattern, &parts, |name| match name.literal() {
            Some(name) => super::is_infra_name(name),
            None => {
                INFRA_HEADS.iter().any(|head| name.head().starts_with(head)) || name.tail().ends_with(".tf")
            }
        })
}

/// Whether the last component is nothing but names of files for which `fits` holds.
fn ends_with_a(pattern: &str, parts: &[Part<'_>], fits: impl Fn(&Name) -> bool) -> bool {
    // What is named in full stands for everything below it too, unless it is a file.
    let literal = !pattern.contains(WILD);
    let Some(last) = parts.last() else { return false };
    last.all(|name| name.0 != "**" && (!literal || names_file(&name.0)) && fits(name))
}

/// Whether a name written in full is a file's, below which nothing lies.
fn names_file(name: &str) -> bool {
    name.char_indices().any(|(at, c)| at > 0 && c == '.') || FILES.iter().any(|file| name.starts_with(file))
}

const WILD_OR_STOP: [char; 2] = ['*', '?'];

/// One component; its braces are told apart when it is looked at.
struct Part<'p>(&'p str);

/// One alternative of a component: text, `*`, `?` and classes.
struct Name(String);

/// `None` where it is not clear where the components end.
fn components(pattern: &str) -> Option<Vec<Part<'_>>> {
    let parts: Vec<&str> = pattern.trim_end_matches('/').split('/').collect();
    let paired =
        |part: &str, open: char, close: char| part.matches(open).count() == part.matches(close).count();
    let clear = |part: &&str| paired(part, '{', '}') && paired(part, '[', ']');
    parts.iter().all(clear).then(|| parts.into_iter().map(Part).collect())
}

impl Part<'_> {
    /// Whether `fits` holds for every alternative; no where they cannot be told.
    fn all(&self, fits: impl Fn(&Name) -> bool) -> bool {
        alternatives(self.0).is_some_and(|names| names.iter().all(fits))
    }
}

/// What the braces of a component stand for. `None` for nested ones, braces beside classes, and too many.
fn alternatives(part: &str) -> Option<Vec<Name>> {
    if !part.contains('{') {
        return Some(vec![Name(part.to_owned())]);
    }
    if part.contains('[') {
        return None;
    }
    let mut names = vec![String::new()];
    let mut rest = part;
    while let Some((before, group)) = rest.split_once('{') {
        let (inside, after) = group.split_once('}')?;
        if inside.contains('{') || before.contains('}') {
            return None;
        }
        let choices: Vec<&str> = inside.split(',').collect();
        if names.len() * choices.len() > MAX_ALTERNATIVES {
            return None;
        }
        names = names
            .iter()
            .flat_map(|name| choices.iter().map(move |choice| format!("{name}{before}{choice}")))
            .collect();
        rest = after;
    }
    Some(names.into_iter().map(|name| Name(name + rest)).collect())
}

impl Name {
    fn literal(&self) -> Option<&str> {
        (!self.0.contains(WILD)).then_some(self.0.as_str())
    }

    /// What every match begins with.
    fn head(&self) -> &str {
        self.0.find(WILD).map_or(&self.0, |at| &self.0[..at])
    }

    /// What every match ends with.
    fn tail(&self) -> &str {
        self.0.rfind(['*', '?', ']']).map_or(&self.0, |at| &self.0[at + 1..])
    }
}

#[cfg(test)]
mod tests {
    use globset::GlobBuilder;
    use proptest::prelude::*;

    use super::*;
    use crate::Role;
    use crate::access::{role_may_claim, role_may_write};
    use crate::plan::{is_tree_pattern, pattern_matches};

    fn check(role: Role, pattern: &str, expect: bool) {
        assert!(is_tree_pattern(pattern), "{pattern}");
        assert_eq!(role_may_claim(role, pattern), expect, "{role:?} {pattern}");
    }

    #[test]
    fn what_lies_within_a_class_may_be_claimed() {
        for pattern in [
            "tests",
            "tests/**",
            "src/*/tests/**",
            "**/tests/*.py",
            "{tests,spec}/**",
            "**/test_*.py",
            "a/test_x.py",
            "**/*_test.go",
            "web/*.test.{ts,tsx}",
            "web/*.spec.*",
            "conftest.py",
            "**/conftest.py",
            "**/e2e",
            "**/{test_*,*_test}.py",
            "**/__tests__/[a-c]*.js",
        ] {
            check(Role::Qa, pattern, true);
        }
        for pattern in [
            ".github",
            ".github/**",
            "infra/*/x",
            "{infra,deploy}/**",
            "a/docker/**",
            "**/k8s/*.yaml",
            "**/*.tf",
            "Dockerfile",
            "Dockerfile*",
            "svc/Dockerfile",
            "docker-compose*.yml",
            "compose.{yaml,yml}",
            "Makefile",
        ] {
            check(Role::Devops, pattern, true);
        }
    }

    #[test]
    fn what_may_match_something_else_may_not() {
        for pattern in [
            // Each of these shows the class in its text and matches other files.
            "{tests,src}/**",
            "{src/a,x}/test",
            "[t]ests/**",
            "test*/**",
            "tests*",
            "*tests/**",
            "t?sts/x",
            "{test_a,evil}.py",
            "**/{tests,*}/x",
            "*test.go",
            "**/*_test",
            "src/test_dir",
            "*[.test.]x",
            "test[_]*.py",
            "a{.test.,x}b",
            "{tests,{spec,src}}/x",
            "**",
            "*",
        ] {
            check(Role::Qa, pattern, false);
        }
        for pattern in [
            "{infra,src}/**",
            "in*/**",
            "**/infra/**",
            "docker",
            "*Dockerfile",
            "**/Dockerf*",
            "*.t[fx]",
            "{Dockerfile,app.py}",
            "docker-compose",
            "**",
        ] {
            check(Role::Devops, pattern, false);
        }
    }

    const PARTS: &[&str] = &[
        "tests",
        "src",
        "infra",
        "docker",
        "*",
        "**",
        "test*",
        "test_*",
        "test_*.py",
        "*_test.go",
        "*_test",
        "*.test.*",
        "{tests,spec}",
        "{tests,src}",
        "[t]ests",
        "Dockerfile",
        "Dockerfile*",
        "*.tf",
        "x.tf",
        "test_x.py",
        "test_x",
        "{test_a,b}.py",
        "conftest.py",
        "compose.*",
        "?",
        "*.py",
    ];
    const NAMES: &[&str] = &[
        "tests",
        "spec",
        "src",
        "infra",
        "docker",
        "test_",
        "test_.py",
        "test_a.py",
        "b.py",
        "a.b_test.go",
        "a_test",
        "a.b_test",
        "x.test.ts",
        "Dockerfile",
        "Dockerfile.x",
        "main.tf",
        "x.tf",
        "test_x.py",
        "test_x",
        "conftest.py",
        "compose.yml",
        "x",
        "testsuite",
    ];

    fn pairs(names: &[&str]) -> Vec<String> {
        let two = names.iter().flat_map(|a| names.iter().map(move |b| format!("{a}/{b}")));
        names.iter().map(|name| (*name).to_owned()).chain(two).collect()
    }

    /// The slow matcher: the glob itself, and all that lies below what is named in full and is no file.
    fn holds(pattern: &str, path: &str) -> bool {
        let literal = !pattern.contains(WILD);
        let file = literal && names_file(pattern.rsplit('/').next().unwrap());
        if file { pattern == path } else { pattern_matches(pattern, path) }
    }

    /// Every pattern of up to two of the parts, against paths of up to three of the names.
    #[test]
    fn every_path_of_a_claimed_pattern_may_be_written() {
        let deeper = |path: &String| [path.clone(), format!("src/{path}"), format!("{path}/x")];
        let paths: Vec<String> = pairs(NAMES).iter().flat_map(deeper).collect();
        let mut claimed = 0;
        for pattern in pairs(PARTS).iter().filter(|pattern| is_tree_pattern(pattern)) {
            let glob = GlobBuilder::new(pattern).literal_separator(true).build().unwrap().compile_matcher();
            for role in [Role::Qa, Role::Devops].into_iter().filter(|role| role_may_claim(*role, pattern)) {
                claimed += 1;
                let matched = |path: &&String| {
                    if pattern.contains(WILD) { glob.is_match(path.as_str()) } else { holds(pattern, path) }
                };
                for path in paths.iter().filter(matched) {
                    assert!(role_may_write(role, path), "{role:?} may claim {pattern} and not write {path}");
                }
            }
        }
        assert!(claimed > 100, "{claimed}");
    }

    fn joined(parts: &'static [&'static str]) -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(parts), 1..5).prop_map(|parts| parts.join("/"))
    }

    /// Names put together of pieces, so that braces, classes and stars stand where nobody thought of.
    fn odd() -> impl Strategy<Value = String> {
        let pieces =
            &["test", "_", ".", "*", "?", "{a,tests}", "{,s}", "[ts]", "s", "spec", "tf", "/", "Dockerfile"];
        prop::collection::vec(prop::sample::select(&pieces[..]), 1..8).prop_map(|parts| parts.concat())
    }

    fn odd_path() -> impl Strategy<Value = String> {
        let pieces = &["test", "_", ".", "a", "s", "spec", "tf", "/", "tests", "Dockerfile"];
        prop::collection::vec(prop::sample::select(&pieces[..]), 1..8).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]
        #[test]
        fn claims_are_subsets(
            pattern in prop_oneof![joined(PARTS), odd()], path in prop_oneof![joined(NAMES), odd_path()]
        ) {
            let normal = |path: &str| path.split('/').all(|part| !part.is_empty());
            if is_tree_pattern(&pattern) && normal(&path) && holds(&pattern, &path) {
                for role in [Role::Qa, Role::Devops] {
                    let broken = role_may_claim(role, &pattern) && !role_may_write(role, &path);
                    prop_assert!(!broken, "{:?} may claim {} and not write {}", role, pattern, path);
                }
            }
        }
    }
}
