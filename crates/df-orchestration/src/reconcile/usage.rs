//! Reads settled usage from the proxy into the jobs.

use std::collections::BTreeMap;

use df_contract::api::{Spend, UsageRow};
use df_contract::{JobId, TaskSlug};
use df_control_machine::{Command, CommandBody};
use df_store::{Outcome, Refused};

use crate::env::command_id_of;
use crate::proxy::USAGE_PAGE;
use crate::{OrchestrationError, Orchestrator};

/// How often a read that was overtaken begins again.
const MAX_OVERTAKEN: usize = 4;

/// One page, as it was read.
#[derive(Default)]
pub(crate) struct Charged {
    /// Rows that were charged or refused.
    rows: u64,
    /// Positions of the ledger that were passed: attempts that cost nothing have one, and no row.
    passed: u64,
    jobs: Vec<JobId>,
}

impl Orchestrator {
    /// Reads until nothing is left; returns how many rows.
    pub(crate) async fn usage(&self) -> Result<u64, OrchestrationError> {
        let mut did = 0;
        loop {
            let page = self.read_usage().await?;
            did += page.rows;
            for job in page.jobs {
                self.go_on(job).await;
            }
            if page.passed < u64::from(USAGE_PAGE) {
                return Ok(did);
            }
        }
    }

    /// Reads one page of settled usage into its jobs. The position moves in the same transaction as the spend, and only
    /// from where this read began: a reader whose caller has gone may have left a commit on its way.
    pub(crate) async fn read_usage(&self) -> Result<Charged, OrchestrationError> {
        // One at a time, so that most are not in vain.
        let _alone = self.inner.usage.lock().await;
        for _ in 0..MAX_OVERTAKEN {
            let after = self.inner.store.usage_cursor().await?;
            let page = self.inner.proxy.usage(after).await.map_err(OrchestrationError::ProxyAway)?;
            if let Some(there) = page.now {
                self.inner.grants.proxy_said(there, self.inner.env.now());
            }
            let passed = page.cursor.saturating_sub(after);
            // A page without rows moves the position too, or what comes after it would never be read.
            if passed == 0 {
                return Ok(Charged::default());
            }
            let commands = self.spend_commands(&page.rows, page.cursor);
            let jobs: Vec<JobId> = commands.iter().map(|c| c.job).collect();
            let Some(outcomes) = self.inner.store.commit_spend(after, page.cursor, commands).await? else {
                continue;
            };
            let rows = page.rows.len() as u64;
            return Ok(Charged { rows, passed, jobs: charged(jobs, outcomes) });
        }
        Ok(Charged::default())
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

/// Those jobs that were charged.
fn charged(jobs: Vec<JobId>, outcomes: Vec<Result<Outcome, Refused>>) -> Vec<JobId> {
    let mut charged = Vec::new();
    for (job, outcome) in jobs.into_iter().zip(outcomes) {
        match outcome {
            Ok(_) => charged.push(job),
            // The ledger at the proxy still has it; here it is charged to nobody.
            Err(refused) => tracing::error!(%job, error = %refused, "usage could not be charged to its job"),
        }
    }
    charged
}
