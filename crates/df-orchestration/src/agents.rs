//! Registered agents: what is asked of the registry, which agent does which task of a job, and what a task is told of it.

mod assign;
mod registry;
mod roster;

pub use registry::AgentScope;
pub(crate) use roster::Roster;

use df_contract::agent::AgentOffer;
use df_contract::lease::Work;
use df_contract::{AttemptOutcome, FailureKind, LeaseKind, RegisteredAgent, Role, TaskSlug};
use df_control_machine::{CommandBody, JobRecord, TaskRecord};

use crate::{OrchestrationError, Orchestrator};

/// Most agents that a coordinator is told of, by name.
pub const MAX_OFFERS: usize = 64;

/// What the registry adds to a lease.
#[derive(Debug, Default)]
pub(crate) struct Casting {
    /// Who does the task; absent = the built-in agent.
    agent: Option<Box<RegisteredAgent>>,
    /// Whom a coordinator may plan with.
    offers: Vec<AgentOffer>,
}

impl Casting {
    /// Puts it into the work of a lease.
    pub(crate) fn into_work(self, work: &mut Work) {
        if let Work::Agent { task } = work {
            task.input.agents = self.offers;
            if let Some(agent) = self.agent {
                task.agent_digest = Some(agent.digest);
                task.agent = Some(Box::new(agent.manifest));
            }
        }
    }
}

/// Whether the agent of a claimed task can do it.
pub(crate) enum Cast {
    Ready(Casting),
    /// It was disabled between the claim and now.
    Disabled(String),
    /// It cannot any more, and why.
    Gone(String),
}

impl Orchestrator {
    /// Who does a claimed task, read anew at each claim.
    pub(crate) async fn cast(
        &self,
        record: &JobRecord,
        task: &TaskRecord,
    ) -> Result<Cast, OrchestrationError> {
        if task.kind != LeaseKind::Agent {
            return Ok(Cast::Ready(Casting::default()));
        }
        let coordinates = task.role == Role::Coordinator;
        let offers = if coordinates { self.offers(record).await? } else { Vec::new() };
        let Some(assigned) = record.agent_of(task) else {
            return Ok(Cast::Ready(Casting { agent: None, offers }));
        };
        let (name, digest) = (assigned.name.clone(), assigned.digest.clone());
        let row = self.inner.store.agent_for(record.tenant.clone(), name.clone()).await?;
        let version = match row {
            Some(row) => self.inner.store.agent_version(row.of(), digest.clone()).await?,
            None => None,
        };
        let why = match version {
            None => "is not in the registry any more".to_owned(),
            Some(agent) if !agent.enabled => {
                return Ok(Cast::Disabled(format!("version {digest} of the agent `{name}` was disabled")));
            }
            Some(agent) => match agent.verify() {
                Ok(()) => return Ok(Cast::Ready(Casting { agent: Some(Box::new(agent)), offers })),
                Err(error) => format!("is not as it was registered: {error}"),
            },
        };
        Ok(Cast::Gone(format!("version {digest} of the agent `{name}` {why}")))
    }

    /// Ends an attempt that never reaches a worker, because its agent may not be used: no other attempt would fare
    /// better.
    pub(crate) async fn refuse_agent(
        &self,
        record: &JobRecord,
        slug: TaskSlug,
        why: String,
    ) -> Result<(), OrchestrationError> {
        let Some(task) = record.tasks.get(&slug) else { return Ok(()) };
        let attempt = task.attempt.ok_or(OrchestrationError::Incomplete("a leased task has an attempt"))?;
        let outcome = AttemptOutcome::Failed { kind: FailureKind::PolicyBreach, detail: why, trace: None };
        let body = CommandBody::Report {
            epoch: task.epoch,
            slug,
            attempt,
            outcome: Box::new(outcome),
            sandbox_layers: Vec::new(),
            evidence: Vec::new(),
        };
        self.send(self.inner.env.command_id(), record.id, self.daemon(), body).await?;
        self.go_on(record.id).await;
        Ok(())
    }

    /// The enabled agents that build, each at the version that this job would get.
    async fn offers(&self, record: &JobRecord) -> Result<Vec<AgentOffer>, OrchestrationError> {
        let roster = self.roster_of_all(record).await?;
        Ok(roster.builders().take(MAX_OFFERS).map(|agent| agent.manifest.offer()).collect())
    }
}
