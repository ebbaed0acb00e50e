//! What people ask for: submit, vote, pause, resume, cancel; what they ask of a running job is in `ask`, trying
//! again in `retry`.

mod ask;
mod retry;

use std::collections::BTreeSet;

use df_contract::api::Submitted;
use df_contract::{CommandId, JobId, JobSpec, PlanLimits, Role, TenantId};
use df_control_machine::{Actor, CommandBody, JobRecord, Rejection, Seen};

use crate::env::command_id_of;
use crate::{OrchestrationError, Orchestrator};

/// Most retries of retries that are looked back through.
const MAX_RETRIES_OF: usize = 64;

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

    /// The role in which somebody asks for what submitters, operators and admins may ask for.
    fn acting(&self) -> Role {
        let first = [Role::Admin, Role::Operator].into_iter().find(|role| self.roles.contains(role));
        first.unwrap_or(Role::Submitter)
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
        // It says where a job comes from: not from another tenant, nor from nowhere.
        if let Some(of) = spec.retry_of {
            let known = self.inner.store.job(of).await?;
            if known.is_none_or(|job| job.tenant != caller.tenant) {
                let told = format!("retry_of names {of}, and there is no such job here");
                return Err(OrchestrationError::InvalidJob(vec![told]));
            }
        }
        let ids = self.submission_ids(&["submit"], caller, key);
        self.submit_as(caller, spec, ids).await
    }

    /// Submits under ids that are known: a submission that was taken is answered again however full it has become
    /// since.
    async fn submit_as(
        &self,
        caller: &Caller,
        spec: JobSpec,
        (command, job): (CommandId, JobId),
    ) -> Result<Submitted, OrchestrationError> {
        if self.inner.store.job(job).await?.is_none() {
            self.check_agents(&caller.tenant, &spec).await?;
            self.room_for(&caller.tenant).await?;
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

    /// Refuses where the queue is full. Submissions at the same moment may go beyond by as many as they are.
    async fn room_for(&self, tenant: &TenantId) -> Result<(), OrchestrationError> {
        let (store, config) = (&self.inner.store, &self.inner.config);
        let open = store.jobs_open_count(None).await?;
        if open >= config.max_open_jobs {
            return Err(OrchestrationError::QueueFull(open));
        }
        let open = store.jobs_open_count(Some(tenant.clone())).await?;
        if open >= config.max_open_jobs_per_tenant {
            return Err(OrchestrationError::TenantQueueFull(open));
        }
        Ok(())
    }

    /// Ids that follow from what is asked for and the caller's key for it; fresh ones without a key.
    fn submission_ids(&self, what: &[&str], caller: &Caller, key: Option<&str>) -> (CommandId, JobId) {
        match key {
            Some(key) => {
                let parts = [what, &[caller.tenant.as_str(), &caller.identity, key]].concat();
                let command = command_id_of(&parts);
                (command, JobId::from_uuid(command.uuid()))
            }
            None => (self.inner.env.command_id(), self.inner.env.job_id()),
        }
    }

    /// Approves or rejects what waits. What the caller says to have seen must be that.
    pub async fn vote(
        &self,
        caller: &Caller,
        job: JobId,
        approve: bool,
        seen: Seen,
        comment: String,
    ) -> Result<JobRecord, OrchestrationError> {
        if approve {
            self.not_written_by(caller, job).await?;
        }
        let body = CommandBody::Vote { approve, roles: caller.roles.clone(), seen, comment };
        self.steer(caller, job, Role::Approver, body).await
    }

    /// Whoever wrote what a job retries does not approve it either, whoever asked for the retry.
    async fn not_written_by(&self, caller: &Caller, job: JobId) -> Result<(), OrchestrationError> {
        let mut next = self.job(job).await?.spec.retry_of;
        for _ in 0..MAX_RETRIES_OF {
            let Some(of) = next else { return Ok(()) };
            let Some(before) = self.inner.store.job(of).await? else { return Ok(()) };
            if before.submitter == caller.identity {
                return Err(Rejection::FourEyes(caller.identity.clone()).into());
            }
            next = before.spec.retry_of;
        }
        Ok(())
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
