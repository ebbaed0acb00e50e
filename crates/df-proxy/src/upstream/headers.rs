//! What providers say of their limits in headers, each in its own form.
//!
//! OpenAI and Azure: `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, the reset as a duration (`6m0s`, `12ms`).
//! Anthropic: `anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-*`, the reset in RFC 3339, and
//! `-unified-{5h,7d}-{status,reset}` of subscriptions, the reset in unix seconds. Waits: `retry-after` as seconds or an
//! HTTP date, `retry-after-ms`, `x-ms-retry-after-ms`.

use df_contract::{DurationMs, Timestamp};
use reqwest::header::HeaderMap;
use smallvec::SmallVec;

use crate::select::{Axis, Heard, Signal};

/// A limit on requests that takes longer than this to be whole again is one per day.
const MINUTE_LIMIT_RESET_MS: u64 = 90 * 1000;

/// One axis as the headers spell it out.
#[derive(Debug, Clone, Copy, Default)]
struct Said {
    limit: Option<u64>,
    remaining: Option<u64>,
    reset_ms: Option<u64>,
}

/// Reads every answer's headers; what is not understood is passed over. `now` is the wall clock.
pub(crate) fn heard(headers: &HeaderMap, now: Timestamp) -> Heard {
    let mut said: SmallVec<[(Axis, Said); 4]> = SmallVec::new();
    let (mut combined, mut shut_for_ms) = (None, None);
    for (name, value) in headers {
        let name = name.as_str();
        let (axis, field) = if let Some(rest) = name.strip_prefix("x-ratelimit-") {
            let Some((field, what)) = rest.split_once('-') else { continue };
            (what, field)
        } else if let Some(rest) = name.strip_prefix("anthropic-ratelimit-") {
            let Some((what, field)) = rest.rsplit_once('-') else { continue };
            (what, field)
        } else {
            continue;
        };
        let Ok(value) = value.to_str() else { continue };
        let anthropic = name.starts_with("anthropic-");
        let axis = match axis {
            "requests" => Axis::RequestsPerMinute,
            // Anthropic repeats the tightest of its token limits here.
            "tokens" if anthropic => {
                put(combined.get_or_insert_with(Said::default), field, value, now);
                continue;
            }
            "tokens" => Axis::TokensPerMinute,
            "input-tokens" => Axis::InputTokensPerMinute,
            "output-tokens" => Axis::OutputTokensPerMinute,
            window if anthropic && window.starts_with("unified-") && field == "status" => {
                if value == "rejected" {
                    let reset = headers.get(format!("anthropic-ratelimit-{window}-reset"));
                    let wait = reset.and_then(|v| moment(v.to_str().ok()?, now));
                    shut_for_ms = shut_for_ms.max(wait);
                }
                continue;
            }
            _ => continue,
        };
        let i = said.iter().position(|(known, _)| *known == axis).unwrap_or_else(|| {
            said.push((axis, Said::default()));
            said.len() - 1
        });
        put(&mut said[i].1, field, value, now);
    }
    if let Some(combined) = combined.filter(|_| said.iter().all(|(axis, _)| !is_tokens(*axis))) {
        said.push((Axis::TokensPerMinute, combined));
    }
    let signals = said.into_iter().map(|(axis, said)| said.signal(axis)).collect();
    Heard { signals, shut_for_ms }
}

const fn is_tokens(axis: Axis) -> bool {
    matches!(axis, Axis::TokensPerMinute | Axis::InputTokensPerMinute | Axis::OutputTokensPerMinute)
}

fn put(said: &mut Said, field: &str, value: &str, now: Timestamp) {
    match field {
        "limit" => said.limit = value.trim().parse().ok(),
        "remaining" => said.remaining = value.trim().parse().ok(),
        "reset" => said.reset_ms = duration(value).or_else(|| moment(value, now)),
        _ => {}
    }
}

