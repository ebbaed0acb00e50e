//! The hash chain of one job: how it grows and how it is checked.

use df_contract::Digest;

use crate::record::exact;
use crate::{AuditError, AuditRecord, Entry};

/// The end of a chain: kept on the job's row, so that records cut off the end are missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tip {
    pub seq: u64,
    pub head: Digest,
}

impl Tip {
    /// Before the first record.
    pub fn empty() -> Self {
        Self { seq: 0, head: Digest::zero() }
    }
}

/// The record that follows `tip`.
pub fn append(tip: &Tip, entry: Entry) -> Result<AuditRecord, AuditError> {
    let mut record = AuditRecord {
        job: entry.job,
        seq: tip.seq + 1,
        at: entry.at,
        actor: entry.actor,
        role: entry.role,
        command_id: entry.command_id,
        command: entry.command,
        version: entry.version,
        slug: entry.slug,
        epoch: entry.epoch,
        body: exact(entry.body),
        prev: tip.head.clone(),
        hash: Digest::zero(),
    };
    record.hash = record.computed_hash()?;
    Ok(record)
}

/// Checks that `record` follows `tip` and says what it hashes to; returns the new tip.
///
/// The version rises by one with each command and stays within one: rows of one command share its id.
pub(crate) fn follow(
    tip: &Tip,
    before: Option<&AuditRecord>,
    record: &AuditRecord,
) -> Result<Tip, AuditError> {
    let (job, seq) = (record.job, record.seq);
    if before.is_some_and(|b| b.job != job) {
        return Err(AuditError::OtherJob { job, seq });
    }
    if seq != tip.seq + 1 {
        return Err(AuditError::Gap { job, expected: tip.seq + 1, found: seq });
    }
    if record.prev != tip.head {
        return Err(AuditError::Unlinked { job, seq });
    }
    if record.computed_hash()? != record.hash {
        return Err(AuditError::Hash { job, seq });
    }
    let expected = match before {
        Some(b) if b.command_id == record.command_id => b.version,
        Some(b) => b.version + 1,
        None => 1,
    };
    if record.version != expected {
        return Err(AuditError::Version { job, seq, expected, found: record.version });
    }
    Ok(Tip { seq, head: record.hash.clone() })
}
