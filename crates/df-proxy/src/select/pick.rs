//! One pick: the place that a key names, else the best of a few draws by capacity, else a bounded look around.
//!
//! Two choices (Mitzenmacher, TPDS 2001) over samples drawn by capacity, with a filter for what fits, and the hot or
//! cold rule of Prequal (NSDI 2024) in place of mere load.

use std::cmp::Ordering;
use std::sync::Arc;

use smallvec::SmallVec;

use super::bucket::Empty;
use super::tier::Snapshot;
use super::{At, Cause, Draws, Lane, Member, Permit, Slot, SlotId, Tier};

/// Tiers up to this size are compared whole.
const SMALL: usize = 8;
/// Places that a key is given before it is drawn for like any other.
const KEY_PROBES: u64 = 3;
const ROUNDS: u32 = 4;
/// Members looked at one after another when all draws were refused.
const MAX_SCAN: usize = 64;
/// Below this part of its burst a member is asked only if the others are no better.
const LOW_HEADROOM: f32 = 0.15;
/// A place is hot with more than this many times the load of a random other, and so many calls more.
const HOT_FACTOR: f32 = 2.0;
const HOT_SLACK: f32 = 4.0;
/// An account whose speed nobody knows is taken to be this much faster than the fastest known, so that it is tried.
const CURIOSITY: f32 = 0.9;

/// What a call needs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Need<'a> {
    /// Estimated input tokens.
    pub input: u64,
    /// The most output tokens that it may produce.
    pub output: u64,
    /// What calls that share a cache have in common.
    pub affinity: Option<u64>,
    /// This account and no other: what the call refers to is kept there.
    pub only: Option<SlotId>,
    /// Asked already.
    pub exclude: &'a [SlotId],
}

/// Whom to ask.
#[derive(Debug)]
pub struct Picked {
    pub slot: Arc<Slot>,
    pub permit: Permit,
    /// Members looked at: what the pick cost.
    pub seen: usize,
    /// Draws it took; 1 = the first was granted.
    pub rounds: u32,
}

/// What a pick ends with.
#[derive(Debug)]
pub enum Choice {
    Picked(Picked),
    Wait(Wait),
}

/// Why a member cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    Credential,
    Billing,
    Rate,
    Model,
    /// A breaker is open.
    Broken,
    /// The call is larger than a limit ever allows.
    TooLarge,
    Draining,
    /// Asked already.
    Excluded,
}

/// A set of [`Why`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Whys(u8);

impl Whys {
    pub fn add(&mut self, why: Why) {
        self.0 |= 1 << why as u8;
    }

    pub const fn has(self, why: Why) -> bool {
        self.0 & (1 << why as u8) != 0
    }

    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Nothing but `why` stood in the way.
    pub const fn only(self, why: Why) -> bool {
        self.0 == 1 << why as u8
    }
}

/// Nobody can be asked now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wait {
    /// The earliest moment at which one that was looked at may be free. None = waiting helps nobody.
    pub until: Option<At>,
    /// The same of those that are at a rate limit.
    pub rate_until: Option<At>,
    pub whys: Whys,
    pub seen: usize,
}

impl Wait {
    /// Over several tiers.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let earlier = |a: Option<At>, b: Option<At>| a.into_iter().chain(b).min();
        Self {
            until: earlier(self.until, other.until),
            rate_until: earlier(self.rate_until, other.rate_until),
            whys: self.whys.union(other.whys),
            seen: self.seen + other.seen,
        }
    }
}

/// How good it would be to ask a member.
#[derive(Debug, Clone, Copy)]
struct Score {
    weak: bool,
    band: u8,
    ttft_ms: f32,
    /// Load by capacity, over health.
    load: f32,
    headroom: f32,
}

impl Score {
    /// Better is less. `assumed_ms` stands for a speed that is not known.
    fn order(&self, other: &Self, assumed_ms: f32) -> Ordering {
        let cost = |s: &Self| (if s.ttft_ms > 0.0 { s.ttft_ms } else { assumed_ms }) * s.load;
        let flags = (self.weak, self.band).cmp(&(other.weak, other.band));
        flags.then(cost(self).total_cmp(&cost(other))).then(other.headroom.total_cmp(&self.headroom))
    }
}

type Candidates = SmallVec<[(Score, usize); SMALL]>;

struct Search<'a> {
    snapshot: &'a Snapshot,
    need: &'a Need<'a>,
    now: At,
    draws: Draws,
    wait: Wait,
}

impl Tier {
    /// Finds a member that can take the call now, and takes what it needs there. `random` is the only source of chance.
    pub fn pick(&self, need: &Need<'_>, random: u64, now: At) -> Choice {
        let snapshot = self.read();
        let (draws, wait) = (Draws::new(random), Wait::default());
        let mut search = Search { snapshot: &snapshot, need, now, draws, wait };
        match search.run() {
            Some(picked) => Choice::Picked(picked),
            // Some were looked at more than once.
            None => Choice::Wait(Wait { seen: search.wait.seen.min(snapshot.len()), ..search.wait }),
        }
    }
}

