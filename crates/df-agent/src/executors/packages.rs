//! What a change says about packages, read from manifests on committed trees; nothing of them is fetched or run.

use std::collections::{BTreeMap, BTreeSet};

use df_contract::facts::DependencyFact;
use df_contract::{FailureKind, Revision, SourceFacts};
use df_scan::is_manifest;

use super::bench::Bench;
use super::stop::Stop;

/// Packages named in a refusal; of more only the number is told.
const NAMED: usize = 20;

/// Refuses a change that needs packages which were neither there nor granted. The output gate would refuse them too,
/// and nothing takes their place.
pub(super) async fn require_granted(
    bench: &Bench<'_>,
    base: &Revision,
    new: &Revision,
    changed: &BTreeSet<String>,
    granted: &[String],
) -> Result<(), Stop> {
    if !changed.iter().any(|path| is_manifest(path)) {
        return Ok(());
    }
    let before = names(&bench.facts(base).await?);
    let mut refused = names(&bench.facts(new).await?);
    refused.retain(|name| !before.contains(name) && !granted.contains(name));
    if refused.is_empty() {
        return Ok(());
    }
    let text = format!("the change adds packages that the job was not granted: {}", list(&refused));
    Err(Stop::failed(FailureKind::DependencyRefused, text))
}

/// Refuses a merge after which the change and the job branch pin one package to two versions, in manifests that lie side
/// by side. `changed`: the paths of the change.
pub(super) async fn require_agreement(
    bench: &Bench<'_>,
    merged: &Revision,
    changed: &BTreeSet<String>,
) -> Result<(), Stop> {
    if !changed.iter().any(|path| is_manifest(path)) {
        return Ok(());
    }
    let found = contradictions(&bench.facts(merged).await?.dependencies, changed);
    if found.is_empty() {
        return Ok(());
    }
    let text = format!("the change and the job branch contradict each other: {}", list(&found));
    Err(Stop::failed(FailureKind::DependencyConflict, text))
}

fn names(facts: &SourceFacts) -> BTreeSet<String> {
    facts.dependencies.iter().map(|d| format!("{}:{}", d.ecosystem, d.name)).collect()
}

fn list(items: &BTreeSet<String>) -> String {
    let mut text = items.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    if items.len() > NAMED {
        text.push_str(&format!(" and {} more", items.len() - NAMED));
    }
    text
}

/// Folder, ecosystem and name.
type Package<'a> = (&'a str, &'a str, &'a str);
/// File and version.
type Pin<'a> = (&'a str, &'a str);

/// Packages that a file of the change and one beside it pin to different versions.
fn contradictions(dependencies: &[DependencyFact], changed: &BTreeSet<String>) -> BTreeSet<String> {
    let mut pins: BTreeMap<Package<'_>, Vec<Pin<'_>>> = BTreeMap::new();
    for dependency in dependencies {
        let folder = dependency.file.rsplit_once('/').map_or("", |(folder, _)| folder);
        if let Some(version) = pinned(dependency) {
            let key = (folder, dependency.ecosystem.as_str(), dependency.name.as_str());
            pins.entry(key).or_default().push((&dependency.file, version));
        }
    }
    let mut found = BTreeSet::new();
    for ((_, ecosystem, name), pins) in pins {
        for (file, version) in pins.iter().filter(|(file, _)| changed.contains(*file)) {
            let other = pins.iter().find(|(other, says)| !changed.contains(*other) && says != version);
            found.extend(other.map(|(other, says)| {
                format!("`{ecosystem}:{name}` is {version} in `{file}` and {says} in `{other}`")
            }));
        }
    }
    found
}

/// The one version that a manifest allows. Lock files may hold several, and ranges may agree.
fn pinned(dependency: &DependencyFact) -> Option<&str> {
    let written = dependency.requirement.trim();
    let version = match dependency.ecosystem.as_str() {
        "pypi" => written.strip_prefix("==")?.trim_start_matches('='),
        "cargo" if dependency.file.ends_with("Cargo.toml") => written.strip_prefix('=')?,
        "npm" if dependency.file.ends_with("/package.json") || dependency.file == "package.json" => written,
        _ => return None,
    };
    let version = version.trim();
    let exact = version.starts_with(|c: char| c.is_ascii_digit())
        && version.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '!'))
        && !version.split('.').any(|part| part == "x" || part == "X");
    exact.then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(ecosystem: &str, requirement: &str, file: &str) -> DependencyFact {
        DependencyFact {
            ecosystem: ecosystem.into(),
            name: "p".into(),
            requirement: requirement.into(),
            file: file.into(),
        }
    }

    fn check(facts: &[(&str, &str, &str)], changed: &[&str], expect: usize) {
        let given: Vec<_> = facts.iter().map(|(e, r, f)| fact(e, r, f)).collect();
        let changed = changed.iter().map(|c| (*c).to_owned()).collect();
        assert_eq!(contradictions(&given, &changed).len(), expect, "{facts:?} {changed:?}");
    }

    #[test]
    fn two_sides_contradict_each_other_by_pins_alone() {
        let two = [("pypi", "==1.0", "requirements.txt"), ("pypi", "==2.0", "pyproject.toml")];
        check(&two, &["pyproject.toml"], 1);
        // Both of one side, or of none: that is not between them.
        check(&two, &["pyproject.toml", "requirements.txt"], 0);
        check(&two, &["src/a.py"], 0);
        for agree in [
            [("pypi", "==1.0", "requirements.txt"), ("pypi", "==1.0", "pyproject.toml")],
            [("pypi", ">=1.0", "requirements.txt"), ("pypi", "==2.0", "pyproject.toml")],
            [("pypi", "==1.*", "requirements.txt"), ("pypi", "==2.0", "pyproject.toml")],
            [("pypi", "==1.0", "a/requirements.txt"), ("pypi", "==2.0", "pyproject.toml")],
            [("npm", "1.0.0", "package-lock.json"), ("npm", "2.0.0", "pyproject.toml")],
            [("npm", "^1.0.0", "package.json"), ("pypi", "==2.0", "pyproject.toml")],
        ] {
            check(&agree, &["pyproject.toml"], 0);
        }
    }
}
