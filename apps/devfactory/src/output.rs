//! Standard output that may go away: `devfactory watch JOB | head` ends the reader, not the command.

use std::fmt::Arguments;
use std::io::Write as _;

/// Writes a line; a reader that has left is no error.
pub(crate) fn line(text: Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Writes text as it is; a reader that has left is no error.
pub(crate) fn text(text: Arguments<'_>) {
    let mut out = std::io::stdout();
    let _ = write!(out, "{text}").and_then(|()| out.flush());
}
