//! What holds when something around a job does not answer, and what grants say.

mod agents;
mod away;
mod reconcilers;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use df_contract::api::{Spend, UsagePage, UsageRow};
use df_contract::grant::Grant;
use df_contract::lease::{Claim, Heartbeat, SessionOpen};
use df_contract::task::{Product, TreeRef};
use df_contract::{
    AttemptOutcome, Digest, DurationMs, FailureKind, JobState, KeyId, Lease, LeaseKind, NanoUsd, Role,
    SourceFacts, Timestamp, Tokens, WorkerClass,
};
use df_control_machine::CommandBody;
use df_control_machine::breaker::{COOL_OFF, OPEN_AFTER};
use df_store::Store;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::grants::GrantSigner;
use crate::lease_token::LeaseTokens;
use crate::proxy::ProxyClient;
use crate::users::Caller;
use crate::{
    Env, OperatorLimits, OrchestrationConfig, OrchestrationError, Orchestrator, Parts, TenantCaps,
    default_bundle,
};

const SEED: [u8; 32] = [1; 32];
const START: u64 = 1_800_000_000_000;

fn made(config: OrchestrationConfig, limits: OperatorLimits, proxy: &str) -> Orchestrator {
    made_by(Arc::new(AtomicU64::new(START)), config, limits, proxy)
}

/// By a clock that the test may set.
fn made_by(
    clock: Arc<AtomicU64>,
    config: OrchestrationConfig,
    limits: OperatorLimits,
    proxy: &str,
) -> Orchestrator {
    // Fails only when another test was first, with the same provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let count = AtomicU64::new(0);
    let env = Env::new(
        move || Timestamp(clock.fetch_add(1, Ordering::SeqCst)),
        move |bytes| {
            let seed = Digest::of(&count.fetch_add(1, Ordering::SeqCst).to_le_bytes());
            bytes.iter_mut().zip(seed.as_str().bytes().cycle()).for_each(|(byte, from)| *byte = from);
        },
    );
    Orchestrator::new(Parts {
        store: Store::memory().unwrap(),
        policy: default_bundle().unwrap(),
        limits,
        config,
        env,
        grants: GrantSigner::new(SEED),
        tokens: LeaseTokens::new([2; 32]),
        proxy: ProxyClient::new(proxy, "token".to_owned()).unwrap(),
    })
}

/// Nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:1";

fn alice() -> Caller {
    Caller {
        identity: "alice".to_owned(),
        tenant: "acme".parse().unwrap(),
        roles: BTreeSet::from([Role::Submitter]),
    }
}

fn spec() -> df_contract::JobSpec {
    serde_json::from_value(serde_json::json!({"title": "Shorten links", "description": "A small service."}))
        .unwrap()
}

async fn claimed(orchestrator: &Orchestrator) -> Lease {
    let key = KeyId::mint(Timestamp(5), [5; 10]);
    let open = SessionOpen::plain("w", 8);
    let session = orchestrator.session_open(key, WorkerClass::Trusted, open).await.unwrap().session;
    let ask = Claim { kinds: LeaseKind::ALL.to_vec(), max: 1, wait_ms: DurationMs::ZERO };
    orchestrator.claim(session, key, ask).await.unwrap().leases.remove(0)
}

/// The coordinator's lease of a job that was approved.
async fn planning(orchestrator: &Orchestrator) -> Lease {
    let lease = first_agent(orchestrator, spec()).await;
    assert_eq!(lease.slug.as_str(), "plan");
    lease
}

/// The first agent's lease of a job.
async fn first_agent(orchestrator: &Orchestrator, spec: df_contract::JobSpec) -> Lease {
    read_in(orchestrator, spec).await;
    claimed(orchestrator).await
}

/// Submits a job and reads its source.
async fn read_in(orchestrator: &Orchestrator, spec: df_contract::JobSpec) -> df_contract::JobId {
    let job = orchestrator.submit(&alice(), spec, None).await.unwrap().id;
    let intake = claimed(orchestrator).await;
    let base = TreeRef { revision: format!("{:040x}", 1).parse().unwrap(), bundle: Digest::of(b"bundle") };
    let product = Product::Intake { facts: SourceFacts::default(), base };
    let body = CommandBody::Report {
        slug: intake.slug.clone(),
        epoch: intake.epoch,
        attempt: intake.attempt,
        outcome: Box::new(AttemptOutcome::Succeeded { product }),
        sandbox_layers: Vec::new(),
        evidence: Vec::new(),
    };
    let env = orchestrator.env();
    orchestrator.send(env.command_id(), intake.job, orchestrator.daemon(), body).await.unwrap();
    orchestrator.sweep().await;
    job
}

fn token_of(lease: &Lease) -> &str {
    match &lease.work {
        df_contract::lease::Work::Agent { task } => &task.model_token,
        other => panic!("no agent's work: {other:?}"),
    }
}

