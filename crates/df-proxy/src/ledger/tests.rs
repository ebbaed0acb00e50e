mod crash;
mod damage;
mod disk;
mod import;
mod keys;
mod load;

use std::path::Path;

use df_contract::Timestamp;

use super::*;

fn job() -> JobId {
    JobId::mint(Timestamp(1_000), [1; 10])
}

fn attempt(n: u64) -> AttemptId {
    let mut random = [2; 10];
    random[2..].copy_from_slice(&n.to_be_bytes());
    AttemptId::mint(Timestamp(1_000), random)
}

fn payer_of(epoch: u64, attempt: AttemptId) -> Payer {
    let (tenant, task) = ("acme".parse().unwrap(), "api".parse().unwrap());
    Payer {
        by: Spender::Grant { tenant, job: job(), task, epoch, attempt },
        account: "main".into(),
        model: "m".into(),
    }
}

fn payer(epoch: u64) -> Payer {
    payer_of(epoch, attempt(0))
}

fn cap(level: &str, tokens: u64) -> BudgetCap {
    BudgetCap { account: level.into(), version: 1, nano_usd: None, tokens: Some(Tokens(tokens)) }
}

fn amount(input: u64, output: u64) -> Amount {
    Amount { usage: Usage::plain(Tokens(input), Tokens(output)), nano_usd: NanoUsd(input * 2), price: None }
}

async fn open(dir: &Path) -> Ledger {
    Ledger::open(dir.to_owned()).await.unwrap()
}

/// All rows, page by page.
async fn all_rows(ledger: &Ledger, limit: u32) -> Vec<df_contract::api::UsageRow> {
    let (mut rows, mut after) = (Vec::new(), 0);
    loop {
        let page = ledger.usage(after, limit).await.unwrap();
        if page.cursor == after {
            return rows;
        }
        after = page.cursor;
        rows.extend(page.rows);
    }
}

/// Spent and held tokens of a level at this moment.
fn level(ledger: &Ledger, name: &str) -> (u64, u64) {
    let journal = ledger.shared.lock();
    let found = journal.books.budgets.levels().find(|(known, _)| &***known == name);
    found.map_or((0, 0), |(_, level)| (level.spent.tokens, level.held.tokens))
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

#[tokio::test]
async fn a_lower_actual_gives_the_rest_back_and_a_failure_gives_all_back() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path()).await;
    let caps = [cap("job", 100)];
    let held = ledger.reserve(payer(1), &caps, amount(50, 50)).unwrap();
    assert!(matches!(ledger.reserve(payer(1), &caps, amount(1, 0)), Err(LedgerError::Exhausted(_))));
    held.settle(Outcome::Settled(amount(10, 10)));
    let held = ledger.reserve(payer(1), &caps, amount(40, 40)).unwrap();
    held.settle(Outcome::Failed);
    drop(ledger.reserve(payer(1), &caps, amount(40, 40)).unwrap());
    assert!(matches!(ledger.reserve(payer(1), &caps, amount(1, 0)), Err(LedgerError::Exhausted(_))));
    ledger.close().await;
    assert!(matches!(ledger.reserve(payer(1), &[], amount(1, 0)), Err(LedgerError::Closed)));

    let ledger = open(dir.path()).await;
    let page = ledger.usage(0, 10).await.unwrap();
    let rows: Vec<_> = page.rows.iter().map(|r| (r.input_tokens.0, r.nano_usd.0, r.estimated)).collect();
    assert_eq!(rows, [(10, 20, false), (40, 80, true)], "the failed attempt cost nothing");
    assert_eq!(page.cursor, 3);
    assert!(ledger.usage(page.cursor, 10).await.unwrap().rows.is_empty());
    assert!(
        matches!(ledger.reserve(payer(1), &caps, amount(1, 0)), Err(LedgerError::Exhausted(_))),
        "spending outlives the process"
    );
    assert_eq!(ledger.account_totals()[0].failed_calls, 1);
    assert_eq!(ledger.job_totals()[0].spend.calls, 2);
}

#[tokio::test]
async fn what_a_dead_process_held_is_charged_in_full() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path()).await;
    let held = ledger.reserve(payer(1), &[cap("job", 100)], amount(60, 30)).unwrap();
    // A copy of the files as they are now is what a killed process leaves behind.
    let copy = tempfile::tempdir().unwrap();
    copy_dir(&dir.path().join(JOURNAL), &copy.path().join(JOURNAL));
    let after = open(copy.path()).await;
    let rows = after.usage(0, 10).await.unwrap().rows;
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].input_tokens.0, rows[0].output_tokens.0, rows[0].estimated), (60, 30, true));
    assert!(after.reserve(payer(1), &[cap("job", 100)], amount(11, 0)).is_err());
    held.settle(Outcome::Failed);
}

