use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use df_contract::Role;
use proptest::prelude::*;

use super::*;

struct Tree {
    dir: tempfile::TempDir,
    open: Workspace,
}

fn tree(files: &[(&str, &str)]) -> Tree {
    let dir = tempfile::tempdir().unwrap();
    let open = Workspace::open(dir.path()).unwrap();
    for (path, text) in files {
        open.replace(path, text.as_bytes()).unwrap();
    }
    Tree { dir, open }
}

fn snapshot(root: &Path) -> BTreeMap<String, (Vec<u8>, u32)> {
    walkdir::WalkDir::new(root)
        .into_iter()
        .map(Result::unwrap)
        .filter(|e| e.file_type().is_file())
        .map(|e| {
            let mode = e.metadata().unwrap().permissions().mode();
            (e.path().display().to_string(), (std::fs::read(e.path()).unwrap(), mode))
        })
        .collect()
}

impl Tree {
    fn apply(&self, body: &str) -> Result<Vec<(char, String)>, PatchError> {
        self.apply_as(&Rights::for_tests(Role::Backend, &["**"]), body)
    }

    fn apply_as(&self, rights: &Rights, body: &str) -> Result<Vec<(char, String)>, PatchError> {
        let before = snapshot(self.dir.path());
        let result = apply_patch(&self.open, rights, &format!("*** Begin Patch\n{body}\n*** End Patch"));
        if result.is_err() {
            assert_eq!(snapshot(self.dir.path()), before, "a failed patch changed a file");
        }
        result
    }
}

fn check_update(before: &str, hunks: &str, expect: &str) {
    let tree = tree(&[("f", before)]);
    tree.apply(&format!("*** Update File: f\n{hunks}")).unwrap();
    assert_eq!(tree.open.read_text("f").unwrap(), expect);
}

fn check_refused(before: &str, hunks: &str, expect: &str) {
    let error =
        tree(&[("f", before)]).apply(&format!("*** Update File: f\n{hunks}")).unwrap_err().to_string();
    assert!(error.contains(expect), "{error}");
}

#[test]
fn hunks_change_what_they_say() {
    check_update("a\nb\nc\n", "@@\n a\n-b\n+x\n c", "a\nx\nc\n");
    check_update("a\nb\nc\n", "-b", "a\nc\n");
    check_update("a\nb\na\nb\n", "@@ b\n-b\n+x", "a\nb\na\nx\n");
    check_update("class A\n  f\nclass B\n  f\n", "@@ class B\n-  f\n+  g", "class A\n  f\nclass B\n  g\n");
    check_update("a\nb\n", "@@ a\n+x", "a\nx\nb\n");
    check_update("a\nb\n", "@@\n+x", "a\nb\nx\n");
    check_update("", "+x", "x\n");
    check_update("a\nb\n", "@@ a\n a\n-b\n+c", "a\nc\n");
    check_update("x\ny\nx\n", "-x\n+z\n*** End of File", "x\ny\nz\n");
    check_update("a\nb\nc\nd\n", "-a\n+A\n@@\n-d\n+D", "A\nb\nc\nD\n");
    check_update("a\nb\n", "@@ -1,2 +1,2 @@\n-a\n+c", "c\nb\n");
    check_update("a\nb", "-a\n+c", "c\nb");
    check_update("a\r\nb\r\n", " a\n-b\n+c", "a\r\nc\r\n");
    check_update("a\nb\n", "-a\n-b", "");
    check_update("if x:  \n\tgo()\n", " if x:\n-go()\n+\tstop()", "if x:  \n\tstop()\n");
    check_update("say “hi”\nb\n", " say \"hi\"\n-b\n+c", "say “hi”\nc\n");
}

#[test]
fn hunks_that_do_not_fit_are_refused() {
    check_refused("a\nb\n", "-z\n+x", "does not match");
    check_refused("a\na\n", "-a\n+x", "matches at lines 1, 2");
    check_refused("a\nb\n", "@@ zz\n-a\n+x", "not in the file after line 0: zz");
    check_refused("a\nb\n", "-b\n+x\n@@\n-a\n+y", "hunk 2 of `f` does not match");
}

