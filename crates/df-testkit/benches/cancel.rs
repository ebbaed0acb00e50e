//! From a cancel to the end of what it cancels, with real processes:
//!
//! - *last process gone*: a command runs in the sandbox of an agent; from sending the cancel to the moment at which no
//!   process of it is left, once for a command that ends when told to and once for one that is deaf to SIGTERM.
//! - *grant withdrawn*: from sending the cancel to the proxy's first refusal of the attempt's grant.
//!
//! `cargo bench -p df-testkit --bench cancel --profile dev -- [ROUNDS]`
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench: a failure ends it, and it prints")]

use std::time::{Duration, Instant};

use df_contract::api::JobView;
use df_testkit::{
    Ask, Limit, Reply, ScriptedModel, TestFactory, file_task, marker, planned_job, poll, processes_with,
    revoked, task_grant,
};
use rand::RngExt as _;
use serde_json::json;

/// Cancels come at a random moment within this, so that no heartbeat is waited for more often than another.
const WITHIN_MS: u64 = 5_000;
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// What is promised: within seconds.
const LIMIT: Duration = Duration::from_secs(5);

fn main() {
    let rounds = std::env::args().skip(1).find_map(|arg| arg.parse::<usize>().ok()).unwrap_or(20);
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let sleeps = "time.sleep(3600)";
        let deaf = format!("signal.signal(signal.SIGTERM, signal.SIG_IGN); {sleeps}");
        for (what, does) in
            [("a command that ends when told to", sleeps), ("a command deaf to SIGTERM", &deaf)]
        {
            measure(what, does, rounds).await;
        }
    });
}

async fn measure(what: &str, does: &str, rounds: usize) {
    let mark = marker("bench");
    let command = format!("python3 -c 'import signal, time; {does}' {mark}");
    let run = move |_: &Ask| Reply::calls(&[("exec", json!({"command": command, "timeout_s": 600}))]);
    let model = ScriptedModel::start(run).await;
    let factory = TestFactory::start(model.setup()).await;
    let (mut gone, mut refused) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let spec = planned_job("To be cancelled", &[file_task("runs", &[])]);
        let job = factory.admin().submit(&spec).await.unwrap().id;
        poll(Limit::JOB, "the command runs", async || {
            if processes_with(&mark).is_empty() { Err("not yet".to_owned()) } else { Ok(()) }
        })
        .await;
        let grant = task_grant(&factory, &factory.admin().job(job).await.unwrap(), "runs");
        let pause = rand::rng().random_range(0..WITHIN_MS);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let sent = Instant::now();
        let cancel = async {
            let path = format!("/v1/jobs/{job}/cancel");
            factory.admin().post::<JobView>(&path, &json!({"cause": "measured"})).await.unwrap();
        };
        let watch = async {
            while !processes_with(&mark).is_empty() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            gone.push(sent.elapsed());
        };
        let ask = async {
            while !revoked(&grant).await {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            refused.push(sent.elapsed());
        };
        tokio::join!(cancel, watch, ask);
    }
    report(&format!("{what}: last process gone"), gone);
    report(&format!("{what}: grant withdrawn"), refused);
}

fn report(what: &str, mut waits: Vec<Duration>) {
    waits.sort();
    let (half, most) = (waits[waits.len() / 2], waits[waits.len() - 1]);
    let verdict = if most <= LIMIT { "within" } else { "BEYOND" };
    println!("{what}: p50 {half:.1?}, longest {most:.1?} of {}; {verdict} {LIMIT:.0?}", waits.len());
}
