//! What claims need, found by looking at everything.

use std::collections::{BTreeMap, BTreeSet};

use df_contract::{JobId, TaskState, TenantId, Timestamp};
use df_control_machine::place::{self, Line};
use df_control_machine::schedule::{Runner, Running};
use df_control_machine::{Breaker, TaskRecord};

use super::{Memory, put_back};
use crate::queue::{Placement, Queues, Waiting, placement};
use crate::rows::Kept;

impl Memory {
    /// Every task that stands in line.
    fn in_line(&self) -> Kept<Vec<(JobId, &TaskRecord, Placement)>> {
        let mut found = Vec::new();
        for (id, job) in &self.jobs {
            let record = &job.row.record;
            let line = Line::of(record);
            for task in record.tasks.values().filter(|task| line.has(task)) {
                found.push((*id, task, placement(record, &line, task)?));
            }
        }
        Ok(found)
    }
}

impl Queues for Memory {
    fn queues(&self, after: &str, limit: u32) -> Kept<Vec<String>> {
        let names: BTreeSet<String> = self.in_line()?.into_iter().map(|(_, _, place)| place.queue).collect();
        Ok(names.into_iter().filter(|name| name.as_str() > after).take(limit as usize).collect())
    }

    fn waiting(
        &self,
        queue: &str,
        now: Timestamp,
        without: &BTreeSet<JobId>,
        limit: u32,
    ) -> Kept<Vec<Waiting>> {
        let mut found: Vec<Waiting> = Vec::new();
        for (job, task, Placement { urgency, rank, queue: of, .. }) in self.in_line()? {
            if of == queue && task.not_before <= now && !without.contains(&job) {
                found.push(Waiting { job, slug: task.slug.clone(), urgency, rank });
            }
        }
        let order = |w: &Waiting| (w.urgency, std::cmp::Reverse(w.rank), w.job, w.slug.clone());
        found.sort_by_key(order);
        found.truncate(limit as usize);
        Ok(found)
    }

    fn running(&self) -> Kept<Running> {
        let mut running = Running::default();
        for job in self.jobs.values() {
            let record = &job.row.record;
            for task in record.tasks.values().filter(|task| task.state == TaskState::Leased) {
                *running.tenants.entry(record.tenant.clone()).or_default() += 1;
                *running.jobs.entry(record.id).or_default() += 1;
                if let Some(Runner { runtime, agent }) = place::needs(record, task).runner {
                    *running.agents.entry(agent).or_default() += 1;
                    *running.runtimes.entry(runtime).or_default() += 1;
                }
            }
        }
        Ok(running)
    }

    fn passes(&self) -> Kept<BTreeMap<TenantId, u64>> {
        Ok(self.passes.clone())
    }

    fn pass_write(&mut self, tenant: &TenantId, pass: u64) -> Kept<()> {
        let (tenant, before) = (tenant.clone(), self.passes.insert(tenant.clone(), pass));
        self.undoing(move |memory| put_back(&mut memory.passes, tenant, before));
        Ok(())
    }

    fn passes_forget(&mut self, virtual_time: u64) -> Kept<()> {
        let before = self.passes.clone();
        self.passes.retain(|_, pass| *pass > virtual_time);
        self.undoing(move |memory| memory.passes = before);
        Ok(())
    }

    fn breakers(&self) -> Kept<BTreeMap<Runner, Breaker>> {
        Ok(self.breakers.clone())
    }

    fn breaker(&self, runner: &Runner) -> Kept<Option<Breaker>> {
        Ok(self.breakers.get(runner).copied())
    }

    fn breaker_write(&mut self, runner: &Runner, breaker: Breaker) -> Kept<()> {
        let before = self.breakers.get(runner).copied();
        put_back(&mut self.breakers, runner.clone(), (!breaker.is_fresh()).then_some(breaker));
        let runner = runner.clone();
        self.undoing(move |memory| put_back(&mut memory.breakers, runner, before));
        Ok(())
    }
}
