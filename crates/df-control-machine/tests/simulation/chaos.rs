//! What goes wrong, and how leases end.

use df_contract::api::Spend;
use df_contract::task::Product;
use df_contract::{AttemptOutcome, ErrorCode, FailureKind, LeaseKind, NanoUsd, TaskState, Tokens};
use df_control_machine::place::Line;
use df_control_machine::{Breaker, BreakerEvent, CommandBody, Rejection, ReturnCause, TaskRecord, retry};

use crate::shapes;
use crate::world::{Held, World};

/// What becomes of a lease.
#[derive(Debug, Clone)]
pub(crate) enum Fate {
    Succeeds,
    /// It reports the success a second time.
    SucceedsTwice,
    Fails(FailureKind),
    /// It reports something that no lease of its kind makes.
    Breaks,
    /// It is taken back; its worker reports all the same.
    Returned(ReturnCause),
}

const CAUSES: &[ReturnCause] = &[
    ReturnCause::SessionEnded,
    ReturnCause::Drained,
    ReturnCause::AgentDisabled,
    ReturnCause::NotMade,
    ReturnCause::Deadline,
    ReturnCause::Stalled,
];

impl World {
    pub(crate) fn fate(&mut self, worker: usize, kind: LeaseKind) -> Fate {
        if self.leaver == Some(worker) {
            return Fate::Returned(ReturnCause::Drained);
        }
        if !self.disturbs {
            return Fate::Succeeds;
        }
        let merging = [FailureKind::MergeConflict, FailureKind::CheckFailure];
        match self.rng.below(100) {
            0..70 if self.sick && kind == LeaseKind::Agent => Fate::Fails(FailureKind::AgentCrash),
            0..16 => Fate::Fails(self.rng.one_of(FailureKind::ALL).unwrap()),
            16..32 if kind == LeaseKind::Integrate => Fate::Fails(self.rng.one_of(&merging).unwrap()),
            32..42 => Fate::Returned(self.rng.one_of(CAUSES).unwrap()),
            42..46 => Fate::SucceedsTwice,
            46..48 => Fate::Breaks,
            _ => Fate::Succeeds,
        }
    }

    /// One thing happens.
    pub(crate) fn disturb(&mut self) {
        self.clock += self.rng.next() % 5_000;
        let job = self.rng.below(self.jobs.len());
        match self.rng.below(100) {
            0..45 => {
                let worker = self.rng.below(self.workers.len());
                self.claim(worker);
            }
            45..80 if !self.held.is_empty() => {
                let held = self.rng.below(self.held.len());
                self.finish(held);
            }
            80..88 => self.meddle(job),
            88..90 => self.submit(),
            90..92 => self.nonsense(job),
            92 => self.clock += self.rng.next() % if self.rng.chance(20) { 86_400_000 } else { 7_200_000 },
            93 => self.clock = self.clock.saturating_sub(self.rng.next() % 3_600_000),
            94 => self.restart(),
            _ => self.agree(job),
        }
        // Now and then the control plane comes late.
        for job in 0..self.jobs.len() {
            if self.rng.chance(70) {
                self.advance(job);
            }
        }
    }

    /// A lease ends, one way or another.
    pub(crate) fn finish(&mut self, held: usize) {
        let held = self.held.swap_remove(held);
        self.spend(&held);
        let record = &self.jobs[held.job].record;
        let task = &record.tasks[&held.slug];
        let live = task.state == TaskState::Leased && task.epoch == held.epoch;
        let n = self.fresh();
        let record = self.jobs[held.job].record.clone();
        let good = AttemptOutcome::Succeeded {
            product: shapes::product(&mut self.rng, self.size, &record, &held.slug, n),
        };
        let failed = |kind| AttemptOutcome::Failed { kind, detail: "it went wrong".into(), trace: None };
        self.census.count(&match (&held.fate, live) {
            (_, false) => "end of a lease that had ended".to_owned(),
            (Fate::Fails(kind), true) => format!("failure {}", kind.as_str()),
            (Fate::Returned(cause), true) => format!("return {cause:?}"),
            (Fate::Succeeds | Fate::SucceedsTwice | Fate::Breaks, true) => format!("{:?}", held.fate),
        });
        let event = match held.fate.clone() {
            Fate::Succeeds => self.report(&held, good, live).map(|()| BreakerEvent::Worked),
            Fate::SucceedsTwice => {
                let first = self.report(&held, good.clone(), live);
                self.report(&held, good, false).unwrap_err();
                first.map(|()| BreakerEvent::Worked)
            }
            Fate::Fails(kind) => self.report(&held, failed(kind), live).map(|()| BreakerEvent::of(kind)),
            Fate::Breaks => {
                let facts = df_contract::SourceFacts::default();
                let odd = match record.tasks[&held.slug].kind {
                    LeaseKind::Intake => Product::Merge { tree: shapes::tree(n), checks: vec![] },
                    LeaseKind::Agent | LeaseKind::Integrate | LeaseKind::Validate | LeaseKind::Deliver => {
                        Product::Intake { facts, base: shapes::tree(n) }
                    }
                };
                let outcome = AttemptOutcome::Succeeded { product: odd };
                self.report(&held, outcome, live).map(|()| BreakerEvent::of(FailureKind::ContractBreach))
            }
            Fate::Returned(cause) => {
                let (slug, epoch) = (held.slug.clone(), held.epoch);
                let body = CommandBody::Return { slug, epoch, cause, detail: "gone".into() };
                let returned = self.send(held.job, "reaper", body);
                assert_eq!(returned.is_ok(), live, "{held:?}: {returned:?}");
                self.report(&held, good, false).unwrap_err();
                let task = &self.jobs[held.job].record.tasks[&held.slug];
                if returned.is_ok() && task.handed_back > retry::FREE_HAND_BACKS {
                    self.census.count("hand-back that waits");
                }
                returned.map(|()| BreakerEvent::Unknown)
            }
        };
        if let Some(runner) = &held.runner {
            let (event, now) = (event.unwrap_or(BreakerEvent::Unknown), self.now());
            let own = self.breakers[held.worker].entry(record.tenant.clone()).or_default();
            let breaker = own.entry(runner.clone()).or_default();
            *breaker = breaker.after(event, held.claimed, now);
            if matches!(breaker, Breaker::Open { trips: 1, .. }) {
                self.census.count("breaker opened");
            }
        }
    }

