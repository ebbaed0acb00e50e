//! What differs between revisions, and merging without a working tree.

use std::collections::BTreeSet;

use df_contract::{Revision, Timestamp};

use super::commit::Identity;
use super::error::GitError;
use super::process::Call;
use super::repo::{Repo, parse_revision};

/// How a merge went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MergeOutcome {
    Merged(Revision),
    /// The paths both sides changed, each in its own way, or which the merge alone would change.
    Conflict(BTreeSet<String>),
}

impl Repo {
    /// Paths added, changed or removed from `base` to `new`.
    pub async fn changed_paths(&self, base: &Revision, new: &Revision) -> Result<BTreeSet<String>, GitError> {
        let args = ["diff-tree", "-r", "-z", "--no-renames", "--name-only", base.as_str(), new.as_str()];
        let out = self.call(&args).await?;
        paths("diff-tree", out.split(|b| *b == 0))
    }

    /// The newest commit both revisions have in their history.
    pub async fn merge_base(&self, a: &Revision, b: &Revision) -> Result<Revision, GitError> {
        let out = self.call(&["merge-base", a.as_str(), b.as_str()]).await?;
        parse_revision("merge-base", &out)
    }

    /// Merges `change` onto `head` as a commit with both as parents, even where `head` could be moved forward: the
    /// history then shows every integration.
    pub async fn merge(
        &self,
        head: &Revision,
        change: &Revision,
        message: &str,
        at: Timestamp,
    ) -> Result<MergeOutcome, GitError> {
        let args = [
            "merge-tree",
            "--write-tree",
            "-z",
            "--name-only",
            "--no-messages",
            head.as_str(),
            change.as_str(),
        ];
        let ended = self.git.run_any(&self.dir, Call::new(&args)).await?;
        let mut fields = ended.stdout.split(|b| *b == 0);
        let tree = parse_revision("merge-tree", fields.next().unwrap_or_default());
        match ended.code {
            0 => {
                let merged = self.commit_merge(&tree?, head, change, message, at).await?;
                let carried = self.carried(head, change, &merged).await?;
                Ok(if carried.is_empty() {
                    MergeOutcome::Merged(merged)
                } else {
                    MergeOutcome::Conflict(carried)
                })
            }
            1 if tree.is_ok() => paths("merge-tree", fields).map(MergeOutcome::Conflict),
            code => Err(GitError::Failed { command: "merge-tree".to_owned(), code, stderr: ended.stderr }),
        }
    }

    /// Paths the merge touched and the change did not: versions of git that follow renames whatever they are told
    /// carry an edit to where the other side has moved the file, past all that was checked of the change.
    async fn carried(
        &self,
        head: &Revision,
        change: &Revision,
        merged: &Revision,
    ) -> Result<BTreeSet<String>, GitError> {
        let start = self.merge_base(head, change).await?;
        let changed = self.changed_paths(&start, change).await?;
        let touched = self.changed_paths(head, merged).await?;
        Ok(touched.difference(&changed).cloned().collect())
    }

    async fn commit_merge(
        &self,
        tree: &Revision,
        head: &Revision,
        change: &Revision,
        message: &str,
        at: Timestamp,
    ) -> Result<Revision, GitError> {
        let who = Identity::of("worker");
        let date = format!("@{} +0000", at.as_millis() / 1000);
        let args = ["commit-tree", tree.as_str(), "-p", head.as_str(), "-p", change.as_str(), "-m", message];
        let call = Call {
            env: vec![
                ("GIT_AUTHOR_NAME", who.name.clone()),
                ("GIT_AUTHOR_EMAIL", who.email.clone()),
                ("GIT_AUTHOR_DATE", date.clone()),
                ("GIT_COMMITTER_NAME", who.name),
                ("GIT_COMMITTER_EMAIL", who.email),
                ("GIT_COMMITTER_DATE", date),
            ],
            ..Call::new(&args)
        };
        parse_revision("commit-tree", &self.git.run(&self.dir, call).await?)
    }
}

fn paths<'a>(command: &str, fields: impl Iterator<Item = &'a [u8]>) -> Result<BTreeSet<String>, GitError> {
    fields
        .filter(|f| !f.is_empty())
        .map(|f| {
            String::from_utf8(f.to_vec()).map_err(|_| GitError::Unexpected { command: command.to_owned() })
        })
        .collect()
}
