//! The log of the registry: one hash chain, its end kept beside it.

use df_contract::AgentName;
use df_control_audit::{RegistryEvent, Tip, registry_append};

use super::RegistryActor;
use crate::StoreError;
use crate::rows::{Kept, Rows};
use crate::transition::Tx;

/// Where the log has come to: its last number and hash.
const LOG_TIP: &str = "agent_log";

/// The agent that an event is about.
pub(crate) fn named(event: &RegistryEvent) -> Option<&AgentName> {
    match event {
        RegistryEvent::Registered { name, .. }
        | RegistryEvent::Enabled { name, .. }
        | RegistryEvent::Disabled { name, .. }
        | RegistryEvent::Pinned { name, .. }
        | RegistryEvent::Unpinned { name, .. } => Some(name),
        RegistryEvent::KeyKept { .. } | RegistryEvent::KeyForgotten { .. } => None,
    }
}

/// The end of the chain, as it is kept beside it.
pub(crate) fn log_tip(rows: &dyn Rows) -> Kept<Tip> {
    let Some(text) = rows.meta(LOG_TIP)? else { return Ok(Tip::empty()) };
    let parsed = text
        .split_once(' ')
        .and_then(|(seq, head)| Some(Tip { seq: seq.parse().ok()?, head: head.parse().ok()? }));
    parsed.ok_or_else(|| StoreError::Row { table: "meta", why: format!("end of the agents' log `{text}`") })
}

/// The records that are to be written, made before the first of them is.
pub(super) fn log(tx: &mut Tx<'_>, actor: &RegistryActor, events: Vec<RegistryEvent>) -> Kept<()> {
    let mut tip = log_tip(tx.rows)?;
    let mut records = Vec::with_capacity(events.len());
    for event in events {
        let record = registry_append(&tip, actor.at, &actor.identity, event)
            .map_err(|e| StoreError::Invariant(e.to_string()))?;
        tip = Tip { seq: record.seq, head: record.hash.clone() };
        records.push(record);
    }
    for record in &records {
        tx.rows.agent_log_insert(record)?;
    }
    tx.rows.meta_write(LOG_TIP, &format!("{} {}", tip.seq, tip.head))
}