impl Said {
    /// Requests may be meant per minute or per day; how long until all are there again tells which.
    fn signal(self, axis: Axis) -> Signal {
        let whole_window = match (self.limit, self.remaining, self.reset_ms) {
            (Some(limit), Some(remaining), Some(reset)) if remaining < limit => {
                u128::from(reset) * u128::from(limit) / u128::from(limit - remaining)
            }
            _ => 0,
        };
        let daily = axis == Axis::RequestsPerMinute && whole_window > u128::from(MINUTE_LIMIT_RESET_MS);
        let axis = if daily { Axis::RequestsPerDay } else { axis };
        Signal { axis, limit: self.limit, remaining: self.remaining }
    }
}

/// How long to wait, in whichever form it is said; the longest if several are.
pub(crate) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<DurationMs> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let millis = |name: &str| text(name).and_then(|v| v.trim().parse::<f64>().ok()).and_then(from_f64);
    let after = text("retry-after").and_then(|v| {
        let seconds = v.trim().parse::<f64>().ok().and_then(|s| from_f64(s * 1000.0));
        seconds.or_else(|| {
            let at = httpdate::parse_http_date(v.trim()).ok()?;
            let at = at.duration_since(std::time::UNIX_EPOCH).ok()?.as_millis();
            Some(u64::try_from(at).ok()?.saturating_sub(now.as_millis()))
        })
    });
    // The one in milliseconds is the exact one.
    let wait = millis("retry-after-ms").or_else(|| millis("x-ms-retry-after-ms")).or(after);
    wait.map(DurationMs)
}

/// `1h2m3.5s`, `12ms`, `6m0s`, in ms. A bare number has no unit and is none.
pub(crate) fn duration(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    let mut total = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let number: f64 = rest[..end].parse().ok()?;
        let unit_end = rest[end..].find(|c: char| !c.is_ascii_alphabetic()).map_or(rest.len(), |i| end + i);
        let factor = match &rest[end..unit_end] {
            "ms" => 1.0,
            "s" => 1_000.0,
            "m" => 60_000.0,
            "h" => 3_600_000.0,
            "d" => 86_400_000.0,
            _ => return None,
        };
        total += number * factor;
        rest = &rest[unit_end..];
    }
    from_f64(total)
}

/// RFC 3339 or unix seconds, as ms from now.
fn moment(text: &str, now: Timestamp) -> Option<u64> {
    let text = text.trim();
    let at = match text.parse::<u64>() {
        Ok(seconds) => seconds.saturating_mul(1_000),
        Err(_) => u64::try_from(text.parse::<jiff::Timestamp>().ok()?.as_millisecond()).ok()?,
    };
    Some(at.saturating_sub(now.as_millis()))
}

