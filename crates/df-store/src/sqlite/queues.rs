//! The statements of claims.

use std::collections::{BTreeMap, BTreeSet};

use df_contract::agent::Runtime;
use df_contract::{AgentName, JobId, TaskSlug, TenantId, Timestamp};
use df_control_machine::retry::LONGEST_WAIT;
use df_control_machine::schedule::{Breakers, Runner, Running};
use df_control_machine::{Breaker, BreakerKey};
use rusqlite::{Row, params};

use super::Sqlite;
use super::cells::{from_json, int, json, parsed, time, unsigned, word};
use crate::queue::{Queues, Waiting};
use crate::row::MAX_PAGE;
use crate::rows::Kept;

/// One step of the index for each queue, however much waits in it.
const QUEUES: &str = "WITH RECURSIVE queues (queue) AS (
         SELECT min(queue) FROM tasks WHERE claimable = 1 AND queue > ?2
         UNION ALL
         SELECT (SELECT min(t.queue) FROM tasks t WHERE t.claimable = 1 AND t.queue > queues.queue)
         FROM queues WHERE queue IS NOT NULL)
     SELECT queue FROM queues WHERE queue IS NOT NULL LIMIT ?1";

const WAITING: &str = "SELECT job, slug, urgency, rank FROM tasks
     WHERE claimable = 1 AND queue = ?1 AND (not_before <= ?2 OR not_before > ?4)
     ORDER BY urgency, rank DESC, job, slug LIMIT ?3";

const WAITING_WITHOUT: &str = "SELECT job, slug, urgency, rank FROM tasks
     WHERE claimable = 1 AND queue = ?1 AND (not_before <= ?2 OR not_before > ?4)
         AND job NOT IN (SELECT value FROM json_each(?5))
     ORDER BY urgency, rank DESC, job, slug LIMIT ?3";

const RUNNING: &str = "SELECT tenant, job, agent, runtime, count(*) FROM tasks WHERE state = 'LEASED'
     GROUP BY tenant, job, agent, runtime";

fn waiting(row: &Row<'_>) -> rusqlite::Result<Waiting> {
    Ok(Waiting {
        job: parsed(row, 0)?,
        slug: parsed::<TaskSlug>(row, 1)?,
        urgency: row.get(2)?,
        rank: row.get(3)?,
    })
}

fn runtime(text: &str) -> Option<Runtime> {
    Runtime::ALL.iter().copied().find(|runtime| runtime.as_str() == text)
}

/// Tenant, job, runner and number of a group of leases; what cannot be read is counted nowhere.
type Held = (Option<TenantId>, JobId, Option<AgentName>, Option<Runtime>, u32);

fn held(row: &Row<'_>) -> rusqlite::Result<Held> {
    let (tenant, agent, ran): (String, Option<String>, Option<String>) =
        (row.get(0)?, row.get(2)?, row.get(3)?);
    let agent = agent.and_then(|agent| agent.parse().ok());
    Ok((tenant.parse().ok(), parsed(row, 1)?, agent, ran.as_deref().and_then(runtime), row.get(4)?))
}

fn cells(key: &BreakerKey) -> [&str; 4] {
    [&key.worker, key.tenant.as_str(), key.runner.runtime.as_str(), key.runner.agent.as_str()]
}

fn breaker(row: &Row<'_>) -> rusqlite::Result<(BreakerKey, Breaker)> {
    let runner = Runner { runtime: word(row, 2, runtime)?, agent: parsed(row, 3)? };
    let key = BreakerKey { worker: row.get(0)?, tenant: parsed(row, 1)?, runner };
    Ok((key, from_json(row, 4)?))
}

impl Queues for Sqlite {
    fn queues(&self, after: &str, limit: u32) -> Kept<Vec<String>> {
        self.many("listing queues", QUEUES, params![limit, after], |row| row.get(0))
    }

    fn waiting(
        &self,
        queue: &str,
        now: Timestamp,
        without: &BTreeSet<JobId>,
        limit: u32,
    ) -> Kept<Vec<Waiting>> {
        // As `retry::is_due` says.
        let (what, last) = ("looking for work", time(now.plus(LONGEST_WAIT)));
        if without.is_empty() {
            return self.many(what, WAITING, params![queue, time(now), limit, last], waiting);
        }
        let without = json(without, "tasks")?;
        self.many(what, WAITING_WITHOUT, params![queue, time(now), limit, last, without], waiting)
    }

    fn running(&self) -> Kept<Running> {
        let mut running = Running::default();
        for (tenant, job, agent, runtime, count) in self.many("counting leases", RUNNING, [], held)? {
            *running.jobs.entry(job).or_default() += count;
            if let Some(tenant) = tenant {
                *running.tenants.entry(tenant.clone()).or_default() += count;
                if let Some(agent) = agent {
                    *running.agents.entry(tenant).or_default().entry(agent).or_default() += count;
                }
            }
            runtime.into_iter().for_each(|runtime| *running.runtimes.entry(runtime).or_default() += count);
        }
        Ok(running)
    }

