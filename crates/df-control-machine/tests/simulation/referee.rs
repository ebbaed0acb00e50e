//! The referee: follows each job by its audit records alone and compares with what the machine says.

use std::collections::{BTreeMap, BTreeSet};

use df_contract::api::Spend;
use df_contract::{DurationMs, FailureKind, JobState, LeaseKind, TaskSlug, TaskState};
use df_control_machine::task::{TaskEvent, is_ended};
use df_control_machine::{
    AuditBody, AuditDraft, Caps, Command, CommandBody, Decided, Effect, JobRecord, ReturnCause, invariants,
    replay, retry,
};

/// Records of large jobs are looked through as a whole this often.
const WHOLE_EVERY: u64 = 16;

#[derive(Debug, Default)]
pub(crate) struct Referee {
    state: Option<(JobState, Option<JobState>)>,
    tasks: BTreeMap<TaskSlug, Seen>,
    /// Results that were accepted.
    accepted: BTreeSet<(TaskSlug, u64)>,
    caps: Option<Caps>,
    spend: Spend,
    told: BTreeSet<String>,
}

#[derive(Debug)]
struct Seen {
    kind: LeaseKind,
    state: TaskState,
    epoch: u64,
    /// The epoch of the lease that is out.
    live: Option<u64>,
    spend: Spend,
    /// Hand-backs since an attempt was last reported, or the task was taken back to its beginning.
    handed_back: u32,
}

fn name(event: impl serde::Serialize) -> String {
    serde_json::to_value(event).unwrap().as_str().unwrap().to_owned()
}

impl Referee {
    pub(crate) fn observe(&mut self, before: Option<&JobRecord>, command: &Command, decided: &Decided) {
        let after = &decided.record;
        assert!(!decided.audit.is_empty(), "{:?} leaves no record", command.body);
        assert_eq!(after.version, before.map_or(0, |b| b.version) + 1);
        for draft in &decided.audit {
            self.read(before, command, decided, draft);
        }
        self.hand_backs(before, command, after);
        assert_eq!(self.state.unwrap_or((JobState::Draft, None)), (after.state, after.resume_to));
        let none = df_control_machine::Tasks::default();
        for (task, _) in after.tasks.changed_since(before.map_or(&none, |b| &b.tasks)) {
            let seen = &self.tasks[&task.slug];
            assert_eq!(
                (seen.state, seen.epoch, seen.handed_back),
                (task.state, task.epoch, task.handed_back),
                "{} after {:?}",
                task.slug,
                command.body
            );
            tried_within_bounds(after, task);
        }
        head_moves_by_merges_alone(before, command, after);
        assert_eq!(after.spend, self.spend, "what is spent adds up");
        assert_eq!(after.caps(), self.caps, "caps are as decided or as voted");
        if after.tasks.len() < 60 || after.version.is_multiple_of(WHOLE_EVERY) {
            assert_eq!(invariants::broken(after), Vec::<String>::new(), "after {:?}", command.body);
        }
    }

    /// Hand-backs in a row are counted, cost nothing else, and wait from the third on.
    fn hand_backs(&mut self, before: Option<&JobRecord>, command: &Command, after: &JobRecord) {
        match &command.body {
            CommandBody::Return { slug, cause: ReturnCause::Drained, .. } => {
                let (seen, task) = (self.tasks.get_mut(slug).unwrap(), &after.tasks[slug]);
                let was = &before.unwrap().tasks[slug];
                seen.handed_back += 1;
                let doubled = 1_000 << (seen.handed_back.max(3) - 3).min(6);
                let wait =
                    if seen.handed_back > 2 { DurationMs(doubled.min(60_000)) } else { DurationMs::ZERO };
                let until = if wait.0 > 0 { command.at.plus(wait) } else { was.not_before };
                assert_eq!(task.not_before, until, "{slug}, handed back {} times", seen.handed_back);
                assert_eq!((task.lost_leases, &task.failures), (was.lost_leases, &was.failures), "{slug}");
            }
            CommandBody::Report { slug, .. } => self.tasks.get_mut(slug).unwrap().handed_back = 0,
            _ => {}
        }
    }

