//! Many jobs of mixed shapes over several workers, with every kind of failure put in: each job ends as its failures say
//! it must, and nothing is lost, doubled or charged wrongly.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test that prints its counts")]

mod books;
mod ends;
mod model;
mod scenario;
mod shapes;

use books::Books;
use df_contract::{Digest, FailureKind, JobId, LeaseKind, Role, TaskState, Tokens};
use df_testkit::{Api, FaultyWorker, Limit, Member, ScriptedModel, Setup, TestFactory, full_run, poll};
use model::Back;
use scenario::{Faulted, LABEL, LEAST, Scenario, model_away};

/// Jobs of a full run.
const JOBS: usize = 200;
/// Worker processes.
const WORKERS: u32 = 4;
/// Those of them that come later, with what the failing worker has.
const LATE_WORKERS: u32 = 2;
/// Who submits, in turn.
const TENANTS: [&str; 4] = ["default", "acme", "globex", "initech"];
/// An attempt without progress is taken back after this; nothing a real attempt does here takes as long.
const PROGRESS_TIMEOUT_MS: i64 = 60_000;

async fn start(model: &ScriptedModel, workers: u32, models_apart: Vec<String>) -> TestFactory {
    let mut setup = Setup { models_apart, ..model.setup() };
    setup.capacity = 3;
    setup.more_workers = workers - 1;
    setup.orchestration.insert("attempt_max_steps".into(), 12.into());
    setup.orchestration.insert("progress_timeout_ms".into(), PROGRESS_TIMEOUT_MS.into());
    TestFactory::start(setup).await
}

/// One of the jobs.
struct Made {
    id: JobId,
    scenario: Scenario,
    /// Who submitted it.
    by: Api,
}

/// One job of each scenario, from each tenant in turn.
async fn submit(factory: &TestFactory, scenarios: &[Scenario]) -> Vec<Made> {
    let mut submitters = Vec::new();
    for tenant in TENANTS {
        let roles = [Role::Submitter];
        let by = factory.admin().identity_of(Some(tenant), &format!("submitter-{tenant}"), &roles).await;
        let address = format!("/v1/blobs/{}", Digest::of(scenario::NO_ARCHIVE));
        let put = by.raw(reqwest::Method::PUT, &address, &[], scenario::NO_ARCHIVE.to_vec());
        let (status, _) = put.await.unwrap();
        assert!((200..300).contains(&status), "a blob could not be uploaded: {status}");
        submitters.push(by);
    }
    let mut jobs = Vec::new();
    for (n, (scenario, by)) in scenarios.iter().zip(submitters.iter().cycle()).enumerate() {
        let id = by.submit(&scenario.job(n)).await.unwrap().id;
        jobs.push(Made { id, scenario: *scenario, by: by.clone() });
    }
    jobs
}

/// At first the only worker with the label is one that never works: it makes its leases fail, each as its scenario
/// says. When all have failed, others with the label come and do the rest.
async fn put_in_faults(factory: &mut TestFactory, faulty: FaultyWorker, faulted: &Faulted, meant: usize) {
    poll(Limit::TORTURE, "every lease of the worker that fails", async || {
        let done = faulted.lock().unwrap().len();
        if done == meant { Ok(()) } else { Err(format!("{done} of {meant}")) }
    })
    .await;
    faulty.stop();
    for _ in 0..LATE_WORKERS {
        factory.add_worker(&toml::Table::from_iter([("labels".to_owned(), vec![LABEL].into())]));
    }
    faulty.ended().await;
}

/// Each provider that is away comes back when an attempt has failed for want of it.
async fn come_back(admin: &Api, mut away: Vec<(JobId, String)>, back: &Back) {
    poll(Limit::TORTURE, "every attempt that fails for want of a model", async || {
        for n in (0..away.len()).rev() {
            let view = admin.job(away[n].0).await.map_err(|e| format!("{e:?}"))?;
            let task = view.tasks.iter().find(|t| t.slug.as_str() == "away");
            if task.is_some_and(|t| t.failure.is_some()) {
                back.lock().unwrap().insert(away.swap_remove(n).1);
            }
        }
        if away.is_empty() { Ok(()) } else { Err(format!("{away:?}")) }
    })
    .await;
}

