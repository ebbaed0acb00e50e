//! What people ask of a job that runs.

use df_contract::agent::{Runtime, SandboxNeeds};
use df_contract::api::Spend;
use df_contract::decision::Verdict;
use df_contract::{AssignedAgent, Digest, ErrorCode, FailureKind, JobState, TaskState, Timestamp, Tokens};
use df_control_machine::decide::{MAX_MESSAGE_BYTES, MAX_MESSAGES};
use df_control_machine::{Caps, CommandBody, Seen};

use crate::driver::{Driver, plan, rule, slug};

fn job() -> Driver {
    Driver::in_progress(serde_json::json!({"title": "t", "description": "d"}), plan())
}

fn say(job: &mut Driver, text: &str) -> Result<(), ErrorCode> {
    let body = CommandBody::Message { by: "op".into(), text: text.into() };
    job.send("op", body).map_err(|e| e.code())
}

fn ask(job: &mut Driver, by: &str, tokens: u64) -> Result<(), ErrorCode> {
    let caps = Caps { tokens: Tokens(tokens), money_nano_usd: None };
    let expires_at = Timestamp(job.clock + 10_000);
    let body = CommandBody::RequestBudget { by: by.into(), caps, rule: rule(), expires_at };
    job.send(by, body).map_err(|e| e.code())
}

#[test]
fn a_message_goes_to_the_next_agent_and_to_each_of_its_attempts() {
    let mut job = job();
    job.take(&slug("a"));
    say(&mut job, "use tabs").unwrap();
    assert!(job.task("a").messages.is_empty(), "it runs already");
    job.give_back("a", df_control_machine::ReturnCause::SessionEnded);
    say(&mut job, "no, spaces").unwrap();
    for _ in 0..2 {
        job.take(&slug("a"));
        assert_eq!(job.task("a").messages, ["use tabs", "no, spaces"]);
        job.give_back("a", df_control_machine::ReturnCause::Drained);
    }
    job.succeed("a");
    job.succeed("integrate.a");
    job.take(&slug("b"));
    assert!(job.task("b").messages.is_empty(), "said once");
    assert_eq!(job.record().messages[1].given_to, Some(slug("a")));
}

#[test]
fn what_was_said_to_a_task_that_is_dropped_goes_to_the_next_agent() {
    let spec = serde_json::json!({"title": "t", "description": "d", "on_failure": "replan"});
    let mut job = Driver::in_progress(spec, plan());
    job.succeed("a");
    job.succeed("integrate.a");
    say(&mut job, "use tabs").unwrap();
    job.take(&slug("c"));
    job.fail("b", FailureKind::PolicyBreach);
    job.advance();
    assert_eq!(
        (job.task("c").state, job.record().messages[0].given_to.as_ref()),
        (TaskState::Cancelled, None)
    );
    job.take(&slug("plan.2"));
    assert_eq!(job.task("plan.2").messages, ["use tabs"]);

    let mut job = self::job();
    job.succeed("a");
    job.fail("integrate.a", FailureKind::MergeConflict);
    say(&mut job, "mine wins").unwrap();
    job.succeed("resolve.a.1");
    job.succeed("integrate.a");
    job.send("op", CommandBody::Rollback { to: None }).unwrap();
    assert_eq!(job.task("resolve.a.1").state, TaskState::Cancelled);
    job.succeed("a");
    assert_eq!(job.task("a").messages, ["mine wins"]);
}

/// The coordinator that is to plan is chosen before there is a task for it, also for a job that came with its plan.
#[test]
fn whoever_is_to_plan_anew_stays_chosen_when_other_agents_are() {
    let mut spec = serde_json::json!({"title": "t", "description": "d", "on_failure": "replan"});
    spec["plan"] = serde_json::to_value(plan()).unwrap();
    let mut job = Driver::of(spec);
    job.send("daemon", CommandBody::StartAnalysis).unwrap();
    job.succeed("intake");
    while job.record().state != JobState::Approved {
        assert!(job.step(&mut || Verdict::Approved).unwrap());
    }
    let assign = |slug: &str, name: &str| {
        let agent = AssignedAgent {
            name: name.parse().unwrap(),
            digest: Digest::zero(),
            runtime: Runtime::Builtin,
            sandbox: SandboxNeeds::default(),
            model: None,
        };
        CommandBody::AssignAgents { agents: [(slug.parse().unwrap(), agent)].into() }
    };
    job.send("daemon", assign("plan", "our-planner")).unwrap();
    job.send("daemon", CommandBody::StartPlanning).unwrap();
    job.send("daemon", assign("a", "our-backend")).unwrap();
    job.advance();
    job.fail("a", FailureKind::PolicyBreach);
    job.advance();
    assert_eq!(job.task("plan.2").agent.as_ref().map(|name| name.as_str()), Some("our-planner"));
}

