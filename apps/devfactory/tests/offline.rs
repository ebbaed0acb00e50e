//! What the command line does without a daemon: plans, doctor, audit, and errors with their codes.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::process::{Command, Output};

use df_contract::{ErrorCode, Problem};

fn run(program: &Path, args: &[&str]) -> Output {
    Command::new(program)
        .args(args)
        .env_remove("DEVFACTORY_API_KEY")
        .env_remove("DEVFACTORY_URL")
        .output()
        .unwrap()
}

fn devfactory(args: &[&str]) -> Output {
    run(Path::new(env!("CARGO_BIN_EXE_devfactory")), args)
}

fn problem(done: &Output) -> Problem {
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    serde_json::from_slice(&done.stderr).unwrap()
}

#[test]
fn a_cyclic_plan_is_an_invalid_plan_and_a_good_one_is_drawn() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("plan.json");
    let task = |slug: &str, on: &str| {
        serde_json::json!({"slug": slug, "role": "backend", "title": slug, "instructions": "x",
            "paths": [format!("{slug}/**")], "depends_on": if on.is_empty() { vec![] } else { vec![on] }})
    };
    let write = |tasks: &[serde_json::Value]| {
        std::fs::write(&file, serde_json::json!({"summary": "s", "tasks": tasks}).to_string()).unwrap();
    };
    write(&[task("a", "b"), task("b", "a")]);
    let told = problem(&devfactory(&["--json", "plan", "check", file.to_str().unwrap()]));
    assert_eq!(told.code, ErrorCode::InvalidPlan);
    assert!(told.errors.iter().any(|e| e.contains("circle")), "{told:?}");

    write(&[task("a", ""), task("b", "a")]);
    let drawn = devfactory(&["plan", "check", file.to_str().unwrap()]);
    let text = String::from_utf8(drawn.stdout).unwrap();
    assert!(text.contains("2. b [backend] b after a"), "{text}");
}

#[test]
fn doctor_names_what_is_missing_and_how_to_get_it() {
    // Alone in a folder, the command has none of its siblings.
    let dir = tempfile::tempdir().unwrap();
    let alone = dir.path().join("devfactory");
    std::fs::copy(env!("CARGO_BIN_EXE_devfactory"), &alone).unwrap();
    let done = run(&alone, &["--json", "doctor"]);
    assert_eq!(done.status.code(), Some(1));
    let findings: Vec<serde_json::Value> = done
        .stdout
        .split(|b| *b == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_slice(l).unwrap())
        .collect();
    for name in ["devfactoryd", "devfactory-proxy", "devfactory-worker"] {
        let found = findings.iter().find(|f| f["what"] == name).unwrap();
        assert_eq!(found["state"], "missing", "{found}");
        assert!(found["remedy"].as_str().unwrap().contains("cargo build"), "{found}");
    }
}

#[test]
fn a_command_without_a_key_or_a_daemon_says_which() {
    let told = problem(&devfactory(&["--json", "list"]));
    assert_eq!(told.code, ErrorCode::Unauthenticated);
    // Nobody listens on a port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}");
    let told = problem(&devfactory(&["--json", "--url", &url, "--api-key", "dfk_x", "list"]));
    assert_eq!(told.code, ErrorCode::DaemonUnreachable);
}
