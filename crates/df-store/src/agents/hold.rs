//! What operators have disabled, so that its registrant cannot enable it: read from the log, which says who did it.

use std::collections::BTreeSet;

use df_contract::Digest;
use df_contract::agent::AgentRef;
use df_control_audit::{RegistryEvent, RegistryRecord};

use crate::rows::{Kept, Rows};

/// Most records of an agent that are read for it. Of what came before them the worst is supposed: that an operator did it.
const MAX_READ: u32 = 10_000;

/// The versions that only an operator enables again.
pub(super) fn held(rows: &dyn Rows, of: &AgentRef) -> Kept<BTreeSet<Digest>> {
    let versions = rows.agent_versions(of)?;
    let off: BTreeSet<Digest> = versions.into_iter().filter(|v| !v.enabled).map(|v| v.digest).collect();
    if off.is_empty() {
        return Ok(off);
    }
    let log = rows.agent_log(Some(of), MAX_READ)?;
    let before = if log.len() < MAX_READ as usize { BTreeSet::new() } else { off.clone() };
    let held = after(before, &log);
    Ok(off.into_iter().filter(|digest| held.contains(digest)).collect())
}

/// What is held after the records when `held` was before them.
fn after(mut held: BTreeSet<Digest>, log: &[RegistryRecord]) -> BTreeSet<Digest> {
    let (mut known, mut owner) = (held.clone(), None);
    for RegistryRecord { actor, event, .. } in log {
        match event {
            RegistryEvent::Registered { digest, .. } => {
                known.insert(digest.clone());
                owner = Some(actor);
            }
            RegistryEvent::Enabled { digest: Some(digest), .. } => drop(held.remove(digest)),
            RegistryEvent::Enabled { digest: None, .. } => held.clear(),
            RegistryEvent::Disabled { digest, by_operator, .. } => {
                if by_operator.unwrap_or(owner != Some(actor)) {
                    held.extend(digest.as_ref().map_or_else(|| known.clone(), |one| [one.clone()].into()));
                }
            }
            RegistryEvent::Pinned { .. }
            | RegistryEvent::Unpinned { .. }
            | RegistryEvent::KeyKept { .. }
            | RegistryEvent::KeyForgotten { .. } => {}
        }
    }
    held
}

#[cfg(test)]
mod tests {
    use df_contract::Timestamp;
    use df_control_audit::{Tip, registry_append};

    use super::*;

    fn digest(of: char) -> Digest {
        of.to_string().repeat(64).parse().unwrap()
    }

    fn registered(of: char) -> RegistryEvent {
        let (name, tenant) = ("writer".parse().unwrap(), None);
        RegistryEvent::Registered { name, tenant, digest: digest(of), public_key: String::new(), number: 0 }
    }

    fn off(of: Option<char>, by_operator: Option<bool>) -> RegistryEvent {
        let name = "writer".parse().unwrap();
        RegistryEvent::Disabled { whose: None, name, digest: of.map(digest), by_operator }
    }

    fn on(of: Option<char>) -> RegistryEvent {
        RegistryEvent::Enabled { whose: None, name: "writer".parse().unwrap(), digest: of.map(digest) }
    }

    /// The versions that are held after what was done.
    fn left(before: &[char], done: Vec<(&str, RegistryEvent)>) -> Vec<Digest> {
        let record =
            |(who, event)| registry_append(&Tip::empty(), Timestamp(1), who, event).expect("a record");
        let log: Vec<_> = done.into_iter().map(record).collect();
        after(before.iter().copied().map(digest).collect(), &log).into_iter().collect()
    }

    #[test]
    fn a_record_that_does_not_tell_is_an_operators_unless_the_registrant_made_it() {
        let of = |who: &'static str| {
            left(&[], vec![("alice", registered('a')), (who, off(None, None)), ("alice", registered('b'))])
        };
        assert_eq!(of("alice"), []);
        assert_eq!(of("op"), [digest('a')], "what was there then");
        let taken = vec![("alice", registered('a')), ("bob", registered('b')), ("alice", off(None, None))];
        assert_eq!(left(&[], taken), [digest('a'), digest('b')], "who was the registrant once is not now");
    }

    #[test]
    fn a_record_that_tells_is_believed_whatever_the_actor_is_called() {
        let of = |by| left(&[], vec![("alice", registered('a')), ("alice", off(Some('a'), Some(by)))]);
        assert_eq!((of(true), of(false)), (vec![digest('a')], vec![]));
        let then = vec![
            ("alice", registered('a')),
            ("op", off(None, Some(true))),
            ("alice", off(None, Some(false))),
        ];
        assert_eq!(left(&[], then), [digest('a')], "the registrant lifts nothing by disabling it as well");
    }

    #[test]
    fn what_came_before_the_records_is_held_until_one_of_them_enables_it() {
        assert_eq!(left(&['a', 'b'], vec![("op", on(Some('a')))]), [digest('b')]);
        assert_eq!(left(&['a', 'b'], vec![("op", on(None)), ("alice", off(None, Some(false)))]), []);
    }
}
