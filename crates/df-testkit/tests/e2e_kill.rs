//! `kill -9` of every process at random moments while jobs run: nothing acknowledged is lost, nothing is done twice.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use df_contract::{ErrorCode, JobId, JobState, Role, TaskSlug};
use df_control_audit::ExportLine;
use df_testkit::{
    Api, ApiError, Limit, Model, ScriptedModel, Setup, TestFactory, Torture, file_task, full_run,
    planned_job, poll, repository, write_file_task,
};
use serde_json::Value;

/// Kills of an ordinary run, and of a long one.
const KILLS: usize = 20;
const KILLS_FULL: usize = 60;
/// Jobs that are open at the same time while processes die.
const OPEN_JOBS: usize = 3;
/// How long the scripted model thinks: long enough that a kill finds calls under way.
const THINKS: Duration = Duration::from_millis(400);

fn kills() -> usize {
    if full_run() { KILLS_FULL } else { KILLS }
}

/// Two tasks side by side, and two that build on them.
fn job(number: usize) -> Value {
    let tasks = [
        file_task("left", &[]),
        file_task("right", &[]),
        file_task("both", &["left", "right"]),
        file_task("last", &["both"]),
    ];
    let mut job = planned_job(&format!("Job {number}"), &tasks);
    // Every second one needs a vote, so that votes are among what must not be lost.
    if number % 2 == 1 {
        job["capabilities"] =
            serde_json::json!({"environments": ["production"], "data_classes": ["personal"]});
    }
    job
}

/// Sends a command until it is answered, as a client must: with the same idempotency key each time.
async fn submitted(api: &Api, spec: &Value, key: &str) -> JobId {
    poll(Limit::TORTURE, "a submission is acknowledged", async || match api.submit_once(spec, key).await {
        Ok(submitted) => Ok(submitted.id),
        Err(ApiError::Unanswered(why)) => Err(why),
        Err(ApiError::Problem(problem)) => passing(&problem),
    })
    .await
}

/// A daemon that is starting or stopping may refuse for the moment; any other refusal is wrong.
fn passing<T>(problem: &df_contract::Problem) -> Result<T, String> {
    assert!(problem.status == 503 || problem.status == 429, "{problem}");
    Err(problem.to_string())
}

/// The votes that a job with data of people needs: for its start, and for its delivery.
const VOTES: usize = 2;

/// What the clients of a factory under torture did.
#[derive(Default)]
struct Acknowledged {
    jobs: Vec<JobId>,
    votes: BTreeMap<JobId, usize>,
}

