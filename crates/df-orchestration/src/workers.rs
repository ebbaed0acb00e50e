//! What workers ask for: sessions, leases, heartbeats, events, reports, blobs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use df_contract::lease::{
    Claim, Claimed, HEARTBEAT_EVERY, Heartbeat, HeartbeatReply, HeldLease, MAX_EVIDENCE, ProgressBatch,
    Report, SESSION_TTL, SessionOpen, SessionOpened, Watch, Watched, checks_of,
};
use df_contract::task::Product;
use df_contract::{
    AttemptOutcome, CommandId, Digest, DurationMs, KeyId, Lease, LeaseKind, Role, SessionId, TaskSlug,
    TaskState, WorkerClass,
};
use df_control_machine::{Actor, CommandBody, JobRecord, Rejection, ReturnCause, TaskRecord};
use df_store::{BlobStore, ClaimRequest, Refused, SessionRow};
use tokio::sync::broadcast::error::RecvError;

use crate::agents::Cast;
use crate::env::command_id_of;
use crate::{OrchestrationError, Orchestrator, work};

/// Longest a claim waits for work.
pub const MAX_CLAIM_WAIT: DurationMs = DurationMs(20_000);
/// Most leases handed out in one claim.
pub const MAX_CLAIM: u32 = 64;

/// A waiting claim looks again after this long even without a hint.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// What came of making a lease.
enum Made {
    Lease(Box<Lease>),
    /// The agent of the task was disabled: the task waits for it.
    AgentDisabled(String),
    /// The agent of the task cannot be used.
    NoAgent(String),
}

impl Orchestrator {
    pub async fn session_open(
        &self,
        key: KeyId,
        class: WorkerClass,
        open: SessionOpen,
    ) -> Result<SessionOpened, OrchestrationError> {
        let (session, now) = (self.inner.env.session_id(), self.inner.env.now());
        let row = SessionRow {
            id: session,
            key,
            name: open.name,
            class,
            capacity: open.capacity,
            last_heartbeat: now,
            expires_at: now.plus(SESSION_TTL),
            labels: open.labels,
            tiers: open.tiers,
            runtimes: open.runtimes,
        };
        self.inner.store.session_open(row).await?;
        Ok(SessionOpened { session, class, ttl_ms: SESSION_TTL, heartbeat_every_ms: HEARTBEAT_EVERY })
    }

    /// Leases for a session; waits for work up to the time it asks for.
    pub async fn claim(
        &self,
        session: SessionId,
        key: KeyId,
        ask: Claim,
    ) -> Result<Claimed, OrchestrationError> {
        let row = self.session(session, key).await?;
        let kinds: Vec<LeaseKind> = ask.kinds.iter().copied().filter(|k| row.class.may_hold(*k)).collect();
        // Not by the wall clock: set back, it would make this wait for ever.
        let over = tokio::time::sleep(ask.wait_ms.min(MAX_CLAIM_WAIT).to_std());
        tokio::pin!(over);
        let mut changes = self.inner.store.subscribe();
        loop {
            let leases = self.claim_now(session, &kinds, ask.max.min(MAX_CLAIM)).await?;
            if !leases.is_empty() || ask.wait_ms == DurationMs::ZERO || over.is_elapsed() {
                return Ok(Claimed { leases });
            }
            // A hint wakes us early; without one we look again, since a back-off may have ended.
            tokio::select! {
                () = &mut over => {}
                _ = tokio::time::timeout(LOOK_AGAIN, changes.recv()) => {}
            }
        }
    }

