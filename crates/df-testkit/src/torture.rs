//! `kill -9` at random moments, with a seed that is printed, so that a failure can be looked for again.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use crate::factory::{Member, TestFactory};

/// Set it to the seed of a run that failed.
const SEED_VARIABLE: &str = "DF_KILL_SEED";
/// How long everything is left alone before the next kill.
const LEFT_ALONE_MS: std::ops::Range<u64> = 300..4_000;
/// How long a killed process stays away.
const AWAY_MS: std::ops::Range<u64> = 0..800;

/// Kills, and starts again, the members of a factory in random order at random moments.
#[derive(Debug)]
pub struct Torture {
    random: StdRng,
    /// What is still to be killed.
    victims: Vec<Member>,
    done: BTreeMap<Member, u32>,
}

impl Torture {
    /// `kills` in all, spread evenly over the three processes.
    pub fn new(kills: usize) -> Self {
        let seed = match std::env::var(SEED_VARIABLE) {
            Ok(text) => text.parse().expect("a seed is a number"),
            Err(_) => rand::rng().random::<u64>(),
        };
        eprintln!("{SEED_VARIABLE}={seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let mut victims: Vec<Member> = Member::ALL.into_iter().cycle().take(kills).collect();
        victims.shuffle(&mut random);
        Self { random, victims, done: BTreeMap::new() }
    }

    pub fn is_over(&self) -> bool {
        self.victims.is_empty()
    }

    /// Waits a while, kills the next victim, and starts it again.
    pub async fn round(&mut self, factory: &mut TestFactory) {
        let Some(victim) = self.victims.pop() else { return };
        tokio::time::sleep(Duration::from_millis(self.random.random_range(LEFT_ALONE_MS))).await;
        factory.kill(victim);
        tokio::time::sleep(Duration::from_millis(self.random.random_range(AWAY_MS))).await;
        factory.restart(victim).await;
        *self.done.entry(victim).or_default() += 1;
    }

    /// What was killed how often.
    pub fn told(&self) -> String {
        let counts: Vec<String> = self.done.iter().map(|(member, n)| format!("{member:?} {n}")).collect();
        format!("{} kills: {}", self.done.values().sum::<u32>(), counts.join(", "))
    }
}
