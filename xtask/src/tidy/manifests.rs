//! Every package inherits the workspace's lints: a crate that forgets to is a crate without rules.

/// The one package that may hold unsafe code, each use with its reason. A workspace's `forbid` cannot be relaxed, so it
/// repeats the lints.
const UNSAFE: &str = "crates/df-sandbox/Cargo.toml";

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
    let excepted = path == UNSAFE && denies_unsafe(&manifest);
    (!inherits && !excepted).then(|| format!("{path}: write `[lints]` with `workspace = true`"))
}

fn denies_unsafe(manifest: &toml::Table) -> bool {
    let lints = manifest.get("lints");
    let level = lints.and_then(|lints| lints.get("rust")?.get("unsafe_code")?.as_str());
    level == Some("deny") && lints.is_some_and(|lints| lints.get("clippy").is_some())
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
    fn the_package_with_unsafe_code_still_denies_it() {
        let lints = |level| {
            format!("[package]\n[lints.rust]\nunsafe_code = \"{level}\"\n[lints.clippy]\nx = \"warn\"\n")
        };
        assert_eq!(check(UNSAFE, &lints("deny")), None);
        assert!(check(UNSAFE, &lints("allow")).is_some());
        assert!(check("crates/other/Cargo.toml", &lints("deny")).is_some());
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
