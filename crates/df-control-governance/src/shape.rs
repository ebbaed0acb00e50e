//! The shape of what packs see as `input`, for refusing policies that name facts which do not exist.

use serde_json::{Value, json};

/// Every field of the input with a stand-in for its value. Objects list all their fields; `true` stands for anything
/// whose inside is not followed (texts, numbers, lists, maps with free keys).
pub(crate) fn input_shape() -> Value {
    let any = true;
    json!({
        "access": { "role": any, "action": any, "scope": any },
        "job": {
            "spec": any, "tenant": any, "submitter": any, "title": any,
            "text": { "clauses": any, "truncated": any },
            "capabilities": { "network": any, "dependencies": any, "environments": any, "data_classes": any },
            "budget": { "money_nano_usd": any, "tokens": any, "wall_ms": any },
            "origin": { "kind": any, "digest": any, "path": any, "url": any, "revision": any },
            "source": {
                "files": any, "bytes": any, "languages": any, "manifests": any, "dependencies": any,
                "licences": any, "infra_files": any, "ports": any, "secrets": any, "unreadable": any,
            },
            "stack": any, "delivery": any, "protected_paths": any,
            "acceptance_checks": any, "hidden_checks": any, "plan_supplied": any, "model": any,
            "retries": any,
        },
        "limits": {
            "money_nano_usd": any, "tokens": any, "wall_ms": any, "min_tier": any, "models": any,
            "dependencies": any, "protected_paths": any, "delivery": any, "git_sources": any,
            "free_environments": any, "free_data_classes": any, "max_attempts": any,
        },
    })
}

#[cfg(test)]
mod tests {
    use df_contract::{JobSpec, SourceFacts};

    use super::*;
    use crate::facts::{OperatorLimits, job_facts};

    /// The fields of `real` and `shape` are the same, down to where the shape stops.
    fn agree(real: &Value, shape: &Value, at: &str) {
        if let (Value::Object(real), Value::Object(shape)) = (real, shape) {
            let names = |m: &serde_json::Map<String, Value>| m.keys().cloned().collect::<Vec<_>>();
            let (mut r, mut s) = (names(real), names(shape));
            r.sort();
            s.sort();
            if at != "job.origin" {
                assert_eq!(r, s, "fields of {at}");
            }
            real.iter().for_each(|(k, v)| agree(v, &shape[k], &format!("{at}.{k}").replace("input.", "")));
        }
    }

    #[test]
    fn the_shape_is_that_of_the_real_facts() {
        let spec: JobSpec = serde_json::from_value(json!({
            "title": "t", "description": "d", "model": "m",
            "source": {"kind": "git", "url": "https://example.org/x"},
            "budget": {"money_nano_usd": 1, "tokens": 1, "wall_ms": 1},
            "retries": {"stalled": {"attempts": 1}},
        }))
        .unwrap();
        let facts = job_facts(&spec, &SourceFacts::default(), &"acme".parse().unwrap(), "alice").unwrap();
        let limits = OperatorLimits {
            money_nano_usd: Some(df_contract::NanoUsd(1)),
            models: Some([String::from("m")].into()),
            max_attempts: std::num::NonZeroU32::new(1),
            ..OperatorLimits::default()
        };
        let mut shape = input_shape();
        shape.as_object_mut().unwrap().remove("access");
        agree(&json!({"job": facts, "limits": limits}), &shape, "input");
    }
}
