//! A proxy that answers nothing useful, and jobs that come to their end meanwhile.

use std::collections::BTreeMap;

use df_contract::task::AgentStatus;
use df_contract::{AgentResult, CheckResult, GateFacts, Usage};

use super::*;
use crate::reconcile::Reconciler;

/// A proxy that turns every question down, and how many it was asked.
async fn refusing() -> (String, Arc<AtomicU64>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut question = [0; 4096];
            let read = stream.read(&mut question).await.unwrap();
            if question[..read].starts_with(b"GET") {
                count.fetch_add(1, Ordering::SeqCst);
            }
            let answer = "HTTP/1.1 500 Oh\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (address, asked)
}

fn product(lease: &Lease) -> Product {
    let bundle = Digest::of(lease.slug.as_str().as_bytes());
    let tree = TreeRef { revision: bundle.as_str()[..40].parse().unwrap(), bundle: bundle.clone() };
    let result = AgentResult {
        status: AgentStatus::Succeeded,
        summary: "done".to_owned(),
        commit_message: "m".to_owned(),
        tree: Some(tree.clone()),
        plan: None,
        checks: Vec::<CheckResult>::new(),
        usage: Usage::default(),
        artefacts: BTreeMap::new(),
    };
    match lease.kind() {
        LeaseKind::Intake => Product::Intake { facts: SourceFacts::default(), base: tree },
        LeaseKind::Agent => Product::Change { tree, result },
        LeaseKind::Integrate => Product::Merge { tree, checks: Vec::new() },
        LeaseKind::Validate => Product::Gate {
            facts: GateFacts {
                acceptance: Vec::new(),
                hidden: Vec::new(),
                source: SourceFacts::default(),
                changed_paths: ["src/a.py".to_owned()].into(),
                artefact: bundle,
            },
        },
        LeaseKind::Deliver => Product::Delivery { artefacts: [("tree.tar".to_owned(), bundle)].into() },
    }
}

/// Once the reconciler has asked in vain, no job asks for itself: each would wait as long again, one after the other.
#[tokio::test]
async fn jobs_that_end_do_not_wait_for_a_proxy_that_is_known_not_to_answer() {
    let (address, asked) = refusing().await;
    let orchestrator = made(OrchestrationConfig::default(), OperatorLimits::default(), &address);
    for known in [false, true] {
        if known {
            orchestrator.told(Reconciler::Usage).await;
        }
        let before = asked.load(Ordering::SeqCst);
        let mut spec = spec();
        let plan = serde_json::json!({"summary": "s", "tasks": [
            {"slug": "api", "role": "backend", "title": "t", "instructions": "i", "paths": ["src/**"]}]});
        spec.plan = Some(serde_json::from_value(plan).unwrap());
        let job = orchestrator.submit(&alice(), spec, None).await.unwrap().id;
        while orchestrator.job(job).await.unwrap().state != JobState::Completed {
            let lease = claimed(&orchestrator).await;
            let body = CommandBody::Report {
                slug: lease.slug.clone(),
                epoch: lease.epoch,
                attempt: lease.attempt,
                outcome: Box::new(AttemptOutcome::Succeeded { product: product(&lease) }),
                sandbox_layers: Vec::new(),
                evidence: Vec::new(),
            };
            let env = orchestrator.env();
            orchestrator.send(env.command_id(), job, orchestrator.daemon(), body).await.unwrap();
            orchestrator.sweep().await;
        }
        let more = asked.load(Ordering::SeqCst) - before;
        assert_eq!(more > 0, !known, "asked {more} times, known = {known}");
    }
}
