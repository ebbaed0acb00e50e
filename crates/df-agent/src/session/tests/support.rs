//! The world outside an attempt: a model server that plays a script, and commands run as plain processes.

use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use df_contract::task::{AgentStatus, TaskConstraints, TaskInput, TreeRef};
use df_contract::{
    AcceptanceCheck, AgentTask, AttemptId, Digest, DurationMs, FailureKind, JobId, NetworkMode, Role,
    Timestamp, Tokens,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use crate::attempt::{Attempt, AttemptReport, ModelToken, run_with};
use crate::manifest::Manifest;
use crate::model::Patience;
use crate::runner::{CommandOutcome, CommandRunner, RunnerError};

pub(super) const TOKEN: &str = "dfg1.secret-grant";

/// One answer of the script.
pub(super) enum Reply {
    /// A streamed answer with tool calls: name and arguments, as JSON or as they are.
    Calls(Vec<(&'static str, Value)>),
    Text(&'static str),
    /// A whole HTTP answer after the status line.
    Status(u16, &'static str, Value),
    /// An event stream, word for word.
    Events(String),
    /// Nothing, for ever.
    Silence,
}

pub(super) fn call(name: &'static str, arguments: Value) -> Reply {
    Reply::Calls(vec![(name, arguments)])
}

pub(super) fn exec(command: &str) -> Reply {
    call("exec", json!({"command": command}))
}

pub(super) fn finish() -> Reply {
    call("finish", json!({"summary": "did it", "commit_message": "area: do it\n\nBecause."}))
}

#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) authorization: String,
    pub(super) body: Value,
}

type Script = Box<dyn FnMut(usize) -> Reply + Send>;

/// A model server on a port of its own.
pub(super) struct Server {
    pub(super) endpoint: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Server {
    /// Plays the replies in order; asked for more, it repeats a refusal that ends the attempt.
    pub(super) async fn plays(replies: Vec<Reply>) -> Self {
        let mut replies = replies.into_iter();
        Self::answers(Box::new(move |_| {
            replies.next().unwrap_or_else(|| Reply::Status(400, "", json!({"detail": "the script is over"})))
        }))
        .await
    }

    pub(super) async fn answers(mut script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&seen);
        let serving = tokio::spawn(async move {
            let mut parked = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let Some(request) = read_request(&mut stream).await else { continue };
                let number = {
                    let mut seen = record.lock().unwrap();
                    seen.push(request);
                    seen.len()
                };
                match script(number) {
                    Reply::Silence => parked.push(stream),
                    reply => {
                        let bytes = rendered(reply);
                        // A client that gave up is part of some scripts.
                        let _ = stream.write_all(&bytes).await;
                        let _ = stream.shutdown().await;
                    }
                }
            }
        });
        Self { endpoint, seen, serving }
    }

    /// A server that is not there.
    pub(super) fn nowhere(endpoint: String) -> Self {
        Self { endpoint, seen: Arc::default(), serving: tokio::spawn(async {}) }
    }

    /// What has been seen, while the attempt runs.
    pub(super) fn watch(&self) -> Arc<Mutex<Vec<Seen>>> {
        Arc::clone(&self.seen)
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Results of tool calls as the last request shows them.
    pub(super) fn results(&self) -> Vec<String> {
        let seen = self.seen();
        let messages = seen.last().unwrap().body["messages"].as_array().unwrap().clone();
        let tools = messages.iter().filter(|m| m["role"] == "tool");
        tools.map(|m| m["content"].as_str().unwrap().to_owned()).collect()
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let header = |name: &str| {
            head.lines()
                .filter_map(|l| l.split_once(": "))
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.to_owned())
        };
        let length: usize = header("content-length")?.parse().ok()?;
        if bytes.len() >= end + 4 + length {
            assert!(head.starts_with("POST /v1/chat/completions "), "{head}");
            let body = serde_json::from_slice(&bytes[end + 4..]).unwrap();
            return Some(Seen { authorization: header("authorization").unwrap_or_default(), body });
        }
    }
}

fn rendered(reply: Reply) -> Vec<u8> {
    let (status, headers, body) = match reply {
        Reply::Calls(calls) => (200, "content-type: text/event-stream\r\n", events(None, &calls, true)),
        Reply::Text(text) => (200, "content-type: text/event-stream\r\n", events(Some(text), &[], true)),
        Reply::Status(status, headers, body) => (status, headers, body.to_string()),
        Reply::Events(events) => (200, "content-type: text/event-stream\r\n", events),
        Reply::Silence => unreachable!("silence has no bytes"),
    };
    format!(
        "HTTP/1.1 {status} X\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// An event stream as OpenAI-compatible servers send it: names first, arguments in pieces.
pub(super) fn events(text: Option<&str>, calls: &[(&str, Value)], whole: bool) -> String {
    let mut out = String::from(": thinking\n\n");
    let mut push = |delta: Value, finish: Option<&str>| {
        let chunk = json!({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]});
        out.push_str(&format!("data: {chunk}\n\n"));
    };
    push(json!({"role": "assistant", "content": text}), None);
    for (index, (name, arguments)) in calls.iter().enumerate() {
        let id = format!("id-{index}");
        push(
            json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": ""}}]}),
            None,
        );
        let arguments = arguments.as_str().map_or_else(|| arguments.to_string(), str::to_owned);
        let (first, second) = arguments.split_at(arguments.floor_char_boundary(arguments.len() / 2));
        for piece in [first, second] {
            push(json!({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}), None);
        }
    }
    if whole {
        push(json!({}), Some(if calls.is_empty() { "stop" } else { "tool_calls" }));
        out.push_str("data: {\"choices\":[],\"usage\":{\"prompt_tokens\":100,\"completion_tokens\":10}}\n\ndata: [DONE]\n\n");
    }
    out
}

/// Runs commands without any isolation.
pub(super) struct Processes {
    dir: std::path::PathBuf,
}

impl CommandRunner for Processes {
    async fn run(
        &self,
        command: &str,
        timeout: DurationMs,
        mut cancel: watch::Receiver<bool>,
    ) -> Result<CommandOutcome, RunnerError> {
        let child = tokio::process::Command::new("sh")
            .args(["-c", &format!("exec 2>&1; {command}")])
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| RunnerError::Start(e.to_string()))?;
        let timed = tokio::time::timeout(timeout.to_std(), child.wait_with_output());
        let done = tokio::select! {
            done = timed => done,
            _ = cancel.wait_for(|stop| *stop) => return Err(RunnerError::Cancelled),
        };
        let (exit, timed_out, full_output) = match done {
            Ok(output) => {
                let output = output.map_err(|e| RunnerError::Start(e.to_string()))?;
                (output.status.code(), false, output.stdout)
            }
            Err(_) => (None, true, Vec::new()),
        };
        let output = String::from_utf8_lossy(&full_output).into_owned();
        Ok(CommandOutcome { exit, timed_out, output, full_output, wall_ms: DurationMs(1) })
    }
}

/// A workspace and a task in it.
pub(super) struct Stage {
    pub(super) dir: tempfile::TempDir,
    pub(super) task: AgentTask,
}

impl Stage {
    pub(super) fn new(role: Role, files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Self { dir, task: task(role) }
    }

    pub(super) fn check(mut self, command: &str) -> Self {
        let check = AcceptanceCheck {
            id: "unit".into(),
            command: command.into(),
            timeout_ms: DurationMs::from_secs(60),
        };
        self.task.checks.push(check);
        self
    }

    pub(super) fn file(&self, path: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(path)).unwrap()
    }

    pub(super) async fn run(&mut self, server: &Server) -> AttemptReport {
        let (_keep, token) = watch::channel(ModelToken::new(TOKEN));
        let (_stop, cancel) = watch::channel(false);
        self.run_with(server, token, cancel).await
    }

    pub(super) async fn run_with(
        &mut self,
        server: &Server,
        token: watch::Receiver<ModelToken>,
        cancel: watch::Receiver<bool>,
    ) -> AttemptReport {
        let manifest = Manifest::built_in(self.task.r#type).unwrap().unwrap();
        self.run_as(server, &manifest, token, cancel).await
    }

    pub(super) async fn run_as(
        &mut self,
        server: &Server,
        manifest: &Manifest,
        token: watch::Receiver<ModelToken>,
        cancel: watch::Receiver<bool>,
    ) -> AttemptReport {
        self.task.model_endpoint = server.endpoint.clone();
        let runner = Processes { dir: self.dir.path().to_owned() };
        let (progress, mut lines) = mpsc::channel(4);
        let drain = tokio::spawn(async move { while lines.recv().await.is_some() {} });
        // Another test of this process may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::new();
        let attempt = Attempt {
            laid: None,
            task: &self.task,
            manifest,
            workspace: self.dir.path(),
            runner: &runner,
            http: &http,
            progress,
            token,
            cancel,
        };
        let patience = Patience {
            tries: 4,
            pause: Duration::from_millis(1),
            pause_max: Duration::from_millis(5),
            token_wait: Duration::from_millis(50),
            idle: Duration::from_secs(60),
        };
        let report = run_with(attempt, patience).await;
        drain.await.unwrap();
        for digest in
            report.result.artefacts.values().chain(report.result.checks.iter().filter_map(|c| c.log.as_ref()))
        {
            assert!(report.blobs.iter().any(|blob| Digest::of(blob) == *digest), "a named blob is missing");
        }
        assert!(!format!("{report:?}").contains(TOKEN) && !trace(&report).contains(TOKEN));
        report
    }
}

pub(super) fn trace(report: &AttemptReport) -> String {
    report.blobs.first().map_or_else(String::new, |blob| String::from_utf8(blob.clone()).unwrap())
}

/// Asserts how the attempt failed.
#[track_caller]
pub(super) fn failed(report: &AttemptReport, expect: FailureKind, text: &str) {
    match &report.result.status {
        AgentStatus::Failed { kind, detail } => {
            assert_eq!(*kind, expect, "{detail}");
            assert!(detail.contains(text), "{detail}");
        }
        AgentStatus::Succeeded | AgentStatus::NeedsInput { .. } => panic!("{:?}", report.result),
    }
}

#[track_caller]
pub(super) fn succeeded(report: &AttemptReport) {
    assert_eq!(report.result.status, AgentStatus::Succeeded);
}

fn task(role: Role) -> AgentTask {
    let now = Timestamp(1_700_000_000_000);
    AgentTask {
        id: "piece".parse().unwrap(),
        job: JobId::mint(now, [1; 10]),
        r#type: role,
        title: "A piece".into(),
        instructions: "Do the piece.".into(),
        input: TaskInput {
            job_title: "A job".into(),
            job_description: "Text.".into(),
            ..TaskInput::default()
        },
        expected_outputs: vec![],
        checks: vec![],
        constraints: TaskConstraints {
            paths: if role == Role::Coordinator { vec![] } else { vec!["**".into()] },
            protected_paths: vec!["checks/**".into()],
            network: NetworkMode::None,
            dependencies: vec![],
            max_steps: 30,
            max_tokens: Tokens(1_000_000),
            max_nano_usd: None,
            max_wall_ms: DurationMs::from_secs(600),
        },
        base: TreeRef { revision: "0".repeat(40).parse().unwrap(), bundle: Digest::zero() },
        attempt: AttemptId::mint(now, [2; 10]),
        epoch: 1,
        model_endpoint: String::new(),
        model: "m1".into(),
        agent: None,
        agent_digest: None,
        model_token: TOKEN.into(),
    }
}
