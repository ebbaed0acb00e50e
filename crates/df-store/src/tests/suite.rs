//! What every backend must do.

use std::collections::BTreeSet;

use df_contract::api::Spend;
use df_contract::decision::Verdict;
use df_contract::lease::{HeldLease, ProgressLine, SESSION_TTL};
use df_contract::task::Product;
use df_contract::{
    AttemptOutcome, Digest, DurationMs, ErrorCode, EventKind, FailureKind, JobId, JobState, KeyId, LeaseKind,
    Role, TaskState, Timestamp, Tokens, WorkerClass,
};
use df_control_audit::verify_job;
use df_control_machine::{Command, CommandBody, Effect, JobRecord, TaskRecord};

use super::bench::{Bench, LIFECYCLE, SILENCE, WALL, submission};
use crate::lease::{MAX_PROGRESS_PER_JOB, MAX_STALE_BEYOND};
use crate::{ClaimRequest, JobFilter, KeyRow, Refused, StoreError};

pub(crate) use super::clocks::a_clock_that_goes_back_keeps_no_dead_session;

const TRUSTED: WorkerClass = WorkerClass::Trusted;

/// Log, tables and events agree.
pub(crate) async fn check_sound(bench: &Bench, job: JobId) {
    let record = bench.record(job).await;
    let audit = bench.store.audit(job).await.unwrap();
    let fold = verify_job(&audit, &LIFECYCLE).unwrap();
    assert_eq!(
        (fold.state, fold.resume_to, fold.version),
        (Some(record.state), record.resume_to, record.version)
    );
    let tasks: Vec<_> = record.tasks.values().map(|t| (t.slug.clone(), t.state, t.epoch)).collect();
    let folded: Vec<_> = fold.tasks.iter().map(|(slug, t)| (slug.clone(), t.state, t.epoch)).collect();
    assert_eq!(tasks, folded);
    let events = bench.store.events(job, 0, crate::MAX_PAGE).await.unwrap();
    assert!(events.iter().zip(1..).all(|(event, seq)| event.seq == seq), "events are numbered from 1");
}

pub(crate) async fn a_job_runs_to_completion(mut bench: Bench) {
    let job = bench.submit(0).await;
    let session = bench.session(TRUSTED, 8).await;
    let mut order = Vec::new();
    loop {
        bench.advance(job, Verdict::Approved).await;
        let leases = bench.claim(session, 8).await;
        if leases.is_empty() {
            break;
        }
        for lease in leases {
            bench.succeed(&lease).await;
            order.push(lease.slug.to_string());
        }
    }
    assert_eq!(
        order.join(" "),
        "intake plan a integrate.a b c integrate.b integrate.c validate.1 deliver.bundle"
    );
    assert_eq!(bench.record(job).await.state, JobState::Completed);
    assert_eq!(bench.store.jobs_active().await.unwrap(), vec![]);
    check_sound(&bench, job).await;
}

pub(crate) async fn a_repeated_command_returns_its_first_outcome(mut bench: Bench) {
    let (first, second) = (bench.job_id(), bench.job_id());
    let submit = bench.command(first, "alice", submission(3));
    let outcome = bench.commit(submit.clone()).await.unwrap();
    let start = bench.command(first, "daemon", CommandBody::StartAnalysis);
    let started = bench.commit(start.clone()).await.unwrap();
    bench.send(first, "daemon", CommandBody::Cancel { cause: "c".into() }).await.unwrap();
    // The retry comes later, and a submission's retry under a newly minted job.
    let again = Command { job: second, at: Timestamp(u64::MAX / 4), ..submit };
    assert_eq!(bench.commit(again).await.unwrap(), outcome);
    assert_eq!(bench.commit(start).await.unwrap(), started);
    assert_eq!(bench.record(first).await.version, 3);
    assert_eq!(bench.store.job(second).await.unwrap(), None);
}

pub(crate) async fn a_command_id_is_bound_to_its_body_and_job(mut bench: Bench) {
    let (job, other) = (bench.submit(0).await, bench.submit(1).await);
    let start = bench.command(job, "daemon", CommandBody::StartAnalysis);
    bench.commit(start.clone()).await.unwrap();
    let mut actor = start.actor.clone();
    actor.name = "mallory".into();
    let changed = [
        Command { job: other, ..start.clone() },
        Command { actor, ..start.clone() },
        Command { body: CommandBody::Cancel { cause: "x".into() }, ..start.clone() },
    ];
    for command in changed {
        let refused = bench.commit(command).await.unwrap_err();
        assert_eq!(refused, Refused::CommandReused(start.id));
        assert_eq!(refused.code(), ErrorCode::IdempotencyConflict);
    }
    assert_eq!(bench.record(job).await.version, 2);
    assert_eq!(bench.record(other).await.version, 1);
}

