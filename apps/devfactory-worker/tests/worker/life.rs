//! Sessions, losing them, stopping, and machines that cannot do it.

use std::process::Command;

use df_contract::lease::{HeldLease, Work};
use df_contract::{AttemptOutcome, Source};

use crate::daemon::Stage;
use crate::{WORKER, World, check, job, lease, start_worker};

fn intake() -> Work {
    Work::Intake { source: Source::Empty, protected_paths: vec![] }
}

/// Work that goes on until it is stopped: it says so in its progress.
async fn endless(w: &World) -> Work {
    let tree = w.tree(None, &[("a", "1")]).await;
    let forever = check("forever", "echo started; sleep 1000");
    Work::Validate { base: tree.clone(), head: tree, acceptance: vec![forever], hidden: vec![] }
}

async fn running(w: &World) {
    w.stage.until(|s| s.lines.iter().any(|l| l.text == "forever: running").then_some(())).await;
}

#[tokio::test]
async fn a_daemon_that_is_away_for_a_while_loses_nothing() {
    let w = World::with("", |s| s.unavailable = 3).await;
    w.report(intake()).await;
    w.stage.scene().unavailable = 4;
    let report = w.report(intake()).await;
    assert!(matches!(report.outcome, AttemptOutcome::Succeeded { .. }));
    assert_eq!(w.stage.scene().sessions, 1);
}

#[tokio::test]
async fn a_lost_lease_is_stopped_and_never_reported() {
    let w = World::new().await;
    let work = endless(&w).await;
    let epoch = w.hand_out(work);
    running(&w).await;
    w.stage.scene().lost = vec![HeldLease { job: job(), slug: "task".parse().unwrap(), epoch }];
    let attempts = w.path("work/attempts");
    while std::fs::read_dir(&attempts).unwrap().count() > 0 {
        tokio::task::yield_now().await;
    }
    w.stage.scene().lost.clear();
    let other = df_contract::Lease { slug: "other".parse().unwrap(), ..lease(intake()) };
    w.stage.scene().lines.clear();
    w.stage.scene().leases.push(other);
    w.stage.poke();
    let report = w.stage.until(|s| s.reports.pop()).await;
    assert!(matches!(report.outcome, AttemptOutcome::Succeeded { .. }), "the worker goes on with other work");
    assert!(w.stage.scene().reports.is_empty(), "the lost lease was not reported");
}

#[tokio::test]
async fn a_forgotten_session_is_replaced_and_its_work_stopped() {
    let w = World::new().await;
    let work = endless(&w).await;
    w.hand_out(work);
    running(&w).await;
    let first = df_contract::SessionId::mint(df_contract::Timestamp::from_millis(1), [7; 10]).to_string();
    w.stage.scene().forgotten.push(first);
    w.stage.until(|s| (s.sessions == 2).then_some(())).await;
    assert_eq!(
        std::fs::read_dir(w.path("work/attempts")).unwrap().count(),
        0,
        "stopped before the next session"
    );
    assert!(w.stage.scene().reports.is_empty());
}

#[tokio::test]
async fn a_worker_without_answers_stops_its_own_work() {
    // The session lives 4 s: two less for the margin, then the worker must have stopped by itself.
    let w = World::with("", |s| s.ttl_ms = 4_000).await;
    let work = endless(&w).await;
    w.hand_out(work);
    running(&w).await;
    w.stage.scene().unavailable = u32::MAX;
    let attempts = w.path("work/attempts");
    while std::fs::read_dir(&attempts).unwrap().count() > 0 {
        tokio::task::yield_now().await;
    }
    w.stage.scene().unavailable = 0;
    w.stage.until(|s| (s.sessions == 2).then_some(())).await;
    assert!(w.stage.scene().reports.is_empty());
}

#[tokio::test]
async fn a_session_tells_what_the_worker_has() {
    let w = World::with("labels = [\"gpu\", \"zone-a\"]", |_| {}).await;
    let opened = w.stage.until(|s| s.opened.clone()).await;
    assert_eq!((opened.name.as_str(), opened.capacity), ("worker", 2));
    assert_eq!(opened.labels, ["gpu".to_owned(), "zone-a".to_owned()].into());
    assert_eq!(opened.tiers, [df_contract::SandboxTier::Bwrap].into());
    assert_eq!(opened.runtimes, [df_contract::agent::Runtime::Builtin].into());
}

#[tokio::test]
async fn asked_to_stop_it_hands_back_and_leaves_no_process() {
    let mut w = World::new().await;
    let work = endless(&w).await;
    w.hand_out(work);
    running(&w).await;
    w.stop_worker();
    w.stage.until(|s| (s.closed == 1).then_some(())).await;
    let status = w.worker.wait().unwrap();
    assert!(status.success());
    assert!(w.stage.scene().reports.is_empty());
}

#[tokio::test]
async fn leftovers_of_an_earlier_life_are_cleared_away() {
    let dir = tempfile::tempdir().unwrap();
    let left = dir.path().join("work/attempts/att_x-1/workspace");
    std::fs::create_dir_all(&left).unwrap();
    let stage = Stage::open().await;
    let mut worker = start_worker(dir.path(), &stage.address, "");
    stage.until(|s| (s.sessions == 1).then_some(())).await;
    assert!(!left.exists());

    let mut second = start_worker(dir.path(), &stage.address, "");
    assert!(!second.wait().unwrap().success(), "two workers never share a directory");
    worker.kill().unwrap();
    worker.wait().unwrap();
}

fn refused(more: &str, arguments: &[&str], key: &str, status: i32) -> (String, String) {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("w.toml");
    std::fs::write(&config, format!("work_dir = \"{}\"\n{more}", dir.path().join("work").display())).unwrap();
    let out = Command::new(WORKER)
        .arg("--config")
        .arg(&config)
        .args(arguments)
        .env("DEVFACTORY_WORKER_KEY", key)
        .env_remove("DEVFACTORY_URL")
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(status));
    (String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap())
}

#[test]
fn a_machine_without_bubblewrap_is_refused_with_the_remedy() {
    let missing = "[sandbox]\nbwrap = \"/nonexistent/bwrap\"\n";
    let (_, log) = refused(missing, &[], "k", 69);
    assert!(log.contains("sandbox_unavailable") && log.contains("apt install bubblewrap"), "{log}");
    let (out, _) = refused(missing, &["--check"], "k", 1);
    let found: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&found["usable"], &found["checks"][0]["status"]),
        (&false.into(), &"missing".into()),
        "{found}"
    );
}

#[test]
fn a_usable_machine_says_so() {
    let out = Command::new(WORKER).arg("--check").output().unwrap();
    let found: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(found["usable"], true, "{found}");
    assert_eq!(found["git"]["status"], "present", "{found}");
}

#[test]
fn a_mistaken_configuration_is_refused_by_key() {
    let (_, log) = refused("capacty = 3\n", &[], "k", 78);
    assert!(log.contains("config_invalid") && log.contains("capacty"), "{log}");
    let (_, log) = refused("", &[], "", 78);
    assert!(log.contains("worker key"), "{log}");
}

#[tokio::test]
async fn a_wrong_key_ends_the_worker_with_the_daemons_reason() {
    let stage = Stage::open().await;
    let more = format!("daemon_url = \"{}\"\n", stage.address);
    let (_, log) = tokio::task::spawn_blocking(move || refused(&more, &[], "wrong", 1)).await.unwrap();
    assert!(log.contains("unauthenticated"), "{log}");
}
