use proptest::prelude::*;

use super::*;

fn tree(files: &[(&str, &[u8])]) -> SourceFacts {
    scan(files.iter().map(|(p, b)| ((*p).to_owned(), Cow::Borrowed(*b))))
}

#[test]
fn a_small_tree_becomes_facts() {
    let facts = tree(&[
        ("src/app.py", b"import os\n"),
        ("src/util.py", b""),
        ("web/index.html", b"<p>"),
        ("Dockerfile", b"FROM python\nEXPOSE 8080\n"),
        ("LICENSE", b"Apache License\nVersion 2.0, January 2004"),
        ("requirements.txt", b"flask==3.0\n"),
        ("logo.png", b"\x89PNG\xff\xfe"),
    ]);
    assert_eq!(facts.files, 7);
    assert_eq!(facts.languages["python"], 2);
    assert_eq!(facts.languages["html"], 1);
    assert_eq!(facts.infra_files.iter().collect::<Vec<_>>(), ["Dockerfile"]);
    assert_eq!(facts.ports[0].port, 8080);
    assert_eq!(facts.licences["LICENSE"], "Apache-2.0");
    assert!(facts.unreadable.is_empty(), "{:?}", facts.unreadable);
}

#[test]
fn what_cannot_be_read_is_listed_with_its_reason() {
    let facts = tree(&[
        ("package.json", b"{"),
        ("pyproject.toml", b"\xff\xfe"),
        ("big.bin", &vec![0; MAX_FILE_BYTES + 1]),
    ]);
    assert_eq!(facts.unreadable["package.json"], "it is not valid JSON");
    assert_eq!(facts.unreadable["pyproject.toml"], "it is not UTF-8 text");
    assert!(facts.unreadable["big.bin"].contains("limit"));
}

#[test]
fn a_tree_beyond_the_limits_says_so() {
    let many = (0..=MAX_FILES).map(|i| (format!("f{i}"), Cow::Borrowed(b"".as_slice())));
    let facts = scan(many);
    assert_eq!(facts.files, MAX_FILES);
    assert!(facts.unreadable.contains_key(BEYOND_LIMITS));
}

const NAMES: [&str; 10] = [
    "pyproject.toml",
    "requirements.txt",
    "package.json",
    "package-lock.json",
    "Cargo.toml",
    "Cargo.lock",
    "go.mod",
    "Dockerfile",
    "compose.yaml",
    "LICENSE",
];

proptest! {
    #[test]
    fn hostile_bytes_never_panic(name in proptest::sample::select(&NAMES[..]), bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        tree(&[(name, &bytes)]);
    }

    #[test]
    fn hostile_text_never_panics(name in proptest::sample::select(&NAMES[..]), text in r#"[\[\]{}"':,=\n\\ \-#@;a-eé0-9/+.]{0,600}"#) {
        tree(&[(name, text.as_bytes())]);
    }

    #[test]
    fn any_path_is_taken(path in ".{0,80}") {
        prop_assert_eq!(tree(&[(&path, b"x")]).files, 1);
    }

    #[test]
    fn the_order_of_files_does_not_matter(order in Just(NAMES.to_vec()).prop_shuffle()) {
        let content = b"a==1\n[x]\nEXPOSE 1\n".as_slice();
        let files = |names: &[&str]| names.iter().map(|n| ((*n).to_owned(), Cow::Borrowed(content))).collect::<Vec<_>>();
        prop_assert_eq!(scan(files(&order)), scan(files(&NAMES)));
    }
}
