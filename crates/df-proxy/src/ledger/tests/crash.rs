//! A process that spends is killed at random moments: afterwards the books balance with what it had told.
//!
//! `kill -9` leaves the page cache alone, so this shows that nothing is granted before it is written and that what is
//! written can be read again; that a sync stands before a row is shown is the part of `durable_seq`.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::*;

const KILLS: u64 = 20;
const CALLERS: u64 = 8;
const CAP: u64 = 10_000_000;
const DIR: &str = "DF_PROXY_TORTURE_DIR";
const ROUND: &str = "DF_PROXY_TORTURE_ROUND";
const CHILD: &str = "ledger::tests::crash::child";

fn tell(text: &str) {
    std::io::stdout().lock().write_all(text.as_bytes()).unwrap();
}

/// Calls without end; each tells when it holds, and what it was settled with.
fn spend(ledger: &Ledger, first: u64) {
    let mut rng = StdRng::seed_from_u64(first);
    for n in first.. {
        let (input, output) = (rng.random_range(1..40), rng.random_range(1..40));
        let caps = [cap("job", CAP), cap(&format!("task{}", n % 5), CAP)];
        let held = ledger.reserve(payer_of(1, attempt(n)), &caps, amount(input, output)).unwrap();
        tell(&format!("\nheld {n} {input} {output}\n"));
        match rng.random_range(0..8) {
            0 => drop(held),
            1 => held.settle(Outcome::Failed),
            _ => {
                held.settle(Outcome::Settled(amount(input, output / 2)));
                tell(&format!("\nspent {n} {input} {}\n", output / 2));
            }
        }
    }
}

#[tokio::test]
#[ignore = "run by killed_at_random_the_books_balance"]
async fn child() {
    let number = |name: &str| std::env::var(name).unwrap().parse::<u64>().unwrap();
    let dir = std::env::var_os(DIR).unwrap();
    // Small segments, so that many are begun while it is killed.
    let ledger = Ledger::open_with(dir.into(), 30_000).await.unwrap();
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let ledger = ledger.clone();
            let first = (number(ROUND) * CALLERS + caller) << 32;
            std::thread::spawn(move || spend(&ledger, first))
        })
        .collect();
    callers.into_iter().for_each(|caller| caller.join().unwrap());
}

/// Attempt to tokens.
type Told = BTreeMap<AttemptId, (u64, u64)>;

fn parse(line: &str) -> Option<(bool, AttemptId, (u64, u64))> {
    let mut parts = line.split(' ');
    let spent = match parts.next()? {
        "held" => false,
        "spent" => true,
        _ => return None,
    };
    let mut number = || parts.next()?.parse().ok();
    Some((spent, attempt(number()?), (number()?, number()?)))
}

/// Starts the process, kills it after `after` lines, and returns what it told of holding and of spending.
#[expect(clippy::disallowed_methods, reason = "the test kills a process of its own")]
fn round(dir: &Path, round: u64, after: usize) -> (Told, Told) {
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args([CHILD, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut told: Vec<_> =
        lines.by_ref().map_while(Result::ok).filter_map(|line| parse(&line)).take(after).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(told.len(), after, "the process ended by itself");
    // What still stood in the pipe. The last line may be torn, and a torn number is another number.
    let mut rest: Vec<_> = lines.map_while(Result::ok).collect();
    rest.pop();
    told.extend(rest.iter().filter_map(|line| parse(line)));
    let of = |kind| told.iter().filter(|t| t.0 == kind).map(|t| (t.1, t.2)).collect();
    (of(false), of(true))
}

#[tokio::test]
async fn killed_at_random_the_books_balance() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = StdRng::seed_from_u64(11);
    let (mut told_held, mut told_spent) = (Told::new(), Told::new());
    for n in 0..KILLS {
        let (held, spent) = round(dir.path(), n, rng.random_range(1..1500));
        told_held.extend(held);
        told_spent.extend(spent);
        let ledger = open(dir.path()).await;
        let rows = all_rows(&ledger, MAX_PAGE).await;
        let by_attempt: BTreeMap<_, _> = rows.iter().map(|row| (row.attempt, row)).collect();
        assert_eq!(by_attempt.len(), rows.len(), "round {n}: an attempt was charged twice");
        for (attempt, tokens) in &told_spent {
            let row = by_attempt
                .get(attempt)
                .unwrap_or_else(|| panic!("round {n}: {attempt} was settled and is lost"));
            assert_eq!((row.input_tokens.0, row.output_tokens.0, row.estimated), (tokens.0, tokens.1, false));
        }
        // What was only held is charged in full, if its settlement was not written before the blow.
        for row in rows.iter().filter(|row| row.estimated) {
            if let Some(tokens) = told_held.get(&row.attempt) {
                assert_eq!((row.input_tokens.0, row.output_tokens.0), *tokens, "round {n}");
            }
        }
        let sum = rows.iter().map(|r| r.input_tokens.0 + r.output_tokens.0).sum::<u64>();
        assert_eq!(
            level(&ledger, "job"),
            (sum, 0),
            "round {n}: nothing stays held, and the rows are the sum"
        );
        let tasks: u64 = (0..5).map(|task| level(&ledger, &format!("task{task}")).0).sum();
        assert_eq!(tasks, sum, "round {n}");
        ledger.close().await;
    }
    let ledger = open(dir.path()).await;
    let rows = all_rows(&ledger, MAX_PAGE).await;
    let segments = ledger.shared.lock().segments.len();
    assert!(segments > 1, "{segments} segments");
    let estimated = rows.iter().filter(|row| row.estimated).count();
    let told = format!(
        "{KILLS} kills, {} rows in {segments} segments, {} told as settled, 0 lost, {estimated} estimated\n",
        rows.len(),
        told_spent.len()
    );
    std::io::stdout().lock().write_all(told.as_bytes()).unwrap();
}
