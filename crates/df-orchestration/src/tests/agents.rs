//! Which registered agent does which task, at which version, and what happens when it may not.

use df_contract::agent::api::AgentRegister;
use df_contract::agent::{AgentManifest, Registration, sign};
use df_contract::lease::Work;
use df_contract::{AgentName, AgentTask, Digest, JobId, JobSpec, JobState};
use df_control_machine::Effect;
use serde_json::{Value, json};

use super::*;
use crate::agents::AgentScope;

const KEY: [u8; 32] = [9; 32];

fn made_here() -> Orchestrator {
    made(OrchestrationConfig::default(), OperatorLimits::default(), NOWHERE)
}

fn manifest(agent: &str, role: &str, prompt: &str) -> Value {
    let tools =
        if role == "coordinator" { json!(["read", "propose_plan"]) } else { json!(["read", "finish"]) };
    let paths = if role == "coordinator" { json!([]) } else { json!(["docs/**"]) };
    json!({"name": agent, "role": role, "runtime": "builtin", "tools": tools, "paths": paths,
        "models": ["huge", "small"], "limits": {"steps": 5, "wall_s": 60}, "prompt": prompt})
}

fn signed(manifest: &Value, tenant: Option<&str>, seed: &[u8; 32], number: u64) -> AgentRegister {
    let read = AgentManifest::read(manifest).unwrap();
    let tenant = tenant.map(|t| t.parse().unwrap());
    let digest = read.digest().unwrap();
    let of = Registration { tenant: tenant.as_ref(), name: &read.name, digest: &digest, number };
    let (public_key, signature) = sign(seed, &of);
    AgentRegister { manifest: manifest.clone(), number, public_key, signature }
}

async fn row(orchestrator: &Orchestrator, agent: &str) -> df_store::AgentRow {
    orchestrator.agent_for(&alice().tenant, &name(agent)).await.unwrap()
}

async fn register(orchestrator: &Orchestrator, agent: &str, role: &str, prompt: &str) -> Digest {
    let before = orchestrator.agent_for(&alice().tenant, &name(agent)).await;
    let number = before.map_or(0, |row| row.number) + 1;
    let ask = signed(&manifest(agent, role, prompt), Some("acme"), &KEY, number);
    orchestrator.agent_register(&alice(), AgentScope::Tenant, ask).await.unwrap().agent.digest
}

fn name(text: &str) -> AgentName {
    text.parse().unwrap()
}

/// A job of one task below `docs`, with more in the task or the job.
fn job(task: Value, more: Value) -> JobSpec {
    let mut one = json!({"slug": "guide", "role": "registered-agent", "title": "t", "instructions": "i",
        "paths": ["docs/guide.md"]});
    one.as_object_mut().unwrap().extend(task.as_object().unwrap().clone());
    let mut job =
        json!({"title": "Write", "description": "A guide.", "plan": {"summary": "s", "tasks": [one]}});
    job.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(job).unwrap()
}

fn writer() -> Value {
    json!({"agent": "docs-writer"})
}

fn work(lease: &Lease) -> &AgentTask {
    match &lease.work {
        Work::Agent { task } => task,
        other => panic!("no agent's work: {other:?}"),
    }
}

fn prompt(lease: &Lease) -> Option<&str> {
    work(lease).agent.as_ref().map(|agent| agent.prompt.as_str())
}

async fn record(orchestrator: &Orchestrator, job: JobId) -> df_control_machine::JobRecord {
    orchestrator.job(job).await.unwrap()
}

#[tokio::test]
async fn a_task_gets_the_agent_it_names_with_its_digest_and_a_permitted_model() {
    let limits = OperatorLimits { models: Some(["small".to_owned()].into()), ..OperatorLimits::default() };
    let orchestrator = made(OrchestrationConfig::default(), limits, NOWHERE);
    let digest = register(&orchestrator, "docs-writer", "registered-agent", "one").await;
    let job = read_in(&orchestrator, job(writer(), json!({}))).await;
    let lease = claimed(&orchestrator).await;
    assert_eq!(prompt(&lease), Some("one"));
    assert_eq!(work(&lease).agent_digest, Some(digest));
    assert_eq!(work(&lease).model, "small", "the first of its preferences that the job may use");
    assert_eq!(claims_of(&lease).models, ["small"]);
    let record = record(&orchestrator, job).await;
    assert_eq!(record.tasks[&lease.slug].agent, Some(name("docs-writer")));
    let audit = orchestrator.store().audit(job).await.unwrap();
    assert!(audit.iter().any(|record| record.body["kind"] == "agents_assigned"), "who does it is recorded");
}

