//! Plans: checked without a daemon, and drawn.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use df_contract::api::JobView;
use df_contract::plan::graph::{self, Graph, States};
use df_contract::plan::pattern_matches;
use df_contract::{ErrorCode, JobId, NanoUsd, Plan, PlanLimits, Problem, TaskSlug, TaskState, Tokens};
use serde_json::{Value, json};

use super::client;
use crate::args::Cli;
use crate::{job_file, render};

/// A plan, with what the job it belongs to says about it.
struct Subject {
    plan: Plan,
    states: States,
    tokens: Option<Tokens>,
    nano_usd: Option<NanoUsd>,
    protected: Vec<String>,
}

pub(crate) fn check(cli: &Cli, file: &Path, job: Option<&Path>) -> anyhow::Result<ExitCode> {
    let mut subject = read(file)?;
    if let Some(job) = job {
        let spec = job_file::read(job)?;
        subject.tokens = spec.budget.tokens;
        subject.nano_usd = spec.budget.money_nano_usd;
        subject.protected = spec.protected_paths;
    }
    let plan = &subject.plan;
    let found = plan.validate(&PlanLimits::SUPPLIED);
    let shares = plan.check_budget(subject.tokens, subject.nano_usd);
    let mut found: Vec<String> = found.iter().chain(&shares).map(ToString::to_string).collect();
    found.extend(protected(&subject));
    if !found.is_empty() {
        let told = format!("{} has {} finding(s)", file.display(), found.len());
        return Err(Problem::new(ErrorCode::InvalidPlan, told).with_errors(found).into());
    }
    if cli.json {
        let mut value = described(&subject)?;
        value["valid"] = true.into();
        crate::output::line(format_args!("{value}"));
    } else {
        print(&subject)?;
        crate::output::line(format_args!("the plan is valid"));
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn show(cli: &Cli, plan: &str, svg: Option<&Path>) -> anyhow::Result<()> {
    let subject = match plan.parse::<JobId>() {
        Ok(job) => fetch(cli, job).await?,
        Err(_) => read(Path::new(plan))?,
    };
    if let Some(out) = svg {
        std::fs::write(out, graph::svg(&subject.plan, &subject.states))
            .with_context(|| format!("the drawing could not be written to {}", out.display()))?;
    }
    if cli.json {
        crate::output::line(format_args!("{}", described(&subject)?));
    } else {
        print(&subject)?;
        if let Some(out) = svg {
            crate::output::line(format_args!("drawn to {}", out.display()));
        }
    }
    Ok(())
}

async fn fetch(cli: &Cli, job: JobId) -> anyhow::Result<Subject> {
    let view: JobView = client(cli)?.get(&format!("/v1/jobs/{job}")).await?;
    let states = states(&view);
    let plan = view.plan.or(view.spec.plan).ok_or_else(|| {
        let told = format!("job {job} is {} and has no plan yet; look again later", view.summary.state);
        Problem::new(ErrorCode::NotFound, told)
    })?;
    let caps = view.decision.map(|d| d.obligations);
    let caps = caps.map_or((view.spec.budget.tokens, view.spec.budget.money_nano_usd), |o| {
        (Some(o.tokens), o.money_nano_usd)
    });
    Ok(Subject { plan, states, tokens: caps.0, nano_usd: caps.1, protected: view.spec.protected_paths })
}

/// How far each task of the plan is: its work, and when that is done its merge.
pub(crate) fn states(view: &JobView) -> States {
    let of = |slug: &str| view.tasks.iter().find(|t| t.slug.as_str() == slug).map(|t| t.state);
    let state = |slug: &TaskSlug| {
        let work = of(slug.as_str())?;
        let merge = of(&format!("integrate.{slug}"));
        Some(match (work, merge) {
            (TaskState::Succeeded, Some(TaskState::Pending | TaskState::Ready | TaskState::Leased)) => {
                TaskState::Leased
            }
            (TaskState::Succeeded, Some(merge)) => merge,
            (work, _) => work,
        })
    };
    let tasks = view.plan.iter().flat_map(|plan| &plan.tasks);
    tasks.filter_map(|t| Some((t.slug.clone(), state(&t.slug)?))).collect()
}

fn protected(subject: &Subject) -> Vec<String> {
    let mut found = Vec::new();
    for task in &subject.plan.tasks {
        for path in task.paths.iter().chain(&task.expected_outputs) {
            if subject.protected.iter().any(|p| pattern_matches(p, path)) {
                let slug = &task.slug;
                found.push(format!("task `{slug}`: the job protects `{path}`; plan without this path"));
            }
        }
    }
    found
}

fn print(subject: &Subject) -> anyhow::Result<()> {
    let plan = &subject.plan;
    let mut out = format!("{}\n\n{}\n", plan.summary.trim(), graph::text(plan, &subject.states));
    out.push_str(&shares(subject));
    out.push_str(&format!("digest {}\n", df_contract::digest_json(plan)?));
    crate::output::text(format_args!("{}", render::plain(&out)));
    Ok(())
}

/// What each task may spend: those that name a share one by one, the others in a line.
fn shares(subject: &Subject) -> String {
    let plan = &subject.plan;
    let mut out = String::new();
    for task in plan.tasks.iter().filter(|t| t.tokens.is_some() || t.nano_usd.is_some()) {
        let tokens = task.tokens.map_or(String::new(), |t| format!(" {} tokens", t.0));
        let money = task.nano_usd.map_or(String::new(), |m| format!(" {m}"));
        out.push_str(&format!("share of {}:{tokens}{money}\n", task.slug));
    }
    let all = plan.shares(subject.tokens, subject.nano_usd);
    let unnamed = || plan.tasks.iter().zip(&all);
    if let Some((_, share)) = unnamed().find(|(t, s)| t.tokens.is_none() && s.tokens.is_some()) {
        out.push_str(&format!("share of any other task: {} tokens\n", share.tokens.unwrap_or_default().0));
    }
    if let Some((_, share)) = unnamed().find(|(t, s)| t.nano_usd.is_none() && s.nano_usd.is_some()) {
        out.push_str(&format!("share of any other task: {}\n", share.nano_usd.unwrap_or_default()));
    }
    out
}

fn described(subject: &Subject) -> anyhow::Result<Value> {
    let plan = &subject.plan;
    let path: Vec<&TaskSlug> = match Graph::of(plan) {
        Ok(graph) => graph.critical_path().into_iter().map(|i| &plan.tasks[i].slug).collect(),
        Err(_) => Vec::new(),
    };
    let share =
        |s: df_contract::plan::Share| json!({"task": s.task, "tokens": s.tokens, "nano_usd": s.nano_usd});
    let shares: Vec<Value> = plan.shares(subject.tokens, subject.nano_usd).into_iter().map(share).collect();
    Ok(json!({
        "digest": df_contract::digest_json(plan)?,
        "tasks": plan.tasks.len(),
        "waves": plan.layers().unwrap_or_default(),
        "critical_path": path,
        "shares": shares,
        "states": subject.states,
        "plan": plan,
    }))
}

/// A plan file, or the `[plan]` of a job file with the job's budget and protected paths.
fn read(file: &Path) -> anyhow::Result<Subject> {
    let bad = |why: String| Problem::new(ErrorCode::InvalidPlan, format!("{}: {why}", file.display()));
    let file = job_file::locate(file);
    let text = std::fs::read_to_string(&file).map_err(|e| bad(e.to_string()))?;
    let value: Value = if file.extension().is_some_and(|e| e == "json") {
        serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?
    } else {
        toml::from_str(&text).map_err(|e| bad(e.to_string()))?
    };
    let plan = match value.get("plan") {
        Some(plan) => plan.clone(),
        None if value.get("description").is_some() => {
            return Err(bad("the job brings no plan; its coordinator will propose one".to_owned()).into());
        }
        None => value.clone(),
    };
    let number = |name: &str| value.get("budget").and_then(|b| b.get(name)).and_then(Value::as_u64);
    let protected = value.get("protected_paths").and_then(Value::as_array).cloned().unwrap_or_default();
    Ok(Subject {
        plan: serde_json::from_value(plan).map_err(|e| bad(e.to_string()))?,
        states: States::new(),
        tokens: number("tokens").map(Tokens),
        nano_usd: number("money_nano_usd").map(NanoUsd),
        protected: protected.iter().filter_map(|p| p.as_str().map(str::to_owned)).collect(),
    })
}
