//! Reads settled usage from the proxy into the jobs.

use std::collections::BTreeMap;

use df_contract::api::{Spend, UsageRow};
use df_contract::{JobId, TaskSlug};
use df_control_machine::{Command, CommandBody};

use crate::env::command_id_of;
use crate::proxy::USAGE_PAGE;
use crate::{OrchestrationError, Orchestrator};

impl Orchestrator {
    /// Reads until nothing is left; returns how many rows.
    pub(super) async fn usage(&self) -> Result<u64, OrchestrationError> {
        let mut did = 0;
        loop {
            let rows = self.pull_usage().await?;
            did += rows as u64;
            if rows < USAGE_PAGE as usize {
                return Ok(did);
            }
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
        let page = self.inner.proxy.usage(after).await.map_err(OrchestrationError::ProxyAway)?;
        if let Some(there) = page.now {
            self.inner.grants.proxy_said(there, self.inner.env.now());
        }
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
}
