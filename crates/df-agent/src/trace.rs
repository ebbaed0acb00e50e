//! The execution trace of an attempt: JSON lines with every model request, answer, tool input and output.
//!
//! It has no times and no ids of the attempt, so that equal runs have equal traces; and never the grant, which no
//! message holds. Requests record the messages that were added and the digest of the whole.

use df_contract::{Digest, digest_json};
use serde_json::{Value, json};

use crate::model::{Answer, Message};

/// Longest trace, in bytes; what comes later is left out, and the last line says so.
const TRACE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Version of the format.
const VERSION: u32 = 1;

/// A trace in the making.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    bytes: Vec<u8>,
    left_out: u64,
    /// Messages already recorded.
    known: usize,
}

impl Trace {
    pub(crate) fn start(task: &str, agent: &Digest, model: &str, tools: &Value) -> Self {
        let mut trace = Self::default();
        trace.line(&json!({"kind": "start", "version": VERSION, "task": task, "agent": agent, "model": model, "tools": tools}));
        trace
    }

    pub(crate) fn request(&mut self, step: u32, messages: &[Message]) {
        let all: Vec<Value> = messages.iter().map(Message::to_json).collect();
        // Plain JSON of strings always has a canonical form.
        let digest = digest_json(&all).ok();
        let added = &all[self.known.min(all.len())..];
        self.line(&json!({"kind": "request", "step": step, "added": added, "messages": all.len(), "digest": digest}));
        self.known = all.len();
    }

    pub(crate) fn answer(&mut self, step: u32, answer: &Answer) {
        let usage = answer.usage.map(|(input, output)| json!({"input": input, "output": output}));
        self.line(&json!({
            "kind": "answer", "step": step, "content": answer.content, "tool_calls": answer.tool_calls,
            "stop": answer.stop, "usage": usage,
        }));
        // The answer becomes the next message; it need not be recorded twice.
        self.known += 1;
    }

    pub(crate) fn tool(&mut self, step: u32, call: &str, name: &str, result: &str, failed: bool) {
        self.line(&json!({"kind": "tool", "step": step, "call": call, "tool": name, "result": result, "failed": failed}));
        // Likewise the result.
        self.known += 1;
    }

    pub(crate) fn compaction(&mut self, step: u32, freed: usize) {
        self.line(&json!({"kind": "compaction", "step": step, "freed_bytes": freed}));
    }

    pub(crate) fn end(mut self, status: &Value, logs: &[Digest]) -> Vec<u8> {
        let line = json!({"kind": "end", "status": status, "logs": logs, "lines_left_out": self.left_out});
        self.push(&line);
        self.bytes
    }

    fn line(&mut self, line: &Value) {
        if self.bytes.len() >= TRACE_BYTES_MAX {
            self.left_out += 1;
        } else {
            self.push(line);
        }
    }

    fn push(&mut self, line: &Value) {
        self.bytes.extend_from_slice(line.to_string().as_bytes());
        self.bytes.push(b'\n');
    }
}
