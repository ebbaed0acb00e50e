//! `cargo xtask licences`: the part of deny.toml that must hold on every machine, whether or not cargo-deny
//! is installed there: licences, banned crates and sources. deny.toml stays the only list.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use cargo_metadata::{Metadata, semver::Version};
use serde::Deserialize;
use spdx::{Expression, Licensee, ParseMode};

use crate::{outcome::Outcome, workspace::Workspace};

/// The tables of deny.toml that are read here; cargo-deny itself reads the others.
#[derive(Debug, Deserialize)]
struct Policy {
    licenses: Licences,
    bans: Bans,
    sources: Sources,
}

#[derive(Debug, Deserialize)]
struct Licences {
    allow: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

/// A banned crate, or one that may be present in a single version only.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    #[serde(default)]
    deny_multiple_versions: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
}

/// A package as far as these rules look at it.
#[derive(Debug)]
struct Package {
    name: String,
    version: Version,
    licence: Option<String>,
    /// Absent for packages of this workspace.
    source: Option<String>,
}

pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<Outcome> {
    let policy: Policy = toml::from_str(&workspace.read_text("deny.toml")?).context("reading deny.toml")?;
    let packages = packages(&workspace.metadata()?);
    let summary = format!("licences: {} packages fit deny.toml", packages.len());
    Ok(Outcome { problems: check(&packages, &policy)?, summary, ..Outcome::default() })
}

/// Packages that are resolved for this machine; metadata also lists those of other platforms.
fn packages(metadata: &Metadata) -> Vec<Package> {
    metadata
        .packages
        .iter()
        .map(|package| Package {
            name: package.name.to_string(),
            version: package.version.clone(),
            licence: package.license.clone(),
            source: package.source.as_ref().map(|source| source.repr.clone()),
        })
        .collect()
}

fn check(packages: &[Package], policy: &Policy) -> anyhow::Result<Vec<String>> {
    let allowed = policy
        .licenses
        .allow
        .iter()
        .map(|id| Licensee::parse(id).with_context(|| format!("deny.toml allows `{id}`")))
        .collect::<anyhow::Result<Vec<Licensee>>>()?;
    let mut problems = Vec::new();
    for package in packages {
        problems.extend(check_licence(package, &allowed));
        problems.extend(check_source(package, &policy.sources));
    }
    for ban in &policy.bans.deny {
        // A version requirement would be read differently here and by cargo-deny.
        ensure!(!ban.name.contains(['@', ':']), "deny.toml bans `{}`: write a plain name", ban.name);
        problems.extend(check_ban(packages, ban));
    }
    Ok(problems)
}

fn check_licence(package: &Package, allowed: &[Licensee]) -> Option<String> {
    let Package { name, version, .. } = package;
    let Some(licence) = &package.licence else {
        return Some(format!("{name} {version} declares no licence"));
    };
    let expression = match Expression::parse_mode(licence, ParseMode::LAX) {
        Ok(expression) => expression,
        Err(error) => return Some(format!("{name} {version}: `{licence}` is no SPDX expression: {error}")),
    };
    let fits =
        expression.evaluate(|requirement| allowed.iter().any(|licensee| licensee.satisfies(requirement)));
    (!fits).then(|| format!("{name} {version}: `{licence}` is not covered by the allow list of deny.toml"))
}

fn check_source(package: &Package, sources: &Sources) -> Option<String> {
    let Package { name, version, .. } = package;
    let source = package.source.as_ref()?;
    let registry = source.strip_prefix("registry+");
    let known = registry.is_some_and(|url| sources.allow_registry.iter().any(|allowed| allowed == url));
    (!known).then(|| format!("{name} {version} comes from {source}, which deny.toml does not allow"))
}

fn check_ban(packages: &[Package], ban: &Ban) -> Vec<String> {
    let name = ban.name.as_str();
    let versions: BTreeSet<&Version> =
        packages.iter().filter(|package| package.name == name).map(|package| &package.version).collect();
    let listed: Vec<String> = versions.iter().map(ToString::to_string).collect();
    match (ban.deny_multiple_versions, listed.len()) {
        (true, 0 | 1) => Vec::new(),
        (true, _) => vec![format!("{name} is present as {}; one is enough", listed.join(" and "))],
        (false, _) => {
            listed.iter().map(|version| format!("{name} {version} is banned by deny.toml")).collect()
        }
    }
}

#[cfg(test)]
mod tests;
