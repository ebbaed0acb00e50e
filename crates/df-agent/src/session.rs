//! The loop of one attempt: ask the model, run its tool calls, until it finishes or a limit is reached.

mod circles;
mod compact;
mod finish;
mod turn;

use df_contract::{AgentTask, CheckResult, DurationMs, FailureKind, Plan, Tokens, Usage};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::attempt::{NoteKind, ProgressNote};
use crate::git::Laid;
use crate::manifest::Manifest;
use crate::model::{Answer, Message, ModelClient, Stop};
use crate::runner::CommandRunner;
use crate::tools::{ToolBox, definitions};
use crate::trace::Trace;
use circles::Circles;

/// Answers in a row without a tool call before the attempt fails: one nudge each but the last.
const SILENT_ANSWERS_MAX: u32 = 3;
/// Most output tokens asked for in one call, and the least worth asking for.
const ANSWER_TOKENS_MAX: u64 = 16_384;
const ANSWER_TOKENS_MIN: u64 = 64;
/// Bytes per token where a server counts none.
const BYTES_PER_TOKEN: usize = 4;
/// Bytes of a line of progress.
const NOTE_BYTES_MAX: usize = 400;

const NUDGE: &str = "Your answer called no tool. Work only through tools. When the task is done, call the tool that ends it; if something stands in the way, do what you can within your paths and say so in the summary.";

/// How an attempt ends when it does not fail.
#[derive(Debug)]
pub(crate) enum End {
    Finished { summary: String, commit_message: String },
    Planned(Plan),
}

/// How it fails.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) detail: String,
}

pub(crate) fn failure<T>(kind: FailureKind, detail: impl Into<String>) -> Result<T, Failure> {
    Err(Failure { kind, detail: detail.into() })
}

/// The state of a running attempt.
#[derive(Debug)]
pub(crate) struct Session<'a, R: CommandRunner> {
    pub(crate) task: &'a AgentTask,
    pub(crate) manifest: &'a Manifest,
    /// Conflicts that were laid on the workspace.
    pub(crate) laid: Option<&'a Laid>,
    pub(crate) runner: &'a R,
    pub(crate) model: ModelClient<'a>,
    pub(crate) tools: ToolBox,
    pub(crate) progress: mpsc::Sender<ProgressNote>,
    pub(crate) cancel: watch::Receiver<bool>,
    pub(crate) deadline: Instant,
    pub(crate) messages: Vec<Message>,
    pub(crate) trace: Trace,
    pub(crate) usage: Usage,
    /// Results of the last time the task's checks ran.
    pub(crate) checks: Vec<CheckResult>,
    /// Outputs of those checks.
    pub(crate) check_logs: Vec<Vec<u8>>,
    pub(crate) counts: Counts,
}

/// What has happened so far, for the limits.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    circles: Circles,
    compactions: u32,
    silent_answers: u32,
    broken_calls: u32,
    failed_ends: u32,
}

