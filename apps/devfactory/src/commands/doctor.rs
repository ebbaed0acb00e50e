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
struct Program {
    status: Status,
    detail: String,
    fix: String,
}

#[derive(Debug, Deserialize)]
struct Check {
    git: Program,
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
    found.push(python());
    sandbox(&mut found);
    match data_dir {
        Some(dir) => local_stack(dir, &mut found).await,
        None => installation(cli.url.as_deref(), cli.api_key.as_deref(), &mut found).await,
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

/// The one that sandboxes have: they see `/usr` and no other installation.
fn python() -> Finding {
    let what = "python3 (for the examples)";
    match Command::new("/usr/bin/python3").arg("--version").output() {
        Ok(done) if done.status.success() => {
            ok(what, String::from_utf8_lossy(&done.stdout).trim().to_owned())
        }
        Ok(_) | Err(_) => missing(
            what,
            "/usr/bin/python3 could not be started".to_owned(),
            "install it: apt-get install python3",
        ),
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
    found.push(required("git", check.git.status, check.git.detail, &check.git.fix));
    for one in check.checks {
        found.push(required(&format!("sandbox: {}", one.requirement), one.status, one.detail, &one.fix));
    }
}

fn required(what: &str, status: Status, detail: String, fix: &str) -> Finding {
    match status {
        Status::Present => ok(what, detail),
        Status::Optional => note(what, detail, fix),
        Status::Missing => missing(what, detail, fix),
    }
}

/// A stack of `devfactory up`, by the key and the address it keeps in its data directory.
async fn local_stack(dir: &Path, found: &mut Vec<Finding>) {
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).map(|text| text.trim().to_owned());
    match (read("admin.key"), read("daemon/daemon.addr")) {
        (Ok(key), Ok(address)) => {
            found.push(ok("data directory", dir.display().to_string()));
            installation(Some(&format!("http://{address}")), Some(&key), found).await;
        }
        (Err(_), _) | (_, Err(_)) => {
            let told = format!("{} holds no running stack", dir.display());
            found.push(missing("data directory", told, "start one: devfactory up"));
        }
    }
}

async fn installation(url: Option<&str>, key: Option<&str>, found: &mut Vec<Finding>) {
    if key.is_none() {
        let remedy = "set DEVFACTORY_URL and DEVFACTORY_API_KEY, or give --data-dir, to check a running installation too";
        found.push(note("installation", "not looked at".to_owned(), remedy));
        return;
    }
    let asked = async { Client::new(url, key)?.get::<SystemView>("/v1/system").await };
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
    found.extend(system.model_accounts.map(models));
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
    found.extend(system.reconcilers.iter().filter_map(|view| {
        let error = view.last_error.as_ref()?;
        let told = format!("{error}; {} rounds since the daemon started", view.runs);
        let remedy = "it goes on trying; what it needs is in the daemon's log";
        Some(note(&format!("reconciler {}", view.name), told, remedy))
    }));
}

/// Without an account at a provider and without a recording nothing answers an agent.
fn models(accounts: u64) -> Finding {
    let what = "models";
    match accounts {
        0 => note(
            what,
            "the proxy has no account at a model provider and no recording: jobs fail at their first task"
                .to_owned(),
            "start the stack with --base-url and --model or with --recording, or add [[accounts]] to the proxy's configuration",
        ),
        1 => ok(what, "the proxy has one account".to_owned()),
        accounts => ok(what, format!("the proxy has {accounts} accounts")),
    }
}

fn print(cli: &Cli, found: &[Finding]) -> anyhow::Result<ExitCode> {
    for finding in found {
        if cli.json {
            crate::output::line(format_args!("{}", serde_json::to_string(finding)?));
            continue;
        }
        let mark = match finding.state {
            State::Ok => "ok     ",
            State::Note => "note   ",
            State::Missing => "MISSING",
        };
        crate::output::line(format_args!("{mark} {}: {}", finding.what, finding.detail));
        if !finding.remedy.is_empty() {
            crate::output::line(format_args!("        {}", finding.remedy));
        }
    }
    let broken = found.iter().any(|f| f.state == State::Missing);
    Ok(if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
