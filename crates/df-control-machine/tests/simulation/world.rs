//! The world of one seed: jobs, workers, a clock, and the order in which things happen.

use std::collections::BTreeMap;

use df_contract::decision::Verdict;
use df_contract::{AttemptId, CommandId, DurationMs, JobId, Role, SessionId, TaskSlug, TenantId, Timestamp};
use df_control_machine::schedule::{Breakers, Picked, Rules, Runner, Worker};
use df_control_machine::{
    Actor, Command, CommandBody, Decided, JobRecord, Rejection, Step, decide, job::is_terminal, next_step,
};

use crate::referee::Referee;
use crate::rng::Rng;
use crate::shapes::{self, Size};
use crate::{chaos::Fate, claims};

/// Most steps the control plane may take for a job without anybody else doing something.
const MAX_STEPS: usize = 16;
/// Rounds in which every job must end once nobody disturbs it, beside those its tasks need.
const MAX_ROUNDS: usize = 400;
/// Longest sleep while nothing can be done: longer than anything that the clock was ever put forward by.
const MAX_IDLE_MS: u64 = 864_000_000;

pub(crate) struct Job {
    pub(crate) record: JobRecord,
    pub(crate) referee: Referee,
    /// The version at which the control plane last had nothing to do.
    pub(crate) settled: Option<u64>,
}

/// A lease as its worker sees it, and what becomes of it.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) job: usize,
    pub(crate) slug: TaskSlug,
    pub(crate) epoch: u64,
    pub(crate) attempt: AttemptId,
    pub(crate) runner: Option<Runner>,
    pub(crate) worker: usize,
    pub(crate) claimed: Timestamp,
    pub(crate) fate: Fate,
}

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) size: Size,
    pub(crate) clock: u64,
    /// Counts ids, trees and everything else that must be new.
    pub(crate) count: u64,
    pub(crate) jobs: Vec<Job>,
    pub(crate) workers: Vec<Worker>,
    pub(crate) rules: Rules,
    pub(crate) held: Vec<Held>,
    pub(crate) kept: Picked,
    /// Of each worker.
    pub(crate) breakers: Vec<Breakers>,
    /// Claims of others that each tenant has waited for while it could have been served.
    pub(crate) waited: BTreeMap<TenantId, u64>,
    /// Whether things may go wrong.
    pub(crate) disturbs: bool,
    /// Whether an agent's runtime fails more often than not.
    pub(crate) sick: bool,
    /// A worker, never the first, that hands back whatever it takes.
    pub(crate) leaver: Option<usize>,
    /// Whether every command is shown as it comes.
    pub(crate) shows: bool,
    /// How often what happened.
    pub(crate) census: Census,
    /// Audit bodies of everything accepted.
    log: Vec<u8>,
}

impl World {
    pub(crate) fn new(size: Size, seed: u64) -> Self {
        let mut rng = Rng(seed ^ ((size.tasks() as u64) << 48));
        let rules = claims::rules(&mut rng);
        let (workers, sick) = (claims::workers(&mut rng), rng.chance(15));
        let leaver = (workers.len() > 1 && rng.chance(30)).then(|| workers.len() - 1);
        let breakers = vec![Breakers::new(); workers.len()];
        let mut world = Self {
            rng,
            size,
            clock: 1_000_000_000_000,
            count: 0,
            jobs: Vec::new(),
            workers,
            rules,
            held: Vec::new(),
            kept: Picked::default(),
            breakers,
            waited: BTreeMap::new(),
            disturbs: true,
            sick,
            leaver,
            shows: false,
            census: Census::default(),
            log: Vec::new(),
        };
        world.submit();
        world
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(self.clock)
    }

