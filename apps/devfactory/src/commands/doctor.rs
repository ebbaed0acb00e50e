//! What is missing on this machine or in this installation, and how to get it.

use std::path::Path;
use std::process::{Command, ExitCode};

use df_contract::api::SystemView;
use serde::{Deserialize, Serialize};

use crate::args::Cli;
use crate::client::Client;
use crate::stack::binaries;

/// One thing looked at.
#[derive(Debug, Serialize)]
struct Finding {
    what: String,
    state: State,
    detail: String,
    /// How to get what is missing; empty when all is well.
    remedy: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Ok,
    /// Works, but less than it could.
    Note,
    Missing,
}

/// A requirement of the sandbox, as `devfactory-worker --check` prints it.
#[derive(Debug, Deserialize)]
struct Requirement {
    requirement: String,
    status: Status,
    detail: String,
    fix: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Present,
    Optional,
    Missing,
}

#[derive(Debug, Deserialize)]
struct Check {
    checks: Vec<Requirement>,
}

pub(crate) async fn doctor(cli: &Cli, data_dir: Option<&Path>) -> anyhow::Result<ExitCode> {
    let mut found = Vec::new();
    for name in ["devfactoryd", "devfactory-proxy", "devfactory-worker"] {
        found.push(match binaries::sibling(name) {
            Ok(path) => ok(name, path.display().to_string()),
            Err(e) => missing(name, e.to_string(), "build all four binaries: cargo build --release"),
        });
    }
    found.push(program("git", "git", "install it: apt-get install git"));
    found.push(program("python3", "python3 (for the examples)", "install it: apt-get install python3"));
    sandbox(&mut found);
    installation(cli, &mut found).await;
    if let Some(dir) = data_dir {
        let there = dir.join("daemon.toml").exists();
        found.push(if there {
            ok("data directory", dir.display().to_string())
        } else {
            missing("data directory", format!("{} holds no stack", dir.display()), "start one: devfactory up")
        });
    }
    print(cli, &found)
}

fn ok(what: &str, detail: String) -> Finding {
    Finding { what: what.to_owned(), state: State::Ok, detail, remedy: String::new() }
}

fn missing(what: &str, detail: String, remedy: &str) -> Finding {
    Finding { what: what.to_owned(), state: State::Missing, detail, remedy: remedy.to_owned() }
}

fn note(what: &str, detail: String, remedy: &str) -> Finding {
    Finding { what: what.to_owned(), state: State::Note, detail, remedy: remedy.to_owned() }
}

fn program(name: &str, what: &str, remedy: &str) -> Finding {
    match Command::new(name).arg("--version").output() {
        Ok(done) if done.status.success() => {
            ok(what, String::from_utf8_lossy(&done.stdout).trim().to_owned())
        }
        Ok(_) | Err(_) => missing(what, "it could not be started".to_owned(), remedy),
    }
}

fn sandbox(found: &mut Vec<Finding>) {
    let Ok(worker) = binaries::sibling("devfactory-worker") else { return };
    let checked = Command::new(worker).arg("--check").output().ok();
    let check = checked.and_then(|done| serde_json::from_slice::<Check>(&done.stdout).ok());
    let Some(check) = check else {
        found.push(missing(
            "sandbox",
            "the worker could not check it".to_owned(),
            "run: devfactory-worker --check",
        ));
        return;
    };
    for one in check.checks {
        let what = format!("sandbox: {}", one.requirement);
        found.push(match one.status {
            Status::Present => ok(&what, one.detail),
            Status::Optional => note(&what, one.detail, &one.fix),
            Status::Missing => missing(&what, one.detail, &one.fix),
        });
    }
}

async fn installation(cli: &Cli, found: &mut Vec<Finding>) {
    if cli.api_key.is_none() {
        let remedy = "set DEVFACTORY_URL and DEVFACTORY_API_KEY to check a running installation too";
        found.push(note("installation", "not looked at".to_owned(), remedy));
        return;
    }
    let asked = async {
        Client::new(cli.url.as_deref(), cli.api_key.as_deref())?.get::<SystemView>("/v1/system").await
    };
    let system = match asked.await {
        Ok(system) => system,
        Err(e) => return found.push(missing("daemon", e.to_string(), "start a stack: devfactory up")),
    };
    found.push(ok("daemon", format!("version {}, policy {}", system.version, system.policy)));
    found.push(if system.proxy_reachable {
        ok("proxy", "answers the daemon".to_owned())
    } else {
        missing(
            "proxy",
            "does not answer the daemon".to_owned(),
            "start devfactory-proxy, or mend [proxy] url in the daemon's configuration",
        )
    });
    found.push(if system.workers.is_empty() {
        missing("workers", "none is connected".to_owned(), "start devfactory-worker with a worker key")
    } else {
        ok("workers", format!("{} connected", system.workers.len()))
    });
    found.push(if system.four_eyes_possible {
        ok("four eyes", format!("{} identities may approve", system.approver_identities))
    } else {
        let told = "there is one identity only: nothing that needs approval can be approved, since nobody approves their own job";
        let remedy = "make another identity: devfactory keys create --name NAME --role approver";
        note("four eyes", told.to_owned(), remedy)
    });
}

fn print(cli: &Cli, found: &[Finding]) -> anyhow::Result<ExitCode> {
    for finding in found {
        if cli.json {
            println!("{}", serde_json::to_string(finding)?);
            continue;
        }
        let mark = match finding.state {
            State::Ok => "ok     ",
            State::Note => "note   ",
            State::Missing => "MISSING",
        };
        println!("{mark} {}: {}", finding.what, finding.detail);
        if !finding.remedy.is_empty() {
            println!("        {}", finding.remedy);
        }
    }
    let broken = found.iter().any(|f| f.state == State::Missing);
    Ok(if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