pub(crate) async fn a_refused_command_writes_nothing(mut bench: Bench) {
    let job = bench.submit(0).await;
    let session = bench.session(TRUSTED, 1).await;
    bench.advance(job, Verdict::Approved).await;
    let leases = bench.claim(session, 1).await;
    bench.succeed(&leases[0]).await;
    bench.advance(job, Verdict::NeedsApproval).await;
    let before = (bench.record(job).await, bench.store.audit(job).await.unwrap());
    assert_eq!(before.0.state, JobState::AwaitingApproval);
    let vote = |roles| CommandBody::Vote {
        approve: true,
        roles,
        seen: df_control_machine::Seen::default(),
        comment: String::new(),
    };
    let approver = BTreeSet::from([Role::Approver]);
    for (actor, body, code) in [
        ("alice", vote(approver.clone()), ErrorCode::FourEyes),
        ("bob", vote(BTreeSet::from([Role::Viewer])), ErrorCode::Forbidden),
        ("daemon", CommandBody::StartPlanning, ErrorCode::IllegalTransition),
    ] {
        assert_eq!(bench.send(job, actor, body).await.unwrap_err().code(), code);
    }
    let nobody = bench.job_id();
    let refused = bench.send(nobody, "daemon", CommandBody::StartAnalysis).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::JobUnknown);
    let again = bench.send(job, "alice", submission(0)).await.unwrap_err();
    assert_eq!(again.code(), ErrorCode::IdempotencyConflict, "the job exists");
    assert_eq!((bench.record(job).await, bench.store.audit(job).await.unwrap()), before);
    // An id whose command was refused is not used up.
    let command = bench.command(job, "bob", vote(approver));
    let early = Command { body: CommandBody::StartPlanning, ..command.clone() };
    bench.commit(early).await.unwrap_err();
    assert_eq!(bench.commit(command).await.unwrap().state, JobState::Approved);
    check_sound(&bench, job).await;
}

pub(crate) async fn a_batch_takes_each_command_on_its_own(mut bench: Bench) {
    let job = bench.job_id();
    let batch = vec![
        bench.command(job, "alice", submission(0)),
        bench.command(job, "daemon", CommandBody::Complete),
        bench.command(job, "daemon", CommandBody::StartAnalysis),
    ];
    let outcomes = bench.store.commit(batch).await.unwrap();
    let versions: Vec<_> = outcomes.iter().map(|o| o.as_ref().ok().map(|o| o.version)).collect();
    assert_eq!(versions, [Some(1), None, Some(2)]);
    check_sound(&bench, job).await;
}

pub(crate) async fn an_old_epoch_is_refused(mut bench: Bench) {
    let job = bench.in_progress().await;
    let session = bench.session(TRUSTED, 4).await;
    let old = bench.claim(session, 1).await.remove(0);
    let late = bench.report_body(&old, 9).await;
    let back = CommandBody::Return {
        slug: old.slug.clone(),
        epoch: old.epoch,
        cause: df_control_machine::ReturnCause::SessionEnded,
        detail: "gone".into(),
    };
    bench.send(job, "reaper", back.clone()).await.unwrap();
    let held = bench.claim(session, 1).await.remove(0);
    assert_eq!(held.slug, old.slug);
    assert!(held.epoch > old.epoch);
    for body in [late, back] {
        let refused = bench.send(job, "zombie", body).await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::StaleLease);
    }
    let line = ProgressLine { at: bench.now, kind: "note".into(), text: "still here".into() };
    let refused =
        bench.store.progress_append(old.clone(), 0, vec![line], bench.now).await.unwrap().unwrap_err();
    assert_eq!(refused.code(), ErrorCode::StaleLease);
    let lost =
        bench.store.session_heartbeat(session, bench.now, vec![old.clone(), held.clone()]).await.unwrap();
    assert_eq!(lost, vec![old]);
    bench.succeed(&held).await;
    check_sound(&bench, job).await;
}

pub(crate) async fn claims_race_for_distinct_tasks(mut bench: Bench) {
    let mut jobs = Vec::new();
    for _ in 0..6 {
        jobs.push(bench.submit(0).await);
    }
    for job in &jobs {
        bench.advance(*job, Verdict::Approved).await;
    }
    let mut racing = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let session = bench.session(TRUSTED, 3).await;
        let (request, store) = (bench.claim_request(session, 3), bench.store.clone());
        racing.spawn(async move { store.claim(request).await.unwrap() });
    }
    let taken: Vec<_> = racing.join_all().await.into_iter().flatten().map(|(r, slug)| (r.id, slug)).collect();
    assert_eq!(taken.len(), 6, "every intake is taken");
    assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), 6, "and only once");
}

