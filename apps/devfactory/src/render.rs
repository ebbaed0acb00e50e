//! What people see: events as lines, a job as a page, a finished run as a summary.

use df_contract::api::{JobPage, JobView, Spend, TaskView};
use df_contract::{EventKind, JobEventView, LeaseKind, TaskSlug};

/// Text from agents, models and providers as a terminal may get it: what would move the cursor, change the title or
/// turn the direction of writing round is shown, not obeyed.
pub(crate) fn plain(text: &str) -> String {
    let obeyed = |c: char| {
        (c.is_control() && !matches!(c, '\n' | '\t'))
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let shown = |c: char| if obeyed(c) { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}

/// Where a further line would look like one of ours.
fn one_line(text: &str) -> String {
    text.replace('\n', "\\n")
}

/// One event as a line, or nothing for events that only programs want.
pub(crate) fn event_line(event: &JobEventView) -> Option<String> {
    Some(match &event.event {
        EventKind::JobState { to, cause, .. } => format!("job  {to}{}", told(cause)),
        EventKind::TaskState { slug, to, epoch, cause, .. } => {
            format!("task {slug:<28} {to} (epoch {epoch}){}", told(cause))
        }
        EventKind::Decision { decision } => {
            let mut line = format!("verdict {}", decision.verdict.as_str());
            for reason in &decision.reasons {
                line.push_str(&format!("\n     {} {}", reason.rule, reason.message));
            }
            line
        }
        EventKind::ApprovalRequested { subject, needed } => {
            format!("waits for {needed} approval(s) of the {subject}")
        }
        EventKind::ApprovalVote { by, approved, comment } => {
            format!("{by} {}{}", if *approved { "approved" } else { "rejected" }, told(comment))
        }
        EventKind::Message { by } => format!("{by} sent a message; the agent task that starts next is told"),
        EventKind::BudgetRequested { by, tokens, nano_usd } => {
            let tokens = tokens.map(|t| format!("{} tokens", t.0));
            let caps: Vec<String> = tokens.into_iter().chain(nano_usd.map(|n| n.to_string())).collect();
            format!("{by} asks for a budget of {}", caps.join(" and "))
        }
        EventKind::Replanned { kept, dropped } => {
            format!("planned anew: {} task(s) stay, dropped: {}", kept.len(), slugs(dropped))
        }
        EventKind::RolledBack { to, undone } => {
            let to = to.as_ref().map_or("its base", |slug| slug.as_str());
            format!("job branch is back at {to}, undone: {}", slugs(undone))
        }
        EventKind::StaleResult { slug, held, current, trace } => {
            let trace = trace.as_ref().map_or(String::new(), |t| format!("; its trace: sha256:{t}"));
            format!("task {slug:<28} a result under epoch {held} came too late (now {current}){trace}")
        }
        EventKind::Progress { slug, line, .. } => format!("     {slug:<28} {}", one_line(line)),
    })
}

fn slugs(list: &[TaskSlug]) -> String {
    if list.is_empty() {
        return "nothing".to_owned();
    }
    list.iter().map(TaskSlug::as_str).collect::<Vec<_>>().join(", ")
}

fn told(cause: &str) -> String {
    match cause.lines().next() {
        Some(first) if !first.is_empty() => format!(": {first}"),
        _ => String::new(),
    }
}

pub(crate) fn page(page: &JobPage) -> String {
    let mut out = String::new();
    for job in &page.jobs {
        out.push_str(&format!(
            "{}  {:<20} {:<16} {}\n",
            job.id,
            job.state.as_str(),
            job.submitter,
            job.title
        ));
    }
    if page.jobs.is_empty() {
        out.push_str("no jobs\n");
    }
    out
}

/// A whole job.
pub(crate) fn job(view: &JobView) -> String {
    let mut out = format!("{}  {}\n{}", view.summary.id, view.summary.state, view.summary.title);
    if let Some(cause) = &view.cause {
        out.push_str(&format!("\ncause: {cause}"));
    }
    out.push('\n');
    if let Some(approval) = &view.approval {
        let roles: Vec<&str> = approval.roles.iter().map(|r| r.as_str()).collect();
        out.push_str(&format!(
            "\nwaits for approval of the {}: {} of {} given, by one of {}; version {}\n",
            approval.subject,
            approval.approved_by.len(),
            approval.needed,
            roles.join(", "),
            approval.job_version
        ));
    }
    beside(view, &mut out);
    decision(view, &mut out);
    if let Some(plan) = &view.plan {
        out.push_str(&format!("\nplan: {}\n", plan.summary));
        out.push_str(&df_contract::plan::graph::text(plan, &crate::commands::plan::states(view)));
    }
    tasks(view, &mut out);
    for gate in &view.gates {
        let mark = if gate.passed { "passed " } else { "refused" };
        out.push_str(&format!("  gate {:<12} {mark} {}\n", gate.gate, gate.message));
    }
    out.push_str(&format!("\ncost: {}\n", spend(&view.spend)));
    for (name, digest) in &view.artefacts {
        out.push_str(&format!("  {name:<20} sha256:{digest}\n"));
    }
    out
}

/// What people have asked of the job while it runs.
fn beside(view: &JobView, out: &mut String) {
    if let Some(request) = &view.budget_request {
        let money = request.caps.nano_usd.map_or(String::new(), |m| format!(" and {m}"));
        out.push_str(&format!(
            "\n{} asks for a budget of {} tokens{money}: {} of {} approvals given; version {}\n",
            request.by,
            request.caps.tokens.0,
            request.approval.approved_by.len(),
            request.approval.needed,
            request.approval.job_version
        ));
    }
    let waiting = view.messages.iter().filter(|message| message.given_to.is_none()).count();
    if !view.messages.is_empty() {
        out.push_str(&format!("messages: {}, not yet given to a task: {waiting}\n", view.messages.len()));
    }
    if view.replans > 0 {
        out.push_str(&format!("planned anew {} time(s)\n", view.replans));
    }
}

/// Every task of a job.
pub(crate) fn task_table(view: &JobView) -> String {
    let mut out = String::new();
    tasks(view, &mut out);
    out
}

fn decision(view: &JobView, out: &mut String) {
    let Some(decision) = &view.decision else { return };
    out.push_str(&format!("\nverdict: {}\n", decision.verdict.as_str()));
    for reason in &decision.reasons {
        out.push_str(&format!("  {} ({}): {}\n", reason.rule, reason.verdict.as_str(), reason.message));
        if !reason.remedy.is_empty() {
            out.push_str(&format!("    what would change it: {}\n", reason.remedy));
        }
    }
    let caps = &decision.obligations;
    let money = caps.money_nano_usd.map_or("no money".to_owned(), |m| m.to_string());
    let gates: Vec<&str> = caps.gates.iter().map(String::as_str).collect();
    out.push_str(&format!(
        "obligations: at most {} tokens and {money}; sandbox at least {:?}; network {:?}; gates {}\n",
        caps.tokens.0,
        caps.min_tier,
        caps.network,
        gates.join(", ")
    ));
    if let Some(most) = caps.max_attempts {
        out.push_str(&format!("attempts: at most {most} at a task after one kind of failure\n"));
    }
    if !caps.protected_paths.is_empty() {
        let paths: Vec<&str> = caps.protected_paths.iter().map(String::as_str).collect();
        out.push_str(&format!("protected: {}\n", paths.join(", ")));
    }
    out.push_str(&format!("decided on facts {} under policy {}\n", decision.facts, decision.policy));
}

fn tasks(view: &JobView, out: &mut String) {
    if view.tasks.is_empty() {
        return;
    }
    out.push_str(
        "\n  task                         agent        state      attempts  time       tokens      cost\n",
    );
    let mut tasks: Vec<&TaskView> = view.tasks.iter().collect();
    tasks.sort_by_key(|t| (t.started_at.is_none(), t.started_at, t.slug.clone()));
    for task in tasks {
        let agent = match &task.agent {
            Some(agent) => agent.as_str(),
            None if task.kind == LeaseKind::Agent => task.role.as_str(),
            None => task.kind.as_str(),
        };
        let time = match (task.started_at, task.ended_at) {
            (Some(from), Some(to)) => format!("{:.1} s", to.since(from).0 as f64 / 1000.0),
            (Some(_), None) | (None, _) => "-".to_owned(),
        };
        out.push_str(&format!(
            "  {:<28} {agent:<12} {:<10} {:<9} {time:<10} {:<11} {}\n",
            task.slug.as_str(),
            task.state.as_str(),
            task.attempts,
            task.spend.tokens().0,
            task.spend.nano_usd
        ));
        if let (Some(agent), Some(digest)) = (&task.agent, &task.agent_digest) {
            out.push_str(&format!("      agent: {agent} at version {:.12}\n", digest.as_str()));
        }
        if let Some(wait) = &task.waiting_for {
            out.push_str(&format!("      waits for: {}: {}\n", wait.kind.as_str(), wait.detail));
        }
        if let Some(failure) = &task.failure {
            out.push_str(&format!("      last failure: {}: {}\n", failure.kind.as_str(), failure.detail));
        }
    }
}

fn spend(spend: &Spend) -> String {
    format!(
        "{} model calls, {} tokens in, {} tokens out, {}",
        spend.calls, spend.input_tokens.0, spend.output_tokens.0, spend.nano_usd
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown_instead() {
        assert_eq!(plain("ไทย\tünï\n"), "ไทย\tünï\n");
        assert_eq!(plain("\u{1b}]0;owned\u{7}"), "\\u{1b}]0;owned\\u{7}");
        assert_eq!(plain("a\rb\u{9b}2J\u{202e}c"), "a\\rb\\u{9b}2J\\u{202e}c");
        assert_eq!(one_line("a\n   12 job  COMPLETED"), "a\\n   12 job  COMPLETED");
    }
}
