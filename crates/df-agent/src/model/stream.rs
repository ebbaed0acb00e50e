//! Server-sent events, as far as chat completions use them: `data:` lines and comments.

/// Longest line of a stream, in bytes.
const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A line longer than any honest server sends.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LineTooLong;

/// Cuts a byte stream into the payloads of its `data:` lines.
#[derive(Debug, Default)]
pub(super) struct DataLines {
    rest: Vec<u8>,
}

impl DataLines {
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<String>, LineTooLong> {
        self.rest.extend_from_slice(bytes);
        let mut found = Vec::new();
        let mut start = 0;
        while let Some(length) = self.rest[start..].iter().position(|b| *b == b'\n') {
            let line = &self.rest[start..start + length];
            if let Some(data) = line.strip_prefix(b"data:") {
                found.push(String::from_utf8_lossy(data).trim().to_owned());
            }
            start += length + 1;
        }
        self.rest.drain(..start);
        if self.rest.len() > LINE_BYTES_MAX { Err(LineTooLong) } else { Ok(found) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_lines_survive_any_cut() {
        let stream = ": hello\r\ndata: {\"a\":\"ไทย\"}\n\nevent: x\ndata:[DONE]\n\n".as_bytes();
        for size in 1..stream.len() {
            let mut lines = DataLines::default();
            let found: Vec<String> = stream.chunks(size).flat_map(|c| lines.push(c).unwrap()).collect();
            assert_eq!(found, ["{\"a\":\"ไทย\"}", "[DONE]"], "pieces of {size}");
        }
        assert_eq!(DataLines::default().push(&vec![b'x'; LINE_BYTES_MAX + 1]), Err(LineTooLong));
    }
}
