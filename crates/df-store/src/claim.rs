//! Claims: who is served is the pure scheduler's choice, whether a task may be claimed is decide()'s word; here is what
//! the choice is made from, and what is kept of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use df_contract::{JobId, Role, TaskSlug, TaskState, TenantId, Timestamp};
use df_control_machine::schedule::{
    Candidate, Needs, Picked, Round, Rules, Running, Worker, breaker_of, pick,
};
use df_control_machine::{
    Actor, BreakerEvent, BreakerKey, Command, CommandBody, JobRecord, TaskRecord, place,
};

use crate::StoreError;
use crate::lease::{live, readable};
use crate::queue::{self, Waiting};
use crate::row::{ClaimRequest, JobRow, SessionRow};
use crate::rows::Kept;
use crate::transition::{Tx, apply};

/// Most queues of one tenant that a claim reads tasks of: one for each set of needs. Beyond it the tenant's own tasks
/// wait, and nobody else's.
const MAX_QUEUES: usize = 1_024;
/// Most queues of one tenant that a claim looks at, whatever they need.
const MAX_LOOKED_AT: usize = 16_384;
/// Queues read at once.
const QUEUES_PER_READ: u32 = 1_024;
/// Fewest tasks read of a queue, where there are so many.
const MIN_PAGE: u32 = 4;
/// Most times that one claim looks again because what it found could not be had.
const MAX_ROUNDS: u32 = 64;
/// Where the virtual time is kept.
const VIRTUAL_TIME: &str = "virtual_time";

struct Claims<'a> {
    request: &'a ClaimRequest,
    session: &'a SessionRow,
    wanted: usize,
    taken: Vec<(Arc<JobRecord>, TaskSlug)>,
    /// Jobs of which something was refused, or that cannot be read.
    passed_over: BTreeSet<JobId>,
}

pub(crate) fn claim(tx: &mut Tx<'_>, request: &ClaimRequest) -> Kept<Vec<(Arc<JobRecord>, TaskSlug)>> {
    let session = live(tx, request.session, request.now)?;
    let free = session.capacity.saturating_sub(tx.rows.leases_held(session.id)?) as usize;
    let wanted = request.mints.len().min(free);
    if wanted == 0 {
        return Ok(Vec::new());
    }
    let worker = Worker {
        class: session.class,
        labels: session.labels.clone(),
        tiers: session.tiers.clone(),
        runtimes: session.runtimes.clone(),
    };
    let fits = |needs: &Needs| request.kinds.contains(&needs.kind) && worker.fits(needs);
    let queues = without_disabled(tx, queues_for(tx, &fits, MAX_QUEUES, MAX_LOOKED_AT)?)?;
    let (taken, passed_over) = (Vec::new(), BTreeSet::new());
    let mut claims = Claims { request, session: &session, wanted, taken, passed_over };
    for _ in 0..MAX_ROUNDS {
        if queues.is_empty() || !claims.round(tx, &worker, &queues)? {
            break;
        }
    }
    Ok(claims.taken)
}

/// What is for a disabled version of an agent waits until it is enabled.
fn without_disabled(
    tx: &Tx<'_>,
    queues: Vec<(String, TenantId, Needs)>,
) -> Kept<Vec<(String, TenantId, Needs)>> {
    let mut open = Vec::with_capacity(queues.len());
    for (name, tenant, needs) in queues {
        let off = match (&needs.runner, &needs.version) {
            (Some(runner), Some(version)) => tx.rows.agent_is_off(&tenant, &runner.agent, version)?,
            (_, _) => false,
        };
        if !off {
            open.push((name, tenant, needs));
        }
    }
    Ok(open)
}