pub(crate) async fn claims_respect_class_capacity_and_time(mut bench: Bench) {
    for _ in 0..3 {
        let job = bench.submit(0).await;
        bench.advance(job, Verdict::Approved).await;
    }
    let remote = bench.session(WorkerClass::Remote, 4).await;
    assert_eq!(bench.claim(remote, 4).await, vec![], "intake is not for remote workers");
    let small = bench.session(TRUSTED, 2).await;
    assert_eq!(bench.claim(small, 4).await.len(), 2);
    assert_eq!(bench.claim(small, 4).await, vec![], "it is full");
    let other = bench.session(TRUSTED, 4).await;
    let mut agents = bench.claim_request(other, 4);
    agents.kinds = vec![LeaseKind::Agent];
    assert_eq!(bench.store.claim(agents).await.unwrap(), vec![]);
    bench.sleep(SESSION_TTL);
    let late = bench.claim_request(other, 1);
    assert!(matches!(bench.store.claim(late).await, Err(StoreError::SessionGone(id)) if id == other));
    let fresh = bench.session(TRUSTED, 4).await;
    let leases = bench.claim(fresh, 4).await;
    assert_eq!(leases.len(), 1);
    let failed = df_contract::AttemptOutcome::Failed {
        kind: df_contract::FailureKind::Infrastructure,
        detail: "disk".into(),
        trace: None,
    };
    let CommandBody::Report { slug, epoch, attempt, .. } = bench.report_body(&leases[0], 1).await else {
        panic!("a report")
    };
    let outcome = Box::new(failed);
    let body =
        CommandBody::Report { slug, epoch, attempt, outcome, sandbox_layers: vec![], evidence: vec![] };
    bench.send(leases[0].job, "worker", body).await.unwrap();
    assert_eq!(bench.claim(fresh, 4).await, vec![], "it waits before the next attempt");
    bench.sleep(DurationMs(10_000));
    assert_eq!(bench.claim(fresh, 4).await.len(), 1);
}

pub(crate) async fn claims_prefer_priority_then_age(mut bench: Bench) {
    let mut jobs = Vec::new();
    for priority in [0, 5, -5, 5] {
        let job = bench.submit(priority).await;
        bench.advance(job, Verdict::Approved).await;
        jobs.push(job);
    }
    let session = bench.session(TRUSTED, 4).await;
    let taken: Vec<JobId> = bench.claim(session, 4).await.into_iter().map(|lease| lease.job).collect();
    assert_eq!(taken, [jobs[1], jobs[3], jobs[0], jobs[2]]);
}

pub(crate) async fn one_change_is_merged_at_a_time(mut bench: Bench) {
    let job = bench.in_progress().await;
    let session = bench.session(TRUSTED, 8).await;
    for _ in 0..2 {
        let leases = bench.claim(session, 1).await;
        bench.succeed(&leases[0]).await;
    }
    let both = bench.claim(session, 8).await;
    assert_eq!(both.len(), 2, "b and c at once");
    for lease in &both {
        bench.succeed(lease).await;
    }
    let merging = bench.claim(session, 8).await;
    assert_eq!(merging.len(), 1);
    assert_eq!(bench.claim(session, 8).await, vec![]);
    bench.succeed(&merging[0]).await;
    assert_eq!(bench.claim(session, 8).await.len(), 1);
    check_sound(&bench, job).await;
}

pub(crate) async fn heartbeats_extend_and_name_lost_leases(mut bench: Bench) {
    let job = bench.in_progress().await;
    let session = bench.session(TRUSTED, 8).await;
    let held = bench.claim(session, 1).await;
    for _ in 0..3 {
        bench.sleep(DurationMs(10_000));
        assert_eq!(bench.store.session_heartbeat(session, bench.now, held.clone()).await.unwrap(), vec![]);
        assert_eq!(bench.reap(8).await.returned, vec![]);
    }
    assert_eq!(
        bench.store.lease_holder(job, held[0].slug.clone()).await.unwrap(),
        Some((held[0].epoch, session))
    );
    bench.send(job, "bob", CommandBody::Cancel { cause: "no longer wanted".into() }).await.unwrap();
    assert_eq!(bench.store.session_heartbeat(session, bench.now, held.clone()).await.unwrap(), held);
    assert_eq!(bench.store.lease_holder(job, held[0].slug.clone()).await.unwrap(), None);
    bench.sleep(SESSION_TTL);
    let gone = bench.store.session_heartbeat(session, bench.now, vec![]).await.unwrap_err();
    assert!(matches!(gone, StoreError::SessionGone(id) if id == session));
}

pub(crate) async fn a_lease_whose_claim_was_never_answered_comes_back(mut bench: Bench) {
    let job = bench.in_progress().await;
    let session = bench.session(TRUSTED, 8).await;
    let unheard = bench.claim(session, 1).await.remove(0);
    bench.sleep(DurationMs(9_999));
    bench.store.session_heartbeat(session, bench.now, vec![]).await.unwrap();
    assert_eq!(bench.reap(8).await.returned, vec![], "the answer may still be on its way");
    bench.sleep(DurationMs(1));
    bench.store.session_heartbeat(session, bench.now, vec![]).await.unwrap();
    assert_eq!(bench.reap(8).await.returned.len(), 1);
    assert!(bench.claim(session, 1).await.remove(0).epoch > unheard.epoch);
    check_sound(&bench, job).await;
}

