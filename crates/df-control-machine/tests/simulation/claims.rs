//! Claims: what the store would offer, and what must hold around each choice.

use std::convert::Infallible;

use df_contract::agent::Runtime;
use df_contract::{DurationMs, LeaseKind, SandboxTier, TaskState, TenantId, Timestamp, WorkerClass};
use df_control_machine::place::{self, Line};
use df_control_machine::schedule::{
    Candidate, Round, Rules, Running, Worker, breaker_of, longest_wait, pick,
};
use df_control_machine::step::over_budget;
use df_control_machine::{CommandBody, JobRecord, TaskRecord, retry};

use crate::rng::Rng;
use crate::world::{Held, World};

pub(crate) const TENANTS: usize = 3;

pub(crate) fn tenant(n: usize) -> TenantId {
    format!("t{n}").parse().unwrap()
}

pub(crate) fn rules(rng: &mut Rng) -> Rules {
    let mut rules = Rules::default();
    for n in 0..TENANTS {
        rules.tenant_weights.insert(tenant(n), 1 + rng.below(4) as u32);
    }
    let mut cap = || rng.chance(25).then(|| 1 + rng.below(4) as u32);
    (rules.max_per_tenant, rules.max_per_job) = (cap(), cap());
    rules.agents = cap().map(|cap| ("backend".parse().unwrap(), cap)).into_iter().collect();
    rules.runtimes = cap().map(|cap| (Runtime::Builtin, cap)).into_iter().collect();
    rules
}

/// The first can do everything, so that nothing waits for a worker that never comes.
pub(crate) fn workers(rng: &mut Rng) -> Vec<Worker> {
    let all = Worker {
        class: WorkerClass::Trusted,
        labels: ["gpu".to_owned()].into(),
        tiers: [SandboxTier::Bwrap].into(),
        runtimes: [Runtime::Builtin, Runtime::Command].into(),
    };
    let mut workers = vec![all.clone()];
    for _ in 0..rng.below(3) {
        let mut worker = all.clone();
        if rng.chance(40) {
            worker.class = WorkerClass::Remote;
        }
        if rng.chance(40) {
            worker.labels.clear();
        }
        if rng.chance(40) {
            worker.runtimes = [Runtime::Builtin].into();
        }
        if rng.chance(30) {
            worker.tiers = [SandboxTier::Docker].into();
        }
        workers.push(worker);
    }
    workers
}

fn candidate(record: &JobRecord, task: &TaskRecord) -> Candidate {
    Candidate {
        job: record.id,
        slug: task.slug.clone(),
        tenant: record.tenant.clone(),
        needs: place::needs(record, task),
        urgency: place::urgency(record, task),
        rank: task.rank,
    }
}

impl World {
    fn tasks_in(&self, state: TaskState) -> impl Iterator<Item = (&JobRecord, &TaskRecord)> {
        let records = self.jobs.iter().map(|job| &job.record);
        records.flat_map(|r| r.tasks.values().map(move |t| (r, t))).filter(move |(_, t)| t.state == state)
    }

    fn candidates(&self, now: Timestamp) -> Vec<Candidate> {
        let mut open = Vec::new();
        for record in self.jobs.iter().map(|job| &job.record) {
            let line = Line::of(record);
            for task in record.tasks.values().filter(|t| line.has(t)) {
                if retry::is_due(task.not_before, now) {
                    open.push(candidate(record, task));
                } else {
                    let left = task.not_before.since(now);
                    assert!(left <= DurationMs(60_000), "{} waits for {} ms", task.slug, left.0);
                }
            }
        }
        open
    }

    fn running(&self) -> Running {
        let mut running = Running::default();
        for (record, task) in self.tasks_in(TaskState::Leased) {
            running.add(&candidate(record, task));
        }
        running
    }

    /// One claim by one worker. Answers whether it got something.
    pub(crate) fn claim(&mut self, worker: usize) -> bool {
        let (now, asking) = (self.now(), self.workers[worker].clone());
        let (candidates, running) = (self.candidates(now), self.running());
        let open: Vec<Candidate> = candidates
            .iter()
            .filter(|c| asking.fits(&c.needs) && !running.at_cap(&self.rules, c))
            .filter(|c| breaker_of(&self.breakers[worker], &c.tenant, &c.needs).is_none_or(|b| b.admits(now)))
            .cloned()
            .collect();
        let rules = self.rules.clone();
        let round = Round {
            now,
            worker: &asking,
            rules: &rules,
            candidates,
            running,
            virtual_time: self.kept.virtual_time,
            passes: self.kept.passes.clone(),
            breakers: self.breakers[worker].clone(),
        };
        let picked = pick(round, 1, |c| {
            self.lease(c, worker);
            Ok::<_, Infallible>(true)
        });
        let picked = picked.unwrap_or_else(|never| match never {});
        assert_eq!(picked.taken.is_empty(), open.is_empty(), "work waits, and this worker could do it");
        let Some(taken) = picked.taken.first() else { return false };
        assert!(open.contains(taken), "{taken:?} may not be claimed here");
        self.note_waiting(&open, &taken.tenant);
        self.kept.virtual_time = picked.virtual_time;
        self.kept.passes.extend(picked.passes);
        for (tenant, changed) in picked.breakers {
            assert_eq!(changed.len(), 1, "one claim, one probe");
            self.census.count("probe");
            self.breakers[worker].entry(tenant).or_default().extend(changed);
        }
        true
    }

    fn lease(&mut self, candidate: &Candidate, worker: usize) {
        let job = self.jobs.iter().position(|j| j.record.id == candidate.job).unwrap();
        let (attempt, slug) = (self.attempt(), candidate.slug.clone());
        let at = &self.jobs[job];
        let starts = candidate.needs.kind == LeaseKind::Agent;
        assert!(
            !starts || at.settled != Some(at.record.version) || !over_budget(&at.record),
            "{slug} is claimed though the budget is used up"
        );
        let body = CommandBody::Claim {
            slug: slug.clone(),
            session: World::session(worker),
            attempt,
            deadline: Timestamp(self.clock + 3_600_000),
        };
        assert_eq!(self.send(job, "worker", body), Ok(()), "what is offered may be claimed: {candidate:?}");
        let epoch = self.jobs[job].record.tasks[&slug].epoch;
        let fate = self.fate(worker, candidate.needs.kind);
        let (runner, claimed) = (candidate.needs.runner.clone(), self.now());
        self.held.push(Held { job, slug, epoch, attempt, runner, worker, claimed, fate });
    }

    /// No tenant that could be served at every claim waits longer than the bound.
    fn note_waiting(&mut self, open: &[Candidate], served: &TenantId) {
        for n in 0..TENANTS {
            let who = tenant(n);
            let able = who != *served && open.iter().any(|c| c.tenant == who);
            let others = (0..TENANTS).filter(|m| *m != n).map(|m| self.rules.tenant_weights[&tenant(m)]);
            let most = longest_wait(self.rules.tenant_weights[&who], others);
            let waited = self.waited.entry(who).or_default();
            *waited = if able { *waited + 1 } else { 0 };
            assert!(*waited < most, "t{n} waited for {waited} claims, at most {most}");
        }
    }
}
