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
    assert!(text.contains("  1  ◆  a  backend  a\n  2  ◆  b  backend  b\n"), "{text}");
}

#[test]
fn a_plan_is_checked_against_its_job_and_drawn_to_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let task = |slug: &str, tokens: u64| {
        serde_json::json!({"slug": slug, "role": "backend", "title": "<script>x</script>", "instructions": "x",
            "paths": [format!("{slug}/**")], "tokens": tokens})
    };
    let plan = serde_json::json!({"summary": "s", "tasks": [task("a", 6_000), task("b", 4_001)]});
    std::fs::write(path("plan.json"), plan.to_string()).unwrap();
    std::fs::write(
        path("job.toml"),
        "title = 't'\ndescription = 'd'\nprotected_paths = ['b/**']\nbudget = {tokens = 10000}\n",
    )
    .unwrap();
    let told =
        problem(&devfactory(&["--json", "plan", "check", &path("plan.json"), "--job", &path("job.toml")]));
    assert_eq!(told.code, ErrorCode::InvalidPlan);
    let said = |what: &str| told.errors.iter().any(|e| e.contains(what));
    assert!(said("10001 tokens, the job may spend 10000") && said("the job protects `b/**`"), "{told:?}");

    let shown = devfactory(&["--json", "plan", "show", &path("plan.json"), "--svg", &path("plan.svg")]);
    let value: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(value["waves"], serde_json::json!([["a", "b"]]));
    assert_eq!(value["digest"].as_str().unwrap().len(), 64);
    let svg = std::fs::read_to_string(path("plan.svg")).unwrap();
    assert!(svg.starts_with("<svg ") && !svg.contains("<script") && svg.contains("&lt;script&gt;"), "{svg}");
}

#[test]
fn wrong_plans_are_refused_with_their_code() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("plan.json");
    let task = |slug: &str, on: &[&str], path: &str| {
        serde_json::json!({"slug": slug, "role": "backend", "title": "t", "instructions": "x",
            "paths": [path], "depends_on": on})
    };
    let many: Vec<_> = (0..2_049).map(|i| task(&format!("t{i}"), &[], &format!("d{i}"))).collect();
    for (tasks, expect) in [
        (vec![], "the plan has no tasks"),
        (vec![task("a", &["a"], "x")], "in a circle"),
        (vec![task("a", &[], "x"), task("a", &[], "y")], "two tasks are called `a`"),
        (vec![task("a", &["gone"], "x")], "depends on `gone`, which the plan does not have"),
        (vec![task("a", &[], "x/**"), task("b", &[], "x/y")], "order them or divide the paths"),
        (many, "the plan has 2049 tasks, the limit is 2048"),
    ] {
        let plan = serde_json::json!({"summary": "s", "tasks": tasks});
        std::fs::write(&file, plan.to_string()).unwrap();
        let told = problem(&devfactory(&["--json", "plan", "check", file.to_str().unwrap()]));
        assert_eq!(told.code, ErrorCode::InvalidPlan, "{expect}");
        assert!(told.errors.iter().any(|e| e.contains(expect)), "{expect}: {told:?}");
    }
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

#[test]
fn the_agents_that_ship_as_examples_are_valid_and_a_bad_one_is_told_every_fault() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/agents");
    let mut seen = 0;
    for entry in std::fs::read_dir(examples).unwrap() {
        let dir = entry.unwrap().path();
        let done = devfactory(&["agents", "check", dir.to_str().unwrap()]);
        assert!(done.status.success(), "{}: {done:?}", dir.display());
        seen += 1;
    }
    assert!(seen >= 2, "there are examples");

    let dir = tempfile::tempdir().unwrap();
    let document = "name = \"qa\"\nrole = \"qa\"\nruntime = \"builtin\"\ntools = [\"fly\"]\nprompt = \"x\"\n\
                    paths = [\"../x\"]\ncolour = 1\n[limits]\nsteps = 0\nwall_s = 1\n";
    std::fs::write(dir.path().join("agent.toml"), document).unwrap();
    let told = problem(&devfactory(&["--json", "agents", "check", dir.path().to_str().unwrap()]));
    assert_eq!(told.code, ErrorCode::InvalidAgent);
    let wanted = [
        "prompt.md, not in",
        "prompt.md cannot",
        "colour",
        "`qa`",
        "limits.steps",
        "`fly`",
        "`finish`",
        "../x",
    ];
    for says in wanted {
        assert!(told.errors.iter().any(|error| error.contains(says)), "{says}: {told:?}");
    }
    assert_eq!(told.errors.len(), wanted.len(), "{told:?}");
}

/// A folder of somebody else's must not make the command read, wait for, or send what lies elsewhere.
#[test]
fn manifests_are_read_from_their_folder_and_within_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("agent");
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/agents/docs-writer");
    let document = std::fs::read_to_string(example.join("agent.toml")).unwrap();
    std::fs::write(dir.path().join("secret"), "a secret").unwrap();
    let check = |says: Option<&str>, change: &dyn Fn(&Path)| {
        std::fs::remove_dir_all(&folder).ok();
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("agent.toml"), &document).unwrap();
        std::fs::write(folder.join("prompt.md"), "Write.").unwrap();
        change(&folder);
        let done =
            run(Path::new(env!("CARGO_BIN_EXE_devfactory")), &["agents", "check", folder.to_str().unwrap()]);
        let told = String::from_utf8_lossy(&done.stderr).into_owned();
        match says {
            None => assert!(done.status.success(), "{told}"),
            Some(says) => {
                assert!(
                    !done.status.success() && told.contains("invalid_agent") && told.contains(says),
                    "{told}"
                );
            }
        }
    };
    let link = |name: &'static str| {
        move |folder: &Path| {
            std::fs::remove_file(folder.join(name)).unwrap();
            std::os::unix::fs::symlink("../secret", folder.join(name)).unwrap();
        }
    };
    check(None, &|_| {});
    check(Some("prompt.md cannot be read: it is a symbolic link"), &link("prompt.md"));
    check(Some("agent.toml cannot be read: it is a symbolic link"), &link("agent.toml"));
    check(Some("it is no regular file"), &|folder| {
        std::fs::remove_file(folder.join("prompt.md")).unwrap();
        std::fs::create_dir(folder.join("prompt.md")).unwrap();
    });
    check(Some("it is no regular file"), &|folder| {
        std::fs::remove_file(folder.join("prompt.md")).unwrap();
        let made = std::process::Command::new("mkfifo").arg(folder.join("prompt.md")).status().unwrap();
        assert!(made.success());
    });
    check(Some("larger than 65536 bytes"), &|folder| {
        std::fs::write(folder.join("prompt.md"), "x".repeat(64 * 1024 + 1)).unwrap();
    });
    check(Some("larger than 65536 bytes"), &|folder| {
        std::fs::write(folder.join("agent.toml"), "#".repeat(64 * 1024 + 1)).unwrap();
    });
    check(Some("it is not UTF-8"), &|folder| {
        std::fs::write(folder.join("prompt.md"), [0xff, 0xfe]).unwrap();
    });
    check(Some("`prompt` stands in prompt.md"), &|folder| {
        let with = format!("prompt = \"../secret\"\n{document}");
        std::fs::write(folder.join("agent.toml"), with).unwrap();
    });
    check(Some("prompt.md cannot be read"), &|folder| {
        std::fs::remove_file(folder.join("prompt.md")).unwrap();
    });
}
