//! What the model is asked.

use serde_json::Value;

/// Bytes that count as a token.
const BYTES_PER_TOKEN: usize = 4;

/// One request. Scripts answer from it alone, as a model would: an attempt that starts anew is answered anew.
#[derive(Debug, Clone)]
pub struct Ask {
    pub request: Value,
}

impl Ask {
    pub(crate) fn new(request: Value) -> Self {
        Self { request }
    }

    fn messages(&self) -> &[Value] {
        self.request["messages"].as_array().map_or(&[], Vec::as_slice)
    }

    fn said_by<'a>(&'a self, role: &'a str) -> impl DoubleEndedIterator<Item = &'a Value> {
        self.messages().iter().filter(move |m| m["role"] == role)
    }

    /// The brief: the first message of the user.
    pub fn brief(&self) -> &str {
        self.said_by("user").next().and_then(|m| m["content"].as_str()).unwrap_or_default()
    }

    /// The slug of the task; `plan` for the coordinator's.
    pub fn task(&self) -> String {
        let heading = self.brief().lines().find_map(|line| line.strip_prefix("# Your task: "));
        let slug = heading.and_then(|h| h.rsplit_once('(')).map(|(_, rest)| rest.trim_end_matches(')'));
        slug.unwrap_or("plan").to_owned()
    }

    /// Answers given so far in this conversation.
    pub fn turn(&self) -> usize {
        self.said_by("assistant").count()
    }

    /// The result of the last tool call.
    pub fn last_result(&self) -> &str {
        self.said_by("tool").next_back().and_then(|m| m["content"].as_str()).unwrap_or_default()
    }

    pub(crate) fn streams(&self) -> bool {
        self.request["stream"] == true
    }

    pub(crate) fn tokens(&self) -> u64 {
        (self.request["messages"].to_string().len() / BYTES_PER_TOKEN) as u64 + 1
    }
}
