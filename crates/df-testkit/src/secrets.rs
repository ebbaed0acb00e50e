//! Looks for what must not be there.

use std::path::{Path, PathBuf};

/// Files below `root`, other than those named in `except`, that hold one of the `needles`, with the first it holds.
pub fn files_with(root: &Path, needles: &[(&str, String)], except: &[&Path]) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in walkdir::WalkDir::new(root) {
        // Files come and go while processes run.
        let Ok(entry) = entry else { continue };
        if !entry.file_type().is_file() || except.contains(&entry.path()) {
            continue;
        }
        let Ok(content) = std::fs::read(entry.path()) else { continue };
        let holds = |needle: &str| content.windows(needle.len()).any(|part| part == needle.as_bytes());
        if let Some((name, _)) = needles.iter().find(|(_, needle)| holds(needle)) {
            found.push((entry.path().to_owned(), (*name).to_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planted_secret_is_found_and_an_excepted_file_is_not() {
        let root = tempfile::tempdir().unwrap();
        let (log, key) = (root.path().join("a.log"), root.path().join("a.key"));
        std::fs::write(&log, b"\xff\x00 token=hunter2 \n").unwrap();
        std::fs::write(&key, "hunter2").unwrap();
        let needles = [("the key", "hunter2".to_owned())];
        assert_eq!(files_with(root.path(), &needles, &[&key]), [(log, "the key".to_owned())]);
        assert_eq!(files_with(root.path(), &[("other", "hunter3".to_owned())], &[]), []);
    }
}
