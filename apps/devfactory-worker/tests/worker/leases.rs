//! Each kind of lease, as it should go and as it should not.

use df_contract::lease::Work;
use df_contract::task::{Product, TaskConstraints, TaskInput, TreeRef};
use df_contract::{AgentTask, DurationMs, FailureKind, HiddenCheck, NetworkMode, Role, Source, Tokens};
use serde_json::json;

use crate::daemon::call;
use crate::{World, absent, attempt, check, job};

fn intake(source: Source) -> Work {
    Work::Intake { source, protected_paths: vec![] }
}

#[tokio::test]
async fn intake_makes_a_base_and_facts_of_every_readable_source() {
    let w = World::new().await;
    let Product::Intake { facts, base } = w.product(intake(Source::Empty)).await else { panic!() };
    assert_eq!((facts.files, w.files(&base).await), (0, vec![]));

    let tree = w.tree(None, &[("a.py", "x = 1\n"), ("requirements.txt", "requests==2.32.0\n")]).await;
    let source = Source::Bundle { digest: tree.bundle.clone() };
    let Product::Intake { facts, base } = w.product(intake(source)).await else { panic!() };
    assert_eq!(base.revision, tree.revision, "a bundle's own commit is the base");
    assert_eq!(facts.files, 2);
    assert_eq!(facts.languages.get("python"), Some(&1));
    assert!(facts.dependencies.iter().any(|d| d.name == "requests"), "{facts:?}");

    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(2);
    header.set_mode(0o644);
    archive.append_data(&mut header, "dir/a.txt", &b"hi"[..]).unwrap();
    let digest = w.stage.blob(archive.into_inner().unwrap());
    let Product::Intake { base, .. } = w.product(intake(Source::Tarball { digest })).await else { panic!() };
    assert_eq!(w.files(&base).await, [("dir/a.txt".to_owned(), "hi".to_owned())]);
}

#[tokio::test]
async fn intake_says_why_a_source_is_unreadable() {
    let w = World::new().await;
    let junk = w.stage.blob(b"junk".to_vec());
    let cases = [
        (Source::Bundle { digest: junk.clone() }, "bundle"),
        (Source::Tarball { digest: junk }, "tar"),
        (Source::Path { path: "/home/u/src".into() }, "submitter's machine"),
        (Source::Git { url: "https://git.invalid/x.git".into(), revision: None }, "allowed_git_urls"),
        (Source::Git { url: "ext::sh -c id".into(), revision: None }, "allowed_git_urls"),
    ];
    for (source, expect) in cases {
        let (kind, detail) = w.failure(intake(source)).await;
        assert_eq!(kind, FailureKind::SourceUnreadable, "{detail}");
        assert!(detail.contains(expect), "{detail}");
    }
}

#[tokio::test]
async fn an_allowed_url_is_fetched() {
    let source = tempfile::tempdir().unwrap();
    let w =
        World::with(&format!("allowed_git_urls = [\"file://{}\"]", source.path().display()), |_| {}).await;
    let tree = w.tree(None, &[("a", "1")]).await;
    std::fs::write(source.path().join("b"), &w.stage.scene().blobs[&tree.bundle]).unwrap();
    let cloned = std::process::Command::new("git")
        .args(["clone", "-q", "--bare", "b", "r.git"])
        .current_dir(source.path())
        .status();
    assert!(cloned.unwrap().success());
    let url = format!("file://{}/r.git", source.path().display());
    let Product::Intake { base, .. } = w.product(intake(Source::Git { url, revision: None })).await else {
        panic!()
    };
    assert_eq!(base.revision, tree.revision);
}

pub(crate) fn task(w: &World, base: &TreeRef, role: Role, paths: &[&str]) -> AgentTask {
    AgentTask {
        id: "task".parse().unwrap(),
        job: job(),
        r#type: role,
        title: "Do it".into(),
        instructions: "Do it.".into(),
        input: TaskInput::default(),
        expected_outputs: vec![],
        checks: vec![],
        constraints: TaskConstraints {
            paths: paths.iter().map(|p| (*p).to_owned()).collect(),
            protected_paths: vec![],
            network: NetworkMode::None,
            dependencies: vec![],
            max_steps: 20,
            max_tokens: Tokens(100_000),
            max_nano_usd: None,
            max_wall_ms: DurationMs::from_secs(120),
        },
        base: base.clone(),
        attempt: attempt(),
        epoch: 1,
        model_endpoint: w.stage.address.clone(),
        model: "m".into(),
        agent: None,
        agent_digest: None,
        model_token: "grant".into(),
    }
}

