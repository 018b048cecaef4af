//! Times as text: RFC 3339 in UTC.

use chrono::{DateTime, NaiveDate, NaiveTime, SecondsFormat};
use memstone::memory::Timestamp;

/// The first year that has five digits: RFC 3339 ends here.
const END: i64 = 253_402_300_800_000_000;

/// A time as text, to the microsecond. One that RFC 3339 does not reach is in seconds since 1970.
pub(crate) fn text(time: Timestamp) -> String {
    let date = i64::try_from(time.as_micros()).ok().filter(|time| *time < END);
    let date = date.and_then(DateTime::from_timestamp_micros);
    date.map_or_else(|| time.to_string(), |date| date.to_rfc3339_opts(SecondsFormat::Micros, true))
}

/// A time from text, at midnight if it is a date alone. None lies before 1970. What [`text`] writes is read, too.
pub(crate) fn parse(text: &str) -> Option<Timestamp> {
    if let Some((seconds, micros)) = text.split_once('.').filter(|(_, micros)| micros.len() == 6)
        && let (Ok(seconds), Ok(micros)) = (seconds.parse::<u64>(), micros.parse::<u64>())
    {
        return seconds.checked_mul(1_000_000)?.checked_add(micros).map(Timestamp::from_micros);
    }
    let micros = match DateTime::parse_from_rfc3339(text) {
        Ok(time) => time.timestamp_micros(),
        Err(_) => text.parse::<NaiveDate>().ok()?.and_time(NaiveTime::MIN).and_utc().timestamp_micros(),
    };
    u64::try_from(micros).ok().map(Timestamp::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let at = |text: &str| parse(text).map(Timestamp::as_micros);
        assert_eq!(text(Timestamp::from_micros(1_700_000_000_000_007)), "2023-11-14T22:13:20.000007Z");
        assert_eq!(at("2023-11-14T22:13:20.000007Z"), Some(1_700_000_000_000_007));
        assert_eq!(at("2023-11-15T00:13:20+02:00"), Some(1_700_000_000_000_000));
        assert_eq!(at("2023-11-14"), Some(1_699_920_000_000_000));
        assert_eq!([at("1969-12-31"), at("yesterday"), at("2023-11-14T22:13:20"), at("")], [None; 4]);
        assert_eq!(text(Timestamp::MAX), "18446744073709.551615");
        for micros in [0, 253_402_300_799_999_999, 253_402_300_800_000_000, u64::MAX] {
            assert_eq!(at(&text(Timestamp::from_micros(micros))), Some(micros));
        }
        assert_eq!([at("18446744073710.000000"), at("1.5"), at("1.5000000")], [None; 3]);
    }
}
