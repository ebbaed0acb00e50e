//! Tasks behave as a map from slug to task, whatever is shared.

use df_contract::{LeaseKind, Role};
use proptest::prelude::*;

use super::*;

fn slug(n: u8) -> TaskSlug {
    format!("t{n}").parse().unwrap()
}

fn task(n: u8, title: u8) -> TaskRecord {
    TaskRecord::new(slug(n), LeaseKind::Agent, Role::Backend, title.to_string(), BTreeSet::new())
}

#[derive(Debug, Clone)]
enum Deed {
    Insert(u8, u8),
    Retitle(u8, u8),
    /// Into another state, kind and wave.
    Move(u8, u8),
    /// To wait for another, which may not be there.
    Depend(u8, u8),
    /// From here on, changes are counted anew.
    Remember,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        6 => (any::<u8>(), any::<u8>()).prop_map(|(n, title)| Deed::Insert(n, title)),
        3 => (any::<u8>(), 0..3u8).prop_map(|(n, title)| Deed::Retitle(n, title)),
        3 => (any::<u8>(), any::<u8>()).prop_map(|(n, to)| Deed::Move(n, to)),
        3 => (any::<u8>(), any::<u8>()).prop_map(|(n, on)| Deed::Depend(n, on)),
        1 => Just(Deed::Remember),
    ];
    prop::collection::vec(deed, 0..300)
}

type Model = BTreeMap<TaskSlug, TaskRecord>;

fn same(tasks: &Tasks, model: &Model) {
    assert_eq!(tasks.len(), model.len());
    assert_eq!(tasks.is_empty(), model.is_empty());
    assert!(tasks.iter().eq(model.iter()));
    assert!(tasks.keys().eq(model.keys()) && tasks.values().eq(model.values()));
    for n in 0..=u8::MAX {
        let slug = task(n, 0).slug;
        assert_eq!(tasks.get(&slug), model.get(&slug));
        assert_eq!(tasks.contains_key(&slug), model.contains_key(&slug));
    }
}

fn moved(task: &mut TaskRecord, to: u8) {
    task.state = TaskState::ALL[to as usize % TaskState::ALL.len()];
    task.kind = LeaseKind::ALL[to as usize / 7 % LeaseKind::ALL.len()];
    (task.wave, task.rank) = (u32::from(to % 5), u32::from(to % 3));
    task.not_before = df_contract::Timestamp(u64::from(to % 2));
    task.tolerated = to.is_multiple_of(4);
}

