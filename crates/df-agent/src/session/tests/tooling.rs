use df_contract::Role;
use serde_json::json;

use super::support::*;

/// Runs the calls one by one, then finishes; their results.
async fn results(stage: &mut Stage, replies: Vec<Reply>) -> Vec<String> {
    let mut replies = replies;
    replies.push(finish());
    let server = Server::plays(replies).await;
    succeeded(&stage.run(&server).await);
    server.results()
}

#[track_caller]
fn check(got: &[String], expect: &[&str]) {
    for (got, expect) in got.iter().zip(expect) {
        assert!(got.contains(expect), "{got}\ndoes not contain\n{expect}");
    }
    assert_eq!(got.len(), expect.len());
}

#[tokio::test]
async fn writes_outside_the_rights_are_refused_and_counted() {
    let mut stage = Stage::new(Role::Qa, &[("src/a.py", "x\n"), ("checks/test_c.py", "x\n")]);
    let patch = "*** Begin Patch\n*** Add File: tests/test_ok.py\n+x\n*** Update File: src/a.py\n-x\n+y\n*** End Patch";
    let server = Server::plays(vec![
        call("write", json!({"path": "src/b.py", "content": ""})),
        call("apply_patch", json!({"patch": patch})),
        call("read", json!({"path": "checks/test_c.py"})),
        call("edit", json!({"path": "checks/test_c.py", "old": "x", "new": "y"})),
        call("write", json!({"path": "../tests/test_x.py", "content": ""})),
        call("write", json!({"path": "tests/test_a.py", "content": "ok\n"})),
        finish(),
    ])
    .await;
    let report = stage.run(&server).await;
    succeeded(&report);
    assert_eq!(report.denied_writes, 3);
    check(
        &server.results(),
        &[
            "`src/b.py` may not be written: it is not the class of file this role may write",
            "No file was changed.",
            "1\tx",
            "it is protected",
            "not a path inside the workspace",
            "made tests/test_a.py (1 lines, 3 bytes)",
        ],
    );
    assert_eq!((stage.file("src/a.py"), stage.file("checks/test_c.py")), ("x\n".into(), "x\n".into()));
    assert!(!stage.dir.path().join("tests/test_ok.py").exists());
}

#[tokio::test]
async fn links_made_by_commands_lead_nowhere() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("key"), "top secret").unwrap();
    let target = outside.path().display();
    let mut stage = Stage::new(Role::Backend, &[("a", "1\n")]);
    let got = results(
        &mut stage,
        vec![
            exec(&format!(
                "ln -s {target} out; ln -s {target}/key key; ln -s out/key a2; mkfifo pipe; ln -s / root"
            )),
            call("read", json!({"path": "key"})),
            call("read", json!({"path": "out/key"})),
            call("read", json!({"path": "a2"})),
            call("read", json!({"path": "pipe"})),
            call("write", json!({"path": "out/new", "content": "x"})),
            call("write", json!({"path": "key", "content": "x"})),
            call("apply_patch", json!({"patch": "*** Begin Patch\n*** Delete File: out/key\n*** End Patch"})),
            call("grep", json!({"pattern": "secret"})),
            call("grep", json!({"pattern": "secret", "path": "out"})),
            call("glob", json!({"pattern": "**"})),
        ],
    )
    .await;
    let link = "links are not followed";
    check(
        &got,
        &[
            "exit code: 0",
            link,
            link,
            link,
            "not a regular file",
            link,
            link,
            link,
            "no line matches",
            link,
            "a\na2\nkey\nout\npipe\nroot",
        ],
    );
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(std::fs::read_to_string(outside.path().join("key")).unwrap(), "top secret");
}

#[tokio::test]
async fn what_a_command_may_not_change_is_put_back() {
    let files = [("src/a.py", "a\n"), ("src/b.sh", "b\n"), ("src/c.py", "c\n"), ("tests/test_a.py", "t\n")];
    let mut stage = Stage::new(Role::Qa, &files).check("echo data > data.db; test -e tests/test_b.py");
    let server = Server::plays(vec![
        exec("echo x >> src/a.py; chmod +x src/b.sh; rm src/c.py; ln -s /etc src/c.py; mkdir new; echo n > new/n; echo t > tests/test_b.py"),
        exec("cat src/a.py src/c.py; ls new"),
        exec("rm -r src; ln -s /tmp src"),
        exec("cat src/a.py"),
        finish(),
    ])
    .await;
    let report = stage.run(&server).await;
    succeeded(&report);
    check(
        &server.results(),
        &[
            "they are as they were before: new/n, src/a.py, src/b.sh, src/c.py. This task may write: **",
            "exit code: 0\na\nc",
            "as they were before: src, src/a.py, src/b.sh, src/c.py.",
            "exit code: 0\na",
        ],
    );
    assert!(report.denied_writes >= 8);
    assert!(!stage.dir.path().join("data.db").exists());
    assert_eq!(stage.file("tests/test_b.py"), "t\n");
}

