//! The registry as it stands, in the words of its log: what a check holds against the chain.

use df_contract::TenantId;
use df_control_audit::{AgentState, RegistryState, VersionState};

use super::log::log_tip;
use super::{AgentRow, PinRow};
use crate::rows::{Kept, Rows};

/// The tables in the words of the log, and what in them is not as it was signed.
pub(crate) fn tables(
    rows: &dyn Rows,
    pins: Vec<(TenantId, PinRow)>,
    signers: Vec<(TenantId, String, String)>,
) -> Kept<(RegistryState, Vec<String>)> {
    let mut state = RegistryState::default();
    let mut wrong = Vec::new();
    let tip = log_tip(rows)?;
    state.last = (tip.seq > 0).then_some((tip.seq, tip.head));
    for row in rows.agents(None)? {
        let of = row.of();
        let mut versions = Vec::new();
        for version in rows.agent_versions(&of)? {
            if let Err(error) = version.verify() {
                wrong.push(format!("`{of}` version {}: {error}", version.digest));
            }
            if version.of() != of {
                wrong.push(format!("`{of}` has a version of `{}`", version.of()));
            }
            versions.push(VersionState {
                number: version.number,
                digest: version.digest,
                enabled: version.enabled,
                registered_by: version.registered_by,
                public_key: version.public_key,
            });
        }
        versions.sort_by(|a, b| (a.number, &a.digest).cmp(&(b.number, &b.digest)));
        let AgentRow { name, tenant, owner, current, number } = row;
        state.agents.insert(of.to_string(), AgentState { name, tenant, owner, current, number, versions });
    }
    for (tenant, pin) in pins {
        state.pins.entry(tenant).or_default().insert(pin.name, (pin.digest, pin.replaces));
    }
    for (tenant, identity, key) in signers {
        state.signers.entry(tenant).or_default().insert(identity, key);
    }
    Ok((state, wrong))
}