impl<R: CommandRunner> Session<'_, R> {
    /// Runs to the end.
    pub(crate) async fn run(&mut self) -> Result<End, Failure> {
        loop {
            self.check_limits()?;
            self.make_room()?;
            let answer = self.ask().await?;
            self.messages.push(Message::Assistant {
                content: answer.content.clone(),
                tool_calls: answer.tool_calls.clone(),
            });
            if answer.tool_calls.is_empty() {
                self.nudge()?;
                continue;
            }
            self.counts.silent_answers = 0;
            for call in &answer.tool_calls {
                if let Some(end) = self.turn(call, &answer).await? {
                    return Ok(end);
                }
            }
        }
    }

    /// Steps left of the lower of the task's and the agent's limit.
    pub(crate) fn steps_left(&self) -> u32 {
        let most = self.task.constraints.max_steps.min(self.manifest.limits.steps);
        most.saturating_sub(self.usage.model_calls)
    }

    fn tokens_used(&self) -> Tokens {
        self.usage.input_tokens.saturating_add(self.usage.output_tokens)
    }

    fn tokens_left(&self) -> u64 {
        self.task.constraints.max_tokens.saturating_sub(self.tokens_used()).0
    }

    fn check_limits(&self) -> Result<(), Failure> {
        if *self.cancel.borrow() {
            return failure(FailureKind::LeaseExpired, "the attempt was cancelled");
        }
        let reached = |what: String| failure(FailureKind::LimitReached, what);
        if self.steps_left() == 0 {
            return reached(format!("the attempt used all of its {} steps", self.usage.model_calls));
        }
        if self.tokens_left() < ANSWER_TOKENS_MIN {
            let (used, limit) = (self.tokens_used().0, self.task.constraints.max_tokens.0);
            return reached(format!("the attempt used {used} of its {limit} tokens"));
        }
        if self.time_left() == DurationMs::ZERO {
            return self.out_of_time();
        }
        Ok(())
    }

    pub(crate) fn time_left(&self) -> DurationMs {
        let left = self.deadline.saturating_duration_since(Instant::now());
        DurationMs(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
    }

    fn out_of_time<T>(&self) -> Result<T, Failure> {
        failure(FailureKind::LimitReached, "the attempt used all of its wall time")
    }

    fn make_room(&mut self) -> Result<(), Failure> {
        let size = compact::size(&self.messages);
        if size <= compact::CONTEXT_BYTES_MAX {
            return Ok(());
        }
        let full = || {
            failure(
                FailureKind::LimitReached,
                format!("the conversation grew to {size} bytes and no more room could be made"),
            )
        };
        if self.counts.compactions >= compact::COMPACTIONS_MAX {
            return full();
        }
        let Some(freed) = compact::compact(&mut self.messages) else { return full() };
        self.counts.compactions += 1;
        self.trace.compaction(self.usage.model_calls, freed);
        Ok(())
    }

    async fn ask(&mut self) -> Result<Answer, Failure> {
        let step = self.usage.model_calls + 1;
        self.trace.request(step, &self.messages);
        let messages: Vec<Value> = self.messages.iter().map(Message::to_json).collect();
        let mut request = json!({
            "model": self.task.model,
            "messages": messages,
            "tools": definitions(&self.manifest.tools, !self.task.input.agents.is_empty()),
            "temperature": 0,
            "max_tokens": ANSWER_TOKENS_MAX,
            "stream": true,
            "stream_options": {"include_usage": true},
        });
        request["max_tokens"] = self.answer_room(&request).into();
        let mut cancel = self.cancel.clone();
        let answer = tokio::select! {
            answer = self.model.complete(&request) => answer,
            () = cancelled(&mut cancel) => return failure(FailureKind::LeaseExpired, "the attempt was cancelled"),
            () = tokio::time::sleep_until(self.deadline) => return self.out_of_time(),
        };
        let answer = answer.map_err(|e| Failure { kind: e.kind, detail: e.detail })?;
        self.usage.model_calls = step;
        let (input, output) = answer.usage.unwrap_or_else(|| self.estimate(&answer));
        self.usage.input_tokens = self.usage.input_tokens.saturating_add(input);
        self.usage.output_tokens = self.usage.output_tokens.saturating_add(output);
        self.trace.answer(step, &answer);
        if answer.stop == Stop::Filtered {
            return failure(FailureKind::ModelRefused, "the provider withheld the answer");
        }
        self.note(NoteKind::Model, &said(step, &answer)).await;
        Ok(answer)
    }

    /// Output tokens that fit beside this request: what is asked for is reserved, and a reservation that goes beyond
    /// the budget is refused whole.
    fn answer_room(&self, request: &Value) -> u64 {
        let input = request.to_string().len().div_ceil(BYTES_PER_TOKEN) as u64;
        self.tokens_left().saturating_sub(input).clamp(ANSWER_TOKENS_MIN, ANSWER_TOKENS_MAX)
    }

    fn estimate(&self, answer: &Answer) -> (Tokens, Tokens) {
        let tokens = |bytes: usize| Tokens((bytes / BYTES_PER_TOKEN) as u64 + 1);
        let calls: usize = answer.tool_calls.iter().map(|c| c.name.len() + c.arguments.len()).sum();
        let output = calls + answer.content.as_ref().map_or(0, String::len);
        (tokens(compact::size(&self.messages)), tokens(output))
    }

    fn nudge(&mut self) -> Result<(), Failure> {
        self.counts.silent_answers += 1;
        if self.counts.silent_answers >= SILENT_ANSWERS_MAX {
            return failure(
                FailureKind::ContractBreach,
                format!("the model answered {SILENT_ANSWERS_MAX} times in a row without calling a tool"),
            );
        }
        self.messages.push(Message::User(NUDGE.to_owned()));
        Ok(())
    }

    /// Tells watchers; waits when they are slow, unless the attempt ends meanwhile.
    pub(crate) async fn note(&mut self, kind: NoteKind, text: &str) {
        let first = text.lines().next().unwrap_or_default();
        let text = first[..first.floor_char_boundary(NOTE_BYTES_MAX)].to_owned();
        let mut cancel = self.cancel.clone();
        tokio::select! {
            // Nobody watching is no reason to stop.
            _ = self.progress.send(ProgressNote { kind, text }) => {}
            () = cancelled(&mut cancel) => {}
            () = tokio::time::sleep_until(self.deadline) => {}
        }
    }
}

/// Returns when `cancel` is true; never when its sender is gone without having said so.
async fn cancelled(cancel: &mut watch::Receiver<bool>) {
    if cancel.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn said(step: u32, answer: &Answer) -> String {
    let names: Vec<&str> = answer.tool_calls.iter().map(|c| c.name.as_str()).collect();
    match (answer.content.as_deref().map(str::trim), names.is_empty()) {
        (Some(text), true) => format!("step {step}: {text}"),
        (Some(text), false) => format!("step {step} [{}]: {text}", names.join(", ")),
        (None, _) => format!("step {step} [{}]", names.join(", ")),
    }
}

#[cfg(test)]
mod tests;
