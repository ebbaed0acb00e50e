//! The log of the registry: one hash chain, its end kept beside it.

use df_contract::AgentName;
use df_contract::agent::AgentRef;
use df_control_audit::{RegistryEvent, Tip, Whose, registry_append};

use super::RegistryActor;
use crate::StoreError;
use crate::rows::{Kept, Rows};
use crate::transition::Tx;

/// Where the log has come to: its last number and hash.
const LOG_TIP: &str = "agent_log";

/// The agent that an event is about.
fn about(event: &RegistryEvent) -> Option<AgentRef> {
    let of = |whose: Option<&Whose>, name: &AgentName| {
        let tenant = match whose? {
            Whose::Everybody => None,
            Whose::Tenant(tenant) => Some(tenant.clone()),
        };
        Some(AgentRef { tenant, name: name.clone() })
    };
    match event {
        RegistryEvent::Registered { name, tenant, .. } => {
            Some(AgentRef { tenant: tenant.clone(), name: name.clone() })
        }
        RegistryEvent::Enabled { whose, name, .. }
        | RegistryEvent::Disabled { whose, name, .. }
        | RegistryEvent::Pinned { whose, name, .. }
        | RegistryEvent::Unpinned { whose, name, .. } => of(whose.as_ref(), name),
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
        tx.rows.agent_log_insert(record, about(&record.event).as_ref())?;
    }
    tx.rows.meta_write(LOG_TIP, &format!("{} {}", tip.seq, tip.head))
}
