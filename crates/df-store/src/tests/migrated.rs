//! A database as an earlier schema left it opens, and goes on.

use df_contract::decision::Verdict;
use df_contract::{JobId, WorkerClass};
use rusqlite::Connection;

use super::bench::Bench;
use crate::Store;

/// Version 1 of the schema: bodies held the whole record but its tasks.
const FIRST: &str = include_str!("../../../../schema/migrations/sqlite/0001_control.sql");
const TABLE: &str = "CREATE TABLE schema_version (version INTEGER NOT NULL) STRICT;
     INSERT INTO schema_version (version) VALUES (1);";

/// Tables of the first schema with the columns that they had.
const COPIED: [(&str, &str); 8] = [
    (
        "tasks",
        "job, slug, kind, state, epoch, session, not_before, deadline, last_progress, progress_next, body",
    ),
    ("commands", "id, digest, job, version, state"),
    ("audit", "job, seq, record"),
    ("events", "job, seq, at, event"),
    ("outbox", "id, job, effect, created_at, done_at"),
    ("sessions", "id, expires_at, body"),
    ("keys", "id, hash, revoked, body"),
    ("meta", "name, value"),
];

/// Rewrites the bench's database as the first schema had it: every document is back in its job's body.
pub(crate) fn as_first_schema(bench: &Bench) {
    let dir = bench.dir.as_ref().unwrap().path();
    let old = Connection::open(dir.join("old.db")).unwrap();
    old.execute_batch(FIRST).unwrap();
    old.execute_batch(TABLE).unwrap();
    old.execute("ATTACH ?1 AS now", [dir.join(crate::sqlite::FILE).to_str().unwrap()]).unwrap();
    old.execute_batch(
        "INSERT INTO jobs SELECT id, tenant, submitter, title, state, version, priority, created_at, updated_at,
             audit_seq, audit_head, event_seq, progress_kept,
             json_set(json_patch(
                 '{\"facts\": 0, \"decision\": 0, \"plan\": 0, \"proposed_plan\": 0, \"gate_facts\": 0}', body),
                 '$.facts', NULL, '$.decision', NULL, '$.plan', NULL, '$.proposed_plan', NULL,
                 '$.gate_facts', NULL, '$.tasks', json('{}'))
         FROM now.jobs;",
    )
    .unwrap();
    let documents: Vec<(String, String, String)> = {
        let mut found = old.prepare("SELECT job, name, body FROM now.documents").unwrap();
        let rows = found.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
        rows.map(|row| row.unwrap()).collect()
    };
    for (job, name, body) in documents {
        let sql = "UPDATE jobs SET body = json_set(body, '$.' || ?2, json(?3)) WHERE id = ?1";
        old.execute(sql, [job, name, body]).unwrap();
    }
    old.execute_batch(
        "UPDATE jobs SET body = json_set(body, '$.integrated', json((SELECT json_group_array(of) FROM (
             SELECT body ->> '$.merges' AS of FROM now.tasks WHERE job = jobs.id AND body ->> '$.merge_number' > 0
             ORDER BY body ->> '$.merge_number'))))",
    )
    .unwrap();
    for (table, columns) in COPIED {
        old.execute_batch(&format!(
            "INSERT INTO {table} ({columns}) SELECT {columns} FROM now.{table} ORDER BY 1, 2"
        ))
        .unwrap();
    }
    old.execute_batch("UPDATE tasks SET body = json_remove(body, '$.merge_number')").unwrap();
    drop(old);
    for name in ["control.db-wal", "control.db-shm"] {
        std::fs::remove_file(dir.join(name)).ok();
    }
    std::fs::rename(dir.join("old.db"), dir.join(crate::sqlite::FILE)).unwrap();
}

fn raw(bench: &Bench) -> Connection {
    Connection::open(bench.dir.as_ref().unwrap().path().join(crate::sqlite::FILE)).unwrap()
}