fn claims_of(lease: &Lease) -> df_contract::GrantClaims {
    let key = ed25519_dalek::SigningKey::from_bytes(&SEED).verifying_key();
    Grant::verify(token_of(lease), &key, Timestamp(0)).unwrap()
}

#[tokio::test]
async fn a_submission_that_was_taken_is_answered_again_when_the_queue_is_full() {
    let config = OrchestrationConfig { max_open_jobs: 1, ..OrchestrationConfig::default() };
    let orchestrator = made(config, OperatorLimits::default(), NOWHERE);
    let first = orchestrator.submit(&alice(), spec(), Some("k")).await.unwrap();
    assert_eq!(orchestrator.submit(&alice(), spec(), Some("k")).await.unwrap().id, first.id);
    for key in [None, Some("other")] {
        let full = orchestrator.submit(&alice(), spec(), key).await.unwrap_err();
        assert!(matches!(full, OrchestrationError::QueueFull(1)), "{full}");
    }
}

#[tokio::test]
async fn a_grant_names_the_plan_and_keeps_the_tasks_to_their_shares() {
    let orchestrator = made(OrchestrationConfig::default(), OperatorLimits::default(), NOWHERE);
    assert_eq!(claims_of(&planning(&orchestrator).await).plan, None);

    let task = |slug: &str| serde_json::json!({"slug": slug, "role": "backend", "title": "t", "instructions": "i", "paths": [slug]});
    for (named, expect) in [(Some(70_000), [15_000, 70_000]), (None, [100_000, 100_000])] {
        let mut last = task("c");
        if let Some(named) = named {
            last["tokens"] = named.into();
        }
        let mut spec = spec();
        spec.budget.tokens = Some(df_contract::Tokens(100_000));
        spec.plan = serde_json::from_value(
            serde_json::json!({"summary": "s", "tasks": [task("a"), task("b"), last]}),
        )
        .unwrap();
        let digest = df_contract::digest_json(spec.plan.as_ref().unwrap()).unwrap();
        let orchestrator = made(OrchestrationConfig::default(), OperatorLimits::default(), NOWHERE);
        let a = first_agent(&orchestrator, spec).await;
        let (_, c) = (claimed(&orchestrator).await, claimed(&orchestrator).await);
        assert_eq!((a.slug.as_str(), c.slug.as_str()), ("a", "c"));
        let caps = [&a, &c].map(|lease| {
            let claims = claims_of(lease);
            assert_eq!(claims.plan.as_ref(), Some(&digest));
            assert_eq!(claims.caps[4], df_contract::grant::plan_level(lease.job, 1));
            claims.caps[2].tokens.unwrap().0
        });
        assert_eq!(caps, expect);
    }
}

/// One tenant's jobs cannot fill the queue for the others.
#[tokio::test]
async fn a_tenant_has_a_limit_of_its_own() {
    let config = OrchestrationConfig { max_open_jobs_per_tenant: 1, ..OrchestrationConfig::default() };
    let orchestrator = made(config, OperatorLimits::default(), NOWHERE);
    let first = orchestrator.submit(&alice(), spec(), None).await.unwrap().id;
    let full = orchestrator.submit(&alice(), spec(), None).await.unwrap_err();
    assert!(matches!(full, OrchestrationError::TenantQueueFull(1)), "{full}");
    let other = Caller { tenant: "other".parse().unwrap(), ..alice() };
    orchestrator.submit(&other, spec(), None).await.unwrap();
    orchestrator.cancel(&alice(), first, "done".to_owned()).await.unwrap();
    orchestrator.submit(&alice(), spec(), None).await.unwrap();
}

#[tokio::test]
async fn a_grant_names_an_allowed_model_alone() {
    let limits = OperatorLimits { models: Some(["small".to_owned()].into()), ..OperatorLimits::default() };
    let orchestrator = made(OrchestrationConfig::default(), limits, NOWHERE);
    let lease = planning(&orchestrator).await;
    assert_eq!(claims_of(&lease).models, ["small"]);
    assert!(!format!("{lease:?}").contains(token_of(&lease)), "a lease shows no grant");
}

#[tokio::test]
async fn caps_of_the_configuration_get_a_new_version_with_every_start() {
    let tenant_caps = TenantCaps { nano_usd: Some(NanoUsd(5)), tokens: Some(Tokens(7)) };
    let config = OrchestrationConfig { tenant_caps, ..OrchestrationConfig::default() };
    let lease = planning(&made(config, OperatorLimits::default(), NOWHERE)).await;
    let caps = claims_of(&lease).caps;
    assert_eq!((caps[0].account.as_str(), caps[0].tokens), ("tenant:acme", Some(Tokens(7))));
    assert!(caps[0].version >= START, "{caps:?}");
}