#[tokio::test]
async fn a_revocation_stands_for_its_epoch_and_below_over_restarts_and_segments() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path()).await;
    let task: TaskSlug = "api".parse().unwrap();
    ledger.revoke(Revocation { job: job(), task: task.clone(), epoch: 2 }).await.unwrap();
    ledger.revoke(Revocation { job: job(), task, epoch: 1 }).await.unwrap();
    for _ in 0..2 {
        sync::roll(&ledger.shared).unwrap();
    }
    ledger.close().await;
    let ledger = open(dir.path()).await;
    for (epoch, granted) in [(1, false), (2, false), (3, true)] {
        assert_eq!(ledger.reserve(payer(epoch), &[], amount(1, 1)).is_ok(), granted, "{epoch}");
    }
}

/// No epoch has to be withdrawn for it, and it takes no money: the first call under a newer plan is enough.
#[tokio::test]
async fn a_grant_of_an_earlier_plan_is_refused_over_restarts_and_segments() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path()).await;
    let of = |number| [cap("job", 100), df_contract::grant::plan_level(job(), number)];
    drop(ledger.reserve(payer(1), &of(1), amount(1, 1)).unwrap());
    drop(ledger.reserve(payer(2), &of(2), amount(1, 1)).unwrap());
    for _ in 0..2 {
        for (number, granted) in [(1, false), (2, true)] {
            let held = ledger.reserve(payer(3), &of(number), amount(1, 1));
            let refused = matches!(held, Err(LedgerError::Superseded { newest: 2 }));
            assert_eq!((held.is_ok(), refused), (granted, !granted), "{number}");
        }
        // Another job's plans are its own, and so are grants that name none.
        let other = [df_contract::grant::plan_level(JobId::mint(Timestamp(2_000), [3; 10]), 1)];
        assert!(ledger.reserve(payer(3), &other, amount(1, 1)).is_ok());
        assert!(ledger.reserve(payer(3), &[], amount(1, 1)).is_ok());
        sync::roll(&ledger.shared).unwrap();
        ledger.close().await;
        ledger = open(dir.path()).await;
    }
}

/// A task that is done again after a rollback has an account of its own, and the job's bounds both.
#[tokio::test]
async fn a_task_done_again_draws_on_a_fresh_share_within_the_jobs() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path()).await;
    let round = |task: &str| [cap("job", 100), cap(task, 60)];
    drop(ledger.reserve(payer(1), &round("task:api"), amount(30, 30)).unwrap());
    let refused = ledger.reserve(payer(1), &round("task:api"), amount(1, 0)).unwrap_err();
    assert!(refused.to_string().starts_with("`task:api` has 0 tokens"), "{refused}");
    drop(ledger.reserve(payer(2), &round("task:api@1"), amount(20, 20)).unwrap());
    let refused = ledger.reserve(payer(2), &round("task:api@1"), amount(1, 0)).unwrap_err();
    assert!(refused.to_string().starts_with("`job` has 0 tokens"), "{refused}");
}

#[tokio::test]
async fn a_cap_that_a_refused_call_brought_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path()).await;
    let version = |version, tokens| BudgetCap { version, ..cap("job", tokens) };
    drop(ledger.reserve(payer(1), &[version(1, 100)], amount(1, 0)).unwrap());
    assert!(ledger.reserve(payer(1), &[version(2, 5)], amount(10, 0)).is_err());
    ledger.close().await;
    let ledger = open(dir.path()).await;
    assert!(ledger.reserve(payer(1), &[version(1, 100)], amount(10, 0)).is_err(), "version 2 rules");
}

#[tokio::test]
async fn pages_run_through_all_segments_and_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open_with(dir.path().to_owned(), 20_000).await.unwrap();
    let mut expect = Vec::new();
    for n in 0..2_000 {
        let held = ledger.reserve(payer_of(1, attempt(n)), &[cap("job", u64::MAX)], amount(n, 1)).unwrap();
        held.settle(if n % 7 == 0 { Outcome::Failed } else { Outcome::Settled(amount(n, 1)) });
        if n % 7 != 0 {
            expect.push((n + 1, attempt(n), n));
        }
        if n == 900 {
            ledger.close().await;
            ledger = Ledger::open_with(dir.path().to_owned(), 20_000).await.unwrap();
        }
        if n % 100 == 0 {
            sync::roll(&ledger.shared).unwrap();
        }
    }
    ledger.close().await;
    for limit in [1000, 37] {
        let got: Vec<_> = all_rows(&ledger, limit)
            .await
            .into_iter()
            .map(|r| (r.seq, r.attempt, r.input_tokens.0))
            .collect();
        assert_eq!(got, expect);
    }
    let again = open(dir.path()).await;
    assert!(again.shared.lock().segments.len() > 10);
    let got: Vec<_> =
        all_rows(&again, 333).await.into_iter().map(|r| (r.seq, r.attempt, r.input_tokens.0)).collect();
    assert_eq!(got, expect);
}