    /// A report is heard exactly while its lease lives.
    fn report(&mut self, held: &Held, outcome: AttemptOutcome, live: bool) -> Result<(), Rejection> {
        let body = CommandBody::Report {
            slug: held.slug.clone(),
            epoch: held.epoch,
            attempt: held.attempt,
            outcome: Box::new(outcome),
            sandbox_layers: vec![],
            evidence: Vec::new(),
        };
        let heard = self.send(held.job, "worker", body);
        match &heard {
            Ok(()) => assert!(live, "a lease that ended is heard: {held:?}"),
            Err(refused) => {
                assert!(!live, "{held:?} is not heard: {refused}");
                assert_eq!(refused.code(), ErrorCode::StaleLease, "{held:?}: {refused}");
            }
        }
        heard
    }

    /// What the proxy lets through: never more than is left of the caps.
    fn spend(&mut self, held: &Held) {
        let record = &self.jobs[held.job].record;
        let Some(caps) = record.caps().filter(|_| held.runner.is_some()) else { return };
        let left = caps.tokens.saturating_sub(record.spend.tokens());
        let money =
            caps.money_nano_usd.map_or(NanoUsd(u64::MAX), |cap| cap.saturating_sub(record.spend.nano_usd));
        let spend = Spend {
            calls: 1,
            input_tokens: Tokens(self.rng.next() % 60).min(left),
            output_tokens: Tokens(0),
            nano_usd: NanoUsd(self.rng.next() % 400).min(money),
        };
        let through = self.fresh();
        let body = CommandBody::RecordSpend { slug: held.slug.clone(), spend, through };
        self.send(held.job, "daemon", body).unwrap();
    }

    /// Commands that mostly do not fit. A refusal changes nothing; an acceptance is judged like any other.
    fn nonsense(&mut self, job: usize) {
        let record = &self.jobs[job].record;
        let slugs: Vec<_> = record.tasks.keys().cloned().collect();
        let slug = self.rng.one_of(&slugs).filter(|_| self.rng.chance(80));
        let slug = slug.unwrap_or_else(|| "nobody".parse().unwrap());
        let epoch = self.rng.next() % 6;
        let attempt = self.attempt();
        let (session, deadline) = (World::session(9), self.now());
        let body = match self.rng.below(9) {
            0 => CommandBody::Complete,
            1 => CommandBody::StartAnalysis,
            2 => CommandBody::StartPlanning,
            3 => CommandBody::StartValidation,
            4 => CommandBody::StartDelivery,
            5 => CommandBody::ExpireApproval,
            6 => CommandBody::Replan,
            7 => {
                let outcome = AttemptOutcome::Failed {
                    kind: FailureKind::AgentCrash,
                    detail: String::new(),
                    trace: None,
                };
                CommandBody::Report {
                    slug,
                    epoch,
                    attempt,
                    outcome: Box::new(outcome),
                    sandbox_layers: vec![],
                    evidence: Vec::new(),
                }
            }
            _ => {
                // What stands in line is offered; nothing else may be claimed.
                let record = &self.jobs[job].record;
                let stands =
                    |t: &TaskRecord| Line::of(record).has(t) && retry::is_due(t.not_before, deadline);
                let merge = |t: &TaskRecord| t.kind == LeaseKind::Integrate && t.state == TaskState::Ready;
                if record.tasks.get(&slug).is_some_and(|t| stands(t) || merge(t)) {
                    return;
                }
                CommandBody::Claim { slug, session, attempt, deadline }
            }
        };
        let report = matches!(body, CommandBody::Report { .. } | CommandBody::Claim { .. });
        let answer = self.send(job, "mallory", body);
        assert!(!report || answer.is_err(), "nobody's attempt is nobody's result");
    }
}
