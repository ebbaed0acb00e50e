//! Server-sent events as bytes arrive: the `data` of each event. Comments and other fields only show that the server
//! lives. Format: <https://html.spec.whatwg.org/multipage/server-sent-events.html>.

/// The data that ends a stream of chat chunks.
pub(crate) const STREAM_END: &str = "[DONE]";
/// Most bytes of one event.
const MAX_EVENT_BYTES: usize = 8 * 1024 * 1024;

/// An event was larger than [`MAX_EVENT_BYTES`], or no UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unreadable;

/// Collects events over the borders of chunks.
#[derive(Debug, Default)]
pub(crate) struct Events {
    line: Vec<u8>,
    data: String,
    has_data: bool,
}

impl Events {
    /// Takes the next bytes and returns the events they complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<String>, Unreadable> {
        let mut complete = Vec::new();
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|b| *b == b'\n') {
            self.line.extend_from_slice(&rest[..at]);
            rest = &rest[at + 1..];
            let line = std::mem::take(&mut self.line);
            self.end_of_line(&line, &mut complete)?;
        }
        self.line.extend_from_slice(rest);
        if self.line.len() + self.data.len() > MAX_EVENT_BYTES { Err(Unreadable) } else { Ok(complete) }
    }

    fn end_of_line(&mut self, line: &[u8], complete: &mut Vec<String>) -> Result<(), Unreadable> {
        let line = std::str::from_utf8(line).map_err(|_| Unreadable)?;
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() {
            if std::mem::take(&mut self.has_data) {
                complete.push(std::mem::take(&mut self.data));
            }
            return Ok(());
        }
        if let Some(data) = line.strip_prefix("data:") {
            if self.has_data {
                self.data.push('\n');
            }
            self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
            self.has_data = true;
        }
        Ok(())
    }

    /// An event that the server did not end with an empty line before it closed.
    pub(crate) fn rest(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.line);
        let mut complete = Vec::new();
        self.end_of_line(&line, &mut complete).ok()?;
        self.end_of_line(b"", &mut complete).ok()?;
        complete.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_the_same_however_the_bytes_are_cut() {
        let text =
            ": waiting\r\n\r\ndata: {\"a\":\"é\"}\r\n\r\nevent: x\ndata:1\ndata: 2\n\n\n\ndata: [DONE]\n";
        for size in 1..text.len() {
            let mut events = Events::default();
            let mut got: Vec<String> = Vec::new();
            for part in text.as_bytes().chunks(size) {
                got.extend(events.push(part).unwrap());
            }
            got.extend(events.rest());
            assert_eq!(got, ["{\"a\":\"é\"}", "1\n2", "[DONE]"], "cut every {size} bytes");
        }
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut events = Events::default();
        let part = vec![b'x'; 1024 * 1024];
        assert!((0..9).any(|_| events.push(&part) == Err(Unreadable)));
    }
}