/// A grant is dated by the clock of the proxy, which lets it expire; clocks that are nearly the same are taken for it.
#[tokio::test]
async fn grants_are_dated_by_the_proxys_clock() {
    const HOUR: u64 = 3_600_000;
    for (there, ahead) in [(START + HOUR, HOUR as i64), (START - HOUR, -(HOUR as i64)), (START + 2_000, 0)] {
        let orchestrator = made(OrchestrationConfig::default(), OperatorLimits::default(), NOWHERE);
        orchestrator.inner.grants.proxy_said(Timestamp(there), Timestamp(START));
        let lease = planning(&orchestrator).await;
        let issued = claims_of(&lease).issued_at.0 as i64 - START as i64 - ahead;
        assert!((0..1_000).contains(&issued), "{ahead}: {issued} ms off");
    }
}

#[tokio::test]
async fn a_refused_effect_holds_up_no_other() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let served = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&served);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 4096];
            let _ = stream.read(&mut asked).await.unwrap();
            let refuses = count.fetch_add(1, Ordering::SeqCst) == 0;
            let status = if refuses { "400 Bad Request" } else { "204 No Content" };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let orchestrator = made(OrchestrationConfig::default(), OperatorLimits::default(), &address);
    for _ in 0..2 {
        let job = planning(&orchestrator).await.job;
        orchestrator.cancel(&alice(), job, "done".to_owned()).await.unwrap();
    }
    assert_eq!(orchestrator.store().outbox_due(0, 9).await.unwrap().len(), 2);
    orchestrator.dispatch_outbox().await;
    assert_eq!(served.load(Ordering::SeqCst), 2);
    assert_eq!(orchestrator.store().outbox_due(0, 9).await.unwrap().len(), 1, "the refused one is kept");
}

/// A proxy whose first pages of usage hold nothing but attempts that cost nothing.
#[tokio::test]
async fn a_page_of_the_ledger_without_rows_hides_none_after_it() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let orchestrator = made(OrchestrationConfig::default(), OperatorLimits::default(), &address);
    let lease = planning(&orchestrator).await;
    let (page, now) = (u64::from(crate::proxy::USAGE_PAGE), orchestrator.env().now());
    let row = UsageRow {
        seq: 2 * page + 1,
        at: now,
        job: lease.job,
        task: lease.slug.clone(),
        epoch: lease.epoch,
        attempt: lease.attempt,
        account: "a".into(),
        model: "m".into(),
        input_tokens: Tokens(7),
        output_tokens: Tokens(3),
        nano_usd: NanoUsd(0),
        estimated: false,
    };
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 4096];
            let read = stream.read(&mut asked).await.unwrap();
            let asked = String::from_utf8_lossy(&asked[..read]).into_owned();
            let after =
                asked.split("after=").nth(1).unwrap().split('&').next().unwrap().parse::<u64>().unwrap();
            let (rows, cursor) = match after {
                after if after < 2 * page => (vec![], after + page),
                after if after == 2 * page => (vec![row.clone()], after + 1),
                after => (vec![], after),
            };
            let body = serde_json::to_string(&UsagePage { rows, cursor, now: None }).unwrap();
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
            let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    assert_eq!(orchestrator.usage().await.unwrap(), 1);
    let spend = orchestrator.job(lease.job).await.unwrap().spend;
    assert_eq!((spend.calls, spend.tokens()), (1, Tokens(10)));
}

#[tokio::test]
async fn a_job_that_reached_its_cap_is_paused_and_its_leases_end() {
    let orchestrator = made(OrchestrationConfig::default(), OperatorLimits::default(), NOWHERE);
    let lease = planning(&orchestrator).await;
    let spend = Spend { calls: 1, input_tokens: Tokens(u64::MAX), ..Spend::default() };
    let body = CommandBody::RecordSpend { slug: lease.slug.clone(), spend, through: 1 };
    let env = orchestrator.env();
    orchestrator.send(env.command_id(), lease.job, orchestrator.daemon(), body).await.unwrap();
    orchestrator.sweep().await;
    assert_eq!(orchestrator.job(lease.job).await.unwrap().state, JobState::Paused);
    assert!(orchestrator.held(&lease.token.0).await.is_err());
    // Resuming without more budget pauses it again, and nothing is leased in between.
    let resumed = orchestrator.resume(&alice(), lease.job).await.unwrap();
    assert_eq!(resumed.state, JobState::Paused);
}

