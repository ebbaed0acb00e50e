//! One attempt of the built-in agent: what it is given and what it gives back.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use df_contract::task::AgentStatus;
use df_contract::{AgentResult, AgentTask, Digest, DurationMs, FailureKind, Plan, Usage};
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::context;
use crate::git::Laid;
use crate::manifest::Manifest;
use crate::model::{Message, ModelClient, Patience};
use crate::rights::Rights;
use crate::runner::CommandRunner;
use crate::session::{Counts, End, Failure, Session};
use crate::tools::{Tool, ToolBox, definitions};
use crate::trace::Trace;
use crate::workspace::Workspace;

/// Bytes of the last words of a failed attempt that go into its summary.
const LAST_WORDS_BYTES_MAX: usize = 1024;

/// The grant, as a bearer token. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct ModelToken(String);

impl ModelToken {
    pub fn new(token: impl Into<String>) -> Self {
        Self(token.into())
    }
    /// The bearer token itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ModelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ModelToken(..)")
    }
}

/// What a line of progress is about; the wire names are those of [`df_contract::lease::ProgressLine`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoteKind {
    Model,
    Tool,
    Check,
    Note,
}

impl NoteKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            NoteKind::Model => "model",
            NoteKind::Tool => "tool",
            NoteKind::Check => "check",
            NoteKind::Note => "note",
        }
    }
}

/// One line of progress for people who watch. The receiver adds the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgressNote {
    pub kind: NoteKind,
    pub text: String,
}

/// One attempt, ready to run.
#[derive(Debug)]
pub struct Attempt<'a, R: CommandRunner> {
    pub task: &'a AgentTask,
    /// The agent; its role must be the task's type.
    pub manifest: &'a Manifest,
    /// The checkout of the base revision, without `.git`.
    pub workspace: &'a Path,
    /// What laying the task's conflict on the checkout came to.
    pub laid: Option<&'a Laid>,
    pub runner: &'a R,
    /// For calls to `task.model_endpoint`.
    pub http: &'a reqwest::Client,
    /// Lines for watchers; must be drained, a full channel holds the attempt up.
    pub progress: mpsc::Sender<ProgressNote>,
    /// The current grant: first `task.model_token`, then what heartbeats bring.
    pub token: watch::Receiver<ModelToken>,
    /// Becomes true when the lease is lost: the attempt stops at once.
    pub cancel: watch::Receiver<bool>,
}

/// How an attempt ended.
#[derive(Debug)]
pub struct AttemptReport {
    /// Without `tree`, which the worker adds. `artefacts` and `checks` name blobs of `blobs` by digest.
    pub result: AgentResult,
    /// To be uploaded before the result is reported; the address of each is the SHA-256 of its bytes.
    pub blobs: Vec<Vec<u8>>,
    /// How often the agent tried to write where it may not.
    pub denied_writes: u32,
}

/// Runs an attempt to its end. Never fails itself: whatever happens is in the report.
pub async fn run_attempt<R: CommandRunner>(attempt: Attempt<'_, R>) -> AttemptReport {
    run_with(attempt, Patience::default()).await
}

