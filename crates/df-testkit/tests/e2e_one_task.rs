//! One task, through all four processes: submitted, governed, built, merged, validated, delivered, accounted for.

use df_contract::{EventKind, JobEventView, JobState, Role};
use df_testkit::{
    Limit, Member, ScriptedModel, TestFactory, file_task, files_with, planned_job, write_file_task,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_one_task_is_delivered() {
    let model = ScriptedModel::start(write_file_task).await;
    let factory = TestFactory::start(model.setup()).await;
    let alice = factory.identity("alice", &[Role::Submitter]).await;
    let file = factory.root().join("job.json");
    std::fs::write(&file, planned_job("A greeting", &[file_task("greeting", &[])]).to_string()).unwrap();

    let submitted = factory.cli_as(&alice, &["--json", "submit", file.to_str().unwrap()]);
    let submitted: df_contract::api::Submitted = submitted.succeeded().json();
    let job = submitted.id.to_string();
    let watched = factory.cli_as(&alice, &["--json", "watch", &job]);
    let events: Vec<JobEventView> =
        watched.succeeded().stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let numbers: Vec<u64> = events.iter().map(|e| e.seq).collect();
    assert_eq!(numbers, (1..=events.len() as u64).collect::<Vec<_>>(), "events are numbered without gaps");
    let nothing_left = factory.cli_as(&alice, &["watch", &job, "--after", &events.len().to_string()]);
    assert_eq!(nothing_left.succeeded().stdout, "", "watching a finished job ends at once");
    let states: Vec<JobState> = events
        .iter()
        .filter_map(|e| match &e.event {
            EventKind::JobState { to, .. } => Some(*to),
            _ => None,
        })
        .collect();
    for state in
        [JobState::GovernanceAnalysis, JobState::Approved, JobState::InProgress, JobState::Validating]
    {
        assert!(states.contains(&state), "{state} is missing among {states:?}");
    }
    let view = factory.completed(submitted.id, Limit::STEP).await;
    assert!(view.gates.iter().all(|gate| gate.passed), "{:?}", view.gates);

    let out = factory.root().join("out");
    factory.cli_as(&alice, &["artifacts", &job, "--out", out.to_str().unwrap()]).succeeded();
    let delivered = std::fs::read_to_string(out.join("software/greeting.txt")).unwrap();
    assert_eq!(delivered, "this is greeting\n");

    let settled = factory.settled(submitted.id).await;
    assert_eq!(settled, model.tally().spend, "the ledger counts what the provider counted");
    factory.verify_audit();

    for member in Member::ALL {
        assert!(
            factory.log(member).contains(&job),
            "{member:?} logged nothing of {job}:\n{}",
            factory.log(member)
        );
    }
    let key_files = factory.key_files();
    let except: Vec<&std::path::Path> = key_files.iter().map(|p| p.as_path()).collect();
    assert_eq!(files_with(factory.root(), &factory.secrets(&[&alice]), &except), []);
}

/// The search for secrets must be able to find one.
#[tokio::test(flavor = "multi_thread")]
async fn keys_are_where_the_search_for_them_does_not_look() {
    let model = ScriptedModel::start(write_file_task).await;
    let factory = TestFactory::start(model.setup()).await;
    let found = files_with(factory.root(), &factory.secrets(&[]), &[]);
    let names: std::collections::BTreeSet<&str> = found.iter().map(|(_, name)| name.as_str()).collect();
    for name in ["the admin key", "the worker key", "the proxy's admin token", "the grant key"] {
        assert!(names.contains(name), "{name} was not found: {found:?}");
    }
}
