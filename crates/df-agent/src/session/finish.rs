//! How the work ends: `finish` runs the task's checks, `propose_plan` validates the plan. What fails goes back to the
//! model, a bounded number of times.

use df_contract::agent::{Absent, misfits};
use df_contract::job::MAX_COMMAND_BYTES;
use df_contract::plan::pattern_matches;
use df_contract::{AcceptanceCheck, AgentName, CheckResult, Digest, FailureKind, Plan, PlanLimits, PlanTask};
use serde::Deserialize;
use serde_json::Value;

use super::turn::{Turn, runner_failure};
use super::{End, Failure, Session, failure};
use crate::attempt::NoteKind;
use crate::runner::{CommandOutcome, CommandRunner};
use crate::tools::{ToolAnswer, check_text};
use crate::workspace::{Kind, relative};

/// How often `finish` or `propose_plan` may be refused before the attempt fails.
const FAILED_ENDS_MAX: u32 = 5;
/// Longest summary and commit message, in bytes; more is cut.
const SUMMARY_BYTES_MAX: usize = 8 * 1024;
const COMMIT_BYTES_MAX: usize = 4 * 1024;
/// Bytes of a check's output in its result.
const TAIL_BYTES_MAX: usize = 4 * 1024;
/// Bytes of a plan in one call.
const PLAN_ERRORS_MAX: usize = 30;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Finish {
    summary: String,
    commit_message: String,
}