pub(crate) async fn dead_sessions_are_reaped(mut bench: Bench) {
    let job = bench.in_progress().await;
    let session = bench.session(TRUSTED, 8).await;
    let held = bench.claim(session, 1).await.remove(0);
    bench.sleep(DurationMs(SESSION_TTL.0 - 1));
    assert_eq!(bench.reap(8).await, Default::default());
    bench.sleep(DurationMs(1));
    assert_eq!(bench.reap(0).await.sessions, vec![], "a session that holds leases is not forgotten");
    let reaped = bench.reap(8).await;
    let cause = "the worker's session ended".to_owned();
    assert_eq!(reaped.returned, vec![(job, held.slug.clone(), held.epoch, cause)]);
    assert_eq!(reaped.sessions, vec![session]);
    let task = bench.record(job).await.tasks[&held.slug].clone();
    assert_eq!((task.state, task.lost_leases), (TaskState::Ready, 1));
    assert!(task.epoch > held.epoch);
    let next = bench.session(TRUSTED, 8).await;
    let again = bench.claim(next, 1).await.remove(0);
    bench.store.session_close(next).await.unwrap();
    assert_eq!(bench.reap(8).await.returned.len(), 1, "a closed session is reaped at once");
    assert!(again.epoch > held.epoch);
    check_sound(&bench, job).await;
}

pub(crate) async fn overdue_and_silent_attempts_are_reaped(mut bench: Bench) {
    let job = bench.in_progress().await;
    let session = bench.session(TRUSTED, 8).await;
    let mut causes = Vec::new();
    for speaks in [false, true] {
        let held = bench.claim(session, 1).await.remove(0);
        let begun = bench.now;
        loop {
            bench.sleep(DurationMs(10_000));
            bench.store.session_heartbeat(session, bench.now, vec![held.clone()]).await.unwrap();
            if speaks {
                let said = bench.store.progress_append(held.clone(), 0, vec![], bench.now).await.unwrap();
                said.unwrap();
            }
            if let Some((_, _, _, cause)) = bench.reap(8).await.returned.pop() {
                causes.push((cause, bench.now.since(begun)));
                break;
            }
        }
        // A stalled attempt is a failed one: the next waits a little.
        bench.sleep(DurationMs(2_000));
    }
    let want = [
        ("the attempt made no progress".to_owned(), SILENCE),
        ("the attempt ran past its deadline".to_owned(), WALL),
    ];
    assert_eq!(causes, want);
    check_sound(&bench, job).await;
}

fn lines(texts: &[&str]) -> Vec<ProgressLine> {
    let line = |text: &&str| ProgressLine { at: Timestamp(1), kind: "tool".into(), text: (*text).to_owned() };
    texts.iter().map(line).collect()
}

async fn progress_of(bench: &Bench, job: JobId) -> Vec<String> {
    let (mut found, mut after) = (Vec::new(), 0);
    loop {
        let page = bench.store.events(job, after, crate::MAX_PAGE).await.unwrap();
        let Some(last) = page.last() else { return found };
        after = last.seq;
        found.extend(page.into_iter().filter_map(|event| match event.event {
            EventKind::Progress { line, .. } => Some(line),
            EventKind::JobState { .. }
            | EventKind::TaskState { .. }
            | EventKind::Decision { .. }
            | EventKind::ApprovalRequested { .. }
            | EventKind::ApprovalVote { .. }
            | EventKind::Message { .. }
            | EventKind::BudgetRequested { .. }
            | EventKind::Replanned { .. }
            | EventKind::RolledBack { .. }
            | EventKind::StaleResult { .. } => None,
        }));
    }
}

pub(crate) async fn progress_is_fenced_and_kept_once(mut bench: Bench) {
    let job = bench.in_progress().await;
    let session = bench.session(TRUSTED, 8).await;
    let held = bench.claim(session, 1).await.remove(0);
    for (first, texts) in [(0, &["one", "two"][..]), (0, &["one", "two"]), (1, &["two", "three"])] {
        bench.store.progress_append(held.clone(), first, lines(texts), bench.now).await.unwrap().unwrap();
    }
    assert_eq!(progress_of(&bench, job).await, ["tool: one", "tool: two", "tool: three"]);
    let wrong = [
        (HeldLease { epoch: held.epoch + 1, ..held.clone() }, ErrorCode::StaleLease),
        (HeldLease { epoch: held.epoch - 1, ..held.clone() }, ErrorCode::StaleLease),
        (HeldLease { slug: "ghost".parse().unwrap(), ..held.clone() }, ErrorCode::NotFound),
        (HeldLease { slug: "b".parse().unwrap(), epoch: 0, ..held.clone() }, ErrorCode::StaleLease),
    ];
    for (lease, code) in wrong {
        let refused = bench.store.progress_append(lease, 9, lines(&["x"]), bench.now).await.unwrap();
        assert_eq!(refused.unwrap_err().code(), code);
    }
    assert_eq!(progress_of(&bench, job).await.len(), 3);
    let version = bench.record(job).await.version;
    bench.succeed(&held).await;
    assert_eq!(bench.record(job).await.version, version + 1, "progress is no transition");
    check_sound(&bench, job).await;
}

