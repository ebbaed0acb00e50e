//! What only a database on a disk can show: the lock, the schema, the triggers, tampering, neighbours in a group.

use std::collections::BTreeSet;

use df_contract::{Digest, ErrorCode, KeyId, Role, Timestamp};
use df_control_audit::{Verified, verify_export};
use rusqlite::Connection;

use super::bench::{Bench, LIFECYCLE};
use crate::cache::Cache;
use crate::owner::Owner;
use crate::sqlite::Sqlite;
use crate::{KeyRow, Store, StoreError, audit_export};

fn raw(bench: &Bench) -> Connection {
    Connection::open(bench.dir.as_ref().unwrap().path().join("control.db")).unwrap()
}

fn verify(bench: &Bench) -> Verified {
    let lines = audit_export(bench.dir.as_ref().unwrap().path()).unwrap();
    verify_export(lines.map(|line| line.unwrap()), &LIFECYCLE)
}

#[tokio::test]
async fn a_second_process_is_refused_by_name() {
    let bench = Bench::sqlite();
    let dir = bench.dir.as_ref().unwrap().path();
    let refused = Store::open_sqlite(dir).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::StoreLocked);
    let told = refused.to_string();
    assert!(told.contains(&dir.display().to_string()), "{told}");
    assert!(told.contains(&std::process::id().to_string()), "{told}");
    bench.store.close().await;
    Store::open_sqlite(dir).unwrap();
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_alone() {
    let bench = Bench::sqlite();
    let dir = bench.dir.as_ref().unwrap().path();
    bench.store.close().await;
    raw(&bench).execute("INSERT INTO schema_version (version) VALUES (99)", []).unwrap();
    assert!(matches!(Store::open_sqlite(dir), Err(StoreError::Newer { found: 99, .. })));
    assert!(matches!(audit_export(dir), Err(StoreError::Newer { found: 99, .. })));
}

#[tokio::test]
async fn nothing_to_export_is_said() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(audit_export(dir.path()), Err(StoreError::Missing(_))));
}

#[tokio::test]
async fn the_database_itself_keeps_the_log_append_only() {
    let mut bench = Bench::sqlite();
    bench.in_progress().await;
    bench.store.close().await;
    let database = raw(&bench);
    for sql in [
        "UPDATE audit SET record = replace(record, 'alice', 'mallory')",
        "DELETE FROM audit WHERE seq = 1",
        "INSERT OR REPLACE INTO audit SELECT job, seq, '{}' FROM audit WHERE seq = 1",
        "INSERT INTO audit SELECT job, 1000, record FROM audit WHERE seq = 1",
    ] {
        assert!(database.execute(sql, []).is_err(), "{sql}");
    }
}

#[tokio::test]
async fn an_export_verifies_beside_the_writer_and_without_one() {
    let mut bench = Bench::sqlite();
    let jobs = [bench.in_progress().await, bench.submit(1).await];
    let mut records = 0;
    for job in jobs {
        records += bench.store.audit(job).await.unwrap().len() as u64;
    }
    let want = Verified { jobs: 2, records, findings: Vec::new() };
    assert_eq!(verify(&bench), want);
    bench.store.close().await;
    assert_eq!(verify(&bench), want);
}

