//! What a machine or an operator gets wrong: ports, data directories, a missing sandbox.

use df_contract::ErrorCode;
use df_contract::api::JobView;
use df_testkit::{
    Limit, Member, Model, ScriptedModel, Setup, TestFactory, file_task, planned_job, run_cli, write_file_task,
};

fn has_code(log: &str, code: ErrorCode) -> bool {
    log.lines().any(|line| line.contains(code.code()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_and_a_taken_data_directory_are_named() {
    let factory = TestFactory::start(Setup { without_worker: true, ..Setup::new(Model::Nobody) }).await;
    for (other_data, other_port, expect) in
        [(true, false, ErrorCode::PortInUse), (false, true, ErrorCode::StoreLocked)]
    {
        let second = factory.second_daemon(other_data, other_port);
        assert!(second.code.is_some_and(|code| code != 0), "it must refuse to run: {second:?}");
        assert!(has_code(&format!("{}\n{}", second.stdout, second.stderr), expect), "{expect:?}: {second:?}");
    }
    factory.admin().system().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_bubblewrap_refuses_to_run() {
    let bwrap = Some("/nonexistent/bwrap".into());
    let mut factory = TestFactory::start(Setup { bwrap, ..Setup::new(Model::Nobody) }).await;
    let (success, log) = factory.ended(Member::Worker).await;
    assert!(!success);
    assert!(has_code(&log, ErrorCode::SandboxUnavailable) && log.contains("bubblewrap"), "{log}");
}

/// Jobs wait for a worker; when one comes they go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_waits_for_a_worker_that_comes_late() {
    let model = ScriptedModel::start(write_file_task).await;
    let mut factory = TestFactory::start(Setup { without_worker: true, ..model.setup() }).await;
    let job = factory.admin().submit(&planned_job("Patience", &[file_task("late", &[])])).await.unwrap();
    factory.kill(Member::Daemon);
    factory.restart(Member::Daemon).await;
    factory.restart(Member::Worker).await;
    factory.completed(job.id, Limit::JOB).await;
}

#[test]
fn a_daemon_that_does_not_answer_is_named_by_the_command_line() {
    let home = tempfile::tempdir().unwrap();
    let env = [("DEVFACTORY_URL", "http://127.0.0.1:1"), ("DEVFACTORY_API_KEY", "dfk_none")];
    let asked = run_cli(home.path(), &["--json", "list"], &env, Limit::PROCESS);
    assert_eq!((asked.code, asked.problem().code), (Some(1), ErrorCode::DaemonUnreachable));
    let keyless = run_cli(home.path(), &["--json", "list"], &[], Limit::PROCESS);
    assert_eq!((keyless.code, keyless.problem().code), (Some(1), ErrorCode::Unauthenticated));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_factory_refuses_more_and_loses_nothing() {
    let mut setup = Setup { without_worker: true, ..Setup::new(Model::Nobody) };
    setup.orchestration.insert("max_open_jobs".into(), 2.into());
    let factory = TestFactory::start(setup).await;
    let job = planned_job("Waiting", &[file_task("waiting", &[])]);
    let first = factory.admin().submit(&job).await.unwrap().id;
    factory.admin().submit(&job).await.unwrap();
    assert_eq!(factory.admin().submit(&job).await.unwrap_err().code(), ErrorCode::QueueFull);
    let cancel = format!("/v1/jobs/{first}/cancel");
    factory
        .admin()
        .post::<JobView>(&cancel, &serde_json::json!({"cause": "room for another"}))
        .await
        .unwrap();
    factory.admin().submit(&job).await.unwrap();
    let again = factory.admin().post::<JobView>(&cancel, &serde_json::json!({})).await.unwrap_err();
    assert_eq!(again.code(), ErrorCode::IllegalTransition);
}