pub(crate) async fn progress_of_a_job_is_bounded(mut bench: Bench) {
    let job = bench.in_progress().await;
    let session = bench.session(TRUSTED, 8).await;
    let held = bench.claim(session, 1).await.remove(0);
    let batch = lines(&["x"; 3_000]);
    for n in 0..8 {
        bench
            .store
            .progress_append(held.clone(), n * 3_000, batch.clone(), bench.now)
            .await
            .unwrap()
            .unwrap();
    }
    let kept = progress_of(&bench, job).await;
    assert_eq!(kept.len() as u64, MAX_PROGRESS_PER_JOB + 1);
    assert_eq!(kept.iter().filter(|line| line.starts_with("truncated")).count(), 1);
    bench.succeed(&held).await;
    // A result that comes too late is noted however much was said; that has its own bound.
    for _ in 0..MAX_STALE_BEYOND + 5 {
        bench.store.note_stale(held.clone(), None, vec![], bench.now).await.unwrap();
    }
    let (mut noted, mut after) = (0, 0);
    while let page = bench.store.events(job, after, crate::MAX_PAGE).await.unwrap()
        && let Some(last) = page.last()
    {
        after = last.seq;
        noted += page.iter().filter(|event| matches!(event.event, EventKind::StaleResult { .. })).count();
    }
    assert_eq!(noted as u64, MAX_STALE_BEYOND);
}

pub(crate) async fn a_wild_progress_number_is_refused(mut bench: Bench) {
    let job = bench.in_progress().await;
    let session = bench.session(TRUSTED, 8).await;
    let held = bench.claim(session, 1).await.remove(0);
    for first in [u64::MAX, u64::MAX - 1, 1 << 63] {
        let said = bench.store.progress_append(held.clone(), first, lines(&["x", "y"]), bench.now).await;
        assert_eq!(said.unwrap().unwrap_err().code(), ErrorCode::InvalidRequest);
    }
    bench.store.progress_append(held, 0, lines(&["one"]), bench.now).await.unwrap().unwrap();
    assert_eq!(progress_of(&bench, job).await, ["tool: one"]);
}

pub(crate) async fn a_panic_undoes_one_operation(mut bench: Bench) {
    let job = bench.in_progress().await;
    let session = bench.session(TRUSTED, 8).await;
    let before = bench.record(job).await;
    let wall = std::sync::Arc::new(|_: &JobRecord, task: &TaskRecord| match task.slug.as_str() {
        "a" => panic!("a defect"),
        _ => WALL,
    });
    let request = ClaimRequest { wall, ..bench.claim_request(session, 1) };
    assert!(matches!(bench.store.claim(request).await, Err(StoreError::Panicked)));
    assert_eq!(bench.record(job).await, before);
    assert_eq!(bench.claim(session, 1).await.len(), 1, "the writer lives on");
    check_sound(&bench, job).await;
}

pub(crate) async fn a_stale_result_leaves_a_trace_and_nothing_else(mut bench: Bench) {
    let job = bench.in_progress().await;
    let session = bench.session(TRUSTED, 8).await;
    let held = bench.claim(session, 1).await.remove(0);
    let back = CommandBody::Return {
        slug: held.slug.clone(),
        epoch: held.epoch,
        cause: df_control_machine::ReturnCause::SessionEnded,
        detail: "gone".into(),
    };
    bench.send(job, "reaper", back).await.unwrap();
    let before = (bench.record(job).await, bench.store.audit(job).await.unwrap());
    let trace = Digest::of(b"trace");
    bench
        .store
        .note_stale(held.clone(), Some(trace.clone()), vec![Digest::of(b"log")], bench.now)
        .await
        .unwrap();
    let nobody = bench.job_id();
    bench.store.note_stale(HeldLease { job: nobody, ..held.clone() }, None, vec![], bench.now).await.unwrap();
    bench
        .store
        .note_stale(HeldLease { slug: "ghost".parse().unwrap(), ..held.clone() }, None, vec![], bench.now)
        .await
        .unwrap();
    assert_eq!((bench.record(job).await, bench.store.audit(job).await.unwrap()), before);
    let current = before.0.tasks[&held.slug].epoch;
    let last = bench.store.events(job, 0, crate::MAX_PAGE).await.unwrap().pop().unwrap();
    assert_eq!(
        last.event,
        EventKind::StaleResult { slug: held.slug, held: held.epoch, current, trace: Some(trace.clone()) }
    );
    assert!(bench.store.blob_kept(job, trace.clone()).await.unwrap());
    assert!(bench.store.blob_kept(job, Digest::of(b"log")).await.unwrap());
    assert!(!bench.store.blob_kept(job, Digest::of(b"other")).await.unwrap());
    let orphan = Digest::of(b"orphan");
    let among = BTreeSet::from([trace, orphan.clone()]);
    assert_eq!(bench.store.blobs_unnamed(among).await.unwrap(), BTreeSet::from([orphan]));
    let next = bench.claim(session, 1).await.remove(0);
    bench.succeed(&next).await;
    check_sound(&bench, job).await;
}

