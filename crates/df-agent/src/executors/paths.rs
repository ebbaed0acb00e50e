//! Looking again at what a change touched: on the committed trees, whatever the agent's tools let through.

use std::collections::BTreeSet;

use df_contract::FailureKind;

use super::stop::Stop;
use crate::rights::Rights;

/// Paths named in a refusal; of more only the number is told.
const NAMED_PATHS: usize = 20;

/// Refuses a change that made, altered or removed anything beyond `rights`.
pub(super) fn require_within(rights: &Rights, changed: &BTreeSet<String>) -> Result<(), Stop> {
    let outside: Vec<String> =
        changed.iter().filter(|p| rights.check(p).is_err()).map(|p| format!("`{p}`")).collect();
    if outside.is_empty() {
        return Ok(());
    }
    let named = outside.iter().take(NAMED_PATHS).cloned().collect::<Vec<_>>().join(", ");
    let more = match outside.len().saturating_sub(NAMED_PATHS) {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    let text = format!("the change touches {named}{more}, where it may not. {}", rights.describe());
    Err(Stop::failed(FailureKind::PolicyBreach, text))
}

#[cfg(test)]
mod tests {
    use df_contract::Role;

    use super::*;

    fn check(role: Role, paths: &[&str], changed: &[&str], refused: &[&str]) {
        let changed_set = changed.iter().map(|s| (*s).to_owned()).collect();
        match require_within(&Rights::for_tests(role, paths), &changed_set) {
            Ok(()) => assert!(refused.is_empty(), "{changed:?} should be refused"),
            Err(Stop::Failed { kind, detail, .. }) => {
                assert_eq!(kind, FailureKind::PolicyBreach);
                for path in changed {
                    let named = detail.contains(&format!("`{path}`"));
                    assert_eq!(named, refused.contains(path), "{path}: {detail}");
                }
            }
            Err(Stop::Cancelled) => panic!("not cancelled"),
        }
    }

    #[test]
    fn all_paths_outside_are_named_and_no_other() {
        check(Role::Backend, &["src/**"], &["src/a.py"], &[]);
        check(Role::Backend, &["src/**"], &["src/a.py", "b.py", "c/d"], &["b.py", "c/d"]);
        check(Role::Qa, &["**"], &["src/a.py", "tests/test_a.py"], &["src/a.py"]);
        check(Role::Backend, &[], &[], &[]);
    }
}
