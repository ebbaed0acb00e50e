//! The two gates after the decision: is the plan within what was granted, and is the result what may go out.

use std::collections::{BTreeMap, BTreeSet};

use df_contract::api::GateView;
use df_contract::facts::{DependencyFact, SecretFact};
use df_contract::plan::pattern_matches;
use df_contract::{
    CheckResult, GateFacts, JobSpec, NanoUsd, Obligations, Plan, PlanError, PlanLimits, Reason, SourceFacts,
    TaskSlug, Tokens, Verdict,
};

use crate::decide::join;
use crate::floors::{list, reason};

/// Whether a plan may be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanGate {
    pub verdict: Verdict,
    pub reasons: Vec<Reason>,
}

/// Whether a result may go out. `Rejected` means rework or failure, never delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputGate {
    pub verdict: Verdict,
    pub gates: Vec<GateView>,
    pub reasons: Vec<Reason>,
}

/// Everything the plan gate looks at.
#[derive(Debug, Clone, Copy)]
pub struct PlanCase<'a> {
    pub plan: &'a Plan,
    /// Tasks of the plan that are merged already: what is left of a plan before it.
    pub finished: &'a BTreeSet<TaskSlug>,
    pub obligations: &'a Obligations,
    /// What the job may spend: as decided, or as raised since.
    pub tokens: Tokens,
    pub nano_usd: Option<NanoUsd>,
}

/// Judges a plan: invalid, or writing what is protected, is refused; asking for more than was granted goes to a person.
///
/// Whoever proposed it, the wider limits hold here: a coordinator's proposal was bounded when it came in, and the plan
/// that it continues may have come with the job.
pub fn gate_plan(case: &PlanCase<'_>) -> PlanGate {
    let PlanCase { plan, finished, obligations, tokens, nano_usd } = *case;
    let mut found: Vec<Reason> = plan
        .validate_after(&PlanLimits::SUPPLIED, finished)
        .iter()
        .map(|e| reason("plan.invalid", Verdict::Rejected, "the plan is not valid", e.to_string(), ""))
        .collect();
    for task in &plan.tasks {
        let inside = |path: &&String| obligations.protected_paths.iter().any(|p| pattern_matches(p, path));
        let hit: BTreeSet<String> =
            task.paths.iter().chain(&task.expected_outputs).filter(inside).cloned().collect();
        if !hit.is_empty() {
            found.push(reason(
                "plan.protected_paths",
                Verdict::Rejected,
                &format!("task `{}` is to write what nobody may change", task.slug),
                list(&hit),
                "plan without these paths",
            ));
        }
    }
    found.extend(plan.check_budget(Some(tokens), nano_usd).iter().map(share_reason));
    let (verdict, reasons) = join(found);
    PlanGate { verdict, reasons }
}

/// A person may let a plan ask for more than was granted. Shares that leave nothing for other tasks are a mistake.
fn share_reason(error: &PlanError) -> Reason {
    let (rule, verdict, message) = if matches!(error, PlanError::BudgetExceeded { .. }) {
        ("plan.shares", Verdict::NeedsApproval, "the tasks together ask for more than the job was granted")
    } else {
        ("plan.invalid", Verdict::Rejected, "the shares of some tasks leave nothing for the others")
    };
    reason(rule, verdict, message, error.to_string(), "give the tasks smaller shares")
}

/// Everything the output gate looks at.
#[derive(Debug, Clone, Copy)]
pub struct OutputCase<'a> {
    /// What the validate lease found in the finished tree.
    pub facts: &'a GateFacts,
    pub obligations: &'a Obligations,
    /// What the intake lease found before any work.
    pub base: &'a SourceFacts,
    pub plan: &'a Plan,
    pub spec: &'a JobSpec,
}

/// Judges a finished tree by every gate the obligations demand. A gate nobody knows does not pass.
pub fn gate_output(case: &OutputCase<'_>) -> OutputGate {
    let mut gates = Vec::new();
    let mut reasons = Vec::new();
    for gate in &case.obligations.gates {
        let found = match gate.as_str() {
            "acceptance" => acceptance(case),
            "hidden" => hidden(case),
            "secrets" => secrets(case),
            "paths" => paths(case),
            "licences" => licences(case),
            _ => vec![reason(
                "gate.unknown",
                Verdict::Rejected,
                "a gate is demanded that does not exist",
                gate.clone(),
                "this is for the operator: take it out of the pack's obligations",
            )],
        };
        gates.push(GateView {
            gate: gate.clone(),
            passed: found.is_empty(),
            message: message(gate, &found, case),
        });
        reasons.extend(found);
    }
    let (verdict, reasons) = join(reasons);
    OutputGate { verdict, gates, reasons }
}

fn message(gate: &str, found: &[Reason], case: &OutputCase<'_>) -> String {
    if found.is_empty() {
        return match gate {
            "acceptance" => format!("{} checks passed", case.spec.acceptance.len()),
            "hidden" => format!("{} hidden checks passed", case.spec.hidden_checks.len()),
            "paths" => format!("{} changed paths, all planned", case.facts.changed_paths.len()),
            _ => "nothing found".to_owned(),
        };
    }
    let one = |r: &Reason| match r.evidence.is_empty() {
        true => r.message.clone(),
        false => format!("{}: {}", r.message, r.evidence),
    };
    found.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// Ids of `wanted` without a passing result. A check without a result has not passed.
fn failing<'a>(wanted: impl Iterator<Item = &'a String>, got: &[CheckResult]) -> Vec<&'a String> {
    wanted
        .filter(|id| {
            let mut of_id = got.iter().filter(|r| r.id == **id).peekable();
            of_id.peek().is_none() || of_id.any(|r| !r.passed)
        })
        .collect()
}

