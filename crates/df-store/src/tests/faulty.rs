//! An engine whose commits fail when they are told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::StoreError;
use crate::owner::Engine;
use crate::rows::{Kept, Rows};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Memory,
    Sqlite,
}

/// Makes the next commit fail.
#[derive(Clone, Default)]
pub(crate) struct Fault(Arc<AtomicBool>);

impl Fault {
    pub(crate) fn fail_next(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

pub(crate) struct Faulty<E> {
    pub(crate) engine: E,
    pub(crate) fault: Fault,
}

impl<E: Engine> Engine for Faulty<E> {
    fn begin(&mut self) -> Kept<()> {
        self.engine.begin()
    }
    fn op_begin(&mut self) -> Kept<()> {
        self.engine.op_begin()
    }
    fn op_keep(&mut self) -> Kept<()> {
        self.engine.op_keep()
    }
    fn op_undo(&mut self) -> Kept<()> {
        self.engine.op_undo()
    }
    fn commit(&mut self) -> Kept<()> {
        if self.fault.0.swap(false, Ordering::SeqCst) {
            return Err(StoreError::Invariant("the commit was told to fail".into()));
        }
        self.engine.commit()
    }
    fn rollback(&mut self) {
        self.engine.rollback();
    }
    fn as_rows(&mut self) -> &mut dyn Rows {
        self.engine.as_rows()
    }
}
