//! Quotas and rate limits of namespaces, and how many operations they allow at once.

use crate::memory::error::{MemoryError, Resource, Result};
use crate::memory::job_counts;
use crate::memory::namespace::Namespace;
use crate::memory::permits;
use crate::memory::rows::Counts;
use crate::memory::tables::{Reader, Table, Writer};
use crate::memory::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The longest time of a rate.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// What a namespace may hold, together with all namespaces below it, how often it may be written to, and how many
/// operations may run at once.
///
/// A rate is a token bucket of all processes: so many operations at once, and one more each time that the share of one
/// operation has passed. Adding, changing and removing an item take one; [`Memory::charge`](super::Memory::charge) takes
/// any number for what the caller counts.
///
/// ```
/// use memstone::memory::Limits;
/// use std::time::Duration;
/// let limits = Limits::new().items(100_000).bytes(1 << 30).jobs(1000).rate(600, Duration::from_secs(60)).at_once(4);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Limits {
    items: Option<u64>,
    bytes: Option<u64>,
    /// So many operations, in so many microseconds.
    rate: Option<(u64, u64)>,
    #[serde(default)]
    at_once: Option<u64>,
    #[serde(default)]
    jobs: Option<u64>,
}

impl Limits {
    /// No limits.
    #[must_use]
    pub const fn new() -> Limits {
        Limits { items: None, bytes: None, rate: None, at_once: None, jobs: None }
    }

    /// No more items.
    #[must_use]
    pub const fn items(mut self, limit: u64) -> Limits {
        self.items = Some(limit);
        self
    }

    /// No more bytes of items, as [`NamespaceInfo::bytes`](super::NamespaceInfo::bytes) counts them.
    #[must_use]
    pub const fn bytes(mut self, limit: u64) -> Limits {
        self.bytes = Some(limit);
        self
    }

    /// No more [`jobs`](super::jobs) that have not ended, and dead letters. Jobs that have ended and are kept to be seen do
    /// not count.
    ///
    /// ```
    /// # let memory = memstone::memory::Memory::new(memstone::Store::in_memory()?);
    /// use memstone::memory::jobs::{Job, JobError, Jobs};
    /// use memstone::memory::{Limits, MemoryError, Resource};
    /// memory.set_limits("ada", Limits::new().jobs(1))?;
    /// let jobs = Jobs::of(&memory);
    /// let first = jobs.enqueue("ada/chat", Job::new("embed", "note 1"))?.id;
    /// let refused = jobs.enqueue("ada", Job::new("mail", "to: bob")).unwrap_err();
    /// assert!(matches!(refused, JobError::Memory(MemoryError::Quota { resource: Resource::Jobs, used: 1, .. })));
    /// jobs.cancel(first)?;
    /// jobs.enqueue("ada", Job::new("mail", "to: bob"))?;
    /// # Ok::<(), JobError>(())
    /// ```
    #[must_use]
    pub const fn jobs(mut self, limit: u64) -> Limits {
        self.jobs = Some(limit);
        self
    }

    /// No more operations within this time (from a microsecond to 366 days).
    #[must_use]
    pub fn rate(mut self, operations: u64, per: Duration) -> Limits {
        let per = per.clamp(Duration::from_micros(1), LONGEST);
        self.rate = Some((operations, u64::try_from(per.as_micros()).unwrap_or(u64::MAX)));
        self
    }

    /// No more operations at once, of all processes: those that [`Memory::enter`](super::Memory::enter) lets in. It is
    /// meant for what takes long: searches over much, edits that ask a model. (Writers take turns anyway.)
    #[must_use]
    pub const fn at_once(mut self, limit: u64) -> Limits {
        self.at_once = Some(limit);
        self
    }

    /// How many operations may run at once.
    pub(super) const fn most_at_once(&self) -> Option<u64> {
        self.at_once
    }

    /// The quotas: what is limited, the limit, and what is used of it.
    pub(super) fn quotas(&self, used: Counts, jobs: u64) -> impl Iterator<Item = (Resource, u64, u64)> + use<> {
        let items = self.items.map(|limit| (Resource::Items, limit, used.items));
        let bytes = self.bytes.map(|limit| (Resource::Bytes, limit, used.bytes));
        let jobs = self.jobs.map(|limit| (Resource::Jobs, limit, jobs));
        items.into_iter().chain(bytes).chain(jobs)
    }

