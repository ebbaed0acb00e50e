//! Hard floors: what no policy pack can lower. Each is a few lines of Rust with an id of its own.

use std::collections::BTreeSet;

use df_contract::{Reason, Severity, Source, Verdict};

use crate::facts::{JobFacts, OperatorLimits};

/// Items named in one reason's evidence; more are counted.
const MAX_EVIDENCE: usize = 5;

/// Hosts that never leave the machine.
const LOOPBACK: [&str; 4] = ["localhost", "127.0.0.1", "::1", "[::1]"];

/// Every floor that the facts touch.
pub(crate) fn floors(facts: &JobFacts, limits: &OperatorLimits) -> Vec<Reason> {
    let mut found = Vec::new();
    source(facts, limits, &mut found);
    budget(facts, limits, &mut found);
    capabilities(facts, limits, &mut found);
    names(facts, limits, &mut found);
    found
}

pub(crate) fn reason(rule: &str, verdict: Verdict, message: &str, evidence: String, remedy: &str) -> Reason {
    let severity = match verdict {
        Verdict::Approved => Severity::Info,
        Verdict::NeedsApproval => Severity::Warn,
        Verdict::Rejected => Severity::Deny,
    };
    Reason {
        rule: rule.to_owned(),
        verdict,
        severity,
        message: message.to_owned(),
        evidence,
        remedy: remedy.to_owned(),
    }
}

pub(crate) fn list<'a>(items: impl IntoIterator<Item = &'a String>) -> String {
    let all: Vec<&str> = items.into_iter().map(String::as_str).collect();
    let mut text = all[..all.len().min(MAX_EVIDENCE)].join(", ");
    if all.len() > MAX_EVIDENCE {
        text += &format!(" and {} more", all.len() - MAX_EVIDENCE);
    }
    text
}

fn source(facts: &JobFacts, limits: &OperatorLimits, found: &mut Vec<Reason>) {
    let source = &facts.source;
    if !source.unreadable.is_empty() {
        let files: Vec<String> = source.unreadable.iter().map(|(f, why)| format!("{f} ({why})")).collect();
        found.push(reason(
            "floor.source_unreadable",
            Verdict::NeedsApproval,
            "parts of the source could not be read, so nothing is known about them",
            list(&files),
            "repair or remove these files, or let an approver accept them unread",
        ));
    }
    if !source.secrets.is_empty() {
        let places: Vec<String> =
            source.secrets.iter().map(|s| format!("{}:{} ({})", s.file, s.line, s.rule)).collect();
        found.push(reason(
            "floor.secrets",
            Verdict::NeedsApproval,
            "the source seems to contain secrets, which agents and models would see",
            list(&places),
            "take the secrets out of the source and revoke them",
        ));
    }
    if facts.text.truncated {
        found.push(reason(
            "floor.text_truncated",
            Verdict::NeedsApproval,
            "the description is longer than what the analysis reads",
            format!("more than {} clauses", crate::text::MAX_CLAUSES),
            "shorten the description",
        ));
    }
    match &facts.origin {
        Source::Empty | Source::Bundle { .. } | Source::Tarball { .. } => {}
        Source::Path { path } => found.push(reason(
            "floor.source_path",
            Verdict::Rejected,
            "a directory on the submitter's machine cannot be read from here",
            path.clone(),
            "submit with the CLI, which uploads the directory as a bundle",
        )),
        Source::Git { url, .. } if limits.git_sources.iter().any(|allowed| is_below(url, allowed)) => {}
        Source::Git { url, .. } => found.push(reason(
            "floor.source_git",
            Verdict::Rejected,
            "the git URL is not on the operator's list",
            url.clone(),
            "upload a bundle instead, or ask the operator to allow the URL",
        )),
    }
}

/// Whether `url` is the allowed address or lies below it: `https://git.example` allows neither
/// `https://git.example.evil.test/x` nor `https://git.example@evil.test/x`, and dots lead nowhere else.
fn is_below(url: &str, allowed: &str) -> bool {
    let Some(rest) = url.strip_prefix(allowed) else { return false };
    let whole = rest.is_empty() || allowed.ends_with('/') || rest.starts_with('/');
    let climbs = |part: &str| part == ".." || part.to_ascii_lowercase().contains("%2e");
    whole && !rest.split('/').any(climbs) && !rest.contains(['\\', '?', '#'])
}

