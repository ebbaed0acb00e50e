//! A disk that is full: the ledger closes, loses nothing, and opens again when there is room.

use std::io::Write as _;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::*;

const DIR: &str = "DF_PROXY_FULL_DISK_DIR";
const CHILD: &str = "ledger::tests::disk::child";
const DONE: &str = "the full disk lost nothing";

/// The process may write files of at most so many bytes.
fn limit_files(bytes: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: bytes.or(maximum), maximum }).unwrap();
}

fn is_closed(error: &LedgerError) -> bool {
    matches!(error, LedgerError::Closed)
}

#[tokio::test]
#[ignore = "run by a_full_disk_closes_the_ledger_and_loses_nothing, in a process of its own"]
async fn child() {
    let dir = std::path::PathBuf::from(std::env::var_os(DIR).unwrap());
    let ledger = open(&dir).await;
    let caps = [cap("job", 1_000_000)];
    let mut held = Vec::new();
    for n in 0..20 {
        held.push(ledger.reserve(payer_of(1, attempt(n)), &caps, amount(10, 10)).unwrap());
    }
    let size = std::fs::metadata(ledger.shared.lock().path()).unwrap().len();
    // Room for one frame and a half, so that a frame is also torn in the middle.
    limit_files(Some(size + 150));
    let mut settled = 0;
    for one in held.drain(10..) {
        one.settle(Outcome::Settled(amount(3, 4)));
        settled += 1;
    }
    assert!(!ledger.shared.lock().unwritten.is_empty(), "the disk was not full");
    let refused = ledger.reserve(payer(1), &caps, amount(1, 1)).unwrap_err();
    assert!(is_closed(&refused), "{refused}");
    let task: TaskSlug = "api".parse().unwrap();
    let revocation = Revocation { job: job(), task, epoch: 0 };
    assert!(
        is_closed(&ledger.revoke(revocation.clone()).await.unwrap_err()),
        "a revocation is not pretended"
    );
    assert_eq!(level(&ledger, "job"), (70, 200), "what was settled counts although it is not on disk");

    // What a kill at this moment leaves behind: every reservation is there, so everything is paid for.
    let copy = tempfile::tempdir().unwrap();
    limit_files(None);
    copy_dir(&dir.join(JOURNAL), &copy.path().join(JOURNAL));
    let after = open(copy.path()).await;
    let rows = all_rows(&after, MAX_PAGE).await;
    assert_eq!(rows.len(), 20);
    assert!(rows.iter().filter(|r| r.estimated).count() >= 18);

    // Room again: the next call finds the ledger open, and the rows in their order.
    drop(ledger.reserve(payer(1), &caps, amount(1, 1)).unwrap());
    ledger.revoke(revocation).await.unwrap();
    for one in held {
        one.settle(Outcome::Failed);
    }
    ledger.close().await;
    let ledger = open(&dir).await;
    let rows = all_rows(&ledger, MAX_PAGE).await;
    assert_eq!(rows.iter().filter(|r| !r.estimated && r.output_tokens == Tokens(4)).count(), settled);
    assert_eq!(level(&ledger, "job"), (72, 0));
    std::io::stdout().lock().write_all(format!("\n{DONE}\n").as_bytes()).unwrap();
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the limit is one of a whole process, so it is one of the test's own"
)]
fn a_full_disk_closes_the_ledger_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    // Past the limit a write fails; without this it would also end the process with SIGXFSZ.
    let ignoring = "trap '' XFSZ; exec \"$0\" \"$@\"";
    let output = std::process::Command::new("sh")
        .args(["-c", ignoring])
        .arg(std::env::current_exe().unwrap())
        .args([CHILD, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env(DIR, dir.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && told.contains(DONE),
        "{told}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
