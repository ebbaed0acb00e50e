//! Texts that look like secrets. What is found is named by rule, file and line; the text itself is never carried.

use std::sync::LazyLock;

use df_contract::facts::SecretFact;
use regex::bytes::Regex;

use crate::MAX_SECRETS;

/// Bytes of one line that are looked at; secrets stand near the beginning of lines, minified bundles do not end.
const MAX_LINE_BYTES: usize = 4096;
/// Shannon entropy, in thousandths of a bit per byte, from which a quoted value counts as random.
const MIN_ENTROPY_MILLIBITS: u64 = 3_500;

struct Rule {
    id: &'static str,
    /// One of these stands in any line the pattern fits, whatever the case.
    keywords: &'static [&'static str],
    pattern: &'static str,
    /// The first group must look random.
    random: bool,
}

const RULES: &[Rule] = &[
    Rule {
        id: "private-key",
        keywords: &["private key"],
        pattern: r"-----BEGIN (?:[A-Z]+ ){0,2}PRIVATE KEY(?: BLOCK)?-----",
        random: false,
    },
    Rule {
        id: "aws-access-key",
        keywords: &["akia", "asia"],
        pattern: r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
        random: false,
    },
    Rule {
        id: "github-token",
        keywords: &["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"],
        pattern: r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,})",
        random: false,
    },
    Rule {
        id: "jwt",
        keywords: &["eyj"],
        pattern: r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
        random: false,
    },
    Rule {
        id: "provider-key",
        keywords: &["sk-", "xox"],
        pattern: r"\b(?:sk-[A-Za-z0-9_-]{32,}|xox[abprs]-[A-Za-z0-9-]{20,})",
        random: false,
    },
    Rule {
        id: "assigned-secret",
        keywords: &["key", "secret", "token", "passw"],
        pattern: r#"(?i)(?:api[_-]?key|secret[_-]?key|access[_-]?key|client[_-]?secret|auth[_-]?token|access[_-]?token|password|passwd)["']?\s{0,4}[:=]\s{0,4}["']([A-Za-z0-9+/_=.!@#$%^&*-]{16,200})["']"#,
        random: true,
    },
];

static COMPILED: LazyLock<Vec<(&'static Rule, Regex)>> = LazyLock::new(|| {
    // A pattern that does not compile would leave its rule out; the tests count the rules.
    RULES.iter().filter_map(|r| Some((r, Regex::new(r.pattern).ok()?))).collect()
});

/// Lines without any rule's keyword, which are nearly all, are not looked at twice.
static KEYWORDS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let words: Vec<&str> = RULES.iter().flat_map(|r| r.keywords.iter().copied()).collect();
    Regex::new(&format!("(?i-u)(?:{})", words.join("|"))).ok()
});

/// Adds what looks like a secret in one file. Each rule reports a line once.
pub(crate) fn find(path: &str, bytes: &[u8], found: &mut Vec<SecretFact>) {
    for (n, line) in bytes.split(|b| *b == b'\n').enumerate() {
        let line = &line[..line.len().min(MAX_LINE_BYTES)];
        if KEYWORDS.as_ref().is_some_and(|words| !words.is_match(line)) {
            continue;
        }
        for (rule, pattern) in COMPILED.iter() {
            if found.len() >= MAX_SECRETS {
                return;
            }
            if hit(rule, pattern, line) {
                let line = u32::try_from(n + 1).unwrap_or(u32::MAX);
                found.push(SecretFact { rule: rule.id.to_owned(), file: path.to_owned(), line });
            }
        }
    }
}

fn hit(rule: &Rule, pattern: &Regex, line: &[u8]) -> bool {
    match rule.random {
        false => pattern.is_match(line),
        true => {
            pattern.captures_iter(line).any(|c| c.get(1).is_some_and(|value| is_random(value.as_bytes())))
        }
    }
}