/// A job that nobody was told about is brought forward by the slow pass alone, once.
#[tokio::test]
async fn the_slow_pass_alone_brings_every_job_forward() {
    let orchestrator = made(OrchestrationConfig::default(), OperatorLimits::default(), NOWHERE);
    let mut jobs = Vec::new();
    for _ in 0..3 {
        let (env, job) = (orchestrator.env(), orchestrator.env().job_id());
        let alice = df_control_machine::Actor { name: "alice".to_owned(), role: Role::Submitter };
        let body = CommandBody::Submit {
            tenant: "acme".parse().unwrap(),
            submitter: "alice".to_owned(),
            spec: Box::new(spec()),
        };
        orchestrator.send(env.command_id(), job, alice, body).await.unwrap();
        jobs.push(job);
    }
    orchestrator.sweep().await;
    for job in jobs {
        assert_eq!(orchestrator.job(job).await.unwrap().state, JobState::GovernanceAnalysis);
    }
    let did = |orchestrator: &Orchestrator| {
        let view = orchestrator.reconcilers().into_iter().find(|view| view.name == "jobs").unwrap();
        (view.runs, view.last_did, view.last_error)
    };
    assert_eq!(did(&orchestrator), (1, 3, None));
    orchestrator.sweep().await;
    assert_eq!(did(&orchestrator), (2, 0, None), "again it finds nothing to do");
}

/// A deadline passes without anybody asking: the timer fails the job, and is silent before and after.
#[tokio::test]
async fn timers_move_jobs_whose_time_has_come() {
    let orchestrator = made(OrchestrationConfig::default(), OperatorLimits::default(), NOWHERE);
    let mut late = spec();
    late.deadline = Some(Timestamp(START + 1_000));
    let late = orchestrator.submit(&alice(), late, None).await.unwrap().id;
    let other = orchestrator.submit(&alice(), spec(), None).await.unwrap().id;
    assert_eq!(orchestrator.timers().await.unwrap(), 0);
    // The clock of these tests moves whenever it is read.
    while orchestrator.env().now() < Timestamp(START + 1_000) {}
    assert_eq!(orchestrator.timers().await.unwrap(), 1);
    assert_eq!(orchestrator.job(late).await.unwrap().state, JobState::Failed);
    assert_eq!(orchestrator.job(other).await.unwrap().state, JobState::GovernanceAnalysis);
    assert_eq!(orchestrator.timers().await.unwrap(), 0);
}

/// Nothing happens in the store when a cool-off ends: a worker that waits for work is given the probe all the same, and one.
#[tokio::test]
async fn a_claim_that_waits_is_given_the_probe_when_the_cool_off_ends() {
    let clock = Arc::new(AtomicU64::new(START));
    let (config, limits) = (OrchestrationConfig::default(), OperatorLimits::default());
    let orchestrator = made_by(clock.clone(), config, limits, NOWHERE);
    let env = orchestrator.env().clone();
    for attempt in 0..OPEN_AFTER {
        if attempt % 3 == 0 {
            read_in(&orchestrator, spec()).await;
        }
        let lease = claimed(&orchestrator).await;
        let failed =
            AttemptOutcome::Failed { kind: FailureKind::AgentCrash, detail: "gone".into(), trace: None };
        let body = CommandBody::Report {
            slug: lease.slug.clone(),
            epoch: lease.epoch,
            attempt: lease.attempt,
            outcome: Box::new(failed),
            sandbox_layers: Vec::new(),
            evidence: Default::default(),
        };
        orchestrator.send(env.command_id(), lease.job, orchestrator.daemon(), body).await.unwrap();
        orchestrator.sweep().await;
        clock.fetch_add(4_000, Ordering::SeqCst);
    }
    read_in(&orchestrator, spec()).await;
    let key = KeyId::mint(Timestamp(5), [5; 10]);
    let open = |name: &str| orchestrator.session_open(key, WorkerClass::Trusted, SessionOpen::plain(name, 8));
    let session = open("w").await.unwrap().session;
    let ask = |wait_ms| Claim { kinds: LeaseKind::ALL.to_vec(), max: 8, wait_ms };
    let none = orchestrator.claim(session, key, ask(DurationMs::ZERO)).await.unwrap().leases;
    assert!(none.is_empty(), "two tasks are ready, and the breaker is open");
    let waits = orchestrator.claim(session, key, ask(DurationMs(20_000)));
    let time_passes = async {
        for _ in 0..COOL_OFF.0 / 10_000 {
            let beat = Heartbeat { held: Vec::new() };
            orchestrator.heartbeat(session, key, beat).await.unwrap();
            clock.fetch_add(10_000, Ordering::SeqCst);
        }
        orchestrator.heartbeat(session, key, Heartbeat { held: Vec::new() }).await.unwrap();
    };
    let (given, ()) = tokio::join!(waits, time_passes);
    assert_eq!(given.unwrap().leases.len(), 1);
    let other = open("other").await.unwrap().session;
    let rest = orchestrator.claim(other, key, ask(DurationMs::ZERO)).await.unwrap().leases;
    assert_eq!(rest.len(), 1, "another worker has seen no failure");
}