/// What the tasks say together is what looking at each of them says.
fn told(tasks: &Tasks, model: &Model) {
    assert!(tasks.is_sound());
    let slugs = |found: &mut dyn Iterator<Item = &TaskRecord>| -> Vec<TaskSlug> {
        found.map(|t| t.slug.clone()).collect()
    };
    let open = model.values().filter(|t| t.wave > 0 && !crate::task::is_ended(t.state)).map(|t| t.wave);
    let census = tasks.census();
    assert_eq!(
        (census.open_wave, census.last_wave),
        (open.min(), model.values().map(|t| t.wave).max().unwrap_or(0))
    );
    for wave in 0..5 {
        let pending = |t: &&TaskRecord| t.state == TaskState::Pending && t.wave <= wave;
        assert_eq!(slugs(&mut tasks.pending(wave)), slugs(&mut model.values().filter(pending)));
    }
    let failed = |t: &&TaskRecord| t.state == TaskState::Failed && !t.tolerated;
    assert_eq!(slugs(&mut tasks.failed()), slugs(&mut model.values().filter(failed)));
    for kind in LeaseKind::ALL {
        let of_kind = |t: &&TaskRecord| t.kind == *kind;
        assert_eq!(slugs(&mut tasks.of_kind(*kind)), slugs(&mut model.values().filter(of_kind)));
        assert_eq!(census.has(*kind), model.values().any(|t| t.kind == *kind));
    }
    let merges = || model.values().filter(|t| t.kind == LeaseKind::Integrate);
    let ready = merges().filter(|t| t.state == TaskState::Ready);
    let first = ready.min_by_key(|t| (t.not_before, std::cmp::Reverse(t.rank), &t.slug));
    assert_eq!(tasks.next_merge(), first.map(|t| &t.slug));
    let count = |among: &[TaskState]| merges().filter(|t| among.contains(&t.state)).count() as u32;
    let (open, lost) = (
        [TaskState::Pending, TaskState::Ready, TaskState::Leased],
        [TaskState::Failed, TaskState::Cancelled, TaskState::Skipped],
    );
    let (leased, succeeded) = (count(&[TaskState::Leased]), count(&[TaskState::Succeeded]));
    assert_eq!(census.merges, Merges { open: count(&open), leased, succeeded, lost: count(&lost) });
    for n in 0..=u8::MAX {
        let on = |t: &&TaskRecord| model.contains_key(&slug(n)) && t.depends_on.contains(&slug(n));
        assert_eq!(slugs(&mut tasks.dependents(&slug(n))), slugs(&mut model.values().filter(on)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn tasks_are_a_map(deeds in deeds()) {
        let (mut tasks, mut model) = (Tasks::default(), Model::new());
        let (mut then, mut model_then) = (tasks.clone(), model.clone());
        for deed in deeds {
            match deed {
                Deed::Insert(n, title) => {
                    tasks.insert(task(n, 0).slug, task(n, title));
                    model.insert(task(n, title).slug, task(n, title));
                }
                Deed::Retitle(n, title) => {
                    let slug = task(n, 0).slug;
                    let (one, other) = (tasks.get_mut(&slug), model.get_mut(&slug));
                    prop_assert_eq!(&one, &other);
                    one.into_iter().chain(other).for_each(|t| t.title = title.to_string());
                }
                Deed::Move(n, to) => {
                    let (one, other) = (tasks.get_mut(&slug(n)), model.get_mut(&slug(n)));
                    one.into_iter().chain(other).for_each(|t| moved(t, to));
                }
                Deed::Depend(n, on) => {
                    tasks.depend(&slug(n), BTreeSet::from([slug(on)]));
                    model.get_mut(&slug(n)).into_iter().for_each(|t| t.depends_on = [slug(on)].into());
                }
                Deed::Remember => (then, model_then) = (tasks.clone(), model.clone()),
            }
        }
        same(&tasks, &model);
        same(&then, &model_then);
        told(&tasks, &model);
        told(&then, &model_then);
        let changed: Vec<_> = tasks.changed_since(&then).collect();
        let want: Vec<_> = model
            .iter()
            .map(|(slug, task)| (task, model_then.get(slug)))
            .filter(|(task, old)| Some(*task) != *old)
            .collect();
        prop_assert_eq!(changed, want);
        let anew: Tasks = model.values().rev().cloned().collect();
        prop_assert_eq!(&anew, &tasks, "however they are cut");
        prop_assert_eq!(anew == then, model == model_then);
        let text = serde_json::to_string(&tasks).unwrap();
        prop_assert_eq!(&text, &serde_json::to_string(&model).unwrap());
        prop_assert_eq!(serde_json::from_str::<Tasks>(&text).unwrap(), tasks);
    }
}

#[test]
fn a_task_under_another_slug_is_not_read() {
    let text = serde_json::to_string(&BTreeMap::from([("other", task(1, 1))])).unwrap();
    assert!(serde_json::from_str::<Tasks>(&text).is_err());
}

fn tasks(ns: &[u8]) -> Tasks {
    ns.iter().map(|n| task(*n, 0)).collect()
}

#[test]
fn a_change_copies_one_task_and_leaves_the_earlier_record_alone() {
    let before = tasks(&(0..200).collect::<Vec<u8>>());
    let mut after = before.clone();
    after.get_mut(&task(7, 0).slug).unwrap().title = "new".to_owned();
    assert_eq!(before[&task(7, 0).slug].title, "0");
    let unshared = |a: &Tasks, b: &Tasks| a.all().zip(b.all()).filter(|(a, b)| !Arc::ptr_eq(a, b)).count();
    assert_eq!(unshared(&before, &after), 1);
    let chunks = before.chunks.iter().zip(after.chunks.iter()).filter(|(a, b)| !Arc::ptr_eq(a, b)).count();
    assert_eq!(chunks, 1);
}

#[test]
fn the_wire_form_is_a_map_by_slug() {
    let all = tasks(&[2, 1]);
    let text = serde_json::to_value(&all).unwrap();
    assert_eq!(text.as_object().unwrap().keys().collect::<Vec<_>>(), ["t1", "t2"]);
    assert_eq!(serde_json::from_value::<Tasks>(text).unwrap(), all);
}
