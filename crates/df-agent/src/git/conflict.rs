//! A change that does not fit, laid on top of the branch it does not fit: what merges is merged, texts that both sides
//! changed get conflict markers, and of everything else the branch's side stays and the other is described.
//!
//! The three trees are hostile. The checkout they are laid into was made here a moment ago and nothing has run in it:
//! it holds plain files alone, so a safe path cannot lead outside.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::path::{Path, PathBuf};

use df_contract::Revision;

use super::checkout::{TreeEntry, TreeMode, write_new_file};
use super::error::GitError;
use super::process::Call;
use super::repo::Repo;

/// Largest file that is merged line by line; larger ones are treated as binary.
const MAX_TEXT_BYTES: u64 = 2 * 1024 * 1024;
/// As git does: a text has no zero byte at its beginning.
const BINARY_LOOK_BYTES: usize = 8_000;
/// Most conflicts that are laid out; more are no work for one attempt.
pub const MAX_CONFLICTS: usize = 500;
/// Most bytes of the other side's text that a description brings along.
const MAX_SHOWN_BYTES: usize = 4 * 1024;

/// The three trees. `ours` is the branch.
#[derive(Debug, Clone, Copy)]
pub struct Sides<'a> {
    pub ours: &'a Revision,
    pub ancestor: &'a Revision,
    pub theirs: &'a Revision,
    /// Whose change theirs is; goes into the markers.
    pub label: &'a str,
}

/// A file with conflict markers in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marked {
    pub path: String,
    /// The lines that must be gone before the work is done.
    markers: Vec<String>,
}

/// A path of which the branch's side stayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undecided {
    pub path: String,
    /// What each side did.
    pub what: String,
    /// Their version, where it is a text; the beginning of a long one.
    pub theirs: Option<String>,
}

/// What laying one tree on another came to, by path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Laid {
    /// Paths that were taken from their side, or merged, without a question.
    pub taken: Vec<String>,
    pub marked: Vec<Marked>,
    pub undecided: Vec<Undecided>,
}

impl Marked {
    fn new(path: &str, label: &str, sides: [&[u8]; 3]) -> Self {
        let mut markers = vec![
            format!("<<<<<<< {OURS}"),
            format!("||||||| {ANCESTOR}"),
            SEPARATOR.to_owned(),
            format!(">>>>>>> {label}"),
        ];
        // A line of equals signs may be a heading of the file's own, and a text about conflicts may quote any of them.
        for side in sides {
            let side = String::from_utf8_lossy(side);
            let own: BTreeSet<&str> = side.lines().map(str::trim_end).collect();
            markers.retain(|marker| !own.contains(marker.as_str()));
        }
        Self { path: path.to_owned(), markers }
    }

    /// Whether a marker that was put in is still there.
    pub fn remains(&self, text: &[u8]) -> bool {
        let text = String::from_utf8_lossy(text);
        text.lines().any(|line| self.markers.iter().any(|marker| line.trim_end() == marker))
    }
}

/// Names of the sides in the markers.
const OURS: &str = "job branch";
const ANCESTOR: &str = "before both";
const SEPARATOR: &str = "=======";

impl Repo {
    /// Lays the change from `ancestor` to `theirs` on `tree`, a fresh checkout of `ours`.
    pub async fn lay(&self, sides: Sides<'_>, tree: &Path) -> Result<Laid, GitError> {
        let by_path = |entries: Vec<TreeEntry>| -> BTreeMap<String, TreeEntry> {
            entries.into_iter().map(|e| (e.path.clone(), e)).collect()
        };
        let ours = by_path(self.files(sides.ours).await?);
        let ancestor = by_path(self.files(sides.ancestor).await?);
        let theirs = by_path(self.files(sides.theirs).await?);
        let mut layer = Layer {
            repo: self,
            tree,
            label: sides.label,
            present: ours.keys().cloned().collect(),
            laid: Laid::default(),
        };
        let paths: BTreeSet<&String> = ancestor.keys().chain(theirs.keys()).collect();
        // Removals first: a directory may make room for a file of its name.
        for removals in [true, false] {
            for path in &paths {
                let three =
                    Three { ours: ours.get(*path), ancestor: ancestor.get(*path), theirs: theirs.get(*path) };
                if three.theirs.is_none() == removals && !same(three.ancestor, three.theirs) {
                    layer.lay(path, three).await?;
                }
            }
        }
        let conflicts = layer.laid.marked.len() + layer.laid.undecided.len();
        super::checkout::within("conflicts", conflicts as u64, MAX_CONFLICTS as u64)?;
        Ok(layer.laid)
    }
}