/// `kill -9` of a worker at work and of the daemon, each when a third of what was left is done.
async fn kill_midway(factory: &mut TestFactory, jobs: usize) {
    for member in [Member::Worker, Member::Daemon] {
        let before = ends::count(factory).await;
        let due = before + (jobs - before) / 3;
        poll(Limit::TORTURE, "enough jobs at their end", async || {
            let ended = ends::count(factory).await;
            if ended >= due { Ok(()) } else { Err(format!("{ended} of {jobs}")) }
        })
        .await;
        println!("{member:?} killed with {due} of {jobs} jobs at their end");
        factory.kill(member);
        factory.restart(member).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_failure_ends_its_job_as_written_and_touches_no_other() {
    let scenarios = if full_run() { Scenario::many(JOBS) } else { Scenario::few() };
    let back = Back::default();
    let model = ScriptedModel::start(model::script(&back)).await;
    let models = (0..scenarios.len()).filter(|n| scenarios[*n] == Scenario::ModelAway).map(model_away);
    let mut factory = start(&model, WORKERS - LATE_WORKERS, models.collect()).await;
    let faulted = Faulted::default();
    let faulty = FaultyWorker::start(&factory.as_worker(), &[LABEL], scenario::fault(&faulted));
    let jobs = submit(&factory, &scenarios).await;
    let away = (0..jobs.len()).filter(|n| scenarios[*n] == Scenario::ModelAway);
    let away: Vec<(JobId, String)> = away.map(|n| (jobs[n].id, model_away(n))).collect();
    let admin = factory.admin().clone();
    let meant = scenarios.iter().filter(|s| s.is_faulty()).count();
    let disturb = async {
        put_in_faults(&mut factory, faulty, &faulted, meant).await;
        if full_run() {
            kill_midway(&mut factory, jobs.len()).await;
        }
    };
    tokio::join!(disturb, come_back(&admin, away, &back));
    for job in jobs.iter().filter(|job| job.scenario == Scenario::BudgetRaised) {
        ends::raise_budget(&factory, job).await;
    }
    for job in &jobs {
        ends::as_written(&factory, job).await;
    }
    factory.verify_audit();
    let books = Books::of(&factory);
    let failures = books.failures();
    let counts: Vec<String> = failures.iter().map(|(kind, n)| format!("{} {n}", kind.as_str())).collect();
    println!("{} jobs of {} tenants, {WORKERS} workers", jobs.len(), TENANTS.len());
    println!("failed attempts: {}", counts.join(", "));
    if full_run() {
        for kind in FailureKind::ALL {
            let seen = failures.get(kind).copied().unwrap_or(0);
            assert!(seen >= LEAST, "{} was put in {seen} times", kind.as_str());
        }
    }
    for kind in scenarios.iter().filter_map(|s| s.injects()) {
        assert!(failures.contains_key(&kind), "{} was never put in", kind.as_str());
    }
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    check_books(&factory, &model, &books, &ids).await;
}

/// No task before its parents, no result twice, no call uncounted, no cap exceeded.
async fn check_books(factory: &TestFactory, model: &ScriptedModel, books: &Books, jobs: &[JobId]) {
    let accepted = books.accepted_once();
    let (claimed, returned) = (books.events("claimed"), books.events("returned"));
    let mut claims = 0;
    let settled = factory.settled_all(jobs).await;
    for job in jobs {
        let view = factory.admin().job(*job).await.unwrap();
        claims += books.parents_first(*job, view.spec.plan.as_ref().unwrap());
        let spent = view.spend.tokens();
        // A job whose source could not be read has no caps, and nothing to spend.
        let cap = view.caps.map_or(Tokens(0), |caps| caps.tokens);
        assert!(spent <= cap, "{job}: {spent:?} of {cap:?}");
        for task in view.plan.iter().flat_map(|plan| &plan.tasks) {
            let used = view.tasks.iter().find(|t| t.slug == task.slug).map(|t| t.spend.tokens());
            let (used, share) = (used.unwrap_or(Tokens(0)), task.tokens.unwrap_or(cap));
            assert!(used <= share, "{job} {}: {used:?} of {share:?}", task.slug);
        }
    }
    println!(
        "{} records, {claimed} leases, {accepted} results accepted, {returned} leases returned; {claims} claims of planned \
         tasks, none before its parents; {} calls, all charged",
        books.records(),
        settled.calls
    );
    let told = model.tally().spend;
    assert_eq!(settled.tokens(), told.tokens(), "tokens charged, and tokens the provider counted");
}

/// A supplied plan of many tasks runs to its end: of a thousand in a full run.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_many_tasks_completes() {
    let count = if full_run() { 1_000 } else { 40 };
    let model = ScriptedModel::start(model::script(&Back::default())).await;
    let factory = start(&model, WORKERS, Vec::new()).await;
    let job = factory.admin().submit(&shapes::wide_and_deep(count)).await.unwrap().id;
    let view = factory.completed(job, if full_run() { Limit::MANY_TASKS } else { Limit::TORTURE }).await;
    let merged =
        view.tasks.iter().filter(|t| t.kind == LeaseKind::Integrate && t.state == TaskState::Succeeded);
    assert_eq!(merged.count(), count);
    factory.verify_audit();
    println!("a job of {count} tasks, {WORKERS} workers");
    check_books(&factory, &model, &Books::of(&factory), &[job]).await;
}