    async fn claim_now(
        &self,
        session: SessionId,
        kinds: &[LeaseKind],
        max: u32,
    ) -> Result<Vec<Lease>, OrchestrationError> {
        let env = &self.inner.env;
        let mints = (0..max).map(|_| (env.command_id(), env.attempt_id())).collect();
        let config = self.inner.config.clone();
        let wall = Arc::new(move |_: &JobRecord, task: &TaskRecord| config.lease_wall(task.kind));
        let (kinds, rules) = (kinds.to_vec(), Arc::new(self.inner.config.scheduling.clone()));
        let request = ClaimRequest { session, kinds, now: env.now(), mints, wall, rules };
        let claimed = self.inner.store.claim(request).await?;
        let mut leases = Vec::with_capacity(claimed.len());
        for (record, slug) in claimed {
            match self.lease(&record, &slug).await {
                Ok(Made::Lease(lease)) => leases.push(*lease),
                Ok(Made::AgentDisabled(why)) => {
                    self.take_back(&record, slug, ReturnCause::AgentDisabled, why).await?;
                }
                Ok(Made::NoAgent(why)) => {
                    tracing::warn!(job = %record.id, task = %slug, why, "the agent of a task may not be used");
                    self.refuse_agent(&record, slug, why).await?;
                }
                // The others of this claim must reach their worker all the same.
                Err(error) => {
                    tracing::error!(job = %record.id, task = %slug, error = %error, "a lease could not be made");
                    let why = format!("the lease could not be made: {error}");
                    self.take_back(&record, slug, ReturnCause::NotMade, why).await?;
                }
            }
        }
        Ok(leases)
    }

    async fn take_back(
        &self,
        record: &JobRecord,
        slug: TaskSlug,
        cause: ReturnCause,
        detail: String,
    ) -> Result<(), OrchestrationError> {
        let epoch = record.tasks.get(&slug).map_or(0, |task| task.epoch);
        let body = CommandBody::Return { slug, epoch, cause, detail };
        self.send(self.inner.env.command_id(), record.id, self.daemon(), body).await.map(|_| ())
    }

    async fn lease(&self, record: &JobRecord, slug: &TaskSlug) -> Result<Made, OrchestrationError> {
        let task = record.tasks.get(slug).ok_or_else(|| Rejection::TaskUnknown(slug.clone()))?;
        let casting = match self.cast(record, task).await? {
            Cast::Ready(casting) => casting,
            Cast::Disabled(why) => return Ok(Made::AgentDisabled(why)),
            Cast::Gone(why) => return Ok(Made::NoAgent(why)),
        };
        let grant = self.grant_for(record, task)?.unwrap_or_default();
        let mut work = work::work_of(record, task, &grant, &self.inner.config)?;
        casting.into_work(&mut work);
        let deadline = task.deadline.ok_or(OrchestrationError::Incomplete("a leased task has a deadline"))?;
        Ok(Made::Lease(Box::new(Lease {
            job: record.id,
            tenant: record.tenant.clone(),
            slug: slug.clone(),
            epoch: task.epoch,
            attempt: task.attempt.ok_or(OrchestrationError::Incomplete("a leased task has an attempt"))?,
            attempt_number: task.attempts,
            token: self.inner.tokens.issue(record.id, slug, task.epoch),
            deadline,
            time_left_ms: deadline.since(self.inner.env.now()),
            progress_timeout_ms: self.inner.config.progress_timeout_ms,
            work,
        })))
    }

    /// A grant where the task talks to models; none for the other kinds.
    fn grant_for(&self, record: &JobRecord, task: &TaskRecord) -> Result<Option<String>, OrchestrationError> {
        if task.kind != LeaseKind::Agent {
            return Ok(None);
        }
        let grant = self.inner.grants.grant(record, task, &self.inner.config, &self.inner.env)?;
        Ok(Some(grant.expose().to_owned()))
    }

    async fn session(&self, id: SessionId, key: KeyId) -> Result<SessionRow, OrchestrationError> {
        let row = self.inner.store.session(id).await?;
        row.filter(|r| r.key == key).ok_or(OrchestrationError::SessionGone)
    }

    pub async fn heartbeat(
        &self,
        session: SessionId,
        key: KeyId,
        beat: Heartbeat,
    ) -> Result<HeartbeatReply, OrchestrationError> {
        self.session(session, key).await?;
        let lost =
            self.inner.store.session_heartbeat(session, self.inner.env.now(), beat.held.clone()).await?;
        let mut grants = BTreeMap::new();
        for held in beat.held.iter().filter(|h| !lost.contains(h)) {
            let record = self.job_at_hand(held.job).await?;
            let Some(task) = record.tasks.get(&held.slug) else { continue };
            match self.grant_for(&record, task) {
                Ok(Some(grant)) => {
                    grants.insert(format!("{}/{}", held.job, held.slug), grant);
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(job = %held.job, task = %held.slug, error = %error, "a grant could not be renewed");
                }
            }
        }
        Ok(HeartbeatReply { lost, grants })
    }

