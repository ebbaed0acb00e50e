//! The registry as it stands, in the words of its log: what a check holds against the chain.

use df_contract::TenantId;
use df_control_audit::RegistryState;

use super::PinRow;
use super::log::log_tip;
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
        let mut versions = std::collections::BTreeMap::new();
        for version in rows.agent_versions(&row.name)? {
            if let Err(error) = version.verify() {
                wrong.push(format!("`{}` version {}: {error}", row.name, version.digest));
            }
            let kept = df_control_audit::VersionState {
                enabled: version.enabled,
                registered_by: version.registered_by,
                public_key: version.public_key,
            };
            versions.insert(version.digest, kept);
        }
        let (tenant, owner, current) = (row.tenant, row.owner, row.current);
        state.agents.insert(row.name, df_control_audit::AgentState { tenant, owner, current, versions });
    }
    for (tenant, pin) in pins {
        state.pins.entry(tenant).or_default().insert(pin.name, (pin.digest, pin.replaces));
    }
    for (tenant, identity, key) in signers {
        state.signers.entry(tenant).or_default().insert(identity, key);
    }
    Ok((state, wrong))
}
