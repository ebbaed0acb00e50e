//! The rows of registered agents.

use df_contract::agent::RegisteredAgent;
use df_contract::{AgentName, Digest, TenantId};
use rusqlite::{Row, params};
use std::collections::BTreeMap;

use super::Sqlite;
use super::cells::{from_json, instant, int, json, parsed, time, unsigned, word};
use crate::agents::{AgentChange, AgentKey, AgentLogRow, By};
use crate::row::MAX_PAGE;
use crate::rows::Kept;

fn owner(tenant: Option<&TenantId>) -> &str {
    tenant.map_or("", |tenant| tenant.as_str())
}

fn agent(row: &Row<'_>) -> rusqlite::Result<RegisteredAgent> {
    Ok(RegisteredAgent { enabled: row.get(1)?, ..from_json(row, 0)? })
}

impl Sqlite {
    pub(super) fn agent_write(&self, agent: &RegisteredAgent) -> Kept<()> {
        self.write(
            "registering an agent",
            "INSERT INTO agents (tenant, name, digest, registered_at, enabled, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                owner(agent.tenant.as_ref()),
                agent.manifest.name.as_str(),
                agent.digest.as_str(),
                time(agent.registered_at),
                agent.enabled,
                json(agent, "agents")?,
            ],
        )
        .map(drop)
    }

    pub(super) fn agent_read(&self, key: &AgentKey) -> Kept<Option<RegisteredAgent>> {
        let sql = "SELECT body, enabled FROM agents WHERE tenant = ?1 AND name = ?2 AND digest = ?3";
        let key = params![owner(key.tenant.as_ref()), key.name.as_str(), key.digest.as_str()];
        self.one("reading an agent", sql, key, agent)
    }

    pub(super) fn agents_read(&self, tenant: Option<&TenantId>) -> Kept<Vec<RegisteredAgent>> {
        let sql = "SELECT body, enabled FROM agents WHERE ?1 IS NULL OR tenant IN ('', ?1)
             ORDER BY name, registered_at, tenant, digest";
        self.many("listing agents", sql, [tenant.map(|tenant| tenant.as_str())], agent)
    }

    pub(super) fn agents_counted(&self, tenant: Option<&TenantId>) -> Kept<u32> {
        let sql = "SELECT count(*) FROM agents WHERE tenant = ?1";
        Ok(self.one("counting agents", sql, [owner(tenant)], |row| row.get(0))?.unwrap_or(0))
    }

    pub(super) fn agent_enabled(&self, key: &AgentKey, enabled: bool) -> Kept<()> {
        let sql = "UPDATE agents SET enabled = ?4 WHERE tenant = ?1 AND name = ?2 AND digest = ?3";
        let values = params![owner(key.tenant.as_ref()), key.name.as_str(), key.digest.as_str(), enabled];
        self.write("enabling an agent", sql, values).map(drop)
    }

    pub(super) fn pin_write(&self, tenant: &TenantId, name: &AgentName, digest: Option<&Digest>) -> Kept<()> {
        let (tenant, name) = (tenant.as_str(), name.as_str());
        match digest {
            None => {
                let sql = "DELETE FROM agent_pins WHERE tenant = ?1 AND name = ?2";
                self.write("taking out a pin", sql, params![tenant, name]).map(drop)
            }
            Some(digest) => {
                let sql = "INSERT INTO agent_pins (tenant, name, digest) VALUES (?1, ?2, ?3)
                     ON CONFLICT (tenant, name) DO UPDATE SET digest = excluded.digest";
                self.write("pinning an agent", sql, params![tenant, name, digest.as_str()]).map(drop)
            }
        }
    }

    pub(super) fn pins_read(&self, tenant: &TenantId) -> Kept<BTreeMap<AgentName, Digest>> {
        let sql = "SELECT name, digest FROM agent_pins WHERE tenant = ?1";
        let pins = self.many("reading pins", sql, [tenant.as_str()], |row| {
            Ok((parsed::<AgentName>(row, 0)?, parsed::<Digest>(row, 1)?))
        })?;
        Ok(pins.into_iter().collect())
    }

    pub(super) fn agent_log_write(&self, line: &AgentLogRow) -> Kept<()> {
        self.write(
            "appending to the log of agents",
            "INSERT INTO agent_log (at, actor, change, tenant, name, digest) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                time(line.by.at),
                line.by.actor,
                line.change.as_str(),
                owner(line.tenant.as_ref()),
                line.name.as_str(),
                line.digest.as_ref().map(|digest| digest.as_str()),
            ],
        )
        .map(drop)
    }

    pub(super) fn agent_log_read(&self, after: u64, limit: u32) -> Kept<Vec<AgentLogRow>> {
        let sql = "SELECT seq, at, actor, change, tenant, name, digest FROM agent_log
             WHERE seq > ?1 ORDER BY seq LIMIT ?2";
        self.many("reading the log of agents", sql, params![int(after), limit.min(MAX_PAGE)], |row| {
            let (tenant, digest): (String, Option<String>) = (row.get(4)?, row.get(6)?);
            Ok(AgentLogRow {
                seq: unsigned(row, 0)?,
                by: By { actor: row.get(2)?, at: instant(row, 1)? },
                change: word(row, 3, AgentChange::parse)?,
                tenant: if tenant.is_empty() { None } else { Some(parsed(row, 4)?) },
                name: parsed(row, 5)?,
                digest: digest.map(|_| parsed(row, 6)).transpose()?,
            })
        })
    }
}
