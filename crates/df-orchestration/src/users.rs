//! What people ask for: submit, vote, pause, resume, cancel.

use std::collections::BTreeSet;

use df_contract::api::Submitted;
use df_contract::{CommandId, JobId, JobSpec, PlanLimits, Role, TenantId};
use df_control_machine::{Actor, CommandBody, JobRecord};

use crate::env::command_id_of;
use crate::{OrchestrationError, Orchestrator};

/// Who asks, as the gateway has authenticated them.
#[derive(Debug, Clone)]
pub struct Caller {
    pub identity: String,
    pub tenant: TenantId,
    pub roles: BTreeSet<Role>,
}

impl Caller {
    fn actor(&self, role: Role) -> Actor {
        Actor { name: self.identity.clone(), role }
    }
}

impl Orchestrator {
    /// Submits a job. The same `key` from the same caller with the same spec returns the first job.
    pub async fn submit(
        &self,
        caller: &Caller,
        spec: JobSpec,
        key: Option<&str>,
    ) -> Result<Submitted, OrchestrationError> {
        spec.validate(&PlanLimits::SUPPLIED).map_err(|found| {
            OrchestrationError::InvalidJob(found.iter().map(ToString::to_string).collect())
        })?;
        if let df_contract::Source::Path { .. } = spec.source {
            let told = "source.kind `path` is for job files; submit a bundle".to_owned();
            return Err(OrchestrationError::InvalidJob(vec![told]));
        }
        let (command, job) = self.submission_ids(caller, key);
        // A submission that was taken is answered again however full it has become since.
        if key.is_none() || self.inner.store.job(job).await?.is_none() {
            let open = self.inner.store.jobs_active().await?.len() as u64;
            if open >= self.inner.config.max_open_jobs {
                return Err(OrchestrationError::QueueFull(open));
            }
        }
        let body = CommandBody::Submit {
            tenant: caller.tenant.clone(),
            submitter: caller.identity.clone(),
            spec: Box::new(spec),
        };
        let outcome = self.send(command, job, caller.actor(Role::Submitter), body).await?;
        self.go_on(outcome.job).await;
        let state = self.job(outcome.job).await?.state;
        Ok(Submitted { id: outcome.job, state })
    }

    fn submission_ids(&self, caller: &Caller, key: Option<&str>) -> (CommandId, JobId) {
        match key {
            Some(key) => {
                let command = command_id_of(&["submit", caller.tenant.as_str(), &caller.identity, key]);
                (command, JobId::from_uuid(command.uuid()))
            }
            None => (self.inner.env.command_id(), self.inner.env.job_id()),
        }
    }

    /// Approves or rejects what waits.
    pub async fn vote(
        &self,
        caller: &Caller,
        job: JobId,
        approve: bool,
        job_version: Option<u64>,
        comment: String,
    ) -> Result<JobRecord, OrchestrationError> {
        let body = CommandBody::Vote { approve, roles: caller.roles.clone(), job_version, comment };
        self.steer(caller, job, Role::Approver, body).await
    }

    pub async fn pause(
        &self,
        caller: &Caller,
        job: JobId,
        cause: String,
    ) -> Result<JobRecord, OrchestrationError> {
        self.steer(caller, job, Role::Operator, CommandBody::Pause { cause }).await
    }

    pub async fn resume(&self, caller: &Caller, job: JobId) -> Result<JobRecord, OrchestrationError> {
        self.steer(caller, job, Role::Operator, CommandBody::Resume).await
    }

    pub async fn cancel(
        &self,
        caller: &Caller,
        job: JobId,
        cause: String,
    ) -> Result<JobRecord, OrchestrationError> {
        self.steer(caller, job, Role::Operator, CommandBody::Cancel { cause }).await
    }

    async fn steer(
        &self,
        caller: &Caller,
        job: JobId,
        role: Role,
        body: CommandBody,
    ) -> Result<JobRecord, OrchestrationError> {
        self.send(self.inner.env.command_id(), job, caller.actor(role), body).await?;
        self.go_on(job).await;
        self.job(job).await
    }
}
