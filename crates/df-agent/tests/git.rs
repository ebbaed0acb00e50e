//! Git with hostile trees, bundles and archives: real git, temporary directories, canaries that must stay silent.

#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use std::path::{Path, PathBuf};
use std::process::Command;

use df_agent::git::{
    CommitSpec, Git, GitError, Identity, MergeOutcome, Repo, Sides, TreeMode, list_files, pack_tar,
    unpack_tar,
};
use df_contract::{Revision, Timestamp};
use tempfile::TempDir;

const AT: Timestamp = Timestamp::from_millis(1_700_000_000_000);

struct Bench {
    dir: TempDir,
    git: Git,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let git = Git::new(&dir.path().join("home")).unwrap();
        Self { dir, git }
    }
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    async fn repo(&self, name: &str) -> Repo {
        Repo::init(&self.git, &self.path(name)).await.unwrap()
    }
    fn tree(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let root = self.path(name);
        for (path, content) in files {
            let to = root.join(path);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::write(to, content).unwrap();
        }
        std::fs::create_dir_all(&root).unwrap();
        root
    }
}

async fn commit(repo: &Repo, tree: &Path, branch: &str, parent: Option<&Revision>) -> Revision {
    let links = match parent {
        Some(parent) => repo.files(parent).await.unwrap(),
        None => vec![],
    };
    let branch = format!("refs/heads/df/{branch}");
    let spec = CommitSpec { branch: &branch, parent, message: "m", author: Identity::of("backend"), at: AT };
    repo.commit(list_files(tree).unwrap(), &links, spec).await.unwrap()
}