fn from_f64(ms: f64) -> Option<u64> {
    (ms.is_finite() && ms >= 0.0).then_some(ms.ceil() as u64)
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    /// 2026-11-23T10:00:00Z
    const NOW: Timestamp = Timestamp(1_795_428_000_000);

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(n, v)| (n.parse::<HeaderName>().unwrap(), HeaderValue::from_str(v).unwrap()))
            .collect()
    }

    #[track_caller]
    fn check(pairs: &[(&str, &str)], expect: &[(Axis, Option<u64>, Option<u64>)]) {
        let got = heard(&headers(pairs), NOW);
        let got: Vec<_> = got.signals.iter().map(|s| (s.axis, s.limit, s.remaining)).collect();
        assert_eq!(got, expect);
    }

    #[test]
    fn each_provider_is_read_in_its_own_form() {
        check(
            &[
                ("x-ratelimit-limit-requests", "500"),
                ("x-ratelimit-remaining-requests", "499"),
                ("x-ratelimit-reset-requests", "120ms"),
                ("x-ratelimit-limit-tokens", "30000"),
                ("x-ratelimit-remaining-tokens", "29000"),
                ("x-ratelimit-reset-tokens", "2s"),
            ],
            &[
                (Axis::RequestsPerMinute, Some(500), Some(499)),
                (Axis::TokensPerMinute, Some(30_000), Some(29_000)),
            ],
        );
        check(
            &[
                ("anthropic-ratelimit-requests-limit", "50"),
                ("anthropic-ratelimit-requests-remaining", "49"),
                ("anthropic-ratelimit-requests-reset", "2026-11-23T10:00:01Z"),
                ("anthropic-ratelimit-tokens-limit", "8000"),
                ("anthropic-ratelimit-tokens-remaining", "8000"),
                ("anthropic-ratelimit-input-tokens-limit", "40000"),
                ("anthropic-ratelimit-input-tokens-remaining", "39000"),
                ("anthropic-ratelimit-output-tokens-limit", "8000"),
            ],
            &[
                (Axis::RequestsPerMinute, Some(50), Some(49)),
                (Axis::InputTokensPerMinute, Some(40_000), Some(39_000)),
                (Axis::OutputTokensPerMinute, Some(8_000), None),
            ],
        );
        check(&[("anthropic-ratelimit-tokens-limit", "8000")], &[(Axis::TokensPerMinute, Some(8_000), None)]);
        // Azure names neither limit nor reset.
        check(&[("x-ratelimit-remaining-tokens", "7")], &[(Axis::TokensPerMinute, None, Some(7))]);
        check(
            &[("x-ratelimit-limit-requests", "many"), ("x-ratelimit-", ""), ("x-request-id", "1")],
            &[(Axis::RequestsPerMinute, None, None)],
        );
    }

    #[test]
    fn requests_that_take_a_day_to_come_back_are_per_day() {
        check(
            &[
                ("x-ratelimit-limit-requests", "10000"),
                ("x-ratelimit-remaining-requests", "9999"),
                ("x-ratelimit-reset-requests", "8.64s"),
            ],
            &[(Axis::RequestsPerDay, Some(10_000), Some(9_999))],
        );
    }

    #[test]
    fn a_subscription_s_window_that_is_used_up_shuts() {
        let used_up = headers(&[
            ("anthropic-ratelimit-unified-5h-status", "rejected"),
            ("anthropic-ratelimit-unified-5h-reset", "1795428060"),
            ("anthropic-ratelimit-unified-7d-status", "allowed"),
            ("anthropic-ratelimit-unified-7d-reset", "1795999999"),
        ]);
        assert_eq!(heard(&used_up, NOW).shut_for_ms, Some(60_000));
    }

    #[test]
    fn every_form_of_a_wait_is_understood() {
        for (pairs, expect) in [
            (&[("retry-after", "7")][..], Some(7_000)),
            (&[("retry-after", "0.5")], Some(500)),
            (&[("retry-after", "Mon, 23 Nov 2026 10:00:30 GMT")], Some(30_000)),
            (&[("retry-after", "Mon, 23 Nov 2020 10:00:30 GMT")], Some(0)),
            (&[("retry-after-ms", "1500"), ("retry-after", "2")], Some(1_500)),
            (&[("x-ms-retry-after-ms", "20")], Some(20)),
            (&[("retry-after", "soon")], None),
            (&[("retry-after", "-1")], None),
            (&[("retry-after", "inf")], None),
            (&[], None),
        ] {
            assert_eq!(retry_after(&headers(pairs), NOW).map(|d| d.0), expect, "{pairs:?}");
        }
    }

    #[test]
    fn durations_have_units() {
        for (text, expect) in [
            ("12ms", Some(12)),
            ("1s", Some(1_000)),
            ("6m0s", Some(360_000)),
            ("1h2m3.5s", Some(3_723_500)),
            ("34.074824224s", Some(34_075)),
            ("5", None),
            ("", None),
            ("1x", None),
            ("s", None),
        ] {
            assert_eq!(duration(text), expect, "{text}");
        }
    }
}
