//! One tool call: find the tool, read its arguments, run it, watch for circles.

use df_contract::FailureKind;
use serde_json::Value;

use super::circles::Circle;
use super::{End, Failure, Session, failure};
use crate::attempt::NoteKind;
use crate::model::{Answer, Message, Stop, ToolCall};
use crate::runner::{CommandRunner, RunnerError};
use crate::tools::{Tool, ToolAnswer};

/// Tool calls in a row whose arguments are no JSON before the attempt fails.
const BROKEN_CALLS_MAX: u32 = 3;
/// From this many steps left on, every result says how many.
const STEPS_WARNING: u32 = 3;

const CIRCLE_NOTE: &str = "\n[note: you repeat the same steps with the same results. Stop, reconsider what the output says, and do something different.]";

/// What a call came to.
pub(super) enum Turn {
    Answer(ToolAnswer),
    End(End),
}

impl<R: CommandRunner> Session<'_, R> {
    /// Runs one call and adds its result to the conversation.
    pub(super) async fn turn(&mut self, call: &ToolCall, answer: &Answer) -> Result<Option<End>, Failure> {
        self.usage.tool_calls += 1;
        self.note(NoteKind::Tool, &shown(call)).await;
        let step = self.usage.model_calls;
        let result = match self.dispatch(call, answer).await? {
            Turn::Answer(result) => result,
            Turn::End(end) => {
                self.trace.tool(step, &call.id, &call.name, "accepted", false);
                return Ok(Some(end));
            }
        };
        let circle = self.counts.circles.observe(&call.name, &call.arguments, &result.text);
        let mut text = result.text;
        match circle {
            Circle::None => {}
            Circle::Nudge => text.push_str(CIRCLE_NOTE),
            Circle::End => {
                self.trace.tool(step, &call.id, &call.name, &text, result.failed);
                return failure(
                    FailureKind::LimitReached,
                    format!(
                        "the agent goes round in circles: `{}` again and again with the same result",
                        call.name
                    ),
                );
            }
        }
        if (1..=STEPS_WARNING).contains(&self.steps_left()) {
            text.push_str(&format!(
                "\n[note: {} steps are left; bring the task to its end]",
                self.steps_left()
            ));
        }
        self.trace.tool(step, &call.id, &call.name, &text, result.failed);
        self.messages.push(Message::Tool { call_id: call.id.clone(), content: text });
        Ok(None)
    }

    async fn dispatch(&mut self, call: &ToolCall, answer: &Answer) -> Result<Turn, Failure> {
        let arguments = match serde_json::from_str::<Value>(arguments_text(call)) {
            Ok(arguments) => {
                self.counts.broken_calls = 0;
                arguments
            }
            Err(error) => return self.broken(call, answer, &error),
        };
        let Some(tool) = Tool::parse(&call.name).filter(|tool| self.manifest.tools.contains(tool)) else {
            let names: Vec<&str> = self.manifest.tools.iter().map(|tool| tool.as_str()).collect();
            let text = format!("error: there is no tool `{}`; the tools are {}", call.name, names.join(", "));
            return Ok(Turn::Answer(ToolAnswer::failed(text)));
        };
        Ok(Turn::Answer(match tool {
            Tool::Read => self.tools.read(arguments),
            Tool::Write => self.tools.write(arguments),
            Tool::Edit => self.tools.edit(arguments),
            Tool::ApplyPatch => self.tools.patch(arguments),
            Tool::Glob => self.tools.glob(arguments),
            Tool::Grep => self.tools.grep(arguments),
            Tool::Exec => {
                let (left, cancel) = (self.time_left(), self.cancel.clone());
                self.tools.exec(arguments, self.runner, left, cancel).await.map_err(runner_failure)?
            }
            Tool::Finish => return self.finish(arguments).await,
            Tool::ProposePlan => return self.propose(arguments),
        }))
    }

    fn broken(
        &mut self,
        call: &ToolCall,
        answer: &Answer,
        error: &serde_json::Error,
    ) -> Result<Turn, Failure> {
        self.counts.broken_calls += 1;
        if self.counts.broken_calls >= BROKEN_CALLS_MAX {
            return failure(
                FailureKind::ContractBreach,
                format!(
                    "{BROKEN_CALLS_MAX} tool calls in a row had arguments that are no JSON; the last: {error}"
                ),
            );
        }
        let hint = match answer.stop {
            Stop::Length => {
                "The answer was cut off at the output limit: write less at once, for example a large file in several edits."
            }
            Stop::Done | Stop::Filtered => "Send the call again with valid JSON.",
        };
        let text = format!("error: the arguments of `{}` are not valid JSON ({error}). {hint}", call.name);
        Ok(Turn::Answer(ToolAnswer::failed(text)))
    }
}

/// Some models send nothing for a call without arguments.
fn arguments_text(call: &ToolCall) -> &str {
    if call.arguments.trim().is_empty() { "{}" } else { &call.arguments }
}

pub(super) fn runner_failure(error: RunnerError) -> Failure {
    let kind = match error {
        RunnerError::Start(_) => FailureKind::ToolFailure,
        RunnerError::Cancelled => FailureKind::LeaseExpired,
    };
    Failure { kind, detail: error.to_string() }
}

/// The call in a line, without what may be long.
fn shown(call: &ToolCall) -> String {
    let arguments: Value = serde_json::from_str(&call.arguments).unwrap_or_default();
    let subject = ["path", "command", "pattern"].iter().find_map(|key| arguments[key].as_str());
    match subject {
        Some(subject) => format!("{} {}", call.name, subject.lines().next().unwrap_or_default()),
        None => call.name.clone(),
    }
}
