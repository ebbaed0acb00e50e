//! Random arrivals: shares, bounds on waiting, caps and placement. The store is played by a list.

use std::convert::Infallible;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

mod arrivals;

fn tenant(n: usize) -> TenantId {
    format!("t{n}").parse().unwrap()
}

fn job(n: u64) -> JobId {
    JobId::mint(Timestamp(n), [0; 10])
}

fn anyone() -> Worker {
    Worker {
        class: WorkerClass::Trusted,
        labels: BTreeSet::new(),
        tiers: BTreeSet::from([SandboxTier::Bwrap]),
        runtimes: BTreeSet::from([Runtime::Builtin]),
    }
}

fn needs(kind: LeaseKind) -> Needs {
    let agent = Runner::builtin(Role::Backend).filter(|_| kind == LeaseKind::Agent);
    Needs { kind, runner: agent, version: None, labels: BTreeSet::new(), min_tier: None }
}

fn candidate(of: usize, number: u64) -> Candidate {
    Candidate {
        job: job(number),
        slug: "work".parse().unwrap(),
        tenant: tenant(of),
        needs: needs(LeaseKind::Agent),
        urgency: i64::try_from(number).unwrap(),
        rank: 1,
    }
}

fn round<'a>(worker: &'a Worker, rules: &'a Rules, candidates: Vec<Candidate>) -> Round<'a> {
    Round {
        now: Timestamp(1_000_000),
        worker,
        rules,
        candidates,
        running: Running::default(),
        virtual_time: 0,
        passes: BTreeMap::new(),
        breakers: Breakers::new(),
    }
}

fn all(round: Round<'_>, wanted: usize) -> Picked {
    pick(round, wanted, |_| Ok::<_, Infallible>(true)).unwrap_or_else(|never| match never {})
}

fn jobs(picked: &Picked) -> Vec<JobId> {
    picked.taken.iter().map(|c| c.job).collect()
}

#[test]
fn urgency_is_age_with_a_lead_for_deadlines_and_priority() {
    let hour = 3_600_000;
    let check = |deadline: Option<u64>, priority, want: i64| {
        let got = urgency(Timestamp(10 * hour), deadline.map(Timestamp), priority);
        assert_eq!(got, want * 60_000, "{deadline:?} {priority}");
    };
    check(None, 0, 600);
    check(None, 3, 570);
    check(None, -3, 630);
    check(Some(20 * hour), 0, 600);
    check(Some(10 * hour + hour / 2), 0, 570);
    check(Some(0), 0, 540);
    check(Some(u64::MAX), 100, -400);
}

#[test]
fn within_a_tenant_urgency_goes_before_the_critical_path_and_that_before_names() {
    let (worker, rules) = (anyone(), Rules::default());
    let mut candidates: Vec<_> = (0..4).map(|n| candidate(0, n)).collect();
    for (c, (urgency, rank)) in candidates.iter_mut().zip([(5, 9), (5, 9), (5, 10), (4, 1)]) {
        (c.urgency, c.rank) = (urgency, rank);
    }
    candidates.reverse();
    assert_eq!(jobs(&all(round(&worker, &rules, candidates), 9)), [job(3), job(2), job(0), job(1)]);
}

#[test]
fn a_refused_candidate_costs_nothing_and_the_next_is_offered() {
    let (worker, rules) = (anyone(), Rules::default());
    let candidates = vec![candidate(0, 1), candidate(0, 2), candidate(1, 3)];
    let picked = pick(round(&worker, &rules, candidates), 2, |c| Ok::<_, Infallible>(c.job != job(1)));
    let picked = picked.unwrap_or_else(|never| match never {});
    assert_eq!(jobs(&picked), [job(2), job(3)]);
    assert_eq!(picked.passes, BTreeMap::from([(tenant(0), SCALE), (tenant(1), SCALE)]));
    let failed = pick(round(&worker, &rules, vec![candidate(0, 1)]), 1, |_| Err("the disk is full"));
    assert_eq!(failed, Err("the disk is full"));
}

#[test]
fn a_tenant_that_was_away_saves_nothing_up() {
    let (worker, rules) = (anyone(), Rules::default());
    let mut after = round(&worker, &rules, (0..20).map(|n| candidate(usize::from(n < 10), n)).collect());
    (after.virtual_time, after.passes) = (100 * SCALE, BTreeMap::from([(tenant(1), 100 * SCALE)]));
    let served: Vec<_> = all(after, 6).taken.into_iter().map(|c| c.tenant).collect();
    assert_eq!(served.iter().filter(|t| **t == tenant(0)).count(), 3, "{served:?}");
}

