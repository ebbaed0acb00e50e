//! The one clock and the one source of randomness of the process, handed in.

use std::fmt;
use std::sync::Arc;

use df_contract::{AttemptId, CommandId, Digest, JobId, KeyId, SessionId, Timestamp};

type Fill = dyn Fn(&mut [u8]) + Send + Sync;

/// Clock and randomness. Cheap to clone.
#[derive(Clone)]
pub struct Env {
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    random: Arc<Fill>,
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Env")
    }
}

impl Env {
    pub fn new(
        now: impl Fn() -> Timestamp + Send + Sync + 'static,
        random: impl Fn(&mut [u8]) + Send + Sync + 'static,
    ) -> Self {
        Self { now: Arc::new(now), random: Arc::new(random) }
    }

    pub fn now(&self) -> Timestamp {
        (self.now)()
    }

    fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        (self.random)(&mut bytes);
        bytes
    }

    pub fn job_id(&self) -> JobId {
        JobId::mint(self.now(), self.bytes())
    }
    pub fn attempt_id(&self) -> AttemptId {
        AttemptId::mint(self.now(), self.bytes())
    }
    pub fn command_id(&self) -> CommandId {
        CommandId::mint(self.now(), self.bytes())
    }
    pub fn session_id(&self) -> SessionId {
        SessionId::mint(self.now(), self.bytes())
    }
    pub fn key_id(&self) -> KeyId {
        KeyId::mint(self.now(), self.bytes())
    }

    /// A fresh secret: 32 random bytes as hex.
    pub fn secret(&self) -> String {
        hex::encode(self.bytes::<32>())
    }
}

/// A command id that follows from its text: asking for the same thing again is the same command.
pub fn command_id_of(parts: &[&str]) -> CommandId {
    let digest = Digest::of(parts.join("\n").as_bytes());
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digest.as_str().as_bytes().chunks(2)) {
        *byte =
            std::str::from_utf8(pair).ok().and_then(|p| u8::from_str_radix(p, 16).ok()).unwrap_or_default();
    }
    CommandId::from_uuid(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_command_ids_repeat_and_differ() {
        assert_eq!(command_id_of(&["a", "b"]), command_id_of(&["a", "b"]));
        assert_ne!(command_id_of(&["a", "b"]), command_id_of(&["ab"]));
    }
}