#[test]
fn messages_are_bounded_and_end_with_the_job() {
    let mut job = job();
    let long = "x".repeat(MAX_MESSAGE_BYTES + 1);
    for wrong in ["", " \n", &long, "\u{1b}[2Jgone", "a\u{7}", "\u{9b}31m", "nul\0", "\u{7f}"] {
        assert_eq!(say(&mut job, wrong), Err(ErrorCode::InvalidRequest), "{wrong:?}");
    }
    assert!(job.record().messages.is_empty());
    say(&mut job, "two lines\r\n\tof ทดสอบ").unwrap();
    for _ in 1..MAX_MESSAGES {
        say(&mut job, &"x".repeat(MAX_MESSAGE_BYTES)).unwrap();
    }
    assert_eq!(say(&mut job, "one more"), Err(ErrorCode::InvalidRequest));
    job.send("op", CommandBody::Cancel { cause: "enough".into() }).unwrap();
    assert_eq!(say(&mut job, "too late"), Err(ErrorCode::IllegalTransition));
}

#[test]
fn more_budget_needs_somebody_else_and_ends_the_pause_for_it() {
    let mut job = job();
    job.take(&slug("a"));
    let spend = Spend { calls: 1, input_tokens: Tokens(1_500), ..Spend::default() };
    job.send("daemon", CommandBody::RecordSpend { slug: slug("a"), spend, through: 1 }).unwrap();
    job.advance();
    assert_eq!(job.record().state, JobState::Paused);
    for too_little in [999, 1_000] {
        assert_eq!(ask(&mut job, "bob", too_little), Err(ErrorCode::InvalidRequest));
    }
    ask(&mut job, "bob", 2_000).unwrap();
    assert_eq!(ask(&mut job, "carol", 3_000), Err(ErrorCode::IllegalTransition), "one at a time");
    assert_eq!(job.record().state, JobState::Paused);
    for own in ["alice", "bob"] {
        assert_eq!(job.vote(own, true, None).unwrap_err().code(), ErrorCode::FourEyes, "{own}");
    }
    let version = job.record().budget_request.as_ref().unwrap().approval.job_version;
    assert_eq!(job.vote("carol", true, Some(version + 1)).unwrap_err().code(), ErrorCode::ApprovalStale);
    job.vote("carol", true, Some(version)).unwrap();
    assert_eq!(job.record().state, JobState::InProgress);
    assert_eq!(job.record().caps().unwrap().tokens, Tokens(2_000));
    job.run();
    assert_eq!(job.record().state, JobState::Completed);
}

/// Whoever looked at one plan has not approved what is spent on another.
#[test]
fn a_vote_names_the_plan_it_was_cast_over() {
    let wish = serde_json::json!({"title": "t", "description": "d", "on_failure": "replan"});
    let mut job = Driver::in_progress(wish, crate::driver::plan());
    ask(&mut job, "bob", 2_000).unwrap();
    let first = job.record().plan_digest.clone();
    let seen = |plan_digest, artefact| Seen { plan_digest, artefact, ..Seen::default() };
    let other = Some(df_contract::Digest::of(b"another"));
    for wrong in [seen(other.clone(), None), seen(first.clone(), other)] {
        assert_eq!(job.approve("carol", wrong).unwrap_err().code(), ErrorCode::ApprovalStale);
    }
    assert!(job.record().budget_request.is_some(), "a refused vote changes nothing");
    job.fail("a", FailureKind::PolicyBreach);
    job.advance();
    assert!(job.record().budget_request.is_some(), "the plan stands until there is another");
    job.succeed("plan.2");
    job.advance();
    assert_ne!(job.record().plan_digest, first);
    assert_eq!(job.record().budget_request, None, "nobody votes on it over a plan they have not seen");
    ask(&mut job, "bob", 2_000).unwrap();
    assert_eq!(job.approve("carol", seen(first, None)).unwrap_err().code(), ErrorCode::ApprovalStale);
    let now = job.record().plan_digest.clone();
    job.approve("carol", seen(now, None)).unwrap();
    assert_eq!(job.record().caps().unwrap().tokens, Tokens(2_000));
}

#[test]
fn budget_that_is_refused_or_expires_changes_nothing_else() {
    let mut job = job();
    ask(&mut job, "bob", 2_000).unwrap();
    job.vote("carol", false, None).unwrap();
    assert_eq!((job.record().state, job.record().raised), (JobState::InProgress, None));
    ask(&mut job, "bob", 2_000).unwrap();
    job.clock += 10_000;
    job.advance();
    assert_eq!(job.record().budget_request, None);
    assert_eq!(job.record().state, JobState::InProgress);
    // A pause for another reason is not ended by money.
    job.send("op", CommandBody::Pause { cause: "look".into() }).unwrap();
    ask(&mut job, "bob", 2_000).unwrap();
    job.vote("carol", true, None).unwrap();
    assert_eq!(job.record().state, JobState::Paused);
}
