//! The plans of the jobs: chains, diamonds, tasks side by side, and those that get in each other's way.

use df_testkit::{file_task, planned_job};
use serde_json::{Value, json};

/// Shapes that begin with the task.
pub(crate) fn rooted(n: usize, slug: &str) -> Vec<Value> {
    let mut tasks = vec![file_task(slug, &[])];
    tasks.extend(match n % 4 {
        0 => vec![file_task("last", &[slug])],
        1 => vec![file_task("middle", &[slug]), file_task("last", &["middle"])],
        2 => vec![
            file_task("left", &[slug]),
            file_task("right", &[slug]),
            file_task("bottom", &["left", "right"]),
        ],
        _ => vec![file_task("one", &[]), file_task("two", &[]), file_task("three", &[])],
    });
    tasks
}

/// Shapes with the task at some place.
pub(crate) fn shape(n: usize, slug: &str) -> Vec<Value> {
    match n % 4 {
        0 => vec![file_task(slug, &[])],
        1 => vec![file_task("first", &[]), file_task(slug, &["first"]), file_task("last", &[slug])],
        2 => vec![file_task("one", &[]), file_task("two", &[]), file_task(slug, &[])],
        _ => vec![
            file_task("top", &[]),
            file_task(slug, &["top"]),
            file_task("side", &["top"]),
            file_task("bottom", &[slug, "side"]),
        ],
    }
}

pub(crate) fn clash() -> Vec<Value> {
    let mut file = file_task("clash-file", &[]);
    let mut dir = file_task("clash-dir", &[]);
    for (task, path) in [(&mut file, "clash.txt"), (&mut dir, "clash.txt/inner")] {
        task["paths"] = json!([path]);
        task["expected_outputs"] = json!([path]);
        task["checks"] = json!([{"id": format!("{}-there", path.replace(['/', '.'], "-")), "command": format!("test -f {path}")}]);
    }
    vec![file, dir]
}

/// Two tasks of one wave that want one name, for a file and for a directory; the file will do beside it.
pub(crate) fn one_name() -> Vec<Value> {
    let (mut file, mut dir) = (file_task("name-file", &[]), file_task("name-dir", &[]));
    for (task, path, check) in
        [(&mut file, "x*", "test -s x || test -s x-file"), (&mut dir, "x/inner", "test -s x/inner")]
    {
        task["paths"] = json!([path]);
        task["expected_outputs"] = json!([]);
        task["checks"] = json!([{"id": "name-taken", "command": check}]);
    }
    vec![file, dir]
}

pub(crate) fn alone() -> Vec<Value> {
    let mut alone = file_task("alone", &[]);
    alone["checks"] = json!([{"id": "nobody-else", "command": "test $(ls | wc -l) -eq 1"}]);
    vec![file_task("crowd", &[]), alone]
}

/// A lattice: ten wide, and as deep as it takes; each task builds on two of the layer before. One in 250 has a check,
/// as every merge runs those of up to 32 tasks before it again.
pub(crate) fn wide_and_deep(count: usize) -> Value {
    const WIDE: usize = 10;
    const ONE_CHECK_IN: usize = 250;
    let slug = |n: usize| format!("t{n}");
    let task = |n: usize| {
        let mut task = match (n / WIDE).checked_sub(1) {
            None => file_task(&slug(n), &[]),
            Some(layer) => {
                let beside = layer * WIDE + (n + 1) % WIDE;
                file_task(&slug(n), &[&slug(n - WIDE), &slug(beside)])
            }
        };
        if !n.is_multiple_of(ONE_CHECK_IN) {
            task["checks"] = json!([]);
        }
        task
    };
    let mut job = planned_job(&format!("{count} tasks"), &(0..count).map(task).collect::<Vec<_>>());
    job["budget"] = json!({"tokens": 20_000_000});
    job
}
