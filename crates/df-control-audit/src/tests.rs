//! The log must not be changed unnoticed: flips, drops, swaps, insertions, and tables that say something else.

use std::collections::BTreeMap;

use df_contract::{CommandId, JobId, JobState, Role, TaskState, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// A life cycle just large enough to tell legal from illegal; the real one is the control machine's.
const SMALL: Lifecycle = Lifecycle {
    job: |state, resume_to, event| match (state, event) {
        (JobState::Draft, "analysis_started") => Ok((JobState::GovernanceAnalysis, None)),
        (JobState::GovernanceAnalysis, "decided_approved") => Ok((JobState::Approved, None)),
        (JobState::Approved, "paused") => Ok((JobState::Paused, Some(JobState::Approved))),
        (JobState::Paused, "resumed") => Ok((resume_to.ok_or("nowhere to go")?, None)),
        (state, event) => Err(format!("{event} is illegal in {state}")),
    },
    task: |state, epoch, event| match (state, event) {
        (TaskState::Ready, "claimed") => Ok((TaskState::Leased, epoch + 1)),
        (TaskState::Leased, "returned") => Ok((TaskState::Ready, epoch + 1)),
        (TaskState::Leased, "succeeded") => Ok((TaskState::Succeeded, epoch)),
        (state, event) => Err(format!("{event} is illegal in {state}")),
    },
};

fn job() -> JobId {
    JobId::mint(Timestamp(1_700_000_000_000), [7; 10])
}

fn job_move(event: &str, from: &str, to: &str, resume_to: Option<&str>) -> Value {
    json!({"kind": "job", "event": event, "from": from, "to": to, "resume_to": resume_to, "cause": ""})
}

/// Version, task with its epoch, body.
type Told = (u64, Option<(&'static str, u64)>, Value);

/// A whole small life.
fn story() -> Vec<Told> {
    let task = |event: &str, from: &str, to: &str| json!({"kind": "task", "event": event, "from": from, "to": to, "cause": "why: \"ß\""});
    vec![
        (1, None, json!({"kind": "submitted", "tenant": "acme", "submitter": "alice", "spec": "00"})),
        (2, None, job_move("analysis_started", "DRAFT", "GOVERNANCE_ANALYSIS", None)),
        (2, Some(("intake", 0)), json!({"kind": "task_created", "lease": "intake", "state": "READY"})),
        (3, Some(("intake", 1)), task("claimed", "READY", "LEASED")),
        (4, Some(("intake", 2)), task("returned", "LEASED", "READY")),
        (5, Some(("intake", 3)), task("claimed", "READY", "LEASED")),
        (6, Some(("intake", 3)), task("succeeded", "LEASED", "SUCCEEDED")),
        (
            7,
            None,
            json!({"kind": "decided", "tokens": u64::MAX, "deep": [{"n": -9_007_199_254_740_993_i64}]}),
        ),
        (7, None, job_move("decided_approved", "GOVERNANCE_ANALYSIS", "APPROVED", None)),
        (8, None, job_move("paused", "APPROVED", "PAUSED", Some("APPROVED"))),
        (9, None, job_move("resumed", "PAUSED", "APPROVED", None)),
    ]
}

fn entry(version: u64, task: Option<(&'static str, u64)>, body: Value) -> Entry {
    Entry {
        job: job(),
        at: Timestamp(1_700_000_000_000 + version),
        actor: "alice".into(),
        role: Role::Submitter,
        command_id: CommandId::mint(Timestamp(version), [version as u8; 10]),
        command: "some".into(),
        version,
        slug: task.map(|(slug, _)| slug.parse().unwrap()),
        epoch: task.map(|(_, epoch)| epoch),
        body,
    }
}

fn chain_of(story: Vec<Told>) -> Vec<AuditRecord> {
    let mut tip = Tip::empty();
    let mut records = Vec::new();
    for (version, task, body) in story {
        let record = append(&tip, entry(version, task, body)).unwrap();
        tip = Tip { seq: record.seq, head: record.hash.clone() };
        records.push(record);
    }
    records
}

fn current() -> Current {
    let records = chain_of(story());
    let last = records.last().unwrap();
    Current {
        job: job(),
        state: JobState::Approved,
        resume_to: None,
        version: 9,
        audit_seq: last.seq,
        audit_head: last.hash.clone(),
        tasks: BTreeMap::from([("intake".parse().unwrap(), (TaskState::Succeeded, 3))]),
    }
}

fn export(records: Vec<AuditRecord>, current: Current) -> Vec<ExportLine> {
    records.into_iter().map(ExportLine::Record).chain([ExportLine::Current(current)]).collect()
}

#[test]
fn an_untouched_log_verifies_and_leads_to_the_states() {
    let verified = verify_export(export(chain_of(story()), current()), &SMALL);
    assert_eq!(verified, Verified { jobs: 1, records: 11, findings: Vec::new() });
}

#[test]
fn the_hash_is_pinned() {
    let record = append(&Tip::empty(), entry(1, None, json!({"kind": "submitted"}))).unwrap();
    let text = concat!(
        r#"{"actor":"alice","at":1700000000001,"body":{"kind":"submitted"},"command":"some","#,
        r#""command_id":"cmd_00000000-0001-7101-8101-010101010101","job":"job_018bcfe5-6800-7707-8707-070707070707","#,
        r#""prev":"0000000000000000000000000000000000000000000000000000000000000000","role":"submitter","#,
        r#""seq":1,"version":1}"#
    );
    assert_eq!(record.hash, df_contract::Digest::of(&[b"\0", text.as_bytes()].concat()));
}

#[test]
fn states_that_differ_from_the_log_are_found() {
    let cases: Vec<fn(&mut Current)> = vec![
        |c| c.state = JobState::Completed,
        |c| c.resume_to = Some(JobState::Approved),
        |c| c.version += 1,
        |c| c.audit_seq -= 1,
        |c| c.audit_head = df_contract::Digest::zero(),
        |c| c.tasks.clear(),
        |c| _ = c.tasks.insert("intake".parse().unwrap(), (TaskState::Succeeded, 4)),
        |c| _ = c.tasks.insert("other".parse().unwrap(), (TaskState::Ready, 0)),
    ];
    for change in cases {
        let mut changed = current();
        change(&mut changed);
        let verified = verify_export(export(chain_of(story()), changed.clone()), &SMALL);
        assert_eq!(verified.findings.len(), 1, "{changed:?}: {:?}", verified.findings);
    }
}

#[test]
fn records_without_a_row_and_cut_ends_are_found() {
    let lines = chain_of(story()).into_iter().map(ExportLine::Record);
    let verified = verify_export(lines, &SMALL);
    assert_eq!(verified.findings, vec![Finding::NoRow { job: job(), records: 11 }]);
    for keep in 0..11 {
        let cut = chain_of(story()).into_iter().take(keep).collect();
        assert!(!verify_export(export(cut, current()), &SMALL).findings.is_empty(), "{keep} kept");
    }
}

#[test]
fn a_well_hashed_lie_about_a_transition_is_found() {
    let lies: Vec<Told> = vec![
        (1, None, job_move("decided_approved", "DRAFT", "APPROVED", None)),
        (1, None, job_move("analysis_started", "DRAFT", "APPROVED", None)),
        (1, None, job_move("analysis_started", "PAUSED", "GOVERNANCE_ANALYSIS", None)),
        (9, None, job_move("paused", "APPROVED", "PAUSED", Some("DEPLOYABLE"))),
        (
            3,
            Some(("intake", 2)),
            json!({"kind": "task", "event": "claimed", "from": "READY", "to": "LEASED"}),
        ),
        (3, Some(("ghost", 1)), json!({"kind": "task", "event": "claimed", "from": "READY", "to": "LEASED"})),
        (3, Some(("intake", 0)), json!({"kind": "task_created", "state": "READY"})),
        (3, Some(("new", 0)), json!({"kind": "task_created", "state": "SUCCEEDED"})),
        (3, None, json!({"kind": "task", "event": "claimed", "from": "READY", "to": "LEASED"})),
        (4, None, json!({"kind": "submitted"})),
        (4, None, json!({"no": "kind"})),
    ];
    for (at, task, body) in lies {
        let (mut told, at) = (story(), at as usize);
        told[at] = (told[at].0, task, body.clone());
        let records = chain_of(told);
        assert!(verify_chain(&records).is_ok(), "the chain itself holds");
        assert!(verify_job(&records, &SMALL).is_err(), "{body}");
    }
}

#[test]
fn versions_rise_by_one_per_command() {
    for (at, version) in [(0, 2), (3, 2), (3, 4), (10, 7), (10, 10)] {
        let mut told = story();
        told[at].0 = version;
        assert!(verify_job(&chain_of(told), &SMALL).is_err(), "version {version} at {at}");
    }
}

#[test]
fn integers_beyond_a_double_keep_their_digits() {
    let record =
        append(&Tip::empty(), entry(1, None, json!({"n": u64::MAX, "m": MAX_EXACT_INTEGER}))).unwrap();
    assert_eq!(record.body, json!({"n": u64::MAX.to_string(), "m": MAX_EXACT_INTEGER}));
    let mut forged = record;
    forged.body = json!({"n": u64::MAX, "m": MAX_EXACT_INTEGER});
    assert_eq!(forged.computed_hash(), Err(AuditError::Inexact { job: job(), seq: 1 }));
}

proptest! {
    /// In the text of the export: whatever one bit is turned, either nothing changed in meaning or it is found.
    #[test]
    fn a_flipped_bit_anywhere_is_found(line in 0usize..12, at: proptest::sample::Index, bit in 0u8..8) {
        let mut lines = export(chain_of(story()), current());
        let mut bytes = serde_json::to_vec(&lines[line]).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(changed) = serde_json::from_slice::<ExportLine>(&bytes)
            && changed != lines[line]
        {
            lines[line] = changed;
            prop_assert!(!verify_export(lines, &SMALL).findings.is_empty());
        }
    }

    #[test]
    fn dropped_swapped_and_repeated_records_are_found(a in 0usize..11, b in 0usize..11) {
        let whole = chain_of(story());
        let mut dropped = whole.clone();
        dropped.remove(a);
        prop_assert!(!verify_export(export(dropped, current()), &SMALL).findings.is_empty());
        if a != b {
            let mut swapped = whole.clone();
            swapped.swap(a, b);
            prop_assert!(verify_chain(&swapped).is_err());
        }
        let mut repeated = whole.clone();
        repeated.insert(b, whole[a].clone());
        prop_assert!(verify_chain(&repeated).is_err());
    }

    /// A record that the chain itself would accept in the middle unlinks all that follow.
    #[test]
    fn an_inserted_record_is_found(at in 0usize..11) {
        let mut records = chain_of(story());
        let tip = match at {
            0 => Tip::empty(),
            n => Tip { seq: records[n - 1].seq, head: records[n - 1].hash.clone() },
        };
        let version = records[at].version;
        records.insert(at, append(&tip, entry(version, None, json!({"kind": "voted"}))).unwrap());
        prop_assert!(verify_chain(&records).is_err());
    }
}
