//! The key encoding of points in time, durations and dates.
//!
//! A point in time is its seconds since 1970 (rounded towards the past) as an `i64`, and the nanoseconds after them as
//! a `u32`: 12 bytes. A duration is the same with a `u64`.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use super::key::{AsKey, CodecError, Key, Place};

const NANOS: u32 = 1_000_000_000;

/// Seconds and nanoseconds of a point in time, for the types that can hold it.
trait Instant: Sized {
    fn seconds_and_nanos(&self) -> (i64, u32);
    fn from_parts(seconds: i64, nanos: u32) -> Option<Self>;
}

macro_rules! time_keys {
    ($([$($gate:meta)?] $type:ty),+) => {
        $($(#[$gate])?
        impl Key for $type {
            type Owned = $type;

            fn type_name() -> Cow<'static, str> {
                Cow::Borrowed("time")
            }

            fn decode(place: Place, bytes: &mut &[u8]) -> Result<$type, CodecError> {
                let seconds = i64::decode(place, bytes)?;
                let nanos = take_nanos(place, bytes)?;
                let time = <$type as Instant>::from_parts(seconds, nanos);
                time.ok_or_else(|| CodecError::new(format!("{seconds} s since 1970 as a {}", stringify!($type))))
            }
        }

        $(#[$gate])?
        impl AsKey<$type> for $type {
            fn encode(&self, place: Place, out: &mut Vec<u8>) {
                let (seconds, nanos) = self.seconds_and_nanos();
                seconds.encode(place, out);
                nanos.encode(place, out);
            }
        })+
    };
}

time_keys!([] SystemTime, [cfg(feature = "jiff")] jiff::Timestamp);

fn take_nanos(place: Place, bytes: &mut &[u8]) -> Result<u32, CodecError> {
    let nanos = u32::decode(place, bytes)?;
    if nanos < NANOS { Ok(nanos) } else { Err(CodecError::new(format!("{nanos} nanoseconds within a second"))) }
}

impl Instant for SystemTime {
    fn seconds_and_nanos(&self) -> (i64, u32) {
        // Both systems that are supported count the seconds in an `i64`: neither end is ever cut.
        match self.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => (i64::try_from(after.as_secs()).unwrap_or(i64::MAX), after.subsec_nanos()),
            Err(error) => {
                let before = error.duration();
                let seconds = 0_i64.checked_sub_unsigned(before.as_secs()).unwrap_or(i64::MIN);
                match before.subsec_nanos() {
                    0 => (seconds, 0),
                    nanos => (seconds.saturating_sub(1), NANOS - nanos),
                }
            }
        }
    }

    fn from_parts(seconds: i64, nanos: u32) -> Option<SystemTime> {
        let whole = Duration::from_secs(seconds.unsigned_abs());
        let (epoch, nanos) = (SystemTime::UNIX_EPOCH, Duration::from_nanos(nanos.into()));
        let at = if seconds < 0 { epoch.checked_sub(whole)? } else { epoch.checked_add(whole)? };
        at.checked_add(nanos)
    }
}

#[cfg(feature = "jiff")]
impl Instant for jiff::Timestamp {
    fn seconds_and_nanos(&self) -> (i64, u32) {
        // Before 1970 both parts are negative, or 0.
        match u32::try_from(self.subsec_nanosecond()) {
            Ok(nanos) => (self.as_second(), nanos),
            Err(_) => (self.as_second() - 1, NANOS - self.subsec_nanosecond().unsigned_abs()),
        }
    }

    fn from_parts(seconds: i64, nanos: u32) -> Option<jiff::Timestamp> {
        jiff::Timestamp::new(seconds, i32::try_from(nanos).ok()?).ok()
    }
}

impl Key for Duration {
    type Owned = Duration;

    fn type_name() -> Cow<'static, str> {
        Cow::Borrowed("duration")
    }

    fn decode(place: Place, bytes: &mut &[u8]) -> Result<Duration, CodecError> {
        let seconds = u64::decode(place, bytes)?;
        Ok(Duration::new(seconds, take_nanos(place, bytes)?))
    }
}

impl AsKey<Duration> for Duration {
    fn encode(&self, place: Place, out: &mut Vec<u8>) {
        self.as_secs().encode(place, out);
        self.subsec_nanos().encode(place, out);
    }
}

/// Year, month and day.
#[cfg(feature = "jiff")]
impl Key for jiff::civil::Date {
    type Owned = jiff::civil::Date;

    fn type_name() -> Cow<'static, str> {
        Cow::Borrowed("date")
    }

    fn decode(place: Place, bytes: &mut &[u8]) -> Result<jiff::civil::Date, CodecError> {
        let (year, month, day) = (i16::decode(place, bytes)?, u8::decode(place, bytes)?, u8::decode(place, bytes)?);
        let of = |part| i8::try_from(part).unwrap_or(-1);
        let date = jiff::civil::Date::new(year, of(month), of(day));
        date.map_err(|_| CodecError::new(format!("the date {year}-{month}-{day}")))
    }
}

#[cfg(feature = "jiff")]
impl AsKey<jiff::civil::Date> for jiff::civil::Date {
    fn encode(&self, place: Place, out: &mut Vec<u8>) {
        self.year().encode(place, out);
        self.month().unsigned_abs().encode(place, out);
        self.day().unsigned_abs().encode(place, out);
    }
}
