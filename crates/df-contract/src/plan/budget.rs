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

    /// The share of a task that names none. Where nobody names one, all draw on one purse.
    fn unnamed(&self) -> Option<u64> {
        self.named.then(|| self.equal())
    }

    fn check(&self) -> Option<PlanError> {
        let Self { unit, cap, asked, others: tasks, .. } = *self;
        if asked > cap {
            return Some(PlanError::BudgetExceeded { unit, asked, cap });
        }
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

    /// What `task` may use of the tokens: the share it names, or where others name theirs an equal part of what these
    /// leave of the cap. `None`: whatever the job has, or the plan has no such task.
    pub fn token_share(&self, task: &TaskSlug, cap: Tokens) -> Option<Tokens> {
        let task = self.tasks.iter().find(|t| t.slug == *task)?;
        task.tokens.or_else(|| self.token_slices(cap).unnamed().map(Tokens))
    }

    /// The same of the money.
    pub fn money_share(&self, task: &TaskSlug, cap: NanoUsd) -> Option<NanoUsd> {
        let task = self.tasks.iter().find(|t| t.slug == *task)?;
        task.nano_usd.or_else(|| self.money_slices(cap).unnamed().map(NanoUsd))
    }

    /// The share of every task, as [`Self::token_share`] and [`Self::money_share`] give it.
    pub fn shares(&self, tokens: Option<Tokens>, nano_usd: Option<NanoUsd>) -> Vec<Share> {
        let tokens = tokens.and_then(|cap| self.token_slices(cap).unnamed()).map(Tokens);
        let money = nano_usd.and_then(|cap| self.money_slices(cap).unnamed()).map(NanoUsd);
        let share = |task: &PlanTask| Share {
            task: task.slug.clone(),
            tokens: task.tokens.or(tokens),
            nano_usd: task.nano_usd.or(money),
        };
        self.tasks.iter().map(share).collect()
    }
}
