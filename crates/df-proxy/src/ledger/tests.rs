use df_contract::Timestamp;

use super::*;

fn payer(epoch: u64) -> Payer {
    let now = Timestamp(1_000);
    Payer {
        tenant: "acme".parse().unwrap(),
        job: JobId::mint(now, [1; 10]),
        task: "api".parse().unwrap(),
        epoch,
        attempt: AttemptId::mint(now, [2; 10]),
        account: "main".into(),
        model: "m".into(),
    }
}

fn cap(level: &str, tokens: u64) -> BudgetCap {
    BudgetCap { account: level.into(), version: 1, nano_usd: None, tokens: Some(Tokens(tokens)) }
}

fn amount(input: u64, output: u64) -> Amount {
    Amount { input_tokens: Tokens(input), output_tokens: Tokens(output), nano_usd: NanoUsd(input * 2) }
}

async fn open(dir: &tempfile::TempDir) -> Ledger {
    Ledger::open(dir.path().join("ledger.sqlite")).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_calls_at_once_never_overdraw() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(&dir).await;
    let calls: Vec<_> = (0..400)
        .map(|i| {
            let ledger = ledger.clone();
            tokio::spawn(async move {
                let caps = vec![cap("job", 1000), cap(&format!("task{}", i % 4), 400)];
                match ledger.reserve(payer(1), caps, amount(5, 5)).await {
                    Ok(held) => {
                        tokio::task::yield_now().await;
                        held.settle(Outcome::Settled(amount(5, 5))).await;
                        true
                    }
                    Err(LedgerError::Exhausted(_)) => false,
                    Err(other) => panic!("{other}"),
                }
            })
        })
        .collect();
    let mut granted = 0;
    for call in calls {
        granted += u64::from(call.await.unwrap());
    }
    ledger.close().await;
    // Each took exactly what it held, so exactly 1000 / 10 fit, in whatever order they came.
    assert_eq!(granted, 100);
    let ledger = open(&dir).await;
    let page = ledger.usage(0, MAX_PAGE).await.unwrap();
    assert_eq!(page.rows.iter().map(|r| r.input_tokens.0 + r.output_tokens.0).sum::<u64>(), 1000);
    assert!(page.rows.windows(2).all(|w| w[0].seq < w[1].seq));
}

#[tokio::test]
async fn a_lower_actual_gives_the_rest_back_and_a_failure_gives_all_back() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(&dir).await;
    let caps = || vec![cap("job", 100)];
    let held = ledger.reserve(payer(1), caps(), amount(50, 50)).await.unwrap();
    assert!(matches!(ledger.reserve(payer(1), caps(), amount(1, 0)).await, Err(LedgerError::Exhausted(_))));
    held.settle(Outcome::Settled(amount(10, 10))).await;
    let held = ledger.reserve(payer(1), caps(), amount(40, 40)).await.unwrap();
    held.settle(Outcome::Failed).await;
    drop(ledger.reserve(payer(1), caps(), amount(40, 40)).await.unwrap());
    assert!(matches!(ledger.reserve(payer(1), caps(), amount(1, 0)).await, Err(LedgerError::Exhausted(_))));
    ledger.close().await;

    let ledger = open(&dir).await;
    let page = ledger.usage(0, 10).await.unwrap();
    let rows: Vec<_> = page.rows.iter().map(|r| (r.input_tokens.0, r.nano_usd.0, r.estimated)).collect();
    assert_eq!(rows, [(10, 20, false), (40, 80, true)], "the failed attempt cost nothing");
    assert_eq!(page.cursor, 3);
    assert!(ledger.usage(page.cursor, 10).await.unwrap().rows.is_empty());
    assert!(
        matches!(ledger.reserve(payer(1), caps(), amount(1, 0)).await, Err(LedgerError::Exhausted(_))),
        "spending outlives the process"
    );
    assert_eq!(ledger.account_totals().await.unwrap()[0].failed_calls, 1);
    assert_eq!(ledger.job_totals().await.unwrap()[0].spend.calls, 2);
}

#[tokio::test]
async fn what_a_dead_process_held_is_charged_in_full() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(&dir).await;
    let held = ledger.reserve(payer(1), vec![cap("job", 100)], amount(60, 30)).await.unwrap();
    // A copy of the files as they are now is what a killed process leaves behind.
    let copy = tempfile::tempdir().unwrap();
    for file in ["ledger.sqlite", "ledger.sqlite-wal"] {
        std::fs::copy(dir.path().join(file), copy.path().join(file)).unwrap();
    }
    let after = open(&copy).await;
    let rows = after.usage(0, 10).await.unwrap().rows;
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].input_tokens.0, rows[0].output_tokens.0, rows[0].estimated), (60, 30, true));
    assert!(after.reserve(payer(1), vec![cap("job", 100)], amount(11, 0)).await.is_err());
    held.settle(Outcome::Failed).await;
}

#[tokio::test]
async fn a_revocation_stands_for_its_epoch_and_below_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(&dir).await;
    let Payer { job, task, .. } = payer(1);
    ledger.revoke(Revocation { job, task: task.clone(), epoch: 2 }).await.unwrap();
    ledger.revoke(Revocation { job, task, epoch: 1 }).await.unwrap();
    ledger.close().await;
    let ledger = open(&dir).await;
    for (epoch, granted) in [(1, false), (2, false), (3, true)] {
        assert_eq!(ledger.reserve(payer(epoch), Vec::new(), amount(1, 1)).await.is_ok(), granted, "{epoch}");
    }
}

#[tokio::test]
async fn the_usage_table_is_append_only() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(&dir).await;
    let held = ledger.reserve(payer(1), Vec::new(), amount(1, 1)).await.unwrap();
    held.settle(Outcome::Settled(amount(1, 1))).await;
    ledger.close().await;
    let file = rusqlite::Connection::open(dir.path().join("ledger.sqlite")).unwrap();
    for sql in ["UPDATE usage SET nano_usd = 0", "DELETE FROM usage"] {
        assert!(file.execute(sql, []).unwrap_err().to_string().contains("append-only"));
    }
}
