//! Times as they stand in names: UTC, in an order that is that of their letters.

/// `20260504T090807.123456Z` for microseconds since 1970.
pub(super) fn stamp(time_us: u64) -> String {
    let (seconds, micros) = (time_us / 1_000_000, time_us % 1_000_000);
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}.{micros:06}Z")
}

/// The Gregorian date of a day counted from 1970-01-01. Years are counted from March, so that
/// the leap day is the last of its year.
pub(super) fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_sort_as_times_do() {
        assert_eq!(stamp(0), "19700101T000000.000000Z");
        assert_eq!(stamp(951_782_400_000_001), "20000229T000000.000001Z");
        assert_eq!(stamp(1_709_251_199_999_999), "20240229T235959.999999Z");
        assert_eq!(stamp(4_107_542_400_000_000), "21000301T000000.000000Z");
        let times: Vec<u64> = (0..2000).map(|n| n * 86_400_000_000 * 3 + n).collect();
        assert!(times.windows(2).all(|pair| stamp(pair[0]) < stamp(pair[1])));
    }
}