/// Whoever can write the file can drop the triggers; the chain and the fold still tell.
#[tokio::test]
async fn tampering_with_the_file_is_found() {
    let last = "(SELECT max(seq) FROM audit a WHERE a.job = audit.job)";
    let cases = [
        "UPDATE jobs SET state = 'COMPLETED'".to_owned(),
        "UPDATE jobs SET state = 'COMPLETED', body = json_set(body, '$.state', 'COMPLETED')".to_owned(),
        "UPDATE jobs SET body = json_set(body, '$.resume_to', 'APPROVED')".to_owned(),
        "UPDATE jobs SET version = version + 1, body = json_set(body, '$.version', version + 1)".to_owned(),
        "UPDATE jobs SET audit_seq = audit_seq - 1".to_owned(),
        "UPDATE jobs SET body = '{'".to_owned(),
        "UPDATE tasks SET epoch = epoch + 1 WHERE slug = 'intake'".to_owned(),
        "UPDATE tasks SET epoch = 9, body = json_set(body, '$.epoch', 9) WHERE slug = 'intake'".to_owned(),
        "UPDATE tasks SET state = 'READY', body = json_set(body, '$.state', 'READY') WHERE slug = 'plan'"
            .to_owned(),
        "DELETE FROM tasks WHERE slug = 'b'".to_owned(),
        "UPDATE audit SET record = replace(record, 'alice', 'mallory')".to_owned(),
        "UPDATE audit SET record = '?' WHERE seq = 3".to_owned(),
        "UPDATE audit SET seq = seq + 100".to_owned(),
        "DELETE FROM audit WHERE seq = 2".to_owned(),
        format!("DELETE FROM audit WHERE seq = {last}"),
        "DELETE FROM audit".to_owned(),
        "PRAGMA foreign_keys = OFF; DELETE FROM tasks; DELETE FROM jobs".to_owned(),
    ];
    for sql in cases {
        let mut bench = Bench::sqlite();
        bench.in_progress().await;
        bench.store.close().await;
        let database = raw(&bench);
        let triggers = "DROP TRIGGER audit_is_never_changed; DROP TRIGGER audit_is_never_deleted;
             DROP TRIGGER audit_grows_at_its_end;";
        database.execute_batch(triggers).unwrap();
        assert_eq!(verify(&bench).findings, vec![], "before");
        database.execute_batch(&sql).unwrap();
        assert_ne!(verify(&bench).findings, vec![], "{sql}");
    }
}

#[tokio::test]
async fn a_failing_operation_does_not_harm_its_neighbours() {
    let bench = Bench::sqlite();
    let key = |n: u8| KeyRow {
        id: KeyId::mint(Timestamp(5), [n; 10]),
        identity: "alice".into(),
        roles: BTreeSet::from([Role::Viewer]),
        tenant: "acme".parse().unwrap(),
        class: None,
        hash: Digest::of(b"the same"),
        created_at: Timestamp(5),
        expires_at: None,
        revoked: false,
    };
    let store = &bench.store;
    let (first, second, third) =
        tokio::join!(store.key_insert(key(1)), store.key_insert(key(2)), store.meta_set("name", "value"));
    assert!(first.is_ok() && third.is_ok());
    assert!(second.is_err());
    assert_eq!(store.key_list().await.unwrap(), [key(1)]);
    assert_eq!(store.meta_get("name").await.unwrap().as_deref(), Some("value"));
}

/// A full disk is a refusal, not a loss: what was acknowledged stays, and room lets the store go on.
#[tokio::test]
async fn a_full_disk_refuses_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Sqlite::open(dir.path()).unwrap();
    engine.limit_pages(64);
    let owner = Owner::spawn(engine, Cache::default()).unwrap();
    let big = "x".repeat(10_000);
    let mut kept = 0;
    let refused = loop {
        let (name, value) = (format!("n{kept}"), big.clone());
        match owner.call(move |tx| tx.rows.meta_write(&name, &value)).await {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 64, "the limit holds");
    };
    assert_eq!(refused.code(), ErrorCode::StoreUnavailable, "{refused}");
    assert!(kept > 0);
    assert_eq!(owner.call(|tx| tx.rows.meta("n0")).await.unwrap(), Some(big.clone()), "reads go on");
    owner.close().await;
    let store = Store::open_sqlite(dir.path()).unwrap();
    for n in 0..kept {
        assert_eq!(store.meta_get(&format!("n{n}")).await.unwrap().as_ref(), Some(&big));
    }
    assert_eq!(store.meta_get(&format!("n{kept}")).await.unwrap(), None);
    store.meta_set(&format!("n{kept}"), &big).await.unwrap();
}
