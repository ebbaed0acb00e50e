use std::collections::BTreeSet;
use std::ops::Add as _;

use proptest::prelude::*;

use super::*;

fn task(slug: &str, on: &[&str], paths: &[&str]) -> PlanTask {
    PlanTask {
        slug: slug.parse().unwrap(),
        role: Role::Backend,
        title: slug.into(),
        instructions: "x".into(),
        depends_on: on.iter().map(|s| s.parse().unwrap()).collect(),
        paths: paths.iter().map(|s| (*s).to_owned()).collect(),
        expected_outputs: vec![],
        checks: vec![],
        tokens: None,
        nano_usd: None,
        agent: None,
        on_failure: None,
    }
}

fn check(tasks: Vec<PlanTask>, expect: &str) {
    let found = Plan { summary: "s".into(), tasks }.validate(&PlanLimits::COORDINATOR);
    let text = found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    assert!(if expect.is_empty() { text.is_empty() } else { text.contains(expect) }, "{text}");
}

#[test]
fn plans_are_checked() {
    check(vec![task("a", &[], &["src/**"]), task("b", &["a"], &["src/**"])], "");
    check(vec![task("a", &[], &["src/**"]), task("b", &[], &["web/**"])], "");
    check(vec![], "no tasks");
    check(vec![task("a", &["b"], &["x"]), task("b", &["a"], &["y"])], "circle");
    check(vec![task("a", &["z"], &["x"])], "does not have");
    check(vec![task("a", &[], &["x"]), task("a", &[], &["y"])], "two tasks");
    check(vec![task("a", &[], &["src/**"]), task("b", &[], &["src/x.py"])], "both write");
    check(vec![task("a", &[], &["src"]), task("b", &[], &["src/*.py"])], "both write");
    check(vec![task("a", &[], &["**/*.py"]), task("b", &[], &["web/x.js"])], "");
    for outside in ["../x", "/etc/x", ".git/hooks/x", "a/.GIT/x", "a//b", "a\\b", "a\nb"] {
        check(vec![task("a", &[], &[outside])], "not a relative path");
    }
    for made in ["integrate.a", "plan", "intake"] {
        check(vec![task(made, &[], &["x"])], "made by the factory itself");
    }
    check(
        (0..9)
            .map(|i| {
                let paths: Vec<String> = (0..60).map(|p| format!("d{i}/{p}.py")).collect();
                task(&format!("t{i}"), &[], &paths.iter().map(String::as_str).collect::<Vec<_>>())
            })
            .collect(),
        "540 paths",
    );
    check(vec![task("a", &[], &[&"d/".repeat(24).add("x")])], "not a relative path");
    check(vec![task("a", &[], &[])], "names no path");
    check(
        (0..33).map(|i| task(&format!("t{i}"), &[], &[&format!("d{i}")])).collect(),
        "33 tasks of the plan stand",
    );
    check((0..65).map(|i| task(&format!("t{i}"), &[], &[&format!("d{i}")])).collect(), "65 tasks");
    let deep = (0..17).map(|i| {
        task(
            &format!("t{i}"),
            &if i == 0 { vec![] } else { vec![format!("t{}", i - 1)] }
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>(),
            &["x"],
        )
    });
    check(deep.collect(), "17 tasks deep");
}

fn plan(tasks: Vec<PlanTask>) -> Plan {
    Plan { summary: "s".into(), tasks }
}

