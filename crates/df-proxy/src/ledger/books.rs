//! The books: what is known at one position of the journal. The same changes are applied to them when they happen and
//! when the journal is read again, so that both are one state.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use df_contract::{JobId, TaskSlug, Timestamp};

use super::budget::Budgets;
use super::frame::{Begin, End, FORMAT, Frame, Held, LevelState, Revoked, Row, Total};
use super::keys::{KeyError, Keys};
use super::{Amount, LedgerError, Spender};

/// Jobs whose totals are kept; the oldest are forgotten when there are twice as many.
const KEPT_JOB_TOTALS: usize = 4096;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Books {
    pub(super) budgets: Budgets,
    pub(super) open: HashMap<u64, Held>,
    pub(super) keys: Keys,
    revoked: HashMap<JobId, BTreeMap<TaskSlug, u64>>,
    pub(super) accounts: BTreeMap<String, Total>,
    pub(super) jobs: HashMap<JobId, Total>,
    pub(super) next_seq: u64,
    pub(super) next_id: u64,
}

/// A frame that cannot follow what came before it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Impossible(pub(super) &'static str);

impl Books {
    pub(super) fn new() -> Self {
        Self { next_seq: 1, next_id: 1, ..Self::default() }
    }

    /// Applies one frame of a journal that is read again.
    pub(super) fn apply(&mut self, frame: Frame) -> Result<(), Impossible> {
        match frame {
            Frame::Begin(begin) => {
                (self.next_seq, self.next_id) = (begin.next_seq, begin.next_id);
            }
            Frame::Level(level) => self.budgets.restore(level.name, level.cap, level.spent),
            Frame::Account(account, total) => drop(self.accounts.insert(account, total)),
            Frame::Job(job, total) => drop(self.jobs.insert(job, total)),
            Frame::Ready => {}
            Frame::Cap(cap) => drop(self.budgets.raise(cap)),
            Frame::Reserve(id, held) => self.reserve(id, held),
            Frame::Settle(row) => {
                let Some(held) = self.open.remove(&row.id) else {
                    return Err(Impossible("a settlement of what nobody reserved"));
                };
                if row.seq != self.next_seq {
                    return Err(Impossible("a row out of its turn"));
                }
                self.settle(&held.levels, &held.amount, &row);
            }
            Frame::Revoke(revoked) => self.revoke(revoked),
            Frame::Key(key) => self.keys.put(key),
        }
        Ok(())
    }

    pub(super) fn reserve(&mut self, id: u64, held: Held) {
        self.next_id = self.next_id.max(id + 1);
        self.budgets.hold(&held.levels, &held.amount);
        self.open.insert(id, held);
    }

    /// Books a row; its reservation has been taken out of `open`.
    pub(super) fn settle(&mut self, levels: &[Arc<str>], held: &Amount, row: &Row) {
        self.next_seq = row.seq + 1;
        self.budgets.settle(levels, held, &row.spent);
        match self.accounts.get_mut(&row.payer.account) {
            Some(total) => total.add(row),
            None => self.accounts.entry(row.payer.account.clone()).or_default().add(row),
        }
        match &row.payer.by {
            Spender::Grant { job, .. } => self.jobs.entry(*job).or_default().add(row),
            Spender::Key { .. } => return,
        }
        if self.jobs.len() > 2 * KEPT_JOB_TOTALS {
            let mut last: Vec<u64> = self.jobs.values().map(|total| total.last).collect();
            last.sort_unstable();
            let oldest_kept = last[last.len() - KEPT_JOB_TOTALS];
            self.jobs.retain(|_, total| total.last >= oldest_kept);
        }
    }

    pub(super) fn revoke(&mut self, Revoked { job, task, epoch }: Revoked) {
        let known = self.revoked.entry(job).or_default().entry(task).or_default();
        *known = epoch.max(*known);
    }

    /// Whether the spender may still spend at all.
    pub(super) fn permits(&self, by: &Spender, now: Timestamp) -> Result<(), LedgerError> {
        match by {
            Spender::Grant { job, task, epoch, .. } => {
                match self.revoked.get(job).and_then(|tasks| tasks.get(task)) {
                    Some(&revoked) if *epoch <= revoked => {
                        Err(LedgerError::Revoked { task: task.clone(), epoch: revoked })
                    }
                    Some(_) | None => Ok(()),
                }
            }
            Spender::Key { key, .. } => Ok(self.keys.get(key).ok_or(KeyError::Unknown)?.usable(now)?),
        }
    }

    /// The frames that make these books out of empty ones, for the start of `segment`.
    pub(super) fn checkpoint(&self, segment: u64) -> impl Iterator<Item = Frame> {
        let begin = Begin { format: FORMAT, segment, next_seq: self.next_seq, next_id: self.next_id };
        let levels = self.budgets.levels().map(|(name, level)| {
            let name = Arc::clone(name);
            Frame::Level(LevelState { name, cap: level.cap.clone(), spent: level.spent })
        });
        let accounts = self.accounts.iter().map(|(account, total)| Frame::Account(account.clone(), *total));
        let jobs = self.jobs.iter().map(|(job, total)| Frame::Job(*job, *total));
        let revoked = self.revoked.iter().flat_map(|(job, tasks)| {
            tasks
                .iter()
                .map(|(task, epoch)| Frame::Revoke(Revoked { job: *job, task: task.clone(), epoch: *epoch }))
        });
        let keys = self.keys.all().map(|key| Frame::Key(Arc::clone(key)));
        let open = self.open.iter().map(|(id, held)| Frame::Reserve(*id, held.clone()));
        std::iter::once(Frame::Begin(begin))
            .chain(levels)
            .chain(accounts)
            .chain(jobs)
            .chain(revoked)
            .chain(keys)
            .chain(open)
            .chain(std::iter::once(Frame::Ready))
    }
}

impl Total {
    fn add(&mut self, row: &Row) {
        match row.end {
            End::Settled | End::Estimated => self.calls += 1,
            End::Failed => self.failed += 1,
        }
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        add(&mut self.input_tokens, row.spent.usage.all_input().0);
        add(&mut self.output_tokens, row.spent.usage.all_output().0);
        add(&mut self.nano_usd, row.spent.nano_usd.0);
        self.last = row.seq;
    }
}
