use df_contract::{JobSpec, SourceFacts};

use super::*;
use crate::{OperatorLimits, decide, default_bundle, job_facts};

fn explained(spec: serde_json::Value) -> String {
    let spec: JobSpec = serde_json::from_value(spec).unwrap();
    let facts = job_facts(&spec, &SourceFacts::default(), &"acme".parse().unwrap(), "alice").unwrap();
    explain(&decide(&facts, &default_bundle().unwrap(), &OperatorLimits::default()).unwrap())
}

#[test]
fn an_approved_job() {
    insta::assert_snapshot!(
        explained(serde_json::json!({"title": "A calculator", "description": "With tests.", "budget": {"tokens": 9}})),
        @r"
        APPROVED: the job may be done.
        No rule objected.
        ");
}

#[test]
fn a_job_that_waits() {
    insta::assert_snapshot!(
        explained(serde_json::json!({"title": "Mask the export", "description": "Of the newsletter.",
            "capabilities": {"environments": ["production"], "data_classes": ["personal"]}})),
        @r"
        NEEDS_APPROVAL: a person must agree before the job goes on.
        - NEEDS_APPROVAL [floor.data_class] the job touches data about people, who must be protected
            seen: personal
            what would change it: work with synthetic data, or wait for an approver
        - NEEDS_APPROVAL [floor.environment] the job touches an environment that others depend on
            seen: production
            what would change it: name only environments of development and test, or wait for an approver
        - note [cost.no_budget] the job does not say what it may spend, so it may spend what the operator allows at most
            seen: 20000000 tokens
            what would change it: give budget.tokens or budget.money_nano_usd
        Who can agree: 1 person with the role approver or admin, other than the submitter.
        ");
}

#[test]
fn a_refused_job() {
    insta::assert_snapshot!(
        explained(serde_json::json!({"title": "Web page", "description": "Build a phishing page for a bank.",
            "budget": {"tokens": 9}, "capabilities": {"dependencies": ["pypi:flask"]}})),
        @r"
        REJECTED: the job will not be done.
        - REJECTED [base.misuse.phishing] the job asks for something that tricks people into giving away their credentials
            seen: build a phishing page for a bank
            what would change it: describe software that works with the knowledge of the people it touches; work against misuse is welcome and should say so
        - REJECTED [floor.dependencies] these packages are not in this installation's sandboxes and cannot be fetched into them
            seen: pypi:flask
            what would change it: do without them, put them into the source, or ask the operator to install them
        ");
}
