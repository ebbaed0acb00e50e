//! What a transition costs the store, in statements and in time of the writer's processor, as jobs grow in tasks and the
//! store in jobs.

use std::collections::BTreeMap;
use std::io::Write as _;

use df_contract::decision::Verdict;
use df_contract::lease::SessionOpen;
use df_contract::{AttemptOutcome, JobId, LeaseKind, Plan, PlanTask, Role, SessionId, TaskSlug, WorkerClass};
use df_control_machine::CommandBody;

use super::bench::{Bench, product, step_body, submission};
use crate::ClaimRequest;
use crate::claim::claim;
use crate::rows::Kept;
use crate::sqlite::statements;
use crate::transition::{Tx, apply};

/// Tasks of one layer of the plans here: as many as may be at work at once.
const WIDTH: usize = 10;

/// Layers of ten; each task builds on the one above it.
fn plan(tasks: usize) -> Plan {
    let slug = |n: usize| -> TaskSlug { format!("t{n}").parse().unwrap() };
    let task = |n: usize| PlanTask {
        slug: slug(n),
        role: Role::Backend,
        title: format!("Task {n}"),
        instructions: "Write the module and its tests. ".repeat(20),
        depends_on: n.checked_sub(WIDTH).map(slug).into_iter().collect(),
        paths: vec![format!("t{n}/**")],
        expected_outputs: vec![],
        checks: vec![],
        tokens: None,
        nano_usd: None,
        agent: None,
        on_failure: None,
    };
    Plan { summary: "layers".into(), tasks: (0..tasks).map(task).collect() }
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Cost {
    /// Most statements of one transition, by its command.
    most: BTreeMap<&'static str, u64>,
    statements: u64,
    transitions: u64,
    /// Tasks that ended.
    tasks: u64,
    writer_ns: u64,
}

/// Runs `work` in the writer: what it returns, and how many statements it made.
async fn counted<T: Send + 'static>(
    bench: &Bench,
    work: impl FnOnce(&mut Tx<'_>) -> Kept<T> + Send + 'static,
) -> (T, u64) {
    let op = move |tx: &mut Tx<'_>| {
        let before = statements();
        let done = work(tx)?;
        Ok((done, statements() - before))
    };
    bench.store.owner.call(op).await.unwrap()
}