impl Search<'_> {
    fn run(&mut self) -> Option<Picked> {
        let n = self.snapshot.len();
        if n == 0 {
            return None;
        }
        if let Some(only) = self.need.only {
            let i = self.snapshot.find(only)?;
            self.look(i)?;
            return self.take(i, 1);
        }
        if let Some(picked) = self.need.affinity.and_then(|key| self.by_key(key)) {
            return Some(picked);
        }
        if n <= SMALL {
            let all: Candidates = (0..n).filter_map(|i| Some((self.look(i)?, i))).collect();
            return self.best(all, 1);
        }
        for round in 1..=ROUNDS {
            let mut drawn = Candidates::new();
            self.draw_two(&mut drawn);
            if drawn.iter().all(|(score, _)| score.weak) {
                self.draw_two(&mut drawn);
            }
            if let Some(picked) = self.best(drawn, round) {
                return Some(picked);
            }
        }
        let start = self.draws.below(n);
        (0..n.min(MAX_SCAN)).find_map(|step| {
            let i = (start + step) % n;
            self.look(i)?;
            self.take(i, ROUNDS + 1)
        })
    }

    fn draw_two(&mut self, drawn: &mut Candidates) {
        for _ in 0..2 {
            let i = self.snapshot.draw(&mut self.draws);
            if drawn.iter().all(|(_, known)| *known != i)
                && let Some(score) = self.look(i)
            {
                drawn.push((score, i));
            }
        }
    }

    /// The places a key names, unless they are hot beside a member drawn at random.
    fn by_key(&mut self, key: u64) -> Option<Picked> {
        let (other, burden) = self.snapshot.member(self.snapshot.draw(&mut self.draws))?;
        let usual = other.slot.in_flight() as f32 * burden;
        for probe in 0..KEY_PROBES {
            let i = self.snapshot.place(key.wrapping_add(probe.wrapping_mul(0x9e37_79b9_7f4a_7c15)))?;
            let Some(score) = self.look(i) else { continue };
            let (member, burden) = self.snapshot.member(i)?;
            let hot = member.slot.in_flight() as f32 * burden > HOT_FACTOR * usual + HOT_SLACK;
            if !score.weak
                && !hot
                && let Some(picked) = self.take(i, 1)
            {
                return Some(picked);
            }
        }
        None
    }

    /// The best that still grants the call.
    fn best(&mut self, mut candidates: Candidates, round: u32) -> Option<Picked> {
        let known = candidates.iter().map(|(s, _)| s.ttft_ms).filter(|ms| *ms > 0.0);
        let assumed = known.min_by(f32::total_cmp).map_or(1.0, |ms| ms * CURIOSITY);
        // Stable: of equals, the first.
        candidates.sort_by(|(a, _), (b, _)| a.order(b, assumed));
        candidates.into_iter().find_map(|(_, i)| self.take(i, round))
    }

    /// Whether a member could take the call; if not, why, and until when.
    fn look(&mut self, i: usize) -> Option<Score> {
        let (member, burden) = self.snapshot.member(i)?;
        self.wait.seen += 1;
        match self.judge(member, burden) {
            Ok(score) => Some(score),
            Err((why, until)) => {
                self.refused(why, until);
                None
            }
        }
    }

    fn refused(&mut self, why: Why, until: Option<At>) {
        let one = Wait {
            until,
            rate_until: until.filter(|_| why == Why::Rate),
            whys: Whys(1 << why as u8),
            seen: 0,
        };
        self.wait = self.wait.or(one);
    }

    fn judge(&mut self, member: &Member, burden: f32) -> Result<Score, (Why, Option<At>)> {
        let (slot, lane, now) = (&member.slot, &member.lane, self.now);
        let share = open(slot, lane, now)?;
        if self.need.exclude.contains(&slot.id()) {
            return Err((Why::Excluded, None));
        }
        let headroom = lane.fits(self.need, now).map_err(empty)?;
        // Half open or on the ramp: it gets its share of first choices, and whatever nobody else can take.
        let held_back = share < 1.0 && self.draws.unit() > share;
        Ok(Score {
            weak: headroom < LOW_HEADROOM || held_back,
            band: slot.price_band(),
            ttft_ms: slot.ttft_ms(now),
            load: (1.0 + slot.in_flight() as f32 * burden) / slot.health(now).max(0.01),
            headroom,
        })
    }

    fn take(&mut self, i: usize, rounds: u32) -> Option<Picked> {
        let (member, _) = self.snapshot.member(i)?;
        let holding = match member.lane.take(self.need, self.now) {
            Ok(holding) => holding,
            Err(gone) => {
                let (why, until) = empty(gone);
                self.refused(why, until);
                return None;
            }
        };
        let mut permit = Permit::new(Arc::clone(&member.slot), Arc::clone(&member.lane), holding);
        if let Err(until) = permit.enter(self.now) {
            permit.cancel();
            self.refused(Why::Broken, Some(until));
            return None;
        }
        Some(Picked { slot: Arc::clone(&member.slot), permit, seen: self.wait.seen, rounds })
    }
}

fn empty(empty: Empty) -> (Why, Option<At>) {
    match empty {
        Empty::Until(until) => (Why::Rate, Some(until)),
        Empty::Never => (Why::TooLarge, None),
    }
}

/// The share of traffic that all gates let through, or what is shut.
fn open(slot: &Slot, lane: &Lane, now: At) -> Result<f32, (Why, Option<At>)> {
    if !slot.is_active() {
        return Err((Why::Draining, None));
    }
    let cooled = slot.cooling(now).or_else(|| lane.cooling.state(now));
    if let Some((until, cause)) = cooled {
        let why = match cause {
            Cause::Credential => Why::Credential,
            Cause::Billing => Why::Billing,
            Cause::Rate => Why::Rate,
            Cause::Model => Why::Model,
        };
        return Err((why, Some(until)));
    }
    let mut share: f32 = 1.0;
    for gate in slot.gates().chain([&lane.upstream().gate]) {
        share = share.min(gate.breaker.share(now).map_err(|until| (Why::Broken, Some(until)))?);
    }
    lane.upstream().below_ceiling(now).map_err(|until| (Why::Rate, Some(until)))?;
    Ok(share)
}
