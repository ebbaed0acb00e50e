//! The loops that need no input: they look at the store and bring every job forward. Each is safe to run at any time,
//! any number of times, and after any crash.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use df_contract::api::{Revocation, Spend, UsageRow};
use df_contract::lease::REAP_EVERY;
use df_contract::{JobId, TaskSlug};
use df_control_machine::{Command, CommandBody, Effect};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use df_store::ReapRequest;

use crate::env::command_id_of;
use crate::proxy::{ProxyError, USAGE_PAGE};
use crate::{OrchestrationError, Orchestrator};

/// Every open job is looked at this often even without a hint.
const SWEEP_EVERY: Duration = Duration::from_millis(1_000);
/// How often settled usage is read.
const USAGE_EVERY: Duration = Duration::from_millis(1_000);
/// Most leases taken back, and most effects carried out, in one round.
const BATCH: usize = 256;

impl Orchestrator {
    /// Runs every loop until `stop` turns true.
    pub async fn run(&self, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = self.sweep_loop() => {}
            () = self.reap_loop() => {}
            () = self.usage_loop() => {}
            () = self.outbox_loop() => {}
            _ = stop.wait_for(|s| *s) => {}
        }
    }

    /// Every open job once a round, and a job that changed at once. What waits for the proxy has a loop of its own, so
    /// that a proxy that hangs holds up no job.
    async fn sweep_loop(&self) {
        let mut changes = self.inner.store.subscribe();
        let mut round = tokio::time::interval(SWEEP_EVERY);
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = round.tick() => self.sweep().await,
                hint = changes.recv() => match hint {
                    Ok(job) => {
                        let more = std::iter::from_fn(|| changes.try_recv().ok()).take(BATCH);
                        let changed: BTreeSet<JobId> = more.chain([job]).collect();
                        for job in changed {
                            self.go_on(job).await;
                        }
                    }
                    // The next round sees what was missed.
                    Err(RecvError::Lagged(_) | RecvError::Closed) => {
                        round.tick().await;
                        self.sweep().await;
                    }
                },
            }
        }
    }

    /// Advances every open job.
    pub async fn sweep(&self) {
        match self.inner.store.jobs_active().await {
            Ok(ids) => {
                for id in ids {
                    self.go_on(id).await;
                }
            }
            Err(error) => tracing::error!(error = %error, "open jobs could not be listed"),
        }
    }

    /// Advances a job where nobody waits to hear of a failure: after a command that is committed, failing would tell
    /// its sender that it was not. The next sweep tries again.
    pub(crate) async fn go_on(&self, id: JobId) {
        if let Err(error) = self.advance(id).await {
            tracing::warn!(job = %id, error = %error, "job could not be advanced");
        }
    }

    async fn outbox_loop(&self) {
        let mut changes = self.inner.store.subscribe();
        loop {
            self.dispatch_outbox().await;
            let _ = tokio::time::timeout(SWEEP_EVERY, changes.recv()).await;
            while changes.try_recv().is_ok() {}
        }
    }

    async fn reap_loop(&self) {
        loop {
            if let Err(error) = self.reap().await {
                tracing::error!(error = %error, "ended leases could not be taken back");
            }
            tokio::time::sleep(REAP_EVERY.to_std()).await;
        }
    }

    /// Takes back the leases of dead sessions and of attempts that ran past their limits.
    pub async fn reap(&self) -> Result<(), OrchestrationError> {
        let env = &self.inner.env;
        let mints = (0..BATCH).map(|_| env.command_id()).collect();
        let progress_timeout = self.inner.config.progress_timeout_ms;
        let reaped = self.inner.store.reap(ReapRequest { now: env.now(), progress_timeout, mints }).await?;
        for (job, task, epoch, cause) in reaped.returned {
            tracing::info!(%job, %task, epoch, cause, "lease taken back");
        }
        Ok(())
    }

    async fn usage_loop(&self) {
        loop {
            match self.pull_usage().await {
                Ok(rows) if rows >= USAGE_PAGE as usize => continue,
                Ok(_) => {}
                Err(error) => tracing::debug!(error = %error, "usage could not be read"),
            }
            tokio::time::sleep(USAGE_EVERY).await;
        }
    }

    /// Reads one page of settled usage into the jobs and looks at each job it changes.
    pub async fn pull_usage(&self) -> Result<usize, OrchestrationError> {
        let (rows, jobs) = self.read_usage().await?;
        for job in jobs {
            self.go_on(job).await;
        }
        Ok(rows)
    }

    /// One page of settled usage: how many rows, and which jobs it was charged to. The position moves in the same
    /// transaction as the spend; one reader at a time, or two would charge the same rows under different positions.
    pub(crate) async fn read_usage(&self) -> Result<(usize, Vec<JobId>), OrchestrationError> {
        let _alone = self.inner.usage.lock().await;
        let after = self.inner.store.usage_cursor().await?;
        let page = match self.inner.proxy.usage(after).await {
            Ok(page) => page,
            Err(error) => {
                tracing::debug!(error = %error, "the proxy did not give its usage");
                return Ok((0, Vec::new()));
            }
        };
        if page.rows.is_empty() {
            return Ok((0, Vec::new()));
        }
        let commands = self.spend_commands(&page.rows, page.cursor);
        let jobs: Vec<JobId> = commands.iter().map(|c| c.job).collect();
        let outcomes = self.inner.store.commit_spend(page.cursor, commands).await?;
        let mut charged = Vec::new();
        for (job, outcome) in jobs.into_iter().zip(outcomes) {
            match outcome {
                Ok(_) => charged.push(job),
                // The ledger at the proxy still has it; here it is charged to nobody.
                Err(refused) => {
                    tracing::error!(%job, error = %refused, "usage could not be charged to its job")
                }
            }
        }
        Ok((page.rows.len(), charged))
    }

    fn spend_commands(&self, rows: &[UsageRow], through: u64) -> Vec<Command> {
        let mut sums: BTreeMap<(JobId, TaskSlug), Spend> = BTreeMap::new();
        for row in rows {
            sums.entry((row.job, row.task.clone())).or_default().add(&Spend {
                calls: 1,
                input_tokens: row.input_tokens,
                output_tokens: row.output_tokens,
                nano_usd: row.nano_usd,
            });
        }
        let command = |((job, slug), spend): ((JobId, TaskSlug), Spend)| Command {
            id: command_id_of(&["spend", &job.to_string(), slug.as_str(), &through.to_string()]),
            job,
            actor: self.daemon(),
            at: self.inner.env.now(),
            body: CommandBody::RecordSpend { slug, spend, through },
        };
        sums.into_iter().map(command).collect()
    }

    /// Carries out what transitions asked for outside the store. What fails stays and is tried again.
    pub async fn dispatch_outbox(&self) {
        let due = match self.inner.store.outbox_due(BATCH as u32).await {
            Ok(due) => due,
            Err(error) => {
                tracing::error!(error = %error, "the outbox could not be read");
                return;
            }
        };
        for row in due {
            let Effect::RevokeGrants { slug, epoch } = row.effect;
            let done = self.inner.proxy.revoke(&Revocation { job: row.job, task: slug, epoch }).await;
            match done {
                Ok(()) => {
                    if let Err(error) = self.inner.store.outbox_done(row.id, self.inner.env.now()).await {
                        tracing::error!(error = %error, "an effect could not be marked as done");
                    }
                }
                // One that is refused must not hold up the others.
                Err(error @ ProxyError::Refused { .. }) => {
                    tracing::warn!(job = %row.job, error = %error, "an effect was refused by the proxy");
                }
                Err(error @ ProxyError::Unreachable { .. }) => {
                    tracing::debug!(error = %error, "an effect waits for the proxy");
                    return;
                }
            }
        }
    }
}
