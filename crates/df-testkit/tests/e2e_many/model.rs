//! The model of the many jobs: does what each task's name says, and keeps count of attempts, as no real model could.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use df_testkit::{Ask, Reply, write_file_task};
use serde_json::json;

/// The models of providers that were away and are back.
pub(crate) type Back = Arc<Mutex<HashSet<String>>>;

/// Answers for every task by the first word of its slug; the rest write their file.
pub(crate) fn script(back: &Back) -> impl Fn(&Ask) -> Reply + Send + Sync + 'static {
    let back = Arc::clone(back);
    let attempts: Mutex<HashMap<(String, String), usize>> = Mutex::default();
    move |ask| {
        let (job, slug) = (title(ask), ask.task());
        let model = ask.request["model"].as_str().unwrap_or_default();
        if slug == "away" && !back.lock().unwrap().contains(model) {
            return Reply::error(503, "no capacity");
        }
        let attempt = {
            let mut attempts = attempts.lock().unwrap();
            let count = attempts.entry((job, slug.clone())).or_default();
            if ask.turn() == 0 {
                *count += 1;
            }
            *count
        };
        answer(ask, &slug, attempt)
    }
}

fn title(ask: &Ask) -> String {
    ask.brief().lines().next().unwrap_or_default().to_owned()
}

fn exec(command: &str) -> Reply {
    Reply::calls(&[("exec", json!({"command": command}))])
}

/// One name for a file and for a directory. Whoever comes second gives way: the file goes beside.
fn one_name(ask: &Ask) -> Reply {
    let moved = "*** Begin Patch\n*** Update File: x\n*** Move to: x-file\n@@\n-a file\n+a file, moved\n*** End Patch";
    match (ask.task().as_str(), ask.turn()) {
        ("name-file", 0) => Reply::write("x", "a file\n"),
        ("name-dir", 0) | ("resolve.name-dir.1", 1) => Reply::write("x/inner", "below\n"),
        ("resolve.name-file.1", 0) => Reply::write("x-file", "a file\n"),
        ("resolve.name-dir.1", 0) => Reply::calls(&[("apply_patch", json!({"patch": moved}))]),
        _ => Reply::finish("there is room for both"),
    }
}

fn answer(ask: &Ask, slug: &str, attempt: usize) -> Reply {
    let first = attempt == 1;
    match slug.split(['-', '.']).next().unwrap_or(slug) {
        "refused" if first => Reply::error(400, "this cannot be answered"),
        "failing" if first => Reply::finish("the check will not pass"),
        "broken" if first => Reply::raw_call("write", "{\"path\": "),
        "circling" if first => exec("echo the same"),
        // One writes a file where the other needs a directory.
        "clash" if slug == "clash-dir" => match ask.turn() {
            0 => Reply::write("clash.txt/inner", "this is a directory\n"),
            _ => Reply::finish("made a directory"),
        },
        "clash" => match ask.turn() {
            0 => Reply::write("clash.txt", "this is a file\n"),
            _ => Reply::finish("made a file"),
        },
        "name" => one_name(ask),
        "resolve" if slug.contains(".name-") => one_name(ask),
        "resolve" => Reply::finish("nothing can be done about it"),
        // Its check holds only where nobody else has written.
        "alone" => match ask.turn() {
            0 => Reply::write("alone.txt", "this is alone\n"),
            _ => Reply::finish("alone"),
        },
        "plan" => {
            Reply::plan(&json!({"summary": "another way", "tasks": [df_testkit::file_task("instead", &[])]}))
        }
        _ => write_file_task(ask),
    }
}
