//! Relative links in Markdown lead to files that exist.

use std::collections::BTreeSet;

pub(super) fn check(path: &str, content: &str, paths: &BTreeSet<&str>) -> Vec<String> {
    let mut problems = Vec::new();
    let mut fenced = false;
    for (index, line) in content.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for target in targets(line).filter(|target| !leads_somewhere(path, target, paths)) {
            problems.push(format!("{path}:{}: the link to {target} leads nowhere", index + 1));
        }
    }
    problems
}

/// What stands in the round brackets of `[text](target)`.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target)
}

fn leads_somewhere(page: &str, target: &str, paths: &BTreeSet<&str>) -> bool {
    let file = target.split('#').next().unwrap_or_default();
    if file.is_empty() || target.contains("://") || target.starts_with("mailto:") {
        return true;
    }
    let Some(resolved) = resolve(page, file) else { return false };
    let folder = format!("{resolved}/");
    paths.contains(resolved.as_str()) || paths.iter().any(|path| path.starts_with(&folder))
}

/// A path relative to the root; `None` when the link climbs out of the tree.
fn resolve(page: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_page(content: &str) -> Vec<String> {
        let paths = BTreeSet::from(["README.md", "docs/a.md", "docs/errors/b.md", "rfcs/0001-x.md"]);
        check("docs/a.md", content, &paths)
    }

    #[test]
    fn links_to_files_folders_anchors_and_addresses_pass() {
        for good in
            ["errors/b.md", "../README.md#start", "../rfcs", "errors/", "#below", "https://example.org/x"]
        {
            assert!(check_page(&format!("see [it]({good}).\n")).is_empty(), "{good}");
        }
    }

    #[test]
    fn dead_links_are_named_with_their_line() {
        let found = check_page("fine\n[a](errors/b.md) and [b](missing.md) and [c](../../outside.md)\n");
        assert_eq!(
            found,
            [
                "docs/a.md:2: the link to missing.md leads nowhere",
                "docs/a.md:2: the link to ../../outside.md leads nowhere"
            ]
        );
        assert_eq!(check_page("[a](error)\n").len(), 1, "part of a folder's name is not the folder");
    }

    #[test]
    fn code_is_not_prose() {
        assert!(check_page("```\n[a](missing.md)\n```\n").is_empty());
    }
}
