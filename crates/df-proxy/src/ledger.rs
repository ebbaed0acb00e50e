//! The ledger: who may still spend what, and what was spent.
//!
//! One owner thread holds the budgets in memory and the only writing connection. A reservation is committed, not
//! synced, before it is granted; settlements are applied at once, and committed and synced in groups, so that no answer waits for
//! the disk. Whatever is still reserved when the file is opened again is charged in full as `estimated`.
//!
//! What it deliberately does not know: providers, prices, HTTP.

mod budget;
mod file;
mod owner;
mod read;

use std::path::PathBuf;

use df_contract::api::{Revocation, UsagePage};
use df_contract::grant::BudgetCap;
use df_contract::{AttemptId, JobId, NanoUsd, TaskSlug, TenantId, Tokens};
use tokio::sync::{mpsc, oneshot};

pub(crate) use budget::Exhausted;
pub(crate) use read::{AccountTotal, JobTotal};

use owner::Command;

/// Commands waiting for the owner.
const LEDGER_QUEUE: usize = 1024;
/// Most rows of one page of usage.
pub(crate) const MAX_PAGE: u32 = 1000;

/// Most tokens that one call can ask for or be said to have used. More is a lie or a mistake, and sums of it would not
/// fit the file.
pub(crate) const MAX_CALL_TOKENS: u64 = 1 << 32;

/// Why the ledger did not do as asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LedgerError {
    #[error(transparent)]
    Exhausted(Exhausted),
    #[error("the grant of task {task} up to epoch {epoch} was withdrawn")]
    Revoked { task: TaskSlug, epoch: u64 },
    #[error("the ledger is closed")]
    Closed,
    #[error("the ledger file failed while {doing}")]
    Store {
        doing: &'static str,
        #[source]
        source: rusqlite::Error,
    },
    #[error("the ledger file has format {0}, which is newer than this program knows")]
    Newer(i64),
    #[error("the ledger holds a row that does not parse: {0}")]
    Row(String),
}

/// For whom, through which account, with which model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Payer {
    pub(crate) tenant: TenantId,
    pub(crate) job: JobId,
    pub(crate) task: TaskSlug,
    pub(crate) epoch: u64,
    pub(crate) attempt: AttemptId,
    pub(crate) account: String,
    pub(crate) model: String,
}

/// Tokens and money, reserved or spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Amount {
    pub(crate) input_tokens: Tokens,
    pub(crate) output_tokens: Tokens,
    pub(crate) nano_usd: NanoUsd,
}

impl Amount {
    pub(crate) fn tokens(&self) -> Tokens {
        self.input_tokens.saturating_add(self.output_tokens)
    }
}

/// How an upstream attempt ended, for the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The provider said what it used.
    Settled(Amount),
    /// Nobody said: the reservation is charged in full.
    Estimated,
    /// It cost nothing: refused, or never reached.
    Failed,
}

/// Handle on the owner thread.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    path: PathBuf,
    commands: mpsc::Sender<Command>,
}

impl Ledger {
    /// Opens the file, charges what the last process left open, and starts the owner.
    pub(crate) async fn open(path: PathBuf) -> Result<Self, LedgerError> {
        let (commands, inbox) = mpsc::channel(LEDGER_QUEUE);
        let (ready, opened) = oneshot::channel();
        let runtime = tokio::runtime::Handle::current();
        let file = path.clone();
        std::thread::Builder::new()
            .name("ledger".into())
            .spawn(move || owner::run(&file, inbox, ready, &runtime))
            .map_err(|_| LedgerError::Closed)?;
        opened.await.map_err(|_| LedgerError::Closed)??;
        Ok(Self { path, commands })
    }

    /// Holds `amount` on every level of `caps`, or on none.
    pub(crate) async fn reserve(
        &self,
        payer: Payer,
        caps: Vec<BudgetCap>,
        amount: Amount,
    ) -> Result<Reservation, LedgerError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Reserve { payer: Box::new(payer), caps, amount, reply };
        self.commands.send(command).await.map_err(|_| LedgerError::Closed)?;
        let id = answer.await.map_err(|_| LedgerError::Closed)??;
        Ok(Reservation { id, commands: self.commands.clone(), open: true })
    }

    /// Kills the grants of a task up to an epoch; durable when it returns.
    pub(crate) async fn revoke(&self, revocation: Revocation) -> Result<(), LedgerError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Revoke { revocation, reply }).await.map_err(|_| LedgerError::Closed)?;
        answer.await.map_err(|_| LedgerError::Closed)?
    }

    /// Writes and syncs what is pending; the owner ends.
    pub(crate) async fn close(&self) {
        let (reply, answer) = oneshot::channel();
        if self.commands.send(Command::Close { reply }).await.is_ok() {
            let _ended = answer.await;
        }
    }

    /// Settled usage after `after`, oldest first.
    pub(crate) async fn usage(&self, after: u64, limit: u32) -> Result<UsagePage, LedgerError> {
        let limit = limit.clamp(1, MAX_PAGE);
        self.read(move |file| read::usage(file, after, limit)).await
    }

    pub(crate) async fn account_totals(&self) -> Result<Vec<AccountTotal>, LedgerError> {
        self.read(read::account_totals).await
    }

    pub(crate) async fn job_totals(&self) -> Result<Vec<JobTotal>, LedgerError> {
        self.read(read::job_totals).await
    }

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&rusqlite::Connection) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let path = self.path.clone();
        tokio::task::spawn_blocking(move || query(&file::open_to_read(&path)?))
            .await
            .map_err(|_| LedgerError::Closed)?
    }
}

/// Something held. It is settled once; dropped unsettled, it is charged in full.
#[derive(Debug)]
pub(crate) struct Reservation {
    id: u64,
    commands: mpsc::Sender<Command>,
    open: bool,
}

impl Reservation {
    pub(crate) async fn settle(mut self, outcome: Outcome) {
        self.open = false;
        let _gone = self.commands.send(Command::Settle { id: self.id, outcome }).await;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.open
            && self.commands.try_send(Command::Settle { id: self.id, outcome: Outcome::Estimated }).is_err()
        {
            tracing::error!(reservation = self.id, "a reservation stays open until the next start");
        }
    }
}

#[cfg(test)]
mod tests;
