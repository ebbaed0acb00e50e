//! A revision as plain files, written by us and not by git.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use df_contract::Revision;

use super::error::{GitError, blocking};
use super::process::Call;
use super::repo::Repo;
use super::{MAX_FILE_BYTES, MAX_TREE_BYTES, MAX_TREE_FILES, is_safe_path};

/// What an entry of a tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TreeMode {
    File,
    Executable,
    /// On disk a plain file that holds the link's target: a checkout never contains a link.
    Symlink,
}

/// One file of a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    pub mode: TreeMode,
    /// Object name of its content.
    pub object: String,
    pub bytes: u64,
    pub path: String,
}

impl Repo {
    /// All files of a revision, with every path checked and every limit kept.
    pub async fn files(&self, revision: &Revision) -> Result<Vec<TreeEntry>, GitError> {
        let args = ["ls-tree", "-r", "-z", "-l", "--full-tree", revision.as_str()];
        let listed = self.call(&args).await?;
        let mut found = Vec::new();
        let (mut total, mut paths) = (0_u64, BTreeSet::new());
        for line in listed.split(|b| *b == 0).filter(|l| !l.is_empty()) {
            let entry = parse_entry(line)?;
            total = total.saturating_add(entry.bytes);
            within("bytes in one file", entry.bytes, MAX_FILE_BYTES)?;
            if !paths.insert(entry.path.clone()) {
                return Err(GitError::UnsafePath(entry.path));
            }
            found.push(entry);
        }
        within("files", found.len() as u64, MAX_TREE_FILES as u64)?;
        within("bytes", total, MAX_TREE_BYTES)?;
        // Git makes no tree in which a path is a file and a directory at once; a hand can.
        let above = |path: &str| path.match_indices('/').any(|(at, _)| paths.contains(&path[..at]));
        match paths.iter().find(|path| above(path)) {
            Some(both) => Err(GitError::UnsafePath(both.clone())),
            None => Ok(found),
        }
    }

    /// Writes the files of `revision` into `to`, which is made here and must not exist.
    pub async fn checkout(&self, revision: &Revision, to: &Path) -> Result<Vec<TreeEntry>, GitError> {
        let entries = self.files(revision).await?;
        let (wanted, contents) = (self.scratch_file("wanted"), self.scratch_file("contents"));
        let request: String = entries.iter().map(|e| format!("{}\n", e.object)).collect();
        std::fs::write(&wanted, request).map_err(GitError::io("write", &wanted))?;
        let args = ["cat-file", "--batch", "--buffer"];
        let call = Call { stdin: Some(&wanted), stdout: Some(&contents), ..Call::new(&args) };
        self.git.run(&self.dir, call).await?;
        let (to, from) = (to.to_owned(), contents.clone());
        let entries = blocking(move || {
            std::fs::create_dir(&to).map_err(GitError::io("make", &to))?;
            write_entries(&entries, &from, &to)?;
            Ok(entries)
        })
        .await?;
        std::fs::remove_file(&contents).map_err(GitError::io("remove", &contents))?;
        Ok(entries)
    }
}

pub(super) fn within(what: &'static str, got: u64, limit: u64) -> Result<(), GitError> {
    if got > limit { Err(GitError::TooLarge { what, got, limit }) } else { Ok(()) }
}

/// Reads `<mode> SP <type> SP <object> SP+ <size> TAB <path>`.
fn parse_entry(line: &[u8]) -> Result<TreeEntry, GitError> {
    let unexpected = || GitError::Unexpected { command: "ls-tree".to_owned() };
    let tab = line.iter().position(|b| *b == b'\t').ok_or_else(unexpected)?;
    let path = String::from_utf8(line[tab + 1..].to_vec())
        .map_err(|e| GitError::UnsafePath(String::from_utf8_lossy(e.as_bytes()).into_owned()))?;
    let head = std::str::from_utf8(&line[..tab]).map_err(|_| unexpected())?;
    let mut fields = head.split_ascii_whitespace();
    let (Some(mode), Some(_), Some(object), Some(size)) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err(unexpected());
    };
    let mode = match mode {
        "160000" => return Err(GitError::Submodule(path)),
        "120000" => TreeMode::Symlink,
        "100755" => TreeMode::Executable,
        _ => TreeMode::File,
    };
    if !is_safe_path(&path) {
        return Err(GitError::UnsafePath(path));
    }
    let bytes = size.parse().map_err(|_| unexpected())?;
    Ok(TreeEntry { mode, object: object.to_owned(), bytes, path })
}

/// Splits what `cat-file --batch` wrote into the entries' files.
fn write_entries(entries: &[TreeEntry], contents: &Path, to: &Path) -> Result<(), GitError> {
    let unexpected = || GitError::Unexpected { command: "cat-file".to_owned() };
    let file = File::open(contents).map_err(GitError::io("open", contents))?;
    let mut reader = BufReader::new(file);
    for entry in entries {
        let mut header = String::new();
        reader.read_line(&mut header).map_err(GitError::io("read", contents))?;
        if header.trim_end() != format!("{} blob {}", entry.object, entry.bytes) {
            return Err(unexpected());
        }
        let mut body = (&mut reader).take(entry.bytes);
        write_new_file(to, &entry.path, entry.mode == TreeMode::Executable, &mut body)?;
        let mut newline = [0_u8; 1];
        reader.read_exact(&mut newline).map_err(GitError::io("read", contents))?;
    }
    Ok(())
}

/// Writes one new file below `root`. Nothing below `root` is ever a link, so a safe path cannot lead outside.
pub(super) fn write_new_file(
    root: &Path,
    path: &str,
    executable: bool,
    content: &mut dyn Read,
) -> Result<u64, GitError> {
    let to = root.join(path);
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent).map_err(GitError::io("make", parent))?;
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(if executable { 0o755 } else { 0o644 })
        .open(&to)
        .map_err(GitError::io("create", &to))?;
    let written = std::io::copy(content, &mut file).map_err(GitError::io("write", &to))?;
    file.flush().map_err(GitError::io("write", &to))?;
    Ok(written)
}