/// Each attempt leaves a trace, logs and perhaps a tree; the record names those of the last one, and all are kept.
pub(crate) async fn what_all_attempts_left_is_kept(mut bench: Bench) {
    let job = bench.in_progress().await;
    let session = bench.session(TRUSTED, 8).await;
    let mut traces = BTreeSet::new();
    for n in 40..43 {
        let lease = bench.claim(session, 1).await.remove(0);
        let mut body = bench.report_body(&lease, n).await;
        let trace = Digest::of(&[n, 1]);
        if let CommandBody::Report { outcome, evidence, .. } = &mut body {
            evidence.extend([trace.clone(), Digest::of(&[n, 2])]);
            traces.extend(evidence.iter().cloned());
            match &mut **outcome {
                AttemptOutcome::Succeeded { product: Product::Change { result, tree } } if n == 42 => {
                    traces.insert(tree.bundle.clone());
                    result.artefacts.insert("trace".into(), trace.clone());
                }
                outcome => {
                    let kind = FailureKind::CheckFailure;
                    *outcome =
                        AttemptOutcome::Failed { kind, detail: "d".into(), trace: Some(trace.clone()) };
                }
            }
        }
        bench.send(job, "worker", body).await.unwrap();
        assert!(bench.store.blob_kept(job, trace).await.unwrap());
        bench.sleep(DurationMs(14_000));
        bench.store.session_heartbeat(session, bench.now, vec![]).await.unwrap();
    }
    let nobodys = Digest::of(b"nobody's");
    traces.insert(nobodys.clone());
    assert_eq!(bench.store.blobs_unnamed(traces).await.unwrap(), [nobodys].into());
    let audit = bench.store.audit(job).await.unwrap();
    assert_eq!(audit.iter().filter(|record| record.body["kind"] == "traced").count(), 2);
    check_sound(&bench, job).await;
}

pub(crate) async fn events_have_no_gaps(mut bench: Bench) {
    let job = bench.in_progress().await;
    let all = bench.store.events(job, 0, crate::MAX_PAGE).await.unwrap();
    let numbers: Vec<u64> = all.iter().map(|event| event.seq).collect();
    assert_eq!(numbers, (1..=all.len() as u64).collect::<Vec<_>>());
    let tail = bench.store.events(job, 3, 2).await.unwrap();
    assert_eq!(tail, all[3..5]);
    assert_eq!(bench.store.events(job, all.len() as u64, 10).await.unwrap(), vec![]);
    let EventKind::JobState { from: None, to: JobState::Draft, actor, .. } = &all[0].event else {
        panic!("the first event is the submission: {:?}", all[0])
    };
    assert_eq!(actor, "alice");
}

pub(crate) async fn every_version_has_audit_records_that_verify(mut bench: Bench) {
    let job = bench.in_progress().await;
    check_sound(&bench, job).await;
    let audit = bench.store.audit(job).await.unwrap();
    let versions: BTreeSet<u64> = audit.iter().map(|record| record.version).collect();
    assert_eq!(versions, (1..=bench.record(job).await.version).collect());
    assert_eq!((audit[0].command.as_str(), audit[0].actor.as_str()), ("submit", "alice"));
}

pub(crate) async fn effects_wait_in_the_outbox(mut bench: Bench) {
    let job = bench.in_progress().await;
    for row in bench.store.outbox_due(0, 100).await.unwrap() {
        bench.store.outbox_done(row.id, bench.now).await.unwrap();
    }
    let session = bench.session(TRUSTED, 8).await;
    let held = bench.claim(session, 1).await.remove(0);
    bench.send(job, "bob", CommandBody::Cancel { cause: "c".into() }).await.unwrap();
    let due = bench.store.outbox_due(0, 100).await.unwrap();
    assert_eq!(due.len(), 1);
    assert_eq!(due[0].job, job);
    assert_eq!(bench.store.outbox_due(due[0].id, 100).await.unwrap(), vec![]);
    assert_eq!(due[0].effect, Effect::RevokeGrants { slug: held.slug, epoch: held.epoch });
    bench.store.outbox_done(due[0].id, bench.now).await.unwrap();
    bench.store.outbox_done(due[0].id, bench.now).await.unwrap();
    assert_eq!(bench.store.outbox_due(0, 100).await.unwrap(), vec![]);
}

pub(crate) async fn spend_moves_the_cursor_with_it(mut bench: Bench) {
    let job = bench.in_progress().await;
    assert_eq!(bench.store.usage_cursor().await.unwrap(), 0);
    let spend = Spend { calls: 1, input_tokens: Tokens(7), ..Spend::default() };
    let body = CommandBody::RecordSpend { slug: "a".parse().unwrap(), spend, through: 12 };
    let known = bench.command(job, "daemon", body.clone());
    let nobody = bench.job_id();
    let unknown = bench.command(nobody, "daemon", body);
    let outcomes = bench.store.commit_spend(0, 12, vec![known, unknown]).await.unwrap().unwrap();
    assert!(outcomes[0].is_ok() && outcomes[1].is_err());
    // Another who read from the same place, and further: the first rows are among what it read.
    let body = CommandBody::RecordSpend { slug: "a".parse().unwrap(), spend, through: 13 };
    let again = bench.command(job, "daemon", body);
    assert_eq!(bench.store.commit_spend(0, 13, vec![again]).await.unwrap(), None);
    assert_eq!(bench.store.usage_cursor().await.unwrap(), 12);
    assert_eq!(bench.record(job).await.spend.input_tokens, Tokens(7), "counted once");
}

