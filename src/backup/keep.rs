//! Which backups are kept.

use crate::error::{Error, Result};
use std::collections::BTreeSet;
use std::str::FromStr;

use super::utc::civil;

/// A span of time of which one backup is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Hour,
    Day,
    Week,
    Month,
    Year,
}

impl Unit {
    /// The span of this kind that a time lies in, by number.
    fn of(self, time_us: u64) -> u64 {
        let days = time_us / 86_400_000_000;
        let (year, month, _) = civil(days);
        match self {
            Unit::Hour => time_us / 3_600_000_000,
            Unit::Day => days,
            // Day 0 was a Thursday: weeks begin on Monday.
            Unit::Week => (days + 3) / 7,
            Unit::Month => year * 12 + month,
            Unit::Year => year,
        }
    }
}

/// How many backups are kept: `7d,4w,12m` keeps the last backup of each of the last 7 days, 4 weeks and 12 months
/// that have one. Units: `h`, `d`, `w`, `m` (months), `y`; in UTC.
///
/// ```
/// let keep: memstone::Keep = "7d,4w,12m".parse()?;
/// assert!("7x".parse::<memstone::Keep>().is_err() && "".parse::<memstone::Keep>().is_err());
/// # Ok::<(), memstone::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    rules: Vec<(usize, Unit)>,
}

impl FromStr for Keep {
    type Err = Error;

    fn from_str(text: &str) -> Result<Keep> {
        let wrong =
            || Error::Invalid(format!("{text:?} is no rule such as 7d,4w,12m (units h, d, w, m, y; numbers from 1)"));
        let rule = |part: &str| {
            let part = part.trim();
            let unit = match part.chars().next_back()? {
                'h' => Unit::Hour,
                'd' => Unit::Day,
                'w' => Unit::Week,
                'm' => Unit::Month,
                'y' => Unit::Year,
                _ => return None,
            };
            let number: usize = part.get(..part.len() - 1)?.parse().ok()?;
            (number > 0).then_some((number, unit))
        };
        let rules = text.split(',').map(rule).collect::<Option<Vec<_>>>().ok_or_else(wrong)?;
        Ok(Keep { rules })
    }
}

impl Keep {
    /// Which of these times are kept: the last one in each of so many spans.
    pub(super) fn kept(&self, times: &[u64]) -> BTreeSet<u64> {
        let mut newest_first: Vec<u64> = times.to_vec();
        newest_first.sort_unstable_by(|a, b| b.cmp(a));
        let mut kept = BTreeSet::new();
        for (number, unit) in &self.rules {
            let mut spans = BTreeSet::new();
            for time in &newest_first {
                if spans.len() == *number && !spans.contains(&unit.of(*time)) {
                    break;
                }
                if spans.insert(unit.of(*time)) {
                    kept.insert(*time);
                }
            }
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000_000;

    #[test]
    fn the_last_of_each_span_is_kept() {
        // Four a day, for two years; day 19675 is 2023-11-14.
        let times: Vec<u64> = (0..730 * 4).map(|n| 19_675 * DAY + n * DAY / 4).collect();
        let keep = |rule: &str| rule.parse::<Keep>().unwrap().kept(&times);
        let newest = *times.last().unwrap();
        assert_eq!(keep("1d"), [newest].into());
        assert_eq!(keep("3d"), [newest, newest - DAY, newest - 2 * DAY].into());
        assert_eq!(keep("2h"), [newest, newest - DAY / 4].into());
        let months = keep("12m");
        assert_eq!(months.len(), 12);
        let month = |time: &u64| civil(time / DAY).1;
        assert!(months.iter().all(|time| *time == newest || month(time) != month(&(time + DAY / 4))));
        assert_eq!(keep("1d,12m"), months);
        assert_eq!(keep("5y").len(), 3, "no more than there are");
        assert_eq!(keep("4w").len(), 4);
    }
}