    pub(super) fn read(reader: &Reader<'_>, namespace: &Namespace) -> Result<Limits> {
        let key = namespace.key();
        let row = reader.get(Table::Limits, &key)?;
        row.map_or(Ok(Limits::default()), |row| Limits::parse(&key, &row))
    }

    pub(super) fn parse(key: &[u8], row: &[u8]) -> Result<Limits> {
        rmp_serde::from_slice(row).map_err(|error| Table::Limits.damaged(key, error.to_string()))
    }

    pub(super) fn write(&self, writer: &Writer<'_>, namespace: &Namespace) -> Result<()> {
        let key = namespace.key();
        // A new rate begins with a full bucket.
        writer.delete(Table::Buckets, &key)?;
        if self.at_once.is_none() {
            permits::clear(writer, namespace)?;
        }
        if *self == Limits::default() {
            return writer.delete(Table::Limits, &key);
        }
        let row = rmp_serde::to_vec_named(self).map_err(|error| Table::Limits.damaged(&key, error.to_string()))?;
        writer.put(Table::Limits, &key, &row)
    }

    /// Refuses what would exceed a quota: what the namespace holds, and what it is to hold then.
    pub(super) fn check(&self, namespace: &Namespace, used: Counts, then: Counts) -> Result<()> {
        let quotas = [
            (Resource::Items, self.items, used.items, then.items),
            (Resource::Bytes, self.bytes, used.bytes, then.bytes),
        ];
        for (resource, limit, used, then) in quotas {
            // What makes less of it, or as much, is allowed also above the limit, which may have been lowered.
            if let Some(limit) = limit.filter(|limit| then > *limit && then > used) {
                let namespace = namespace.clone();
                return Err(MemoryError::Quota { namespace, resource, limit, used, asked: then - used });
            }
        }
        Ok(())
    }

    /// Takes tokens for operations in the namespace, if it has a rate.
    ///
    /// The state of a bucket is the time at which it is full again; each token moves it on by the share of one
    /// operation, and it may lie one whole bucket ahead of now.
    fn take(&self, writer: &Writer<'_>, namespace: &Namespace, tokens: u64, now: Timestamp) -> Result<Option<Taken>> {
        let Some((limit, per)) = self.rate else { return Ok(None) };
        let key = namespace.key();
        let now = u128::from(now.as_micros()) * 1000;
        let bucket = u128::from(per) * 1000;
        let share = bucket.checked_div(u128::from(limit)).unwrap_or(u128::MAX / u128::from(tokens.max(1)));
        let state = writer.reader.get(Table::Buckets, &key)?;
        let state = state.and_then(|row| row.first_chunk().map(|row| u128::from_be_bytes(*row))).unwrap_or(0);
        // No bucket lies further ahead: the clock was set back since, and what was taken before counts no more.
        let full = Some(state.max(now)).filter(|full| *full <= now + bucket).unwrap_or(now);
        let then = full.saturating_add(share.saturating_mul(u128::from(tokens)));
        if then > now + bucket {
            // So many tokens may never be there.
            let wait = (tokens <= limit).then(|| (then - now - bucket).div_ceil(1000));
            let wait = wait.and_then(|wait| u64::try_from(wait).ok());
            return Err(MemoryError::Rate {
                namespace: namespace.clone(),
                limit,
                per: Duration::from_micros(per),
                retry_after: wait.map_or(Duration::MAX, Duration::from_micros),
            });
        }
        Ok(Some((key, then.to_be_bytes())))
    }
}

/// A bucket, and its new state.
type Taken = (Vec<u8>, [u8; 16]);

/// Takes tokens from the buckets of a namespace and of all above it: from all, or from none.
pub(super) fn take(writer: &Writer<'_>, namespace: &Namespace, tokens: u64, now: Timestamp) -> Result<()> {
    let mut taken = Vec::new();
    for namespace in namespace.lineage() {
        taken.extend(Limits::read(&writer.reader, &namespace)?.take(writer, &namespace, tokens, now)?);
    }
    taken.iter().try_for_each(|(key, state)| writer.put(Table::Buckets, key, state))
}

/// Refuses one more job of a namespace that its quota, or that of one above it, does not allow.
pub(super) fn admit_job(reader: &Reader<'_>, namespace: &Namespace) -> Result<()> {
    for namespace in namespace.lineage() {
        let Some(limit) = Limits::read(reader, &namespace)?.jobs else { continue };
        let used = job_counts::read(reader, &namespace)?;
        if used >= limit {
            return Err(MemoryError::Quota { namespace, resource: Resource::Jobs, limit, used, asked: 1 });
        }
    }
    Ok(())
}
