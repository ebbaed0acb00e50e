use super::*;

#[test]
fn the_default_bundle_loads_and_its_tests_pass() {
    let bundle = default_bundle().unwrap();
    assert_eq!(bundle.packs().collect::<Vec<_>>(), ["base", "cost", "deployment", "privacy"]);
    assert!(bundle.tests_passed() > 10, "{}", bundle.tests_passed());
}
