//! Clocks that are set.

use df_contract::lease::SESSION_TTL;
use df_contract::{DurationMs, Timestamp, WorkerClass};

use super::bench::{Bench, SILENCE};
use super::suite::check_sound;

/// After the clock went back a dead worker, and one that lives and does nothing, are found out as late as ever.
pub(crate) async fn a_clock_that_goes_back_keeps_no_dead_session(mut bench: Bench) {
    let job = bench.in_progress().await;
    let session = bench.session(WorkerClass::Trusted, 8).await;
    let held = bench.claim(session, 1).await.remove(0);
    bench.now = Timestamp(bench.now.0 - 3_600_000);
    assert_eq!(bench.reap(8).await, Default::default(), "it may live");
    bench.sleep(DurationMs(SESSION_TTL.0 - 1));
    assert_eq!(bench.reap(8).await, Default::default());
    bench.sleep(DurationMs(1));
    assert_eq!(bench.reap(8).await.returned.len(), 1, "it did not");
    let next = bench.session(WorkerClass::Trusted, 8).await;
    let again = bench.claim(next, 1).await.remove(0);
    assert!(again.epoch > held.epoch);
    bench.now = Timestamp(bench.now.0 - 3_600_000);
    let beat = vec![again];
    let until = Timestamp(bench.now.0 + SILENCE.0);
    while bench.now < until {
        assert_eq!(bench.reap(8).await.returned, vec![]);
        let lost = bench.store.session_heartbeat(next, bench.now, beat.clone()).await.unwrap();
        assert_eq!(lost, vec![]);
        bench.sleep(DurationMs(SESSION_TTL.0 / 3));
    }
    bench.store.session_heartbeat(next, bench.now, beat).await.unwrap();
    assert_eq!(bench.reap(8).await.returned.len(), 1, "it made no progress");
    check_sound(&bench, job).await;
}