pub(crate) fn finish() -> serde_json::Value {
    call("finish", json!({"summary": "done", "commit_message": "Add it"}))
}

#[tokio::test]
async fn an_agents_work_is_committed_without_by_products() {
    let w = World::new().await;
    let base = w.tree(None, &[("README.md", "r"), ("old.py", "x")]).await;
    let poison = "mkdir -p .git/hooks __pycache__ && echo '[core] fsmonitor=touch /tmp/x' > .git/config && \
                  echo x > __pycache__/a.pyc && echo '* filter=evil' > src/.gitattributes && rm src/gone.py; \
                  mkfifo src/pipe; test ! -e /etc/shadow && id -u";
    w.stage.scene().answers = [
        call("write", json!({"path": "src/a.py", "content": "print(1)\n"})),
        call("write", json!({"path": "src/gone.py", "content": "x\n"})),
        call("exec", json!({"command": poison})),
        finish(),
    ]
    .into();
    let mut task = task(&w, &base, Role::Backend, &["src/**"]);
    task.checks = vec![check("runs", "test \"$(python3 src/a.py)\" = 1")];
    let report = w.report(Work::Agent { task: Box::new(task) }).await;
    let df_contract::AttemptOutcome::Succeeded { product } = report.outcome else {
        panic!("{:?}", report.outcome)
    };
    let Product::Change { tree, result } = product else { panic!() };
    let names: Vec<String> = w.files(&tree).await.into_iter().map(|(p, _)| p).collect();
    assert_eq!(names, ["README.md", "old.py", "src/.gitattributes", "src/a.py"]);
    assert!(result.checks.iter().all(|c| c.passed) && result.checks.len() == 1, "{:?}", result.checks);
    assert!(result.artefacts.contains_key("trace"));
    for layer in ["namespaces", "seccomp", "no_network", "unprivileged_uid"] {
        assert!(report.sandbox_layers.iter().any(|l| l == layer), "{layer}: {:?}", report.sandbox_layers);
    }
}

fn stray() -> [serde_json::Value; 3] {
    [
        call("write", json!({"path": "src/a.py", "content": "1\n"})),
        call("exec", json!({"command": "echo x > evil.txt; rm LICENSE; true"})),
        finish(),
    ]
}

#[tokio::test]
async fn what_a_command_wrote_outside_the_paths_is_put_back() {
    let w = World::new().await;
    let base = w.tree(None, &[("README.md", "r"), ("LICENSE", "l")]).await;
    w.stage.scene().answers = stray().into();
    let work = Work::Agent { task: Box::new(task(&w, &base, Role::Backend, &["src/**"])) };
    let Product::Change { tree, .. } = w.product(work).await else { panic!() };
    let names: Vec<String> = w.files(&tree).await.into_iter().map(|(p, _)| p).collect();
    assert_eq!(names, ["LICENSE", "README.md", "src/a.py"]);
}

/// The agent does not remember a tree with large files well enough to put things back: then the fence must hold.
#[tokio::test]
async fn writing_outside_the_paths_is_a_policy_breach_that_names_them() {
    let w = World::new().await;
    let large = "0".repeat(5 * 1024 * 1024);
    let base = w.tree(None, &[("README.md", "r"), ("LICENSE", "l"), ("large.bin", &large)]).await;
    w.stage.scene().answers = stray().into();
    let (kind, detail) =
        w.failure(Work::Agent { task: Box::new(task(&w, &base, Role::Backend, &["src/**"])) }).await;
    assert_eq!(kind, FailureKind::PolicyBreach);
    assert!(detail.contains("`LICENSE`") && detail.contains("`evil.txt`"), "{detail}");
    assert!(!detail.contains("src/a.py"), "{detail}");
}

