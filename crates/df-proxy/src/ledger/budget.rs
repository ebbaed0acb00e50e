//! Hierarchical budgets as plain arithmetic: a call is held on every level or on none.
//!
//! Invariant per level: what is granted never makes `spent + held` exceed the cap. A settlement larger than its
//! reservation (the estimate of the input was too small) is charged as it is; the level then grants nothing more.

use std::collections::HashMap;
use std::sync::Arc;

use df_contract::grant::BudgetCap;
use df_contract::{NanoUsd, Tokens};
use serde::{Deserialize, Serialize};

use super::Amount;

/// The level that cannot take the call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{level}` has {left} {unit} of {cap} left, and the call may need {wanted}; raise the cap or end here"
)]
pub(crate) struct Exhausted {
    pub(crate) level: String,
    pub(crate) unit: &'static str,
    pub(crate) cap: u64,
    pub(crate) left: u64,
    pub(crate) wanted: u64,
}

/// A level's cap as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cap {
    pub(super) level: Arc<str>,
    pub(super) version: u64,
    pub(super) tokens: Option<Tokens>,
    pub(super) nano_usd: Option<NanoUsd>,
}

impl Cap {
    pub(super) fn of(cap: &BudgetCap) -> Self {
        Self {
            level: cap.account.as_str().into(),
            version: cap.version,
            tokens: cap.tokens,
            nano_usd: cap.nano_usd,
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sum {
    pub(super) tokens: u64,
    pub(super) nano_usd: u64,
}

impl Sum {
    fn add(&mut self, amount: &Amount) {
        self.tokens = self.tokens.saturating_add(amount.tokens().0);
        self.nano_usd = self.nano_usd.saturating_add(amount.nano_usd.0);
    }
    fn sub(&mut self, amount: &Amount) {
        self.tokens = self.tokens.saturating_sub(amount.tokens().0);
        self.nano_usd = self.nano_usd.saturating_sub(amount.nano_usd.0);
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Level {
    pub(super) cap: Option<Cap>,
    pub(super) spent: Sum,
    pub(super) held: Sum,
}

impl Level {
    fn room(&self, name: &str, amount: &Amount) -> Result<(), Exhausted> {
        let Some(cap) = &self.cap else { return Ok(()) };
        let axes = [
            ("tokens", cap.tokens.map(|t| t.0), self.spent.tokens, self.held.tokens, amount.tokens().0),
            (
                "nano-USD",
                cap.nano_usd.map(|n| n.0),
                self.spent.nano_usd,
                self.held.nano_usd,
                amount.nano_usd.0,
            ),
        ];
        for (unit, cap, spent, held, wanted) in axes {
            let Some(cap) = cap else { continue };
            let left = cap.saturating_sub(spent.saturating_add(held));
            // A call that may need nothing still finds a used-up budget closed.
            if wanted > left || (left == 0 && unit == "tokens") {
                return Err(Exhausted { level: name.to_owned(), unit, cap, left, wanted });
            }
        }
        Ok(())
    }
}

/// All levels that were ever named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Budgets {
    levels: HashMap<Arc<str>, Level>,
}

impl Budgets {
    /// Takes over a cap if its version is higher than the known one; says whether it did.
    pub(super) fn raise(&mut self, cap: Cap) -> bool {
        let level = match self.levels.get_mut(&cap.level) {
            Some(level) => level,
            None => self.levels.entry(Arc::clone(&cap.level)).or_default(),
        };
        let newer = level.cap.as_ref().is_none_or(|known| cap.version > known.version);
        if newer {
            level.cap = Some(cap);
        }
        newer
    }

    /// Whether [`Budgets::raise`] would take it over.
    pub(super) fn is_news(&self, cap: &BudgetCap) -> bool {
        let known = self.levels.get(cap.account.as_str()).and_then(|level| level.cap.as_ref());
        known.is_none_or(|known| cap.version > known.version)
    }

    /// The version that is known of a level, where it is higher than that of `cap`.
    pub(super) fn newer(&self, cap: &BudgetCap) -> Option<u64> {
        let known = self.levels.get(cap.account.as_str())?.cap.as_ref()?.version;
        (known > cap.version).then_some(known)
    }

    /// Whether each of `names` has room for `amount`.
    pub(super) fn room<'a>(
        &self,
        names: impl IntoIterator<Item = &'a str>,
        amount: &Amount,
    ) -> Result<(), Exhausted> {
        names.into_iter().try_for_each(|name| match self.levels.get(name) {
            Some(level) => level.room(name, amount),
            None => Ok(()),
        })
    }

    /// The known name, so that each is in memory once.
    pub(super) fn name(&self, name: &str) -> Arc<str> {
        self.levels.get_key_value(name).map_or_else(|| name.into(), |(known, _)| Arc::clone(known))
    }

    fn level(&mut self, name: &Arc<str>) -> &mut Level {
        self.levels.entry(Arc::clone(name)).or_default()
    }

    /// Holds `amount` on each of `names` (distinct), asked for or not: whether there is room was decided before.
    pub(super) fn hold(&mut self, names: &[Arc<str>], amount: &Amount) {
        names.iter().for_each(|name| self.level(name).held.add(amount));
    }

    /// Turns what was held into what was spent.
    pub(super) fn settle(&mut self, names: &[Arc<str>], held: &Amount, spent: &Amount) {
        for name in names {
            let level = self.level(name);
            level.held.sub(held);
            level.spent.add(spent);
        }
    }

    pub(super) fn spent(&self, name: &str) -> Sum {
        self.levels.get(name).map(|level| level.spent).unwrap_or_default()
    }

    /// Puts a level of a checkpoint in place.
    pub(super) fn restore(&mut self, name: Arc<str>, cap: Option<Cap>, spent: Sum) {
        self.levels.insert(name, Level { cap, spent, held: Sum::default() });
    }

    pub(super) fn levels(&self) -> impl Iterator<Item = (&Arc<str>, &Level)> {
        self.levels.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::usage::Usage;

    fn cap(level: &str, version: u64, tokens: Option<u64>, nano: Option<u64>) -> Cap {
        Cap { level: level.into(), version, tokens: tokens.map(Tokens), nano_usd: nano.map(NanoUsd) }
    }

    fn amount(tokens: u64, nano: u64) -> Amount {
        Amount { usage: Usage::plain(Tokens(tokens), Tokens::ZERO), nano_usd: NanoUsd(nano), price: None }
    }

    fn hold(budgets: &mut Budgets, names: &[Arc<str>], amount: &Amount) -> Result<(), Exhausted> {
        budgets.room(names.iter().map(|n| &**n), amount)?;
        budgets.hold(names, amount);
        Ok(())
    }

    #[test]
    fn a_call_must_fit_every_level_and_a_refusal_holds_nothing() {
        let mut budgets = Budgets::default();
        budgets.raise(cap("job", 1, Some(100), None));
        budgets.raise(cap("task", 1, Some(1000), Some(5)));
        let names: [Arc<str>; 2] = ["job".into(), "task".into()];
        let refused = hold(&mut budgets, &names, &amount(50, 6)).unwrap_err();
        assert_eq!((refused.level.as_str(), refused.unit, refused.left), ("task", "nano-USD", 5));
        hold(&mut budgets, &names, &amount(100, 5)).unwrap();
        assert_eq!(hold(&mut budgets, &names, &amount(1, 0)).unwrap_err().level, "job");
        budgets.settle(&names, &amount(100, 5), &amount(30, 0));
        hold(&mut budgets, &names, &amount(70, 5)).unwrap();
    }

    #[test]
    fn the_highest_version_of_a_cap_wins_whatever_the_order() {
        let mut budgets = Budgets::default();
        let job: [Arc<str>; 1] = ["job".into()];
        assert!(budgets.raise(cap("job", 2, Some(10), None)));
        assert!(!budgets.raise(cap("job", 1, Some(1000), None)));
        assert!(!budgets.raise(cap("job", 2, Some(1000), None)));
        assert!(hold(&mut budgets, &job, &amount(11, 0)).is_err());
        assert!(budgets.raise(cap("job", 3, Some(11), None)));
        assert!(hold(&mut budgets, &job, &amount(11, 0)).is_ok());
    }

    /// The slow model: nothing but the list of what happened, summed anew for every question.
    #[derive(Default)]
    struct Model {
        caps: BTreeMap<usize, (u64, Option<u64>, Option<u64>)>,
        open: Vec<(Vec<usize>, Amount)>,
        closed: Vec<(Vec<usize>, Amount)>,
    }

    impl Model {
        fn sum(list: &[(Vec<usize>, Amount)], level: usize) -> (u128, u128) {
            let on_level = list.iter().filter(|(levels, _)| levels.contains(&level));
            on_level
                .fold((0, 0), |(t, n), (_, a)| (t + u128::from(a.tokens().0), n + u128::from(a.nano_usd.0)))
        }

        fn fits(&self, levels: &[usize], amount: &Amount) -> bool {
            levels.iter().all(|level| {
                let Some((_, tokens, nano)) = self.caps.get(level) else { return true };
                let (spent, held) = (Self::sum(&self.closed, *level), Self::sum(&self.open, *level));
                let fits = |cap: &Option<u64>, used: u128, wanted: u64, closes: bool| {
                    let after = used + u128::from(wanted);
                    cap.map(u128::from).is_none_or(|cap| {
                        // Tokens close a used-up level even to a call that may need none.
                        after <= cap && (!closes || used < cap) || (wanted == 0 && !closes)
                    })
                };
                fits(tokens, spent.0 + held.0, amount.tokens().0, true)
                    && fits(nano, spent.1 + held.1, amount.nano_usd.0, false)
            })
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Raise(usize, u64, Option<u64>, Option<u64>),
        Hold(Vec<usize>, u64, u64),
        /// Index of an open one, and what was really used, in percent of what was held.
        Settle(prop::sample::Index, u64),
    }

    const LEVELS: usize = 4;

    fn step() -> impl Strategy<Value = Step> {
        let limit = || prop::option::of(0_u64..800);
        let levels = prop::collection::btree_set(0..LEVELS, 1..=LEVELS);
        prop_oneof![
            1 => (0..LEVELS, 1_u64..6, limit(), limit()).prop_map(|(l, v, t, n)| Step::Raise(l, v, t, n)),
            4 => (levels, 0_u64..200, 0_u64..200)
                .prop_map(|(l, t, n)| Step::Hold(l.into_iter().collect(), t, n)),
            3 => (any::<prop::sample::Index>(), 0_u64..=150).prop_map(|(i, p)| Step::Settle(i, p)),
        ]
    }

    proptest! {
        /// Same answers and same sums as the slow model, whatever is raised, held and settled in whatever order.
        #[test]
        fn as_the_slow_model(steps in prop::collection::vec(step(), 1..120)) {
            let (mut budgets, mut model) = (Budgets::default(), Model::default());
            let names: Vec<Arc<str>> = (0..LEVELS).map(|i| format!("level{i}").into()).collect();
            let named = |levels: &[usize]| levels.iter().map(|l| Arc::clone(&names[*l])).collect::<Vec<_>>();
            for step in steps {
                match step {
                    Step::Raise(level, version, tokens, nano) => {
                        budgets.raise(cap(&names[level], version, tokens, nano));
                        let known = model.caps.get(&level).map_or(0, |(version, _, _)| *version);
                        if version > known {
                            model.caps.insert(level, (version, tokens, nano));
                        }
                    }
                    Step::Hold(levels, tokens, nano) => {
                        let amount = amount(tokens, nano);
                        let granted = hold(&mut budgets, &named(&levels), &amount).is_ok();
                        prop_assert_eq!(granted, model.fits(&levels, &amount));
                        if granted {
                            model.open.push((levels, amount));
                        }
                    }
                    Step::Settle(index, percent) if !model.open.is_empty() => {
                        let (levels, held) = model.open.remove(index.index(model.open.len()));
                        let used = amount(held.tokens().0 * percent / 100, held.nano_usd.0 * percent / 100);
                        budgets.settle(&named(&levels), &held, &used);
                        model.closed.push((levels, used));
                    }
                    Step::Settle(..) => {}
                }
                for (at, name) in names.iter().enumerate() {
                    let level = budgets.levels.get(name).cloned().unwrap_or_default();
                    let sums = [level.spent, level.held].map(|s| (u128::from(s.tokens), u128::from(s.nano_usd)));
                    prop_assert_eq!(sums, [Model::sum(&model.closed, at), Model::sum(&model.open, at)]);
                }
            }
        }
    }
}
