//! One page per error code in docs/errors/, and no page without its code.

use std::collections::BTreeSet;

use df_contract::ErrorCode;

const FOLDER: &str = "docs/errors/";
const INDEX: &str = "docs/errors/README.md";

pub(super) fn check(paths: &BTreeSet<&str>) -> Vec<String> {
    compare(ErrorCode::ALL.iter().map(|code| code.code()), paths)
}

fn compare(codes: impl Iterator<Item = &'static str>, paths: &BTreeSet<&str>) -> Vec<String> {
    let expected: BTreeSet<String> = codes.map(|code| format!("{FOLDER}{code}.md")).collect();
    let missing = expected
        .iter()
        .filter(|page| !paths.contains(page.as_str()))
        .map(|page| format!("{page}: missing; say what happened, why, and what to do"));
    let stale = paths
        .iter()
        .filter(|path| path.starts_with(FOLDER) && **path != INDEX && !expected.contains(**path))
        .map(|path| format!("{path}: no error code has this page"));
    missing.chain(stale).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_and_codes_must_match_both_ways() {
        let paths = BTreeSet::from([INDEX, "docs/errors/a.md", "docs/errors/old.md", "docs/workflow.md"]);
        let found = compare(["a", "b"].into_iter(), &paths);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("docs/errors/b.md: missing"));
        assert!(found[1].starts_with("docs/errors/old.md: no error code"));
        assert!(compare(["a", "old"].into_iter(), &paths).is_empty());
    }
}
