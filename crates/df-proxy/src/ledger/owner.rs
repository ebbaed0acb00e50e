//! The owner of the ledger: one thread, one writing connection, all budgets in memory.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

use df_contract::api::Revocation;
use df_contract::grant::BudgetCap;
use df_contract::{JobId, TaskSlug};
use rusqlite::{Connection, params};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::budget::Budgets;
use super::file::{self, Held, Line, failed, int};
use super::read;
use super::{Amount, LedgerError, Outcome, Payer};
use crate::clock;

/// Settlements wait this long for company before they are synced together; with the sync itself they are on disk
/// within about 10 ms.
const SETTLE_WINDOW: Duration = Duration::from_millis(5);
/// Commands handled in one transaction.
const MAX_BATCH: usize = 256;
/// Settlements that may wait for a file that cannot be written; beyond it nothing more is granted.
const MAX_UNWRITTEN: usize = 10_000;

pub(super) enum Command {
    Reserve {
        payer: Box<Payer>,
        caps: Vec<BudgetCap>,
        amount: Amount,
        reply: oneshot::Sender<Result<u64, LedgerError>>,
    },
    Settle {
        id: u64,
        outcome: Outcome,
    },
    Revoke {
        revocation: Revocation,
        reply: oneshot::Sender<Result<(), LedgerError>>,
    },
    Close {
        reply: oneshot::Sender<()>,
    },
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Command")
    }
}

/// The thread's life: open, serve until closed or no handle is left, flush.
pub(super) fn run(
    path: &Path,
    mut inbox: mpsc::Receiver<Command>,
    ready: oneshot::Sender<Result<(), LedgerError>>,
    runtime: &Handle,
) {
    let mut owner = match Owner::open(path) {
        Ok(owner) => owner,
        Err(error) => {
            let _nobody = ready.send(Err(error));
            return;
        }
    };
    let _nobody = ready.send(Ok(()));
    let closed = loop {
        let wait = owner.flush_at;
        let first = runtime.block_on(async {
            match wait {
                Some(at) => tokio::time::timeout_at(at, inbox.recv()).await,
                None => Ok(inbox.recv().await),
            }
        });
        match first {
            Err(_window_is_over) => owner.flush(),
            Ok(None) => break None,
            Ok(Some(first)) => {
                if let Some(reply) = owner.batch(first, &mut inbox) {
                    break Some(reply);
                }
            }
        }
        if owner.flush_at.is_some_and(|at| at <= Instant::now()) {
            owner.flush();
        }
    };
    owner.flush();
    // The file is closed when the caller hears of it, so that somebody else may open or remove it.
    drop(owner);
    if let Some(reply) = closed {
        let _nobody = reply.send(());
    }
}

/// A reservation decided in memory whose row is still to be committed.
struct Decided {
    id: u64,
    raised: Vec<BudgetCap>,
    reply: oneshot::Sender<Result<u64, LedgerError>>,
}

struct Owner {
    file: Connection,
    budgets: Budgets,
    open: HashMap<u64, Held>,
    revoked: BTreeMap<(JobId, TaskSlug), u64>,
    next_id: u64,
    unwritten: Vec<Line>,
    flush_at: Option<Instant>,
}

impl Owner {
    fn open(path: &Path) -> Result<Self, LedgerError> {
        let file = file::open_to_write(path)?;
        let mut budgets = Budgets::default();
        for cap in read::caps(&file)? {
            budgets.raise(&cap);
        }
        read::each_charge(&file, |levels, spent| budgets.settle(levels, &Amount::default(), &spent))?;
        let revoked = read::revocations(&file)?;
        let left_open = read::reservations(&file)?;
        let mut owner = Self {
            next_id: left_open.iter().map(|(id, _)| id + 1).max().unwrap_or(1),
            file,
            budgets,
            open: HashMap::new(),
            revoked,
            unwritten: Vec::new(),
            flush_at: None,
        };
        if !left_open.is_empty() {
            tracing::warn!(reservations = left_open.len(), "charging what the last process left open");
        }
        for (id, held) in left_open {
            // It was never in this process's `held`, so only the spending counts.
            owner.budgets.settle(&held.levels, &Amount::default(), &held.amount);
            let spent = held.amount;
            owner.unwritten.push(Line { id, at: clock::now(), held, spent, outcome: "estimated" });
        }
        owner.write_lines()?;
        Ok(owner)
    }

    /// Handles `first` and whatever else is waiting; returns the reply of a close.
    fn batch(&mut self, first: Command, inbox: &mut mpsc::Receiver<Command>) -> Option<oneshot::Sender<()>> {
        let mut decided = Vec::new();
        let mut closing = None;
        // Taken from the inbox only when it will be handled: a command dropped here would be an answer never given.
        let waiting = std::iter::from_fn(|| inbox.try_recv().ok()).take(MAX_BATCH);
        for command in std::iter::once(first).chain(waiting) {
            match command {
                Command::Reserve { payer, caps, amount, reply } => match self.decide(*payer, &caps, amount) {
                    Ok((id, raised)) => decided.push(Decided { id, raised, reply }),
                    Err(error) => drop(reply.send(Err(error))),
                },
                Command::Settle { id, outcome } => self.settle(id, outcome),
                Command::Revoke { revocation, reply } => drop(reply.send(self.revoke(revocation))),
                Command::Close { reply } => {
                    closing = Some(reply);
                    break;
                }
            }
        }
        self.commit(decided);
        closing
    }