#[tokio::test]
async fn what_was_judged_is_what_runs_whatever_is_registered_later() {
    let orchestrator = made_here();
    register(&orchestrator, "docs-writer", "registered-agent", "one").await;
    read_in(&orchestrator, job(writer(), json!({}))).await;
    register(&orchestrator, "docs-writer", "registered-agent", "two").await;
    assert_eq!(prompt(&claimed(&orchestrator).await), Some("one"));
}

#[tokio::test]
async fn a_job_keeps_to_its_version_before_its_tenant_before_the_current_one() {
    let orchestrator = made_here();
    let one = register(&orchestrator, "docs-writer", "registered-agent", "one").await;
    let two = register(&orchestrator, "docs-writer", "registered-agent", "two").await;
    register(&orchestrator, "docs-writer", "registered-agent", "three").await;
    let next = async |more: Value| {
        read_in(&orchestrator, job(writer(), more)).await;
        prompt(&claimed(&orchestrator).await).unwrap().to_owned()
    };
    assert_eq!(next(json!({})).await, "three");
    orchestrator.agent_pin(&alice(), name("docs-writer"), Some(two), false).await.unwrap();
    assert_eq!(next(json!({})).await, "two");
    assert_eq!(next(json!({"agents": {"docs-writer": one}})).await, "one");
    orchestrator.agent_unpin(&alice(), name("docs-writer")).await.unwrap();
    assert_eq!(next(json!({})).await, "three");
}

#[tokio::test]
async fn submissions_that_name_what_there_is_not_are_refused() {
    let orchestrator = made_here();
    let digest = register(&orchestrator, "docs-writer", "registered-agent", "one").await;
    let refused = async |spec: JobSpec| match orchestrator.submit(&alice(), spec, None).await {
        Err(OrchestrationError::InvalidJob(found)) => found.join("; "),
        other => panic!("{other:?}"),
    };
    let zero = Digest::zero();
    for (task, more, says) in [
        (json!({"agent": "nobody"}), json!({}), "not registered here"),
        (json!({}), json!({}), "does not say which"),
        (json!({"agent": "docs-writer", "role": "backend"}), json!({}), "is for `backend`"),
        (json!({"agent": "docs-writer", "paths": ["src/**"]}), json!({}), "`src/**` is not within"),
        (writer(), json!({"agents": {"docs-writer": zero}}), "no enabled version"),
        (writer(), json!({"agents": {"nobody": zero}}), "no enabled version"),
    ] {
        let told = refused(job(task, more)).await;
        assert!(told.contains(says), "{told}");
    }
    orchestrator.agent_switch(&alice(), &row(&orchestrator, "docs-writer").await, None, false).await.unwrap();
    assert!(refused(job(writer(), json!({}))).await.contains("is disabled"));
    let stranger = Caller { tenant: "other".parse().unwrap(), ..alice() };
    orchestrator
        .agent_switch(&alice(), &row(&orchestrator, "docs-writer").await, Some(digest), true)
        .await
        .unwrap();
    let theirs = orchestrator.submit(&stranger, job(writer(), json!({})), None).await.unwrap_err();
    assert_eq!(theirs.code().code(), "invalid_job", "another tenant's agent is not there");
}

#[tokio::test]
async fn an_agent_that_was_disabled_meanwhile_gets_no_plan_and_its_tasks_wait() {
    let orchestrator = made_here();
    register(&orchestrator, "docs-writer", "registered-agent", "one").await;
    let switch = async |on| {
        orchestrator
            .agent_switch(&alice(), &row(&orchestrator, "docs-writer").await, None, on)
            .await
            .unwrap();
    };
    let before = orchestrator.submit(&alice(), job(writer(), json!({})), None).await.unwrap().id;
    switch(false).await;
    let key = KeyId::mint(Timestamp(6), [6; 10]);
    let session =
        orchestrator.session_open(key, WorkerClass::Trusted, SessionOpen::plain("w", 8)).await.unwrap();
    let claim = async || {
        let ask = Claim { kinds: LeaseKind::ALL.to_vec(), max: 8, wait_ms: DurationMs::ZERO };
        orchestrator.claim(session.session, key, ask).await.unwrap().leases
    };
    let read = async |lease: Lease| {
        let base = TreeRef { revision: format!("{:040x}", 1).parse().unwrap(), bundle: Digest::of(b"b") };
        let body = CommandBody::Report {
            slug: lease.slug.clone(),
            epoch: lease.epoch,
            attempt: lease.attempt,
            outcome: Box::new(AttemptOutcome::Succeeded {
                product: Product::Intake { facts: SourceFacts::default(), base },
            }),
            sandbox_layers: Vec::new(),
            evidence: Vec::new(),
        };
        orchestrator
            .send(orchestrator.env().command_id(), lease.job, orchestrator.daemon(), body)
            .await
            .unwrap();
        orchestrator.sweep().await;
    };
    read(claim().await.remove(0)).await;
    let refused = record(&orchestrator, before).await;
    assert_eq!(refused.state, JobState::Failed);
    let cause = refused.cause.unwrap();
    assert!(cause.contains("the plan was refused") && cause.contains("is disabled"), "{cause}");

    switch(true).await;
    let after = orchestrator.submit(&alice(), job(writer(), json!({})), None).await.unwrap().id;
    read(claim().await.remove(0)).await;
    assert_eq!(record(&orchestrator, after).await.state, JobState::InProgress);
    switch(false).await;
    assert!(claim().await.is_empty(), "no worker is given the task");
    orchestrator.sweep().await;
    let waits = record(&orchestrator, after).await;
    assert_eq!(waits.state, JobState::InProgress, "the job waits, and does not fail");
    let told = orchestrator.waiting(&waits).await.unwrap().remove(&"guide".parse().unwrap()).unwrap();
    assert!(told.detail.contains("`docs-writer` is disabled"), "{told:?}");
    switch(true).await;
    assert_eq!(prompt(&claim().await.remove(0)), Some("one"));
}