pub(crate) async fn jobs_are_listed_in_pages(mut bench: Bench) {
    let mut jobs = Vec::new();
    for priority in 0..5 {
        jobs.push(bench.submit(priority).await);
    }
    bench.send(jobs[2], "bob", CommandBody::Cancel { cause: "c".into() }).await.unwrap();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = bench.store.job_list(JobFilter { after, limit: 2, ..Default::default() }).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        seen.extend(page.iter().map(|row| row.id));
    }
    assert_eq!(seen, jobs.iter().rev().copied().collect::<Vec<_>>(), "newest first");
    let list = async |filter: JobFilter| -> Vec<JobId> {
        bench.store.job_list(filter).await.unwrap().iter().map(|row| row.id).collect()
    };
    let cancelled = JobFilter { state: Some(JobState::Cancelled), limit: 9, ..Default::default() };
    assert_eq!(list(cancelled).await, vec![jobs[2]]);
    let other = JobFilter { tenant: Some("other".parse().unwrap()), limit: 9, ..Default::default() };
    assert_eq!(list(other).await, vec![]);
    let active = bench.store.jobs_active().await.unwrap();
    assert_eq!(active, [jobs[0], jobs[1], jobs[3], jobs[4]], "oldest first");
    let counts = bench.store.job_count_by_state().await.unwrap();
    assert_eq!(counts, [(JobState::Draft, 4), (JobState::Cancelled, 1)].into());
    let row = bench.store.job_list(JobFilter { limit: 1, ..Default::default() }).await.unwrap().remove(0);
    assert_eq!((row.title.as_str(), row.priority, row.submitter.as_str()), ("job 4", 4, "alice"));
}

pub(crate) async fn keys_are_found_by_hash(bench: Bench) {
    let key = |n: u8| KeyRow {
        id: KeyId::mint(Timestamp(5), [n; 10]),
        identity: "alice".into(),
        roles: BTreeSet::from([Role::Submitter, Role::Viewer]),
        tenant: "acme".parse().unwrap(),
        class: (n == 2).then_some(TRUSTED),
        hash: Digest::of(&[n]),
        created_at: Timestamp(5),
        expires_at: (n == 1).then_some(Timestamp(10)),
        revoked: false,
    };
    bench.store.key_insert(key(1)).await.unwrap();
    bench.store.key_insert(key(2)).await.unwrap();
    let twice = KeyRow { hash: Digest::of(&[1]), ..key(3) };
    assert!(bench.store.key_insert(twice).await.is_err(), "a secret opens one key");
    assert_eq!(bench.store.key_by_hash(Digest::of(&[2])).await.unwrap(), Some(key(2)));
    assert_eq!(bench.store.key_by_hash(Digest::of(&[9])).await.unwrap(), None);
    assert!(key(1).is_live(Timestamp(9)) && !key(1).is_live(Timestamp(10)));
    assert!(bench.store.key_revoke(key(2).id).await.unwrap());
    assert!(!bench.store.key_revoke(key(3).id).await.unwrap());
    let listed = bench.store.key_list().await.unwrap();
    assert_eq!(listed, [key(1), KeyRow { revoked: true, ..key(2) }]);
    assert!(!listed[1].is_live(Timestamp(6)));
}

pub(crate) async fn subscribers_hear_of_changes(mut bench: Bench) {
    let mut hints = bench.store.subscribe();
    let job = bench.submit(0).await;
    assert_eq!(hints.recv().await.unwrap(), job);
    bench.send(job, "daemon", CommandBody::Complete).await.unwrap_err();
    bench.send(job, "daemon", CommandBody::StartAnalysis).await.unwrap();
    assert_eq!(hints.recv().await.unwrap(), job);
    assert!(hints.try_recv().is_err(), "a refused command is no change");
}

pub(crate) async fn a_closed_store_says_so(mut bench: Bench) {
    let other = bench.store.clone();
    bench.submit(0).await;
    bench.store.close().await;
    assert!(matches!(other.meta_set("a", "b").await, Err(StoreError::Closed)));
}

pub(crate) async fn everything_survives_reopening(mut bench: Bench) {
    let job = bench.in_progress().await;
    let session = bench.session(TRUSTED, 8).await;
    let held = bench.claim(session, 1).await.remove(0);
    bench.store.progress_append(held.clone(), 0, lines(&["x"]), bench.now).await.unwrap().unwrap();
    bench.store.meta_set("name", "value").await.unwrap();
    let before = (
        bench.record(job).await,
        bench.store.audit(job).await.unwrap(),
        bench.store.events(job, 0, 100).await.unwrap(),
        bench.store.outbox_due(0, 100).await.unwrap(),
        bench.store.session_list().await.unwrap(),
    );
    bench.reopen().await;
    let after = (
        bench.record(job).await,
        bench.store.audit(job).await.unwrap(),
        bench.store.events(job, 0, 100).await.unwrap(),
        bench.store.outbox_due(0, 100).await.unwrap(),
        bench.store.session_list().await.unwrap(),
    );
    assert_eq!(before, after);
    assert_eq!(bench.store.meta_get("name").await.unwrap().as_deref(), Some("value"));
    bench.succeed(&held).await;
    check_sound(&bench, job).await;
}

