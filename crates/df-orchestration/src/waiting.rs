//! What the ready tasks of a job wait for.

use std::collections::{BTreeMap, BTreeSet};

use df_contract::api::WaitingView;
use df_contract::{TaskSlug, TaskState};
use df_control_machine::schedule::Worker;
use df_control_machine::waiting::{Present, Room, waiting_for};
use df_control_machine::{JobRecord, TaskRecord};
use df_store::SessionRow;

use crate::{OrchestrationError, Orchestrator};

impl Orchestrator {
    /// By task. A job without ready tasks costs nothing.
    pub async fn waiting(
        &self,
        record: &JobRecord,
    ) -> Result<BTreeMap<TaskSlug, WaitingView>, OrchestrationError> {
        let ready: Vec<&TaskRecord> =
            record.tasks.values().filter(|task| task.state == TaskState::Ready).collect();
        if ready.is_empty() {
            return Ok(BTreeMap::new());
        }
        let (pressure, now) = (self.inner.store.pressure().await?, self.inner.env.now());
        let live = pressure.sessions.iter().filter(|(row, _)| now < row.expires_at);
        let present = |(row, held): &(SessionRow, u32)| Present {
            worker: worker(row),
            free: row.capacity.saturating_sub(*held),
            breakers: pressure.breakers.get(&row.name).cloned().unwrap_or_default(),
        };
        let mut disabled = BTreeSet::new();
        for agent in ready.iter().filter_map(|task| record.agent_of(task)) {
            let (tenant, name) = (record.tenant.clone(), agent.name.clone());
            if self.inner.store.agent_is_off(tenant, name, agent.digest.clone()).await? {
                disabled.insert(agent.digest.clone());
            }
        }
        let room = Room {
            disabled,
            workers: live.map(present).collect(),
            rules: self.inner.config.scheduling.clone(),
            running: pressure.running,
        };
        let waits = |task: &TaskRecord| Some((task.slug.clone(), waiting_for(record, task, &room, now)?));
        Ok(ready.into_iter().filter_map(waits).collect())
    }
}

fn worker(row: &SessionRow) -> Worker {
    Worker {
        class: row.class,
        labels: row.labels.clone(),
        tiers: row.tiers.clone(),
        runtimes: row.runtimes.clone(),
    }
}
