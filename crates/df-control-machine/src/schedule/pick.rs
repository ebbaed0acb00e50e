//! The choice itself.

use std::collections::{BTreeMap, VecDeque};

use df_contract::{AgentName, LeaseKind, TenantId};

use super::{Candidate, Picked, Round, Rules, Running, breaker_of};

/// Serves up to `wanted` candidates, best first. `claim` takes a candidate or refuses it; one that is refused costs its
/// tenant nothing and is not offered again in this round. Linear in the candidates, after sorting them.
///
/// # Errors
/// The first error of `claim` ends the round.
pub fn pick<E>(
    round: Round<'_>,
    wanted: usize,
    mut claim: impl FnMut(&Candidate) -> Result<bool, E>,
) -> Result<Picked, E> {
    let mut floor = Floor::of(round);
    while floor.picked.taken.len() < wanted
        && let Some((tenant, start)) = floor.next_tenant()
    {
        let Some(candidate) = floor.queues.get_mut(&tenant).and_then(VecDeque::pop_front) else { break };
        if claim(&candidate)? {
            floor.take(candidate, start);
        }
    }
    Ok(floor.picked)
}

/// After at most this many claims a tenant of weight `own` whose task can be claimed all the while is served, whatever
/// tenants with the weights `others` come, go and ask for.
///
/// Its start is at most one cost above the virtual time, and each claim of another tenant moves that one's start on by its own
/// cost: so one claim at the virtual time, one at its own start, and those between.
pub fn longest_wait(own: u32, others: impl IntoIterator<Item = u32>) -> u64 {
    others.into_iter().map(|other| u64::from(other.div_ceil(own.max(1))) + 1).sum::<u64>() + 1
}

/// The state of a round.
struct Floor<'a> {
    round: Round<'a>,
    /// What may still be offered, by tenant, best first.
    queues: BTreeMap<TenantId, VecDeque<Candidate>>,
    picked: Picked,
}

impl<'a> Floor<'a> {
    fn of(mut round: Round<'a>) -> Self {
        let mut queues: BTreeMap<TenantId, Vec<Candidate>> = BTreeMap::new();
        for candidate in std::mem::take(&mut round.candidates) {
            if round.worker.fits(&candidate.needs) {
                queues.entry(candidate.tenant.clone()).or_default().push(candidate);
            }
        }
        let sorted = |mut queue: Vec<Candidate>| {
            queue.sort_by(|a, b| a.order().cmp(&b.order()));
            VecDeque::from(queue)
        };
        let queues = queues.into_iter().map(|(tenant, queue)| (tenant, sorted(queue))).collect();
        let picked = Picked { virtual_time: round.virtual_time, ..Picked::default() };
        Self { round, queues, picked }
    }

    /// The tenant to serve and its start. Equal starts: who has waited longer, so that newcomers cannot keep others out.
    fn next_tenant(&mut self) -> Option<(TenantId, u64)> {
        // What is held back now stays so: in a round, counts only rise and breakers only shut.
        let (round, queues, virtual_time) = (&self.round, &mut self.queues, self.picked.virtual_time);
        queues.retain(|_, queue| {
            while queue.front().is_some_and(|c| held_back(round, c)) {
                queue.pop_front();
            }
            !queue.is_empty()
        });
        let starts = queues.iter().filter_map(|(tenant, queue)| {
            let pass = round.passes.get(tenant).copied().unwrap_or(0);
            Some((pass.max(virtual_time), queue.front()?.urgency, tenant))
        });
        starts.min().map(|(start, _, tenant)| (tenant.clone(), start))
    }

    fn take(&mut self, candidate: Candidate, start: u64) {
        let round = &mut self.round;
        let pass = start.saturating_add(round.rules.cost(&candidate.tenant));
        round.passes.insert(candidate.tenant.clone(), pass);
        round.running.add(&candidate);
        self.picked.virtual_time = start;
        self.picked.passes.insert(candidate.tenant.clone(), pass);
        if let Some(runner) = &candidate.needs.runner
            && let Some(breaker) =
                round.breakers.get_mut(&candidate.tenant).and_then(|own| own.get_mut(runner))
        {
            let after = breaker.claimed(round.now);
            if after != *breaker {
                *breaker = after;
                let changed = self.picked.breakers.entry(candidate.tenant.clone()).or_default();
                changed.insert(runner.clone(), after);
            }
        }
        self.picked.taken.push(candidate);
    }
}

/// Whether a cap or a breaker stands against the candidate.
fn held_back(round: &Round<'_>, candidate: &Candidate) -> bool {
    let shut = breaker_of(&round.breakers, &candidate.tenant, &candidate.needs)
        .is_some_and(|breaker| !breaker.admits(round.now));
    shut || round.running.at_cap(round.rules, candidate)
}

impl Running {
    /// Whether the candidate would go beyond a cap.
    pub fn at_cap(&self, rules: &Rules, candidate: &Candidate) -> bool {
        let full =
            |held: Option<&u32>, cap: Option<u32>| cap.is_some_and(|cap| held.copied().unwrap_or(0) >= cap);
        let Candidate { job, tenant, needs, .. } = candidate;
        let runner = needs.runner.as_ref();
        full(self.tenants.get(tenant), rules.tenant_cap(tenant))
            || full(self.jobs.get(job), rules.max_per_job)
            || runner.is_some_and(|r| {
                full(self.agent_leases(tenant, &r.agent), rules.agents.get(&r.agent).copied())
            })
            || runner
                .is_some_and(|r| full(self.runtimes.get(&r.runtime), rules.runtimes.get(&r.runtime).copied()))
            || (needs.kind == LeaseKind::Integrate && self.merging.contains(job))
    }

    /// Leases of an agent that a tenant's tasks hold.
    pub fn agent_leases(&self, tenant: &TenantId, agent: &AgentName) -> Option<&u32> {
        self.agents.get(tenant)?.get(agent)
    }

    /// Counts the candidate as held.
    pub fn add(&mut self, candidate: &Candidate) {
        let Candidate { job, tenant, needs, .. } = candidate;
        *self.tenants.entry(tenant.clone()).or_default() += 1;
        *self.jobs.entry(*job).or_default() += 1;
        if let Some(runner) = &needs.runner {
            let own = self.agents.entry(tenant.clone()).or_default();
            *own.entry(runner.agent.clone()).or_default() += 1;
            *self.runtimes.entry(runner.runtime).or_default() += 1;
        }
        if needs.kind == LeaseKind::Integrate {
            self.merging.insert(*job);
        }
    }
}
