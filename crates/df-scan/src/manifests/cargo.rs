//! `Cargo.toml` and `Cargo.lock`.

use toml::{Table, Value};

use super::{Manifest, parse_toml};
use crate::Unreadable;

const TABLES: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

pub(super) fn manifest(text: &str) -> Result<Manifest, Unreadable> {
    let root = parse_toml(text)?;
    let mut found = Manifest::default();
    collect(&root, &mut found);
    let sub = |name: &str| root.get(name).and_then(Value::as_table);
    sub("workspace").into_iter().for_each(|w| collect(w, &mut found));
    let targets = sub("target").into_iter().flat_map(Table::values).filter_map(Value::as_table);
    targets.for_each(|t| collect(t, &mut found));
    found.licence = ["package", "workspace"]
        .iter()
        .filter_map(|t| sub(t))
        .flat_map(|t| [Some(t), t.get("package").and_then(Value::as_table)])
        .flatten()
        .find_map(|t| t.get("license")?.as_str().map(str::to_owned));
    Ok(found)
}

fn collect(root: &Table, found: &mut Manifest) {
    for deps in TABLES.iter().filter_map(|t| root.get(*t)?.as_table()) {
        for (key, value) in deps {
            let detail = value.as_table();
            let text = |name: &str| detail.and_then(|t| t.get(name)).and_then(Value::as_str);
            // Code of the same tree is no dependency.
            if text("path").is_some() && text("version").is_none() {
                continue;
            }
            let requirement =
                value.as_str().or_else(|| text("version")).or_else(|| text("git")).unwrap_or("");
            found.dependencies.push((text("package").unwrap_or(key).to_owned(), requirement.to_owned()));
        }
    }
}

pub(super) fn lock(text: &str) -> Result<Manifest, Unreadable> {
    let root = parse_toml(text)?;
    let packages =
        root.get("package").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_table);
    let dependencies = packages
        // Without a source it is code of the same tree.
        .filter(|p| p.contains_key("source"))
        .filter_map(|p| Some((p.get("name")?.as_str()?.to_owned(), p.get("version")?.as_str()?.to_owned())))
        .collect();
    Ok(Manifest { dependencies, licence: None })
}