#[tokio::test]
async fn a_file_is_changed_only_as_it_was_last_seen() {
    let mut stage = Stage::new(Role::Backend, &[("a", "one\n"), ("b", "b\n")]);
    let edit = || call("edit", json!({"path": "a", "old": "one", "new": "two"}));
    let got = results(
        &mut stage,
        vec![
            edit(),
            call("write", json!({"path": "b", "content": "x"})),
            call("read", json!({"path": "/workspace/a"})),
            exec("echo one more >> a"),
            edit(),
            call("read", json!({"path": "a"})),
            edit(),
            call("edit", json!({"path": "a", "old": "one", "new": "1", "replace_all": true})),
            call("edit", json!({"path": "a", "old": "zzz", "new": "1"})),
            call("edit", json!({"path": "gone", "old": "zzz", "new": "1"})),
        ],
    )
    .await;
    check(
        &got,
        &[
            "`a` exists and has not been read",
            "`b` exists and has not been read",
            "    1\tone\n",
            "(no output)",
            "`a` has changed since it was read",
            "    2\tone more",
            "occurs 2 times (first at lines 1, 2)",
            "edited a in 2 places",
            "does not occur in the file",
            "`gone` does not exist",
        ],
    );
    assert_eq!(stage.file("a"), "1\n1 more\n");
}

#[tokio::test]
async fn a_long_output_is_cut_and_kept_whole() {
    let mut stage = Stage::new(Role::Backend, &[]);
    let server = Server::plays(vec![
        exec("seq 1 20000; exit 7"),
        call("read", json!({"path": "log:1", "offset": 12_345, "limit": 1})),
        call("read", json!({"path": "log:2"})),
        call("exec", json!({"command": "sleep 60", "timeout_s": 1})),
        finish(),
    ])
    .await;
    let report = stage.run(&server).await;
    succeeded(&report);
    let got = server.results();
    check(
        &got,
        &[
            "exit code: 7\n1\n2\n",
            "12345\t12345\n",
            "there is no log `log:2`",
            "exit code: none (stopped after 1 s)",
        ],
    );
    assert!(
        got[0].contains("bytes left out ...]")
            && got[0].contains("\n20000\n[the whole output can be read as log:1]")
    );
    assert!(got[0].len() < 14 * 1024);
    assert!(report.result.artefacts.contains_key("log-1"));
}

#[tokio::test]
async fn searches_are_sorted_and_leave_out_what_is_ignored() {
    let files = [
        (".gitignore", "out/\n"),
        ("b.py", "import os\nx = 1\n"),
        ("a/c.py", "import sys\n"),
        ("out/d.py", "import os\n"),
        ("e.txt", "import os\n"),
    ];
    let mut stage = Stage::new(Role::Backend, &files);
    let got = results(
        &mut stage,
        vec![
            call("glob", json!({"pattern": "*.py"})),
            call("glob", json!({"pattern": "a/**"})),
            call("glob", json!({"pattern": "*.rs"})),
            call("glob", json!({"pattern": "a{"})),
            call("grep", json!({"pattern": "^import (os|sys)$"})),
            call("grep", json!({"pattern": "import", "glob": "*.py", "path": "a"})),
            call("grep", json!({"pattern": "x =", "path": "b.py"})),
            call("grep", json!({"pattern": "("})),
        ],
    )
    .await;
    assert_eq!(got[..3], ["a/c.py\nb.py", "a/c.py", "no file matches"]);
    assert!(got[3].contains("not a valid pattern"));
    assert_eq!(
        got[4..7],
        [
            "a/c.py:1: import sys\nb.py:1: import os\ne.txt:1: import os",
            "a/c.py:1: import sys",
            "b.py:2: x = 1"
        ]
    );
    assert!(got[7].contains("not a valid pattern"));
}

#[tokio::test]
async fn long_files_are_read_in_parts() {
    let text: String = (1..=2_500).map(|n| format!("line {n}\n")).collect();
    let mut stage = Stage::new(Role::Backend, &[("long", &text), ("empty", ""), ("bin", "\u{0}ok")]);
    std::fs::write(stage.dir.path().join("raw"), [0xff, 0xfe]).unwrap();
    let read = |path: &str, offset: usize| call("read", json!({"path": path, "offset": offset}));
    let got = results(
        &mut stage,
        vec![
            read("long", 1),
            read("long", 2_001),
            read("long", 9_999),
            read("empty", 1),
            read("raw", 1),
            read(".", 1),
        ],
    )
    .await;
    check(
        &got,
        &[
            "[lines 1-2000 of 2500; go on with offset 2001]",
            " 2500\tline 2500",
            "line 9999 is past the end; the file has 2500 lines",
            "empty is empty",
            "`raw` is not UTF-8 text",
            "`.` is a directory",
        ],
    );
}
