//! Makes room in a conversation that grows too long: old tool outputs become one-line stubs. What is replaced depends
//! on the messages alone.

use crate::model::Message;

/// Bytes of conversation sent at most (about a quarter as many tokens).
pub(super) const CONTEXT_BYTES_MAX: usize = 240 * 1024;
/// Answers at the end whose tool outputs stay: the most that leaves [`ROOMY_BYTES`].
const TURNS_KEPT: [usize; 3] = [6, 3, 1];
/// What a compaction aims to leave, so that the next is far away.
const ROOMY_BYTES: usize = CONTEXT_BYTES_MAX / 4 * 3;
/// Outputs shorter than this stay: a stub would free nothing.
const STUB_WORTH_BYTES: usize = 400;
/// A compaction must free at least one part in this many.
const FREED_PART_MIN: usize = 10;
/// Compactions in one attempt.
pub(super) const COMPACTIONS_MAX: u32 = 3;

/// Bytes of the whole conversation.
pub(super) fn size(messages: &[Message]) -> usize {
    messages.iter().map(Message::bytes).sum()
}

/// Replaces old tool outputs; bytes freed, or `None` when that is too little to be worth it (nothing changes then).
pub(super) fn compact(messages: &mut [Message]) -> Option<usize> {
    let before = size(messages);
    let (mut stubs, mut freed) = (Vec::new(), 0);
    for kept in TURNS_KEPT {
        stubs = stubs_before(messages, kept);
        freed = stubs.iter().map(|(i, stub)| messages[*i].bytes().saturating_sub(stub.len())).sum();
        if before - freed <= ROOMY_BYTES && freed * FREED_PART_MIN >= before {
            break;
        }
    }
    if freed * FREED_PART_MIN < before {
        return None;
    }
    for (i, stub) in stubs {
        if let Message::Tool { content, .. } = &mut messages[i] {
            *content = stub;
        }
    }
    Some(freed)
}

/// Stubs for the long outputs before the last `kept` answers, with their places.
fn stubs_before(messages: &[Message], kept: usize) -> Vec<(usize, String)> {
    let answers = messages.iter().enumerate().rev().filter(|(_, m)| matches!(m, Message::Assistant { .. }));
    let recent = answers.map(|(i, _)| i).nth(kept - 1).unwrap_or(0);
    let worth = |(i, message): (usize, &Message)| match message {
        Message::Tool { content, .. } if content.len() >= STUB_WORTH_BYTES => Some((i, stub(content))),
        Message::System(_) | Message::User(_) | Message::Assistant { .. } | Message::Tool { .. } => None,
    };
    messages[..recent].iter().enumerate().filter_map(worth).collect()
}

fn stub(content: &str) -> String {
    let lines = content.lines().count();
    format!("[output of {lines} lines removed to make room; call the tool again if it is needed]")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation(turns: usize, output: usize) -> Vec<Message> {
        let mut messages = vec![Message::System("s".into()), Message::User("brief".repeat(200))];
        for n in 0..turns {
            messages.push(Message::Assistant { content: Some(format!("step {n}")), tool_calls: vec![] });
            messages.push(Message::Tool { call_id: n.to_string(), content: "x\n".repeat(output / 2) });
        }
        messages
    }

    #[test]
    fn old_outputs_go_and_the_brief_and_the_last_turns_stay() {
        let mut messages = conversation(10, 1000);
        let before = messages.clone();
        let freed = compact(&mut messages).unwrap();
        assert_eq!(size(&before) - size(&messages), freed);
        assert_eq!(messages[..3], before[..3]);
        assert_eq!(messages[10..], before[10..]);
        let Message::Tool { content, .. } = &messages[3] else { panic!() };
        assert_eq!(
            content,
            "[output of 500 lines removed to make room; call the tool again if it is needed]"
        );
    }

    #[test]
    fn large_recent_outputs_go_when_nothing_else_makes_room() {
        let mut messages = conversation(6, 50_000);
        let before = messages.clone();
        compact(&mut messages).unwrap();
        assert!(size(&messages) <= ROOMY_BYTES);
        assert_eq!(messages[8..], before[8..], "the last three turns are kept");
    }

    #[test]
    fn too_little_to_free_changes_nothing() {
        let mut messages = conversation(1, 1000);
        let before = messages.clone();
        assert_eq!(compact(&mut messages), None);
        assert_eq!(messages, before);
    }
}