    /// Waits until the session has lost one of the leases that it believes it has: within moments of the command that
    /// took it. Changes of other jobs are looked past; what the hints missed, the heartbeat tells.
    pub async fn watch(
        &self,
        session: SessionId,
        key: KeyId,
        watch: Watch,
    ) -> Result<Watched, OrchestrationError> {
        self.session(session, key).await?;
        let over = tokio::time::sleep(watch.wait_ms.min(MAX_CLAIM_WAIT).to_std());
        tokio::pin!(over);
        let mut changes = self.inner.store.subscribe();
        loop {
            let lost = self.inner.store.leases_lost(session, watch.held.clone()).await?;
            if !lost.is_empty() || over.is_elapsed() {
                return Ok(Watched { lost });
            }
            loop {
                tokio::select! {
                    () = &mut over => break,
                    changed = changes.recv() => match changed {
                        Ok(job) if watch.held.iter().all(|held| held.job != job) => {}
                        Ok(_) | Err(RecvError::Lagged(_)) => break,
                        Err(RecvError::Closed) => return Ok(Watched { lost }),
                    },
                }
            }
        }
    }

    /// Ends a session in good order: what it held goes back at once.
    pub async fn session_close(&self, session: SessionId, key: KeyId) -> Result<(), OrchestrationError> {
        self.session(session, key).await?;
        self.inner.store.session_close(session).await?;
        self.reap().await
    }

    /// The lease a token stands for, held or over.
    pub fn lease_of(&self, token: &str) -> Result<HeldLease, OrchestrationError> {
        self.inner.tokens.verify(token)
    }

    /// The lease behind a token, if it is still held.
    pub async fn held(&self, token: &str) -> Result<(HeldLease, Arc<JobRecord>), OrchestrationError> {
        let held = self.inner.tokens.verify(token)?;
        let record = self.job_at_hand(held.job).await?;
        let task = record.tasks.get(&held.slug).ok_or_else(|| Rejection::TaskUnknown(held.slug.clone()))?;
        if task.state == TaskState::Leased && task.epoch == held.epoch {
            return Ok((held, record));
        }
        Err(Rejection::Stale { slug: held.slug.clone(), held: held.epoch, current: task.epoch }.into())
    }

    pub async fn progress(&self, held: &HeldLease, batch: ProgressBatch) -> Result<(), OrchestrationError> {
        let now = self.inner.env.now();
        self.inner.store.progress_append(held.clone(), batch.first, batch.lines, now).await??;
        Ok(())
    }

    /// Whether the holder of a lease may read a blob: only what its own work names.
    pub fn may_read(
        &self,
        held: &HeldLease,
        record: &JobRecord,
        blob: &Digest,
    ) -> Result<(), OrchestrationError> {
        let task = record.tasks.get(&held.slug).ok_or_else(|| Rejection::TaskUnknown(held.slug.clone()))?;
        let work = work::work_of(record, task, "", &self.inner.config)?;
        if work::readable_blobs(&work).contains(blob) {
            Ok(())
        } else {
            Err(OrchestrationError::BlobForbidden)
        }
    }

