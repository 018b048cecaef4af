//! Times of items, and the clock that they are taken from.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A time in microseconds since 1970-01-01 00:00 UTC.
///
/// ```
/// use memstone::memory::Timestamp;
/// use std::time::Duration;
/// let time = Timestamp::from_micros(1_700_000_000_000_000);
/// assert!(time < time + Duration::from_secs(60));
/// assert_eq!((time + Duration::from_secs(60)).since(time), Duration::from_secs(60));
/// assert_eq!(time.as_micros(), 1_700_000_000_000_000);
/// assert_eq!(time.to_string(), "1700000000.000000");
/// assert!(Timestamp::now() > time);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The first one.
    pub const MIN: Timestamp = Timestamp(0);
    /// The last one: in the year 586,524.
    pub const MAX: Timestamp = Timestamp(u64::MAX);

    /// The system's time now.
    #[must_use]
    pub fn now() -> Timestamp {
        Timestamp::from(SystemTime::now())
    }

    /// From microseconds since 1970.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Timestamp {
        Timestamp(micros)
    }

    /// Microseconds since 1970.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to this; zero if it is later.
    #[must_use]
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// Times before 1970 become [`Timestamp::MIN`], times beyond the range [`Timestamp::MAX`].
impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Timestamp {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Timestamp;

    fn add(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// Seconds since 1970.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// Where the layer gets the time from.
#[derive(Clone)]
pub(super) struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    pub(super) fn new(clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Clock {
        Clock(Arc::new(clock))
    }

    pub(super) fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::new(Timestamp::now)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
