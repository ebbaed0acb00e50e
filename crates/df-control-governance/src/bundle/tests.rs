use df_contract::{JobSpec, Severity, SourceFacts, Verdict};
use proptest::prelude::*;

use super::*;
use crate::{decide, job_facts};

const TEST: &str = "package devfactory.own_test\nimport rego.v1\ntest_true if true\n";

fn files(policy: &str) -> BTreeMap<String, String> {
    let policy = format!("package devfactory.own\nimport rego.v1\n{policy}\n");
    [("own/own.rego", policy.as_str()), ("own/own_test.rego", TEST)]
        .map(|(path, text)| (path.to_owned(), text.to_owned()))
        .into()
}

fn load(policy: &str) -> Result<PolicyBundle, BundleError> {
    PolicyBundle::load_exactly(&files(policy))
}

fn refused(policy: &str) -> String {
    load(policy).unwrap_err().to_string()
}

fn facts() -> JobFacts {
    let spec: JobSpec = serde_json::from_value(
        serde_json::json!({"title": "t", "description": "d", "budget": {"tokens": 9}}),
    )
    .unwrap();
    job_facts(&spec, &SourceFacts::default(), &"acme".parse().unwrap(), "alice").unwrap()
}

fn decided(policy: &str) -> df_contract::Decision {
    decide(&facts(), &load(policy).unwrap(), &OperatorLimits::default()).unwrap()
}

#[test]
fn the_default_bundle_loads_and_its_tests_pass() {
    let bundle = default_bundle().unwrap();
    assert_eq!(bundle.packs().collect::<Vec<_>>(), ["base", "cost", "deployment", "privacy"]);
    assert!(bundle.tests_passed() >= 20, "{}", bundle.tests_passed());
    assert_eq!(bundle.digest(), default_bundle().unwrap().digest());
}

#[test]
fn the_base_pack_stays_as_it_is() {
    let only_base = PolicyBundle::load(BTreeMap::new()).unwrap();
    assert_eq!(only_base.packs().collect::<Vec<_>>(), ["base"]);
    for path in ["base/base.rego", "base/more.rego"] {
        let error = PolicyBundle::load([(path.to_owned(), "package devfactory.base\n".to_owned())].into())
            .unwrap_err();
        assert_eq!(error, BundleError::BasePack { path: path.to_owned() });
    }
    let with_own = PolicyBundle::load(files("warn := set()")).unwrap();
    assert_eq!(with_own.packs().collect::<Vec<_>>(), ["base", "own"]);
    assert_ne!(with_own.digest(), only_base.digest());
}

#[test]
fn a_pack_may_not_reach_into_another() {
    let mut all = files("warn := set()");
    all.insert(
        "own/sly.rego".into(),
        "package devfactory.base.words\nimport rego.v1\ndefend := [\" \"]\n".into(),
    );
    assert!(matches!(PolicyBundle::load(all), Err(BundleError::Package { .. })));
    let mut all = files("warn := set()");
    all.insert("sly.rego".into(), "package devfactory.own\n".into());
    assert!(matches!(PolicyBundle::load(all), Err(BundleError::Path { .. })));
}

#[test]
fn what_is_not_deterministic_is_refused_by_name() {
    for call in [
        "rand.intn(\"x\", 9)",
        "time.now_ns()",
        "opa.runtime()",
        "uuid.rfc4122(\"x\")",
        "http.send({})",
        "trace(\"x\")",
        "print(\"x\")",
    ] {
        let error =
            refused(&format!("deny contains {{\"rule\": \"own.x\", \"message\": \"x\"}} if {call} == 1"));
        let name = call.split('(').next().unwrap();
        assert!(error.contains(&format!("`{name}` is not allowed")), "{error}");
    }
    for nested in [
        "warn := set()\nf(x) := rand.intn(x, 9)",
        "warn := {y | y := [rand.intn(\"x\", 9)][_]}",
        "warn := set()\ndefault obligations := {}\nobligations := {\"tokens\": rand.intn(\"x\", 9)}",
        "warn := set() if { every x in [1] { rand.intn(\"x\", 9) == x } }",
    ] {
        assert!(refused(nested).contains("`rand.intn` is not allowed"), "{nested}");
    }
}

