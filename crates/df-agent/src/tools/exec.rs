//! exec, and the text form of what a command did.

use df_contract::DurationMs;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::watch;

use super::toolbox::{ToolAnswer, ToolBox, arguments};
use crate::runner::{CommandOutcome, CommandRunner, OUTPUT_BYTES_MAX, RunnerError};

/// Time a command gets when the model names none, and the most it can ask for.
const TIMEOUT_DEFAULT: DurationMs = DurationMs::from_secs(120);
const TIMEOUT_MAX: DurationMs = DurationMs::from_secs(900);
/// Output of a command shown to the model, in bytes.
const SHOWN_BYTES_MAX: usize = 12 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exec {
    command: String,
    timeout_s: Option<u64>,
}

impl ToolBox {
    /// Runs a command; an error only when the runner itself fails.
    pub(crate) async fn exec<R: CommandRunner>(
        &mut self,
        args: Value,
        runner: &R,
        time_left: DurationMs,
        cancel: watch::Receiver<bool>,
    ) -> Result<ToolAnswer, RunnerError> {
        let Exec { command, timeout_s } = match arguments(args) {
            Ok(exec) => exec,
            Err(error) => return Ok(self.answer(Err(error))),
        };
        let timeout =
            timeout_s.map_or(TIMEOUT_DEFAULT, DurationMs::from_secs).min(TIMEOUT_MAX).min(time_left);
        let outcome = runner.run(&command, timeout, cancel).await?;
        let mut text = self.outcome_text(&outcome, timeout);
        if let Some(note) = self.put_back() {
            text.push('\n');
            text.push_str(&note);
        }
        Ok(ToolAnswer::ok(text))
    }

    /// `exit code: N` and the output; when that is cut, the whole is kept and named.
    pub(crate) fn outcome_text(&mut self, outcome: &CommandOutcome, timeout: DurationMs) -> String {
        let mut text = exit_line(outcome, timeout);
        text.push('\n');
        let (shown, cut) = head_and_tail(&outcome.output, SHOWN_BYTES_MAX);
        text.push_str(if shown.trim().is_empty() { "(no output)" } else { shown.trim_end() });
        if cut || outcome.full_output.len() > outcome.output.len() {
            let kept = self.keep_log(outcome.full_output.clone());
            match kept {
                Some(n) => text.push_str(&format!("\n[the whole output can be read as log:{n}]")),
                None => text.push_str("\n[no more room to keep whole outputs]"),
            }
        }
        text
    }
}

fn exit_line(outcome: &CommandOutcome, timeout: DurationMs) -> String {
    match outcome.exit {
        _ if outcome.timed_out => format!("exit code: none (stopped after {} s)", timeout.0 / 1000),
        Some(code) => format!("exit code: {code}"),
        None => "exit code: none (killed)".to_owned(),
    }
}

/// One check of the task as text for the model.
pub(crate) fn check_text(
    tools: &mut ToolBox,
    id: &str,
    outcome: &CommandOutcome,
    timeout: DurationMs,
) -> String {
    let verdict = if outcome.passed() { "passed" } else { "FAILED" };
    if outcome.passed() {
        return format!("check {id}: {verdict}");
    }
    format!("check {id}: {verdict}\n{}", tools.outcome_text(outcome, timeout))
}

/// The first and last part of `text`, cut at line ends where possible, and whether anything was left out.
fn head_and_tail(text: &str, limit: usize) -> (String, bool) {
    debug_assert!(limit <= OUTPUT_BYTES_MAX, "runners keep less than is shown");
    if text.len() <= limit {
        return (text.to_owned(), false);
    }
    let mut head = text.floor_char_boundary(limit / 2);
    head = text[..head].rfind('\n').map_or(head, |i| i + 1);
    let mut tail = text.ceil_char_boundary(text.len() - limit / 2);
    tail = text[tail..].find('\n').map(|i| tail + i + 1).filter(|at| *at < text.len()).unwrap_or(tail);
    let left_out = tail - head;
    (format!("{}[... {left_out} bytes left out ...]\n{}", &text[..head], &text[tail..]), true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_output_keeps_head_and_tail_and_counts_the_rest() {
        let lines: String = (0..100).map(|n| format!("line {n}\n")).collect();
        let (shown, cut) = head_and_tail(&lines, 40);
        assert!(cut);
        assert_eq!(shown, "line 0\nline 1\n[... 760 bytes left out ...]\nline 98\nline 99\n");
        assert_eq!(head_and_tail("short", 40), ("short".to_owned(), false));
        assert!(head_and_tail(&"ไทย".repeat(20), 41).1);
    }
}
