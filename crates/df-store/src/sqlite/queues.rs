//! The statements of claims.

use std::collections::{BTreeMap, BTreeSet};

use df_contract::agent::Runtime;
use df_contract::{AgentName, JobId, TaskSlug, TenantId, Timestamp};
use df_control_machine::Breaker;
use df_control_machine::schedule::{Runner, Running};
use rusqlite::{Row, params};

use super::Sqlite;
use super::cells::{from_json, int, json, parsed, time, unsigned, word};
use crate::queue::{Queues, Waiting};
use crate::rows::Kept;

/// One step of the index for each queue, however much waits in it.
const QUEUES: &str = "WITH RECURSIVE queues (queue) AS (
         SELECT min(queue) FROM tasks WHERE claimable = 1 AND queue > ?2
         UNION ALL
         SELECT (SELECT min(t.queue) FROM tasks t WHERE t.claimable = 1 AND t.queue > queues.queue)
         FROM queues WHERE queue IS NOT NULL)
     SELECT queue FROM queues WHERE queue IS NOT NULL LIMIT ?1";

const WAITING: &str = "SELECT job, slug, urgency, rank FROM tasks
     WHERE claimable = 1 AND queue = ?1 AND not_before <= ?2
     ORDER BY urgency, rank DESC, job, slug LIMIT ?3";

const WAITING_WITHOUT: &str = "SELECT job, slug, urgency, rank FROM tasks
     WHERE claimable = 1 AND queue = ?1 AND not_before <= ?2 AND job NOT IN (SELECT value FROM json_each(?4))
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
        let what = "looking for work";
        if without.is_empty() {
            return self.many(what, WAITING, params![queue, time(now), limit], waiting);
        }
        let without = json(without, "tasks")?;
        self.many(what, WAITING_WITHOUT, params![queue, time(now), limit, without], waiting)
    }

    fn running(&self) -> Kept<Running> {
        let mut running = Running::default();
        for (tenant, job, agent, runtime, count) in self.many("counting leases", RUNNING, [], held)? {
            *running.jobs.entry(job).or_default() += count;
            tenant.into_iter().for_each(|tenant| *running.tenants.entry(tenant).or_default() += count);
            agent.into_iter().for_each(|agent| *running.agents.entry(agent).or_default() += count);
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

    fn breakers(&self) -> Kept<BTreeMap<Runner, Breaker>> {
        let sql = "SELECT runtime, agent, body FROM breakers";
        let breakers = self.many("reading breakers", sql, [], |row| {
            let runner = Runner { runtime: word(row, 0, runtime)?, agent: parsed(row, 1)? };
            Ok((runner, from_json(row, 2)?))
        })?;
        Ok(breakers.into_iter().collect())
    }

    fn breaker(&self, runner: &Runner) -> Kept<Option<Breaker>> {
        let sql = "SELECT body FROM breakers WHERE runtime = ?1 AND agent = ?2";
        let key = params![runner.runtime.as_str(), runner.agent.as_str()];
        self.one("reading a breaker", sql, key, |row| from_json(row, 0))
    }

    fn breaker_write(&mut self, runner: &Runner, breaker: Breaker) -> Kept<()> {
        let (runtime, agent) = (runner.runtime.as_str(), runner.agent.as_str());
        if breaker.is_fresh() {
            let sql = "DELETE FROM breakers WHERE runtime = ?1 AND agent = ?2";
            return self.write("forgetting a breaker", sql, [runtime, agent]).map(drop);
        }
        let sql = "INSERT INTO breakers (runtime, agent, body) VALUES (?1, ?2, ?3)
             ON CONFLICT (runtime, agent) DO UPDATE SET body = excluded.body";
        self.write("keeping a breaker", sql, params![runtime, agent, json(&breaker, "breakers")?]).map(drop)
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
            let sql = ["?1", "?2", "?3", "?4"].iter().fold(sql.to_owned(), |sql, n| sql.replace(n, "'1'"));
            let mut asked = store.connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let rows: Vec<String> =
                asked.query_map([], |row| row.get(3)).unwrap().collect::<Result<_, _>>().unwrap();
            let plan = rows.join("; ");
            assert!(plan.contains(&format!("USING COVERING INDEX {index}")), "{plan}");
            assert!(!plan.contains("TEMP B-TREE") && !plan.contains("SCAN tasks;"), "{plan}");
        }
    }
}
