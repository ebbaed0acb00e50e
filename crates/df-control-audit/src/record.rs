//! One audit record and its hash.

use df_contract::{CommandId, Digest, JobId, Role, TaskSlug, Timestamp, canonical_json};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::AuditError;

/// Prefix of the hashed bytes: the leaf prefix of RFC 6962, so that records can be leaves of a Merkle log as
/// they are.
const LEAF_PREFIX: u8 = 0;

/// Canonical JSON (RFC 8785) knows numbers as IEEE doubles only. Beyond this two integers share one text, and
/// a changed record could keep its hash.
pub const MAX_EXACT_INTEGER: u64 = (1 << 53) - 1;

/// What is recorded, before it has its place in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub job: JobId,
    pub at: Timestamp,
    pub actor: String,
    pub role: Role,
    pub command_id: CommandId,
    /// Name of the command (`vote`, `claim`).
    pub command: String,
    /// Version of the job after the command.
    pub version: u64,
    pub slug: Option<TaskSlug>,
    /// Epoch of the task after the command.
    pub epoch: Option<u64>,
    /// What happened, as the control machine words it. Integers that a double cannot hold are put as text.
    pub body: Value,
}

/// One link of a job's chain. Rows of one command share its id and version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditRecord {
    pub job: JobId,
    /// Per job, from 1, without gaps.
    pub seq: u64,
    pub at: Timestamp,
    pub actor: String,
    pub role: Role,
    pub command_id: CommandId,
    pub command: String,
    pub version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slug: Option<TaskSlug>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    pub body: Value,
    /// Hash of the record before; zeros for the first.
    pub prev: Digest,
    /// SHA-256 over 0x00 and the canonical JSON of all other fields.
    pub hash: Digest,
}

/// Everything that is hashed: [`AuditRecord`] without its hash.
#[derive(Serialize)]
struct Hashed<'a> {
    job: JobId,
    seq: u64,
    at: Timestamp,
    actor: &'a str,
    role: Role,
    command_id: CommandId,
    command: &'a str,
    version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    slug: Option<&'a TaskSlug>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    body: &'a Value,
    prev: &'a Digest,
}

impl AuditRecord {
    /// The hash its fields lead to, whatever its `hash` says.
    pub fn computed_hash(&self) -> Result<Digest, AuditError> {
        self.check_numbers()?;
        let hashed = Hashed {
            job: self.job,
            seq: self.seq,
            at: self.at,
            actor: &self.actor,
            role: self.role,
            command_id: self.command_id,
            command: &self.command,
            version: self.version,
            slug: self.slug.as_ref(),
            epoch: self.epoch,
            body: &self.body,
            prev: &self.prev,
        };
        let mut bytes = vec![LEAF_PREFIX];
        bytes.extend(canonical_json(&hashed).map_err(|e| AuditError::Canonical { seq: self.seq, why: e.0 })?);
        Ok(Digest::of(&bytes))
    }

    fn check_numbers(&self) -> Result<(), AuditError> {
        let plain = [self.seq, self.at.0, self.version, self.epoch.unwrap_or(0)];
        let exact = plain.iter().all(|n| *n <= MAX_EXACT_INTEGER) && is_exact(&self.body);
        if exact { Ok(()) } else { Err(AuditError::Inexact { job: self.job, seq: self.seq }) }
    }
}

fn is_exact(value: &Value) -> bool {
    match value {
        Value::Number(n) => match (n.as_u64(), n.as_i64()) {
            (Some(n), _) => n <= MAX_EXACT_INTEGER,
            (None, Some(n)) => n.unsigned_abs() <= MAX_EXACT_INTEGER,
            // No record carries fractions: a float would bring rounding into the log.
            (None, None) => false,
        },
        Value::Array(items) => items.iter().all(is_exact),
        Value::Object(fields) => fields.values().all(is_exact),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

/// Puts every number that canonical JSON could not hold exactly as text (RFC 7493 §2.2).
pub(crate) fn exact(value: Value) -> Value {
    match value {
        Value::Number(n) if !is_exact(&Value::Number(n.clone())) => Value::String(n.to_string()),
        Value::Array(items) => Value::Array(items.into_iter().map(exact).collect()),
        Value::Object(fields) => Value::Object(fields.into_iter().map(|(k, v)| (k, exact(v))).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}
