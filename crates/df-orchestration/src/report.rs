//! Documents about a job that go into the delivered bundle, written from the record alone.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use df_contract::LeaseKind;
use df_control_machine::{JobRecord, TaskRecord};

/// `report.md`, `decision.json`, `plan.json` and `gates.json`.
pub fn documents(record: &JobRecord) -> BTreeMap<String, String> {
    let json =
        |value: Result<String, serde_json::Error>| value.unwrap_or_else(|e| format!("{{\"error\":\"{e}\"}}"));
    BTreeMap::from([
        ("report.md".to_owned(), markdown(record)),
        ("decision.json".to_owned(), json(serde_json::to_string_pretty(&record.decision))),
        ("plan.json".to_owned(), json(serde_json::to_string_pretty(&record.plan))),
        ("gates.json".to_owned(), json(serde_json::to_string_pretty(&record.gates))),
    ])
}

/// The job's story for a reader: verdict, plan, work, gates, cost.
pub fn markdown(record: &JobRecord) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "# {}\n\nJob `{}`, submitted by `{}`.\n",
        record.spec.title, record.id, record.submitter
    );
    if let Some(decision) = &record.decision {
        let _ = writeln!(out, "## Verdict: {}\n", decision.verdict.as_str());
        for reason in &decision.reasons {
            let _ = writeln!(out, "- `{}`: {}", reason.rule, reason.message);
        }
        let _ = writeln!(out, "\nPolicy `{}`, facts `{}`.\n", decision.policy, decision.facts);
    }
    if let Some(plan) = &record.plan {
        let _ = writeln!(out, "## Work\n\n{}\n", plan.summary);
    }
    for task in record.tasks.values().filter(|t| t.kind == LeaseKind::Agent) {
        task_section(&mut out, task);
    }
    left_out(&mut out, record);
    let _ = writeln!(out, "## Gates\n");
    for gate in &record.gates {
        let mark = if gate.passed { "passed" } else { "refused" };
        let _ = writeln!(out, "- `{}` {mark}: {}", gate.gate, gate.message);
    }
    let spend = &record.spend;
    let _ = writeln!(
        out,
        "\n## Cost\n\n{} model calls, {} input and {} output tokens, {}.",
        spend.calls, spend.input_tokens.0, spend.output_tokens.0, spend.nano_usd
    );
    out
}

/// What the plan asked for and the result does not have.
fn left_out(out: &mut String, record: &JobRecord) {
    let missing: Vec<String> =
        record.left_out().map(|task| format!("- {} (`{}`)", task.title, task.slug)).collect();
    if missing.is_empty() {
        return;
    }
    let _ = writeln!(out, "## Left out\n\n{}\n", missing.join("\n"));
    if let Some(note) = &record.root_cause {
        let first = note.detail.lines().next().unwrap_or_default();
        let _ = writeln!(out, "`{}` failed for good ({}): {first}\n", note.task, note.kind.as_str());
    }
}

fn task_section(out: &mut String, task: &TaskRecord) {
    let _ = writeln!(out, "### {} (`{}`, {})\n", task.title, task.slug, task.role.as_str());
    let _ = writeln!(
        out,
        "{}: {} attempt(s), {} model calls, {} tokens.\n\n{}\n",
        task.state,
        task.attempts,
        task.output.usage.model_calls,
        task.spend.tokens().0,
        task.output.summary
    );
    for check in &task.output.checks {
        let _ = writeln!(out, "- check `{}`: {}", check.id, if check.passed { "passed" } else { "failed" });
    }
}
