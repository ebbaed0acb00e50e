//! One hardened call of the git binary: fixed environment, no configuration but ours, bounded time and output.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use super::error::GitError;

/// One call may take this long.
const CALL_TIMEOUT: Duration = Duration::from_secs(180);
/// Most captured standard output: a listing of the largest tree fits.
const STDOUT_LIMIT: u64 = 64 * 1024 * 1024;
/// The first git with `merge-tree --write-tree`.
const GIT_MIN: (u32, u32) = (2, 38);
const STDERR_LIMIT: u64 = 64 * 1024;
/// Longest part of git's own message that goes into an error.
const MESSAGE_CHARS: usize = 600;
/// The tree without entries: attributes are read from here, that is from nowhere.
const EMPTY_TREE: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

/// Settings on every call. `attr.tree` keeps git from reading `.gitattributes` out of `HEAD` of a bare repository.
const SETTINGS: &[&str] = &[
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.symlinks=false",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "core.sshCommand=false",
    "core.askPass=false",
    "core.pager=cat",
    "core.autocrlf=false",
    "core.bigFileThreshold=16m",
    "credential.helper=",
    // A change stays at the paths it was judged by; see also `Repo::merge`.
    "merge.renames=false",
    "merge.directoryRenames=false",
    "protocol.allow=never",
    "submodule.recurse=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "commit.gpgSign=false",
    "pack.threads=1",
    "index.threads=1",
    "uploadpack.packObjectsHook=",
];

/// The git binary and an empty home for it.
#[derive(Debug, Clone)]
pub struct Git {
    home: PathBuf,
}

/// One call: where its input comes from and its output goes. Large data passes through files, never pipes.
#[derive(Debug, Default)]
pub(crate) struct Call<'a> {
    pub(crate) args: Vec<&'a OsStr>,
    pub(crate) stdin: Option<&'a Path>,
    pub(crate) stdout: Option<&'a Path>,
    pub(crate) env: Vec<(&'static str, String)>,
}

impl<'a> Call<'a> {
    pub(crate) fn new<S: AsRef<OsStr> + ?Sized>(args: &'a [&'a S]) -> Self {
        Self { args: args.iter().map(|a| a.as_ref()).collect(), ..Self::default() }
    }
    fn name(&self) -> String {
        self.args.first().map(|a| a.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

/// How a call ended, whatever its exit code.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Git {
    /// `home` is made here and stays empty.
    pub fn new(home: &Path) -> Result<Self, GitError> {
        std::fs::create_dir_all(home).map_err(GitError::io("make", home))?;
        Ok(Self { home: home.to_owned() })
    }

    /// The version of git, and whether it can do all that is asked of it here (2.38: merging without a working tree).
    pub async fn version(&self) -> Result<(String, bool), GitError> {
        let out = self.run(&self.home, Call::new(&["version"])).await?;
        let text = String::from_utf8_lossy(&out).trim().trim_start_matches("git version ").to_owned();
        let mut parts = text.split('.').map_while(|part| part.parse::<u32>().ok());
        let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        Ok((text, found >= GIT_MIN))
    }

    /// A call that must exit 0; gives its standard output.
    pub(crate) async fn run(&self, git_dir: &Path, call: Call<'_>) -> Result<Vec<u8>, GitError> {
        let command = call.name();
        let ended = self.run_any(git_dir, call).await?;
        if ended.code == 0 {
            Ok(ended.stdout)
        } else {
            Err(GitError::Failed { command, code: ended.code, stderr: ended.stderr })
        }
    }

    /// A call whose exit code the caller reads.
    pub(crate) async fn run_any(&self, git_dir: &Path, call: Call<'_>) -> Result<Ended, GitError> {
        let command = call.name();
        let mut child = self.command(git_dir, &call)?.spawn().map_err(GitError::Spawn)?;
        let mut group = Group::of(&child);
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let work = async {
            let (stdout, stderr, status) =
                tokio::join!(read_bounded(out, STDOUT_LIMIT), read_bounded(err, STDERR_LIMIT), child.wait(),);
            (stdout, stderr, status)
        };
        let (stdout, stderr, status) = tokio::time::timeout(CALL_TIMEOUT, work).await.map_err(|_| {
            GitError::TimedOut { command: command.clone(), limit_ms: CALL_TIMEOUT.as_millis() as u64 }
        })?;
        group.disarm();
        let status = status.map_err(GitError::Spawn)?;
        let Some(stdout) = stdout else {
            return Err(GitError::OutputTooLarge { command, limit: STDOUT_LIMIT });
        };
        let stderr =
            String::from_utf8_lossy(&stderr.unwrap_or_default()).trim().chars().take(MESSAGE_CHARS).collect();
        Ok(Ended { code: status.code().unwrap_or(-1), stdout, stderr })
    }

    fn command(&self, git_dir: &Path, call: &Call<'_>) -> Result<Command, GitError> {
        let mut command = Command::new("git");
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", &self.home)
            .env("XDG_CONFIG_HOME", &self.home)
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_LITERAL_PATHSPECS", "1")
            .env("GIT_ALLOW_PROTOCOL", "")
            .envs(call.env.iter().map(|(k, v)| (*k, v.as_str())))
            .current_dir(&self.home)
            .arg("--no-optional-locks")
            .arg("--no-pager");
        for setting in SETTINGS {
            command.arg("-c").arg(setting);
        }
        command.arg("-c").arg(format!("attr.tree={EMPTY_TREE}"));
        let mut dir = OsString::from("--git-dir=");
        dir.push(git_dir);
        command.arg(dir).args(&call.args);
        command.stdin(match call.stdin {
            Some(path) => File::open(path).map_err(GitError::io("open", path))?.into(),
            None => Stdio::null(),
        });
        command.stdout(match call.stdout {
            Some(path) => File::create(path).map_err(GitError::io("create", path))?.into(),
            None => Stdio::piped(),
        });
        command.stderr(Stdio::piped()).kill_on_drop(true).process_group(0);
        Ok(command)
    }
}

/// Reads to the end; `None` when there was more than `limit`, of which the rest is left in the pipe, now closed.
async fn read_bounded(pipe: Option<impl AsyncRead + Unpin>, limit: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        let read = pipe.take(limit + 1).read_to_end(&mut bytes).await;
        if read.is_err() || bytes.len() as u64 > limit {
            return None;
        }
    }
    Some(bytes)
}

/// Kills git with the helpers it started when the call is given up.
struct Group(Option<rustix::process::Pid>);

impl Group {
    fn of(child: &tokio::process::Child) -> Self {
        Self(child.id().and_then(|id| rustix::process::Pid::from_raw(id as i32)))
    }
    fn disarm(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            // Nothing is left to do when the group has gone already.
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
    }
}