/// What was there before, and what was granted, may be named.
#[tokio::test]
async fn a_package_that_was_not_granted_is_refused_by_its_name() {
    let w = World::new().await;
    let base = w.tree(None, &[("requirements.txt", "flask==3.0.0\n")]).await;
    for (added, refused) in [("requests==2.0", true), ("pytest", false)] {
        let content = format!("flask==3.0.0\n{added}\n");
        w.stage.scene().answers =
            [call("write", json!({"path": "requirements-dev.txt", "content": content})), finish()].into();
        let mut task = task(&w, &base, Role::Backend, &["requirements-dev.txt"]);
        task.constraints.dependencies = vec!["pypi:pytest".into()];
        let work = Work::Agent { task: Box::new(task) };
        if refused {
            let (kind, detail) = w.failure(work).await;
            assert_eq!(kind, FailureKind::DependencyRefused);
            assert!(detail.ends_with("not granted: pypi:requests"), "{detail}");
        } else {
            w.product(work).await;
        }
    }
}

#[tokio::test]
async fn a_merge_that_pins_a_package_twice_is_a_conflict_of_packages() {
    let w = World::new().await;
    let base = w.tree(None, &[("a", "a")]).await;
    let head = w.tree(Some(&base), &[("a", "a"), ("requirements.txt", "flask==3.0.0\n")]).await;
    let project = "[project]\nname = \"x\"\nversion = \"1\"\ndependencies = [\"flask==2.0.0\"]\n";
    let change = w.tree(Some(&base), &[("a", "a"), ("pyproject.toml", project)]).await;
    let mut work = integrate(&head, &change, vec![]);
    let Work::Integrate { paths, .. } = &mut work else { unreachable!() };
    *paths = vec!["pyproject.toml".into()];
    let (kind, detail) = w.failure(work).await;
    assert_eq!(kind, FailureKind::DependencyConflict);
    assert!(detail.contains("2.0.0 in `pyproject.toml` and 3.0.0 in `requirements.txt`"), "{detail}");
}

#[tokio::test]
async fn a_link_out_of_the_workspace_is_refused() {
    let w = World::new().await;
    let base = w.tree(None, &[("README.md", "r")]).await;
    w.stage.scene().answers =
        [call("exec", json!({"command": "mkdir src && ln -s /etc/passwd src/p"})), finish()].into();
    let (kind, detail) =
        w.failure(Work::Agent { task: Box::new(task(&w, &base, Role::Backend, &["src/**"])) }).await;
    assert_eq!(kind, FailureKind::ContractBreach);
    assert!(detail.contains("`src/p` is a symbolic link"), "{detail}");
}

#[tokio::test]
async fn nothing_done_is_no_success_unless_checks_say_so() {
    let w = World::new().await;
    let base = w.tree(None, &[("README.md", "r")]).await;
    w.stage.scene().answers = [finish(), finish()].into();
    let bare = task(&w, &base, Role::Backend, &["src/**"]);
    let (kind, _) = w.failure(Work::Agent { task: Box::new(bare.clone()) }).await;
    assert_eq!(kind, FailureKind::ContractBreach);
    let checked = AgentTask { checks: vec![check("there", "test -f README.md")], ..bare };
    let Product::Change { tree, .. } = w.product(Work::Agent { task: Box::new(checked) }).await else {
        panic!()
    };
    assert_ne!(tree.revision, base.revision);
}

#[tokio::test]
async fn a_coordinator_returns_a_plan_and_no_tree() {
    let w = World::new().await;
    let base = w.tree(None, &[("README.md", "r")]).await;
    let plan = json!({"summary": "s", "tasks": [{"slug": "api", "role": "backend", "title": "t",
        "instructions": "i", "depends_on": [], "paths": ["src/**"], "expected_outputs": [], "checks": []}]});
    w.stage.scene().answers = [call("propose_plan", plan)].into();
    let work = Work::Agent { task: Box::new(task(&w, &base, Role::Coordinator, &[])) };
    let Product::Plan { plan, result } = w.product(work).await else { panic!() };
    assert_eq!(plan.tasks[0].slug.as_str(), "api");
    assert_eq!(result.tree, None);
}

