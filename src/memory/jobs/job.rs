//! What is to be done: a job before it is enqueued.

use super::error::Result;
use crate::memory::error::MemoryError;
use crate::memory::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Most bytes of a payload.
///
/// ```
/// assert_eq!(memstone::memory::jobs::MAX_PAYLOAD, 4 << 20);
/// ```
pub const MAX_PAYLOAD: usize = 4 << 20;
/// Most bytes of the name of a queue, of a key, and of a worker's name.
const MAX_NAME: usize = 200;

/// Which of a namespace's own jobs come first. Namespaces have their turns whatever the priority of their jobs is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Before all others.
    High,
    /// Before those of low priority.
    #[default]
    Normal,
    /// When there are no others.
    Low,
}

/// How long a job that failed waits until it is tried again: twice as long each time, up to a limit. To keep jobs that
/// failed together from coming back together, each waits for a part of that between half and all of it.
///
/// ```
/// use memstone::memory::jobs::{Backoff, Job};
/// use std::time::Duration;
/// // After about 1, 2, 4, … seconds, and then every five minutes at most.
/// let job = Job::new("mail", "to: ada").backoff(Backoff::new(Duration::from_secs(1), Duration::from_secs(300)));
/// assert_eq!(job, Job::new("mail", "to: ada"), "which is the default");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    /// In microseconds.
    first: u64,
    most: u64,
}

impl Backoff {
    /// From this time after the first attempt up to at most this time.
    #[must_use]
    pub fn new(first: Duration, most: Duration) -> Backoff {
        Backoff { first: micros(first), most: micros(most) }
    }

    /// The wait after an attempt. `spread` is different for each.
    pub(super) fn wait(self, attempt: u32, spread: u64) -> Duration {
        let doubled = u128::from(self.first) << attempt.saturating_sub(1).min(63);
        let whole = u64::try_from(doubled).unwrap_or(u64::MAX).min(self.most);
        let half = whole / 2;
        let hash = blake3::hash(&spread.to_be_bytes());
        let chance = hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let part = (u128::from(chance) * u128::from(whole - half + 1)) >> 64;
        Duration::from_micros(half + u64::try_from(part).unwrap_or(0))
    }
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff::new(Duration::from_secs(1), Duration::from_secs(300))
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum When {
    In(Duration),
    At(Timestamp),
}

/// By which a job is told from others like it, and whether only until it is claimed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Key {
    pub(super) text: String,
    pub(super) until_claimed: bool,
}

/// A job that is to be done by a worker: the queue that it goes to, and a payload, which is the worker's to understand.
///
/// ```
/// use memstone::memory::Timestamp;
/// use memstone::memory::jobs::{Backoff, Job, JobError, Priority};
/// use std::time::Duration;
/// let job = Job::json("embed", &serde_json::json!({"note": 7}))?
///     .key("note 7")
///     .priority(Priority::High)
///     .delay(Duration::from_secs(60))
///     .attempts(3)
///     .keep(Duration::from_secs(3600));
/// // On a given day; another one may be enqueued as soon as a worker has this one.
/// let job = Job::new("summarise", "2026-11-22")
///     .at(Timestamp::from_micros(1_800_000_000_000_000))
///     .backoff(Backoff::new(Duration::from_secs(1), Duration::from_secs(60)))
///     .key_until_claimed("2026-11-22");
/// # Ok::<(), JobError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    pub(super) queue: String,
    pub(super) payload: Vec<u8>,
    pub(super) when: When,
    pub(super) priority: Priority,
    pub(super) attempts: u32,
    pub(super) backoff: Backoff,
    pub(super) keep: Duration,
    pub(super) key: Option<Key>,
}

impl Job {
    /// A job for this queue: at once, of normal priority, tried ten times at most, and not kept when it is done.
    #[must_use]
    pub fn new(queue: impl Into<String>, payload: impl Into<Vec<u8>>) -> Job {
        Job {
            queue: queue.into(),
            payload: payload.into(),
            when: When::In(Duration::ZERO),
            priority: Priority::default(),
            attempts: 10,
            backoff: Backoff::default(),
            keep: Duration::ZERO,
            key: None,
        }
    }

    /// A job whose payload is this value as JSON: see [`Claim::json`](super::Claim::json).
    ///
    /// # Errors
    /// [`MemoryError::Invalid`] if serde cannot write it.
    pub fn json(queue: impl Into<String>, payload: &impl Serialize) -> Result<Job> {
        let payload = serde_json::to_vec(payload);
        Ok(Job::new(queue, payload.map_err(|error| MemoryError::invalid("payload", error.to_string()))?))
    }

    /// No worker gets it before this time has passed.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Job {
        self.when = When::In(delay);
        self
    }

    /// No worker gets it before this time.
    #[must_use]
    pub fn at(mut self, time: Timestamp) -> Job {
        self.when = When::At(time);
        self
    }

    /// Its place among the jobs of its namespace.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Job {
        self.priority = priority;
        self
    }

    /// It is claimed so many times at most (at least once). If none of the workers finishes it, it is a dead letter.
    #[must_use]
    pub fn attempts(mut self, most: u32) -> Job {
        self.attempts = most.max(1);
        self
    }

    /// How long it waits after an attempt that failed.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Job {
        self.backoff = backoff;
        self
    }

    /// When it is done or cancelled, its state and its progress are kept for at least so long, for those who ask.
    #[must_use]
    pub fn keep(mut self, time: Duration) -> Job {
        self.keep = time;
        self
    }

    /// While there is a job with this key in the same queue and namespace that has not ended, none is enqueued: the
    /// caller gets the id of that one.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Job {
        self.key = Some(Key { text: key.into(), until_claimed: false });
        self
    }

    /// As [`Job::key`], until a worker claims the job: for "this has changed", where a change that comes while a worker
    /// looks at the state before it must not be lost.
    #[must_use]
    pub fn key_until_claimed(mut self, key: impl Into<String>) -> Job {
        self.key = Some(Key { text: key.into(), until_claimed: true });
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        check_name("queue", &self.queue)?;
        if let Some(key) = &self.key {
            check_name("key", &key.text)?;
        }
        if self.payload.len() > MAX_PAYLOAD {
            let reason = format!("{} bytes, and {MAX_PAYLOAD} are the limit", self.payload.len());
            return Err(MemoryError::invalid("payload", reason).into());
        }
        Ok(())
    }

    /// When it may be claimed; `None`: at once.
    pub(super) fn due(&self, now: Timestamp) -> Option<Timestamp> {
        let due = match self.when {
            When::In(delay) => now + delay,
            When::At(time) => time,
        };
        Some(due).filter(|due| *due > now)
    }
}

pub(super) fn check_name(what: &'static str, name: &str) -> Result<()> {
    if (1..=MAX_NAME).contains(&name.len()) && !name.chars().any(char::is_control) {
        return Ok(());
    }
    let reason = format!("{name:?} is empty, longer than {MAX_NAME} bytes, or not printable");
    Err(MemoryError::invalid(what, reason).into())
}