impl<R: CommandRunner> Session<'_, R> {
    pub(super) async fn finish(&mut self, arguments: Value) -> Result<Turn, Failure> {
        let finish: Finish = match serde_json::from_value(arguments) {
            Ok(finish) => finish,
            Err(error) => return Ok(refused(format!("error: the arguments do not fit the tool: {error}"))),
        };
        if finish.summary.trim().is_empty() || finish.commit_message.trim().is_empty() {
            return Ok(refused("error: summary and commit_message must not be empty".to_owned()));
        }
        let missing = self.missing_outputs();
        let (texts, failed) = self.run_checks().await?;
        let marked = self.marked();
        if missing.is_empty() && failed.is_empty() && marked.is_empty() {
            return Ok(Turn::End(End::Finished {
                summary: cut(&finish.summary, SUMMARY_BYTES_MAX),
                commit_message: cut(&finish.commit_message, COMMIT_BYTES_MAX),
            }));
        }
        let mut findings = Vec::new();
        if !missing.is_empty() {
            findings.push(format!("expected files that do not exist: {}", missing.join(", ")));
        }
        if !failed.is_empty() {
            findings.push(format!("checks that failed: {}", failed.join(", ")));
        }
        if !marked.is_empty() {
            findings.push(format!("files in which conflict markers remain: {}", marked.join(", ")));
        }
        let findings = findings.join("; ");
        self.counts.failed_ends += 1;
        if self.counts.failed_ends >= FAILED_ENDS_MAX {
            let detail =
                format!("finish was refused {FAILED_ENDS_MAX} times; {findings}\n{}", texts.join("\n\n"));
            return failure(FailureKind::CheckFailure, cut(&detail, SUMMARY_BYTES_MAX));
        }
        let left = FAILED_ENDS_MAX - self.counts.failed_ends;
        Ok(refused(format!(
            "not finished: {findings}\n\n{}\n\nFind the cause, correct it, and call finish again ({left} more tries).",
            texts.join("\n\n")
        )))
    }

    /// Runs every check of the task; what to tell the model, and the ids of those that failed.
    async fn run_checks(&mut self) -> Result<(Vec<String>, Vec<String>), Failure> {
        self.checks.clear();
        self.check_logs.clear();
        let (mut texts, mut failed) = (Vec::new(), Vec::new());
        for check in &self.task.checks {
            let timeout = check.timeout_ms.min(self.time_left());
            let run = self.runner.run(&check.command, timeout, self.cancel.clone());
            let outcome = run.await.map_err(runner_failure)?;
            let passed = outcome.passed();
            let verdict = if passed { "passed" } else { "failed" };
            self.note(NoteKind::Check, &format!("{} {verdict}", check.id)).await;
            texts.push(check_text(&mut self.tools, &check.id, &outcome, timeout));
            texts.extend(self.tools.put_back());
            if !passed {
                failed.push(check.id.clone());
            }
            self.checks.push(result_of(check, &outcome));
            self.check_logs.push(outcome.full_output);
        }
        Ok((texts, failed))
    }

    /// Files in which conflict markers that were laid into them still stand.
    fn marked(&self) -> Vec<String> {
        let marked = self.laid.iter().flat_map(|laid| &laid.marked);
        let remains =
            |m: &&crate::git::Marked| self.tools.workspace.read(&m.path).is_ok_and(|text| m.remains(&text));
        marked.filter(remains).map(|m| m.path.clone()).collect()
    }

    /// Expected outputs (paths, or globs of which one file must match) that are not there.
    fn missing_outputs(&self) -> Vec<String> {
        let listing = self.tools.workspace.list(".").unwrap_or_default();
        let exists = |wanted: &str| {
            relative(wanted).is_ok_and(|path| {
                matches!(self.tools.workspace.kind(&path), Ok(Some(Kind::File)))
                    || listing.found.iter().any(|f| f.kind == Kind::File && pattern_matches(wanted, &f.path))
            })
        };
        self.task.expected_outputs.iter().filter(|wanted| !exists(wanted)).cloned().collect()
    }

    pub(super) fn propose(&mut self, arguments: Value) -> Result<Turn, Failure> {
        let errors = match read_plan(arguments) {
            Ok(plan) => {
                let errors = self.plan_errors(&plan);
                if errors.is_empty() {
                    return Ok(Turn::End(End::Planned(plan)));
                }
                errors
            }
            Err(error) => vec![format!("the plan does not fit its schema: {error}")],
        };
        let shown =
            errors.iter().take(PLAN_ERRORS_MAX).map(|e| format!("- {e}")).collect::<Vec<_>>().join("\n");
        self.counts.failed_ends += 1;
        if self.counts.failed_ends >= FAILED_ENDS_MAX {
            let detail = format!("{FAILED_ENDS_MAX} proposed plans were not valid; the last:\n{shown}");
            return failure(FailureKind::ContractBreach, cut(&detail, SUMMARY_BYTES_MAX));
        }
        let left = FAILED_ENDS_MAX - self.counts.failed_ends;
        Ok(refused(format!(
            "the plan is not valid:\n{shown}\nCorrect it and propose again ({left} more tries)."
        )))
    }

    fn plan_errors(&self, plan: &Plan) -> Vec<String> {
        let found = match &self.task.input.replan {
            None => plan.validate(&PlanLimits::COORDINATOR),
            Some(before) => {
                let finished = before.finished.keys().cloned().collect();
                plan.validate_continuation(&finished, &before.dropped.keys().cloned().collect())
            }
        };
        let mut errors: Vec<String> = found.iter().map(ToString::to_string).collect();
        // A coordinator's own caps are the job's.
        let caps = &self.task.constraints;
        let shares = plan.check_budget(Some(caps.max_tokens), caps.max_nano_usd);
        errors.extend(shares.iter().map(ToString::to_string));
        for task in &plan.tasks {
            errors.extend(self.task_errors(task));
        }
        let offered = &self.task.input.agents;
        let find = |name: &AgentName| offered.iter().find(|offer| offer.name == *name).ok_or(Absent::Unknown);
        errors.extend(misfits(plan, find).iter().map(ToString::to_string));
        errors
    }

    /// What only this job forbids, or what cannot work.
    fn task_errors(&self, task: &PlanTask) -> Vec<String> {
        let slug = &task.slug;
        let protected = &self.task.constraints.protected_paths;
        let mut errors = Vec::new();
        for path in task.paths.iter().chain(&task.expected_outputs) {
            if !path.contains(['*', '?', '[', '{']) && protected.iter().any(|p| pattern_matches(p, path)) {
                errors.push(format!("task `{slug}`: `{path}` is protected; no task may write it"));
            }
        }
        for output in &task.expected_outputs {
            let writable = task.paths.iter().any(|p| p == output || pattern_matches(p, output));
            let there = relative(output).is_ok_and(|p| matches!(self.tools.workspace.kind(&p), Ok(Some(_))));
            if !writable && !there {
                errors
                    .push(format!("task `{slug}`: `{output}` is expected but lies outside the task's paths"));
            }
        }
        for (n, check) in task.checks.iter().enumerate() {
            if check.id.trim().is_empty() || task.checks[..n].iter().any(|other| other.id == check.id) {
                errors.push(format!("task `{slug}`: every check needs an id of its own"));
            }
            if check.command.trim().is_empty() || check.command.len() > MAX_COMMAND_BYTES {
                errors.push(format!("task `{slug}`, check `{}`: the command is empty or too long", check.id));
            }
        }
        errors
    }
}

/// Takes `{"plan": {...}}`, and what models make of it: the plan itself, or the plan as a text.
fn read_plan(mut arguments: Value) -> Result<Plan, serde_json::Error> {
    let plan = match arguments.get_mut("plan") {
        Some(Value::String(text)) => return serde_json::from_str(text),
        Some(plan) => plan.take(),
        None => arguments,
    };
    serde_json::from_value(plan)
}

fn refused(text: String) -> Turn {
    Turn::Answer(ToolAnswer::failed(text))
}

fn result_of(check: &AcceptanceCheck, outcome: &CommandOutcome) -> CheckResult {
    let start = outcome.output.ceil_char_boundary(outcome.output.len().saturating_sub(TAIL_BYTES_MAX));
    CheckResult {
        id: check.id.clone(),
        passed: outcome.passed(),
        exit_code: outcome.exit.filter(|_| !outcome.timed_out),
        wall_ms: outcome.wall_ms,
        output_tail: outcome.output[start..].to_owned(),
        log: Some(Digest::of(&outcome.full_output)),
    }
}

pub(super) fn cut(text: &str, limit: usize) -> String {
    text[..text.floor_char_boundary(limit)].trim().to_owned()
}
