//! Every command in every state a job can rest in: taken, or refused with a code and a sentence, and then nothing has
//! changed: neither the job nor its record.

use std::fmt::Write as _;

use df_contract::api::JobView;
use df_contract::{JobId, JobState, Role};
use serde_json::{Value, json};

use crate::ask::{breach, planned, until};
use crate::play::Player;
use crate::world::{Client, World, plain, sensitive};

const STATES: [JobState; 8] = [
    JobState::GovernanceAnalysis,
    JobState::AwaitingApproval,
    JobState::InProgress,
    JobState::Paused,
    JobState::Completed,
    JobState::Failed,
    JobState::Rejected,
    JobState::Cancelled,
];

fn commands() -> [(&'static str, Value); 10] {
    [
        ("approve", json!({})),
        ("reject", json!({})),
        ("pause", json!({})),
        ("resume", json!({})),
        ("cancel", json!({})),
        ("message", json!({"text": "use Flask"})),
        ("budget", json!({"tokens": 19_000_000})),
        ("priority", json!({"priority": 5})),
        ("rollback", json!({})),
        ("retry", json!({})),
    ]
}

/// A job that rests in `state`.
async fn job_in(world: &World, alice: &Client, player: &Player, state: JobState) -> JobId {
    let steer = async |job: JobId, what: &str| {
        world.admin.post(&format!("/v1/jobs/{job}/{what}"), &json!({})).await.ok::<JobView>();
    };
    let job = match state {
        JobState::GovernanceAnalysis => alice.submit(&plain()).await,
        JobState::AwaitingApproval | JobState::Rejected => {
            let job = alice.submit(&sensitive(alice).await).await;
            player.play().await;
            job
        }
        _ => alice.submit(&planned()).await,
    };
    match state {
        JobState::Rejected => steer(job, "reject").await,
        JobState::InProgress => drop(until(player, "first").await),
        JobState::Paused => {
            until(player, "first").await;
            steer(job, "pause").await;
        }
        JobState::Failed => breach(player, &until(player, "first").await).await,
        JobState::Cancelled => steer(job, "cancel").await,
        JobState::Completed => drop(player.play().await),
        _ => {}
    }
    assert_eq!(alice.job(job).await.summary.state, state);
    job
}

/// The job as it is shown, and its whole record.
async fn seen(world: &World, job: JobId) -> (Value, String) {
    let view = serde_json::to_value(world.admin.job(job).await).unwrap();
    (view, world.admin.get(&format!("/v1/jobs/{job}/audit")).await.text())
}

#[tokio::test]
async fn a_command_in_the_wrong_state_is_refused_and_changes_nothing() {
    let world = World::start().await;
    let alice = world.key("alice", &[Role::Submitter]).await;
    let player = Player::start(&world).await;
    let mut table = String::new();
    for state in STATES {
        writeln!(table, "{state}").unwrap();
        for (command, body) in commands() {
            let job = job_in(&world, &alice, &player, state).await;
            let before = seen(&world, job).await;
            let answer = world.admin.post(&format!("/v1/jobs/{job}/{command}"), &body).await;
            if answer.status < 300 {
                writeln!(table, "  {command}").unwrap();
            } else {
                let code = serde_json::from_slice::<Value>(&answer.body).unwrap()["code"].clone();
                let problem = answer.refused(code.as_str().unwrap());
                writeln!(table, "  {command}: {}: {}", problem.code.code(), problem.detail).unwrap();
                assert_eq!(seen(&world, job).await, before, "{command} in {state}");
            }
            // What it holds is free for the next.
            world.admin.post(&format!("/v1/jobs/{job}/cancel"), &json!({})).await;
        }
    }
    assert_eq!(table.trim(), ANSWERS.trim(), "{table}");
}

/// States, commands, and how they are refused where they are.
const ANSWERS: &str = "
GOVERNANCE_ANALYSIS
  approve: illegal_transition: `vote` does not fit a job in GOVERNANCE_ANALYSIS: nothing waits for approval; wait for the verdict, or cancel it
  reject: illegal_transition: `vote` does not fit a job in GOVERNANCE_ANALYSIS: nothing waits for approval; wait for the verdict, or cancel it
  pause: illegal_transition: a job in GOVERNANCE_ANALYSIS cannot be paused; wait for the verdict, or cancel it
  resume: illegal_transition: a job in GOVERNANCE_ANALYSIS cannot be resumed; wait for the verdict, or cancel it
  cancel
  message
  budget: illegal_transition: `request_budget` does not fit a job in GOVERNANCE_ANALYSIS: nothing is decided; wait for the verdict, or cancel it
  priority
  rollback: illegal_transition: `rollback` does not fit a job in GOVERNANCE_ANALYSIS: only work in progress can be rolled back; wait for the verdict, or cancel it
  retry: illegal_transition: `retry` does not fit a job in GOVERNANCE_ANALYSIS: only a job that failed or was cancelled is tried again; wait for the verdict, or cancel it
AWAITING_APPROVAL
  approve
  reject
  pause: illegal_transition: a job in AWAITING_APPROVAL cannot be paused; approve, reject or cancel it
  resume: illegal_transition: a job in AWAITING_APPROVAL cannot be resumed; approve, reject or cancel it
  cancel
  message
  budget: illegal_transition: `request_budget` does not fit a job in AWAITING_APPROVAL: the job does not work; approve, reject or cancel it
  priority
  rollback: illegal_transition: `rollback` does not fit a job in AWAITING_APPROVAL: only work in progress can be rolled back; approve, reject or cancel it
  retry: illegal_transition: `retry` does not fit a job in AWAITING_APPROVAL: only a job that failed or was cancelled is tried again; approve, reject or cancel it
IN_PROGRESS
  approve: illegal_transition: `vote` does not fit a job in IN_PROGRESS: nothing waits for approval; let it work, or pause or cancel it
  reject: illegal_transition: `vote` does not fit a job in IN_PROGRESS: nothing waits for approval; let it work, or pause or cancel it
  pause
  resume: illegal_transition: a job in IN_PROGRESS cannot be resumed; let it work, or pause or cancel it
  cancel
  message
  budget: invalid_request: a cap would be lower than it is; ask for as much as there is, or more
  priority
  rollback: invalid_request: nothing was merged after that; there is nothing to undo
  retry: illegal_transition: `retry` does not fit a job in IN_PROGRESS: only a job that failed or was cancelled is tried again; let it work, or pause or cancel it
PAUSED
  approve: illegal_transition: `vote` does not fit a job in PAUSED: nothing waits for approval; resume or cancel it, or ask for a higher budget
  reject: illegal_transition: `vote` does not fit a job in PAUSED: nothing waits for approval; resume or cancel it, or ask for a higher budget
  pause: illegal_transition: a job in PAUSED cannot be paused; resume or cancel it, or ask for a higher budget
  resume
  cancel
  message
  budget: invalid_request: a cap would be lower than it is; ask for as much as there is, or more
  priority
  rollback: invalid_request: nothing was merged after that; there is nothing to undo
  retry: illegal_transition: `retry` does not fit a job in PAUSED: only a job that failed or was cancelled is tried again; resume or cancel it, or ask for a higher budget
COMPLETED
  approve: illegal_transition: `vote` does not fit a job in COMPLETED: nothing waits for approval; it has ended; submit a new job
  reject: illegal_transition: `vote` does not fit a job in COMPLETED: nothing waits for approval; it has ended; submit a new job
  pause: illegal_transition: a job in COMPLETED cannot be paused; it has ended; submit a new job
  resume: illegal_transition: a job in COMPLETED cannot be resumed; it has ended; submit a new job
  cancel: illegal_transition: a job in COMPLETED cannot be cancelled; it has ended; submit a new job
  message: illegal_transition: `message` does not fit a job in COMPLETED: the job has ended; it has ended; submit a new job
  budget: illegal_transition: `request_budget` does not fit a job in COMPLETED: the job does not work; it has ended; submit a new job
  priority: illegal_transition: `set_priority` does not fit a job in COMPLETED: the job has ended; it has ended; submit a new job
  rollback: illegal_transition: `rollback` does not fit a job in COMPLETED: only work in progress can be rolled back; it has ended; submit a new job
  retry: illegal_transition: `retry` does not fit a job in COMPLETED: only a job that failed or was cancelled is tried again; it has ended; submit a new job
FAILED
  approve: illegal_transition: `vote` does not fit a job in FAILED: nothing waits for approval; it has ended; retry it as a new job
  reject: illegal_transition: `vote` does not fit a job in FAILED: nothing waits for approval; it has ended; retry it as a new job
  pause: illegal_transition: a job in FAILED cannot be paused; it has ended; retry it as a new job
  resume: illegal_transition: a job in FAILED cannot be resumed; it has ended; retry it as a new job
  cancel: illegal_transition: a job in FAILED cannot be cancelled; it has ended; retry it as a new job
  message: illegal_transition: `message` does not fit a job in FAILED: the job has ended; it has ended; retry it as a new job
  budget: illegal_transition: `request_budget` does not fit a job in FAILED: the job does not work; it has ended; retry it as a new job
  priority: illegal_transition: `set_priority` does not fit a job in FAILED: the job has ended; it has ended; retry it as a new job
  rollback: illegal_transition: `rollback` does not fit a job in FAILED: only work in progress can be rolled back; it has ended; retry it as a new job
  retry
REJECTED
  approve: illegal_transition: `vote` does not fit a job in REJECTED: nothing waits for approval; it has ended; submit a new job
  reject: illegal_transition: `vote` does not fit a job in REJECTED: nothing waits for approval; it has ended; submit a new job
  pause: illegal_transition: a job in REJECTED cannot be paused; it has ended; submit a new job
  resume: illegal_transition: a job in REJECTED cannot be resumed; it has ended; submit a new job
  cancel: illegal_transition: a job in REJECTED cannot be cancelled; it has ended; submit a new job
  message: illegal_transition: `message` does not fit a job in REJECTED: the job has ended; it has ended; submit a new job
  budget: illegal_transition: `request_budget` does not fit a job in REJECTED: the job does not work; it has ended; submit a new job
  priority: illegal_transition: `set_priority` does not fit a job in REJECTED: the job has ended; it has ended; submit a new job
  rollback: illegal_transition: `rollback` does not fit a job in REJECTED: only work in progress can be rolled back; it has ended; submit a new job
  retry: illegal_transition: `retry` does not fit a job in REJECTED: only a job that failed or was cancelled is tried again; it has ended; submit a new job
CANCELLED
  approve: illegal_transition: `vote` does not fit a job in CANCELLED: nothing waits for approval; it has ended; retry it as a new job
  reject: illegal_transition: `vote` does not fit a job in CANCELLED: nothing waits for approval; it has ended; retry it as a new job
  pause: illegal_transition: a job in CANCELLED cannot be paused; it has ended; retry it as a new job
  resume: illegal_transition: a job in CANCELLED cannot be resumed; it has ended; retry it as a new job
  cancel: illegal_transition: a job in CANCELLED cannot be cancelled; it has ended; retry it as a new job
  message: illegal_transition: `message` does not fit a job in CANCELLED: the job has ended; it has ended; retry it as a new job
  budget: illegal_transition: `request_budget` does not fit a job in CANCELLED: nothing is decided; it has ended; retry it as a new job
  priority: illegal_transition: `set_priority` does not fit a job in CANCELLED: the job has ended; it has ended; retry it as a new job
  rollback: illegal_transition: `rollback` does not fit a job in CANCELLED: only work in progress can be rolled back; it has ended; retry it as a new job
  retry
";
