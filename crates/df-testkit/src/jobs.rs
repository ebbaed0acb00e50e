//! Small jobs and the scripts that do them.

use serde_json::{Value, json};

use crate::model::{Ask, Reply};

/// Budget of a small job. In tokens, since a scripted model has no price.
const SMALL_BUDGET: u64 = 400_000;

/// A job without source whose plan has these tasks.
pub fn planned_job(title: &str, tasks: &[Value]) -> Value {
    json!({
        "title": title,
        "description": "Write the text files that the plan names. No network, no packages.",
        "budget": {"tokens": SMALL_BUDGET},
        "plan": {"summary": "Text files, one per task.", "tasks": tasks},
    })
}

/// A task that writes `<slug>.txt`; its check wants the file's own name in it.
pub fn file_task(slug: &str, depends_on: &[&str]) -> Value {
    let file = format!("{slug}.txt");
    json!({
        "slug": slug,
        "role": "backend",
        "title": format!("Write {file}"),
        "instructions": format!("Write `{file}`; it says `this is {slug}`."),
        "depends_on": depends_on,
        "paths": [file],
        "expected_outputs": [file],
        "checks": [{"id": format!("{slug}-is-written"), "command": format!("grep -qx 'this is {slug}' {file}")}],
    })
}

/// Does any [`file_task`]: writes the file, looks at it in the sandbox, finishes.
pub fn write_file_task(ask: &Ask) -> Reply {
    let slug = ask.task();
    match ask.turn() {
        0 => Reply::write(&format!("{slug}.txt"), &format!("this is {slug}\n")),
        1 => Reply::calls(&[("exec", json!({"command": format!("cat {slug}.txt")}))]),
        2 if !ask.last_result().contains(&format!("this is {slug}")) => {
            Reply::error(400, &format!("the file is not there: {}", ask.last_result()))
        }
        2 => Reply::finish(&format!("wrote {slug}")),
        turn => Reply::error(
            400,
            &format!("nothing is scripted for turn {turn} of {slug}: {}", ask.last_result()),
        ),
    }
}
