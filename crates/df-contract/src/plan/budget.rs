//! Shares of a job's budget: what tasks ask for by name, and what is left for the others.

use super::{Plan, PlanError, PlanTask};
use crate::{NanoUsd, TaskSlug, Tokens};

/// Least share of a task: with less its first question to a model would not fit.
pub const MIN_SHARE_TOKENS: u64 = 1_000;
pub const MIN_SHARE_NANO_USD: u64 = 1_000;

/// What one task may spend. Absent = it has no share of its own and draws on the job's cap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    pub task: TaskSlug,
    pub tokens: Option<Tokens>,
    pub nano_usd: Option<NanoUsd>,
}

/// One kind of budget over all tasks.
struct Slices {
    unit: &'static str,
    least: u64,
    cap: u64,
    asked: u64,
    /// How many tasks name no share.
    others: usize,
    /// Whether any task names one.
    named: bool,
}

impl Slices {
    fn of(
        plan: &Plan,
        unit: &'static str,
        least: u64,
        cap: u64,
        share: impl Fn(&PlanTask) -> Option<u64>,
    ) -> Self {
        let named: Vec<u64> = plan.tasks.iter().filter_map(share).collect();
        Self {
            unit,
            least,
            cap,
            asked: named.iter().fold(0, |sum, share| sum.saturating_add(*share)),
            others: plan.tasks.len() - named.len(),
            named: !named.is_empty(),
        }
    }

    fn left(&self) -> u64 {
        self.cap.saturating_sub(self.asked)
    }

    /// The equal share of what is left.
    fn equal(&self) -> u64 {
        self.left() / (self.others as u64).max(1)
    }

    fn check(&self) -> Option<PlanError> {
        let Self { unit, cap, asked, others: tasks, .. } = *self;
        if asked > cap {
            return Some(PlanError::BudgetExceeded { unit, asked, cap });
        }
        // Without a named share the tasks draw on one purse, and nobody was promised anything.
        let short = self.named && tasks > 0 && self.equal() < self.least;
        short.then(|| PlanError::BudgetLeavesNothing { unit, left: self.left(), tasks, least: self.least })
    }
}

impl Plan {
    fn token_slices(&self, cap: Tokens) -> Slices {
        Slices::of(self, "tokens", MIN_SHARE_TOKENS, cap.0, |t| t.tokens.map(|t| t.0))
    }

    fn money_slices(&self, cap: NanoUsd) -> Slices {
        Slices::of(self, "nano-dollars", MIN_SHARE_NANO_USD, cap.0, |t| t.nano_usd.map(|n| n.0))
    }

    /// Whether the shares that tasks name fit into what the job may spend, and leave something for the tasks that name
    /// none. A cap that is absent is not checked.
    pub fn check_budget(&self, tokens: Option<Tokens>, nano_usd: Option<NanoUsd>) -> Vec<PlanError> {
        let tokens = tokens.and_then(|cap| self.token_slices(cap).check());
        let money = nano_usd.and_then(|cap| self.money_slices(cap).check());
        tokens.into_iter().chain(money).collect()
    }

    /// The share of every task: the one it names, or an equal part of what the named ones leave of the cap.
    pub fn shares(&self, tokens: Option<Tokens>, nano_usd: Option<NanoUsd>) -> Vec<Share> {
        let tokens = tokens.map(|cap| Tokens(self.token_slices(cap).equal()));
        let money = nano_usd.map(|cap| NanoUsd(self.money_slices(cap).equal()));
        let share = |task: &PlanTask| Share {
            task: task.slug.clone(),
            tokens: task.tokens.or(tokens),
            nano_usd: task.nano_usd.or(money),
        };
        self.tasks.iter().map(share).collect()
    }
}