fn told(found: &[PlanError]) -> String {
    found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[test]
fn a_registered_agent_is_named() {
    let mut one = task("a", &[], &["docs/**"]);
    one.role = Role::RegisteredAgent;
    check(vec![one.clone()], "does not say which");
    one.agent = Some("docs-writer".parse().unwrap());
    check(vec![one], "");
    let wrong = serde_json::json!({"slug": "a", "role": "backend", "title": "t", "instructions": "i",
        "paths": ["x"], "agent": "No Such Name"});
    assert!(serde_json::from_value::<PlanTask>(wrong).is_err());
}

#[test]
fn a_circle_is_named_without_what_hangs_on_it() {
    let tasks = vec![
        task("free", &[], &["f"]),
        task("a", &["c", "free"], &["a"]),
        task("b", &["a"], &["b"]),
        task("c", &["b"], &["c"]),
        task("behind", &["c"], &["d"]),
    ];
    let found = plan(tasks).validate(&PlanLimits::SUPPLIED);
    let [PlanError::Cycle(circle)] = found.as_slice() else { panic!("{found:?}") };
    let circle: Vec<&str> = circle.iter().map(TaskSlug::as_str).collect();
    assert_eq!(circle, ["a", "c", "b"]);
    check(vec![task("self", &["self"], &["x"])], "the tasks self depend");
}

#[test]
fn shares_fit_the_cap_and_leave_something() {
    let with = |shares: &[Option<u64>]| {
        let tasks = shares.iter().enumerate().map(|(i, share)| {
            let name = format!("t{i}");
            PlanTask { tokens: share.map(Tokens), ..task(&name, &[], &[&name]) }
        });
        plan(tasks.collect())
    };
    for (shares, expect) in [
        (&[None, None][..], ""),
        (&[Some(60_000), Some(40_000)], ""),
        (&[Some(60_000), Some(40_001)], "add up to 100001 tokens, the job may spend 100000"),
        (&[Some(u64::MAX), Some(u64::MAX)], "add up to"),
        (&[Some(98_000), None, None], ""),
        (&[Some(98_001), None, None], "leave 1999 tokens for 2 task(s)"),
        (&[Some(100_000), None], "leave 0 tokens for 1 task(s)"),
    ] {
        let found = told(&with(shares).check_budget(Some(Tokens(100_000)), None));
        assert!(
            if expect.is_empty() { found.is_empty() } else { found.contains(expect) },
            "{shares:?}: {found}"
        );
    }
    assert_eq!(with(&[Some(9)]).check_budget(None, None), vec![]);
    let shares = with(&[Some(40_000), None, None]).shares(Some(Tokens(100_000)), None);
    let tokens: Vec<u64> = shares.iter().map(|s| s.tokens.unwrap().0).collect();
    assert_eq!(tokens, [40_000, 30_000, 30_000]);
    let purse = with(&[None, None]);
    assert!(purse.shares(Some(Tokens(100_000)), None).iter().all(|s| s.tokens.is_none()));
    assert_eq!(purse.token_share(&"t0".parse().unwrap(), Tokens(9)), None);
    let named = with(&[Some(40_000), None]);
    for (slug, expect) in [("t0", Some(40_000)), ("t1", Some(60_000)), ("rework.1", None)] {
        let share = named.token_share(&slug.parse().unwrap(), Tokens(100_000));
        assert_eq!(share.map(|t| t.0), expect, "{slug}");
    }
    let money = PlanTask { nano_usd: Some(NanoUsd(7)), ..task("a", &[], &["x"]) };
    assert!(told(&plan(vec![money]).check_budget(None, Some(NanoUsd(6)))).contains("7 nano-dollars"));
}

#[test]
fn a_plan_goes_on_from_what_is_finished() {
    let finished = plan(vec![task("a", &[], &["src/**"]), task("b", &["a"], &["tests/**"])]);
    let used: BTreeSet<TaskSlug> = ["dropped".parse().unwrap()].into();
    // A finished task is no rival for a path any more, named or not.
    let new = plan(vec![task("c", &["a"], &["src/**"]), task("d", &["c"], &["src/x.py"])]);
    let whole = Plan::extend(&finished, &used, new).unwrap();
    assert_eq!(whole.tasks[..2], finished.tasks[..]);
    let slugs: Vec<&str> = whole.tasks.iter().map(|t| t.slug.as_str()).collect();
    assert_eq!(slugs, ["a", "b", "c", "d"]);
    let refused = |tasks| told(&Plan::extend(&finished, &used, plan(tasks)).unwrap_err());
    assert!(refused(vec![]).contains("no tasks"));
    assert!(refused(vec![task("a", &[], &["x"])]).contains("has or had one"));
    assert!(refused(vec![task("dropped", &[], &["x"])]).contains("has or had one"));
    assert!(refused(vec![task("c", &["dropped"], &["x"])]).contains("does not have"));
    assert!(refused(vec![task("c", &[], &["x"]), task("d", &[], &["x"])]).contains("both write"));
}

#[test]
fn the_widest_supplied_plan_is_checked_and_one_task_more_is_not() {
    let limits = PlanLimits::SUPPLIED;
    // Two full layers; every task of the second waits for eight of the first; four patterns each.
    let half = limits.tasks / 2;
    let tasks = |count: usize| {
        let one = |i: usize| {
            let on: Vec<String> =
                if i < half { vec![] } else { (0..8).map(|n| format!("t{}", (i * 7 + n) % half)).collect() };
            let paths: Vec<String> = (0..4).map(|n| format!("src/m{i}/p{n}/*.py")).collect();
            task(
                &format!("t{i}"),
                &on.iter().map(String::as_str).collect::<Vec<_>>(),
                &paths.iter().map(String::as_str).collect::<Vec<_>>(),
            )
        };
        (0..count).map(one).collect::<Vec<_>>()
    };
    assert_eq!(plan(tasks(limits.tasks)).validate(&limits), vec![]);
    let mut clash = tasks(limits.tasks);
    clash[1].paths[3] = "src/m0/p2/a*.py".into();
    assert!(
        told(&plan(clash).validate(&limits)).contains("tasks `t0` and `t1` may both write `src/m0/p2/*.py`")
    );
    let more = told(&plan(tasks(limits.tasks + 1)).validate(&limits));
    assert!(more.contains("2049 tasks"), "{more}");
    let chain = (0..=limits.depth).map(|i| {
        let on = if i == 0 { vec![] } else { vec![format!("t{}", i - 1)] };
        task(&format!("t{i}"), &on.iter().map(String::as_str).collect::<Vec<_>>(), &["x"])
    });
    assert!(told(&plan(chain.collect()).validate(&limits)).contains("257 tasks deep"));
    let wide = (0..=limits.width).map(|i| task(&format!("t{i}"), &[], &[&format!("d{i}")]));
    assert!(told(&plan(wide.collect()).validate(&limits)).contains("1025 tasks of the plan stand"));
}

#[test]
fn the_work_on_a_hostile_plan_is_bounded() {
    let limits = PlanLimits::SUPPLIED;
    let with = |path: &dyn Fn(usize, usize) -> String| {
        let tasks = (0..1_000).map(|i| {
            let paths: Vec<String> = (0..8).map(|n| path(i, n)).collect();
            task(&format!("t{i}"), &[], &paths.iter().map(String::as_str).collect::<Vec<_>>())
        });
        told(&plan(tasks.collect()).validate(&limits))
    };
    assert!(with(&|i, n| format!("*a{i}b{n}")).contains("too many path patterns"));
    let all = with(&|_, _| "**".to_owned());
    assert_eq!(all.matches("both write").count(), MAX_FINDINGS);
    assert!(all.ends_with("and more findings; correct these first"));
    let more = |n: usize| PlanTask {
        instructions: "x".repeat(32 << 10),
        ..task(&format!("t{n}"), &[], &[&format!("d{n}")])
    };
    assert!(
        told(&plan((0..128).map(more).collect()).validate(&limits))
            .contains("bytes in all, the limit is 4194304")
    );
    assert_eq!(plan((0..127).map(more).collect()).validate(&limits), vec![]);
}

/// The rule as one would say it: each pair of tasks, each pair of patterns.
fn overlaps_by_the_rule(plan: &Plan) -> BTreeSet<(TaskSlug, TaskSlug)> {
    fn waits(plan: &Plan, task: &PlanTask, on: &TaskSlug) -> bool {
        task.depends_on
            .iter()
            .any(|direct| direct == on || plan.tasks.iter().any(|t| t.slug == *direct && waits(plan, t, on)))
    }
    let meet = |a: &PlanTask, b: &PlanTask| {
        let shape = super::patterns::Shape::of;
        a.paths.iter().any(|p| b.paths.iter().any(|q| shape(p).may_meet(&shape(q))))
    };
    let mut found = BTreeSet::new();
    for (i, a) in plan.tasks.iter().enumerate() {
        for b in &plan.tasks[i + 1..] {
            if !waits(plan, a, &b.slug) && !waits(plan, b, &a.slug) && meet(a, b) {
                found.insert((a.slug.clone(), b.slug.clone()));
            }
        }
    }
    found
}

fn small_plans() -> impl Strategy<Value = Plan> {
    let name = prop_oneof![
        3 => prop::sample::select(vec!["a", "b", "c.py", "d.d"]),
        2 => prop::sample::select(vec!["*", "**", "a*", "*b", "{a,b}", "[ab]", "?.py", "{a/b,c}"]),
    ];
    let path = prop::collection::vec(name, 1..4).prop_map(|parts| parts.join("/"));
    let paths = prop::collection::vec(path, 1..4);
    let tasks = prop::collection::vec((paths, any::<u8>()), 1..9);
    tasks.prop_map(|tasks| {
        let one = |(i, (paths, on)): (usize, (Vec<String>, u8))| {
            let on: Vec<String> =
                (0..i).filter(|n| on & (1 << n) != 0 && n % 2 == 0).map(|n| format!("t{n}")).collect();
            task(
                &format!("t{i}"),
                &on.iter().map(String::as_str).collect::<Vec<_>>(),
                &paths.iter().map(String::as_str).collect::<Vec<_>>(),
            )
        };
        plan(tasks.into_iter().enumerate().map(one).collect())
    })
}

proptest! {
    #[test]
    fn overlaps_are_those_of_the_plain_rule(plan in small_plans()) {
        let found = plan.validate(&PlanLimits::COORDINATOR);
        let got: BTreeSet<(TaskSlug, TaskSlug)> = found
            .iter()
            .map(|e| match e {
                PlanError::Overlap { a, b, .. } => (a.clone(), b.clone()),
                other => panic!("{other}"),
            })
            .collect();
        prop_assert_eq!(got, overlaps_by_the_rule(&plan));
    }

    #[test]
    fn layers_and_the_longest_chain_follow_the_dependencies(plan in small_plans()) {
        let graph = graph::Graph::of(&plan).unwrap();
        for (task, before) in graph.before.iter().enumerate() {
            let above = before.iter().map(|on| graph.layer[*on] + 1).max().unwrap_or(0);
            prop_assert_eq!(graph.layer[task], above);
        }
        let path = graph.critical_path();
        prop_assert_eq!(path.len(), graph.depth());
        prop_assert!(path.windows(2).all(|p| graph.before[p[1]].contains(&p[0])));
        prop_assert!(graph.rank.iter().all(|rank| *rank <= path.len()));
    }
}
