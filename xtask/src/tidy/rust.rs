//! Rules for Rust files: shape of the module tree, unfinished work, lint levels.

use crate::tokens;

pub(super) fn check(path: &str, content: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if path.rsplit('/').next() == Some("mod.rs") {
        problems.push(format!("{path}: modules are written foo.rs + foo/, never mod.rs"));
    }
    match tokens::parse(content) {
        Ok(stream) => problems.extend(
            tokens::leftovers(stream)
                .into_iter()
                .map(|found| format!("{path}:{}: {} ({})", found.line, found.what, advice(found.what))),
        ),
        Err(error) => problems.push(format!("{path}: {error:#}")),
    }
    problems
}

fn advice(what: &str) -> &'static str {
    if what.starts_with('#') {
        "write #[expect(lint, reason = \"...\")]"
    } else {
        "finish it or leave it out; an issue holds what is missing"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_file_passes() {
        assert!(check("crates/a/src/lib.rs", "//! A crate.\npub fn a() {}\n").is_empty());
    }

    #[test]
    fn each_rule_names_the_place() {
        assert_eq!(check("crates/a/src/b/mod.rs", "").len(), 1);
        let found = check("a.rs", "fn a() {\n    todo!()\n}\n");
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("a.rs:2: todo!"), "{found:?}");
        let found = check("a.rs", "#[allow(dead_code)]\nfn a() {}\n");
        assert!(found[0].contains("#[expect(lint"), "{found:?}");
    }

    #[test]
    fn a_file_that_is_no_rust_is_a_problem_not_a_crash() {
        assert_eq!(check("a.rs", "fn a( {").len(), 1);
    }
}
