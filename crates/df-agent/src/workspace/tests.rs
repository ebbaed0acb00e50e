use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn workspace() -> (tempfile::TempDir, Workspace) {
    let dir = tempfile::tempdir().unwrap();
    let open = Workspace::open(dir.path()).unwrap();
    (dir, open)
}

#[test]
fn paths_are_made_relative_or_refused() {
    for (given, expect) in [
        ("a/b.py", "a/b.py"),
        ("./a", "a"),
        ("a/", "a"),
        ("a/./b", "a/b"),
        ("/workspace/a", "a"),
        ("/workspace", "."),
        ("/workspace/", "."),
        (".", "."),
        ("./", "."),
        ("ไทย.md", "ไทย.md"),
    ] {
        assert_eq!(relative(given).as_deref(), Ok(expect), "{given}");
    }
    for wrong in
        ["", "/", "/etc/passwd", "../a", "a/../b", "a//b", "/workspacex", "/workspace/../x", "a\nb", "a\0"]
    {
        assert!(matches!(relative(wrong), Err(FileError::BadPath(_))), "{wrong:?}");
    }
}

#[test]
fn links_out_of_the_tree_are_neither_read_nor_written() {
    let (dir, open) = workspace();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "s").unwrap();
    symlink(outside.path().join("secret"), dir.path().join("file")).unwrap();
    symlink(outside.path(), dir.path().join("dir")).unwrap();
    symlink(".", dir.path().join("self")).unwrap();
    std::fs::write(dir.path().join("real"), "r").unwrap();
    symlink("real", dir.path().join("inner")).unwrap();
    // Also links that stay inside: what they point to may have other rights.
    for path in ["file", "dir/secret", "self/file", "self/real", "inner"] {
        assert_eq!(open.read(path), Err(FileError::Link(path.into())));
        assert_eq!(open.replace(path, b"x"), Err(FileError::Link(path.into())));
    }
    assert_eq!(open.replace("dir/new", b"x"), Err(FileError::Link("dir/new".into())));
    assert_eq!(open.remove("dir/secret"), Err(FileError::Link("dir/secret".into())));
    assert_eq!(std::fs::read(outside.path().join("secret")).unwrap(), b"s");
    assert!(!outside.path().join("new").exists());
    open.remove("file").unwrap();
    assert!(outside.path().join("secret").exists());
}

#[test]
fn a_pipe_neither_blocks_nor_is_a_file() {
    let (dir, open) = workspace();
    for name in ["pipe", ".gitignore"] {
        rustix::fs::mknodat(CWD, dir.path().join(name), FileType::Fifo, Mode::from_raw_mode(0o600), 0)
            .unwrap();
    }
    assert_eq!(open.read("pipe"), Err(FileError::NotAFile("pipe".into())));
    assert_eq!(open.replace("pipe", b"x"), Err(FileError::NotAFile("pipe".into())));
    let kinds: Vec<Kind> = open.list(".").unwrap().found.iter().map(|f| f.kind).collect();
    assert_eq!(kinds, [Kind::Other, Kind::Other]);
}

#[test]
fn replacing_keeps_the_mode_and_makes_directories() {
    let (dir, open) = workspace();
    let script = dir.path().join("run.sh");
    std::fs::write(&script, "old").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o750)).unwrap();
    open.replace("run.sh", b"new").unwrap();
    assert_eq!(std::fs::read(&script).unwrap(), b"new");
    assert_eq!(std::fs::metadata(&script).unwrap().permissions().mode() & 0o777, 0o750);
    open.replace("a/b/c.txt", b"deep").unwrap();
    assert_eq!(open.read_text("a/b/c.txt").unwrap(), "deep");
    assert_eq!(open.replace("a", b"x"), Err(FileError::Directory("a".into())));
    assert_eq!(open.replace("run.sh/x", b"x"), Err(FileError::NotAFile("run.sh/x".into())));
    let names: Vec<String> = open.list(".").unwrap().found.into_iter().map(|f| f.path).collect();
    assert_eq!(names, ["a/b/c.txt", "run.sh"]);
}

#[test]
fn files_over_the_limit_are_refused() {
    let (dir, open) = workspace();
    let file = File::create(dir.path().join("big")).unwrap();
    file.set_len(FILE_BYTES_MAX + 1).unwrap();
    let expect = FileError::TooLarge { path: "big".into(), bytes: FILE_BYTES_MAX + 1 };
    assert_eq!(open.read("big"), Err(expect));
}

#[test]
fn ignore_files_nest_and_may_take_back() {
    let (_dir, open) = workspace();
    for (path, text) in [
        (".gitignore", "*.log\n/build/\n"),
        ("a.log", ""),
        ("build/x", ""),
        ("sub/.gitignore", "!keep.log\nsecret\n"),
        ("sub/keep.log", ""),
        ("sub/other.log", ""),
        ("sub/secret", ""),
        ("sub/build/y", ""),
        ("pkg/__pycache__/m.pyc", ""),
        (".git/config", ""),
    ] {
        open.replace(path, text.as_bytes()).unwrap();
    }
    let paths =
        |from: &str| -> Vec<String> { open.list(from).unwrap().found.into_iter().map(|f| f.path).collect() };
    assert_eq!(paths("."), [".gitignore", "sub/.gitignore", "sub/build/y", "sub/keep.log"]);
    assert_eq!(paths("sub"), ["sub/.gitignore", "sub/build/y", "sub/keep.log"]);
}
