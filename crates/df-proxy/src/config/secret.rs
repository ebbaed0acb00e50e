//! A text that must never be shown.

use std::fmt;
use std::path::Path;

use super::ConfigError;

/// Longest key or token read, in bytes.
const MAX_SECRET_BYTES: usize = 8 * 1024;

/// A provider's key or the admin token. `Debug` hides it, and there is no `Display`.
#[derive(Clone)]
pub struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    pub(crate) fn new(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        if text.is_empty() {
            return Err("is empty");
        }
        if text.len() > MAX_SECRET_BYTES || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("does not hold a key (one line of printable ASCII)");
        }
        Ok(Self(text.to_owned()))
    }

    pub(crate) fn from_env(name: &str) -> Result<Self, ConfigError> {
        let text = std::env::var(name)
            .map_err(|_| ConfigError::Invalid(format!("the environment variable {name} is not set")))?;
        Self::new(&text).map_err(|why| ConfigError::Invalid(format!("the environment variable {name} {why}")))
    }

    pub(crate) fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::new(&text).map_err(|why| ConfigError::Invalid(format!("the file {} {why}", path.display())))
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// `text` without this secret: what an upstream says may quote the key it was sent.
    pub(crate) fn redact(&self, text: &str) -> String {
        text.replace(&self.0, "[redacted]")
    }
}
