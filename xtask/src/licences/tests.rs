use super::*;

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

const POLICY: &str = r#"
[licenses]
allow = ["MIT", "Apache-2.0", "Unicode-3.0"]
[bans]
deny = [
  { crate = "openssl" },
  { crate = "tokio", deny-multiple-versions = true },
]
[sources]
allow-registry = ["https://github.com/rust-lang/crates.io-index"]
"#;

fn package(name: &str, version: &str, licence: &str) -> Package {
    Package {
        name: name.to_owned(),
        version: version.parse().unwrap(),
        licence: Some(licence.to_owned()),
        source: Some(CRATES_IO.to_owned()),
    }
}

fn problems(packages: &[Package]) -> Vec<String> {
    check(packages, &toml::from_str(POLICY).unwrap()).unwrap()
}

#[test]
fn expressions_are_evaluated_not_compared() {
    let fits = |licence: &str| problems(&[package("a", "1.0.0", licence)]).is_empty();
    assert!(fits("MIT"));
    assert!(fits("MIT/Apache-2.0"), "the old form of OR");
    assert!(fits("GPL-3.0-only OR MIT"));
    assert!(fits("(MIT OR BSL-1.0) AND Unicode-3.0"));
    assert!(!fits("MIT AND GPL-3.0-only"));
    assert!(!fits("LGPL-2.1-or-later"));
    assert!(!fits("Apache-2.0 WITH LLVM-exception"), "an exception must be named to be allowed");
    assert!(!fits("My own licence"));
}

#[test]
fn a_missing_licence_is_refused() {
    let mut silent = package("a", "1.0.0", "MIT");
    silent.licence = None;
    assert_eq!(problems(&[silent]), ["a 1.0.0 declares no licence"]);
}

#[test]
fn sources_outside_the_list_are_refused_and_our_own_packages_have_none() {
    let mut own = package("df-a", "0.1.0", "MIT");
    own.source = None;
    let mut git = package("b", "1.0.0", "MIT");
    git.source = Some("git+https://example.org/b#abc".to_owned());
    let mut other = package("c", "1.0.0", "MIT");
    other.source = Some("registry+https://example.org/index".to_owned());
    let found = problems(&[own, git, other]);
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn bans_match_by_name_and_number_of_versions() {
    assert_eq!(problems(&[package("openssl", "0.10.1", "MIT")]), ["openssl 0.10.1 is banned by deny.toml"]);
    let one = package("tokio", "1.0.0", "MIT");
    assert!(problems(std::slice::from_ref(&one)).is_empty());
    let found = problems(&[one, package("tokio", "0.2.0", "MIT")]);
    assert_eq!(found, ["tokio is present as 0.2.0 and 1.0.0; one is enough"]);
}

#[test]
fn a_typing_error_in_the_policy_is_an_error_not_a_pass() {
    let mut policy: Policy = toml::from_str(POLICY).unwrap();
    policy.licenses.allow.push("MTI".to_owned());
    assert!(check(&[], &policy).is_err());

    let mut policy: Policy = toml::from_str(POLICY).unwrap();
    policy.bans.deny.push(Ban { name: "serde@<1".to_owned(), deny_multiple_versions: false });
    assert!(check(&[], &policy).is_err());
}