    fn read(&mut self, before: Option<&JobRecord>, command: &Command, decided: &Decided, draft: &AuditDraft) {
        match &draft.body {
            AuditBody::Job { event, from, to, resume_to, .. } => {
                let (state, resumes) = self.state.unwrap_or((JobState::Draft, None));
                assert_eq!(state, *from);
                assert_eq!(replay::job_step(state, resumes, &name(event)), Ok((*to, *resume_to)));
                self.state = Some((*to, *resume_to));
            }
            AuditBody::TaskCreated { lease, state, .. } => {
                let seen = Seen {
                    kind: *lease,
                    state: *state,
                    epoch: 0,
                    live: None,
                    spend: Spend::default(),
                    handed_back: 0,
                };
                let slug = draft.slug.clone().unwrap();
                assert!(self.tasks.insert(slug.clone(), seen).is_none(), "{slug} is made once");
            }
            AuditBody::Task { event, from, to, .. } => {
                self.moved(command, decided, draft, *event, *from, *to)
            }
            AuditBody::Decided { decision } => {
                let o = &decision.obligations;
                self.caps = Some(Caps { tokens: o.tokens, money_nano_usd: o.money_nano_usd });
            }
            AuditBody::BudgetRaised { caps } => {
                let request = before.and_then(|b| b.budget_request.as_ref()).unwrap();
                assert_eq!(request.caps, *caps, "what was asked for is what is given");
                assert!(matches!(command.body, CommandBody::Vote { approve: true, .. }));
                let voter = &command.actor.name;
                assert!(
                    *voter != request.by && *voter != decided.record.submitter,
                    "{voter} raised their own"
                );
                assert!(self.caps.is_none_or(|old| caps.tokens >= old.tokens), "caps never fall");
                self.caps = Some(*caps);
            }
            AuditBody::Spent { spend, .. } => {
                self.spend.add(spend);
                self.tasks.get_mut(draft.slug.as_ref().unwrap()).unwrap().spend.add(spend);
            }
            AuditBody::Message { .. } => {
                let CommandBody::Message { text, .. } = &command.body else { panic!("nobody said anything") };
                self.told.insert(text.clone());
            }
            AuditBody::Submitted { .. }
            | AuditBody::AgentsAssigned { .. }
            | AuditBody::PlanJudged { .. }
            | AuditBody::ApprovalRequested { .. }
            | AuditBody::Voted { .. }
            | AuditBody::PlanAccepted { .. }
            | AuditBody::Produced { .. }
            | AuditBody::Traced { .. }
            | AuditBody::Evidence { .. }
            | AuditBody::OutputJudged { .. }
            | AuditBody::Delivered { .. }
            | AuditBody::BudgetRequested { .. }
            | AuditBody::BudgetDenied { .. }
            | AuditBody::Replanned { .. }
            | AuditBody::RolledBack { .. }
            | AuditBody::PriorityChanged { .. } => {}
        }
    }

    fn moved(
        &mut self,
        command: &Command,
        decided: &Decided,
        draft: &AuditDraft,
        event: TaskEvent,
        from: TaskState,
        to: TaskState,
    ) {
        let slug = draft.slug.as_ref().unwrap();
        let seen = self.tasks.get_mut(slug).unwrap();
        let held = seen.epoch;
        assert_eq!(seen.state, from, "{slug}");
        assert_eq!(replay::task_step(from, held, &name(event)), Ok((to, draft.epoch.unwrap())), "{slug}");
        (seen.state, seen.epoch) = (to, draft.epoch.unwrap());
        if event == TaskEvent::RolledBack {
            seen.handed_back = 0;
        }
        let lived = seen.live.take();
        assert_eq!(lived, (from == TaskState::Leased).then_some(held), "{slug}");
        if from == TaskState::Leased && seen.kind == LeaseKind::Agent {
            let revoked = Effect::RevokeGrants { slug: slug.clone(), epoch: held };
            assert!(decided.effects.contains(&revoked), "the grant of {slug} works on after {event:?}");
        }
        if event == TaskEvent::Claimed {
            seen.live = Some(seen.epoch);
            self.parents_are_merged(&decided.record, slug);
        }
        if event == TaskEvent::Succeeded {
            let CommandBody::Report { slug: of, epoch, .. } = &command.body else {
                panic!("{slug} succeeds without a report")
            };
            assert_eq!((of, Some(*epoch)), (slug, lived), "a result is that of the lease that is out");
            assert!(self.accepted.insert((slug.clone(), held)), "{slug} has two results of one lease");
        }
    }

