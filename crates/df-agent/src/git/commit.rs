//! Files into a commit, by `fast-import`: the one way in that knows neither filters nor attributes nor an index.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use df_contract::{Revision, Timestamp};

use super::checkout::{TreeEntry, TreeMode, within};
use super::error::{GitError, blocking};
use super::process::Call;
use super::repo::Repo;
use super::{MAX_FILE_BYTES, MAX_TREE_BYTES, MAX_TREE_FILES, is_safe_path};

/// Longest commit message, in bytes.
const MAX_MESSAGE_BYTES: usize = 16 * 1024;

/// Who a commit is by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub name: String,
    pub email: String,
}

impl Identity {
    /// The factory's own identity for `who` (`worker`, an agent's role). The domain can never resolve (RFC 2606).
    pub fn of(who: &str) -> Self {
        Self { name: format!("devfactory {who}"), email: format!("{who}@devfactory.invalid") }
    }
    fn line(&self, kind: &str, at: Timestamp) -> String {
        let plain = |s: &str| s.replace(['<', '>', '\n', '\0'], "");
        format!("{kind} {} <{}> {} +0000\n", plain(&self.name), plain(&self.email), at.as_millis() / 1000)
    }
}

/// What a commit says about itself. With the same files, parent and `at` the revision is the same.
#[derive(Debug, Clone)]
pub struct CommitSpec<'a> {
    /// Full name: `refs/heads/df/<slug>/<epoch>`.
    pub branch: &'a str,
    pub parent: Option<&'a Revision>,
    pub message: &'a str,
    pub author: Identity,
    pub at: Timestamp,
}

/// One file to commit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TreeFile {
    pub path: String,
    pub on_disk: PathBuf,
    pub executable: bool,
    pub bytes: u64,
}

/// The regular files below `root`, sorted; directories named `.git` are left out, links and other kinds refused.
pub fn list_files(root: &Path) -> Result<Vec<TreeFile>, GitError> {
    let mut found = Vec::new();
    let mut total = 0_u64;
    let walk = walkdir::WalkDir::new(root).follow_links(false).min_depth(1).sort_by_file_name();
    for entry in walk.into_iter().filter_entry(|e| !e.file_name().eq_ignore_ascii_case(".git")) {
        let entry = entry.map_err(|e| GitError::Io {
            attempted: "list",
            path: root.to_owned(),
            source: e.into_io_error().unwrap_or_else(|| std::io::Error::other("a loop of links")),
        })?;
        if entry.file_type().is_dir() {
            continue;
        }
        let below = entry.path().strip_prefix(root).unwrap_or(entry.path());
        let path = below.to_str().filter(|p| is_safe_path(p) && entry.file_type().is_file());
        let Some(path) = path else {
            return Err(GitError::UnsafePath(below.to_string_lossy().into_owned()));
        };
        let meta = std::fs::symlink_metadata(entry.path()).map_err(GitError::io("measure", entry.path()))?;
        total = total.saturating_add(meta.len());
        within("bytes in one file", meta.len(), MAX_FILE_BYTES)?;
        found.push(TreeFile {
            path: path.to_owned(),
            on_disk: entry.path().to_owned(),
            executable: meta.permissions().mode() & 0o100 != 0,
            bytes: meta.len(),
        });
        within("files", found.len() as u64, MAX_TREE_FILES as u64)?;
        within("bytes", total, MAX_TREE_BYTES)?;
    }
    Ok(found)
}

impl Repo {
    /// Commits exactly `files`. An entry of `links` (the base's symbolic links) stays a link while the file at its
    /// path still holds the link's target, byte for byte; a new link cannot be made.
    pub async fn commit(
        &self,
        files: Vec<TreeFile>,
        links: &[TreeEntry],
        spec: CommitSpec<'_>,
    ) -> Result<Revision, GitError> {
        let stream = self.scratch_file("import");
        let head = header(&spec);
        let links: Vec<TreeEntry> = links.iter().filter(|e| e.mode == TreeMode::Symlink).cloned().collect();
        let targets = self.link_targets(&links).await?;
        let to = stream.clone();
        blocking(move || write_stream(&to, &head, &files, &targets)).await?;
        let args = ["fast-import", "--quiet", "--done", "--force", "--date-format=raw"];
        self.git.run(&self.dir, Call { stdin: Some(&stream), ..Call::new(&args) }).await?;
        std::fs::remove_file(&stream).map_err(GitError::io("remove", &stream))?;
        self.revision_of(spec.branch).await
    }

    async fn link_targets(&self, links: &[TreeEntry]) -> Result<Vec<(String, Vec<u8>)>, GitError> {
        let mut targets = Vec::new();
        for link in links {
            targets.push((link.path.clone(), self.call(&["cat-file", "blob", &link.object]).await?));
        }
        Ok(targets)
    }
}

fn header(spec: &CommitSpec<'_>) -> String {
    let mut message = spec.message.replace('\0', "");
    message.truncate(message.floor_char_boundary(MAX_MESSAGE_BYTES));
    let message = format!("{}\n", message.trim());
    let mut head = format!("commit {}\n", spec.branch);
    head += &spec.author.line("author", spec.at);
    head += &Identity::of("worker").line("committer", spec.at);
    head += &format!("data {}\n{message}\n", message.len());
    if let Some(parent) = spec.parent {
        head += &format!("from {parent}\n");
    }
    head += "deleteall\n";
    head
}

fn write_stream(
    to: &Path,
    head: &str,
    files: &[TreeFile],
    links: &[(String, Vec<u8>)],
) -> Result<(), GitError> {
    let out = File::create(to).map_err(GitError::io("create", to))?;
    let mut out = BufWriter::new(out);
    let mut put = |bytes: &[u8]| out.write_all(bytes).map_err(GitError::io("write", to));
    put(head.as_bytes())?;
    for file in files {
        let mut content = Vec::new();
        File::open(&file.on_disk)
            .and_then(|f| f.take(MAX_FILE_BYTES + 1).read_to_end(&mut content))
            .map_err(GitError::io("read", &file.on_disk))?;
        within("bytes in one file", content.len() as u64, MAX_FILE_BYTES)?;
        let is_link = links.iter().any(|(path, target)| *path == file.path && *target == content);
        let mode = match (is_link, file.executable) {
            (true, _) => "120000",
            (false, true) => "100755",
            (false, false) => "100644",
        };
        put(format!("M {mode} inline {}\ndata {}\n", quoted(&file.path), content.len()).as_bytes())?;
        put(&content)?;
        put(b"\n")?;
    }
    put(b"done\n")?;
    out.flush().map_err(GitError::io("write", to))
}

/// A path as `fast-import` reads it; control characters never get this far.
fn quoted(path: &str) -> String {
    format!("\"{}\"", path.replace('\\', "\\\\").replace('"', "\\\""))
}
