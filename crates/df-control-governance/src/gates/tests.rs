use df_contract::{Digest, DurationMs};

use super::*;
use crate::facts::{OperatorLimits, job_facts};

fn plan() -> Plan {
    serde_json::from_value(serde_json::json!({"summary": "s", "tasks": [
        {"slug": "api", "role": "backend", "title": "t", "instructions": "i", "paths": ["src/**"], "tokens": 600},
        {"slug": "tests", "role": "qa", "title": "t", "instructions": "i", "paths": ["tests/**"], "tokens": 400},
    ]}))
    .unwrap()
}

fn spec() -> JobSpec {
    serde_json::from_value(serde_json::json!({"title": "t", "description": "d", "budget": {"tokens": 1000},
        "protected_paths": ["src/frozen/**", "tests/given.py"],
        "acceptance": [{"id": "unit", "command": "true"}],
        "hidden_checks": [{"id": "edge", "public_hint": "odd input", "command": "secret command"}]}))
    .unwrap()
}

fn obligations() -> Obligations {
    let facts = job_facts(&spec(), &SourceFacts::default(), &"acme".parse().unwrap(), "alice").unwrap();
    crate::obligations::granted(&facts, &OperatorLimits::default())
}

fn check(id: &str, passed: bool) -> CheckResult {
    CheckResult {
        id: id.into(),
        passed,
        exit_code: Some(i32::from(!passed)),
        wall_ms: DurationMs(1),
        output_tail: String::new(),
        log: None,
    }
}

fn good() -> GateFacts {
    GateFacts {
        acceptance: vec![check("unit", true)],
        hidden: vec![check("edge", true)],
        source: SourceFacts::default(),
        changed_paths: ["src/a.py", "tests/test_a.py"].map(str::to_owned).into(),
        artefact: Digest::zero(),
    }
}

fn judged_from(base: &SourceFacts, facts: &GateFacts, obligations: &Obligations) -> OutputGate {
    gate_output(&OutputCase { facts, obligations, base, plan: &plan(), spec: &spec() })
}

fn judged(change: impl FnOnce(&mut GateFacts)) -> OutputGate {
    let mut facts = good();
    change(&mut facts);
    judged_from(&SourceFacts::default(), &facts, &obligations())
}

fn outcome(gate: &OutputGate) -> (Verdict, Vec<&str>) {
    (gate.verdict, gate.reasons.iter().map(|r| r.rule.as_str()).collect())
}

fn gated(plan: &Plan) -> PlanGate {
    let obligations = obligations();
    gate_plan(&PlanCase {
        plan,
        finished: &BTreeSet::new(),
        obligations: &obligations,
        tokens: obligations.tokens,
        nano_usd: Some(NanoUsd(5_000)),
    })
}

#[test]
fn a_plan_within_the_grant_passes() {
    assert_eq!(gated(&plan()), PlanGate { verdict: Verdict::Approved, reasons: vec![] });
}

#[test]
fn a_plan_that_asks_for_more_waits_and_a_wrong_one_is_refused() {
    let verdict = |change: &dyn Fn(&mut Plan)| {
        let mut plan = plan();
        change(&mut plan);
        let gate = gated(&plan);
        (gate.verdict, gate.reasons.first().map(|r| r.rule.clone()).unwrap())
    };
    let more = |p: &mut Plan| p.tasks[0].tokens = Some(df_contract::Tokens(601));
    assert_eq!(verdict(&more), (Verdict::NeedsApproval, "plan.shares".into()));
    let overflow =
        |p: &mut Plan| p.tasks.iter_mut().for_each(|t| t.tokens = Some(df_contract::Tokens(u64::MAX)));
    assert_eq!(verdict(&overflow), (Verdict::NeedsApproval, "plan.shares".into()));
    let money = |p: &mut Plan| p.tasks[0].nano_usd = Some(NanoUsd(5_001));
    assert_eq!(verdict(&money), (Verdict::NeedsApproval, "plan.shares".into()));
    let nothing_left = |p: &mut Plan| p.tasks[0].nano_usd = Some(NanoUsd(4_500));
    assert_eq!(verdict(&nothing_left), (Verdict::Rejected, "plan.invalid".into()));
    let frozen = |p: &mut Plan| p.tasks[0].paths = vec!["src/frozen/*.py".into()];
    assert_eq!(verdict(&frozen), (Verdict::Rejected, "plan.protected_paths".into()));
    let given = |p: &mut Plan| p.tasks[1].expected_outputs = vec!["tests/given.py".into()];
    assert_eq!(verdict(&given), (Verdict::Rejected, "plan.protected_paths".into()));
    let outside = |p: &mut Plan| p.tasks[1].paths = vec!["src/**".into()];
    assert_eq!(verdict(&outside), (Verdict::Rejected, "plan.invalid".into()));
    assert_eq!(verdict(&|p| p.tasks.clear()), (Verdict::Rejected, "plan.invalid".into()));
}

