//! Canonical JSON (RFC 8785) and digests over it.

use serde::Serialize;

use crate::Digest;

/// A value that cannot be put into canonical JSON (a float that is not finite, a map with keys that are not text).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the value has no canonical JSON form: {0}")]
pub struct CanonicalError(pub String);

/// Serialises `value` as RFC 8785 canonical JSON.
pub fn canonical_json<T: Serialize>(value: &T) -> Result<Vec<u8>, CanonicalError> {
    serde_json_canonicalizer::to_vec(value).map_err(|e| CanonicalError(e.to_string()))
}

/// SHA-256 over the canonical JSON of `value`.
pub fn digest_json<T: Serialize>(value: &T) -> Result<Digest, CanonicalError> {
    Ok(Digest::of(&canonical_json(value)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_order_does_not_matter() {
        let a = serde_json::json!({"b": 1, "a": [true, null, "é"]});
        let b: serde_json::Value = serde_json::from_str(r#"{"a":[true,null,"\u00e9"],"b":1}"#).unwrap();
        assert_eq!(canonical_json(&a).unwrap(), canonical_json(&b).unwrap());
        assert_eq!(canonical_json(&a).unwrap(), "{\"a\":[true,null,\"é\"],\"b\":1}".as_bytes());
    }
}
