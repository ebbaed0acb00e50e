//! `package.json` and `package-lock.json` versions 2 and 3.

use serde_json::{Map, Value};

use super::Manifest;
use crate::Unreadable;

/// Tables of `package.json` that name packages.
const TABLES: [&str; 4] = ["dependencies", "devDependencies", "optionalDependencies", "peerDependencies"];

pub(super) fn package_json(text: &str) -> Result<Manifest, Unreadable> {
    let root = object(text)?;
    let mut found = Manifest { licence: licence(&root), ..Manifest::default() };
    for table in TABLES.iter().filter_map(|t| root.get(*t)?.as_object()) {
        found
            .dependencies
            .extend(table.iter().map(|(name, v)| (name.clone(), v.as_str().unwrap_or("").to_owned())));
    }
    Ok(found)
}

pub(super) fn package_lock(text: &str) -> Result<Manifest, Unreadable> {
    let root = object(text)?;
    let version = root.get("lockfileVersion").and_then(Value::as_u64);
    if !matches!(version, Some(2 | 3)) {
        return Err(Unreadable::Version(version.map_or("unknown".to_owned(), |v| v.to_string())));
    }
    let mut found = Manifest::default();
    for (path, package) in root.get("packages").and_then(Value::as_object).into_iter().flatten() {
        // The key is where it is installed; the name is what follows the last `node_modules/`. An alias says its real name.
        let Some((_, installed)) = path.rsplit_once("node_modules/") else { continue };
        let name = package.get("name").and_then(Value::as_str).unwrap_or(installed);
        let version = package.get("version").and_then(Value::as_str).unwrap_or("");
        found.dependencies.push((name.to_owned(), version.to_owned()));
    }
    Ok(found)
}

fn object(text: &str) -> Result<Map<String, Value>, Unreadable> {
    match serde_json::from_str(text.trim_start_matches('\u{feff}')) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) | Err(_) => Err(Unreadable::Syntax("JSON")),
    }
}

fn licence(root: &Map<String, Value>) -> Option<String> {
    let value = root.get("license")?;
    value.as_str().or_else(|| value.get("type")?.as_str()).map(str::to_owned)
}