#[test]
fn a_builtin_cannot_be_put_in_anothers_place() {
    let error = refused("f(x) := 1\nwarn := {\"x\" | f(\"a\") == 2 with f as rand.intn}");
    assert!(error.contains("`with f` is not allowed"), "{error}");
    let error = refused("warn := {\"x\" | input.job.title with input as {}}");
    assert!(error.contains("`with input` is not allowed"), "{error}");
    let mut all = files("f(x) := 1\nwarn := set()");
    let test = "package devfactory.own_test\nimport rego.v1\nimport data.devfactory.own\ntest_x if own.f(2) == 1 with own.f as count\n";
    all.insert("own/more_test.rego".into(), test.into());
    let error = PolicyBundle::load_exactly(&all).unwrap_err();
    assert!(matches!(error, BundleError::Forbidden { .. }), "{error}");
}

#[test]
fn a_misspelt_fact_is_refused_at_load() {
    let error =
        refused("deny contains {\"rule\": \"own.x\", \"message\": \"x\"} if input.job.capabilites.network");
    assert!(error.contains("no fact `input.job.capabilites.network`"), "{error}");
    assert!(error.contains("line 3"), "{error}");
    let imported = refused("import input.job\nwarn := {x | x := job.capabilites}");
    assert!(imported.contains("no fact `input.job.capabilites`"), "{imported}");
    assert!(
        load(
            "warn contains {\"rule\": \"own.x\", \"message\": \"x\"} if input.job.source.languages.python > 1"
        )
        .is_ok()
    );
}

#[test]
fn a_pack_needs_an_output_and_tests_that_pass() {
    assert_eq!(refused("x := 1"), BundleError::NoOutput { pack: "own".into() }.to_string());
    let mut untested = files("warn := set()");
    untested.remove("own/own_test.rego");
    assert_eq!(
        PolicyBundle::load_exactly(&untested).unwrap_err(),
        BundleError::NoTests { pack: "own".into() }
    );
    let mut failing = files("warn := set()");
    failing.insert("own/own_test.rego".into(), TEST.replace("if true", "if 1 == 2"));
    assert!(
        matches!(PolicyBundle::load_exactly(&failing), Err(BundleError::TestsFailed(f)) if f[0].contains("test_true"))
    );
    assert!(refused("deny contains {").contains("does not parse"));
}

#[test]
fn an_answer_that_is_undefined_wrong_or_failing_refuses() {
    for policy in [
        // undefined for this job
        "decision := {\"verdict\": \"APPROVED\"} if input.job.title == \"other\"",
        "deny := set() if input.job.title == \"other\"",
        // wrong shape
        "decision := {\"verdict\": \"FINE\"}",
        "decision := {\"verdict\": \"REJECTED\"}",
        "decision := \"APPROVED\"",
        "deny := {\"no object\"}",
        "deny := {{\"rule\": \"own.x\"}}",
        "deny := {{\"rule\": \"own.x\", \"message\": \" \"}}",
        "deny := {{\"rule\": \"own.x\", \"message\": \"m\", \"verdict\": \"APPROVED\"}}",
        "deny := {{\"rule\": \"floor.secrets\", \"message\": \"m\"}}",
        "obligations := {\"network\": \"any\"}",
        "obligations := {\"tokens\": -1}",
        // failing
        "deny contains {\"rule\": \"own.x\", \"message\": to_number(\"x\")} if true",
        "decision := {\"verdict\": \"APPROVED\"}\ndecision := {\"verdict\": \"REJECTED\"}",
    ] {
        let decision = decided(policy);
        assert_eq!(decision.verdict, Verdict::Rejected, "{policy}");
        assert_eq!(decision.reasons[0].rule, "policy.error", "{policy}");
    }
}

