//! Answers from a recording, or says where the request leaves it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use df_contract::{TaskSlug, digest_json};
use serde::Serialize;
use serde_json::Value;

use super::entry::{Entry, Fingerprint, normalise_messages};

/// Largest recording read, in bytes.
pub(crate) const MAX_RECORDING_BYTES: u64 = 256 * 1024 * 1024;
/// Characters shown before and after the first difference.
const EXCERPT_BEFORE: usize = 60;
const EXCERPT_AFTER: usize = 140;

/// Why a recording cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    #[error("the recording {path} cannot be read")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the recording {path} is larger than {MAX_RECORDING_BYTES} bytes")]
    TooLarge { path: PathBuf },
    #[error("line {line} of the recording {path} is no entry: {why}")]
    Line { path: PathBuf, line: usize, why: String },
}

/// A recording in memory.
#[derive(Debug)]
pub(crate) struct Recording {
    path: PathBuf,
    entries: Vec<Entry>,
    uses: Vec<AtomicU64>,
    tasks: BTreeMap<TaskSlug, Drift>,
}

/// What no longer is as it was when the task was recorded.
#[derive(Debug, Default)]
struct Drift {
    system: AtomicBool,
    tools: AtomicBool,
}

/// A fitting answer.
#[derive(Debug)]
pub(crate) struct Fit<'a> {
    pub(crate) entry: &'a Entry,
    pub(crate) stale_system: bool,
    pub(crate) stale_tools: bool,
}

impl Fit<'_> {
    /// Value of the header `x-devfactory-recording`.
    pub(crate) fn header(&self) -> &'static str {
        match (self.stale_system, self.stale_tools) {
            (false, false) => "fits",
            (true, false) => "stale; system",
            (false, true) => "stale; tools",
            (true, true) => "stale; system, tools",
        }
    }
}

/// One recording in `GET /admin/v1/recordings`.
#[derive(Debug, Serialize)]
pub(crate) struct RecordingView {
    account: String,
    entries: usize,
    /// Entries that have answered since the start.
    used: usize,
    tasks: Vec<TaskView>,
}

#[derive(Debug, Serialize)]
struct TaskView {
    task: TaskSlug,
    entries: usize,
    used: usize,
    stale_system: bool,
    stale_tools: bool,
}

impl Recording {
    pub(crate) fn load(path: &Path) -> Result<Self, RecordingError> {
        let read = |source| RecordingError::Read { path: path.to_owned(), source };
        if std::fs::metadata(path).map_err(read)?.len() > MAX_RECORDING_BYTES {
            return Err(RecordingError::TooLarge { path: path.to_owned() });
        }
        let text = std::fs::read_to_string(path).map_err(read)?;
        let mut entries = Vec::new();
        for (index, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
            let wrong = |why: String| RecordingError::Line { path: path.to_owned(), line: index + 1, why };
            let mut entry: Entry = serde_json::from_str(line).map_err(|e| wrong(e.to_string()))?;
            // Normalised again, so that a rule added since does not part old recordings from new requests.
            entry.messages = normalise_messages(entry.messages.iter());
            entry.messages_key = digest_json(&entry.messages).map_err(|e| wrong(e.to_string()))?;
            entries.push(entry);
        }
        Ok(Self::new(path.to_owned(), entries))
    }

    fn new(path: PathBuf, entries: Vec<Entry>) -> Self {
        let uses = entries.iter().map(|_| AtomicU64::new(0)).collect();
        let tasks = entries.iter().map(|e| (e.task.clone(), Drift::default())).collect();
        Self { path, entries, uses, tasks }
    }