pub(crate) async fn run_with<R: CommandRunner>(attempt: Attempt<'_, R>, patience: Patience) -> AttemptReport {
    let started = Instant::now();
    let (task, manifest) = (attempt.task, attempt.manifest);
    if manifest.role != task.r#type {
        let detail = format!("agent `{}` cannot do a task for {}", manifest.name, task.r#type.as_str());
        return nothing_done(FailureKind::ContractBreach, detail);
    }
    let workspace = match Workspace::open(attempt.workspace) {
        Ok(workspace) => workspace,
        Err(error) => return nothing_done(FailureKind::Infrastructure, error.to_string()),
    };
    let rights = Rights::of(task);
    let messages = vec![
        Message::System(manifest.prompt.clone()),
        Message::User(context::brief(task, &rights, &workspace, attempt.laid)),
    ];
    let wall = task.constraints.max_wall_ms.min(DurationMs::from_secs(manifest.limits.wall_s));
    let tools = definitions(&manifest.tools, !task.input.agents.is_empty());
    let toolbox = ToolBox::new(workspace, rights);
    let runs_commands = manifest.tools.contains(&Tool::Exec) || !task.checks.is_empty();
    let mut session = Session {
        task,
        manifest,
        laid: attempt.laid,
        runner: attempt.runner,
        model: ModelClient {
            http: attempt.http,
            endpoint: &task.model_endpoint,
            token: attempt.token,
            patience,
        },
        tools: if runs_commands { toolbox.guard() } else { toolbox },
        progress: attempt.progress,
        cancel: attempt.cancel,
        deadline: started + wall.to_std(),
        messages,
        trace: Trace::start(task.id.as_str(), &manifest.digest, &task.model, &tools),
        usage: Usage::default(),
        checks: Vec::new(),
        check_logs: Vec::new(),
        counts: Counts::default(),
    };
    let ended = session.run().await;
    let wall_ms = DurationMs(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
    report(session, ended, wall_ms)
}

fn report<R: CommandRunner>(
    session: Session<'_, R>,
    ended: Result<End, Failure>,
    wall_ms: DurationMs,
) -> AttemptReport {
    let usage = Usage { wall_ms, ..session.usage };
    let denied_writes = session.tools.denied_writes;
    let (status, summary, commit_message, plan) = match ended {
        Ok(End::Finished { summary, commit_message }) => {
            (AgentStatus::Succeeded, summary, commit_message, None)
        }
        Ok(End::Planned(plan)) => (AgentStatus::Succeeded, plan.summary.clone(), String::new(), Some(plan)),
        Err(Failure { kind, detail }) => {
            let summary = last_words(&session.messages, &usage);
            (AgentStatus::Failed { kind, detail }, summary, String::new(), None::<Plan>)
        }
    };
    let mut artefacts = BTreeMap::new();
    let logs = session.tools.into_logs();
    let digests: Vec<Digest> = logs.iter().map(|log| Digest::of(log)).collect();
    for (n, digest) in digests.iter().enumerate() {
        artefacts.insert(format!("log-{}", n + 1), digest.clone());
    }
    // Times are no part of a trace.
    let trace = session.trace.end(&json!(status), &digests);
    artefacts.insert("trace".to_owned(), Digest::of(&trace));
    let mut blobs = vec![trace];
    blobs.extend(logs);
    blobs.extend(session.check_logs);
    let result = AgentResult {
        status,
        summary,
        commit_message,
        tree: None,
        plan,
        checks: session.checks,
        usage,
        artefacts,
    };
    AttemptReport { result, blobs, denied_writes }
}

fn last_words(messages: &[Message], usage: &Usage) -> String {
    let words = messages.iter().rev().find_map(|message| match message {
        Message::Assistant { content: Some(text), .. } => Some(text.as_str()),
        Message::Assistant { content: None, .. }
        | Message::System(_)
        | Message::User(_)
        | Message::Tool { .. } => None,
    });
    let steps =
        format!("Not finished after {} steps and {} tool calls.", usage.model_calls, usage.tool_calls);
    match words {
        Some(words) => {
            let end = words.floor_char_boundary(LAST_WORDS_BYTES_MAX);
            format!("{steps} The agent's last words: {}", &words[..end])
        }
        None => steps,
    }
}

fn nothing_done(kind: FailureKind, detail: String) -> AttemptReport {
    let result = AgentResult {
        status: AgentStatus::Failed { kind, detail },
        summary: "The attempt could not start.".to_owned(),
        commit_message: String::new(),
        tree: None,
        plan: None,
        checks: Vec::new(),
        usage: Usage::default(),
        artefacts: BTreeMap::new(),
    };
    AttemptReport { result, blobs: Vec::new(), denied_writes: 0 }
}