/// Keeps `OPEN_JOBS` jobs going until the torture is over, and sees the last ones completed.
async fn keep_busy(
    submitter: &Api,
    approver: &Api,
    over: tokio::sync::watch::Receiver<bool>,
) -> Acknowledged {
    let mut made = Acknowledged::default();
    let mut open: BTreeSet<JobId> = BTreeSet::new();
    let begun = Instant::now();
    while !(*over.borrow() && open.is_empty()) {
        assert!(begun.elapsed() < Limit::TORTURE.time(), "never completed: {open:?}");
        if open.len() < OPEN_JOBS && !*over.borrow() {
            let number = made.jobs.len();
            let id = submitted(submitter, &job(number), &format!("job-{number}")).await;
            made.jobs.push(id);
            open.insert(id);
        }
        for id in open.clone() {
            match seen(submitter, id).await {
                Some(JobState::Completed) => drop(open.remove(&id)),
                Some(JobState::AwaitingApproval) if vote(approver, id).await => {
                    *made.votes.entry(id).or_default() += 1
                }
                Some(_) | None => {}
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    made
}

/// The state of a job; nothing while the daemon is away.
async fn seen(api: &Api, job: JobId) -> Option<JobState> {
    match api.job(job).await {
        Ok(view) => {
            let ended = [JobState::Failed, JobState::Rejected, JobState::Cancelled];
            assert!(!ended.contains(&view.summary.state), "{job} {}: {:?}", view.summary.state, view.cause);
            Some(view.summary.state)
        }
        Err(ApiError::Unanswered(_)) => None,
        Err(ApiError::Problem(problem)) => passing::<()>(&problem).ok().and(None),
    }
}

/// Votes; whether that was acknowledged.
async fn vote(api: &Api, job: JobId) -> bool {
    match api.approve(job).await {
        Ok(_) => true,
        // A vote whose answer was lost has counted.
        Err(ApiError::Problem(p)) if p.code == ErrorCode::IllegalTransition => false,
        Err(ApiError::Problem(problem)) => passing::<()>(&problem).is_ok(),
        Err(ApiError::Unanswered(_)) => false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_jobs_survive_kills_of_every_process() {
    let model = ScriptedModel::start(|ask| write_file_task(ask).after(THINKS)).await;
    let mut factory = TestFactory::start(model.setup()).await;
    let alice = factory.identity("alice", &[Role::Submitter]).await;
    let bob = factory.identity("bob", &[Role::Approver]).await;
    let (stop, over) = tokio::sync::watch::channel(false);
    let mut torture = Torture::new(kills());
    let kill = async {
        while !torture.is_over() {
            torture.round(&mut factory).await;
        }
        stop.send_replace(true);
    };
    let (made, ()) = tokio::join!(keep_busy(&alice, &bob, over), kill);
    eprintln!("{}; {} jobs, {} votes", torture.told(), made.jobs.len(), made.votes.values().sum::<usize>());
    let listed: BTreeSet<JobId> = factory.admin().jobs().await.unwrap().into_iter().collect();
    assert_eq!(
        listed,
        made.jobs.iter().copied().collect(),
        "as many jobs as were acknowledged, and no others"
    );
    check_votes(&factory, &made);
    check_books(&factory, &made.jobs, &["left", "right", "both", "last"]).await;
}

/// Every acknowledged vote is in the log, and no vote counted twice.
fn check_votes(factory: &TestFactory, made: &Acknowledged) {
    let mut counted: BTreeMap<JobId, usize> = BTreeMap::new();
    for line in factory.audit() {
        if let ExportLine::Record(record) = line
            && record.body["kind"] == "voted"
        {
            *counted.entry(record.job).or_default() += 1;
        }
    }
    for (job, acknowledged) in &made.votes {
        let counted = counted.get(job).copied().unwrap_or_default();
        assert!(counted >= *acknowledged, "{job}: {acknowledged} votes acknowledged, {counted} in the log");
    }
    assert!(counted.values().all(|votes| *votes == VOTES), "{counted:?}");
}

/// The main job, again and again until the torture is over, from the conversation that ships with it.
#[tokio::test(flavor = "multi_thread")]
async fn the_main_job_survives_kills_of_every_process() {
    let example = repository().join("examples/jobs/url-shortener");
    let path = example.join("recording.jsonl");
    let mut factory = TestFactory::start(Setup::new(Model::Recorded { path })).await;
    let mut torture = Torture::new(kills());
    let mut made = Vec::new();
    while !torture.is_over() {
        let args = ["--json", "submit", example.to_str().unwrap()];
        let submitted: df_contract::api::Submitted =
            factory.cli_as(factory.admin(), &args).succeeded().json();
        made.push(submitted.id);
        while !torture.is_over() && seen(factory.admin(), submitted.id).await != Some(JobState::Completed) {
            torture.round(&mut factory).await;
        }
    }
    eprintln!("{}; {} runs of the main job", torture.told(), made.len());
    for id in &made {
        factory.completed(*id, Limit::TORTURE).await;
    }
    check_books(&factory, &made, &[]).await;
}

/// Nothing was accepted twice, nothing was merged twice, the log verifies, the money adds up.
async fn check_books(factory: &TestFactory, jobs: &[JobId], slugs: &[&str]) {
    factory.verify_audit();
    let mut accepted: BTreeMap<(JobId, TaskSlug), u32> = BTreeMap::new();
    for line in factory.audit() {
        let ExportLine::Record(record) = line else { continue };
        let done = record.body["kind"] == "task" && record.body["to"] == "SUCCEEDED";
        if let (true, Some(slug)) = (done, record.slug) {
            *accepted.entry((record.job, slug)).or_default() += 1;
        }
    }
    let twice: Vec<_> = accepted.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "accepted more than once: {twice:?}");
    for job in jobs {
        for slug in slugs {
            assert_eq!(accepted.get(&(*job, slug.parse().unwrap())), Some(&1), "{job} {slug}");
        }
        factory.settled(*job).await;
        check_merges(factory, *job, slugs);
    }
}

/// The delivered history has every task's merge once.
fn check_merges(factory: &TestFactory, job: JobId, slugs: &[&str]) {
    let out = factory.root().join("delivered").join(job.to_string());
    let args = ["artifacts", &job.to_string(), "--out", out.to_str().unwrap()];
    factory.cli_as(factory.admin(), &args).succeeded();
    let subjects = subjects(&out);
    let mut merges = BTreeMap::new();
    for subject in subjects.lines().filter_map(|line| line.strip_prefix("Merge ")) {
        *merges.entry(subject.split(':').next().unwrap()).or_insert(0) += 1;
    }
    assert!(!merges.is_empty() && merges.values().all(|times| *times == 1), "{job}: {subjects}");
    for slug in slugs {
        assert_eq!(merges.get(slug), Some(&1), "{job} {slug}: {subjects}");
        let file = std::fs::read_to_string(out.join("software").join(format!("{slug}.txt"))).unwrap();
        assert_eq!(file, format!("this is {slug}\n"));
    }
}

fn subjects(out: &Path) -> String {
    let clone = out.join("clone");
    let git = |args: &[&std::ffi::OsStr]| {
        let done = Command::new("git").args(args).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    git(&[
        "clone".as_ref(),
        "--quiet".as_ref(),
        "--bare".as_ref(),
        out.join("repository.bundle").as_ref(),
        clone.as_ref(),
    ]);
    git(&["-C".as_ref(), clone.as_ref(), "log".as_ref(), "--all".as_ref(), "--format=%s".as_ref()])
}
