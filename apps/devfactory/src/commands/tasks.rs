//! A job's tasks.

use df_contract::api::{JobView, RollbackTo, TaskView};
use df_contract::{ErrorCode, Problem};

use super::{ask, client, show};
use crate::args::{Cli, TasksCommand};
use crate::render;

pub(crate) async fn tasks(cli: &Cli, command: &TasksCommand) -> anyhow::Result<()> {
    match command {
        TasksCommand::List { job } => {
            let view = read(cli, job).await?;
            show(cli, &view.tasks, |_| render::task_table(&view))
        }
        TasksCommand::Show { job, task } => {
            let view = read(cli, job).await?;
            let found = view.tasks.iter().find(|t| t.slug.as_str() == task);
            let told = || Problem::new(ErrorCode::NotFound, format!("the job has no task `{task}`"));
            show(cli, found.ok_or_else(told)?, page)
        }
        TasksCommand::Rollback { job, task } => {
            let to = task.as_deref().map(str::parse).transpose()?;
            ask::ask(cli, job, "rollback", &RollbackTo { to }, |view| {
                let kept: Vec<&str> = view.integrated.iter().map(|slug| slug.as_str()).collect();
                let kept = if kept.is_empty() { "nothing".to_owned() } else { kept.join(", ") };
                format!("{}  {}; in the job branch: {kept}\n", view.summary.id, view.summary.state)
            })
            .await
        }
    }
}

async fn read(cli: &Cli, job: &str) -> anyhow::Result<JobView> {
    client(cli)?.get(&format!("/v1/jobs/{job}")).await
}

fn page(task: &TaskView) -> String {
    let mut out = format!(
        "{}  {} (epoch {})\n{}\n{} by {}, {} attempt(s), {} tokens, {}\n",
        task.slug,
        task.state,
        task.epoch,
        task.title,
        task.kind.as_str(),
        task.role.as_str(),
        task.attempts,
        task.spend.tokens().0,
        task.spend.nano_usd
    );
    if let (Some(agent), Some(digest)) = (&task.agent, &task.agent_digest) {
        out.push_str(&format!("agent {agent}, version {digest}\n"));
    }
    if let Some(wait) = &task.waiting_for {
        out.push_str(&format!("waits for: {}: {}\n", wait.kind.as_str(), wait.detail));
    }
    if !task.depends_on.is_empty() {
        let after: Vec<&str> = task.depends_on.iter().map(|slug| slug.as_str()).collect();
        out.push_str(&format!("after {}\n", after.join(", ")));
    }
    if !task.summary.is_empty() {
        out.push_str(&format!("\n{}\n", task.summary));
    }
    for check in &task.checks {
        let mark = if check.passed { "passed" } else { "failed" };
        out.push_str(&format!("  check {:<20} {mark}\n", check.id));
    }
    if let Some(failure) = &task.failure {
        let gone_on = if task.tolerated { "; the job goes on without it" } else { "" };
        out.push_str(&format!("last failure: {}: {}{gone_on}\n", failure.kind.as_str(), failure.detail));
    }
    if let Some(trace) = &task.trace {
        out.push_str(&format!("trace: sha256:{trace}\n"));
    }
    out
}