    /// The entry that fits. Of several the last, because the run went on from that one. The error says where the
    /// request first differs.
    pub(crate) fn find(&self, task: &TaskSlug, asked: &Fingerprint) -> Result<Fit<'_>, String> {
        let fits =
            |e: &Entry| e.task == *task && e.step == asked.step && e.messages_key == asked.messages_key;
        let Some(at) = self.entries.iter().rposition(fits) else {
            return Err(self.first_difference(task, asked));
        };
        let entry = &self.entries[at];
        self.uses[at].fetch_add(1, Ordering::Relaxed);
        let fit = Fit {
            entry,
            stale_system: entry.system_digest != asked.system_digest,
            stale_tools: entry.tools_digest != asked.tools_digest,
        };
        self.note_drift(task, &fit);
        Ok(fit)
    }

    fn note_drift(&self, task: &TaskSlug, fit: &Fit<'_>) {
        let Some(drift) = self.tasks.get(task) else { return };
        let known = [(&drift.system, fit.stale_system, "system"), (&drift.tools, fit.stale_tools, "tools")];
        for (flag, stale, what) in known {
            if stale && !flag.swap(true, Ordering::Relaxed) {
                tracing::warn!(task = %task, what, "the recording is stale: record it again");
            }
        }
    }

    fn first_difference(&self, task: &TaskSlug, asked: &Fingerprint) -> String {
        let path = self.path.file_name().unwrap_or_default().to_string_lossy();
        let mut steps: Vec<u64> = self.entries.iter().filter(|e| e.task == *task).map(|e| e.step).collect();
        if steps.is_empty() {
            let known: Vec<&str> = self.tasks.keys().map(TaskSlug::as_str).collect();
            return format!("{path} holds nothing of task `{task}`; it holds {}", known.join(", "));
        }
        let step = asked.step;
        let same_step = self.entries.iter().filter(|e| e.task == *task && e.step == step);
        let Some((entry, common)) = same_step
            .map(|e| (e, common_prefix(&e.messages, &asked.messages)))
            .max_by_key(|(_, common)| *common)
        else {
            steps.sort_unstable();
            steps.dedup();
            return format!("{path}, task `{task}`: no answer for step {step}; it holds the steps {steps:?}");
        };
        let shown =
            |messages: &[Value]| messages.get(common).map_or("no such message".into(), Value::to_string);
        let (expected, got) = (shown(&entry.messages), shown(&asked.messages));
        let (expected, got) = excerpts(&expected, &got);
        let role = asked.messages.get(common).or(entry.messages.get(common)).and_then(|m| m["role"].as_str());
        format!(
            "{path}, task `{task}`, step {step}: message {common} ({}) is the first that differs; \
             expected {expected} but got {got}",
            role.unwrap_or("unknown role")
        )
    }

    pub(crate) fn view(&self, account: &str) -> RecordingView {
        let used = |task: Option<&TaskSlug>| {
            let of_task = |e: &Entry| task.is_none_or(|t| e.task == *t);
            self.entries
                .iter()
                .zip(&self.uses)
                .filter(|(e, uses)| of_task(e) && uses.load(Ordering::Relaxed) > 0)
                .count()
        };
        let tasks = self.tasks.iter().map(|(task, drift)| TaskView {
            task: task.clone(),
            entries: self.entries.iter().filter(|e| e.task == *task).count(),
            used: used(Some(task)),
            stale_system: drift.system.load(Ordering::Relaxed),
            stale_tools: drift.tools.load(Ordering::Relaxed),
        });
        RecordingView {
            account: account.to_owned(),
            entries: self.entries.len(),
            used: used(None),
            tasks: tasks.collect(),
        }
    }
}

fn common_prefix(a: &[Value], b: &[Value]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Both texts around their first difference.
fn excerpts(expected: &str, got: &str) -> (String, String) {
    let same = expected.chars().zip(got.chars()).take_while(|(a, b)| a == b).count();
    let cut = |text: &str| {
        let start = same.saturating_sub(EXCERPT_BEFORE);
        let part: String = text.chars().skip(start).take(EXCERPT_BEFORE + EXCERPT_AFTER).collect();
        let more = if start > 0 { "..." } else { "" };
        format!("`{more}{part}`")
    };
    (cut(expected), cut(got))
}

#[cfg(test)]
mod tests {
    use df_contract::Tokens;
    use serde_json::json;

    use super::super::{RecordedUsage, Response};
    use super::*;

    fn ask(user: &str, system: &str) -> Fingerprint {
        let messages =
            [json!({"role": "system", "content": system}), json!({"role": "user", "content": user})];
        Fingerprint::of(&messages, &Value::Null).unwrap()
    }

    fn entry(user: &str, answer: &str) -> Entry {
        let f = ask(user, "s");
        Entry {
            task: "api".parse().unwrap(),
            step: f.step,
            model: "m".into(),
            messages_key: f.messages_key,
            messages: f.messages,
            system_digest: f.system_digest,
            tools_digest: f.tools_digest,
            response: Response {
                message: json!({"role": "assistant", "content": answer}),
                finish_reason: "stop".into(),
            },
            usage: RecordedUsage { input_tokens: Tokens(1), output_tokens: Tokens(2) },
        }
    }

    fn recording() -> Recording {
        Recording::new(
            "r.jsonl".into(),
            vec![entry("one", "1"), entry("two in 3s", "2"), entry("one", "1 again")],
        )
    }

    #[test]
    fn any_of_several_entries_fits_and_the_last_of_equals_answers() {
        let (r, api) = (recording(), "api".parse().unwrap());
        assert_eq!(r.find(&api, &ask("two in 77s", "s")).unwrap().entry.response.message["content"], "2");
        assert_eq!(r.find(&api, &ask("one", "s")).unwrap().entry.response.message["content"], "1 again");
        assert_eq!(r.view("rec").used, 2);
    }

    #[test]
    fn drift_is_stale_but_answers() {
        let (r, api) = (recording(), "api".parse().unwrap());
        let fit = r.find(&api, &ask("one", "another")).unwrap();
        assert_eq!(fit.header(), "stale; system");
        assert!(r.view("rec").tasks[0].stale_system && !r.view("rec").tasks[0].stale_tools);
    }

    #[test]
    fn a_mismatch_shows_the_first_difference() {
        let (r, api) = (recording(), "api".parse().unwrap());
        insta::assert_snapshot!(r.find(&api, &ask("three", "s")).unwrap_err(), @"r.jsonl, task `api`, step 0: message 0 (user) is the first that differs; expected `{\"content\":\"one\",\"role\":\"user\"}` but got `{\"content\":\"three\",\"role\":\"user\"}`");
        let mut later = ask("one", "s");
        later.step = 4;
        insta::assert_snapshot!(r.find(&api, &later).unwrap_err(), @"r.jsonl, task `api`: no answer for step 4; it holds the steps [0]");
        insta::assert_snapshot!(r.find(&"web".parse().unwrap(), &later).unwrap_err(), @"r.jsonl holds nothing of task `web`; it holds api");
    }
}