    fn passes(&self) -> Kept<BTreeMap<TenantId, u64>> {
        let passes = self.many("reading passes", "SELECT tenant, pass FROM tenants", [], |row| {
            Ok((parsed(row, 0)?, unsigned(row, 1)?))
        })?;
        Ok(passes.into_iter().collect())
    }

    fn pass_write(&mut self, tenant: &TenantId, pass: u64) -> Kept<()> {
        let sql = "INSERT INTO tenants (tenant, pass) VALUES (?1, ?2)
             ON CONFLICT (tenant) DO UPDATE SET pass = excluded.pass";
        self.write("keeping a pass", sql, params![tenant.as_str(), int(pass)]).map(drop)
    }

    fn passes_forget(&mut self, virtual_time: u64) -> Kept<()> {
        self.write("forgetting passes", "DELETE FROM tenants WHERE pass <= ?1", [int(virtual_time)]).map(drop)
    }

    fn breakers(&self, tenant: Option<&TenantId>, limit: u32) -> Kept<Vec<(BreakerKey, Breaker)>> {
        let sql = "SELECT worker, tenant, runtime, agent, body FROM breakers WHERE ?1 IS NULL OR tenant = ?1
             ORDER BY worker, tenant, runtime, agent LIMIT ?2";
        let values = params![tenant.map(TenantId::as_str), limit.min(MAX_PAGE)];
        self.many("reading breakers", sql, values, breaker)
    }

    fn breakers_of(&self, worker: &str) -> Kept<Breakers> {
        let sql = "SELECT worker, tenant, runtime, agent, body FROM breakers WHERE worker = ?1";
        let mut own = Breakers::new();
        for (key, breaker) in self.many("reading a worker's breakers", sql, [worker], breaker)? {
            own.entry(key.tenant).or_default().insert(key.runner, breaker);
        }
        Ok(own)
    }

    fn breaker(&self, key: &BreakerKey) -> Kept<Option<Breaker>> {
        let sql =
            "SELECT body FROM breakers WHERE worker = ?1 AND tenant = ?2 AND runtime = ?3 AND agent = ?4";
        self.one("reading a breaker", sql, cells(key), |row| from_json(row, 0))
    }

    fn breaker_write(&mut self, key: &BreakerKey, breaker: Breaker, now: Timestamp) -> Kept<()> {
        if breaker.is_fresh() {
            let sql =
                "DELETE FROM breakers WHERE worker = ?1 AND tenant = ?2 AND runtime = ?3 AND agent = ?4";
            return self.write("forgetting a breaker", sql, cells(key)).map(drop);
        }
        let sql = "INSERT INTO breakers (worker, tenant, runtime, agent, body, seen_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (worker, tenant, runtime, agent)
             DO UPDATE SET body = excluded.body, seen_at = excluded.seen_at";
        let ([worker, tenant, runtime, agent], body) = (cells(key), json(&breaker, "breakers")?);
        let values = params![worker, tenant, runtime, agent, body, time(now)];
        self.write("keeping a breaker", sql, values).map(drop)
    }

    fn breakers_seen(&mut self, workers: &BTreeSet<String>, now: Timestamp) -> Kept<()> {
        let sql = "UPDATE breakers SET seen_at = ?1
             WHERE seen_at > ?1 OR worker IN (SELECT value FROM json_each(?2))";
        let workers = json(workers, "breakers")?;
        self.write("noting who is there", sql, params![time(now), workers]).map(drop)
    }

    fn breakers_forget(&mut self, before: Timestamp, limit: u32) -> Kept<u64> {
        let sql = "DELETE FROM breakers WHERE (worker, tenant, runtime, agent) IN (
             SELECT worker, tenant, runtime, agent FROM breakers WHERE seen_at < ?1
             ORDER BY worker, tenant, runtime, agent LIMIT ?2)";
        let gone = self.write("forgetting breakers", sql, params![time(before), limit.min(MAX_PAGE)])?;
        Ok(gone as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A claim neither sorts nor reads what is behind what it takes.
    #[test]
    fn claims_use_their_indexes() {
        let dir = tempfile::tempdir().unwrap();
        let store = Sqlite::open(dir.path()).unwrap();
        for (sql, index) in [
            (QUEUES, "tasks_waiting"),
            (WAITING, "tasks_waiting"),
            (WAITING_WITHOUT, "tasks_waiting"),
            (RUNNING, "tasks_running"),
        ] {
            let sql =
                ["?1", "?2", "?3", "?4", "?5"].iter().fold(sql.to_owned(), |sql, n| sql.replace(n, "'1'"));
            let mut asked = store.connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let rows: Vec<String> =
                asked.query_map([], |row| row.get(3)).unwrap().collect::<Result<_, _>>().unwrap();
            let plan = rows.join("; ");
            assert!(plan.contains(&format!("USING COVERING INDEX {index}")), "{plan}");
            assert!(!plan.contains("TEMP B-TREE") && !plan.contains("SCAN tasks;"), "{plan}");
        }
    }
}