/// Git as a submitter would use it, on a directory of its own.
fn user_git(dir: &Path, args: &[&str]) -> String {
    let out = Command::new("git")
        .args(["-c", "user.name=u", "-c", "user.email=u@example.invalid", "-c", "protocol.file.allow=always"])
        .args(args)
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_tree_survives_commit_bundle_import_and_checkout() {
    use std::os::unix::fs::PermissionsExt;
    let b = Bench::new();
    let tree = b.tree("tree", &[("a.txt", "one\r\n"), ("src/ไทย \"q\".py", "x"), ("run.sh", "#!/bin/sh\n")]);
    std::fs::set_permissions(tree.join("run.sh"), std::fs::Permissions::from_mode(0o4755)).unwrap();
    let repo = b.repo("one").await;
    let first = commit(&repo, &tree, "x/1", None).await;
    let again = commit(&b.repo("other").await, &tree, "x/1", None).await;
    assert_eq!(first, again, "the revision depends on the arguments alone");

    let bundle = b.path("b.bundle");
    repo.create_bundle(&first, &bundle).await.unwrap();
    let second = b.repo("two").await;
    let heads = second.import_bundle(&bundle).await.unwrap();
    assert_eq!(Repo::source_head(&heads).unwrap().revision, first);
    second.require_commit(&first).await.unwrap();
    second.checkout(&first, &b.path("out")).await.unwrap();
    let names = |root: &Path| -> Vec<(String, bool)> {
        list_files(root).unwrap().into_iter().map(|f| (f.path, f.executable)).collect()
    };
    assert_eq!(names(&b.path("out")), names(&tree));
    assert_eq!(std::fs::read(b.path("out/a.txt")).unwrap(), b"one\r\n");
    assert_eq!(std::fs::metadata(b.path("out/run.sh")).unwrap().permissions().mode() & 0o7777, 0o755);

    user_git(b.dir.path(), &["clone", "-q", bundle.to_str().unwrap(), "cloned"]);
    assert_eq!(user_git(&b.path("cloned"), &["rev-parse", "HEAD"]), first.as_str());
}

#[tokio::test]
async fn a_poisoned_tree_runs_nothing_and_loses_its_git_files() {
    let b = Bench::new();
    let canary = b.path("canary");
    let touch = format!("touch {}", canary.display());
    let config = format!(
        "[core]\n fsmonitor = {touch}\n hooksPath = hooks\n[filter \"evil\"]\n clean = {touch}\n smudge = {touch}\n\
         process = {touch}\n[diff \"evil\"]\n command = {touch}\n textconv = {touch}\n[merge \"evil\"]\n driver = {touch}\n"
    );
    let hook = format!("#!/bin/sh\n{touch}\n");
    let files = [
        (".gitattributes", "* filter=evil diff=evil merge=evil text eol=crlf ident export-subst\n"),
        (".git/config", config.as_str()),
        (".git/hooks/post-checkout", &hook),
        (".git/hooks/reference-transaction", &hook),
        ("sub/.git", "gitdir: /etc\n"),
        (".gitmodules", "[submodule \"x\"]\n path = x\n url = ext::sh -c touch\n update = !touch /tmp/x\n"),
        ("a.txt", "$Id$\n"),
    ];
    let tree = b.tree("tree", &files);
    let repo = b.repo("repo").await;
    let base = commit(&repo, &tree, "x/1", None).await;
    std::fs::write(tree.join("a.txt"), "$Id$\nmore\n").unwrap();
    let next = commit(&repo, &tree, "x/2", Some(&base)).await;
    assert_eq!(repo.changed_paths(&base, &next).await.unwrap(), ["a.txt".to_owned()].into());
    repo.checkout(&next, &b.path("out")).await.unwrap();
    assert_eq!(
        std::fs::read_to_string(b.path("out/a.txt")).unwrap(),
        "$Id$\nmore\n",
        "no filter, no ident, no eol"
    );
    let names: Vec<String> = list_files(&b.path("out")).unwrap().into_iter().map(|f| f.path).collect();
    assert_eq!(names, [".gitattributes", ".gitmodules", "a.txt"]);
    assert!(!canary.exists());
}

#[tokio::test]
async fn attributes_of_a_tree_do_not_change_a_merge() {
    let b = Bench::new();
    let repo = b.repo("repo").await;
    let union = (".gitattributes", "* merge=union\n");
    let base = commit(&repo, &b.tree("t0", &[union, ("a", "1\n")]), "b/1", None).await;
    let ours = commit(&repo, &b.tree("t1", &[union, ("a", "2\n")]), "b/2", Some(&base)).await;
    let theirs = commit(&repo, &b.tree("t2", &[union, ("a", "3\n")]), "b/3", Some(&base)).await;
    let merged = repo.merge(&ours, &theirs, "m", AT).await.unwrap();
    assert_eq!(merged, MergeOutcome::Conflict(["a".to_owned()].into()));
}

#[tokio::test]
async fn merges_join_histories_and_name_conflicts() {
    let b = Bench::new();
    let repo = b.repo("repo").await;
    let base = commit(&repo, &b.tree("t0", &[("a", "1\n"), ("gone", "x")]), "b/1", None).await;
    let left =
        commit(&repo, &b.tree("t1", &[("a", "1\n"), ("l", "l"), ("gone", "x")]), "b/2", Some(&base)).await;
    let right = commit(&repo, &b.tree("t2", &[("a", "1\n"), ("r", "r")]), "b/3", Some(&base)).await;
    let MergeOutcome::Merged(merged) = repo.merge(&left, &right, "Merge r", AT).await.unwrap() else {
        panic!()
    };
    let changed = repo.changed_paths(&base, &merged).await.unwrap();
    assert_eq!(changed, ["gone", "l", "r"].map(str::to_owned).into(), "a deletion counts as a change");
    assert_eq!(repo.merge_base(&merged, &right).await.unwrap(), right);
    let forward = repo.merge(&base, &left, "Merge l", AT).await.unwrap();
    assert!(matches!(forward, MergeOutcome::Merged(m) if m != left), "integration is a commit of its own");
}

#[tokio::test]
async fn a_merge_never_carries_a_change_to_another_path() {
    let b = Bench::new();
    let repo = b.repo("repo").await;
    let text = "1\n2\n3\n4\n5\n6\n7\n8\n";
    let base = commit(&repo, &b.tree("t0", &[("src/x", text), ("keep", "k")]), "b/1", None).await;
    // The job's branch has moved the file; the change edits it where it was.
    let ours = commit(&repo, &b.tree("t1", &[("deploy/x", text), ("keep", "k")]), "b/2", Some(&base)).await;
    let edited = format!("{text}evil\n");
    let tree = b.tree("t2", &[("src/x", &edited), ("keep", "k")]);
    let theirs = commit(&repo, &tree, "b/3", Some(&base)).await;
    // Which of the two paths is named depends on the version of git.
    let outcome = repo.merge(&ours, &theirs, "m", AT).await.unwrap();
    assert!(matches!(outcome, MergeOutcome::Conflict(_)), "the edit was carried to deploy/x: {outcome:?}");
}

#[tokio::test]
async fn a_link_stays_what_it_was_and_is_never_made_on_disk() {
    let b = Bench::new();
    let source = b.path("source");
    std::fs::create_dir(&source).unwrap();
    user_git(&source, &["init", "-q", "-b", "work"]);
    std::os::unix::fs::symlink("/etc/passwd", source.join("link")).unwrap();
    std::fs::write(source.join("a"), "1").unwrap();
    user_git(&source, &["add", "-A"]);
    user_git(&source, &["commit", "-q", "-m", "m"]);
    user_git(&source, &["bundle", "create", "-q", "../s.bundle", "work"]);

    let repo = b.repo("repo").await;
    let head = Repo::source_head(&repo.import_bundle(&b.path("s.bundle")).await.unwrap()).unwrap();
    assert_eq!(head.name, "refs/heads/work");
    repo.checkout(&head.revision, &b.path("out")).await.unwrap();
    assert_eq!(std::fs::read_to_string(b.path("out/link")).unwrap(), "/etc/passwd");
    assert!(std::fs::symlink_metadata(b.path("out/link")).unwrap().is_file());

    std::fs::write(b.path("out/a"), "2").unwrap();
    let kept = commit(&repo, &b.path("out"), "x/1", Some(&head.revision)).await;
    assert_eq!(repo.changed_paths(&head.revision, &kept).await.unwrap(), ["a".to_owned()].into());
    std::fs::write(b.path("out/link"), "/etc/shadow").unwrap();
    let changed = commit(&repo, &b.path("out"), "x/2", Some(&head.revision)).await;
    let entry = repo.files(&changed).await.unwrap().into_iter().find(|e| e.path == "link").unwrap();
    assert_eq!(entry.mode, TreeMode::File, "an agent cannot aim a link elsewhere");
}

#[test]
fn links_on_disk_are_refused() {
    let b = Bench::new();
    let tree = b.tree("tree", &[("a", "1")]);
    std::os::unix::fs::symlink("/etc/passwd", tree.join("p")).unwrap();
    assert!(matches!(list_files(&tree), Err(GitError::UnsafePath(p)) if p == "p"));
}

#[tokio::test]
async fn bundles_that_cannot_serve_are_refused_by_reason() {
    let b = Bench::new();
    let repo = b.repo("repo").await;
    std::fs::write(b.path("junk"), "not a bundle").unwrap();
    let e = repo.import_bundle(&b.path("junk")).await.unwrap_err();
    assert!(matches!(e, GitError::Bundle(_)), "{e}");

    let source = b.path("source");
    std::fs::create_dir(&source).unwrap();
    user_git(&source, &["init", "-q", "-b", "one"]);
    user_git(&source, &["commit", "-q", "--allow-empty", "-m", "1"]);
    user_git(&source, &["branch", "two"]);
    user_git(&source, &["bundle", "create", "-q", "../two.bundle", "one", "two"]);
    let heads = repo.import_bundle(&b.path("two.bundle")).await.unwrap();
    assert!(matches!(Repo::source_head(&heads), Err(GitError::NoSingleHead(names)) if names.len() == 2));
    let absent: Revision = "1".repeat(40).parse().unwrap();
    assert!(matches!(repo.require_commit(&absent).await, Err(GitError::RevisionMissing(_))));

    user_git(&source, &["commit", "-q", "--allow-empty", "-m", "2"]);
    user_git(&source, &["bundle", "create", "-q", "../thin.bundle", "two..one"]);
    let fresh = b.repo("fresh").await;
    let e = fresh.import_bundle(&b.path("thin.bundle")).await.unwrap_err();
    assert!(matches!(e, GitError::Bundle(_)), "a bundle without its history: {e}");

    let whole = std::fs::read(b.path("two.bundle")).unwrap();
    std::fs::write(b.path("cut.bundle"), &whole[..whole.len() - 10]).unwrap();
    let e = b.repo("cut").await.import_bundle(&b.path("cut.bundle")).await.unwrap_err();
    assert!(matches!(e, GitError::Bundle(_)), "{e}");
}

#[tokio::test]
async fn submodules_are_refused_and_never_fetched() {
    let b = Bench::new();
    let source = b.path("source");
    std::fs::create_dir(&source).unwrap();
    user_git(&source, &["init", "-q", "-b", "main"]);
    user_git(&source, &["commit", "-q", "--allow-empty", "-m", "1"]);
    let tip = user_git(&source, &["rev-parse", "HEAD"]);
    user_git(&source, &["update-index", "--add", "--cacheinfo", &format!("160000,{tip},vendor/lib")]);
    user_git(&source, &["commit", "-q", "-m", "2"]);
    user_git(&source, &["bundle", "create", "-q", "../s.bundle", "HEAD"]);
    let repo = b.repo("repo").await;
    let head = Repo::source_head(&repo.import_bundle(&b.path("s.bundle")).await.unwrap()).unwrap();
    let e = repo.checkout(&head.revision, &b.path("out")).await.unwrap_err();
    assert!(matches!(e, GitError::Submodule(p) if p == "vendor/lib"));
}

fn object_bytes(hex: &str) -> Vec<u8> {
    (0..20).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect()
}

/// A bundle whose tree, made by hand, holds paths git itself would not make.
#[tokio::test]
async fn a_crafted_tree_cannot_lead_a_checkout_outside() {
    for name in ["..", ".git", ".", "both", "GIT~1", ".git. ", ".g\u{200c}it"] {
        let b = Bench::new();
        let source = b.path("source");
        std::fs::create_dir(&source).unwrap();
        user_git(&source, &["init", "-q", "-b", "main"]);
        std::fs::write(source.join("blob"), "x").unwrap();
        let blob = user_git(&source, &["hash-object", "-w", "blob"]);
        let entry = |entry: &str, object: &str| [entry.as_bytes(), &[0], &object_bytes(object)].concat();
        let put_tree = |tree: Vec<u8>, file: &str| {
            std::fs::write(source.join(file), tree).unwrap();
            user_git(&source, &["hash-object", "-t", "tree", "-w", "--literally", file])
        };
        let inner = put_tree(entry("100644 escaped", &blob), "inner");
        let file = if name == "both" { entry("100644 both", &blob) } else { vec![] };
        let tree = put_tree([file, entry(&format!("40000 {name}"), &inner)].concat(), "outer");
        let tip = user_git(&source, &["commit-tree", &tree, "-m", "m"]);
        user_git(&source, &["update-ref", "refs/heads/main", &tip]);
        user_git(&source, &["bundle", "create", "-q", "../s.bundle", "HEAD"]);
        let repo = b.repo("repo").await;
        let head = Repo::source_head(&repo.import_bundle(&b.path("s.bundle")).await.unwrap()).unwrap();
        let e = repo.checkout(&head.revision, &b.path("out")).await.unwrap_err();
        assert!(matches!(e, GitError::UnsafePath(_)), "{name}: {e}");
        assert!(!b.path("escaped").exists());
    }
}

/// One tar header written by hand: the library refuses to write such names.
fn tar_with(path: &str, kind: tar::EntryType, link: &str, body: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(kind);
    header.set_size(body.len() as u64);
    header.set_mode(0o644);
    if !link.is_empty() {
        header.set_link_name_literal(link).unwrap();
    }
    header.set_cksum();
    let mut out = header.as_bytes().to_vec();
    out.extend(body);
    out.resize(out.len().div_ceil(512) * 512 + 1024, 0);
    out
}

#[test]
fn archives_that_lead_outside_or_hold_links_are_refused() {
    use tar::EntryType as Kind;
    let b = Bench::new();
    let mut count = 0;
    let mut check = |path: &str, kind: tar::EntryType, link: &str, ok: bool| {
        count += 1;
        let archive = b.path(&format!("{count}.tar"));
        std::fs::write(&archive, tar_with(path, kind, link, if kind.is_file() { b"x" } else { b"" }))
            .unwrap();
        let result = unpack_tar(&archive, &b.path(&format!("out{count}")));
        assert_eq!(result.is_ok(), ok, "{path} {kind:?}: {result:?}");
    };
    check("../escaped", Kind::Regular, "", false);
    check("a/../../escaped", Kind::Regular, "", false);
    check("/tmp/df-escaped", Kind::Regular, "", false);
    check("a/.git/../../../escaped", Kind::Regular, "", false);
    check("link", Kind::Symlink, "/etc/passwd", false);
    check("hard", Kind::Link, "/etc/passwd", false);
    check("fifo", Kind::Fifo, "", false);
    check("dev", Kind::Char, "", false);
    check("./ok/a.txt", Kind::Regular, "", true);
    check(".git/hooks/pre-commit", Kind::Regular, "", true);
    assert!(b.path("out9/ok/a.txt").exists());
    assert!(!b.path("out10/.git").exists(), "git's own files are left out");
    assert!(!b.path("escaped").exists());
}

#[test]
fn a_cut_archive_is_refused() {
    let b = Bench::new();
    let whole = tar_with("a", tar::EntryType::Regular, "", &[7; 600]);
    std::fs::write(b.path("cut.tar"), &whole[..900]).unwrap();
    assert!(matches!(unpack_tar(&b.path("cut.tar"), &b.path("out")), Err(GitError::Tar(_))));
}

#[test]
fn packing_depends_on_the_files_alone() {
    let b = Bench::new();
    let files = [("z", "1"), ("d/a", "2")];
    let (one, two) = (b.tree("one", &files), b.tree("two", &files));
    for (tree, to) in [(&one, "1.tar"), (&two, "2.tar")] {
        pack_tar(&list_files(tree).unwrap(), &b.path(to)).unwrap();
    }
    assert_eq!(std::fs::read(b.path("1.tar")).unwrap(), std::fs::read(b.path("2.tar")).unwrap());
    unpack_tar(&b.path("1.tar"), &b.path("again")).unwrap();
    assert_eq!(std::fs::read_to_string(b.path("again/d/a")).unwrap(), "2");
}

/// A branch, a change that does not fit it, and the tree both began from.
async fn clash(b: &Bench, repo: &Repo) -> [Revision; 3] {
    let first = [
        ("clean", "1\n2\n3\n4\n5\n6\n7\n8\n9\n"),
        ("clash", "a\nb\nc\n"),
        ("titled", "Title\n=======\nx\n"),
        ("ours-gone", "o\n"),
        ("theirs-gone", "t\n"),
        ("untouched-gone/only", "u\n"),
        ("binary", "\0one"),
        ("same", "s\n"),
        ("file", "f\n"),
    ];
    let base = commit(repo, &b.tree("t0", &first), "b/1", None).await;
    let ours = [
        ("clean", "1!\n2\n3\n4\n5\n6\n7\n8\n9\n"),
        ("clash", "a\nB\nc\n"),
        ("titled", "Title\n=======\ny\n"),
        ("theirs-gone", "t, edited\n"),
        ("untouched-gone/only", "u\n"),
        ("binary", "\0two"),
        ("same", "s, both\n"),
        ("file/now-a-directory", "d\n"),
        ("added", "ours\n"),
        ("room", "a file\n"),
    ];
    let ours = commit(repo, &b.tree("t1", &ours), "b/2", Some(&base)).await;
    let theirs = [
        ("clean", "1\n2\n3\n4\n5\n6\n7\n8\n9!\n"),
        ("clash", "a\nXX\nc\n"),
        ("titled", "Title\n=======\nz\n"),
        ("ours-gone", "o, edited\n"),
        ("binary", "\0three"),
        ("same", "s, both\n"),
        ("file", "f, edited\n"),
        ("added", "theirs\n"),
        ("room/below", "b\n"),
        ("fresh/new", "n\n"),
    ];
    let theirs = commit(repo, &b.tree("t2", &theirs), "b/3", Some(&base)).await;
    [ours, base, theirs]
}

#[tokio::test]
async fn a_change_that_does_not_fit_is_laid_on_top_of_the_branch() {
    let b = Bench::new();
    let repo = b.repo("repo").await;
    let [ours, base, theirs] = clash(&b, &repo).await;
    let out = b.path("out");
    repo.checkout(&ours, &out).await.unwrap();
    let sides = Sides { ours: &ours, ancestor: &base, theirs: &theirs, label: "api" };
    let laid = repo.lay(sides, &out).await.unwrap();

    assert_eq!(laid.taken, ["untouched-gone/only", "clean", "fresh/new"]);
    let marked: Vec<&str> = laid.marked.iter().map(|m| m.path.as_str()).collect();
    assert_eq!(marked, ["clash", "titled"]);
    let left: Vec<(&str, Option<&str>)> =
        laid.undecided.iter().map(|u| (u.path.as_str(), u.theirs.as_deref())).collect();
    assert_eq!(
        left,
        [
            ("theirs-gone", None),
            ("added", Some("theirs\n")),
            ("binary", None),
            ("file", Some("f, edited\n")),
            ("ours-gone", Some("o, edited\n")),
            ("room/below", Some("b\n")),
        ]
    );
    let text = |path: &str| std::fs::read_to_string(out.join(path)).unwrap();
    assert_eq!(text("clean"), "1!\n2\n3\n4\n5\n6\n7\n8\n9!\n");
    assert_eq!(
        text("clash"),
        "a\n<<<<<<< job branch\nB\n||||||| before both\nb\n=======\nXX\n>>>>>>> api\nc\n"
    );
    assert_eq!(
        (text("added"), text("room"), text("binary")),
        ("ours\n".into(), "a file\n".into(), "\0two".into())
    );
    assert!(!out.join("untouched-gone").exists() && !out.join("ours-gone").exists());

    assert!(laid.marked[0].remains(text("clash").as_bytes()));
    assert!(laid.marked[0].remains(b"a\n=======\nc\n"), "a separator of ours");
    assert!(!laid.marked[0].remains(b"a\nB and XX\nc\n"));
    assert!(!laid.marked[1].remains(b"Title\n=======\nyz\n"), "a heading of the file's own");
}

/// Lines end as Windows ends them, there are more conflicts than fit git's answer, and one side quotes markers.
#[tokio::test]
async fn conflicts_are_found_in_texts_of_any_kind() {
    let b = Bench::new();
    let repo = b.repo("repo").await;
    let many =
        |line: &str| (0..3_000).map(|n| format!("{line} {n}\nkept {n}\nkept\nkept\n")).collect::<String>();
    let (one, two, three) = (many("base"), many("ours"), many("theirs"));
    let quote = "How a conflict looks:\n<<<<<<< job branch  \n=======\t\n";
    let tree = |text: &str, word: &str| {
        [
            ("dos", format!("a\r\n{word}\r\nc\r\n")),
            ("many", text.to_owned()),
            ("quote", format!("{quote}{word}\n")),
            ("no-newline", word.to_owned()),
        ]
    };
    let mut revisions = Vec::new();
    for (n, (text, word)) in [(&one, "base"), (&two, "ours"), (&three, "theirs")].into_iter().enumerate() {
        let files = tree(text, word);
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        let parent = revisions.first().cloned();
        let tree = b.tree(&format!("m{n}"), &files);
        revisions.push(commit(&repo, &tree, &format!("m/{n}"), parent.as_ref()).await);
    }
    let [base, ours, theirs] = &revisions[..] else { unreachable!() };
    let out = b.path("out-many");
    repo.checkout(ours, &out).await.unwrap();
    let laid = repo.lay(Sides { ours, ancestor: base, theirs, label: "api" }, &out).await.unwrap();
    let marked: Vec<&str> = laid.marked.iter().map(|m| m.path.as_str()).collect();
    assert_eq!(marked, ["dos", "many", "no-newline", "quote"]);
    for marked in &laid.marked {
        let text = std::fs::read(out.join(&marked.path)).unwrap();
        assert!(marked.remains(&text), "{}", marked.path);
    }
    let many = std::fs::read_to_string(out.join("many")).unwrap();
    assert_eq!(many.matches("\n>>>>>>> api\n").count(), 3_000);
    let quoting = &laid.marked[3];
    assert!(!quoting.remains(format!("{quote}both\n").as_bytes()), "what the text quotes is its own");
    assert!(quoting.remains(b"How a conflict looks:\n||||||| before both\nx\n"));
}
