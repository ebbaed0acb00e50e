//! Days and months in UTC, for prices with dates and budgets with periods.

use df_contract::Timestamp;
use serde::{Deserialize, Serialize};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// A day in UTC. Text form: `2026-03-01`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Day {
    year: u64,
    month: u8,
    day: u8,
}

/// A text is no day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a day is written like 2026-03-01")]
pub struct NoDay;

impl Day {
    /// The day of an instant. Algorithm: <https://howardhinnant.github.io/date_algorithms.html>, `civil_from_days`,
    /// for days since 1970 only.
    pub(crate) fn of(at: Timestamp) -> Self {
        let z = at.as_millis() / DAY_MS + 719_468;
        let (era, of_era) = (z / 146_097, z % 146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        // Both fit by construction: 1 to 12, and 1 to 31.
        Self { year, month: u8::try_from(month).unwrap_or(1), day: u8::try_from(day).unwrap_or(1) }
    }

    /// `2026-03`.
    pub(crate) fn month(self) -> String {
        format!("{:04}-{:02}", self.year, self.month)
    }
}

impl std::fmt::Display for Day {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl std::str::FromStr for Day {
    type Err = NoDay;
    fn from_str(text: &str) -> Result<Self, NoDay> {
        let mut parts = text.splitn(3, '-');
        let mut number = |digits: usize| {
            let part = parts.next().filter(|p| p.len() == digits && p.bytes().all(|b| b.is_ascii_digit()));
            part.and_then(|p| p.parse::<u64>().ok()).ok_or(NoDay)
        };
        let (year, month, day) = (number(4)?, number(2)?, number(2)?);
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days = match month {
            2 => 28 + u64::from(leap),
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return Err(NoDay),
        };
        if !(1..=days).contains(&day) {
            return Err(NoDay);
        }
        let small = |n: u64| u8::try_from(n).map_err(|_| NoDay);
        Ok(Self { year, month: small(month)?, day: small(day)? })
    }
}

impl TryFrom<String> for Day {
    type Error = NoDay;
    fn try_from(text: String) -> Result<Self, NoDay> {
        text.parse()
    }
}

impl From<Day> for String {
    fn from(day: Day) -> String {
        day.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_follows_the_one_before() {
        assert_eq!(Day::of(Timestamp(0)).to_string(), "1970-01-01");
        assert_eq!(Day::of(Timestamp(1_772_323_200_000 - 1)).to_string(), "2026-02-28");
        assert_eq!(Day::of(Timestamp(1_772_323_200_000)).to_string(), "2026-03-01");
        assert_eq!(Day::of(Timestamp(951_782_400_000)).to_string(), "2000-02-29");
        // 200 years of days: each parses, and the next is later.
        let days: Vec<Day> = (0..73_000).map(|n| Day::of(Timestamp(n * DAY_MS))).collect();
        assert!(days.windows(2).all(|w| w[0] < w[1]));
        assert!(days.iter().all(|day| day.to_string().parse() == Ok(*day)));
    }

    #[test]
    fn what_is_no_day_is_refused() {
        for text in
            ["", "2026-3-1", "2026-02-29", "2026-13-01", "2026-01-00", "2026-01-01T00:00:00Z", "+026-01-01"]
        {
            assert_eq!(text.parse::<Day>(), Err(NoDay), "{text}");
        }
    }
}
