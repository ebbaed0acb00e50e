//! `pyproject.toml` (PEP 621, PEP 735, Poetry) and `requirements*.txt`.

use toml::{Table, Value};

use super::{Manifest, parse_toml};
use crate::Unreadable;

pub(super) fn pyproject(text: &str) -> Result<Manifest, Unreadable> {
    let root = parse_toml(text)?;
    let mut found = Manifest::default();
    if let Some(project) = table(&root, "project") {
        strings(project.get("dependencies"), &mut found);
        table(project, "optional-dependencies")
            .into_iter()
            .flat_map(Table::values)
            .for_each(|v| strings(Some(v), &mut found));
        found.licence = match project.get("license") {
            Some(Value::String(expression)) => Some(expression.clone()),
            Some(Value::Table(t)) => t.get("text").and_then(Value::as_str).map(str::to_owned),
            _ => None,
        };
    }
    if let Some(build) = table(&root, "build-system") {
        strings(build.get("requires"), &mut found);
    }
    table(&root, "dependency-groups")
        .into_iter()
        .flat_map(Table::values)
        .for_each(|v| strings(Some(v), &mut found));
    if let Some(poetry) = table(&root, "tool").and_then(|t| table(t, "poetry")) {
        poetry_tables(poetry, &mut found);
    }
    Ok(found)
}

fn poetry_tables(poetry: &Table, found: &mut Manifest) {
    let groups = table(poetry, "group").into_iter().flat_map(Table::values).filter_map(Value::as_table);
    let tables = groups.filter_map(|g| table(g, "dependencies"));
    for deps in tables.chain(table(poetry, "dependencies")).chain(table(poetry, "dev-dependencies")) {
        for (name, value) in deps.iter().filter(|(name, _)| *name != "python") {
            let version = match value {
                Value::String(v) => v.clone(),
                Value::Table(t) => t.get("version").and_then(Value::as_str).unwrap_or("").to_owned(),
                _ => String::new(),
            };
            found.dependencies.push((normal(name), version));
        }
    }
    if found.licence.is_none() {
        found.licence = poetry.get("license").and_then(Value::as_str).map(str::to_owned);
    }
}

fn table<'a>(root: &'a Table, name: &str) -> Option<&'a Table> {
    root.get(name)?.as_table()
}

fn strings(list: Option<&Value>, found: &mut Manifest) {
    let items = list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    found.dependencies.extend(items.filter_map(requirement));
}

pub(super) fn requirements(text: &str) -> Manifest {
    // A backslash joins lines.
    let joined = text.replace("\\\r\n", " ").replace("\\\n", " ");
    let mut found = Manifest::default();
    for line in joined.lines() {
        let line = line.split(" #").next().unwrap_or("").trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.strip_prefix('-') {
            Some(option) => found.dependencies.extend(from_elsewhere(option)),
            None => found.dependencies.extend(requirement(line)),
        }
    }
    found
}

/// `-e git+https://…` and `-r other.txt` bring in code whose names are not written here: they are kept as they stand.
fn from_elsewhere(option: &str) -> Option<(String, String)> {
    let (flag, target) = option.trim_start_matches('-').split_once([' ', '='])?;
    matches!(flag, "e" | "editable").then(|| (target.trim().to_owned(), String::new()))
}

/// `Name[extra] >=1,<2 ; marker` and `name @ url` (PEP 508), as (normalised name, rest).
fn requirement(text: &str) -> Option<(String, String)> {
    let text = text.split(" --hash").next().unwrap_or(text).trim();
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let end = text.find(|c: char| !is_name(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    // `git+https://…`, `./wheel.whl`: no name, kept whole.
    if name.is_empty()
        || rest.starts_with([':', '/', '+'])
        || !name.starts_with(|c: char| c.is_ascii_alphanumeric())
    {
        return (!text.is_empty()).then(|| (text.to_owned(), String::new()));
    }
    let rest = rest.split(';').next().unwrap_or("").trim();
    let rest = match (rest.strip_prefix('['), rest.find(']')) {
        (Some(_), Some(close)) => rest[close + 1..].trim(),
        (Some(_), None) | (None, _) => rest,
    };
    Some((normal(name), rest.to_owned()))
}

/// PEP 503: lower case, runs of `-`, `_` and `.` become one `-`.
fn normal(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        match c {
            '-' | '_' | '.' if out.ends_with('-') => {}
            '-' | '_' | '.' => out.push('-'),
            c => out.extend(c.to_lowercase()),
        }
    }
    out
}