/// Random enough for a key, and not a word list: both letters and digits, and [`MIN_ENTROPY_MILLIBITS`].
fn is_random(value: &[u8]) -> bool {
    let mixed = value.iter().any(u8::is_ascii_digit) && value.iter().any(u8::is_ascii_alphabetic);
    mixed && entropy_millibits(value) >= MIN_ENTROPY_MILLIBITS
}

/// Σ n·(log2 N − log2 n) / N over the byte counts, in integers: the same on every machine.
fn entropy_millibits(value: &[u8]) -> u64 {
    let mut counts = [0_u64; 256];
    value.iter().for_each(|b| counts[usize::from(*b)] += 1);
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return 0;
    }
    let sum: u64 =
        counts.iter().filter(|n| **n > 0).map(|n| n * (log2_millibits(total) - log2_millibits(*n))).sum();
    sum / total
}

/// 1000·log2(n) by repeated squaring, rounded down.
fn log2_millibits(n: u64) -> u64 {
    let whole = u64::from(n.max(1).ilog2());
    // Mantissa in 1.0..2.0 as Q32, squared once per fractional bit.
    let mut mantissa = (u128::from(n.max(1)) << 32) >> whole;
    let mut fraction = 0_u64;
    for bit in (0..16).rev() {
        mantissa = (mantissa * mantissa) >> 32;
        if mantissa >= 2 << 32 {
            mantissa >>= 1;
            fraction |= 1 << bit;
        }
    }
    whole * 1000 + (fraction * 1000) / 65_536
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &[(&str, u32)]) {
        let mut found = Vec::new();
        find("f", text.as_bytes(), &mut found);
        let got: Vec<(&str, u32)> = found.iter().map(|s| (s.rule.as_str(), s.line)).collect();
        assert_eq!(got, expect, "{text}");
    }

    // Secrets for these tests are put together here, so that no scanner finds one in this file.
    fn glue(parts: &[&str]) -> String {
        parts.concat()
    }

    #[test]
    fn every_rule_compiles() {
        assert_eq!(COMPILED.len(), RULES.len());
        assert!(KEYWORDS.is_some());
    }

    #[test]
    fn secrets_are_found_with_rule_and_line() {
        check(&glue(&["x\n-----BEGIN RSA PRIV", "ATE KEY-----\n"]), &[("private-key", 2)]);
        check(&glue(&["id = AK", "IAIOSFODNN7EXAMPLE"]), &[("aws-access-key", 1)]);
        check(&glue(&["gh", "p_abcdefghijklmnopqrstuvwxyz0123456789"]), &[("github-token", 1)]);
        check(&glue(&["api_k", "ey = \"f3Xq9LmZ82KpWv71sRtB\""]), &[("assigned-secret", 1)]);
        check(&glue(&["\"client_sec", "ret\": 'q8Rj2nXv5TzL0pWc7YbM'"]), &[("assigned-secret", 1)]);
        check(
            &glue(&["ey", "JhbGciOiJIUzI1NiJ9.ey", "JzdWIiOiIxMjM0NTY3ODkwIn0.SflKxwRJSMeKKF2QT4"]),
            &[("jwt", 1)],
        );
    }

    #[test]
    fn what_only_speaks_of_secrets_is_none() {
        check("password = os.environ[\"DB_PASSWORD\"]", &[]);
        check("api_key = \"your-api-key-goes-here\"", &[]);
        check("password: \"aaaaaaaaaaaaaaaa1\"", &[]);
        check("-----BEGIN PUBLIC KEY-----", &[]);
        check("the private key is kept elsewhere", &[]);
    }

    #[test]
    fn entropy_is_that_of_shannon() {
        assert_eq!(entropy_millibits(b""), 0);
        assert_eq!(entropy_millibits(b"aaaa"), 0);
        assert_eq!(entropy_millibits(b"abab"), 1000);
        assert_eq!(entropy_millibits(b"abcdefgh"), 3000);
        let third = entropy_millibits(b"abc");
        assert!((1584..=1585).contains(&third), "{third}");
    }
}
