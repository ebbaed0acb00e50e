//! `devfactory run`: one command from a job file to delivered files, with any model server, recorded, and replayed.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::path::Path;

use df_testkit::{
    CliOutput, Limit, PROVIDER_KEY, ScriptedModel, file_task, files_with, planned_job, run_cli,
    write_file_task,
};
use serde_json::Value;

/// Runs `job` in a stack of its own below `home/name`.
fn run(home: &Path, name: &str, job: &Value, more: &[&str]) -> CliOutput {
    let folder = home.join(name);
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join("job.json");
    std::fs::write(&file, job.to_string()).unwrap();
    let (data, out) = (folder.join("data"), folder.join("out"));
    let mut args = vec!["run", file.to_str().unwrap(), "--data-dir", data.to_str().unwrap()];
    args.extend(["--out", out.to_str().unwrap()]);
    args.extend(more);
    run_cli(home, &args, &[("OPENAI_API_KEY", PROVIDER_KEY)], Limit::JOB)
}

fn delivered(home: &Path, name: &str) -> String {
    std::fs::read_to_string(home.join(name).join("out/software/note.txt")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_with_a_model_server_is_recorded_and_replayed_without_it() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let recording = home.join("recording.jsonl");
    let recording = recording.to_str().unwrap();
    let job = planned_job("A note", &[file_task("note", &[])]);

    let model = ScriptedModel::start(write_file_task).await;
    let server = ["--base-url", &model.base_url(), "--model", "scripted-1", "--record", recording];
    let live = run(home, "live", &job, &server);
    let summary = &live.succeeded().stdout;
    for part in ["APPROVED", "COMPLETED", "note", "sha256:"] {
        assert!(summary.contains(part), "the summary lacks {part}:\n{summary}");
    }
    assert_eq!(delivered(home, "live"), "this is note\n");
    assert_eq!(model.tally().spend.calls, 3);
    let key = [("the provider's key", PROVIDER_KEY.to_owned())];
    assert_eq!(files_with(home, &key, &[]), [], "the key is in no file, the recording least of all");
    drop(model);

    run(home, "replayed", &job, &["--recording", recording]).succeeded();
    assert_eq!(delivered(home, "replayed"), "this is note\n");
    let log = std::fs::read_to_string(home.join("replayed/data/logs/devfactory-proxy.log")).unwrap();
    assert!(!log.contains("stale"), "a recording of this very build is not stale:\n{log}");

    let mut changed = job;
    changed["plan"]["tasks"][0]["instructions"] = "Write `note.txt` in capitals.".into();
    let refused = run(home, "changed", &changed, &["--recording", recording]);
    assert_eq!(refused.code, Some(3), "a failed job: {refused:?}");
    for part in ["FAILED", "recording_mismatch", "capitals"] {
        assert!(refused.stdout.contains(part), "it lacks {part}:\n{}", refused.stdout);
    }
    assert!(!home.join("changed/out/software").exists(), "nothing is delivered");
}

#[test]
fn mistakes_of_the_command_line_start_nothing() {
    let home = tempfile::tempdir().unwrap();
    let job = planned_job("A note", &[file_task("note", &[])]);
    for (name, more, expect) in [
        ("no-model", vec!["--base-url", "http://127.0.0.1:1/v1"], "--model"),
        ("no-server", vec!["--model", "m"], "--base-url"),
        ("both", vec!["--base-url", "http://127.0.0.1:1/v1", "--model", "m", "--recording", "r"], "either"),
    ] {
        let refused = run(home.path(), name, &job, &more);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains("config_invalid") && refused.stderr.contains(expect), "{refused:?}");
        assert!(!home.path().join(name).join("data/daemon").exists(), "{name} started a stack");
    }
}
