//! The registry of agents: check, register, look, switch, pin.

use std::path::Path;

use df_contract::agent::api::{
    AgentPage, AgentPin, AgentRegister, AgentRegistered, AgentSummary, AgentSwitch, AgentView, PinView,
};
use df_contract::agent::{AgentManifest, ManifestError, sign};
use df_contract::{ErrorCode, Problem};
use df_control_audit::RegistryRecord;
use serde_json::Value;

use super::{client, show};
use crate::args::{AgentsCommand, Cli, VersionArgs};
use crate::signing_key;

pub(crate) async fn agents(cli: &Cli, command: &AgentsCommand) -> anyhow::Result<()> {
    match command {
        AgentsCommand::Check { dir } => check(cli, dir),
        AgentsCommand::Register { dir, global, signing_key } => {
            register(cli, dir, *global, signing_key.as_deref()).await
        }
        AgentsCommand::List => {
            let page: AgentPage = client(cli)?.get("/v1/agents").await?;
            show(cli, &page, |page| page.agents.iter().map(line).collect())
        }
        AgentsCommand::Show { name } => {
            let view: AgentView = client(cli)?.get(&format!("/v1/agents/{name}")).await?;
            show(cli, &view, text)
        }
        AgentsCommand::Log { name } => {
            let log: Vec<RegistryRecord> = client(cli)?.get(&format!("/v1/agents/{name}/log")).await?;
            show(cli, &log, |log| log.iter().map(log_line).collect())
        }
        AgentsCommand::Enable(of) => switch(cli, of, "enable").await,
        AgentsCommand::Disable(of) => switch(cli, of, "disable").await,
        AgentsCommand::Pin { of, replaces } => {
            let body = AgentPin { digest: of.version.clone(), replaces: *replaces };
            let pin: PinView = client(cli)?.post(&format!("/v1/agents/{}/pin", of.name), &body).await?;
            show(cli, &pin, |pin| format!("{}  {}{}\n", of.name, pin.digest, replaced(pin)))
        }
        AgentsCommand::Unpin { name } => {
            client(cli)?.order(&format!("/v1/agents/{name}/unpin"), &serde_json::json!({})).await
        }
        AgentsCommand::ResetKey { identity, tenant } => {
            let tenant = tenant.as_ref().map(|t| format!("?tenant={t}")).unwrap_or_default();
            client(cli)?.delete(&format!("/v1/signers/{}{tenant}", escaped(identity))).await
        }
    }
}

async fn switch(cli: &Cli, of: &VersionArgs, verb: &str) -> anyhow::Result<()> {
    let body = AgentSwitch { digest: of.version.clone() };
    client(cli)?.order(&format!("/v1/agents/{}/{verb}", of.name), &body).await
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
    let (public_key, signature) = sign(&key.seed, tenant, &manifest.name, &digest);
    let body = AgentRegister { manifest: value, public_key, signature };
    let done: AgentRegistered = client.post(path, &body).await?;
    show(cli, &done, |done| {
        let mut text = format!("{}  {}\n", done.agent.manifest.name, done.agent.digest);
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

/// The manifest as it is sent, and as it is understood.
fn read(dir: &Path) -> anyhow::Result<(Value, AgentManifest)> {
    let refused = |found: Vec<String>| {
        let told = format!("{} has {} finding(s)", dir.display(), found.len());
        Problem::new(ErrorCode::InvalidAgent, told).with_errors(found)
    };
    let file = |name: &str| {
        let path = dir.join(name);
        std::fs::read_to_string(&path).map_err(|e| format!("{} cannot be read: {e}", path.display()))
    };
    let document = file("agent.toml").map_err(|e| refused(vec![e]))?;
    let mut value: Value = toml::from_str(&document)
        .map_err(|e| refused(vec![format!("agent.toml: {}", e.to_string().trim())]))?;
    let mut found = Vec::new();
    let fields =
        value.as_object_mut().ok_or_else(|| refused(vec!["agent.toml holds no table".to_owned()]))?;
    if fields.remove("prompt").is_some() {
        found.push("`prompt` stands in prompt.md, not in agent.toml".to_owned());
    }
    match file("prompt.md") {
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
    if pin.replaces { "  in the place of the built-in one" } else { "" }
}

fn line(agent: &AgentSummary) -> String {
    let owner = agent.tenant.as_ref().map_or("everybody", |tenant| tenant.as_str());
    let off = if agent.enabled { "" } else { "  disabled" };
    let pin =
        agent.pin.as_ref().map(|pin| format!("  pinned to {:.12}{}", pin.digest.as_str(), replaced(pin)));
    format!(
        "{:<24} {:<16} {:<8} {:.12}  {owner}{off}{}\n",
        agent.name.as_str(),
        agent.role.as_str(),
        agent.runtime.as_str(),
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
        text.push_str(&format!("{}  {}{current}{off}{pin}\n", version.digest, version.registered_by));
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