#[test]
fn newcomers_cannot_keep_out_who_waits_already() {
    let (worker, rules) = (anyone(), Rules::default());
    let mut next = round(&worker, &rules, vec![candidate(0, 8), candidate(1, 9), candidate(9, 7)]);
    (next.virtual_time, next.passes) = (5 * SCALE, BTreeMap::from([(tenant(9), 5 * SCALE)]));
    assert_eq!(jobs(&all(next, 9)), [job(7), job(8), job(9)]);
}

#[test]
fn an_open_breaker_holds_back_its_tenants_agent_alone_and_then_lets_one_through() {
    let (worker, rules) = (anyone(), Rules::default());
    let backend = Runner::builtin(Role::Backend).unwrap();
    let qa = Needs { runner: Runner::builtin(Role::Qa), ..needs(LeaseKind::Agent) };
    let candidates = || {
        let other = Candidate { needs: qa.clone(), ..candidate(0, 3) };
        vec![candidate(0, 1), candidate(0, 2), other, candidate(1, 4), candidate(1, 5)]
    };
    let with = |breaker| {
        let mut round = round(&worker, &rules, candidates());
        round.breakers = Breakers::from([(tenant(0), BTreeMap::from([(backend.clone(), breaker)]))]);
        round
    };
    let taken = |picked: &Picked| jobs(picked).into_iter().collect::<BTreeSet<_>>();
    let open = |until| Breaker::Open { until: Timestamp(until), trips: 2 };
    let shut = all(with(open(1_000_001)), 9);
    assert_eq!(taken(&shut), [job(3), job(4), job(5)].into());
    let picked = all(with(open(1_000_000)), 9);
    assert_eq!(taken(&picked), [job(1), job(3), job(4), job(5)].into(), "one probe of tenant 0");
    let probing = Breaker::HalfOpen { since: Timestamp(1_000_000), trips: 2 };
    assert_eq!(picked.breakers, Breakers::from([(tenant(0), BTreeMap::from([(backend.clone(), probing)]))]));
    assert_eq!(taken(&all(with(probing), 9)), [job(3), job(4), job(5)].into(), "while it is out");
}

#[test]
fn an_agents_cap_counts_in_each_tenant_and_a_runtimes_over_all() {
    let worker = anyone();
    let candidates = || (0..6).map(|n| candidate(usize::from(n >= 3), n)).collect::<Vec<_>>();
    let agent = Rules { agents: [("backend".parse().unwrap(), 2)].into(), ..Rules::default() };
    let served = |rules: &Rules| {
        let picked = all(round(&worker, rules, candidates()), 9);
        let first = picked.taken.iter().filter(|c| c.tenant == tenant(0)).count();
        (first, picked.taken.len() - first)
    };
    assert_eq!(served(&agent), (2, 2));
    let runtime = Rules { runtimes: [(Runtime::Builtin, 3)].into(), ..Rules::default() };
    let (first, second) = served(&runtime);
    assert_eq!(first + second, 3);
}

#[test]
fn one_change_of_a_job_is_merged_at_a_time() {
    let (worker, rules) = (anyone(), Rules::default());
    let merge = |n, slug: &str| Candidate {
        slug: slug.parse().unwrap(),
        needs: needs(LeaseKind::Integrate),
        ..candidate(0, n)
    };
    let candidates = vec![merge(1, "integrate.a"), merge(1, "integrate.b"), merge(2, "integrate.a")];
    assert_eq!(jobs(&all(round(&worker, &rules, candidates.clone()), 9)), [job(1), job(2)]);
    let mut busy = round(&worker, &rules, candidates);
    busy.running.merging.insert(job(1));
    assert_eq!(jobs(&all(busy, 9)), [job(2)]);
}

