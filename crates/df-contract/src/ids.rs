//! Identifiers as newtypes. Parsed once at the edge; inside, an id cannot be mistaken for another.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Says why a text is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid {kind}: {why}")]
pub struct IdError {
    pub kind: &'static str,
    pub text: String,
    pub why: &'static str,
}

fn bad(kind: &'static str, text: &str, why: &'static str) -> IdError {
    IdError { kind, text: text.chars().take(80).collect(), why }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        ///
        /// Text form: a short prefix, `_`, and a UUID version 7 in hyphenated lower case.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(with = "String")]
        pub struct $name(Uuid);

        impl $name {
            /// Builds the id from the minting time and 10 random bytes: both are arguments, so minting is pure.
            pub fn mint(now: crate::Timestamp, random: [u8; 10]) -> Self {
                Self(uuid::Builder::from_unix_timestamp_millis(now.as_millis(), &random).into_uuid())
            }
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "_{}"), self.0.hyphenated())
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(s: &str) -> Result<Self, IdError> {
                let rest = s
                    .strip_prefix(concat!($prefix, "_"))
                    .ok_or_else(|| bad(stringify!($name), s, concat!("it must start with ", $prefix, "_")))?;
                Uuid::try_parse(rest).map(Self).map_err(|_| bad(stringify!($name), s, "the part after the prefix is no UUID"))
            }
        }
        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(s: String) -> Result<Self, IdError> {
                s.parse()
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }
    };
}

uuid_id!(
    /// A job, minted by the daemon.
    JobId, "job");
uuid_id!(
    /// One attempt at a task, minted by the daemon at claim.
    AttemptId, "att");
uuid_id!(
    /// A command, minted by whoever sends it; the same id again returns the first outcome.
    CommandId, "cmd");
uuid_id!(
    /// A worker's session with the daemon.
    SessionId, "ses");
uuid_id!(
    /// An API or worker key (not the secret itself).
    KeyId, "key");

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $check:expr, $why:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(with = "String")]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(s: &str) -> Result<Self, IdError> {
                let check: fn(&str) -> bool = $check;
                if check(s) { Ok(Self(s.to_owned())) } else { Err(bad(stringify!($name), s, $why)) }
            }
        }
        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(s: String) -> Result<Self, IdError> {
                s.parse()
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
    };
}

/// Longest slug of a task, in bytes. It becomes part of a git branch name.
pub const MAX_SLUG_BYTES: usize = 48;

fn is_slug(s: &str) -> bool {
    !s.is_empty()
        && s.len() <= MAX_SLUG_BYTES
        && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !s.starts_with('-')
        && !s.ends_with('-')
        && !s.contains("--")
}

/// Whether `s` is a slug, or slugs joined by single dots (machine-made tasks: `integrate.api.2`).
fn is_task_slug(s: &str) -> bool {
    s.len() <= 2 * MAX_SLUG_BYTES && s.split('.').all(is_slug)
}

text_id!(
    /// A task within its job: `api`, or for machine-made work `integrate.api`. Lower case letters, digits, single hyphens and dots.
    TaskSlug, is_task_slug, "use lower-case letters, digits and single hyphens, at most 48 bytes");
text_id!(
    /// A tenant.
    TenantId, is_slug, "use lower-case letters, digits and single hyphens, at most 48 bytes");
text_id!(
    /// An agent, built in or registered: `backend`, `docs-writer`.
    AgentName, is_slug, "use lower-case letters, digits and single hyphens, at most 48 bytes");
text_id!(
    /// SHA-256 as 64 lower-case hex digits: the address of a blob, a plan, a policy bundle.
    Digest, |s| s.len() == 64 && s.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)),
    "it must be 64 lower-case hex digits (SHA-256)");
text_id!(
    /// A git commit as 40 lower-case hex digits.
    Revision, |s| s.len() == 40 && s.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)),
    "it must be 40 lower-case hex digits");

impl TaskSlug {
    /// Whether a plan may use this slug (no dots: those are reserved for machine-made tasks).
    pub fn is_plain(&self) -> bool {
        !self.0.contains('.')
    }
}

impl Digest {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(hex::encode(sha2::Sha256::digest(bytes)))
    }
    /// 64 zeros: the previous hash of a chain's first entry.
    pub fn zero() -> Self {
        Self("0".repeat(64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip_and_refuse_each_others_text() {
        let now = crate::Timestamp::from_millis(1_700_000_000_000);
        let job = JobId::mint(now, [7; 10]);
        assert_eq!(job.to_string().parse::<JobId>().unwrap(), job);
        assert_eq!(job.uuid().get_version_num(), 7);
        assert!(job.to_string().parse::<AttemptId>().is_err());
        assert!("job_nonsense".parse::<JobId>().is_err());
    }

    #[test]
    fn slugs_are_safe_as_branch_names() {
        for good in ["api", "fix-codec", "integrate.api.2"] {
            assert!(good.parse::<TaskSlug>().is_ok(), "{good}");
        }
        for wrong in ["", "-a", "a-", "a--b", "A", "a/b", "a..b", "a b", ".a", "ไทย", "a.lock/"] {
            assert!(wrong.parse::<TaskSlug>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn digest_matches_the_known_vector() {
        assert_eq!(
            Digest::of(b"abc").as_str(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
