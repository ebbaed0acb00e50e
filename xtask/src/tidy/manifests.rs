//! Every package inherits the workspace's lints: a crate that forgets to is a crate without rules.

pub(super) fn check(path: &str, content: &str) -> Option<String> {
    let manifest: toml::Table = match content.parse() {
        Ok(manifest) => manifest,
        Err(error) => return Some(format!("{path}: {error}")),
    };
    if !manifest.contains_key("package") {
        return None;
    }
    let inherits = manifest
        .get("lints")
        .and_then(|lints| lints.get("workspace"))
        .and_then(toml::Value::as_bool)
        .unwrap_or_default();
    (!inherits).then(|| format!("{path}: write `[lints]` with `workspace = true`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inherited_lints_pass_and_anything_else_is_refused() {
        assert_eq!(check("Cargo.toml", "[package]\nname = \"a\"\n[lints]\nworkspace = true\n"), None);
        assert!(check("Cargo.toml", "[package]\nname = \"a\"\n").is_some());
        assert!(check("Cargo.toml", "[package]\nname = \"a\"\n[lints.rust]\nunused = \"warn\"\n").is_some());
        assert!(check("Cargo.toml", "[package]\nname = \"a\"\n[lints]\nworkspace = false\n").is_some());
    }

    #[test]
    fn a_virtual_manifest_has_no_lints_of_its_own() {
        assert_eq!(check("Cargo.toml", "[workspace]\nmembers = []\n"), None);
    }

    #[test]
    fn a_broken_manifest_is_reported() {
        assert!(check("Cargo.toml", "[package").is_some());
    }
}