/// The queues that fit, up to `most` of each tenant, of which `in_all` are looked at: what one tenant asks for never
/// hides the tasks of another.
pub(crate) fn queues_for(
    tx: &Tx<'_>,
    fits: &dyn Fn(&Needs) -> bool,
    most: usize,
    in_all: usize,
) -> Kept<Vec<(String, TenantId, Needs)>> {
    let (mut found, mut after) = (Vec::new(), String::new());
    // Of the tenant whose queues come now.
    let (mut own, mut taken, mut seen) = (None, 0, 0);
    loop {
        let page = tx.rows.queues(&after, QUEUES_PER_READ)?;
        let is_last = page.len() < QUEUES_PER_READ as usize;
        let mut skip = None;
        for name in page {
            after.clone_from(&name);
            let Some((tenant, needs)) = queue::parsed(&name) else {
                tracing::error!(queue = name, "a queue is passed over, its name is damaged");
                continue;
            };
            if own.as_ref() != Some(&tenant) {
                (own, taken, seen) = (Some(tenant.clone()), 0, 0);
            }
            if taken >= most || seen >= in_all {
                skip = Some(queue::past(&tenant));
                break;
            }
            seen += 1;
            if fits(&needs) {
                taken += 1;
                found.push((name, tenant, needs));
            }
        }
        match skip {
            Some(past) => after = past,
            None if is_last => return Ok(found),
            None => {}
        }
    }
}

impl Claims<'_> {
    /// Returns whether another round may find more.
    fn round(
        &mut self,
        tx: &mut Tx<'_>,
        worker: &Worker,
        queues: &[(String, TenantId, Needs)],
    ) -> Kept<bool> {
        let rules: &Rules = &self.request.rules;
        let running = if has_caps(rules) { tx.rows.running()? } else { Running::default() };
        let mut without = self.passed_over.clone();
        if let Some(cap) = rules.max_per_job {
            without.extend(running.jobs.iter().filter(|(_, held)| **held >= cap).map(|(job, _)| *job));
        }
        let page = u32::try_from(self.wanted - self.taken.len()).unwrap_or(u32::MAX).max(MIN_PAGE);
        let (mut candidates, mut more) = (Vec::new(), false);
        let breakers = tx.rows.breakers_of(&self.session.name)?;
        for (name, tenant, needs) in queues {
            let held = running.tenants.get(tenant).copied().unwrap_or(0);
            let shut = breaker_of(&breakers, tenant, needs).is_some_and(|b| !b.admits(self.request.now));
            // Of such a queue nothing can be had here, and others claim from it as ever.
            if shut || rules.tenant_cap(tenant).is_some_and(|cap| held >= cap) {
                continue;
            }
            let found = tx.rows.waiting(name, self.request.now, &without, page)?;
            more |= found.len() == page as usize;
            candidates.extend(found.into_iter().map(|waiting| candidate(tenant, needs, waiting)));
        }
        if candidates.is_empty() {
            return Ok(false);
        }
        let round = Round {
            now: self.request.now,
            worker,
            rules,
            candidates,
            running,
            virtual_time: virtual_time(tx)?,
            passes: tx.rows.passes()?,
            breakers,
        };
        let before = (self.taken.len(), self.passed_over.len());
        let picked = pick(round, self.wanted - before.0, |candidate| self.take(tx, candidate))?;
        keep(tx, self.session, &picked, self.request.now)?;
        let moved = before != (self.taken.len(), self.passed_over.len());
        Ok(more && moved && self.taken.len() < self.wanted)
    }

    fn take(&mut self, tx: &mut Tx<'_>, candidate: &Candidate) -> Kept<bool> {
        let (job, slug) = (candidate.job, &candidate.slug);
        let Some((id, attempt)) = self.request.mints.get(self.taken.len()) else { return Ok(false) };
        if self.passed_over.contains(&job) {
            return Ok(false);
        }
        let row = readable(tx, job)?;
        let Some((record, task)) =
            row.as_ref().and_then(|row| Some((&row.record, row.record.tasks.get(slug)?)))
        else {
            self.passed_over.insert(job);
            return Ok(false);
        };
        let deadline = self.request.now.plus((self.request.wall)(record, task));
        let session = self.session.id;
        let command = Command {
            id: *id,
            job,
            actor: Actor { name: self.session.name.clone(), role: Role::Worker },
            at: self.request.now,
            body: CommandBody::Claim { slug: slug.clone(), session, attempt: *attempt, deadline },
        };
        match apply(tx, &command)? {
            Ok(_) => {
                let row = tx.job(job)?.ok_or_else(|| crate::rows::moved(job))?;
                self.taken.push((row.record, slug.clone()));
                Ok(true)
            }
            Err(refused) => {
                tracing::debug!(%job, task = %slug, error = %refused, "a task is passed over");
                self.passed_over.insert(job);
                Ok(false)
            }
        }
    }
}

