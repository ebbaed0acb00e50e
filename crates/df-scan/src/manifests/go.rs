//! `go.mod`: names and versions of `require` lines.

use super::Manifest;

pub(super) fn module(text: &str) -> Manifest {
    let mut found = Manifest::default();
    let mut in_block = false;
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or("").trim();
        let entry = match line.strip_prefix("require") {
            Some(rest) if rest.trim() == "(" => {
                in_block = true;
                continue;
            }
            Some(rest) if rest.starts_with([' ', '\t']) => rest.trim(),
            _ if in_block && line == ")" => {
                in_block = false;
                continue;
            }
            _ if in_block => line,
            _ => continue,
        };
        let mut words = entry.split_whitespace();
        if let Some(name) = words.next() {
            found.dependencies.push((name.to_owned(), words.next().unwrap_or("").to_owned()));
        }
    }
    found
}