pub(crate) fn integrate(head: &TreeRef, change: &TreeRef, checks: Vec<df_contract::AcceptanceCheck>) -> Work {
    Work::Integrate {
        task: "api".parse().unwrap(),
        title: "Add the API".into(),
        head: head.clone(),
        change: change.clone(),
        paths: vec!["src/**".into()],
        protected_paths: vec!["src/frozen/**".into()],
        role: Role::Backend,
        checks,
        rechecks: vec![],
    }
}

#[tokio::test]
async fn integration_merges_and_runs_the_checks_on_the_merged_tree() {
    let w = World::new().await;
    let base = w.tree(None, &[("a", "1")]).await;
    let head = w.tree(Some(&base), &[("a", "1"), ("web/i.html", "w")]).await;
    let change = w.tree(Some(&base), &[("a", "1"), ("src/x", "s")]).await;
    let both = vec![check("both", "test -f web/i.html && test -f src/x")];
    let Product::Merge { tree, checks } = w.product(integrate(&head, &change, both)).await else { panic!() };
    assert_eq!(w.files(&tree).await.len(), 3);
    assert!(checks[0].passed);

    let failing = vec![check("never", "echo why it failed; exit 3")];
    let (kind, detail) = w.failure(integrate(&head, &change, failing)).await;
    assert_eq!(kind, FailureKind::CheckFailure);
    assert!(detail.contains("`never` failed (exit 3)") && detail.contains("why it failed"), "{detail}");
}

#[tokio::test]
async fn integration_refuses_conflicts_and_paths_it_was_not_promised() {
    let w = World::new().await;
    let base = w.tree(None, &[("src/x", "1")]).await;
    let head = w.tree(Some(&base), &[("src/x", "2")]).await;
    let change = w.tree(Some(&base), &[("src/x", "3")]).await;
    let (kind, detail) = w.failure(integrate(&head, &change, vec![])).await;
    assert_eq!(kind, FailureKind::MergeConflict);
    assert!(detail.contains("src/x"), "{detail}");

    let outside = w.tree(Some(&base), &[("src/x", "1"), ("Dockerfile", "FROM x")]).await;
    let (kind, detail) = w.failure(integrate(&base, &outside, vec![])).await;
    assert_eq!(kind, FailureKind::PolicyBreach);
    assert!(detail.contains("`Dockerfile`"), "{detail}");

    let frozen = w.tree(Some(&base), &[("src/x", "1"), ("src/frozen/y", "y")]).await;
    let (kind, detail) = w.failure(integrate(&base, &frozen, vec![])).await;
    assert_eq!(kind, FailureKind::PolicyBreach);
    assert!(detail.contains("touches `src/frozen/y`, where"), "{detail}");

    let forged = TreeRef { revision: absent(), bundle: base.bundle.clone() };
    let (kind, detail) = w.failure(integrate(&base, &forged, vec![])).await;
    assert_eq!(kind, FailureKind::Infrastructure);
    assert!(detail.contains("has no revision"), "{detail}");
}

#[tokio::test]
async fn validation_reports_facts_and_nothing_of_a_hidden_check() {
    let w = World::new().await;
    let base = w.tree(None, &[("a", "1")]).await;
    // The tree tries to bring its own hidden check along.
    let files =
        [("a", "2"), (".devfactory-hidden/run.sh", "exit 0\n"), ("Dockerfile", "FROM x\nEXPOSE 8080\n")];
    let head = w.tree(Some(&base), &files).await;
    let mut archive = tar::Builder::new(Vec::new());
    let body = b"echo SECRET-OF-THE-CHECK; grep -q 2 a && exit 7\n";
    let mut header = tar::Header::new_gnu();
    header.set_size(body.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, "run.sh", &body[..]).unwrap();
    let blob = Some(w.stage.blob(archive.into_inner().unwrap()));
    let hidden = vec![HiddenCheck {
        id: "h".into(),
        public_hint: "a".into(),
        blob,
        path: None,
        command: "sh .devfactory-hidden/run.sh".into(),
        timeout_ms: DurationMs::from_secs(60),
    }];
    let acceptance =
        vec![check("sees", "ls .devfactory-hidden; echo shown > made"), check("fresh", "test ! -e made")];
    let before = w.stage.scene().blobs.len();
    let work = Work::Validate { base, head: head.clone(), acceptance, hidden };
    let Product::Gate { facts } = w.product(work).await else { panic!() };
    assert_eq!(facts.artefact, head.bundle);
    assert_eq!(facts.changed_paths.len(), 3);
    assert!(facts.source.ports.iter().any(|p| p.port == 8080), "{:?}", facts.source);
    assert!(
        facts.acceptance.iter().all(|c| c.passed),
        "each check has a tree of its own: {:?}",
        facts.acceptance
    );
    let h = &facts.hidden[0];
    assert!(!h.passed, "the tree's own script must not stand in for the check");
    assert_eq!((h.output_tail.as_str(), &h.log, h.exit_code), ("", &None, None));
    let scene = w.stage.scene();
    let secret = |bytes: &[u8]| bytes.windows(19).any(|w| w == b"SECRET-OF-THE-CHECK");
    let leaked = scene.blobs.values().filter(|b| secret(b)).count();
    assert_eq!(leaked, 1, "only the check's own blob holds it");
    assert!(scene.lines.iter().all(|l| !l.text.contains("SECRET")));
    assert_eq!(
        scene.blobs.len(),
        before + 1,
        "one log: `fresh` printed nothing, the hidden check's stays here"
    );
}

