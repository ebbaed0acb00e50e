//! Manifests and lock files: dependencies as written, and licences as declared.

use df_contract::SourceFacts;
use df_contract::facts::DependencyFact;

use crate::{MAX_DEPENDENCIES, MAX_NAMES, Unreadable, cut};

mod cargo;
mod go;
mod npm;
mod python;

/// A file format that names dependencies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Pyproject,
    Requirements,
    PackageJson,
    PackageLock,
    CargoToml,
    CargoLock,
    GoMod,
}

/// The format of a path, by its file name.
pub(crate) fn kind(path: &str) -> Option<Kind> {
    let file = path.rsplit('/').next().unwrap_or(path);
    Some(match file {
        "pyproject.toml" => Kind::Pyproject,
        "package.json" => Kind::PackageJson,
        "package-lock.json" | "npm-shrinkwrap.json" => Kind::PackageLock,
        "Cargo.toml" => Kind::CargoToml,
        "Cargo.lock" => Kind::CargoLock,
        "go.mod" => Kind::GoMod,
        name if name.starts_with("requirements") && name.ends_with(".txt") => Kind::Requirements,
        _ => return None,
    })
}

impl Kind {
    /// Adds what one file says. On an error nothing of it is kept but its name.
    pub(crate) fn read(self, path: &str, text: &str, facts: &mut SourceFacts) -> Result<(), Unreadable> {
        if facts.manifests.len() < MAX_NAMES {
            facts.manifests.insert(path.to_owned());
        }
        let manifest = match self {
            Kind::Pyproject => python::pyproject(text),
            Kind::Requirements => Ok(python::requirements(text)),
            Kind::PackageJson => npm::package_json(text),
            Kind::PackageLock => npm::package_lock(text),
            Kind::CargoToml => cargo::manifest(text),
            Kind::CargoLock => cargo::lock(text),
            Kind::GoMod => Ok(go::module(text)),
        }?;
        if let Some(licence) = manifest.licence {
            facts.licences.insert(path.to_owned(), cut(&licence));
        }
        for (name, requirement) in manifest.dependencies {
            if facts.dependencies.len() >= MAX_DEPENDENCIES {
                return Err(Unreadable::TooMany);
            }
            facts.dependencies.push(DependencyFact {
                ecosystem: self.ecosystem().to_owned(),
                name: cut(&name),
                requirement: cut(&requirement),
                file: path.to_owned(),
            });
        }
        Ok(())
    }

    fn ecosystem(self) -> &'static str {
        match self {
            Kind::Pyproject | Kind::Requirements => "pypi",
            Kind::PackageJson | Kind::PackageLock => "npm",
            Kind::CargoToml | Kind::CargoLock => "cargo",
            Kind::GoMod => "go",
        }
    }
}

/// What one file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// (name, requirement)
    pub(crate) dependencies: Vec<(String, String)>,
    pub(crate) licence: Option<String>,
}

/// Parses TOML whose nesting is bounded, since the parser recurses.
pub(crate) fn parse_toml(text: &str) -> Result<toml::Table, Unreadable> {
    depth(text)?;
    text.parse().map_err(|_| Unreadable::Syntax("TOML"))
}

/// Brackets that may stand open at once.
const MAX_DEPTH: usize = 100;

fn depth(text: &str) -> Result<(), Unreadable> {
    let mut open = 0_usize;
    for b in text.bytes() {
        match b {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        if open > MAX_DEPTH {
            return Err(Unreadable::TooDeep);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
