//! What claims need, found by looking at everything.

use std::collections::{BTreeMap, BTreeSet};

use df_contract::{JobId, TaskState, TenantId, Timestamp};
use df_control_machine::place::{self, Line};
use df_control_machine::schedule::{Breakers, Runner, Running};
use df_control_machine::{Breaker, BreakerKey, TaskRecord, retry};

use super::{KeptBreaker, Memory, page, put_back};
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
            if of == queue && retry::is_due(task.not_before, now) && !without.contains(&job) {
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
                    let own = running.agents.entry(record.tenant.clone()).or_default();
                    *own.entry(agent).or_default() += 1;
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

    fn breakers(&self, tenant: Option<&TenantId>, limit: u32) -> Kept<Vec<(BreakerKey, Breaker)>> {
        let all = self.breakers.iter().filter(|(key, _)| tenant.is_none_or(|tenant| *tenant == key.tenant));
        let all = all.map(|(key, kept)| (key.clone(), kept.breaker));
        Ok(all.take(page(limit)).collect())
    }

    fn breakers_of(&self, worker: &str) -> Kept<Breakers> {
        let mut own = Breakers::new();
        for (key, kept) in self.breakers.iter().filter(|(key, _)| key.worker == worker) {
            own.entry(key.tenant.clone()).or_default().insert(key.runner.clone(), kept.breaker);
        }
        Ok(own)
    }

    fn breaker(&self, key: &BreakerKey) -> Kept<Option<Breaker>> {
        Ok(self.breakers.get(key).map(|kept| kept.breaker))
    }

    fn breaker_write(&mut self, key: &BreakerKey, breaker: Breaker, now: Timestamp) -> Kept<()> {
        let before = self.breakers.get(key).copied();
        let kept = (!breaker.is_fresh()).then_some(KeptBreaker { breaker, seen_at: now });
        put_back(&mut self.breakers, key.clone(), kept);
        let key = key.clone();
        self.undoing(move |memory| put_back(&mut memory.breakers, key, before));
        Ok(())
    }

    fn breakers_seen(&mut self, workers: &BTreeSet<String>, now: Timestamp) -> Kept<()> {
        let before = self.breakers.clone();
        for (key, kept) in &mut self.breakers {
            if workers.contains(&key.worker) || kept.seen_at > now {
                kept.seen_at = now;
            }
        }
        self.undoing(move |memory| memory.breakers = before);
        Ok(())
    }

    fn breakers_forget(&mut self, before: Timestamp, limit: u32) -> Kept<u64> {
        let was = self.breakers.clone();
        let old = was.iter().filter(|(_, kept)| kept.seen_at < before).map(|(key, _)| key);
        let gone = old.take(page(limit)).map(|key| self.breakers.remove(key)).count();
        self.undoing(move |memory| memory.breakers = was);
        Ok(gone as u64)
    }
}
