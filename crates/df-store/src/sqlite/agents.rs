//! The statements of the registry of agents.

use df_contract::agent::AgentRef;
use df_contract::{AgentName, Digest, JobId, RegisteredAgent, TaskSlug, TenantId};
use df_control_audit::{ExportLine, RegistryRecord};
use rusqlite::{Row, params};

use super::cells::{from_json, int, json, parsed, time, unsigned};
use super::{Sqlite, failed};
use crate::agents::{AgentRow, AgentRows, PinRow, tables};
use crate::rows::Kept;

const AGENT: &str = "SELECT name, tenant, owner, current, number FROM agents";
/// The tenant of what is everybody's.
const EVERYBODY: &str = "";

fn tenant(of: Option<&TenantId>) -> &str {
    of.map_or(EVERYBODY, TenantId::as_str)
}

fn agent(row: &Row<'_>) -> rusqlite::Result<AgentRow> {
    Ok(AgentRow {
        name: parsed(row, 0)?,
        tenant: (row.get::<_, String>(1)? != EVERYBODY).then(|| parsed(row, 1)).transpose()?,
        owner: row.get(2)?,
        current: parsed(row, 3)?,
        number: unsigned(row, 4)?,
    })
}

fn version(row: &Row<'_>) -> rusqlite::Result<RegisteredAgent> {
    Ok(RegisteredAgent { enabled: row.get(1)?, ..from_json(row, 0)? })
}

fn pin(row: &Row<'_>) -> rusqlite::Result<PinRow> {
    Ok(PinRow { name: parsed(row, 0)?, digest: parsed(row, 1)?, replaces: row.get(2)? })
}

impl AgentRows for Sqlite {
    fn agent(&self, of: &AgentRef) -> Kept<Option<AgentRow>> {
        let sql = "SELECT name, tenant, owner, current, number FROM agents WHERE tenant = ?1 AND name = ?2";
        self.one("looking for an agent", sql, [tenant(of.tenant.as_ref()), of.name.as_str()], agent)
    }

    fn agents_named(&self, name: &AgentName) -> Kept<Vec<AgentRow>> {
        let sql = format!("{AGENT} WHERE name = ?1 ORDER BY tenant");
        self.many("looking for agents of a name", &sql, [name.as_str()], agent)
    }

    fn agent_write(&mut self, row: &AgentRow) -> Kept<()> {
        let own = tenant(row.tenant.as_ref());
        self.write(
            "writing an agent",
            "INSERT INTO agents (tenant, name, owner, current, number) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (tenant, name) DO UPDATE SET owner = ?3, current = ?4, number = ?5",
            params![own, row.name.as_str(), row.owner, row.current.as_str(), int(row.number)],
        )
        .map(drop)
    }

    fn agents(&self, of: Option<&TenantId>) -> Kept<Vec<AgentRow>> {
        let what = "listing agents";
        match of {
            Some(of) => {
                let sql = format!("{AGENT} WHERE tenant IN ('', ?1) ORDER BY name, tenant");
                self.many(what, &sql, [of.as_str()], agent)
            }
            None => self.many(what, &format!("{AGENT} ORDER BY name, tenant"), [], agent),
        }
    }

    fn agent_version(&self, of: &AgentRef, digest: &Digest) -> Kept<Option<RegisteredAgent>> {
        let sql = "SELECT body, enabled FROM agent_versions WHERE tenant = ?1 AND name = ?2 AND digest = ?3
             ORDER BY number DESC LIMIT 1";
        let key = [tenant(of.tenant.as_ref()), of.name.as_str(), digest.as_str()];
        self.one("looking for a version", sql, key, version)
    }

    fn agent_is_off(&self, own: &TenantId, name: &AgentName, digest: &Digest) -> Kept<bool> {
        let sql = "SELECT 1 FROM agent_versions
             WHERE enabled = 0 AND name = ?1 AND tenant IN ('', ?2) AND digest = ?3 LIMIT 1";
        let key = [name.as_str(), own.as_str(), digest.as_str()];
        Ok(self.one("looking for a disabled version", sql, key, |_| Ok(()))?.is_some())
    }

    fn leases_of_disabled(&self) -> Kept<Vec<(JobId, TaskSlug)>> {
        let sql = "SELECT t.job, t.slug FROM tasks t WHERE t.state = 'LEASED' AND t.agent IS NOT NULL
               AND EXISTS (SELECT 1 FROM agent_versions v
                           WHERE v.enabled = 0 AND v.name = t.agent AND v.tenant IN ('', t.tenant))
             ORDER BY t.job, t.slug";
        self.many("looking for leases of disabled agents", sql, [], |row| {
            Ok((parsed(row, 0)?, parsed(row, 1)?))
        })
    }

    fn agent_versions(&self, of: &AgentRef) -> Kept<Vec<RegisteredAgent>> {
        let sql = "SELECT body, enabled FROM agent_versions WHERE tenant = ?1 AND name = ?2
             ORDER BY number DESC, registered_at DESC, digest";
        self.many("listing versions", sql, [tenant(of.tenant.as_ref()), of.name.as_str()], version)
    }

