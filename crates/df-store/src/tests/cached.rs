//! What the writer has at hand is what is in the rows, also when these change behind its back.

use df_contract::WorkerClass;
use df_contract::decision::Verdict;
use df_control_machine::CommandBody;
use rusqlite::Connection;

use super::bench::Bench;
use super::faulty::{Backend, Fault};
use crate::{JobFilter, StoreError};

fn damage(bench: &Bench, sql: &str) {
    let file = bench.dir.as_ref().unwrap().path().join(crate::sqlite::FILE);
    assert_eq!(Connection::open(file).unwrap().execute(sql, []).unwrap(), 1, "{sql}");
}

/// A row that was moved behind the writer's back is not overwritten; what was at hand is forgotten, so that the
/// next command sees the row as it is.
#[tokio::test]
async fn a_version_moved_behind_the_back_is_noticed() {
    let mut bench = Bench::sqlite();
    let job = bench.submit(0).await;
    damage(&bench, "UPDATE jobs SET version = version + 1");
    let start = bench.command(job, "daemon", CommandBody::StartAnalysis);
    let refused = bench.store.commit(vec![start.clone()]).await.unwrap_err();
    assert!(matches!(refused, StoreError::Invariant(_)), "{refused}");
    let unreadable = bench.store.commit(vec![start.clone()]).await.unwrap_err();
    assert!(matches!(unreadable, StoreError::Row { table: "jobs", .. }), "{unreadable}");
    damage(&bench, "UPDATE jobs SET version = version - 1");
    bench.commit(start).await.unwrap();
}

/// Likewise a task.
#[tokio::test]
async fn an_epoch_moved_behind_the_back_is_noticed() {
    let mut bench = Bench::sqlite();
    let job = bench.submit(0).await;
    bench.advance(job, Verdict::Approved).await;
    let session = bench.session(WorkerClass::Trusted, 4).await;
    damage(&bench, "UPDATE tasks SET epoch = epoch + 1");
    let request = bench.claim_request(session, 1);
    assert!(bench.store.claim(request).await.is_err());
    assert_eq!(bench.claim(session, 1).await, vec![], "the job is damaged, and passed over");
    damage(&bench, "UPDATE tasks SET epoch = epoch - 1");
    assert_eq!(bench.claim(session, 1).await.len(), 1);
}

/// A damaged body is written anew from what is at hand; a document is not, and is found when it is read.
#[tokio::test]
async fn damage_to_a_job_at_hand_is_healed_or_found() {
    let mut bench = Bench::sqlite();
    let job = bench.submit(0).await;
    damage(&bench, "UPDATE jobs SET body = '{'");
    assert!(bench.store.job(job).await.is_err(), "readers see the rows");
    bench.send(job, "daemon", CommandBody::StartAnalysis).await.unwrap();
    assert_eq!(bench.record(job).await.version, 2);
    for sql in [
        "UPDATE documents SET body = '{' WHERE name = 'spec'",
        "UPDATE documents SET name = 'ghost' WHERE name = 'spec'",
        "DELETE FROM documents WHERE name = 'ghost'",
    ] {
        damage(&bench, sql);
        assert!(matches!(bench.store.job(job).await, Err(StoreError::Row { table: "jobs", .. })), "{sql}");
    }
}

/// The disk may say no at the commit: then nothing of the group was, at hand or in the rows.
#[tokio::test]
async fn what_was_not_committed_is_not_at_hand() {
    for (backend, cached) in [(Backend::Memory, 9), (Backend::Sqlite, 9), (Backend::Sqlite, 0)] {
        let fault = Fault::default();
        let mut bench = Bench::faulty(backend, cached, fault.clone());
        let job = bench.submit(0).await;
        let before = bench.record(job).await;
        fault.fail_next();
        let start = bench.command(job, "daemon", CommandBody::StartAnalysis);
        let lost = bench.store.commit(vec![start.clone()]).await.unwrap_err();
        assert!(matches!(lost, StoreError::NotCommitted(_)), "{lost}");
        assert_eq!(bench.record(job).await, before);
        fault.fail_next();
        let unborn = bench.job_id();
        let submit = bench.command(unborn, "alice", super::bench::submission(0));
        bench.store.commit(vec![submit.clone()]).await.unwrap_err();
        assert_eq!(bench.store.job(unborn).await.unwrap(), None);
        assert_eq!(
            bench.commit(start).await.unwrap().version,
            2,
            "sent again, it is decided on what is there"
        );
        assert_eq!(bench.commit(submit).await.unwrap().version, 1);
        let listed = bench.store.job_list(JobFilter { limit: 9, ..Default::default() }).await.unwrap();
        assert_eq!(listed.len(), 2);
    }
}
