//! Standing keys over segments, restarts and periods.

use super::*;
use crate::ledger::keys::Period;

fn wish(period: Period) -> NewKey {
    NewKey {
        name: "tests".into(),
        tenant: "acme".parse().unwrap(),
        models: vec!["m".into()],
        nano_usd: None,
        tokens: Some(Tokens(100)),
        period,
        expires_at: Some(Timestamp(u64::MAX)),
    }
}

#[tokio::test]
async fn keys_stand_over_segments_and_a_revoked_one_spends_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path()).await;
    let (_, kept) = ledger.key_add(wish(Period::Never)).await.unwrap();
    let (_, gone) = ledger.key_add(wish(Period::Never)).await.unwrap();
    let known = ledger.key(&gone, Timestamp(5)).unwrap();
    assert_eq!(ledger.key(&gone, Timestamp(u64::MAX)), Err(KeyError::Expired(known.id.clone())));
    let by = Spender::Key { tenant: known.tenant.clone(), key: known.id.clone() };
    let pays = Payer { by, ..payer(1) };
    drop(ledger.reserve(pays.clone(), &[known.cap(Timestamp(0))], amount(1, 1)).unwrap());
    ledger.key_revoke(&known.id).await.unwrap();
    // A call that was let in before finds the key gone when it reserves.
    assert!(matches!(ledger.reserve(pays, &[], amount(1, 1)), Err(LedgerError::Key(KeyError::Revoked(_)))));
    sync::roll(&ledger.shared).unwrap();
    ledger.close().await;
    let ledger = open(dir.path()).await;
    assert!(ledger.key(&kept, Timestamp(5)).is_ok());
    assert_eq!(ledger.key(&gone, Timestamp(5)), Err(KeyError::Revoked(known.id.clone())));
    assert_eq!(ledger.keys().len(), 2);
}

#[tokio::test]
async fn a_period_has_a_level_of_its_own() {
    let day = |n: u64| Timestamp(n * 24 * 60 * 60 * 1000);
    for (period, same, other) in
        [(Period::Day, 0, 1), (Period::Month, 30, 31), (Period::Never, 9_999, u64::MAX)]
    {
        let (key, _) = StandingKey::mint(wish(period), Timestamp(0));
        assert_eq!(key.cap(day(0)), key.cap(day(same)));
        if other != u64::MAX {
            assert_ne!(key.cap(day(0)).account, key.cap(day(other)).account);
        }
    }
}
