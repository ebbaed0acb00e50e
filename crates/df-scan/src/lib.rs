//! EXECUTION plane, pure: reads the bytes of a source tree into typed facts. Nothing of the tree is executed.
//!
//! What this crate deliberately does not know: files, sockets, clocks, and what a fact means. Whoever calls it opens the
//! files and enforces who may be read; governance judges the facts.
//!
//! Every input is hostile. Work is bounded by the constants here, and what is not read is listed as unreadable with the
//! reason, never skipped in silence.
//!
//! ```
//! let tree = [("requirements.txt".to_owned(), b"flask==3.0\n".as_slice().into())];
//! let facts = df_scan::scan(tree);
//! assert_eq!(facts.dependencies[0].name, "flask");
//! ```

use std::borrow::Cow;

use df_contract::SourceFacts;
use df_contract::access::is_infra_path;

mod infra;
mod languages;
mod licence;
mod manifests;
mod secrets;

/// Files that are read; the rest are counted as one unreadable entry.
pub const MAX_FILES: u64 = 50_000;
/// Bytes of one file that is read.
pub const MAX_FILE_BYTES: usize = 8 * 1024 * 1024;
/// Bytes read in all.
pub const MAX_TREE_BYTES: u64 = 512 * 1024 * 1024;
/// Dependencies kept, over all manifests.
pub const MAX_DEPENDENCIES: usize = 20_000;
/// Secrets kept; a tree with more has been judged long before.
pub const MAX_SECRETS: usize = 1_000;
/// Names (manifests, infrastructure files, ports, unreadable files) kept of each kind.
pub const MAX_NAMES: usize = 10_000;
/// Characters of a path or a text kept in a fact.
pub const MAX_TEXT_CHARS: usize = 512;

/// Key of the entry in [`SourceFacts::unreadable`] that stands for everything beyond a limit.
pub const BEYOND_LIMITS: &str = "(beyond limits)";

/// Why a file that says something about the tree could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("it has {0} bytes, the limit is {MAX_FILE_BYTES}")]
    TooLarge(usize),
    #[error("it is not UTF-8 text")]
    NotText,
    #[error("it is not valid {0}")]
    Syntax(&'static str),
    #[error("it is nested too deeply")]
    TooDeep,
    #[error("it names more than {MAX_DEPENDENCIES} dependencies, with those before it")]
    TooMany,
    #[error("version {0} of this format is not known")]
    Version(String),
}

/// Whether a path is that of a manifest or lock file that is read for dependencies.
pub fn is_manifest(path: &str) -> bool {
    manifests::kind(path).is_some()
}

/// Reads a tree given as (path, content). Within the limits, the order of the files does not change
/// the result.
pub fn scan<'a>(files: impl IntoIterator<Item = (String, Cow<'a, [u8]>)>) -> SourceFacts {
    let mut facts = SourceFacts::default();
    for (path, bytes) in files {
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if facts.files >= MAX_FILES || facts.bytes.saturating_add(size) > MAX_TREE_BYTES {
            facts.unreadable.insert(
                BEYOND_LIMITS.to_owned(),
                "the tree has more files or bytes than are read".to_owned(),
            );
            continue;
        }
        facts.files += 1;
        facts.bytes += size;
        file(&mut facts, &cut(&path), &bytes);
    }
    sort(&mut facts);
    facts
}

fn file(facts: &mut SourceFacts, path: &str, bytes: &[u8]) {
    if let Some(language) = languages::of(path) {
        *facts.languages.entry(language.to_owned()).or_default() += 1;
    }
    if is_infra_path(path) && facts.infra_files.len() < MAX_NAMES {
        facts.infra_files.insert(path.to_owned());
    }
    if bytes.len() > MAX_FILE_BYTES {
        unreadable(facts, path, &Unreadable::TooLarge(bytes.len()));
        return;
    }
    secrets::find(path, bytes, &mut facts.secrets);
    let read = match manifests::kind(path) {
        Some(kind) => text(bytes).and_then(|t| kind.read(path, t, facts)),
        None if licence::is_licence_file(path) => text(bytes).map(|t| {
            facts.licences.insert(path.to_owned(), licence::recognise(t).to_owned());
        }),
        None if infra::opens_ports(path) => text(bytes).map(|t| infra::ports(path, t, &mut facts.ports)),
        None => Ok(()),
    };
    if let Err(why) = read {
        unreadable(facts, path, &why);
    }
}

fn text(bytes: &[u8]) -> Result<&str, Unreadable> {
    std::str::from_utf8(bytes).map_err(|_| Unreadable::NotText)
}

fn unreadable(facts: &mut SourceFacts, path: &str, why: &Unreadable) {
    if facts.unreadable.len() < MAX_NAMES {
        facts.unreadable.insert(path.to_owned(), why.to_string());
    }
}

/// Facts in one order, whatever order the files came in.
fn sort(facts: &mut SourceFacts) {
    facts.dependencies.sort();
    facts.dependencies.dedup();
    facts.ports.sort();
    facts.ports.dedup();
    facts.secrets.sort();
    facts.secrets.dedup();
}

/// At most [`MAX_TEXT_CHARS`] characters, without control characters.
pub(crate) fn cut(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(MAX_TEXT_CHARS).collect()
}

#[cfg(test)]
mod tests;