/// One path in the three trees.
#[derive(Clone, Copy)]
struct Three<'a> {
    ours: Option<&'a TreeEntry>,
    ancestor: Option<&'a TreeEntry>,
    theirs: Option<&'a TreeEntry>,
}

fn same(a: Option<&TreeEntry>, b: Option<&TreeEntry>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => a.object == b.object && a.mode == b.mode,
        (None, Some(_)) | (Some(_), None) => false,
    }
}

struct Layer<'a> {
    repo: &'a Repo,
    tree: &'a Path,
    label: &'a str,
    /// Paths of the files in the tree as it stands.
    present: BTreeSet<String>,
    laid: Laid,
}

impl Layer<'_> {
    /// Lays a path that their side changed.
    async fn lay(&mut self, path: &str, three: Three<'_>) -> Result<(), GitError> {
        let Three { ours, ancestor, theirs } = three;
        if same(ours, theirs) {
            return Ok(());
        }
        match (ours, ancestor, theirs) {
            (_, _, Some(new)) if same(ours, ancestor) => match self.in_the_way(path) {
                None => self.take(path, new).await,
                Some(other) => {
                    let what =
                        format!("the change puts a file here, and on the job branch `{other}` is in the way");
                    self.leave(path, what, theirs).await
                }
            },
            (Some(_), _, None) if same(ours, ancestor) => self.remove(path),
            (Some(ours), Some(ancestor), Some(theirs)) => self.merge(path, [ours, ancestor, theirs]).await,
            (Some(_), None, Some(_)) => {
                self.leave(path, "both sides added it, each in its own way".to_owned(), theirs).await
            }
            (None, Some(_), Some(_)) => {
                self.leave(path, "the job branch removed it, the change edited it".to_owned(), theirs).await
            }
            (Some(_), Some(_), None) => {
                self.leave(path, "the change removed it, the job branch edited it".to_owned(), None).await
            }
            // What only their side ever had or lacked is the same on ours as in the ancestor.
            (None, _, None) | (None, None, Some(_)) | (Some(_), None, None) => Ok(()),
        }
    }

    /// A file where `path` needs a directory, or one below it where it needs to be a file.
    fn in_the_way(&self, path: &str) -> Option<String> {
        let above =
            path.match_indices('/').map(|(at, _)| &path[..at]).find(|dir| self.present.contains(*dir));
        let below = || {
            let dir = format!("{path}/");
            self.present.range(dir.clone()..).next().filter(|other| other.starts_with(&dir))
        };
        above.map(str::to_owned).or_else(|| below().cloned())
    }

    async fn take(&mut self, path: &str, entry: &TreeEntry) -> Result<(), GitError> {
        let content = self.content(entry).await?;
        self.put(path, &content, entry.mode)?;
        self.laid.taken.push(path.to_owned());
        Ok(())
    }

    fn remove(&mut self, path: &str) -> Result<(), GitError> {
        let file = self.tree.join(path);
        std::fs::remove_file(&file).map_err(GitError::io("remove", &file))?;
        self.present.remove(path);
        // Directories that became empty go too, as in any checkout.
        for dir in file.ancestors().skip(1).take_while(|dir| *dir != self.tree) {
            if std::fs::remove_dir(dir).is_err() {
                break;
            }
        }
        self.laid.taken.push(path.to_owned());
        Ok(())
    }

    fn put(&mut self, path: &str, content: &[u8], mode: TreeMode) -> Result<(), GitError> {
        let file = self.tree.join(path);
        if self.present.remove(path) {
            std::fs::remove_file(&file).map_err(GitError::io("remove", &file))?;
        }
        write_new_file(self.tree, path, mode == TreeMode::Executable, &mut Cursor::new(content))?;
        self.present.insert(path.to_owned());
        Ok(())
    }

    async fn leave(&mut self, path: &str, what: String, theirs: Option<&TreeEntry>) -> Result<(), GitError> {
        let theirs = match theirs {
            Some(entry) if entry.bytes <= MAX_TEXT_BYTES => shown(&self.content(entry).await?),
            Some(_) | None => None,
        };
        self.laid.undecided.push(Undecided { path: path.to_owned(), what, theirs });
        Ok(())
    }

    /// Both sides edited the file.
    async fn merge(&mut self, path: &str, three: [&TreeEntry; 3]) -> Result<(), GitError> {
        let [ours, ancestor, theirs] = three;
        let mode = if theirs.mode == ancestor.mode { ours.mode } else { theirs.mode };
        let plain = three.iter().all(|e| e.mode != TreeMode::Symlink && e.bytes <= MAX_TEXT_BYTES);
        let edited = || "both sides edited it, and it is no text that can be merged".to_owned();
        if !plain {
            return self.leave(path, edited(), Some(theirs)).await;
        }
        let mut texts = Vec::new();
        for entry in [ours, ancestor, theirs] {
            texts.push(self.content(entry).await?);
        }
        if texts.iter().any(|text| is_binary(text)) {
            return self.leave(path, edited(), None).await;
        }
        let (merged, clean) = self.merge_texts([&texts[0], &texts[1], &texts[2]]).await?;
        self.put(path, &merged, mode)?;
        if clean {
            self.laid.taken.push(path.to_owned());
        } else {
            let sides = [&texts[0][..], &texts[1][..], &texts[2][..]];
            self.laid.marked.push(Marked::new(path, self.label, sides));
        }
        Ok(())
    }

    /// The merged text, and whether there was no conflict.
    async fn merge_texts(&self, texts: [&[u8]; 3]) -> Result<(Vec<u8>, bool), GitError> {
        let files: [PathBuf; 3] = ["ours", "ancestor", "theirs"].map(|name| self.repo.scratch_file(name));
        for (file, text) in files.iter().zip(texts) {
            std::fs::write(file, text).map_err(GitError::io("write", file))?;
        }
        let [ours, ancestor, theirs] = files.each_ref().map(|file| file.as_os_str());
        let args = [
            "merge-file".as_ref(),
            "-p".as_ref(),
            "--diff3".as_ref(),
            "-L".as_ref(),
            OURS.as_ref(),
            "-L".as_ref(),
            ANCESTOR.as_ref(),
            "-L".as_ref(),
            self.label.as_ref(),
            ours,
            ancestor,
            theirs,
        ];
        let ended = self.repo.git.run_any(&self.repo.dir, Call::new(&args)).await?;
        match ended.code {
            0 => Ok((ended.stdout, true)),
            // The number of conflicts, or 127 when there are more.
            1..=127 => Ok((ended.stdout, false)),
            code => Err(GitError::Failed { command: "merge-file".to_owned(), code, stderr: ended.stderr }),
        }
    }

    async fn content(&self, entry: &TreeEntry) -> Result<Vec<u8>, GitError> {
        let to = self.repo.scratch_file("blob");
        let args = ["cat-file", "blob", entry.object.as_str()];
        let call = Call { stdout: Some(&to), ..Call::new(&args) };
        self.repo.git.run(&self.repo.dir, call).await?;
        std::fs::read(&to).map_err(GitError::io("read", &to))
    }
}

fn is_binary(content: &[u8]) -> bool {
    content.iter().take(BINARY_LOOK_BYTES).any(|byte| *byte == 0)
}

/// The beginning of a text; nothing of what is none.
fn shown(content: &[u8]) -> Option<String> {
    if is_binary(content) {
        return None;
    }
    let text = std::str::from_utf8(content).ok()?;
    let end = text.floor_char_boundary(MAX_SHOWN_BYTES);
    let more = if end < text.len() { "\n[...]" } else { "" };
    Some(format!("{}{more}", &text[..end]))
}
