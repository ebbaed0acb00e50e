use df_contract::facts::SecretFact;
use df_contract::{JobSpec, SourceFacts};

use super::*;
use crate::facts::job_facts;

fn facts(more: serde_json::Value) -> JobFacts {
    let mut spec = serde_json::json!({"title": "t", "description": "d"});
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    let spec: JobSpec = serde_json::from_value(spec).unwrap();
    job_facts(&spec, &SourceFacts::default(), &"acme".parse().unwrap(), "alice").unwrap()
}

fn check_with(facts: &JobFacts, limits: &OperatorLimits, expect: &[(&str, Verdict)]) {
    let found = floors(facts, limits);
    let got: Vec<(&str, Verdict)> = found.iter().map(|r| (r.rule.as_str(), r.verdict)).collect();
    assert_eq!(got, expect);
    assert!(found.iter().all(|r| !r.message.is_empty()));
}

fn check(more: serde_json::Value, expect: &[(&str, Verdict)]) {
    check_with(&facts(more), &OperatorLimits::default(), expect);
}

#[test]
fn a_plain_job_touches_no_floor() {
    check(serde_json::json!({}), &[]);
    check(serde_json::json!({"budget": {"tokens": 20_000_000, "wall_ms": 86_400_000}}), &[]);
    check(
        serde_json::json!({"capabilities": {"network": ["localhost", "127.0.0.1:8080", "[::1]:9"],
            "environments": ["Test"], "data_classes": ["synthetic"]}}),
        &[],
    );
}

#[test]
fn budgets_above_the_cap_are_refused() {
    check(
        serde_json::json!({"budget": {"tokens": 20_000_001}}),
        &[("floor.budget.tokens", Verdict::Rejected)],
    );
    check(
        serde_json::json!({"budget": {"wall_ms": 86_400_001}}),
        &[("floor.budget.wall", Verdict::Rejected)],
    );
    check(serde_json::json!({"budget": {"tokens": 0}}), &[("floor.budget.empty", Verdict::Rejected)]);
    let limits =
        OperatorLimits { money_nano_usd: Some(df_contract::NanoUsd(9)), ..OperatorLimits::default() };
    let asked = facts(serde_json::json!({"budget": {"money_nano_usd": 10}}));
    check_with(&asked, &limits, &[("floor.budget.money", Verdict::Rejected)]);
}

#[test]
fn what_reaches_beyond_the_sandbox_needs_a_person_or_is_refused() {
    use Verdict::{NeedsApproval, Rejected};
    for (more, rule, verdict) in [
        (serde_json::json!({"network": ["api.example.org"]}), "floor.network", NeedsApproval),
        (serde_json::json!({"network": ["localhost.example.org"]}), "floor.network", NeedsApproval),
        (serde_json::json!({"environments": ["production"]}), "floor.environment", NeedsApproval),
        (serde_json::json!({"environments": ["somewhere"]}), "floor.environment", NeedsApproval),
        (serde_json::json!({"data_classes": ["Health"]}), "floor.data_class", NeedsApproval),
        (serde_json::json!({"dependencies": ["pypi:requests"]}), "floor.dependencies", Rejected),
    ] {
        check(serde_json::json!({ "capabilities": more }), &[(rule, verdict)]);
    }
}

#[test]
fn an_installed_package_is_granted() {
    let limits =
        OperatorLimits { dependencies: ["pypi:requests".to_owned()].into(), ..OperatorLimits::default() };
    let asked = facts(serde_json::json!({"capabilities": {"dependencies": ["pypi:requests"]}}));
    check_with(&asked, &limits, &[]);
    assert!(crate::obligations::granted(&asked, &limits).dependencies.contains("pypi:requests"));
}

#[test]
fn names_that_do_not_exist_here_are_refused() {
    check(serde_json::json!({"delivery": ["shop"]}), &[("floor.delivery", Verdict::Rejected)]);
    check(
        serde_json::json!({"source": {"kind": "git", "url": "https://example.org/x.git"}}),
        &[("floor.source_git", Verdict::Rejected)],
    );
    check(
        serde_json::json!({"source": {"kind": "path", "path": "/etc"}}),
        &[("floor.source_path", Verdict::Rejected)],
    );
    let limits = OperatorLimits {
        models: Some(["small".to_owned()].into()),
        delivery: ["shop".to_owned()].into(),
        git_sources: ["https://example.org/".to_owned()].into(),
        ..OperatorLimits::default()
    };
    let asked = facts(serde_json::json!({"model": "large", "delivery": ["shop"],
        "source": {"kind": "git", "url": "https://example.org/x.git"}}));
    check_with(&asked, &limits, &[("floor.model", Verdict::Rejected)]);
}

#[test]
fn an_allowed_git_address_allows_what_lies_below_it_alone() {
    for url in ["https://git.example/team", "https://git.example/team/x.git"] {
        assert!(super::is_below(url, "https://git.example/team"), "{url}");
    }
    assert!(super::is_below("https://git.example/x.git", "https://git.example/"));
    for (url, allowed) in [
        ("https://git.example.evil.test/x", "https://git.example"),
        ("https://git.example@evil.test/x", "https://git.example"),
        ("https://git.example/team-evil/x", "https://git.example/team"),
        ("https://git.example/team/../other", "https://git.example/team/"),
        ("https://git.example/team/%2E%2e/other", "https://git.example/team/"),
        ("https://git.example/team/x?service=y", "https://git.example/team/"),
    ] {
        assert!(!super::is_below(url, allowed), "{url}");
    }
}

#[test]
fn a_source_with_secrets_or_unread_files_needs_a_person() {
    let mut asked = facts(serde_json::json!({}));
    asked.source.secrets = vec![SecretFact { rule: "private-key".into(), file: "id".into(), line: 1 }];
    asked.source.unreadable.insert("Cargo.toml".into(), "it is not valid TOML".into());
    asked.text.truncated = true;
    check_with(
        &asked,
        &OperatorLimits::default(),
        &[
            ("floor.source_unreadable", Verdict::NeedsApproval),
            ("floor.secrets", Verdict::NeedsApproval),
            ("floor.text_truncated", Verdict::NeedsApproval),
        ],
    );
}

#[test]
fn evidence_is_bounded() {
    let items: Vec<String> = (0..7).map(|i| i.to_string()).collect();
    assert_eq!(list(&items), "0, 1, 2, 3, 4 and 2 more");
    assert_eq!(list(&[]), "");
}