#[test]
fn placement_asks_for_class_labels_tier_and_runtime() {
    let gpu = || BTreeSet::from(["gpu".to_owned()]);
    let check = |fits: bool, worker: Worker, wanted: Needs| {
        assert_eq!(worker.fits(&wanted), fits, "{worker:?} {wanted:?}");
    };
    let remote = || Worker { class: WorkerClass::Remote, ..anyone() };
    check(true, anyone(), needs(LeaseKind::Validate));
    check(false, remote(), needs(LeaseKind::Validate));
    check(true, remote(), needs(LeaseKind::Agent));
    let labelled = |kind| Needs { labels: gpu(), ..needs(kind) };
    check(false, anyone(), labelled(LeaseKind::Agent));
    check(true, Worker { labels: gpu(), ..anyone() }, labelled(LeaseKind::Agent));
    check(true, anyone(), labelled(LeaseKind::Integrate));
    let tier = |least| Needs { min_tier: Some(least), ..needs(LeaseKind::Validate) };
    check(true, anyone(), tier(SandboxTier::Docker));
    check(
        false,
        Worker { tiers: BTreeSet::from([SandboxTier::Docker]), ..anyone() },
        tier(SandboxTier::Bwrap),
    );
    let remote_agent = Runner { runtime: Runtime::Remote, agent: "docs-writer".parse().unwrap() };
    check(false, anyone(), Needs { runner: Some(remote_agent), ..needs(LeaseKind::Agent) });
}

#[test]
fn rules_out_of_bounds_are_refused_by_name() {
    let check = |text: &str, want: &str| {
        let rules: Rules = serde_json::from_str(text).unwrap();
        let got = rules.validate().map_or_else(|e| e.to_string(), |()| String::new());
        assert!(got.contains(want) && got.is_empty() == want.is_empty(), "{text}: {got}");
    };
    check(r#"{"tenant_weights": {"acme": 1000}, "max_per_job": 1, "agents": {"qa": 5}}"#, "");
    check(r#"{"tenant_weights": {"acme": 0}}"#, "tenant_weights.acme");
    check(r#"{"tenant_weights": {"acme": 1001}}"#, "tenant_weights.acme");
    check(r#"{"max_per_job": 0}"#, "scheduling.max_per_job");
    check(r#"{"runtimes": {"remote": 0}}"#, "scheduling.runtimes.remote");
    assert!(serde_json::from_str::<Rules>(r#"{"max_per_jobs": 3}"#).is_err());
}

proptest! {
    /// While all of them wait, a tenant has at most one claim more than its share, and at most its share of one claim
    /// per other tenant fewer; and any two differ by one claim of each.
    #[test]
    fn tenants_that_always_wait_are_served_by_weight(weights in vec(1u32..=20, 1..8), rounds in 1usize..40, wanted in 1usize..9) {
        let (worker, mut rules) = (anyone(), Rules::default());
        rules.tenant_weights = weights.iter().enumerate().map(|(n, w)| (tenant(n), *w)).collect();
        let mut kept = Picked::default();
        let mut served = vec![0u64; weights.len()];
        for number in 0..rounds {
            let waiting = (0..weights.len()).flat_map(|n| (0..wanted as u64).map(move |i| candidate(n, i))).collect();
            let mut next = round(&worker, &rules, waiting);
            (next.virtual_time, next.passes) = (kept.virtual_time, kept.passes.clone());
            let picked = all(next, wanted);
            prop_assert_eq!(picked.taken.len(), wanted, "nobody idles in round {}", number);
            for taken in &picked.taken {
                let of = (0..weights.len()).find(|n| tenant(*n) == taken.tenant).unwrap();
                served[of] += 1;
            }
            kept.virtual_time = picked.virtual_time;
            kept.passes.extend(picked.passes);
            shares_hold(&rules, &weights, &served)?;
        }
    }
}

fn shares_hold(rules: &Rules, weights: &[u32], served: &[u64]) -> Result<(), TestCaseError> {
    let cost = |n: usize| i128::from(rules.cost(&tenant(n)));
    let (sum, total) = (weights.iter().sum::<u32>(), served.iter().sum::<u64>());
    for n in 0..weights.len() {
        let share = total as f64 * f64::from(weights[n]) / f64::from(sum);
        let fewer = (weights.len() - 1) as f64 * f64::from(weights[n]) / f64::from(sum);
        // Costs are whole numbers: the share is exact to a millionth here.
        let got = served[n] as f64;
        prop_assert!(
            got <= share + 1.0 + 1e-3 && got >= share - fewer - 1e-3,
            "{n}: {got} of {share} in {served:?} {weights:?}"
        );
        for m in 0..weights.len() {
            let apart = i128::from(served[n]) * cost(n) - i128::from(served[m]) * cost(m);
            prop_assert!(apart <= cost(n) && apart >= -cost(m), "{n} {m}: {served:?} {weights:?}");
        }
    }
    Ok(())
}
