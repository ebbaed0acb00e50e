//! The examples that governance stops: one for good, one until somebody else approves.
#![expect(clippy::unwrap_used, reason = "a test")]

use df_contract::api::{JobView, Submitted, Vote};
use df_contract::{ErrorCode, JobState, Role};
use df_testkit::{
    Api, Ask, Limit, Member, Model, Reply, ScriptedModel, Setup, TestFactory, poll, repository, run_script,
};
use serde_json::json;

const MASKING: &str = r#""""Masks e-mail addresses."""


def mask_email(text):
    if text == "":
        return ""
    name, at, domain = text.rpartition("@")
    if not name or not at or not domain or any(c.isspace() for c in text):
        return "***"
    return f"{name[0]}***@{domain}"
"#;

const TESTS: &str = r#"import io
import unittest

import export_customers
from masking import mask_email


class MaskingTest(unittest.TestCase):
    def test_addresses_are_masked_and_all_else_is_hidden(self):
        for given, wanted in [
            ("first.customer@example.org", "f***@example.org"),
            ("x@example.com", "x***@example.com"),
            ("ลูกค้า@example.net", "ล***@example.net"),
            ("f***@example.org", "f***@example.org"),
            ("", ""),
            ("not an address", "***"),
            ("@example.org", "***"),
            ("x@", "***"),
        ]:
            self.assertEqual(mask_email(given), wanted)

    def test_the_export_masks(self):
        source = io.StringIO("customer_id,email,phone,language,newsletter\n1,a@example.org,0,en,yes\n")
        target = io.StringIO()
        export_customers.export(source, target)
        self.assertIn("1,a***@example.org,en,yes", target.getvalue())


if __name__ == "__main__":
    unittest.main()
"#;

/// Does the task of `examples/jobs/customer-export`.
fn mask(ask: &Ask) -> Reply {
    match (ask.task().as_str(), ask.turn()) {
        ("mask-email", 0) => Reply::calls(&[
            ("write", json!({"path": "masking.py", "content": MASKING})),
            ("write", json!({"path": "tests/test_masking.py", "content": TESTS})),
            ("read", json!({"path": "export_customers.py"})),
        ]),
        ("mask-email", 1) => Reply::calls(&[
            (
                "edit",
                json!({"path": "export_customers.py", "old": "import sys\n", "new": "import sys\n\nfrom masking import mask_email\n"}),
            ),
            (
                "edit",
                json!({"path": "export_customers.py", "old": "        writer.writerow(row)\n",
                       "new": "        writer.writerow({**row, \"email\": mask_email(row[\"email\"])})\n"}),
            ),
        ]),
        ("mask-email", 2) => Reply::finish("addresses are masked in the export"),
        other => Reply::error(400, &format!("nothing is scripted for {other:?}: {}", ask.last_result())),
    }
}

fn example(name: &str) -> String {
    repository().join("examples/jobs").join(name).to_str().unwrap().to_owned()
}