    fn decide(
        &mut self,
        payer: Payer,
        caps: &[BudgetCap],
        amount: Amount,
    ) -> Result<(u64, Vec<BudgetCap>), LedgerError> {
        if self.unwritten.len() >= MAX_UNWRITTEN {
            return Err(LedgerError::Closed);
        }
        if let Some(&epoch) = self.revoked.get(&(payer.job, payer.task.clone()))
            && payer.epoch <= epoch
        {
            return Err(LedgerError::Revoked { task: payer.task, epoch });
        }
        let raised: Vec<BudgetCap> = caps.iter().filter(|cap| self.budgets.raise(cap)).cloned().collect();
        let mut levels: Vec<String> = caps.iter().map(|c| c.account.clone()).collect();
        levels.sort();
        levels.dedup();
        self.budgets.hold(&levels, &amount).map_err(LedgerError::Exhausted)?;
        let id = self.next_id;
        self.next_id += 1;
        self.open.insert(id, Held { payer, levels, amount });
        Ok((id, raised))
    }

    /// Commits the decided reservations in one transaction, unsynced, and only then grants them.
    fn commit(&mut self, decided: Vec<Decided>) {
        if decided.is_empty() {
            return;
        }
        let written = self.write_decided(&decided);
        for one in decided {
            match &written {
                Ok(()) => {
                    if one.reply.send(Ok(one.id)).is_err() {
                        // The caller went away between asking and being told: nothing was called.
                        self.settle(one.id, Outcome::Failed);
                    }
                }
                Err(error) => {
                    tracing::error!(error = %error, "a reservation could not be written");
                    if let Some(held) = self.open.remove(&one.id) {
                        self.budgets.settle(&held.levels, &held.amount, &Amount::default());
                    }
                    let _nobody = one.reply.send(Err(LedgerError::Closed));
                }
            }
        }
    }

    fn write_decided(&mut self, decided: &[Decided]) -> Result<(), LedgerError> {
        let at = clock::now();
        let tx = self.file.transaction().map_err(failed("reserving"))?;
        for one in decided {
            for cap in &one.raised {
                file::put_cap(&tx, cap).map_err(failed("reserving"))?;
            }
            if let Some(held) = self.open.get(&one.id) {
                file::put_reservation(&tx, one.id, at, held).map_err(failed("reserving"))?;
            }
        }
        tx.commit().map_err(failed("reserving"))
    }

    fn settle(&mut self, id: u64, outcome: Outcome) {
        let Some(held) = self.open.remove(&id) else { return };
        let (spent, outcome) = match outcome {
            Outcome::Settled(spent) => (spent, "settled"),
            Outcome::Estimated => (held.amount, "estimated"),
            Outcome::Failed => (Amount::default(), "failed"),
        };
        self.budgets.settle(&held.levels, &held.amount, &spent);
        self.unwritten.push(Line { id, at: clock::now(), held, spent, outcome });
        self.flush_at.get_or_insert_with(|| Instant::now() + SETTLE_WINDOW);
    }

    fn flush(&mut self) {
        self.flush_at = None;
        if let Err(error) = self.write_lines() {
            tracing::error!(error = %error, waiting = self.unwritten.len(), "settlements could not be written");
            self.flush_at = Some(Instant::now() + Duration::from_secs(1));
        }
    }

    fn write_lines(&mut self) -> Result<(), LedgerError> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        file::sync_commits(&self.file, true)?;
        let tx = self.file.transaction().map_err(failed("settling"))?;
        for line in &self.unwritten {
            file::put_usage(&tx, line).map_err(failed("settling"))?;
        }
        tx.commit().map_err(failed("settling"))?;
        self.unwritten.clear();
        file::sync_commits(&self.file, false)
    }

    fn revoke(&mut self, revocation: Revocation) -> Result<(), LedgerError> {
        let Revocation { job, task, epoch } = revocation;
        file::sync_commits(&self.file, true)?;
        self.file
            .execute(
                "INSERT INTO revocation VALUES (?1, ?2, ?3)
                 ON CONFLICT (job, task) DO UPDATE SET epoch = max(epoch, excluded.epoch)",
                params![job.to_string(), task.as_str(), int(epoch)],
            )
            .map_err(failed("revoking"))?;
        let known = self.revoked.entry((job, task)).or_default();
        *known = epoch.max(*known);
        file::sync_commits(&self.file, false)
    }
}
