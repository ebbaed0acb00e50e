//! The file that earlier versions kept.

use rusqlite::Connection;

use super::*;

/// As the earlier version made it.
const SCHEMA: &str = "
CREATE TABLE cap (level TEXT PRIMARY KEY, version INTEGER NOT NULL, nano_usd INTEGER, tokens INTEGER) STRICT;
CREATE TABLE reservation (
  id INTEGER PRIMARY KEY, at INTEGER NOT NULL,
  tenant TEXT NOT NULL, job TEXT NOT NULL, task TEXT NOT NULL, epoch INTEGER NOT NULL, attempt TEXT NOT NULL,
  account TEXT NOT NULL, model TEXT NOT NULL, levels TEXT NOT NULL,
  input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, nano_usd INTEGER NOT NULL) STRICT;
CREATE TABLE usage (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL,
  tenant TEXT NOT NULL, job TEXT NOT NULL, task TEXT NOT NULL, epoch INTEGER NOT NULL, attempt TEXT NOT NULL,
  account TEXT NOT NULL, model TEXT NOT NULL, levels TEXT NOT NULL,
  input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, nano_usd INTEGER NOT NULL,
  outcome TEXT NOT NULL CHECK (outcome IN ('settled', 'estimated', 'failed'))) STRICT;
CREATE TABLE revocation (job TEXT NOT NULL, task TEXT NOT NULL, epoch INTEGER NOT NULL, PRIMARY KEY (job, task)) STRICT;
PRAGMA user_version = 1;
";

fn old_ledger(dir: &Path) {
    let file = Connection::open(dir.join(OLD)).unwrap();
    file.pragma_update(None, "journal_mode", "WAL").unwrap();
    file.execute_batch(SCHEMA).unwrap();
    file.execute("INSERT INTO cap VALUES ('job', 3, NULL, 1000)", []).unwrap();
    file.execute("INSERT INTO revocation VALUES (?, 'old', 7)", [job().to_string()]).unwrap();
    let who = format!("7, 'acme', '{}', 'api', 1, '{}', 'main', 'm', '[\"job\"]'", job(), attempt(4));
    for (numbers, outcome) in [("10, 5, 30", "settled"), ("0, 0, 0", "failed"), ("100, 50, 9", "estimated")] {
        let columns = "at, tenant, job, task, epoch, attempt, account, model, levels, input_tokens, output_tokens, nano_usd, outcome";
        file.execute(&format!("INSERT INTO usage ({columns}) VALUES ({who}, {numbers}, '{outcome}')"), [])
            .unwrap();
    }
    file.execute(&format!("INSERT INTO reservation VALUES (9, {who}, 200, 100, 1)"), []).unwrap();
}

#[tokio::test]
async fn an_older_ledger_is_taken_over_once_with_its_numbers() {
    let dir = tempfile::tempdir().unwrap();
    old_ledger(dir.path());
    for start in 0..2 {
        let ledger = open(dir.path()).await;
        let rows = ledger.usage(0, 10).await.unwrap().rows;
        let got: Vec<_> = rows.iter().map(|r| (r.seq, r.input_tokens.0, r.nano_usd.0, r.estimated)).collect();
        assert_eq!(got, [(1, 10, 30, false), (3, 100, 9, true), (4, 200, 1, true)], "start {start}");
        assert_eq!((rows[0].attempt, rows[0].at), (attempt(4), Timestamp(7)));
        assert_eq!(level(&ledger, "job"), (465, 0));
        assert!(
            ledger.reserve(payer(1), &[cap("job", 9_999)], amount(536, 0)).is_err(),
            "the cap of 1000 stands"
        );
        let mut old_task = payer(7);
        if let Spender::Grant { task, .. } = &mut old_task.by {
            *task = "old".parse().unwrap();
        }
        assert!(matches!(ledger.reserve(old_task, &[], amount(1, 0)), Err(LedgerError::Revoked { .. })));
        ledger.close().await;
        assert!(!dir.path().join(OLD).exists() && dir.path().join(OLD_IMPORTED).exists());
    }
}

#[tokio::test]
async fn an_import_that_was_cut_off_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    old_ledger(dir.path());
    let part = dir.path().join("journal.part");
    std::fs::create_dir(&part).unwrap();
    std::fs::write(segment::path_of(&part, 1), "half of something").unwrap();
    let ledger = open(dir.path()).await;
    assert_eq!(ledger.usage(0, 10).await.unwrap().rows.len(), 3);
}

#[tokio::test]
async fn what_cannot_be_taken_over_stops_the_start_and_stays_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    old_ledger(dir.path());
    Connection::open(dir.path().join(OLD)).unwrap().execute("UPDATE usage SET job = 'nonsense'", []).unwrap();
    assert!(matches!(Ledger::open(dir.path().to_owned()).await, Err(LedgerError::Row(_))));
    assert!(dir.path().join(OLD).exists() && !dir.path().join(JOURNAL).exists());
}
