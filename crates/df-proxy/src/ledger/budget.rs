//! Hierarchical budgets as plain arithmetic: a call is held on every level or on none.
//!
//! Invariant per level: what is granted never makes `spent + held` exceed the cap. A settlement larger than its
//! reservation (the estimate of the input was too small) is charged as it is; the level then grants nothing more.

use std::collections::BTreeMap;

use df_contract::grant::BudgetCap;

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

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    tokens: u64,
    nano_usd: u64,
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

#[derive(Debug, Default)]
struct Level {
    cap: Option<BudgetCap>,
    spent: Sum,
    held: Sum,
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
#[derive(Debug, Default)]
pub(crate) struct Budgets {
    levels: BTreeMap<String, Level>,
}

impl Budgets {
    /// Takes over a cap if its version is higher than the known one; says whether it did.
    pub(crate) fn raise(&mut self, cap: &BudgetCap) -> bool {
        let level = self.levels.entry(cap.account.clone()).or_default();
        let newer = level.cap.as_ref().is_none_or(|known| cap.version > known.version);
        if newer {
            level.cap = Some(cap.clone());
        }
        newer
    }

    /// Holds `amount` on each of `names` (distinct), or on none.
    pub(crate) fn hold(&mut self, names: &[String], amount: &Amount) -> Result<(), Exhausted> {
        for name in names {
            if let Some(level) = self.levels.get(name) {
                level.room(name, amount)?;
            }
        }
        for name in names {
            self.levels.entry(name.clone()).or_default().held.add(amount);
        }
        Ok(())
    }

    /// Turns what was held into what was spent.
    pub(crate) fn settle(&mut self, names: &[String], held: &Amount, spent: &Amount) {
        for name in names {
            let level = self.levels.entry(name.clone()).or_default();
            level.held.sub(held);
            level.spent.add(spent);
        }
    }
}

#[cfg(test)]
mod tests {
    use df_contract::{NanoUsd, Tokens};
    use proptest::prelude::*;

    use super::*;

    fn cap(account: &str, version: u64, tokens: Option<u64>, nano: Option<u64>) -> BudgetCap {
        BudgetCap {
            account: account.into(),
            version,
            tokens: tokens.map(Tokens),
            nano_usd: nano.map(NanoUsd),
        }
    }

    fn amount(tokens: u64, nano: u64) -> Amount {
        Amount { input_tokens: Tokens(tokens), output_tokens: Tokens::ZERO, nano_usd: NanoUsd(nano) }
    }

    #[test]
    fn a_call_must_fit_every_level_and_a_refusal_holds_nothing() {
        let mut budgets = Budgets::default();
        budgets.raise(&cap("job", 1, Some(100), None));
        budgets.raise(&cap("task", 1, Some(1000), Some(5)));
        let names = ["job".to_owned(), "task".to_owned()];
        let refused = budgets.hold(&names, &amount(50, 6)).unwrap_err();
        assert_eq!((refused.level.as_str(), refused.unit, refused.left), ("task", "nano-USD", 5));
        budgets.hold(&names, &amount(100, 5)).unwrap();
        assert_eq!(budgets.hold(&names, &amount(1, 0)).unwrap_err().level, "job");
        budgets.settle(&names, &amount(100, 5), &amount(30, 0));
        budgets.hold(&names, &amount(70, 5)).unwrap();
    }

    #[test]
    fn the_highest_version_of_a_cap_wins_whatever_the_order() {
        let mut budgets = Budgets::default();
        assert!(budgets.raise(&cap("job", 2, Some(10), None)));
        assert!(!budgets.raise(&cap("job", 1, Some(1000), None)));
        assert!(!budgets.raise(&cap("job", 2, Some(1000), None)));
        assert!(budgets.hold(&["job".into()], &amount(11, 0)).is_err());
        assert!(budgets.raise(&cap("job", 3, Some(11), None)));
        assert!(budgets.hold(&["job".into()], &amount(11, 0)).is_ok());
    }

    proptest! {
        /// Whatever is held and settled in whatever order: no level grants beyond its cap, and nothing leaks.
        #[test]
        fn never_beyond_the_cap(
            caps in prop::collection::vec(prop::option::of(0_u64..500), 3),
            steps in prop::collection::vec((0_u64..200, 0_u64..=100, any::<bool>()), 1..80),
        ) {
            let mut budgets = Budgets::default();
            let names: Vec<String> = (0..caps.len()).map(|i| format!("level{i}")).collect();
            for (name, tokens) in names.iter().zip(&caps) {
                budgets.raise(&cap(name, 1, *tokens, None));
            }
            let mut open: Vec<Amount> = Vec::new();
            let mut spent_total = 0;
            for (tokens, used_percent, settle_first) in steps {
                if settle_first && let Some(held) = open.pop() {
                    let used = amount(held.tokens().0 * used_percent / 100, 0);
                    spent_total += used.tokens().0;
                    budgets.settle(&names, &held, &used);
                }
                if budgets.hold(&names, &amount(tokens, 0)).is_ok() {
                    open.push(amount(tokens, 0));
                }
                let held_total: u64 = open.iter().map(|a| a.tokens().0).sum();
                for (name, cap) in names.iter().zip(&caps) {
                    let level = &budgets.levels[name];
                    prop_assert_eq!((level.spent.tokens, level.held.tokens), (spent_total, held_total));
                    prop_assert!(cap.is_none_or(|cap| spent_total + held_total <= cap));
                }
            }
        }
    }
}
