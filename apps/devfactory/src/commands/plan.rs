//! Plans, checked without a daemon.

use std::path::Path;
use std::process::ExitCode;

use df_contract::{ErrorCode, Plan, PlanLimits, Problem};

use crate::args::Cli;
use crate::render;

pub(crate) fn check(cli: &Cli, file: &Path) -> anyhow::Result<ExitCode> {
    let plan = read(file)?;
    let found = plan.validate(&PlanLimits::SUPPLIED);
    if !found.is_empty() {
        let told = format!("{} has {} finding(s)", file.display(), found.len());
        return Err(Problem::new(ErrorCode::InvalidPlan, told)
            .with_errors(found.iter().map(ToString::to_string).collect())
            .into());
    }
    let digest = df_contract::digest_json(&plan)?;
    if cli.json {
        crate::output::line(format_args!(
            "{}",
            serde_json::json!({"valid": true, "digest": digest, "tasks": plan.tasks.len()})
        ));
    } else {
        crate::output::text(format_args!("{}", render::graph(&plan)));
        crate::output::line(format_args!("the plan is valid; digest {digest}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// A plan file, or the `[plan]` of a job file.
fn read(file: &Path) -> anyhow::Result<Plan> {
    let bad = |why: String| Problem::new(ErrorCode::InvalidPlan, format!("{}: {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|e| bad(e.to_string()))?;
    let value: serde_json::Value = if file.extension().is_some_and(|e| e == "json") {
        serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?
    } else {
        toml::from_str(&text).map_err(|e| bad(e.to_string()))?
    };
    let plan = match value.get("plan") {
        Some(plan) => plan.clone(),
        None if value.get("description").is_some() => {
            return Err(bad("the job brings no plan; its coordinator will propose one".to_owned()).into());
        }
        None => value,
    };
    Ok(serde_json::from_value(plan).map_err(|e| bad(e.to_string()))?)
}