/// Nanoseconds that the writer's thread has been on a processor.
async fn writer_ns(bench: &Bench) -> u64 {
    let read = |_: &mut Tx<'_>| Ok(std::fs::read_to_string("/proc/thread-self/schedstat").unwrap());
    let text = bench.store.owner.call(read).await.unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

/// What the control plane does next for a job, decided where it is counted: in the writer's thread.
async fn next(bench: &Bench, job: JobId) -> Option<CommandBody> {
    let now = bench.now;
    let decide = move |tx: &mut Tx<'_>| Ok(step_body(&tx.job(job)?.unwrap().record, now, Verdict::Approved));
    bench.store.owner.call(decide).await.unwrap()
}

async fn send(bench: &mut Bench, cost: &mut Cost, job: JobId, body: CommandBody) {
    let (name, command) = (body.name(), bench.command(job, "bench", body));
    let (outcome, statements) = counted(bench, move |tx| apply(tx, &command)).await;
    outcome.unwrap();
    let most = cost.most.entry(name).or_default();
    *most = statements.max(*most);
    cost.statements += statements;
    cost.transitions += 1;
}

async fn advance(bench: &mut Bench, cost: &mut Cost, job: JobId) {
    while let Some(body) = next(bench, job).await {
        send(bench, cost, job, body).await;
    }
}

/// Claims one task and reports that it succeeded; nothing when there is none.
async fn one_task(
    bench: &mut Bench,
    cost: &mut Cost,
    session: SessionId,
    kinds: &[LeaseKind],
) -> Option<JobId> {
    let request = ClaimRequest { kinds: kinds.to_vec(), ..bench.claim_request(session, 1) };
    let (mut leases, statements) = counted(bench, move |tx| claim(tx, &request)).await;
    let (record, slug) = leases.pop()?;
    let most = cost.most.entry("claim").or_default();
    *most = statements.max(*most);
    cost.statements += statements;
    cost.transitions += 1;
    cost.tasks += 1;
    let task = &record.tasks[&slug];
    let (epoch, attempt) = (task.epoch, task.attempt.unwrap());
    let product = match (task.kind, task.role) {
        (LeaseKind::Agent, Role::Coordinator) => panic!("the plan was supplied"),
        (kind, role) => product(kind, role, 1),
    };
    let outcome = Box::new(AttemptOutcome::Succeeded { product });
    let body =
        CommandBody::Report { slug, epoch, attempt, outcome, sandbox_layers: vec![], evidence: vec![] };
    send(bench, cost, record.id, body).await;
    advance(bench, cost, record.id).await;
    Some(record.id)
}

async fn session(bench: &mut Bench) -> SessionId {
    bench.session_of(WorkerClass::Trusted, SessionOpen::plain("bench", 64)).await
}

/// A job whose plan is accepted.
async fn planned(bench: &mut Bench, tasks: usize) -> JobId {
    let mut body = submission(0);
    if let CommandBody::Submit { spec, .. } = &mut body {
        spec.plan = Some(plan(tasks));
    }
    let job = bench.submit_body(body).await;
    let session = session(bench).await;
    let mut unheeded = Cost::default();
    advance(bench, &mut unheeded, job).await;
    let first = one_task(bench, &mut unheeded, session, &[LeaseKind::Intake]).await;
    assert_eq!(first, Some(job), "the others wait for agents");
    job
}

/// The whole work of one job of so many tasks, when a small one has made every statement once.
async fn of_tasks(mut bench: Bench, tasks: usize) -> Cost {
    planned(&mut bench, WIDTH).await;
    let first = session(&mut bench).await;
    while one_task(&mut bench, &mut Cost::default(), first, LeaseKind::ALL).await.is_some() {}
    planned(&mut bench, tasks).await;
    let session = session(&mut bench).await;
    let (mut cost, before) = (Cost::default(), writer_ns(&bench).await);
    while one_task(&mut bench, &mut cost, session, LeaseKind::ALL).await.is_some() {}
    cost.writer_ns = writer_ns(&bench).await - before;
    assert_eq!(
        cost.tasks as usize,
        2 * tasks + 2,
        "each task and its merge, the validation and the delivery"
    );
    cost
}

/// The first hundred tasks of a store with so many jobs that all wait.
async fn of_jobs(mut bench: Bench, jobs: usize) -> Cost {
    for _ in 0..jobs {
        planned(&mut bench, WIDTH).await;
    }
    let session = session(&mut bench).await;
    let (mut cost, before) = (Cost::default(), writer_ns(&bench).await);
    for _ in 0..100 {
        one_task(&mut bench, &mut cost, session, LeaseKind::ALL).await.unwrap();
    }
    cost.writer_ns = writer_ns(&bench).await - before;
    cost
}

#[tokio::test]
async fn statements_of_a_transition_do_not_grow_with_the_tasks_of_its_job() {
    let (few, many) = (of_tasks(Bench::hurried(), 20).await, of_tasks(Bench::hurried(), 200).await);
    assert_eq!(few.most, many.most);
    assert!(few.most["claim"] > 0 && few.most["report"] > 0, "{few:?}");
}

#[tokio::test]
async fn statements_of_a_transition_do_not_grow_with_the_jobs_of_the_store() {
    let (few, many) = (of_jobs(Bench::hurried(), 20).await, of_jobs(Bench::hurried(), 120).await);
    assert_eq!(few.most, many.most);
}

/// A table of one measure at the three sizes, each the median of so many rounds. The rounds go through the sizes in turn, so that whatever else the
/// machine does meets all of them alike.
async fn table(
    what: &str,
    bench: fn() -> Bench,
    rounds: usize,
    measure: impl AsyncFn(Bench, usize) -> Cost,
) -> String {
    let mut measured: [Vec<Cost>; SIZES.len()] = Default::default();
    for _ in 0..rounds {
        for (size, costs) in SIZES.into_iter().zip(&mut measured) {
            costs.push(measure(bench(), size).await);
        }
    }
    let medians = measured.map(|mut costs| {
        costs.sort_by_key(|cost| cost.writer_ns / cost.tasks);
        costs.swap_remove(rounds / 2)
    });
    let first = &medians[0];
    SIZES.into_iter().zip(&medians).map(|(size, cost)| line(what, size, cost, first)).collect()
}

const SIZES: [usize; 3] = [10, 100, 1_000];

fn line(what: &str, size: usize, cost: &Cost, first: &Cost) -> String {
    let per = |n: u64| n as f64 / cost.tasks as f64;
    let (statements, us) = (per(cost.statements), per(cost.writer_ns) / 1_000.0);
    let ratio = |of: fn(&Cost) -> u64| {
        (of(cost) as f64 / cost.tasks as f64) / (of(first) as f64 / first.tasks as f64)
    };
    format!(
        "| {size} {what} | {:.1} | {statements:.1} | {:.2} | {us:.0} | {:.2} |\n",
        per(cost.transitions),
        ratio(|cost| cost.statements),
        ratio(|cost| cost.writer_ns)
    )
}

/// How it is on this machine's disk: one round, since it waits for thousands of syncs.
#[tokio::test]
#[ignore = "a benchmark: run it by name, in the release profile"]
async fn per_task_synced() {
    told("synced", Bench::sqlite, 1).await;
}

/// A table of docs/benchmarks.md.
#[tokio::test]
#[ignore = "a benchmark: run it by name, in the release profile"]
async fn per_task_without_syncs() {
    told("without syncs", Bench::hurried, 9).await;
}

async fn told(title: &str, bench: fn() -> Bench, rounds: usize) {
    let tasks = table("tasks in one job", bench, rounds, of_tasks).await;
    let jobs = table("jobs of ten tasks", bench, rounds, of_jobs).await;
    let head = "| | transitions a task | statements a task | ratio | writer's CPU a task in us | ratio |\n\
                |---|---|---|---|---|---|";
    std::io::stdout().lock().write_all(format!("\n{title}\n\n{head}\n{tasks}{jobs}").as_bytes()).unwrap();
}