    /// Accepts a report once; the same report again gets the same answer, also when the lease is over by then.
    pub async fn report(
        &self,
        token: &str,
        blobs: &BlobStore,
        report: Report,
    ) -> Result<HeldLease, OrchestrationError> {
        let held = self.inner.tokens.verify(token)?;
        let trace = trace_of(&report.outcome).cloned();
        for digest in df_contract::lease::blobs_of(&report.outcome) {
            // From here on no sweep removes it before the job names it.
            if !blobs.keep(&digest, self.inner.env.now()).await? {
                // A lease that ended could upload nothing more: that is the reason, then.
                return match self.held(token).await {
                    Ok(_) => Err(OrchestrationError::BlobMissing(digest)),
                    Err(error) => Err(self.refused_report(&held, None, Vec::new(), error).await),
                };
            }
        }
        let evidence = self.evidence(blobs, &report).await?;
        let command = report_id(&held, &report);
        let actor = Actor { name: format!("worker:{}", report.attempt), role: Role::Worker };
        let body = CommandBody::Report {
            slug: held.slug.clone(),
            epoch: held.epoch,
            attempt: report.attempt,
            outcome: Box::new(report.outcome),
            sandbox_layers: report.sandbox_layers,
            evidence: evidence.clone(),
        };
        match self.send(command, held.job, actor, body).await {
            Ok(_) => {
                self.go_on(held.job).await;
                Ok(held)
            }
            Err(error) => Err(self.refused_report(&held, trace, evidence, error).await),
        }
    }

    /// What an attempt left and is there, each once; from here on no sweep removes it before the job refers to it.
    async fn evidence(&self, blobs: &BlobStore, report: &Report) -> Result<Vec<Digest>, OrchestrationError> {
        let bundles = bundles_of(&report.outcome);
        let mut named = df_contract::lease::blobs_of(&report.outcome);
        named.retain(|blob| !bundles.contains(&blob));
        named.extend(checks_of(&report.outcome).filter_map(|check| check.log.clone()));
        named.extend(report.evidence.iter().cloned());
        let (mut seen, mut there) = (BTreeSet::new(), Vec::new());
        for digest in named.into_iter().take(2 * MAX_EVIDENCE) {
            if seen.insert(digest.clone()) && blobs.keep(&digest, self.inner.env.now()).await? {
                there.push(digest);
            }
        }
        there.truncate(MAX_EVIDENCE);
        Ok(there)
    }

    /// A result that came too late changes nothing and leaves an event that says so, with its trace.
    async fn refused_report(
        &self,
        held: &HeldLease,
        trace: Option<Digest>,
        evidence: Vec<Digest>,
        error: OrchestrationError,
    ) -> OrchestrationError {
        let OrchestrationError::Rejected(Refused::Rejected(Rejection::Stale { .. })) = &error else {
            return error;
        };
        let noted = self.inner.store.note_stale(held.clone(), trace, evidence, self.inner.env.now()).await;
        if let Err(why) = noted {
            tracing::warn!(job = %held.job, task = %held.slug, error = %why, "a stale result could not be noted");
        }
        error
    }
}

/// Bundles of trees that a report names: they are kept with the trees.
fn bundles_of(outcome: &AttemptOutcome) -> Vec<&Digest> {
    match outcome {
        AttemptOutcome::Failed { .. } => Vec::new(),
        AttemptOutcome::Succeeded { product } => match product {
            Product::Intake { base: tree, .. }
            | Product::Change { tree, .. }
            | Product::Merge { tree, .. } => {
                vec![&tree.bundle]
            }
            Product::Gate { facts } => vec![&facts.artefact],
            Product::Plan { .. } | Product::Delivery { .. } => Vec::new(),
        },
    }
}

/// The trace that a report names.
fn trace_of(outcome: &AttemptOutcome) -> Option<&Digest> {
    match outcome {
        AttemptOutcome::Failed { trace, .. } => trace.as_ref(),
        AttemptOutcome::Succeeded {
            product: Product::Plan { result, .. } | Product::Change { result, .. },
        } => result.artefacts.get("trace"),
        AttemptOutcome::Succeeded {
            product:
                Product::Intake { .. } | Product::Merge { .. } | Product::Gate { .. } | Product::Delivery { .. },
        } => None,
    }
}

fn report_id(held: &HeldLease, report: &Report) -> CommandId {
    let parts =
        [held.job.to_string(), held.slug.to_string(), held.epoch.to_string(), report.attempt.to_string()];
    command_id_of(&["report", &parts[0], &parts[1], &parts[2], &parts[3]])
}