#[tokio::test]
async fn disabling_an_agent_ends_what_it_runs_and_nothing_else() {
    let orchestrator = made_here();
    let one = register(&orchestrator, "docs-writer", "registered-agent", "one").await;
    register(&orchestrator, "other", "registered-agent", "other").await;
    let stranger = Caller { identity: "eve".to_owned(), tenant: "evil".parse().unwrap(), ..alice() };
    let ask = signed(&manifest("docs-writer", "registered-agent", "theirs"), Some("evil"), &[3; 32], 1);
    orchestrator.agent_register(&stranger, AgentScope::Tenant, ask).await.unwrap();

    let job_of = read_in(&orchestrator, job(writer(), json!({}))).await;
    let lease = claimed(&orchestrator).await;
    let beside = read_in(&orchestrator, job(json!({"agent": "other"}), json!({}))).await;
    let other = claimed(&orchestrator).await;
    register(&orchestrator, "docs-writer", "registered-agent", "two").await;
    let newer = read_in(&orchestrator, job(writer(), json!({}))).await;
    let third = claimed(&orchestrator).await;

    let theirs = orchestrator.agent_for(&stranger.tenant, &name("docs-writer")).await.unwrap();
    orchestrator.agent_switch(&stranger, &theirs, None, false).await.unwrap();
    let mine = row(&orchestrator, "docs-writer").await;
    orchestrator.held(&lease.token.0).await.unwrap();
    orchestrator.agent_switch(&alice(), &mine, Some(one), false).await.unwrap();

    let ended = orchestrator.held(&lease.token.0).await.unwrap_err();
    assert_eq!(ended.code().code(), "stale_lease");
    for (held, of) in [(&other, beside), (&third, newer)] {
        assert_eq!(
            orchestrator.held(&held.token.0).await.unwrap().1.id,
            of,
            "another agent, another version"
        );
    }
    let waits = record(&orchestrator, job_of).await;
    let task = &waits.tasks[&lease.slug];
    assert_eq!((task.state, task.failures.len(), task.lost_leases), (df_contract::TaskState::Ready, 0, 0));
    assert!(task.epoch > lease.epoch);
    let audit = orchestrator.store().audit(job_of).await.unwrap();
    let told = |what: &str| audit.iter().any(|record| record.body.to_string().contains(what));
    assert!(told("the agent that worked on it was disabled"), "the record says why");
    let effects = orchestrator.store().outbox_due(0, 64).await.unwrap();
    let revokes = |effect: &Effect| matches!(effect, Effect::RevokeGrants { slug, epoch } if *slug == lease.slug && *epoch >= lease.epoch);
    let revoked = effects.iter().any(|row| row.job == job_of && revokes(&row.effect));
    assert!(revoked, "its grant is withdrawn: {effects:?}");
    let told = orchestrator.waiting(&waits).await.unwrap().remove(&lease.slug).unwrap();
    assert_eq!(told.kind, df_contract::api::WaitingKind::Agent, "{told:?}");
    assert!(orchestrator.agent_switch(&alice(), &mine, None, true).await.is_ok());
    let again = claimed(&orchestrator).await;
    assert_eq!((again.job, prompt(&again)), (job_of, Some("one")));
}