fn budget(facts: &JobFacts, limits: &OperatorLimits, found: &mut Vec<Reason>) {
    let mut cap = |what: &str, asked: Option<u64>, most: Option<u64>| {
        if let (Some(asked), Some(most)) = (asked, most)
            && asked > most
        {
            found.push(reason(
                &format!("floor.budget.{what}"),
                Verdict::Rejected,
                "the budget asked for is above the operator's cap",
                format!("{asked} asked, {most} allowed"),
                "ask for less, or cut the job in two",
            ));
        }
    };
    let budget = &facts.budget;
    cap("money", budget.money_nano_usd.map(|m| m.0), limits.money_nano_usd.map(|m| m.0));
    cap("tokens", budget.tokens.map(|t| t.0), Some(limits.tokens.0));
    cap("wall", budget.wall_ms.map(|w| w.0), Some(limits.wall_ms.0));
    if budget.tokens.is_some_and(|t| t.0 == 0) || budget.money_nano_usd.is_some_and(|m| m.0 == 0) {
        found.push(reason(
            "floor.budget.empty",
            Verdict::Rejected,
            "the job may spend nothing, so no work can be done",
            String::new(),
            "leave the budget out, or give one above zero",
        ));
    }
}

fn capabilities(facts: &JobFacts, limits: &OperatorLimits, found: &mut Vec<Reason>) {
    let asked = &facts.capabilities;
    let hosts: BTreeSet<String> = asked.network.iter().filter(|h| !is_loopback(h)).cloned().collect();
    if !hosts.is_empty() {
        found.push(reason(
            "floor.network",
            Verdict::NeedsApproval,
            "the software wants to reach other hosts; sandboxes have no network and get none, so it is built and \
             tested without, and a person must agree to what it will do where it runs",
            list(&hosts),
            "leave capabilities.network empty and put a stand-in for the remote side into the tests",
        ));
    }
    let missing: BTreeSet<String> = asked.dependencies.difference(&limits.dependencies).cloned().collect();
    if !missing.is_empty() {
        found.push(reason(
            "floor.dependencies",
            Verdict::Rejected,
            "these packages are not in this installation's sandboxes and cannot be fetched into them",
            list(&missing),
            "do without them, put them into the source, or ask the operator to install them",
        ));
    }
    let environments: BTreeSet<String> =
        asked.environments.difference(&limits.free_environments).cloned().collect();
    if !environments.is_empty() {
        found.push(reason(
            "floor.environment",
            Verdict::NeedsApproval,
            "the job touches an environment that others depend on",
            list(&environments),
            "name only environments of development and test, or wait for an approver",
        ));
    }
    let classes: BTreeSet<String> =
        asked.data_classes.difference(&limits.free_data_classes).cloned().collect();
    if !classes.is_empty() {
        found.push(reason(
            "floor.data_class",
            Verdict::NeedsApproval,
            "the job touches data about people, who must be protected",
            list(&classes),
            "work with synthetic data, or wait for an approver",
        ));
    }
}

fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    };
    LOOPBACK.contains(&name) || LOOPBACK.contains(&host)
}

fn names(facts: &JobFacts, limits: &OperatorLimits, found: &mut Vec<Reason>) {
    let unknown: BTreeSet<String> = facts.delivery.difference(&limits.delivery).cloned().collect();
    if !unknown.is_empty() {
        let known = match limits.delivery.is_empty() {
            true => "this installation has no delivery targets; the artefact bundle is made without one"
                .to_owned(),
            false => format!("use one of: {}", list(&limits.delivery)),
        };
        found.push(reason(
            "floor.delivery",
            Verdict::Rejected,
            "the job names a delivery target that does not exist here",
            list(&unknown),
            &known,
        ));
    }
    if let (Some(model), Some(allowed)) = (&facts.model, &limits.models)
        && !allowed.contains(model)
    {
        found.push(reason(
            "floor.model",
            Verdict::Rejected,
            "the model is not one that jobs may ask for",
            model.clone(),
            &format!("use one of: {}", list(allowed)),
        ));
    }
}

#[cfg(test)]
mod tests;
