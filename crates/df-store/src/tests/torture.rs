//! A process that writes and acknowledges is killed at random: nothing acknowledged is lost, the log verifies, and
//! retries return the first outcomes.
//!
//! `kill -9` leaves the page cache alone, so this shows atomicity and order of acknowledgement; that a sync stands
//! between the commit and its acknowledgement is `synchronous=FULL`'s part, which the last test pins.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::Stdio;

use df_contract::{AttemptId, CommandId, DurationMs, JobId, JobState, Role, SessionId, Timestamp};
use df_control_audit::{ExportLine, verify_export};
use df_control_machine::{Actor, Command, CommandBody};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rusqlite::Connection;

use super::bench::{LIFECYCLE, submission};
use crate::{Outcome, Store, audit_export};

const KILLS: u64 = 24;
const CLIENTS: u64 = 8;
const DIR: &str = "DF_STORE_TORTURE_DIR";
const ROUND: &str = "DF_STORE_TORTURE_ROUND";
const CHILD: &str = "tests::torture::child";

/// One client of the process to be killed: whole lives of small jobs, each command acknowledged on stdout.
async fn client(store: Store, round: u64, client: u64) {
    let mut minted = 0u64;
    let mut random = || {
        minted += 1;
        let mut random = [0; 10];
        random[..2].copy_from_slice(&(round as u16).to_be_bytes());
        random[2..4].copy_from_slice(&(client as u16).to_be_bytes());
        random[4..].copy_from_slice(&minted.to_be_bytes()[2..]);
        random
    };
    let at = Timestamp(1_700_000_000_000 + round);
    loop {
        let job = JobId::mint(at, random());
        let (session, attempt) = (SessionId::mint(at, random()), AttemptId::mint(at, random()));
        let slug: df_contract::TaskSlug = "intake".parse().unwrap();
        let deadline = at.plus(DurationMs(60_000));
        let life = [
            submission(0),
            CommandBody::StartAnalysis,
            CommandBody::Claim { slug: slug.clone(), session, attempt, deadline },
            CommandBody::Return {
                slug,
                epoch: 1,
                cause: df_control_machine::ReturnCause::SessionEnded,
                detail: "again".into(),
            },
            CommandBody::Cancel { cause: "enough".into() },
        ];
        for body in life {
            let actor = Actor { name: "client".into(), role: Role::Operator };
            let command = Command { id: CommandId::mint(at, random()), job, actor, at, body };
            let text = serde_json::to_string(&command).unwrap();
            let outcome = store.commit(vec![command]).await.unwrap().remove(0).unwrap();
            let line = format!("\nack {} {} {text}\n", outcome.version, outcome.state);
            std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
        }
    }
}

#[tokio::test]
#[ignore = "run by killed_at_random_nothing_acknowledged_is_lost"]
async fn child() {
    let dir = std::env::var_os(DIR).unwrap();
    let round = std::env::var_os(ROUND).unwrap().to_str().unwrap().parse().unwrap();
    let store = Store::open_sqlite(Path::new(&dir)).unwrap();
    let mut clients = tokio::task::JoinSet::new();
    for n in 0..CLIENTS {
        clients.spawn(client(store.clone(), round, n));
    }
    clients.join_all().await;
}

type Acked = BTreeMap<CommandId, (Command, u64, JobState)>;

fn parse(line: &str) -> Option<(Command, u64, JobState)> {
    let mut parts = line.strip_prefix("ack ")?.splitn(3, ' ');
    let (version, state) = (parts.next()?.parse().ok()?, JobState::parse(parts.next()?)?);
    Some((serde_json::from_str(parts.next()?).ok()?, version, state))
}

/// Starts the process, kills it after `after` acknowledgements, and returns all that it gave.
#[expect(clippy::disallowed_methods, reason = "the test kills a process of its own")]
fn round(dir: &Path, round: u64, after: usize) -> Acked {
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args([CHILD, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acked: Vec<_> =
        lines.by_ref().map_while(Result::ok).filter_map(|l| parse(&l)).take(after).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(acked.len(), after, "the process ended by itself");
    // What was acknowledged before the blow and still stood in the pipe. A line may be torn.
    acked.extend(lines.map_while(Result::ok).filter_map(|line| parse(&line)));
    acked.into_iter().map(|ack| (ack.0.id, ack)).collect()
}

#[tokio::test]
async fn killed_at_random_nothing_acknowledged_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = StdRng::seed_from_u64(7);
    let (mut total, mut kept_before, mut unacknowledged) = (0, 0, 0);
    for n in 0..KILLS {
        let acked = round(dir.path(), n, rng.random_range(1..300));
        let lines: Vec<ExportLine> = audit_export(dir.path()).unwrap().map(|line| line.unwrap()).collect();
        let kept: BTreeMap<CommandId, u64> = lines
            .iter()
            .filter_map(|line| match line {
                ExportLine::Record(record) => Some((record.command_id, record.version)),
                ExportLine::Current(_)
                | ExportLine::Unreadable { .. }
                | ExportLine::Agents(_)
                | ExportLine::AgentsNow(_)
                | ExportLine::AgentsUnreadable { .. } => None,
            })
            .collect();
        for (id, (_, version, _)) in &acked {
            assert_eq!(kept.get(id), Some(version), "round {n}: {id} was acknowledged and is lost");
        }
        assert_eq!(verify_export(lines, &LIFECYCLE).findings, vec![], "round {n}");
        total += acked.len();
        unacknowledged += kept.len() - kept_before - acked.len();
        kept_before = kept.len();
        retry_all(dir.path(), acked).await;
    }
    // The last: committed, but the answer never arrived. Why clients must be able to send a command again.
    let told =
        format!("{KILLS} kills, {total} acknowledged, 0 lost, {unacknowledged} kept without an answer\n");
    std::io::stdout().lock().write_all(told.as_bytes()).unwrap();
    assert!(total >= KILLS as usize);
}

async fn retry_all(dir: &Path, acked: Acked) {
    let store = Store::open_sqlite(dir).unwrap();
    for (command, version, state) in acked.into_values() {
        let first = Outcome { job: command.job, version, state };
        assert_eq!(store.commit(vec![command]).await.unwrap(), vec![Ok(first)]);
    }
    store.close().await;
    let database = Connection::open(dir.join("control.db")).unwrap();
    let integrity: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(integrity, "ok");
}

#[test]
fn every_commit_is_synced() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(crate::sqlite::Sqlite::open(dir.path()).unwrap().durability(), ("wal".to_owned(), 2));
}