    fn agent_version_insert(&mut self, version: &RegisteredAgent) -> Kept<()> {
        self.write(
            "inserting a version",
            "INSERT INTO agent_versions (tenant, name, digest, number, enabled, registered_at, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                tenant(version.tenant.as_ref()),
                version.manifest.name.as_str(),
                version.digest.as_str(),
                int(version.number),
                version.enabled,
                time(version.registered_at),
                json(version, "agent_versions")?
            ],
        )
        .map(drop)
    }

    fn agent_version_switch(&mut self, of: &AgentRef, digest: &Digest, enabled: bool) -> Kept<()> {
        let sql = "UPDATE agent_versions SET enabled = ?4 WHERE tenant = ?1 AND name = ?2 AND digest = ?3";
        let own = tenant(of.tenant.as_ref());
        self.write("switching a version", sql, params![own, of.name.as_str(), digest.as_str(), enabled])
            .map(drop)
    }

    fn agent_pins(&self, tenant: &TenantId) -> Kept<Vec<PinRow>> {
        let sql = "SELECT name, digest, replaces FROM agent_pins WHERE tenant = ?1 ORDER BY name";
        self.many("listing pins", sql, [tenant.as_str()], pin)
    }

    fn agent_pin_write(&mut self, tenant: &TenantId, pin: &PinRow) -> Kept<()> {
        self.write(
            "writing a pin",
            "INSERT INTO agent_pins (tenant, name, digest, replaces) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (tenant, name) DO UPDATE SET digest = ?3, replaces = ?4",
            params![tenant.as_str(), pin.name.as_str(), pin.digest.as_str(), pin.replaces],
        )
        .map(drop)
    }

    fn agent_pin_delete(&mut self, tenant: &TenantId, name: &AgentName) -> Kept<()> {
        let sql = "DELETE FROM agent_pins WHERE tenant = ?1 AND name = ?2";
        self.write("deleting a pin", sql, [tenant.as_str(), name.as_str()]).map(drop)
    }

    fn signer(&self, tenant: &TenantId, identity: &str) -> Kept<Option<String>> {
        let sql = "SELECT public_key FROM agent_signers WHERE tenant = ?1 AND identity = ?2";
        self.one("looking for a signer", sql, [tenant.as_str(), identity], |row| row.get(0))
    }

    fn signer_write(&mut self, tenant: &TenantId, identity: &str, public_key: &str) -> Kept<()> {
        let sql = "INSERT INTO agent_signers (tenant, identity, public_key) VALUES (?1, ?2, ?3)";
        self.write("keeping a signer's key", sql, [tenant.as_str(), identity, public_key]).map(drop)
    }

    fn signer_delete(&mut self, tenant: &TenantId, identity: &str) -> Kept<()> {
        let sql = "DELETE FROM agent_signers WHERE tenant = ?1 AND identity = ?2";
        self.write("forgetting a signer's key", sql, [tenant.as_str(), identity]).map(drop)
    }

    fn agent_log_insert(&mut self, record: &RegistryRecord, of: Option<&AgentRef>) -> Kept<()> {
        let (own, name) = (of.map(|of| tenant(of.tenant.as_ref())), of.map(|of| of.name.as_str()));
        self.write(
            "inserting a record of the registry",
            "INSERT INTO agent_log (seq, tenant, name, record) VALUES (?1, ?2, ?3, ?4)",
            params![int(record.seq), own, name, json(record, "agent_log")?],
        )
        .map(drop)
    }

    fn agent_log(&self, of: Option<&AgentRef>, limit: u32) -> Kept<Vec<RegistryRecord>> {
        let what = "reading the registry's log";
        let mut log = match of {
            Some(of) => {
                let sql = "SELECT record FROM agent_log WHERE tenant = ?1 AND name = ?2
                     ORDER BY seq DESC LIMIT ?3";
                let key = params![tenant(of.tenant.as_ref()), of.name.as_str(), limit];
                self.many(what, sql, key, |row| from_json(row, 0))?
            }
            None => {
                let sql = "SELECT record FROM agent_log ORDER BY seq DESC LIMIT ?1";
                self.many(what, sql, [limit], |row| from_json(row, 0))?
            }
        };
        log.reverse();
        Ok(log)
    }
}

impl Sqlite {
    /// The registry's records, then what its tables say. Nothing when nothing was ever registered.
    pub(crate) fn export_agents(&self) -> Kept<Vec<ExportLine>> {
        let transaction = self.connection.unchecked_transaction().map_err(failed("beginning to export"))?;
        let sql = "SELECT record, seq FROM agent_log ORDER BY seq";
        let records: Vec<(String, u64)> =
            self.many("exporting the registry", sql, [], |row| Ok((row.get(0)?, unsigned(row, 1)?)))?;
        let mut lines = Vec::new();
        let unreadable = |why: String| ExportLine::AgentsUnreadable { why };
        for (text, seq) in records {
            lines.push(match serde_json::from_str::<RegistryRecord>(&text) {
                Ok(record) if record.seq == seq => ExportLine::Agents(record),
                Ok(_) => unreadable(format!("record {seq} is filed under another number")),
                Err(error) => unreadable(format!("record {seq}: {error}")),
            });
        }
        match self.agents_now() {
            Ok((now, wrong)) => {
                lines.extend(wrong.into_iter().map(unreadable));
                if !lines.is_empty() || now != df_control_audit::RegistryState::default() {
                    lines.push(ExportLine::AgentsNow(now));
                }
            }
            Err(error) => lines.push(unreadable(error.to_string())),
        }
        transaction.commit().map_err(failed("ending to export"))?;
        Ok(lines)
    }

    fn agents_now(&self) -> Kept<(df_control_audit::RegistryState, Vec<String>)> {
        let sql = "SELECT name, digest, replaces, tenant FROM agent_pins";
        let pins = self.many("exporting pins", sql, [], |row| Ok((parsed(row, 3)?, pin(row)?)))?;
        let sql = "SELECT tenant, identity, public_key FROM agent_signers";
        let signers =
            self.many("exporting signers", sql, [], |row| Ok((parsed(row, 0)?, row.get(1)?, row.get(2)?)))?;
        tables(self, pins, signers)
    }
}