#[test]
fn an_answer_that_takes_too_long_refuses() {
    let mut bundle = load("deny := {x | some x in numbers.range(1, 20000); x < 0}").unwrap();
    let limits = OperatorLimits::default();
    assert_eq!(decide(&facts(), &bundle, &limits).unwrap().verdict, Verdict::Approved);
    let none = ExecutionTimerConfig { limit: Duration::ZERO, check_interval: TIMER_INTERVAL };
    bundle.engine.set_execution_timer_config(none);
    let decision = decide(&facts(), &bundle, &limits).unwrap();
    assert_eq!(decision.reasons[0].rule, "policy.error");
    assert!(decision.reasons[0].evidence.contains("time limit"), "{}", decision.reasons[0].evidence);
}

#[test]
fn the_pack_in_the_handbook_loads_and_its_tests_pass() {
    let page = include_str!("../../../../docs/governance.md");
    let blocks: Vec<&str> = page.split("```rego\n").skip(1).filter_map(|b| b.split("```").next()).collect();
    let files = blocks.iter().map(|b| {
        let path = b.lines().next().unwrap().trim_start_matches("# policies/");
        (path.to_owned(), (*b).to_owned())
    });
    let bundle = PolicyBundle::load(files.collect()).unwrap();
    assert_eq!(bundle.packs().collect::<Vec<_>>(), ["base", "house"]);
}

#[test]
fn the_outputs_mean_what_they_say() {
    let finding =
        "contains {\"rule\": \"own.x\", \"message\": \"m\", \"evidence\": \"e\", \"remedy\": \"r\"} if true";
    for (output, verdict, severity) in [
        ("deny", Verdict::Rejected, Severity::Deny),
        ("needs_approval", Verdict::NeedsApproval, Severity::Warn),
        ("warn", Verdict::Approved, Severity::Warn),
    ] {
        let decision = decided(&format!("{output} {finding}"));
        assert_eq!(decision.verdict, verdict);
        assert_eq!(decision.reasons[0].severity, severity);
        assert_eq!(
            (decision.reasons[0].rule.as_str(), decision.reasons[0].evidence.as_str()),
            ("own.x", "e")
        );
    }
    let decision = decided(
        "decision := {\"verdict\": \"NEEDS_APPROVAL\", \"reasons\": [{\"rule\": \"own.x\", \"message\": \"m\"}], \
         \"obligations\": {\"tokens\": 7, \"gates\": [\"secrets\"], \"approval\": {\"count\": 2, \"roles\": [\"approver\"]}}}",
    );
    assert_eq!(decision.verdict, Verdict::NeedsApproval);
    assert_eq!(decision.obligations.tokens.0, 7);
    assert_eq!(decision.obligations.approval.unwrap().count, 2);
    let conflict = decided("obligations := {\"models\": []}");
    assert_eq!(
        (conflict.verdict, conflict.reasons[0].rule.as_str()),
        (Verdict::Rejected, "floor.obligations")
    );
}

#[test]
fn a_pack_that_approves_everything_lowers_nothing() {
    let bundle = load("decision := {\"verdict\": \"APPROVED\"}\ndeny_access := set()").unwrap();
    let mut asked = facts();
    asked.capabilities.environments.insert("production".into());
    let decision = decide(&asked, &bundle, &OperatorLimits::default()).unwrap();
    assert_eq!(decision.verdict, Verdict::NeedsApproval);
    for role in Role::ALL {
        for action in Action::ALL {
            for scope in Scope::ALL {
                assert_eq!(bundle.authorise(*role, *action, *scope), authorise(*role, *action, *scope));
            }
        }
    }
}

