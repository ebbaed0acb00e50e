//! Which agent does which task, settled before the plan is judged. Pure, over a roster.

use std::collections::BTreeMap;

use df_contract::decision::{Reason, Severity, Verdict};
use df_contract::{AssignedAgent, JobSpec, Plan, RegisteredAgent, Role, TaskSlug};
use df_control_machine::{COORDINATOR_SLUG, CommandBody, JobRecord, Step};

use super::Roster;
use crate::{OrchestrationError, Orchestrator};

impl Roster {
    /// The command that has to come before a step, if one has to.
    pub(crate) fn assignment(&self, step: Step, record: &JobRecord) -> Option<CommandBody> {
        let agents = if step == Step::StartPlanning {
            self.coordinator(record)
        } else if step == Step::JudgePlan {
            record.proposed_plan.as_ref().map(|plan| self.of_plan(plan, record))?
        } else {
            return None;
        };
        let agents: BTreeMap<_, _> =
            agents.into_iter().filter(|(slug, _)| !record.assigned.contains_key(slug)).collect();
        (!agents.is_empty()).then_some(CommandBody::AssignAgents { agents })
    }

    fn coordinator(&self, record: &JobRecord) -> BTreeMap<TaskSlug, AssignedAgent> {
        let agent = self.replacing(Role::Coordinator);
        let slug = COORDINATOR_SLUG.parse().ok();
        slug.zip(agent).map(|(slug, agent)| (slug, assigned(agent, record))).into_iter().collect()
    }

    /// The agents that the tasks name; for the others, whoever replaces the built-in one of their role, where the task
    /// is one that it may do.
    fn of_plan(&self, plan: &Plan, record: &JobRecord) -> BTreeMap<TaskSlug, AssignedAgent> {
        let new = plan.tasks.iter().filter(|task| !record.tasks.contains_key(&task.slug));
        let chosen = new.filter_map(|task| {
            let agent = match &task.agent {
                Some(name) => self.enabled(name).ok()?,
                None => self.replacing(task.role)?,
            };
            let fits = agent.manifest.offer().misfits(task).is_empty();
            fits.then(|| (task.slug.clone(), assigned(agent, record)))
        });
        chosen.collect()
    }

    /// Why a plan cannot be carried out with the agents that it names.
    pub(crate) fn reasons(&self, plan: &Plan, record: &JobRecord) -> Vec<Reason> {
        let new = plan.tasks.iter().filter(|task| !record.tasks.contains_key(&task.slug)).cloned().collect();
        let plan = Plan { summary: String::new(), tasks: new };
        let reason = |misfit: String| Reason {
            rule: "plan.agent".to_owned(),
            verdict: Verdict::Rejected,
            severity: Severity::Deny,
            message: misfit,
            evidence: String::new(),
            remedy: "name an agent of `devfactory agents list`, with its role and within its paths, or none"
                .to_owned(),
        };
        self.misfits(&plan).iter().map(|misfit| reason(misfit.to_string())).collect()
    }
}

fn assigned(agent: &RegisteredAgent, record: &JobRecord) -> AssignedAgent {
    let models = record.decision.as_ref().and_then(|d| d.obligations.models.as_ref());
    agent.manifest.assigned(agent.digest.clone(), models)
}

impl Orchestrator {
    /// What a step needs of the registry; nothing for most.
    pub(crate) async fn roster_for(
        &self,
        step: Step,
        record: &JobRecord,
    ) -> Result<Roster, OrchestrationError> {
        if matches!(step, Step::StartPlanning | Step::JudgePlan) {
            self.roster_of(record, record.proposed_plan.as_deref()).await
        } else {
            Ok(Roster::default())
        }
    }

    /// Whether a submission names agents and versions that there are, for its tenant.
    pub(crate) async fn check_agents(
        &self,
        tenant: &df_contract::TenantId,
        spec: &JobSpec,
    ) -> Result<(), OrchestrationError> {
        let names_some = |plan: &Plan| plan.tasks.iter().any(|task| task.agent.is_some());
        if spec.agents.is_empty() && !spec.plan.as_ref().is_some_and(names_some) {
            return Ok(());
        }
        let roster = self.roster_before(tenant, &spec.agents, spec.plan.as_ref()).await?;
        let gone = spec.agents.iter().filter(|(name, _)| roster.enabled(name).is_err());
        let mut found: Vec<String> = gone
            .map(|(name, digest)| format!("agents: `{name}` has no enabled version {digest} here"))
            .collect();
        if let Some(plan) = &spec.plan {
            found.extend(roster.misfits(plan).iter().map(|misfit| format!("plan: {misfit}")));
        }
        if found.is_empty() { Ok(()) } else { Err(OrchestrationError::InvalidJob(found)) }
    }
}