fn acceptance(case: &OutputCase<'_>) -> Vec<Reason> {
    let failed = failing(case.spec.acceptance.iter().map(|c| &c.id), &case.facts.acceptance);
    if failed.is_empty() {
        return Vec::new();
    }
    vec![reason(
        "gate.acceptance",
        Verdict::Rejected,
        "acceptance checks did not pass",
        list(failed),
        "make these checks pass",
    )]
}

/// Says the id and the public hint, and nothing else: agents will read it.
fn hidden(case: &OutputCase<'_>) -> Vec<Reason> {
    let failed = failing(case.spec.hidden_checks.iter().map(|c| &c.id), &case.facts.hidden);
    let hints: Vec<String> = case
        .spec
        .hidden_checks
        .iter()
        .filter(|c| failed.contains(&&c.id))
        .map(|c| format!("{}: {}", c.id, c.public_hint))
        .collect();
    if hints.is_empty() {
        return Vec::new();
    }
    vec![reason("gate.hidden", Verdict::Rejected, "hidden checks did not pass", list(&hints), "")]
}

/// Secrets per (rule, file): lines move when code is edited, so only more of them count as new.
fn secrets(case: &OutputCase<'_>) -> Vec<Reason> {
    fn counted(secrets: &[SecretFact]) -> BTreeMap<(&str, &str), usize> {
        let mut counts = BTreeMap::new();
        for s in secrets {
            *counts.entry((s.rule.as_str(), s.file.as_str())).or_default() += 1;
        }
        counts
    }
    let before = counted(&case.base.secrets);
    let new: Vec<String> = counted(&case.facts.source.secrets)
        .into_iter()
        .filter(|(key, n)| before.get(key).is_none_or(|b| n > b))
        .map(|((rule, file), _)| format!("{file} ({rule})"))
        .collect();
    if new.is_empty() {
        return Vec::new();
    }
    vec![reason(
        "gate.secrets",
        Verdict::Rejected,
        "the result contains what looks like secrets",
        list(&new),
        "read secrets from the environment; in tests use values that cannot be taken for real ones",
    )]
}

fn paths(case: &OutputCase<'_>) -> Vec<Reason> {
    let changed = &case.facts.changed_paths;
    let pick = |bad: &dyn Fn(&String) -> bool| -> BTreeSet<String> {
        changed.iter().filter(|p| bad(p)).cloned().collect()
    };
    let protected = pick(&|path| case.obligations.protected_paths.iter().any(|p| pattern_matches(p, path)));
    let unplanned = pick(&|path| !case.plan.tasks.iter().any(|t| t.may_write(path)));
    let mut found = Vec::new();
    if !protected.is_empty() {
        found.push(reason(
            "gate.protected_paths",
            Verdict::Rejected,
            "protected paths were changed",
            list(&protected),
            "leave these paths as they were",
        ));
    }
    if !unplanned.is_empty() {
        found.push(reason(
            "gate.paths",
            Verdict::Rejected,
            "paths were changed that no task may write",
            list(&unplanned),
            "change planned paths only",
        ));
    }
    found
}

/// New dependencies must have been granted; their licences are not known here, so a person looks at them. Licences of
/// files must be permissive or have been there before.
fn licences(case: &OutputCase<'_>) -> Vec<Reason> {
    fn names(deps: &[DependencyFact]) -> BTreeSet<String> {
        deps.iter().map(|d| format!("{}:{}", d.ecosystem, d.name)).collect()
    }
    let source = &case.facts.source;
    let new = &names(&source.dependencies) - &names(&case.base.dependencies);
    let refused = &new - &case.obligations.dependencies;
    let granted = &new & &case.obligations.dependencies;
    let odd: BTreeSet<String> = source
        .licences
        .iter()
        .filter(|(file, licence)| case.base.licences.get(*file) != Some(*licence) && !is_permissive(licence))
        .map(|(file, licence)| format!("{file}: {licence}"))
        .collect();
    let unread: BTreeSet<String> = source
        .unreadable
        .iter()
        .filter(|(file, _)| !case.base.unreadable.contains_key(*file))
        .map(|(file, why)| format!("{file} ({why})"))
        .collect();
    let mut found = Vec::new();
    let mut add = |rule, verdict, text, items: BTreeSet<String>, remedy| {
        if !items.is_empty() {
            found.push(reason(rule, verdict, text, list(&items), remedy));
        }
    };
    add(
        "gate.dependencies",
        Verdict::Rejected,
        "packages were added that the job was not granted",
        refused,
        "do without these packages",
    );
    add("gate.licences", Verdict::NeedsApproval, "the licences of new packages are not known", granted, "");
    add(
        "gate.licences",
        Verdict::NeedsApproval,
        "files came in under licences that are not plainly permissive",
        odd,
        "use code under a permissive licence",
    );
    add(
        "gate.unreadable",
        Verdict::NeedsApproval,
        "files came in that could not be read",
        unread,
        "write these files in their proper form",
    );
    found
}

/// Licences that ask for attribution at most.
const PERMISSIVE: [&str; 9] =
    ["0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "Unlicense", "Zlib"];

/// Whether some choice the SPDX expression offers is permissive throughout.
fn is_permissive(expression: &str) -> bool {
    let flat = expression.replace(['(', ')'], " ");
    let each = |choice: &str| {
        choice.split(" AND ").all(|id| PERMISSIVE.iter().any(|p| p.eq_ignore_ascii_case(id.trim())))
    };
    // Grouping is not read: with a bracket every named licence must be permissive.
    match expression.contains('(') {
        true => flat.split(" OR ").all(each),
        false => flat.split(" OR ").any(each),
    }
}

#[cfg(test)]
mod tests;