#[test]
fn a_pack_takes_access_away() {
    let policy = "deny_access contains {\"rule\": \"own.readonly\", \"message\": \"viewers read nothing\"} if input.access.role == \"viewer\"";
    let bundle = load(policy).unwrap();
    let denied = bundle.authorise(Role::Viewer, Action::JobRead, Scope::Own);
    assert!(matches!(denied, Access::Denied(d) if d.rule == "own.readonly"));
    assert!(bundle.authorise(Role::Auditor, Action::JobRead, Scope::Own).is_allowed());
    let broken = load("deny_access := {1}").unwrap();
    assert!(
        matches!(broken.authorise(Role::Admin, Action::KeyManage, Scope::Own), Access::Denied(d) if d.rule == "policy.error")
    );
}

#[test]
fn sizes_are_bounded() {
    let mut large = files("warn := set()");
    large.insert("own/large.rego".into(), " ".repeat(MAX_FILE_BYTES + 1));
    assert!(matches!(PolicyBundle::load(large), Err(BundleError::TooLarge { .. })));
    let many = (0..=MAX_FILES).map(|i| (format!("own/f{i}.rego"), String::new())).collect();
    assert!(matches!(PolicyBundle::load(many), Err(BundleError::TooLarge { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_text_panics_the_loader(text in r#"[a-z{}\[\]():=,."\n_ ]{0,200}"#) {
        let _ = load(&text);
    }
}

fn persistent() -> JobFacts {
    let spec: JobSpec =
        serde_json::from_value(serde_json::json!({"title": "t", "description": "d", "budget": {"tokens": 9},
        "retries": {"check_failure": {"attempts": 7, "backoff_ms": 5}, "stalled": {"attempts": 2}}}))
        .unwrap();
    job_facts(&spec, &SourceFacts::default(), &"acme".parse().unwrap(), "alice").unwrap()
}

#[test]
fn a_pack_may_refuse_or_escalate_the_attempts_a_job_asks_for() {
    for (output, verdict) in [("deny", Verdict::Rejected), ("needs_approval", Verdict::NeedsApproval)] {
        let bundle = load(&format!(
            r#"{output} contains {{"rule": "own.attempts", "message": "too many attempts", "evidence": kind}} if {{
                some kind, asked in input.job.retries
                asked.attempts > 5
            }}"#
        ))
        .unwrap();
        let decision = decide(&persistent(), &bundle, &OperatorLimits::default()).unwrap();
        let found: Vec<_> = decision.reasons.iter().map(|r| (r.rule.as_str(), r.evidence.as_str())).collect();
        assert_eq!((decision.verdict, found), (verdict, vec![("own.attempts", "check_failure")]));
        let other = decide(&facts(), &bundle, &OperatorLimits::default()).unwrap();
        assert_eq!((other.verdict, other.reasons), (Verdict::Approved, vec![]), "which asks for none");
    }
}

#[test]
fn the_lowest_bound_on_attempts_is_the_one_decided() {
    let bound = |policy: &str, limit: u32| {
        let limits =
            OperatorLimits { max_attempts: std::num::NonZeroU32::new(limit), ..OperatorLimits::default() };
        let decision = decide(&persistent(), &load(policy).unwrap(), &limits).unwrap();
        (decision.verdict, decision.obligations.max_attempts.map(std::num::NonZeroU32::get))
    };
    let three = r#"obligations := {"max_attempts": 3}"#;
    assert_eq!(bound(three, 0), (Verdict::Approved, Some(3)), "no limit of the operator's");
    assert_eq!(bound(three, 2), (Verdict::Approved, Some(2)));
    assert_eq!(bound(three, 4), (Verdict::Approved, Some(3)));
    assert_eq!(bound("obligations := {}", 0), (Verdict::Approved, None));
    assert_eq!(
        bound(r#"obligations := {"max_attempts": 0}"#, 4).0,
        Verdict::Rejected,
        "nothing could be tried"
    );
}