    /// A number that was not used before.
    pub(crate) fn fresh(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    fn random(&mut self) -> [u8; 10] {
        let mut random = [0; 10];
        random[..8].copy_from_slice(&self.fresh().to_be_bytes());
        random[8..].copy_from_slice(&(self.rng.next() as u16).to_be_bytes());
        random
    }

    pub(crate) fn attempt(&mut self) -> AttemptId {
        AttemptId::mint(self.now(), self.random())
    }

    pub(crate) fn session(worker: usize) -> SessionId {
        SessionId::mint(Timestamp(2), [worker as u8; 10])
    }

    /// A new job, if there may be another one.
    pub(crate) fn submit(&mut self) {
        if self.jobs.len() >= self.size.jobs() {
            return;
        }
        let now = self.now();
        let spec = Box::new(shapes::spec(&mut self.rng, self.size, now));
        let tenant = claims::tenant(self.rng.below(claims::TENANTS));
        let body = CommandBody::Submit { tenant, submitter: "alice".into(), spec };
        let job = JobId::mint(self.now(), self.random());
        let command = self.command(job, "alice", body);
        let decided = decide(None, &command).unwrap();
        let mut referee = Referee::default();
        referee.observe(None, &command, &decided);
        self.note(&decided.audit);
        self.jobs.push(Job { record: decided.record, referee, settled: None });
    }

    fn command(&mut self, job: JobId, actor: &str, body: CommandBody) -> Command {
        let (at, random) = (self.now(), self.random());
        let actor = Actor { name: actor.into(), role: Role::Operator };
        Command { id: CommandId::mint(at, random), job, actor, at, body }
    }

    fn note(&mut self, audit: &[df_control_machine::AuditDraft]) {
        for draft in audit {
            let body = serde_json::to_value(&draft.body).unwrap();
            let name = [&body["kind"], &body["event"]].map(|part| part.as_str().unwrap_or_default());
            self.census.count(name.join(" ").trim_end());
        }
        self.log.extend(serde_json::to_vec(audit).unwrap());
    }

    pub(crate) fn send(&mut self, job: usize, actor: &str, body: CommandBody) -> Result<(), Rejection> {
        let command = self.command(self.jobs[job].record.id, actor, body);
        let at = &mut self.jobs[job];
        let decided = decide(Some(&at.record), &command);
        if self.shows {
            show(job, &command, &decided);
        }
        let decided = decided?;
        at.referee.observe(Some(&at.record), &command, &decided);
        at.record = decided.record;
        self.note(&decided.audit);
        Ok(())
    }

    /// Brings the job forward as far as the control plane can by itself.
    pub(crate) fn advance(&mut self, job: usize) {
        for _ in 0..MAX_STEPS {
            let step = next_step(&self.jobs[job].record, self.now());
            if step == Step::Wait {
                self.jobs[job].settled = Some(self.jobs[job].record.version);
                return;
            }
            self.assign(step, job);
            let body = self.body_of(step, job);
            let told = format!("{step:?} does not fit {:?}", self.jobs[job].record.status());
            assert_eq!(self.send(job, "daemon", body), Ok(()), "{told}");
        }
        panic!("a job takes step after step: {:?}", self.jobs[job].record.status());
    }

    /// Now and then a registered agent is chosen for what is about to be made.
    fn assign(&mut self, step: Step, job: usize) {
        let record = &self.jobs[job].record;
        let slugs: Vec<TaskSlug> = match step {
            Step::StartPlanning => vec!["plan".parse().unwrap()],
            Step::JudgePlan => {
                record.proposed_plan.iter().flat_map(|p| &p.tasks).map(|t| t.slug.clone()).collect()
            }
            _ => return,
        };
        if let Some(slug) = self.rng.one_of(&slugs).filter(|_| self.rng.chance(30)) {
            let agents = [(slug, shapes::agent())].into();
            // Refused when it changes nothing.
            let _assigned = self.send(job, "daemon", CommandBody::AssignAgents { agents });
        }
    }

    fn verdict(&mut self) -> Verdict {
        match self.rng.below(20) {
            0 if self.disturbs => Verdict::Rejected,
            1 | 2 => Verdict::NeedsApproval,
            _ => Verdict::Approved,
        }
    }

    fn body_of(&mut self, step: Step, job: usize) -> CommandBody {
        let longest = if self.rng.chance(20) { 10_000 } else { 50_000_000 };
        let approval_expires_at = self.now().plus(DurationMs(1 + self.rng.next() % longest));
        let verdict = self.verdict();
        let rule = shapes::rule(&mut self.rng);
        match step {
            Step::Wait => unreachable!("a job that waits takes no step"),
            Step::StartAnalysis => CommandBody::StartAnalysis,
            Step::Decide => {
                let decision = Box::new(shapes::decision(&mut self.rng, verdict));
                CommandBody::Decide { decision, approval_expires_at }
            }
            Step::ExpireApproval => CommandBody::ExpireApproval,
            Step::StartPlanning => CommandBody::StartPlanning,
            Step::JudgePlan => {
                let plan_digest = self.jobs[job].record.plan_digest.clone().unwrap();
                CommandBody::JudgePlan { plan_digest, verdict, reasons: vec![], rule, approval_expires_at }
            }
            Step::StartValidation => CommandBody::StartValidation,
            Step::JudgeOutput => CommandBody::JudgeOutput {
                verdict,
                gates: vec![],
                reasons: vec![],
                rule,
                approval_expires_at,
            },
            Step::AskDelivery => CommandBody::AskDelivery { rule, approval_expires_at },
            Step::StartDelivery => CommandBody::StartDelivery,
            Step::Complete => CommandBody::Complete,
            Step::PauseForBudget => CommandBody::Pause { cause: "budget".into() },
            Step::FailForTime => CommandBody::Fail { cause: "time".into() },
            Step::FailForTask => CommandBody::Fail { cause: "task".into() },
            Step::Replan => CommandBody::Replan,
        }
    }

    /// The daemon stops and starts: what it goes on with is what was written.
    pub(crate) fn restart(&mut self) {
        for job in &mut self.jobs {
            let kept = serde_json::to_vec(&job.record).unwrap();
            let read: JobRecord = serde_json::from_slice(&kept).unwrap();
            assert_eq!(read, job.record, "a record reads back as it was written");
            (job.record, job.settled) = (read, None);
        }
    }

    /// Everything at random for a while.
    pub(crate) fn disturbed(&mut self) {
        for _ in 0..self.rng.below(40 * self.size.tasks()) + 20 {
            self.disturb();
        }
    }

    /// Workers work, people agree, time goes on: every job must end.
    pub(crate) fn undisturbed(&mut self) {
        self.disturbs = false;
        let tasks: usize = self.jobs.iter().map(|j| j.record.tasks.len()).sum();
        let mut idle_ms = 30_000;
        for _ in 0..MAX_ROUNDS + 4 * tasks {
            let before: u64 = self.jobs.iter().map(|j| j.record.version).sum();
            for job in 0..self.jobs.len() {
                self.advance(job);
                self.agree(job);
                self.advance(job);
            }
            // Whoever comes first.
            let first = self.rng.below(self.workers.len());
            for worker in 0..self.workers.len() {
                while self.claim((worker + first) % self.workers.len()) {}
            }
            while !self.held.is_empty() {
                self.finish(0);
            }
            if self.jobs.iter().all(|j| is_terminal(j.record.state)) {
                return;
            }
            let after: u64 = self.jobs.iter().map(|j| j.record.version).sum();
            idle_ms = if after == before { (idle_ms * 2).min(MAX_IDLE_MS) } else { 30_000 };
            self.clock += idle_ms;
        }
        let left: Vec<_> =
            self.jobs.iter().filter(|j| !is_terminal(j.record.state)).map(Job::shown).collect();
        panic!("jobs do not end: {left:#?}");
    }

    /// What holds at the end of the world; answers the digest of all that was audited, and what there was of what.
    pub(crate) fn ended(mut self) -> (df_contract::Digest, Census) {
        for job in &self.jobs {
            job.referee.at_the_end(&job.record);
            self.census.count(job.record.state.as_str());
            for task in job.record.tasks.values() {
                self.census.count(if task.tolerated { "task done without" } else { "task" });
                if task.conflict.is_some() {
                    self.census.count(&format!("conflict {}", task.state));
                }
            }
        }
        (df_contract::Digest::of(&self.log), self.census)
    }
}

/// How often what happened, by name.
#[derive(Debug, Default)]
pub(crate) struct Census(pub(crate) BTreeMap<String, u64>);

impl Census {
    pub(crate) fn count(&mut self, what: &str) {
        *self.0.entry(what.to_owned()).or_default() += 1;
    }
}

#[expect(clippy::print_stderr, reason = "whoever replays a world wants to see it")]
fn show(job: usize, command: &Command, decided: &Result<Decided, Rejection>) {
    let (at, who, name) = (command.at.0, &command.actor.name, command.body.name());
    match decided {
        Err(refused) => eprintln!("{at} job {job}: {who}: {name}: refused: {refused}"),
        Ok(decided) => {
            eprintln!("{at} job {job}: {who}: {name}");
            for draft in &decided.audit {
                let slug = draft.slug.as_ref().map_or("", |slug| slug.as_str());
                eprintln!("    {slug} {}", serde_json::to_string(&draft.body).unwrap());
            }
        }
    }
}

impl Job {
    fn shown(&self) -> String {
        let open = self.record.tasks.values().filter(|t| !df_control_machine::task::is_ended(t.state));
        let open: Vec<_> = open.map(|t| format!("{} {} after {:?}", t.slug, t.state, t.not_before)).collect();
        format!("{:?} {:?} {:?}", self.record.status(), self.record.cause, open)
    }
}
