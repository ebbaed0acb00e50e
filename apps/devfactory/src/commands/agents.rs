//! The registry of agents: check, register, look, switch, pin.

use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use df_contract::agent::api::{
    AgentPage, AgentPin, AgentRegister, AgentRegistered, AgentSummary, AgentSwitch, AgentView, PinView,
};
use df_contract::agent::{AgentManifest, MAX_PROMPT_BYTES, ManifestError, Registration, sign};
use df_contract::{AgentName, ErrorCode, Problem, TenantId};
use df_control_audit::RegistryRecord;
use serde_json::Value;

use super::{client, show};
use crate::args::{AgentsCommand, Cli, VersionArgs};
use crate::client::Client;
use crate::signing_key;

/// Largest agent.toml, in bytes.
const MAX_DOCUMENT_BYTES: usize = 64 * 1024;

pub(crate) async fn agents(cli: &Cli, command: &AgentsCommand) -> anyhow::Result<()> {
    match command {
        AgentsCommand::Check { dir } => check(cli, dir),
        AgentsCommand::Register { dir, global, signing_key } => {
            register(cli, dir, *global, signing_key.as_deref()).await
        }
        AgentsCommand::List => {
            let page: AgentPage = client(cli)?.get("/v1/agents").await?;
            show(cli, &page, list)
        }
        AgentsCommand::Show(of) => {
            let view: AgentView = client(cli)?.get(&of_agent(&of.name, "", of.tenant.as_ref())).await?;
            show(cli, &view, text)
        }
        AgentsCommand::Log(of) => {
            let path = of_agent(&of.name, "/log", of.tenant.as_ref());
            let log: Vec<RegistryRecord> = client(cli)?.get(&path).await?;
            show(cli, &log, |log| log.iter().map(log_line).collect())
        }
        AgentsCommand::Enable { of, tenant } => switch(cli, of, tenant.as_ref(), Switch::On).await,
        AgentsCommand::Disable { of, tenant } => switch(cli, of, tenant.as_ref(), Switch::Off).await,
        AgentsCommand::Pin { of, replaces } => {
            let body = AgentPin { digest: of.version.clone(), replaces: *replaces };
            let pin: PinView = client(cli)?.post(&format!("/v1/agents/{}/pin", of.name), &body).await?;
            show(cli, &pin, |pin| {
                let more = if pin.replaces {
                    "; it also does the tasks of its role that name no agent and fit its paths"
                } else {
                    ""
                };
                format!("pinned `{}`: new jobs of the tenant keep to version {}{more}\n", of.name, pin.digest)
            })
        }
        AgentsCommand::Unpin { name } => {
            client(cli)?.order(&format!("/v1/agents/{name}/unpin"), &serde_json::json!({})).await?;
            let told = serde_json::json!({"name": name, "pin": null});
            show(cli, &told, |_| {
                format!("unpinned `{name}`: new jobs of the tenant get its current version\n")
            })
        }
        AgentsCommand::ResetKey { identity, tenant } => {
            let tenant = tenant.as_ref().map(|t| format!("?tenant={t}")).unwrap_or_default();
            client(cli)?.delete(&format!("/v1/signers/{}{tenant}", escaped(identity))).await?;
            let told = serde_json::json!({"identity": identity, "key": null});
            show(cli, &told, |_| format!("forgot the key of `{identity}`: the next it signs with is kept\n"))
        }
    }
}

/// The address of an agent: the caller's tenant's, everybody's, or another tenant's.
fn of_agent(name: &AgentName, below: &str, tenant: Option<&TenantId>) -> String {
    let of = tenant.map(|tenant| format!("?tenant={tenant}")).unwrap_or_default();
    format!("/v1/agents/{name}{below}{of}")
}

#[derive(Clone, Copy)]
enum Switch {
    On,
    Off,
}