pub(crate) async fn timers_follow_the_record(mut bench: Bench) {
    let late = Timestamp(u64::MAX / 4);
    let (first, second) = (bench.submit(0).await, bench.submit(0).await);
    assert_eq!(bench.store.jobs_due(late, None, 9).await.unwrap(), vec![], "drafts wait for no moment");
    let session = bench.session(TRUSTED, 8).await;
    for job in [first, second] {
        bench.advance(job, Verdict::NeedsApproval).await;
        let lease = bench.claim(session, 1).await.remove(0);
        bench.succeed(&lease).await;
        bench.advance(job, Verdict::NeedsApproval).await;
        assert_eq!(bench.record(job).await.state, JobState::AwaitingApproval);
    }
    let due = bench.store.jobs_due(late, None, 9).await.unwrap();
    let order: Vec<_> = due.iter().map(|(_, job)| *job).collect();
    assert_eq!(order, [first, second], "the longest overdue first");
    let at = bench.record(first).await.approval.unwrap().expires_at;
    assert_eq!(due[0].0, at);
    assert_eq!(bench.store.jobs_due(at, None, 9).await.unwrap().len(), 1);
    assert_eq!(bench.store.jobs_due(Timestamp(at.0 - 1), None, 9).await.unwrap(), vec![]);
    assert_eq!(bench.store.jobs_due(late, Some(due[0]), 9).await.unwrap(), due[1..]);
    bench.send(first, "daemon", CommandBody::Cancel { cause: "c".into() }).await.unwrap();
    assert_eq!(bench.store.jobs_due(late, None, 9).await.unwrap(), due[1..], "what has ended is never due");
}

pub(crate) async fn open_jobs_come_in_pages_and_are_counted(mut bench: Bench) {
    let mut made = BTreeSet::new();
    for _ in 0..5 {
        made.insert(bench.submit(0).await);
    }
    let ended = *made.first().unwrap();
    bench.send(ended, "daemon", CommandBody::Cancel { cause: "c".into() }).await.unwrap();
    made.remove(&ended);
    let (mut seen, mut after) = (BTreeSet::new(), None);
    loop {
        let page = bench.store.jobs_open(after, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        assert!(page.iter().all(|(_, job)| seen.insert(*job)), "each job comes once");
    }
    assert_eq!(seen, made);
    let tenant = bench.record(ended).await.tenant;
    assert_eq!(bench.store.jobs_open_count(None).await.unwrap(), 4);
    assert_eq!(bench.store.jobs_open_count(Some(tenant)).await.unwrap(), 4);
    assert_eq!(bench.store.jobs_open_count(Some("nobody".parse().unwrap())).await.unwrap(), 0);
}

/// What is still to be done is never forgotten, however old.
pub(crate) async fn done_effects_are_forgotten_when_they_are_old(mut bench: Bench) {
    let job = bench.submit(0).await;
    let session = bench.session(TRUSTED, 8).await;
    bench.advance(job, Verdict::Approved).await;
    bench.claim(session, 1).await;
    bench.send(job, "daemon", CommandBody::Cancel { cause: "c".into() }).await.unwrap();
    let due = bench.store.outbox_due(0, 9).await.unwrap();
    let late = Timestamp(u64::MAX / 4);
    assert_eq!(bench.store.outbox_forget(late, 9).await.unwrap(), 0);
    assert_eq!(bench.store.outbox_due(0, 9).await.unwrap(), due);
    for effect in &due {
        bench.store.outbox_done(effect.id, Timestamp(7)).await.unwrap();
    }
    assert_eq!(bench.store.outbox_forget(Timestamp(7), 9).await.unwrap(), 0, "not old enough");
    bench.store.outbox_forget(Timestamp(8), 9).await.unwrap();
    assert_eq!(bench.store.outbox_forget(late, 9).await.unwrap(), 0, "nothing is left");
}

/// Whatever part of a job names a blob: its source, a hidden check, a tree, a trace, a log, what was delivered.
pub(crate) async fn every_blob_that_a_job_names_is_found(mut bench: Bench) {
    let job = bench.submit(0).await;
    let session = bench.session(TRUSTED, 8).await;
    loop {
        bench.advance(job, Verdict::Approved).await;
        let leases = bench.claim(session, 8).await;
        if leases.is_empty() {
            break;
        }
        for lease in leases {
            bench.succeed(&lease).await;
        }
    }
    for _ in 0..70 {
        bench.submit(0).await;
    }
    let record = bench.record(job).await;
    assert_eq!(record.state, JobState::Completed);
    let trees = record.tasks.values().filter_map(|t| t.output.tree.as_ref()).map(|tree| tree.bundle.clone());
    let named: BTreeSet<Digest> = trees
        .chain(record.artefacts.values().cloned())
        .chain(record.head.iter().map(|h| h.bundle.clone()))
        .collect();
    assert!(!named.is_empty());
    let orphan = Digest::of(b"nobody names this");
    let mut among = named;
    among.insert(orphan.clone());
    assert_eq!(bench.store.blobs_unnamed(among).await.unwrap(), BTreeSet::from([orphan]));
}