#[test]
fn a_good_tree_passes_every_gate() {
    let gate = judged(|_| {});
    assert_eq!(outcome(&gate), (Verdict::Approved, vec![]));
    let names: Vec<&str> = gate.gates.iter().map(|g| g.gate.as_str()).collect();
    assert_eq!(names, ["acceptance", "hidden", "licences", "paths", "secrets"]);
    assert!(gate.gates.iter().all(|g| g.passed));
}

#[test]
fn a_check_that_failed_or_did_not_run_has_not_passed() {
    for gate in [
        judged(|f| f.acceptance = vec![check("unit", false)]),
        judged(|f| f.acceptance.clear()),
        judged(|f| f.acceptance = vec![check("unit", true), check("unit", false)]),
        judged(|f| f.acceptance = vec![check("other", true)]),
    ] {
        assert_eq!(outcome(&gate), (Verdict::Rejected, vec!["gate.acceptance"]));
    }
}

#[test]
fn a_hidden_check_is_named_by_its_hint_alone() {
    let gate = judged(|f| f.hidden = vec![check("edge", false)]);
    assert_eq!(outcome(&gate), (Verdict::Rejected, vec!["gate.hidden"]));
    assert_eq!(gate.reasons[0].evidence, "edge: odd input");
    assert!(!serde_json::to_string(&gate.gates).unwrap().contains("secret command"));
}

#[test]
fn only_new_secrets_count() {
    let secret = |line| SecretFact { rule: "jwt".into(), file: "a".into(), line };
    let base = SourceFacts { secrets: vec![secret(1)], ..SourceFacts::default() };
    let with = |secrets| GateFacts { source: SourceFacts { secrets, ..SourceFacts::default() }, ..good() };
    let moved = judged_from(&base, &with(vec![secret(9)]), &obligations());
    assert_eq!(outcome(&moved), (Verdict::Approved, vec![]));
    let added = judged_from(&base, &with(vec![secret(1), secret(2)]), &obligations());
    assert_eq!(outcome(&added), (Verdict::Rejected, vec!["gate.secrets"]));
}

#[test]
fn paths_outside_the_plan_or_protected_are_refused() {
    for (path, rule) in [
        ("README.md", "gate.paths"),
        ("src/frozen/x.py", "gate.protected_paths"),
        ("tests/given.py", "gate.protected_paths"),
    ] {
        let gate = judged(|f| f.changed_paths = [path.to_owned()].into());
        assert_eq!(outcome(&gate), (Verdict::Rejected, vec![rule]), "{path}");
    }
}

#[test]
fn packages_are_refused_or_looked_at() {
    let dependency = DependencyFact {
        ecosystem: "pypi".into(),
        name: "flask".into(),
        requirement: String::new(),
        file: "requirements.txt".into(),
    };
    let mut facts = good();
    facts.source.dependencies = vec![dependency];
    let refused = judged_from(&SourceFacts::default(), &facts, &obligations());
    assert_eq!(outcome(&refused), (Verdict::Rejected, vec!["gate.dependencies"]));
    let mut granted = obligations();
    granted.dependencies.insert("pypi:flask".into());
    let looked_at = judged_from(&SourceFacts::default(), &facts, &granted);
    assert_eq!(outcome(&looked_at), (Verdict::NeedsApproval, vec!["gate.licences"]));
    let there_before = judged_from(&facts.source.clone(), &facts, &obligations());
    assert_eq!(outcome(&there_before), (Verdict::Approved, vec![]));
}

#[test]
fn licences_of_files_are_permissive_or_looked_at() {
    for (licence, expect) in [
        ("MIT", Verdict::Approved),
        ("GPL-3.0-only OR MIT", Verdict::Approved),
        ("MIT AND GPL-3.0-only", Verdict::NeedsApproval),
        ("(MIT OR GPL-3.0-only) AND BSL-1.0", Verdict::NeedsApproval),
        ("LicenseRef-unknown", Verdict::NeedsApproval),
        ("", Verdict::NeedsApproval),
    ] {
        let gate = judged(|f| {
            f.source.licences.insert("vendor/LICENSE".into(), licence.into());
        });
        assert_eq!(gate.verdict, expect, "{licence}");
    }
}

#[test]
fn a_gate_nobody_knows_does_not_pass() {
    let mut demanded = obligations();
    demanded.gates.insert("astrology".into());
    let gate = judged_from(&SourceFacts::default(), &good(), &demanded);
    assert_eq!(outcome(&gate), (Verdict::Rejected, vec!["gate.unknown"]));
}
