//! A decision in words, for the person who submitted the job.

use std::fmt::Write as _;

use df_contract::{Decision, Reason, Verdict};

/// Says which rules fired, on what evidence, and what would change it.
pub fn explain(decision: &Decision) -> String {
    let mut text = match decision.verdict {
        Verdict::Approved => "APPROVED: the job may be done.\n".to_owned(),
        Verdict::NeedsApproval => "NEEDS_APPROVAL: a person must agree before the job goes on.\n".to_owned(),
        Verdict::Rejected => "REJECTED: the job will not be done.\n".to_owned(),
    };
    if decision.reasons.is_empty() {
        text += "No rule objected.\n";
    }
    decision.reasons.iter().for_each(|r| one(&mut text, r));
    if let Some(rule) = &decision.obligations.approval {
        let roles: Vec<&str> = rule.roles.iter().map(|r| r.as_str()).collect();
        let people = if rule.count == 1 { "person" } else { "people" };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "Who can agree: {} {people} with the role {}, other than the submitter.",
            rule.count,
            roles.join(" or ")
        );
    }
    text
}

/// Reasons of gates, in the same words.
pub fn explain_reasons(reasons: &[Reason]) -> String {
    let mut text = String::new();
    reasons.iter().for_each(|r| one(&mut text, r));
    text
}

fn one(text: &mut String, reason: &Reason) {
    let weight = match reason.verdict {
        Verdict::Approved => "note",
        Verdict::NeedsApproval | Verdict::Rejected => reason.verdict.as_str(),
    };
    let _ = writeln!(text, "- {weight} [{}] {}", reason.rule, reason.message);
    if !reason.evidence.is_empty() {
        let _ = writeln!(text, "    seen: {}", reason.evidence);
    }
    if !reason.remedy.is_empty() {
        let _ = writeln!(text, "    what would change it: {}", reason.remedy);
    }
}

#[cfg(test)]
mod tests;
