//! What a pack answers, and how it is read. Anything unexpected is an error, and an error refuses.

use df_contract::{Reason, Verdict};
use serde::Deserialize;

use super::{Judgement, Pack};
use crate::floors::reason;
use crate::obligations::Tightening;

/// Rules a pack may define; it must define one of them.
pub(super) const OUTPUTS: [&str; 6] = ["decision", "deny", "needs_approval", "warn", "obligations", ACCESS];
/// The set of objections to an access.
pub(super) const ACCESS: &str = "deny_access";
/// Reasons one rule may give.
const MAX_REASONS: usize = 256;
/// Characters kept of one text in a reason.
const MAX_TEXT_CHARS: usize = 400;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Finding {
    rule: String,
    message: String,
    #[serde(default)]
    evidence: String,
    #[serde(default)]
    remedy: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Decided {
    verdict: Verdict,
    #[serde(default)]
    reasons: Vec<Finding>,
    #[serde(default)]
    obligations: Tightening,
}

/// Reads the value of `data.devfactory.<pack>.<output>`.
pub(super) fn read(pack: &Pack, output: &str, value: serde_json::Value) -> Result<Judgement, String> {
    let verdict = match output {
        "deny" | ACCESS => Verdict::Rejected,
        "needs_approval" => Verdict::NeedsApproval,
        "warn" => Verdict::Approved,
        "obligations" => {
            let tightening = serde_json::from_value(value).map_err(|e| e.to_string())?;
            return Ok(Judgement { reasons: Vec::new(), tightenings: vec![tightening] });
        }
        "decision" => {
            let decided: Decided = serde_json::from_value(value).map_err(|e| e.to_string())?;
            if decided.verdict != Verdict::Approved && decided.reasons.is_empty() {
                return Err(format!("it says {} without a reason", decided.verdict.as_str()));
            }
            let reasons = reasons(pack, decided.verdict, decided.reasons)?;
            return Ok(Judgement { reasons, tightenings: vec![decided.obligations] });
        }
        other => return Err(format!("`{other}` is no output")),
    };
    let findings: Vec<Finding> = serde_json::from_value(value).map_err(|e| e.to_string())?;
    Ok(Judgement { reasons: reasons(pack, verdict, findings)?, tightenings: Vec::new() })
}

fn reasons(pack: &Pack, verdict: Verdict, findings: Vec<Finding>) -> Result<Vec<Reason>, String> {
    if findings.len() > MAX_REASONS {
        return Err(format!("it gives {} reasons, the limit is {MAX_REASONS}", findings.len()));
    }
    findings
        .into_iter()
        .map(|f| {
            let own =
                f.rule.strip_prefix(&pack.name).is_some_and(|rest| rest.len() > 1 && rest.starts_with('.'));
            if !own {
                return Err(format!("rule id `{}` does not begin with `{}.`", cut(&f.rule), pack.name));
            }
            if f.message.trim().is_empty() {
                return Err(format!("rule `{}` has no message", cut(&f.rule)));
            }
            Ok(Reason {
                severity: df_contract::Severity::Warn
                    .max(reason("", verdict, "", String::new(), "").severity),
                ..reason(&cut(&f.rule), verdict, &cut(&f.message), cut(f.evidence.trim()), &cut(&f.remedy))
            })
        })
        .collect()
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The reason that stands for a pack which did not answer as it must.
pub(super) fn policy_error(pack: &Pack, output: &str, why: &str) -> Reason {
    reason(
        "policy.error",
        Verdict::Rejected,
        "a policy could not be evaluated, and what cannot be judged is refused",
        format!("{}.{output}: {}", pack.name, cut(why)),
        "this is for the operator: the pack must answer for every job",
    )
}