    /// By the plan, not by what the machine wrote into the task.
    fn parents_are_merged(&self, record: &JobRecord, slug: &TaskSlug) {
        let task = &record.tasks[slug];
        let state = |slug: &str| self.tasks.get(&slug.parse::<TaskSlug>().unwrap()).map(|t| t.state);
        if task.conflict.is_none() {
            for parent in task.plan_task.iter().flat_map(|t| &t.depends_on) {
                let merged = state(&format!("integrate.{parent}"));
                assert_eq!(merged, Some(TaskState::Succeeded), "{slug} runs before {parent} is merged");
            }
        }
        if let Some(of) = &task.merges {
            assert_eq!(state(of.as_str()), Some(TaskState::Succeeded), "{slug} merges what is not made");
        }
        let earlier =
            |t: &&df_control_machine::TaskRecord| t.wave > 0 && t.wave < task.wave && !is_ended(t.state);
        assert_eq!(record.tasks.values().find(earlier).map(|t| &t.slug), None, "{slug} runs before its wave");
    }

    pub(crate) fn at_the_end(&self, record: &JobRecord) {
        assert_eq!(invariants::broken(record), Vec::<String>::new());
        assert_eq!(self.tasks.len(), record.tasks.len());
        for task in record.tasks.values() {
            let seen = &self.tasks[&task.slug];
            assert_eq!((seen.state, seen.epoch), (task.state, task.epoch), "{}", task.slug);
            assert_eq!(seen.spend, task.spend, "{}", task.slug);
            assert!(is_ended(task.state), "{} is {} in a job that ended", task.slug, task.state);
            let results = self.accepted.iter().filter(|(slug, _)| *slug == task.slug).count();
            assert!(results as u32 <= task.attempts, "{}: more results than attempts", task.slug);
        }
        let texts: BTreeSet<String> = record.messages.iter().map(|m| m.text.clone()).collect();
        assert_eq!(texts, self.told, "what was said is kept");
        for message in &record.messages {
            let given = record.tasks.values().filter(|t| t.messages.contains(&message.text)).count();
            assert_eq!(given, usize::from(message.given_to.is_some()), "{message:?} is given once");
        }
    }
}

fn tried_within_bounds(record: &JobRecord, task: &df_control_machine::TaskRecord) {
    for kind in FailureKind::ALL {
        let failures = task.failures.iter().filter(|f| f.kind == *kind).count();
        let most = record.retry_rule(*kind).attempts as usize;
        assert!(failures <= most, "{} failed {failures} times of {kind:?}, at most {most}", task.slug);
    }
    assert!(task.lost_leases <= retry::MAX_LOST_LEASES + 1, "{}", task.slug);
    if let Some(granted) = record.decision.as_ref().and_then(|d| d.obligations.max_attempts) {
        assert!(task.lost_leases <= granted.get(), "{} lost {} leases", task.slug, task.lost_leases);
        for kind in FailureKind::ALL {
            let failures = task.failures.iter().filter(|f| f.kind == *kind).count();
            assert!(
                failures <= granted.get() as usize,
                "{} had {granted} attempts after {kind:?}",
                task.slug
            );
        }
    }
}

fn head_moves_by_merges_alone(before: Option<&JobRecord>, command: &Command, after: &JobRecord) {
    if before.is_none_or(|b| b.head == after.head) {
        return;
    }
    match &command.body {
        CommandBody::Report { slug, .. } => {
            let task = &after.tasks[slug];
            let moves = matches!(task.kind, LeaseKind::Intake | LeaseKind::Integrate);
            assert!(moves && task.state == TaskState::Succeeded, "{slug} moved the job branch");
        }
        CommandBody::Rollback { to } => {
            let tree =
                to.as_ref().map(|to| &after.tasks[&format!("integrate.{to}").parse().unwrap()].output.tree);
            assert_eq!(&after.head, tree.unwrap_or(&after.base), "back to where it was");
        }
        other => panic!("{other:?} moved the job branch"),
    }
}