async fn switch(cli: &Cli, of: &VersionArgs, tenant: Option<&TenantId>, to: Switch) -> anyhow::Result<()> {
    let (below, enabled) = match to {
        Switch::On => ("/enable", true),
        Switch::Off => ("/disable", false),
    };
    let body = AgentSwitch { digest: of.version.clone() };
    client(cli)?.order(&of_agent(&of.name, below, tenant), &body).await?;
    let told = serde_json::json!({"name": of.name, "version": of.version, "enabled": enabled});
    show(cli, &told, |_| {
        let which = match &of.version {
            Some(digest) => format!("version {digest} of `{}`", of.name),
            None => format!("every version of `{}`", of.name),
        };
        match to {
            Switch::On => format!("enabled {which}: tasks that wait for it are given out again\n"),
            Switch::Off => {
                format!(
                    "disabled {which}: its running attempts end, and its tasks wait until it is enabled\n"
                )
            }
        }
    })
}

/// An identity as one segment of an address (RFC 3986).
fn escaped(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn check(cli: &Cli, dir: &Path) -> anyhow::Result<()> {
    let (_, manifest) = read(dir)?;
    let digest = manifest.digest()?;
    let told = serde_json::json!({"valid": true, "name": manifest.name, "digest": digest});
    show(cli, &told, |_| format!("the agent `{}` is valid; version {digest}\n", manifest.name))
}

async fn register(cli: &Cli, dir: &Path, global: bool, key: Option<&Path>) -> anyhow::Result<()> {
    let (value, manifest) = read(dir)?;
    let client = client(cli)?;
    // Whose key it is says the daemon; a signature stands for one tenant.
    let page: AgentPage = client.get("/v1/agents").await?;
    let (tenant, path) =
        if global { (None, "/v1/agents/global") } else { (Some(&page.tenant), "/v1/agents") };
    let key = signing_key::read_or_make(key)?;
    let digest = manifest.digest()?;
    let number = next_number(&client, &manifest.name).await?;
    let of = Registration { tenant, name: &manifest.name, digest: &digest, number };
    let (public_key, signature) = sign(&key.seed, &of);
    let body = AgentRegister { manifest: value, number, public_key, signature };
    let done: AgentRegistered = client.post(path, &body).await?;
    show(cli, &done, |done| {
        let agent = &done.agent;
        let whose = agent.tenant.as_ref().map_or("everybody".to_owned(), |tenant| format!("tenant {tenant}"));
        let mut text = format!(
            "registered `{}` number {} for {whose}: version {}\n",
            agent.manifest.name, agent.number, agent.digest
        );
        done.notes.iter().for_each(|note| text.push_str(&format!("note: {note}\n")));
        if key.is_new {
            text.push_str(&format!(
                "made the signing key {}; keep it: the daemon takes what you register with this key alone\n",
                key.path.display()
            ));
        }
        text
    })
}

/// The number that the next registration of a name has.
async fn next_number(client: &Client, name: &AgentName) -> anyhow::Result<u64> {
    match client.get::<AgentView>(&of_agent(name, "", None)).await {
        Ok(view) => Ok(view.agent.number + 1),
        Err(error) => {
            let problem = error.downcast_ref::<Problem>();
            if problem.is_some_and(|problem| problem.code == ErrorCode::AgentUnknown) {
                Ok(1)
            } else {
                Err(error)
            }
        }
    }
}

/// A file of the folder: a regular one in the folder itself, of at most `limit` bytes.
fn file(dir: &Path, name: &str, limit: usize) -> Result<String, String> {
    let path = dir.join(name);
    let told = |why: String| format!("{} cannot be read: {why}", path.display());
    // What the name points to elsewhere is not the folder's; a pipe must not hold anybody up.
    let opened =
        std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&path);
    let file = opened.map_err(|e| match e.raw_os_error() {
        Some(libc::ELOOP) => told("it is a symbolic link; put the file itself there".to_owned()),
        _ => told(e.to_string()),
    })?;
    if !file.metadata().map_err(|e| told(e.to_string()))?.is_file() {
        return Err(told("it is no regular file".to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(|e| told(e.to_string()))?;
    if bytes.len() > limit {
        return Err(told(format!("it is larger than {limit} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| told("it is not UTF-8".to_owned()))
}

/// The manifest as it is sent, and as it is understood.
fn read(dir: &Path) -> anyhow::Result<(Value, AgentManifest)> {
    let refused = |found: Vec<String>| {
        let told = format!("{} has {} finding(s)", dir.display(), found.len());
        Problem::new(ErrorCode::InvalidAgent, told).with_errors(found)
    };
    let document = file(dir, "agent.toml", MAX_DOCUMENT_BYTES).map_err(|e| refused(vec![e]))?;
    let mut value: Value = toml::from_str(&document)
        .map_err(|e| refused(vec![format!("agent.toml: {}", e.to_string().trim())]))?;
    let mut found = Vec::new();
    let fields =
        value.as_object_mut().ok_or_else(|| refused(vec!["agent.toml holds no table".to_owned()]))?;
    if fields.remove("prompt").is_some() {
        found.push("`prompt` stands in prompt.md, not in agent.toml".to_owned());
    }
    match file(dir, "prompt.md", MAX_PROMPT_BYTES) {
        Ok(prompt) => drop(fields.insert("prompt".to_owned(), prompt.into())),
        Err(error) => found.push(error),
    }
    match AgentManifest::read(&value) {
        Ok(manifest) if found.is_empty() => Ok((value, manifest)),
        Ok(_) => Err(refused(found).into()),
        Err(faults) => {
            // A prompt that cannot be read was told already.
            let told = |fault: &&ManifestError| found.is_empty() || **fault != ManifestError::NoPrompt;
            let faults: Vec<String> = faults.iter().filter(told).map(ToString::to_string).collect();
            found.extend(faults);
            Err(refused(found).into())
        }
    }
}

fn replaced(pin: &PinView) -> &'static str {
    if pin.replaces { " in the place of the built-in one" } else { "" }
}

fn list(page: &AgentPage) -> String {
    let mut text = format!(
        "{:<24} {:<16} {:<8} {:>6}  {:<12}  {:<16} STATE\n",
        "NAME", "ROLE", "RUNTIME", "NUMBER", "VERSION", "WHOSE"
    );
    text.extend(page.agents.iter().map(line));
    text.push_str(&format!("built in: {}\n", page.built_in.join(", ")));
    text
}

fn line(agent: &AgentSummary) -> String {
    let whose = agent.tenant.as_ref().map_or("everybody", |tenant| tenant.as_str());
    let state = if agent.enabled { "enabled" } else { "disabled" };
    let pin =
        agent.pin.as_ref().map(|pin| format!(", pinned to {:.12}{}", pin.digest.as_str(), replaced(pin)));
    format!(
        "{:<24} {:<16} {:<8} {:>6}  {:.12}  {whose:<16} {state}{}\n",
        agent.name.as_str(),
        agent.role.as_str(),
        agent.runtime.as_str(),
        agent.number,
        agent.digest.as_str(),
        pin.unwrap_or_default()
    )
}

fn text(view: &AgentView) -> String {
    let manifest = &view.agent.manifest;
    let any = |list: &[String], none: &str| if list.is_empty() { none.to_owned() } else { list.join(", ") };
    let mut text = format!(
        "{} ({}, {})\n{}\ntools: {}\npaths: {}\nmodels: {}\nlimits: {} steps, {} s\n",
        manifest.name,
        manifest.role.as_str(),
        manifest.runtime.as_str(),
        manifest.description,
        any(&manifest.tools, "none"),
        any(&manifest.paths, "those of the role"),
        any(&manifest.models, "the job's"),
        manifest.limits.steps,
        manifest.limits.wall_s
    );
    text.push_str(&format!(
        "signed by {} with {}\n\nversions, newest first:\n",
        view.agent.registered_by, view.agent.public_key
    ));
    for version in &view.versions {
        let current = if version.digest == view.agent.digest { "  current" } else { "" };
        let off = if version.enabled { "" } else { "  disabled" };
        let pin = view.pin.as_ref().filter(|pin| pin.digest == version.digest);
        let pin = pin.map(|pin| format!("  pinned{}", replaced(pin))).unwrap_or_default();
        text.push_str(&format!(
            "{:>4}  {}  {}{current}{off}{pin}\n",
            version.number, version.digest, version.registered_by
        ));
    }
    text.push_str(&format!("\n{}\n", manifest.prompt.trim_end()));
    text
}

fn log_line(record: &RegistryRecord) -> String {
    let event = serde_json::to_value(&record.event).unwrap_or_default();
    let kind = event["kind"].as_str().unwrap_or_default();
    let digest = event["digest"].as_str().unwrap_or("every version");
    format!("{:>5}  {}  {:<12} {:<20} {digest}\n", record.seq, record.at.0, kind, record.actor)
}