#[tokio::test]
async fn what_is_wrong_with_a_hidden_check_does_not_show_its_files() {
    let w = World::new().await;
    let head = w.tree(None, &[("a", "1")]).await;
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    archive.append_link(&mut header, "SECRET-NAME", "/etc/SECRET-TARGET").unwrap();
    let linked = Some(w.stage.blob(archive.into_inner().unwrap()));
    let hidden = |blob, command: String| HiddenCheck {
        id: "h".into(),
        public_hint: "a".into(),
        blob,
        path: None,
        command,
        timeout_ms: DurationMs::from_secs(60),
    };
    for check in [hidden(linked, "true".into()), hidden(None, "SECRET\0".into())] {
        let work = Work::Validate {
            base: head.clone(),
            head: head.clone(),
            acceptance: vec![],
            hidden: vec![check],
        };
        let (_, detail) = w.failure(work).await;
        assert!(detail.contains("hidden check `h`") && !detail.contains("SECRET"), "{detail}");
    }
    assert!(w.stage.scene().lines.iter().all(|l| !l.text.contains("SECRET")));
}

#[tokio::test]
async fn other_accounts_cannot_look_into_attempts() {
    use std::os::unix::fs::PermissionsExt;
    let w = World::new().await;
    w.product(intake(Source::Empty)).await;
    let mode = std::fs::metadata(w.path("work/attempts")).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
}

#[tokio::test]
async fn delivery_makes_artefacts_and_fills_a_named_directory() {
    let out = tempfile::tempdir().unwrap();
    let more = format!("[targets.shelf]\nkind = \"directory\"\npath = \"{}\"\n", out.path().display());
    let w = World::with(&more, |_| {}).await;
    let head = w.tree(None, &[("a", "1"), ("d/b", "2")]).await;
    let deliver = |target: &str| Work::Deliver {
        target: target.into(),
        head: head.clone(),
        documents: [("report.md".to_owned(), "# R\n".to_owned())].into(),
    };
    let Product::Delivery { artefacts } = w.product(deliver("bundle")).await else { panic!() };
    let names: Vec<&str> = artefacts.keys().map(String::as_str).collect();
    assert_eq!(names, ["report.md", "repository.bundle", "tree.tar"]);
    assert_eq!(w.stage.scene().blobs[&artefacts["report.md"]], b"# R\n");
    let Product::Delivery { artefacts: again } = w.product(deliver("bundle")).await else { panic!() };
    assert_eq!(artefacts["tree.tar"], again["tree.tar"]);

    for _ in 0..2 {
        let Product::Delivery { .. } = w.product(deliver("shelf")).await else { panic!() };
        let placed = out.path().join(job().to_string());
        assert_eq!(std::fs::read_to_string(placed.join("d/b")).unwrap(), "2");
        assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 1, "nothing is left beside it");
    }
    let (kind, detail) = w.failure(deliver("moon")).await;
    assert_eq!(kind, FailureKind::PolicyBreach);
    assert!(detail.contains("`moon`"), "{detail}");
}