fn candidate(tenant: &TenantId, needs: &Needs, waiting: Waiting) -> Candidate {
    let Waiting { job, slug, urgency, rank } = waiting;
    Candidate { job, slug, tenant: tenant.clone(), needs: needs.clone(), urgency, rank }
}

/// Without any cap nobody needs to count.
fn has_caps(rules: &Rules) -> bool {
    let Rules { tenant_weights: _, max_per_tenant, tenants, max_per_job, agents, runtimes } = rules;
    max_per_tenant.is_some()
        || max_per_job.is_some()
        || !(tenants.is_empty() && agents.is_empty() && runtimes.is_empty())
}

fn virtual_time(tx: &Tx<'_>) -> Kept<u64> {
    let text = tx.rows.meta(VIRTUAL_TIME)?;
    let parse = |text: String| {
        text.parse().map_err(|_| StoreError::Row { table: "meta", why: format!("virtual time `{text}`") })
    };
    text.map_or(Ok(0), parse)
}

/// Keeps what the next round goes on from.
fn keep(tx: &mut Tx<'_>, session: &SessionRow, picked: &Picked, now: Timestamp) -> Kept<()> {
    if picked.taken.is_empty() {
        return Ok(());
    }
    tx.rows.meta_write(VIRTUAL_TIME, &picked.virtual_time.to_string())?;
    tx.rows.passes_forget(picked.virtual_time)?;
    for (tenant, pass) in &picked.passes {
        tx.rows.pass_write(tenant, *pass)?;
    }
    for (tenant, own) in &picked.breakers {
        for (runner, breaker) in own {
            let (worker, tenant, runner) = (session.name.clone(), tenant.clone(), runner.clone());
            tx.rows.breaker_write(&BreakerKey { worker, tenant, runner }, *breaker, now)?;
        }
    }
    Ok(())
}

/// Tells the breakers of agents whose leases a transition has ended how these went.
pub(crate) fn tell_breakers(tx: &mut Tx<'_>, before: &JobRow, after: &JobRow, at: Timestamp) -> Kept<()> {
    for (task, old) in after.record.tasks.changed_since(&before.record.tasks) {
        let Some((event, runner, session, claimed)) = old.and_then(|old| {
            let (event, runner) = (ended(old, task)?, place::needs(&before.record, old).runner?);
            Some((event, runner, old.session?, old.leased_at?))
        }) else {
            continue;
        };
        // A session is kept as long as it holds a lease.
        let Some(session) = tx.rows.session(session)? else { continue };
        let key = BreakerKey { worker: session.name, tenant: before.record.tenant.clone(), runner };
        let breaker = tx.rows.breaker(&key)?.unwrap_or_default();
        let told = breaker.after(event, claimed, at);
        if told != breaker {
            let BreakerKey { worker, tenant, runner } = &key;
            let runtime = runner.runtime.as_str();
            tracing::debug!(worker, %tenant, agent = %runner.agent, runtime, ?told, "breaker moved");
            tx.rows.breaker_write(&key, told, at)?;
        }
    }
    Ok(())
}

/// What the end of a lease says about who ran it.
fn ended(old: &TaskRecord, task: &TaskRecord) -> Option<BreakerEvent> {
    if old.state != TaskState::Leased || (task.state == TaskState::Leased && task.epoch == old.epoch) {
        return None;
    }
    let failure = task.failures.last().filter(|_| task.failures.len() > old.failures.len());
    Some(match (failure, task.state) {
        (Some(failure), _) => BreakerEvent::of(failure.kind),
        (None, TaskState::Succeeded) => BreakerEvent::Worked,
        (
            None,
            TaskState::Pending
            | TaskState::Ready
            | TaskState::Leased
            | TaskState::Failed
            | TaskState::Cancelled
            | TaskState::Skipped,
        ) => BreakerEvent::Unknown,
    })
}
