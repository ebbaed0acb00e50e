use df_contract::{JobSpec, SourceFacts};
use proptest::prelude::*;

use super::*;
use crate::facts::job_facts;

fn base() -> Obligations {
    let spec: JobSpec =
        serde_json::from_value(serde_json::json!({"title": "t", "description": "d"})).unwrap();
    let facts = job_facts(&spec, &SourceFacts::default(), &"acme".parse().unwrap(), "alice").unwrap();
    let limits = OperatorLimits {
        models: Some(set(&["a", "b", "c"])),
        max_attempts: NonZeroU32::new(5),
        ..OperatorLimits::default()
    };
    let mut all = granted(&facts, &limits);
    all.dependencies = set(&["a", "b", "c"]);
    all
}

fn set(items: &[&str]) -> BTreeSet<String> {
    items.iter().map(|s| (*s).to_owned()).collect()
}

fn words() -> impl Strategy<Value = BTreeSet<String>> {
    proptest::sample::subsequence(vec!["a", "b", "c"], 0..=3).prop_map(|v| set(&v))
}

fn tightening() -> impl Strategy<Value = Tightening> {
    let rule =
        (1..4_u32, proptest::sample::subsequence(vec![Role::Approver, Role::Admin, Role::Operator], 0..=3))
            .prop_map(|(count, roles)| ApprovalRule { count, roles: roles.into_iter().collect() });
    let lists = (proptest::option::of(words()), proptest::option::of(words()), words(), words());
    let caps = (
        proptest::option::of(0..9_u64),
        proptest::option::of(0..30_000_000_u64),
        proptest::option::of(1..9_u32),
    );
    (lists, caps, proptest::option::of(rule), any::<bool>()).prop_map(
        |(
            (dependencies, models, protected_paths, gates),
            (money, tokens, attempts),
            approval,
            approve_delivery,
        )| {
            Tightening {
                min_tier: None,
                dependencies,
                models,
                protected_paths,
                money_nano_usd: money.map(NanoUsd),
                tokens: tokens.map(Tokens),
                approval,
                approve_delivery,
                gates,
                max_attempts: attempts.and_then(NonZeroU32::new),
            }
        },
    )
}

/// Whether `b` allows nothing that `a` does not.
fn no_wider(a: &Obligations, b: &Obligations) -> bool {
    let money = match (a.money_nano_usd, b.money_nano_usd) {
        (Some(a), Some(b)) => b <= a,
        (Some(_), None) => false,
        (None, Some(_) | None) => true,
    };
    let attempts = match (a.max_attempts, b.max_attempts) {
        (Some(a), Some(b)) => b <= a,
        (Some(_), None) => false,
        (None, Some(_) | None) => true,
    };
    let (ra, rb) = (a.approval.as_ref().unwrap(), b.approval.as_ref().unwrap());
    money
        && attempts
        && b.tokens <= a.tokens
        && b.min_tier >= a.min_tier
        && b.dependencies.is_subset(&a.dependencies)
        && b.models.as_ref().unwrap().is_subset(a.models.as_ref().unwrap())
        && b.protected_paths.is_superset(&a.protected_paths)
        && b.gates.is_superset(&a.gates)
        && (b.approve_delivery || !a.approve_delivery)
        && rb.count >= ra.count
        && rb.roles.is_subset(&ra.roles)
}

proptest! {
    #[test]
    fn tightening_never_widens(more in tightening()) {
        if let Ok(tighter) = tighten(base(), &more) {
            prop_assert!(no_wider(&base(), &tighter));
        }
    }

    #[test]
    fn tightening_twice_changes_nothing_more(more in tightening()) {
        if let Ok(once) = tighten(base(), &more) {
            prop_assert_eq!(tighten(once.clone(), &more), Ok(once));
        }
    }

    #[test]
    fn the_order_of_sources_does_not_matter(a in tightening(), b in tightening()) {
        let ab = tighten(base(), &a).and_then(|o| tighten(o, &b));
        let ba = tighten(base(), &b).and_then(|o| tighten(o, &a));
        prop_assert_eq!(ab.ok(), ba.ok());
    }
}

#[test]
fn nothing_left_in_common_is_a_conflict() {
    let models = Tightening { models: Some(set(&["z"])), ..Tightening::default() };
    assert_eq!(tighten(base(), &models), Err(Conflict::Models));
    let rule = ApprovalRule { count: 1, roles: [Role::Operator].into() };
    let roles = Tightening { approval: Some(rule), ..Tightening::default() };
    assert_eq!(tighten(base(), &roles), Err(Conflict::ApproverRoles));
}

#[test]
fn only_a_verdict_that_waits_names_approvers() {
    assert!(settle(base(), Verdict::NeedsApproval).approval.is_some());
    assert!(settle(base(), Verdict::Approved).approval.is_none());
    assert!(settle(base(), Verdict::Rejected).approval.is_none());
}

#[test]
fn everybody_who_counts_as_an_approver_may_approve() {
    for role in default_approval().roles {
        let access = crate::authorise(role, df_contract::Action::JobApprove, df_contract::Scope::Tenant);
        assert!(access.is_allowed(), "{}", role.as_str());
    }
}
