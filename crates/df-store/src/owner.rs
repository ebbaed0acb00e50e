//! The one writer: a thread that owns the engine and commits what waits in groups.
//!
//! While one group is being synced the next one gathers, so the number of transitions per sync follows the load
//! without any artificial delay. An operation is acknowledged after the commit of its group and never before.

use df_contract::{JobEventView, JobId};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::cache::Cache;
use crate::rows::{Kept, Rows};
use crate::transition::Tx;
use crate::{StoreError, event};

/// Most operations in one commit.
const MAX_GROUP: usize = 512;
/// Operations that may wait; beyond this callers wait to enqueue.
const MAX_QUEUE: usize = 2_048;
/// Hints a slow subscriber may fall behind; then it is told that it missed some.
const MAX_HINTS: usize = 1_024;

/// A backend with its transactions. One operation is one savepoint within the group's transaction.
pub(crate) trait Engine: Send + 'static {
    fn begin(&mut self) -> Kept<()>;
    fn op_begin(&mut self) -> Kept<()>;
    fn op_keep(&mut self) -> Kept<()>;
    fn op_undo(&mut self) -> Kept<()>;
    fn commit(&mut self) -> Kept<()>;
    fn rollback(&mut self);
    fn as_rows(&mut self) -> &mut dyn Rows;
}

/// What became of an operation before the commit.
enum Ran {
    Keep,
    Undo,
}

trait Op: Send {
    fn run(&mut self, tx: &mut Tx<'_>) -> Ran;
    /// Tells the caller; `fate` is that of the whole group.
    fn finish(self: Box<Self>, fate: Result<(), String>);
}

struct Typed<T, F> {
    work: Option<F>,
    result: Option<Kept<T>>,
    reply: oneshot::Sender<Kept<T>>,
}

impl<T: Send, F: FnOnce(&mut Tx<'_>) -> Kept<T> + Send> Op for Typed<T, F> {
    fn run(&mut self, tx: &mut Tx<'_>) -> Ran {
        // The writer must outlive any one operation: without it the whole daemon answers nothing but errors.
        let caught = |work: F| {
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(tx)))
                .unwrap_or(Err(StoreError::Panicked))
        };
        let result = self.work.take().map(caught);
        let ran = if matches!(result, Some(Ok(_))) { Ran::Keep } else { Ran::Undo };
        self.result = result;
        ran
    }

    fn finish(self: Box<Self>, fate: Result<(), String>) {
        let answer = match (fate, self.result) {
            (Err(why), Some(Ok(_)) | None) => Err(StoreError::NotCommitted(why)),
            (Ok(()) | Err(_), Some(result)) => result,
            (Ok(()), None) => Err(StoreError::Closed),
        };
        // The caller may have gone away; what it asked for is done all the same.
        self.reply.send(answer).ok();
    }
}

enum Message {
    Op(Box<dyn Op>),
    Close(oneshot::Sender<()>),
}

/// Handle to the owner thread.
#[derive(Clone)]
pub(crate) struct Owner {
    queue: mpsc::Sender<Message>,
    hints: broadcast::Sender<JobId>,
}

impl Owner {
    pub(crate) fn spawn(engine: impl Engine, cache: Cache) -> Kept<Self> {
        let (queue, waiting) = mpsc::channel(MAX_QUEUE);
        let (hints, _) = broadcast::channel(MAX_HINTS);
        let told = hints.clone();
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || run(engine, cache, waiting, &told))
            .map_err(|source| StoreError::File {
                what: "starting the writer of",
                path: "the store".into(),
                source,
            })?;
        Ok(Self { queue, hints })
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<JobId> {
        self.hints.subscribe()
    }

    pub(crate) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Tx<'_>) -> Kept<T> + Send + 'static,
    ) -> Kept<T> {
        let (reply, answer) = oneshot::channel();
        let op = Box::new(Typed { work: Some(work), result: None, reply });
        self.queue.send(Message::Op(op)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Ends the thread after what is queued; returns when the engine is closed.
    pub(crate) async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        if self.queue.send(Message::Close(reply)).await.is_ok() {
            closed.await.ok();
        }
    }
}

fn run(
    mut engine: impl Engine,
    mut cache: Cache,
    mut waiting: mpsc::Receiver<Message>,
    hints: &broadcast::Sender<JobId>,
) {
    let mut inbox = Vec::with_capacity(MAX_GROUP);
    while waiting.blocking_recv_many(&mut inbox, MAX_GROUP) > 0 {
        let (mut group, mut closing) = (Vec::with_capacity(inbox.len()), None);
        for message in inbox.drain(..) {
            match message {
                Message::Op(op) => group.push(op),
                Message::Close(reply) => closing = Some(reply),
            }
        }
        commit_group(&mut engine, &mut cache, group, hints);
        if let Some(reply) = closing {
            drop(engine);
            // Whoever asked may have gone away.
            reply.send(()).ok();
            return;
        }
    }
}

fn commit_group(
    engine: &mut impl Engine,
    cache: &mut Cache,
    mut group: Vec<Box<dyn Op>>,
    hints: &broadcast::Sender<JobId>,
) {
    if group.is_empty() {
        return;
    }
    let fate = run_group(engine, cache, &mut group).map_err(|error| {
        engine.rollback();
        cache.clear();
        let error = chain(&error);
        tracing::error!(error, operations = group.len(), "a group of writes was not committed");
        error
    });
    let (changed, fate) = match fate {
        Ok(changed) => (changed, Ok(())),
        Err(why) => (Changed::default(), Err(why)),
    };
    // Only what is committed has happened.
    changed.events.iter().for_each(event::log);
    for op in group {
        op.finish(fate.clone());
    }
    for job in changed.jobs {
        // Nobody may be listening.
        hints.send(job).ok();
    }
}

/// What a group did.
#[derive(Default)]
struct Changed {
    jobs: Vec<JobId>,
    events: Vec<JobEventView>,
}

fn run_group(engine: &mut impl Engine, cache: &mut Cache, group: &mut [Box<dyn Op>]) -> Kept<Changed> {
    let mut changed = Changed::default();
    engine.begin()?;
    for op in group.iter_mut() {
        engine.op_begin()?;
        cache.op_begin();
        let mut tx = Tx {
            rows: engine.as_rows(),
            cache: &mut *cache,
            changed: Default::default(),
            events: Vec::new(),
        };
        match op.run(&mut tx) {
            Ran::Keep => {
                changed.jobs.extend(std::mem::take(&mut tx.changed));
                changed.events.append(&mut tx.events);
                engine.op_keep()?;
            }
            Ran::Undo => {
                cache.op_undo();
                engine.op_undo()?;
            }
        }
    }
    engine.commit()?;
    Ok(changed)
}

fn chain(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
