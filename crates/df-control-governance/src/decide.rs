//! The decision: the maximum over floors and policies, and the obligations that all of them agree on.

use df_contract::canonical::CanonicalError;
use df_contract::{Decision, Reason, Verdict};

use crate::bundle::PolicyBundle;
use crate::facts::{JobFacts, OperatorLimits};
use crate::floors::{floors, reason};
use crate::obligations::{granted, settle, tighten};

/// Decides about a job. A pure function of its arguments, whose digests are in the answer.
///
/// The only error is a fact without a canonical form, which plain facts always have.
pub fn decide(
    facts: &JobFacts,
    bundle: &PolicyBundle,
    limits: &OperatorLimits,
) -> Result<Decision, CanonicalError> {
    let mut reasons = floors(facts, limits);
    let judgement = bundle.judge(facts, limits);
    reasons.extend(judgement.reasons);
    let mut obligations = granted(facts, limits);
    for more in &judgement.tightenings {
        match tighten(obligations.clone(), more) {
            Ok(tighter) => obligations = tighter,
            Err(conflict) => reasons.push(reason(
                "floor.obligations",
                Verdict::Rejected,
                "the sources of obligations contradict each other",
                conflict.to_string(),
                "this is for the operator: packs and limits must leave something over",
            )),
        }
    }
    let (verdict, reasons) = join(reasons);
    Ok(Decision {
        verdict,
        reasons,
        obligations: settle(obligations, verdict),
        facts: facts.digest()?,
        policy: bundle.digest().clone(),
        limits: limits.digest()?,
    })
}

/// The strictest verdict, and the reasons in order: strictest first, then by rule.
pub(crate) fn join(mut reasons: Vec<Reason>) -> (Verdict, Vec<Reason>) {
    reasons.sort_by(|a, b| b.verdict.cmp(&a.verdict).then_with(|| a.cmp(b)));
    reasons.dedup();
    (reasons.iter().map(|r| r.verdict).fold(Verdict::Approved, Verdict::join), reasons)
}

#[cfg(test)]
mod tests;