#[tokio::test]
async fn what_an_operator_disabled_runs_again_when_an_operator_enables_it() {
    let orchestrator = made_here();
    register(&orchestrator, "docs-writer", "registered-agent", "one").await;
    let op = Caller { identity: "op".to_owned(), roles: [df_contract::Role::Operator].into(), ..alice() };
    let owner = Caller { roles: [df_contract::Role::Submitter].into(), ..alice() };
    let switch = async |who: &Caller, on| {
        orchestrator.agent_switch(who, &row(&orchestrator, "docs-writer").await, None, on).await
    };
    let job_of = read_in(&orchestrator, job(writer(), json!({}))).await;
    let lease = claimed(&orchestrator).await;
    switch(&op, false).await.unwrap();
    assert_eq!(switch(&owner, true).await.unwrap_err().code().code(), "forbidden");
    register(&orchestrator, "docs-writer", "registered-agent", "two").await;
    assert!(orchestrator.submit(&owner, job(writer(), json!({})), None).await.is_err());
    assert_eq!(switch(&owner, true).await.unwrap_err().code().code(), "forbidden");
    assert_eq!(orchestrator.held(&lease.token.0).await.unwrap_err().code().code(), "stale_lease");
    switch(&op, true).await.unwrap();
    let again = claimed(&orchestrator).await;
    assert_eq!((again.job, prompt(&again)), (job_of, Some("one")));
    read_in(&orchestrator, job(writer(), json!({}))).await;
    assert_eq!(prompt(&claimed(&orchestrator).await), Some("two"));
}

#[tokio::test]
async fn a_coordinator_is_told_of_agents_when_there_are_some() {
    let orchestrator = made_here();
    assert_eq!(work(&planning(&orchestrator).await).input.agents, []);
    register(&orchestrator, "docs-writer", "registered-agent", "one").await;
    register(&orchestrator, "off", "registered-agent", "one").await;
    orchestrator.agent_switch(&alice(), &row(&orchestrator, "off").await, None, false).await.unwrap();
    let root = Caller { identity: "root".to_owned(), tenant: "other".parse().unwrap(), ..alice() };
    for (agent, scope, tenant) in
        [("theirs", AgentScope::Tenant, Some("other")), ("common", AgentScope::Global, None)]
    {
        let ask = signed(&manifest(agent, "backend", "x"), tenant, &[4; 32], 1);
        orchestrator.agent_register(&root, scope, ask).await.unwrap();
    }
    let lease = planning(&orchestrator).await;
    let offered: Vec<&str> = work(&lease).input.agents.iter().map(|offer| offer.name.as_str()).collect();
    assert_eq!(offered, ["common", "docs-writer"]);
}

#[tokio::test]
async fn an_agent_can_take_the_place_of_a_built_in_one_where_it_fits() {
    let orchestrator = made_here();
    let role = json!({"role": "backend"});
    for (agent, role) in [("our-backend", "backend"), ("our-planner", "coordinator")] {
        register(&orchestrator, agent, role, role).await;
    }
    let next = async |task: Value| {
        read_in(&orchestrator, job(task, json!({}))).await;
        prompt(&claimed(&orchestrator).await).map(str::to_owned)
    };
    assert_eq!(next(role.clone()).await, None, "a registered agent alone replaces nobody");
    for agent in ["our-backend", "our-planner"] {
        orchestrator.agent_pin(&alice(), name(agent), None, true).await.unwrap();
    }
    assert_eq!(next(role.clone()).await.as_deref(), Some("backend"));
    assert_eq!(next(json!({"role": "backend", "paths": ["src/a.py"]})).await, None, "beyond its paths");
    assert_eq!(prompt(&planning(&orchestrator).await), Some("coordinator"));
}

#[tokio::test]
async fn registrations_say_what_is_wrong_with_them() {
    let orchestrator = made_here();
    let good = manifest("docs-writer", "registered-agent", "one");
    let ask = async |ask: AgentRegister| {
        orchestrator.agent_register(&alice(), AgentScope::Tenant, ask).await.map(|done| done.notes)
    };
    let mut bad = good.clone();
    bad["paths"] = json!(["/etc"]);
    bad["colour"] = json!("red");
    let sent = AgentRegister { manifest: bad, ..signed(&good, Some("acme"), &KEY, 1) };
    let problem = ask(sent).await.unwrap_err().problem();
    assert_eq!((problem.code.code(), problem.errors.len()), ("invalid_agent", 2), "{problem}");
    for sent in [
        signed(&good, Some("other"), &KEY, 1),
        signed(&good, None, &KEY, 1),
        AgentRegister {
            manifest: manifest("docs-writer", "registered-agent", "two"),
            ..signed(&good, Some("acme"), &KEY, 1)
        },
    ] {
        assert_eq!(ask(sent).await.unwrap_err().code().code(), "signature_invalid");
    }
    assert_eq!(ask(signed(&good, Some("acme"), &KEY, 1)).await.unwrap(), Vec::<String>::new());
    let mut elsewhere = manifest("elsewhere", "registered-agent", "one");
    elsewhere["runtime"] = json!("acp");
    let notes = ask(signed(&elsewhere, Some("acme"), &KEY, 1)).await.unwrap();
    assert!(notes[0].contains("no worker offers the runtime `acp`"), "{notes:?}");
}
