//! The pure core as a whole, simulated: random plans, workers that crash, stall, report late or twice, every kind of
//! failure, people who pause, cancel, roll back and raise budgets, and a clock that jumps both ways.
//!
//! A world is made from its seed alone. What must hold is checked after every accepted command by a referee that reads
//! the audit alone ([`referee`]), and around every claim by the world itself ([`claims`]):
//!
//! - every job ends, within a bounded number of rounds once nobody disturbs it any more;
//! - no task runs before its parents are merged, nor before every earlier wave has ended;
//! - of a task one result is accepted at most, unless it was undone since; a lease that ended is heard no more;
//! - no task fails more often than its rule allows, what is spent adds up, caps rise by a vote of somebody else alone, and a job
//!   that has used its budget starts nothing;
//! - fairness between tenants, caps, placement and breakers hold at every claim;
//! - the same seed gives the same bytes.
//!
//! To replay a failure, set `DEVFACTORY_SIM` to what it printed (`small:17`) and run
//! `cargo test -p df-control-machine --test simulation replay`.
#![expect(clippy::unwrap_used, reason = "helpers of a test: a failed unwrap is a failed test")]

mod chaos;
mod claims;
mod people;
mod referee;
mod rng;
mod shapes;
mod world;

use df_contract::FailureKind;
use df_control_machine::job::JobEvent;
use df_control_machine::task::TaskEvent;
use shapes::Size;
use world::{Census, World};

/// Names the seed of a world that did not come to a good end.
struct Seed(Size, u64);

impl Drop for Seed {
    #[expect(clippy::print_stderr, reason = "a failure must say how to replay it")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay with DEVFACTORY_SIM={}:{}", self.0.name(), self.1);
        }
    }
}

/// One world from beginning to end; answers the digest of all it audited, and what there was of what.
fn run(size: Size, seed: u64, shows: bool) -> (df_contract::Digest, Census) {
    let _named = Seed(size, seed);
    let mut world = World::new(size, seed);
    world.shows = shows;
    world.disturbed();
    world.undisturbed();
    world.ended()
}

fn run_all(size: Size, seeds: std::ops::Range<u64>) -> Census {
    let mut all = Census::default();
    for seed in seeds {
        let (digest, census) = run(size, seed, false);
        for (what, times) in census.0 {
            *all.0.entry(what).or_default() += times;
        }
        if seed.is_multiple_of(16) {
            let _named = Seed(size, seed);
            assert_eq!(digest, run(size, seed, false).0, "the same seed gives the same bytes");
        }
    }
    all
}

/// What must have happened often enough for the worlds to tell anything.
fn expected() -> impl Iterator<Item = String> {
    let name = |event: serde_json::Value| event.as_str().unwrap_or_default().to_owned();
    let jobs = JobEvent::ALL.iter().map(move |e| format!("job {}", name(serde_json::json!(e))));
    let tasks = TaskEvent::ALL.iter().map(move |e| format!("task {}", name(serde_json::json!(e))));
    let failures = FailureKind::ALL.iter().map(|kind| format!("failure {}", kind.as_str()));
    let others = [
        "COMPLETED",
        "FAILED",
        "REJECTED",
        "CANCELLED",
        "Breaks",
        "SucceedsTwice",
        "agents_assigned",
        "breaker opened",
        "budget_denied",
        "budget_raised",
        "conflict SUCCEEDED",
        "conflict FAILED",
        "end of a lease that had ended",
        "hand-back that waits",
        "message",
        "priority_changed",
        "probe",
        "replanned",
        "return AgentDisabled",
        "return Deadline",
        "return Drained",
        "return NotMade",
        "return SessionEnded",
        "return Stalled",
        "rolled_back",
        "task done without",
    ];
    jobs.chain(tasks).chain(failures).chain(others.map(str::to_owned))
}

#[test]
fn small_worlds_end_well() {
    let census = run_all(Size::Small, 0..2_000);
    let missing: Vec<String> = expected().filter(|what| census.0.get(what).is_none_or(|n| *n < 10)).collect();
    assert_eq!(missing, Vec::<String>::new(), "seldom or never happened: {census:#?}");
}

#[test]
fn worlds_of_middling_jobs_end_well() {
    run_all(Size::Middling, 0..60);
}

#[test]
fn worlds_of_large_jobs_end_well() {
    run_all(Size::Large, 0..3);
}

#[test]
#[ignore = "takes minutes: many more seeds, for the full run"]
fn many_more_worlds_end_well() {
    run_all(Size::Small, 10_000..30_000);
    run_all(Size::Middling, 10_000..10_600);
    run_all(Size::Large, 10_000..10_020);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the seed to replay is given by whoever looks into a failure")]
fn replay() {
    let asked = std::env::var("DEVFACTORY_SIM").unwrap_or_else(|_| "small:0".to_owned());
    let (size, seed) = asked.split_once(':').unwrap();
    run(Size::parse(size).unwrap(), seed.parse().unwrap(), true);
}