fn submit(factory: &TestFactory, who: &Api, name: &str) -> Submitted {
    factory.cli_as(who, &["--json", "submit", &example(name)]).succeeded().json()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phishing_kit_is_rejected_before_any_token_is_spent() {
    let model = ScriptedModel::start(mask).await;
    let factory = TestFactory::start(model.setup()).await;
    let mallory = factory.identity("mallory", &[Role::Submitter]).await;
    let job = submit(&factory, &mallory, "credential-phishing").id;
    let view = factory.reached(job, JobState::Rejected, Limit::STEP).await;
    let decision = view.decision.unwrap();
    assert!(!decision.reasons.is_empty());
    assert!(decision.reasons.iter().all(|reason| !reason.rule.is_empty() && !reason.message.is_empty()));
    let explained = factory.cli_as(&mallory, &["governance", "explain", &job.to_string()]);
    assert!(explained.succeeded().stdout.contains(&decision.reasons[0].rule), "{explained:?}");
    let watched = factory.cli_as(&mallory, &["watch", &job.to_string()]);
    assert_eq!(watched.code, Some(3), "a rejected job is no success: {watched:?}");
    assert_eq!(model.tally().tasks, Vec::<String>::new(), "no model was asked");
    assert_eq!(factory.settled(job).await, df_contract::api::Spend::default());
    factory.verify_audit();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_on_personal_data_waits_for_another_pair_of_eyes() {
    let model = ScriptedModel::start(mask).await;
    let factory = TestFactory::start(model.setup()).await;
    assert!(!factory.admin().system().await.unwrap().four_eyes_possible, "one identity is one pair of eyes");
    let alice = factory.identity("alice", &[Role::Submitter, Role::Approver]).await;
    let also_alice = factory.identity("alice", &[Role::Approver]).await;
    let bob = factory.identity("bob", &[Role::Approver]).await;
    let viewer = factory.identity("carol", &[Role::Viewer]).await;
    assert!(factory.admin().system().await.unwrap().four_eyes_possible);

    let job = submit(&factory, &alice, "customer-export").id;
    let waiting = factory.reached(job, JobState::AwaitingApproval, Limit::STEP).await;
    for (who, expect) in
        [(&alice, ErrorCode::FourEyes), (&also_alice, ErrorCode::FourEyes), (&viewer, ErrorCode::Forbidden)]
    {
        assert_eq!(who.approve(job).await.unwrap_err().code(), expect);
    }
    let refused = factory.cli_as(&alice, &["--json", "approve", &job.to_string()]);
    assert_eq!((refused.code, refused.problem().code), (Some(1), ErrorCode::FourEyes));
    assert_eq!(factory.admin().job(job).await.unwrap().summary.state, JobState::AwaitingApproval);
    assert_eq!(model.tally().tasks, Vec::<String>::new(), "nothing is spent before the approval");

    let seen = waiting.approval.unwrap().job_version;
    let stale = Vote { job_version: Some(seen - 1), ..Vote::default() };
    let refused = bob.post::<JobView>(&format!("/v1/jobs/{job}/approve"), &stale).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::ApprovalStale, "a vote counts for what was looked at");
    bob.approve(job).await.unwrap();
    // What goes to production is approved again once it is built.
    let built = poll(Limit::JOB, "the delivery waits", async || {
        let view = factory.admin().job(job).await.unwrap();
        match &view.approval {
            Some(approval) if approval.subject == "delivery" => Ok(view),
            _ => Err(format!("{} {:?}", view.summary.state, view.cause)),
        }
    })
    .await;
    assert_eq!(built.summary.state, JobState::AwaitingApproval);
    assert!(built.artefacts.is_empty() && built.gates.iter().all(|gate| gate.passed), "{:?}", built.gates);
    assert_eq!(alice.approve(job).await.unwrap_err().code(), ErrorCode::FourEyes);
    bob.approve(job).await.unwrap();
    factory.completed(job, Limit::JOB).await;
    assert_eq!(bob.approve(job).await.unwrap_err().code(), ErrorCode::IllegalTransition);

    let second = submit(&factory, &alice, "customer-export").id;
    assert_ne!(second, job);
    factory.reached(second, JobState::AwaitingApproval, Limit::STEP).await;
    bob.reject(second).await.unwrap();
    factory.reached(second, JobState::Rejected, Limit::STEP).await;
    factory.verify_audit();
}

/// The script as a newcomer runs it, from the conversation that ships with the example.
#[tokio::test(flavor = "multi_thread")]
async fn the_script_of_the_example_does_what_it_says() {
    let examples = repository().join("examples/jobs/customer-export");
    let recording = Model::Recorded { path: examples.join("recording.jsonl") };
    let factory = TestFactory::start(Setup::new(recording)).await;
    let ran = run_script(&factory, &examples.join("run.sh"), Limit::JOB);
    assert!(ran.succeeded().stderr.contains("four_eyes"), "{ran:?}");
    let log = factory.log(Member::Proxy);
    assert!(!log.contains("stale"), "the example must be recorded again:\n{log}");
    factory.verify_audit();
}

/// One identity is one pair of eyes, and that is said before somebody waits for the other.
#[tokio::test(flavor = "multi_thread")]
async fn doctor_says_that_four_eyes_cannot_be_had() {
    let factory = TestFactory::start(Setup::new(Model::Nobody)).await;
    poll(Limit::STEP, "the worker is connected", async || {
        let system = factory.admin().system().await.unwrap();
        if system.workers.is_empty() { Err("no worker".to_owned()) } else { Ok(()) }
    })
    .await;
    let alone = factory.cli_as(factory.admin(), &["doctor"]);
    assert!(alone.succeeded().stdout.contains("one identity only"), "{alone:?}");
    factory.identity("bob", &[Role::Approver]).await;
    let two = factory.cli_as(factory.admin(), &["doctor"]);
    assert!(!two.succeeded().stdout.contains("one identity only"), "{two:?}");
}
