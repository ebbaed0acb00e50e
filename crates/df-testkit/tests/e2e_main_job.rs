//! The main job, by the one command that a newcomer types, from the conversation that ships with it.
#![expect(clippy::print_stdout, reason = "a test that cannot run says so")]

use std::process::Command;

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
