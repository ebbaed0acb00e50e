//! The main job, by the one command that a newcomer types, from the conversation that ships with it.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use df_contract::{Plan, PlanLimits};
use df_testkit::{Limit, files_with, repository, run_cli};

#[test]
fn the_main_job_runs_from_text_to_delivered_tested_software() {
    let home = tempfile::tempdir().unwrap();
    let example = repository().join("examples/jobs/url-shortener");
    let (data, out) = (home.path().join("data"), home.path().join("out"));
    let args = [
        "run".as_ref(),
        example.as_os_str(),
        "--data-dir".as_ref(),
        data.as_ref(),
        "--out".as_ref(),
        out.as_ref(),
    ];
    let ran = run_cli(home.path(), &args, &[], Limit::TORTURE);
    let summary = &ran.succeeded().stdout;
    for part in [
        "APPROVED",
        "COMPLETED",
        "backend",
        "frontend",
        "devops",
        "qa",
        "coordinator",
        "acceptance",
        "hidden",
        "sha256:",
    ] {
        assert!(summary.contains(part), "the summary lacks {part}:\n{summary}");
    }

    let log = std::fs::read_to_string(data.join("logs/devfactory-proxy.log")).unwrap();
    assert!(!log.contains("stale"), "the main job must be recorded again:\n{log}");

    check_plan(&out.join("plan.json"), summary);
    let recorded = std::fs::read_to_string(example.join("recording.jsonl")).unwrap();
    assert!(recorded.contains("FAILED (failures="), "the debug loop has seen a test fail");

    let software = out.join("software");
    let tests = Command::new("/usr/bin/python3")
        .args(["-B", "-m", "unittest", "discover", "-s", "tests", "-v"])
        .current_dir(&software)
        .output()
        .unwrap();
    assert!(tests.status.success(), "{}", String::from_utf8_lossy(&tests.stderr));
    for name in ["Dockerfile", ".github/workflows/ci.yml", "static/index.html", "shortener/store.py"] {
        assert!(software.join(name).is_file(), "{name} was not delivered");
    }

    let daemon = data.join("daemon");
    let args = ["audit".as_ref(), "verify".as_ref(), "--data-dir".as_ref(), daemon.as_os_str()];
    run_cli(home.path(), &args, &[], Limit::PROCESS).succeeded();
    let hidden = std::fs::read_to_string(example.join("hidden/behaviour.py")).unwrap();
    let line = hidden.lines().max_by_key(|line| line.len()).unwrap().to_owned();
    let shown = files_with(&out, &[("a hidden check", line.clone())], &[]);
    assert_eq!(shown, [], "hidden checks are delivered to nobody");
    let logged = files_with(&data.join("logs"), &[("a hidden check", line)], &[]);
    assert_eq!(logged, []);
}

/// At least five tasks, every builder's role, and a first wave of several that were held at the same time.
fn check_plan(path: &Path, summary: &str) {
    let plan: Plan = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(plan.validate(&PlanLimits::COORDINATOR), vec![]);
    assert!(plan.tasks.len() >= 5, "{} tasks", plan.tasks.len());
    let roles: BTreeSet<&str> = plan.tasks.iter().map(|task| task.role.as_str()).collect();
    assert_eq!(roles, BTreeSet::from(["backend", "devops", "frontend", "qa"]));
    let first = plan.layers().unwrap().remove(0);
    assert!(first.len() >= 2, "{first:?}");
    let at = |slug: &str, state: &str| {
        let found = summary.lines().position(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.windows(3).any(|w| w == ["task", slug, state])
        });
        found.unwrap_or_else(|| panic!("no line says that {slug} is {state}"))
    };
    let leased = first.iter().map(|slug| at(slug.as_str(), "LEASED")).max().unwrap();
    let done = first.iter().map(|slug| at(slug.as_str(), "SUCCEEDED")).min().unwrap();
    assert!(leased < done, "the first wave was held side by side");
}