#[test]
fn sections_make_move_and_remove_files() {
    let tree = tree(&[("a", "1\n"), ("b", "2\n"), ("run.sh", "go\n")]);
    let script = tree.dir.path().join("run.sh");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let done = tree
        .apply("*** Add File: new/x\n+hi\n*** Delete File: a\n*** Update File: run.sh\n*** Move to: bin/run\n-go\n+went\n*** Update File: b\n-2\n+3\n*** Update File: b\n-3\n+4")
        .unwrap();
    let marks: Vec<String> = done.iter().map(|(mark, path)| format!("{mark} {path}")).collect();
    assert_eq!(marks, ["D a", "M b", "A bin/run", "A new/x", "D run.sh"]);
    assert_eq!(tree.open.read_text("b").unwrap(), "4\n");
    assert_eq!(tree.open.read_text("bin/run").unwrap(), "went\n");
    assert_eq!(tree.open.mode("bin/run").unwrap(), Some(0o755));
}

#[test]
fn a_patch_that_cannot_apply_whole_changes_nothing() {
    let good = "*** Update File: a\n-1\n+changed\n";
    for (bad, expect) in [
        ("*** Update File: b\n-zz\n+y", "does not match"),
        ("*** Add File: b\n+x", "already exists"),
        ("*** Update File: b\n*** Move to: c\n-2\n+x", "already exists"),
        ("*** Delete File: zz", "does not exist"),
        ("*** Add File: ../x\n+x", "not a path inside"),
        ("*** Add File: .git/config\n+x", "may not be written"),
        ("*** Update File: link\n-1\n+x", "link"),
        ("*** Add File: dir/x\n+x\n*** Add File: dir\n+x", "directory"),
        // Only writing finds this one: `new` is made as a file, then needed as a directory.
        ("*** Add File: new\n+x\n*** Add File: new/x\n+x", "not a regular file"),
    ] {
        let tree = tree(&[("a", "1\n"), ("b", "2\n"), ("c", "3\n"), ("dir/y", "4\n")]);
        symlink("a", tree.dir.path().join("link")).unwrap();
        let error = tree.apply(&format!("{good}{bad}")).unwrap_err().to_string();
        assert!(error.contains(expect), "{bad}: {error}");
    }
}

#[test]
fn rights_hold_for_every_path_of_a_patch() {
    let tree = tree(&[("src/a", "1\n"), ("b", "2\n")]);
    let rights = Rights::for_tests(Role::Backend, &["src"]);
    for bad in [
        "*** Update File: src/a\n*** Move to: a\n-1\n+2",
        "*** Update File: b\n-2\n+3",
        "*** Delete File: b",
        "*** Add File: c\n+x",
    ] {
        let patch = format!("*** Add File: src/ok\n+x\n{bad}");
        assert!(matches!(tree.apply_as(&rights, &patch), Err(PatchError::Denied(_))), "{bad}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_failing_last_section_leaves_every_file_byte_identical(
        files in proptest::collection::btree_map("[a-d]/[e-h]", "[x-z\r\n ]{0,12}", 1..5),
        cut in 0usize..4,
        kind in 0u8..4,
    ) {
        let list: Vec<(&str, &str)> = files.iter().map(|(p, t)| (p.as_str(), t.as_str())).collect();
        let tree = tree(&list);
        let (path, _) = list[cut % list.len()];
        let last = match kind {
            0 => format!("*** Add File: {path}\n+x"),
            1 => format!("*** Add File: {path}/below\n+x"),
            2 => "*** Update File: nowhere\n-a\n+b".to_owned(),
            _ => format!("*** Update File: {path}\n-not in any of these files\n+b"),
        };
        let mut body: String = list
            .iter()
            .filter(|(p, _)| *p != path)
            .map(|(p, _)| format!("*** Delete File: {p}\n"))
            .collect();
        body.push_str("*** Add File: made/new\n+x\n");
        body.push_str(&last);
        // `apply` compares the whole tree with what it was.
        prop_assert!(tree.apply(&body).is_err());
    }

    #[test]
    fn rewriting_one_line_equals_rewriting_it_by_hand(
        lines in proptest::collection::vec("[a-z]{1,3}", 1..12),
        pick in 0usize..12,
        ends in any::<bool>(),
    ) {
        let at = pick % lines.len();
        let mut text = lines.join("\n");
        if ends { text.push('\n'); }
        let context: String = lines[..at].iter().map(|l| format!(" {l}\n")).collect();
        let after: String = lines[at + 1..].iter().map(|l| format!(" {l}\n")).collect();
        let tree = tree(&[("f", &text)]);
        tree.apply(&format!("*** Update File: f\n{context}-{}\n+NEW\n{after}", lines[at])).unwrap();
        let mut expect = lines.clone();
        expect[at] = "NEW".to_owned();
        let mut expect = expect.join("\n");
        if ends { expect.push('\n'); }
        prop_assert_eq!(tree.open.read_text("f").unwrap(), expect);
    }
}
