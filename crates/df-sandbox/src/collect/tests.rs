use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use super::*;

struct Tree {
    _dir: tempfile::TempDir,
    source: PathBuf,
    target: PathBuf,
}

fn tree() -> Tree {
    let dir = tempfile::tempdir().unwrap();
    let (source, target) = (dir.path().join("source"), dir.path().join("target"));
    fs::create_dir_all(source.join("sub")).unwrap();
    fs::create_dir(&target).unwrap();
    fs::write(dir.path().join("secret"), "host secret").unwrap();
    fs::write(source.join("sub/a.txt"), "alpha").unwrap();
    Tree { _dir: dir, source, target }
}

fn refusals(tree: &Tree) -> Vec<(String, Refusal)> {
    let limits = CollectLimits::default();
    let report = copy_out(&tree.source, &tree.target, limits).unwrap();
    let listed = snapshot(&tree.source, limits).unwrap().into_iter().filter_map(|entry| match entry.kind {
        EntryKind::Refused(why) => Some((entry.path, why)),
        EntryKind::File { .. } => None,
    });
    assert_eq!(listed.collect::<Vec<_>>(), report.skipped, "listing and copying must agree");
    report.skipped
}

#[test]
fn plain_files_come_out_without_their_set_user_id_bit() {
    let tree = tree();
    fs::write(tree.source.join("run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(tree.source.join("run"), fs::Permissions::from_mode(0o6755)).unwrap();
    assert_eq!(refusals(&tree), []);
    let mode = |path: &str| fs::metadata(tree.target.join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode("run") & 0o7100, 0o0100);
    assert_eq!(mode("sub/a.txt") & 0o7111, 0);
    assert_eq!(fs::read(tree.target.join("sub/a.txt")).unwrap(), b"alpha");
    let listed = snapshot(&tree.source, CollectLimits::default()).unwrap();
    assert_eq!(
        listed[0],
        Entry { path: "run".into(), kind: EntryKind::File { bytes: 10, executable: true } }
    );
}

#[test]
fn links_and_special_files_are_refused_and_never_opened() {
    let tree = tree();
    symlink("../secret", tree.source.join("a-link")).unwrap();
    symlink("../..", tree.source.join("b-directory-link")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, tree.source.join("c-fifo"), Mode::RWXU).unwrap();
    let _listener = UnixListener::bind(tree.source.join("d-socket")).unwrap();
    let expect = [
        ("a-link".to_owned(), Refusal::Symlink),
        ("b-directory-link".to_owned(), Refusal::Symlink),
        ("c-fifo".to_owned(), Refusal::Fifo),
        ("d-socket".to_owned(), Refusal::Socket),
    ];
    assert_eq!(refusals(&tree), expect);
    assert_eq!(fs::read_dir(&tree.target).unwrap().count(), 1);
}

#[test]
fn git_directories_and_disturbing_names_are_refused() {
    let tree = tree();
    fs::create_dir_all(tree.source.join("sub/.GIT/hooks")).unwrap();
    fs::write(tree.source.join("sub/.GIT/hooks/pre-commit"), "evil").unwrap();
    fs::write(tree.source.join(".git"), "gitdir: /somewhere").unwrap();
    fs::write(tree.source.join("new\nline"), "x").unwrap();
    let expect = [
        (".git".to_owned(), Refusal::GitDirectory),
        ("new\\nline".to_owned(), Refusal::ControlCharacter),
        ("sub/.GIT".to_owned(), Refusal::GitDirectory),
    ];
    assert_eq!(refusals(&tree), expect);
}

#[test]
fn a_source_that_is_itself_a_link_is_refused() {
    let tree = tree();
    let link = tree.source.with_file_name("link");
    symlink(&tree.source, &link).unwrap();
    let refused = copy_out(&link, &tree.target, CollectLimits::default());
    assert!(matches!(refused, Err(CollectError::Root { what: "source", .. })));
}

#[test]
fn limits_hold() {
    let tree = tree();
    fs::write(tree.source.join("big"), vec![0; 100]).unwrap();
    let all = CollectLimits::default();
    let with = |limits| snapshot(&tree.source, limits);
    let large = with(CollectLimits { file_bytes: 99, ..all }).unwrap();
    assert_eq!(large[0].kind, EntryKind::Refused(Refusal::TooLarge { limit: 99 }));
    let bytes = with(CollectLimits { total_bytes: 104, ..all });
    assert!(matches!(bytes, Err(CollectError::TooManyBytes { limit: 104 })));
    assert!(with(CollectLimits { total_bytes: 105, ..all }).is_ok());
    let entries = with(CollectLimits { entries: 2, ..all });
    assert!(matches!(entries, Err(CollectError::Walk(WalkError::TooManyEntries { limit: 2 }))));
    let depth = with(CollectLimits { depth: 0, ..all });
    assert!(matches!(depth, Err(CollectError::Walk(WalkError::TooDeep { .. }))));
    let path = with(CollectLimits { path_bytes: 8, ..all });
    assert!(matches!(path, Err(CollectError::Walk(WalkError::PathTooLong { .. }))));
}

#[test]
fn a_sparse_giant_is_refused_by_its_length() {
    let tree = tree();
    File::create(tree.source.join("sparse")).unwrap().set_len(1 << 40).unwrap();
    let limit = CollectLimits::default().file_bytes;
    assert_eq!(refusals(&tree), [("sparse".to_owned(), Refusal::TooLarge { limit })]);
}

#[test]
fn the_destination_must_be_empty() {
    let tree = tree();
    fs::write(tree.target.join("x"), "").unwrap();
    let refused = copy_out(&tree.source, &tree.target, CollectLimits::default());
    assert!(matches!(refused, Err(CollectError::DestinationNotEmpty)));
}