fn count(database: &Connection, sql: &str) -> u32 {
    database.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// What every task's row says of where it stands.
fn places(database: &Connection) -> Vec<String> {
    let sql = "SELECT concat_ws(' ', job, slug, tenant, queue, urgency, rank, claimable, agent, runtime)
         FROM tasks ORDER BY 1";
    let mut found = database.prepare(sql).unwrap();
    found.query_map([], |row| row.get(0)).unwrap().map(|row| row.unwrap()).collect()
}

#[tokio::test]
async fn a_database_of_the_first_schema_opens_and_goes_on() {
    let mut bench = Bench::sqlite();
    let half_way = bench.in_progress().await;
    let young = bench.submit(3).await;
    let mut before = Vec::new();
    for job in [half_way, young] {
        before.push((bench.record(job).await, bench.store.audit(job).await.unwrap()));
    }
    // Passes are younger than the first schema.
    let placed = (bench.queues().await.split_off(3), places(&raw(&bench)));
    bench.store.close().await;
    as_first_schema(&bench);
    let old = raw(&bench);
    assert_eq!(count(&old, "SELECT count(*) FROM sqlite_schema WHERE name = 'documents'"), 0);
    assert_eq!(count(&old, "SELECT count(*) FROM jobs WHERE body -> '$.spec.title' IS NOT NULL"), 2);
    assert_eq!(count(&old, "SELECT count(*) FROM jobs WHERE body -> '$.plan.tasks' IS NOT NULL"), 1);
    drop(old);

    bench.store = Store::open_sqlite(bench.dir.as_ref().unwrap().path()).unwrap();
    for (job, before) in [half_way, young].into_iter().zip(before) {
        assert_eq!((bench.record(job).await, bench.store.audit(job).await.unwrap()), before);
    }
    assert_eq!((bench.queues().await.split_off(3), places(&raw(&bench))), placed);
    let session = bench.session(WorkerClass::Trusted, 4).await;
    let lease = bench.claim(session, 1).await.remove(0);
    assert_eq!(lease.job, half_way);
    bench.succeed(&lease).await;
    bench.advance(young, Verdict::Approved).await;
    bench.store.close().await;
    let now = raw(&bench);
    assert_eq!(count(&now, "SELECT count(*) FROM documents WHERE name = 'spec'"), 2);
    assert_eq!(count(&now, "SELECT count(*) FROM jobs WHERE body -> '$.spec' IS NOT NULL"), 0);
}

/// The list of merges that jobs had is the number that each merge has.
#[tokio::test]
async fn merges_of_an_older_schema_keep_their_order() {
    let mut bench = Bench::sqlite();
    let job = bench.in_progress().await;
    let session = bench.session(WorkerClass::Trusted, 4).await;
    for _ in 0..5 {
        bench.advance(job, Verdict::Approved).await;
        let lease = bench.claim(session, 1).await.remove(0);
        bench.succeed(&lease).await;
    }
    let before = bench.record(job).await;
    assert_eq!(before.integrated().iter().map(|slug| slug.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    bench.store.close().await;
    as_first_schema(&bench);
    let old = raw(&bench);
    assert_eq!(count(&old, "SELECT count(*) FROM jobs WHERE body ->> '$.integrated' = '[\"a\",\"b\"]'"), 1);
    assert_eq!(count(&old, "SELECT count(*) FROM tasks WHERE body ->> '$.merge_number' > 0"), 0);
    drop(old);
    bench.store = Store::open_sqlite(bench.dir.as_ref().unwrap().path()).unwrap();
    assert!(bench.record(job).await == before, "it is what it was");
    let session = bench.session(WorkerClass::Trusted, 4).await;
    let lease = bench.claim(session, 1).await.remove(0);
    bench.succeed(&lease).await;
    let after = bench.record(job).await.integrated();
    assert_eq!(after.iter().map(|slug| slug.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(count(&raw(&bench), "SELECT count(*) FROM documents WHERE name = 'integrated'"), 0);
}

/// One damaged row is no reason to refuse all others.
#[tokio::test]
async fn a_damaged_job_does_not_hold_up_the_migration() {
    let mut bench = Bench::sqlite();
    let jobs: [JobId; 2] = [bench.submit(0).await, bench.submit(0).await];
    bench.store.close().await;
    as_first_schema(&bench);
    raw(&bench).execute("UPDATE jobs SET body = '{' WHERE id = ?1", [jobs[0].to_string()]).unwrap();
    bench.store = Store::open_sqlite(bench.dir.as_ref().unwrap().path()).unwrap();
    assert!(bench.store.job(jobs[0]).await.is_err());
    bench.advance(jobs[1], Verdict::Approved).await;
}

/// A breaker of version 6 belonged to an agent alone.
#[tokio::test]
async fn breakers_of_the_sixth_schema_are_forgotten_and_the_rest_goes_on() {
    let mut bench = Bench::sqlite();
    let job = bench.in_progress().await;
    bench.store.close().await;
    let old = raw(&bench);
    old.execute_batch(
        "DROP TABLE breakers;
         CREATE TABLE breakers (runtime TEXT NOT NULL, agent TEXT NOT NULL, body TEXT NOT NULL,
             PRIMARY KEY (runtime, agent)) STRICT, WITHOUT ROWID;
         INSERT INTO breakers VALUES ('builtin', 'backend', '{\"state\":\"open\",\"until\":99999999999999,\"trips\":1}');
         DELETE FROM schema_version WHERE version > 6;
         DROP TABLE agent_pins; DROP TABLE agent_versions; DROP TABLE agents; DROP TABLE agent_signers; DROP TABLE agent_log;",
    )
    .unwrap();
    old.execute_batch(include_str!("../../../../schema/migrations/sqlite/0003_agents.sql")).unwrap();
    drop(old);
    bench.store = Store::open_sqlite(bench.dir.as_ref().unwrap().path()).unwrap();
    assert_eq!(bench.store.breakers(None).await.unwrap(), vec![]);
    let session = bench.session(WorkerClass::Trusted, 4).await;
    assert_eq!(bench.claim(session, 4).await[0].job, job);
}
