//! Frames: how one change of the ledger lies in a file.
//!
//! `[length u32][CRC-32 u32][postcard]`, little endian; the check covers the length and the payload, so that neither
//! can be wrong alone. Kinds of frames are only ever added, at the end: their number is their name on disk.

use std::sync::Arc;

use df_contract::{JobId, TaskSlug, Timestamp};
use serde::{Deserialize, Serialize};

use super::budget::{Cap, Sum};
use super::keys::StandingKey;
use super::{Amount, Outcome, Payer};

/// What is written now. A program that knows less refuses the file.
pub(super) const FORMAT: u32 = 1;
pub(super) const HEADER_BYTES: usize = 8;
/// Longest payload. Names and levels are bounded where they come in; this bounds what a damaged length can ask for.
pub(super) const MAX_PAYLOAD_BYTES: usize = 1024 * 1024;

/// One change, or one part of a checkpoint.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Frame {
    /// First of each segment.
    Begin(Begin),
    /// Checkpoint: a level with its cap and what was spent; what is held comes as open reservations.
    Level(LevelState),
    /// Checkpoint: what an account or a job has cost.
    Account(String, Total),
    Job(#[serde(with = "uuid_bytes")] JobId, Total),
    /// Checkpoint: its end.
    Ready,
    /// A cap of a higher version became known.
    Cap(Cap),
    Reserve(u64, Held),
    Settle(Row),
    Revoke(Revoked),
    /// A standing key as it now is.
    Key(Arc<StandingKey>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Begin {
    pub(super) format: u32,
    pub(super) segment: u64,
    /// Number of the first row that can come.
    pub(super) next_seq: u64,
    pub(super) next_id: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LevelState {
    pub(super) name: Arc<str>,
    pub(super) cap: Option<Cap>,
    pub(super) spent: Sum,
}

/// Calls and what they cost; `last` is the number of the last row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Total {
    pub(super) calls: u64,
    pub(super) failed: u64,
    pub(super) input_tokens: u64,
    pub(super) output_tokens: u64,
    pub(super) nano_usd: u64,
    pub(super) last: u64,
}

/// A reservation that is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Held {
    pub(super) at: Timestamp,
    pub(super) payer: Payer,
    pub(super) levels: Vec<Arc<str>>,
    pub(super) amount: Amount,
}

/// One line of the ledger: the end of the reservation `id`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) seq: u64,
    pub(super) id: u64,
    pub(super) at: Timestamp,
    pub(super) payer: Payer,
    pub(super) spent: Amount,
    pub(super) end: End,
}

/// How it ended, without the amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum End {
    Settled,
    Estimated,
    Failed,
}

impl End {
    /// What an outcome charges for a reservation of `held`.
    pub(super) fn of(outcome: Outcome, held: Amount) -> (Self, Amount) {
        match outcome {
            Outcome::Settled(spent) => (End::Settled, spent),
            Outcome::Estimated => (End::Estimated, held),
            Outcome::Failed => (End::Failed, Amount { price: held.price, ..Amount::default() }),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Revoked {
    #[serde(with = "uuid_bytes")]
    pub(super) job: JobId,
    pub(super) task: TaskSlug,
    pub(super) epoch: u64,
}

/// Ids as their 16 bytes instead of their text.
pub(super) mod uuid_bytes {
    use df_contract::{AttemptId, JobId};
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};
    use uuid::Uuid;

    pub(in crate::ledger) trait Id: Copy {
        fn from_uuid(uuid: Uuid) -> Self;
        fn uuid(self) -> Uuid;
    }

    impl Id for JobId {
        fn from_uuid(uuid: Uuid) -> Self {
            JobId::from_uuid(uuid)
        }
        fn uuid(self) -> Uuid {
            JobId::uuid(self)
        }
    }

    impl Id for AttemptId {
        fn from_uuid(uuid: Uuid) -> Self {
            AttemptId::from_uuid(uuid)
        }
        fn uuid(self) -> Uuid {
            AttemptId::uuid(self)
        }
    }

    pub(in crate::ledger) fn serialize<T: Id, S: Serializer>(id: &T, to: S) -> Result<S::Ok, S::Error> {
        id.uuid().into_bytes().serialize(to)
    }

    pub(in crate::ledger) fn deserialize<'de, T: Id, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
        <[u8; 16]>::deserialize(from).map(|bytes| T::from_uuid(Uuid::from_bytes(bytes)))
    }
}

/// A change has no form: only a bug or a payload beyond [`MAX_PAYLOAD_BYTES`] can do that.
#[derive(Debug, thiserror::Error)]
#[error("a change of the ledger has no form on disk")]
pub(crate) struct Unwritable;

/// Appends `frame` to `bytes`.
pub(super) fn put(bytes: &mut Vec<u8>, frame: &Frame) -> Result<(), Unwritable> {
    let start = bytes.len();
    bytes.extend_from_slice(&[0; HEADER_BYTES]);
    // The buffer is moved through, because postcard extends by value.
    let grown = postcard::to_extend(frame, std::mem::take(bytes)).map_err(|_| Unwritable)?;
    *bytes = grown;
    let payload = bytes.len() - start - HEADER_BYTES;
    let length = u32::try_from(payload).ok().filter(|_| payload <= MAX_PAYLOAD_BYTES).ok_or(Unwritable)?;
    let check = check(length, &bytes[start + HEADER_BYTES..]);
    bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
    bytes[start + 4..start + HEADER_BYTES].copy_from_slice(&check.to_le_bytes());
    Ok(())
}

fn check(length: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// The frame at the start of `bytes` and how many bytes it takes; none if there is no whole, sound frame.
pub(super) fn take(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let length = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?);
    let expected = u32::from_le_bytes(bytes.get(4..HEADER_BYTES)?.try_into().ok()?);
    let size = usize::try_from(length).ok().filter(|n| (1..=MAX_PAYLOAD_BYTES).contains(n))?;
    let payload = bytes.get(HEADER_BYTES..HEADER_BYTES + size)?;
    (check(length, payload) == expected).then_some((payload, HEADER_BYTES + size))
}

/// None if the payload is of a kind or form that this program does not know.
pub(super) fn decode(payload: &[u8]) -> Option<Frame> {
    postcard::from_bytes(payload).ok()
}

/// The first byte of every [`Frame::Settle`]: readers of usage pass over all others without decoding them.
pub(super) const SETTLE_KIND: u8 = 7;
