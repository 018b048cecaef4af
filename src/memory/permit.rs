//! Operations at once: permits with leases, which all processes count.

use crate::Durability;
use crate::memory::Memory;
use crate::memory::error::{MemoryError, Result};
use crate::memory::id::ItemId;
use crate::memory::limits::Limits;
use crate::memory::measure::Operation;
use crate::memory::namespace::Namespace;
use crate::memory::permits::{LONGEST, PermitId, Permits};
use crate::memory::tables::{Reader, Writer};
use crate::memory::time::Timestamp;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// An operation that has entered a namespace: it counts for the namespace's [`Limits::at_once`] and for those above it,
/// until the permit is dropped, [`Permit::leave`] is called, or its lease ends. [`Memory::enter`] gives it.
///
/// Dropping it writes to the store, so a thread does that outside of its own write transactions.
#[derive(Debug)]
pub struct Permit {
    memory: Memory,
    namespace: Namespace,
    lease: Duration,
    /// `None`: no limit was in the way, and nothing was written.
    held: Mutex<Option<Held>>,
}

/// Its rows.
#[derive(Debug)]
struct Held {
    id: PermitId,
    end: Timestamp,
    /// Those with a limit.
    namespaces: Vec<Namespace>,
}

impl Memory {
    /// Enters a namespace for an operation that takes long, such as a search over much, or an edit that asks a model.
    /// Refused while as many operations run as [`Limits::at_once`] allows, for this namespace or one above it, in all
    /// processes together. Without such a limit nothing is written.
    ///
    /// The permit ends with its lease (from a millisecond to an hour) if it is neither dropped nor renewed before, as when
    /// its process was killed. So a lease is as long as the operation may take: nothing stops an operation whose lease has
    /// ended, but it counts no longer. Limits count the operations that entered after the limit was set.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # use memstone::memory::{Limits, Memory, MemoryError, Query};
    /// # use std::time::Duration;
    /// # let memory = Memory::open(dir.path().join("memory.mst"))?;
    /// memory.set_limits("ada", Limits::new().at_once(1))?;
    /// let lease = Duration::from_secs(30);
    /// let permit = memory.enter("ada/chat", lease)?;
    /// let refused = memory.enter("ada", lease).unwrap_err();
    /// assert!(matches!(refused, MemoryError::AtOnce { limit: 1, running: 1, .. }));
    /// memory.find(&Query::new().under("ada/chat").words("tea"))?;
    /// permit.renew()?; // it takes longer
    /// assert!(permit.namespace().to_string() == "ada/chat" && permit.ends().is_some());
    /// permit.leave()?; // as dropping it
    /// memory.enter("ada", lease)?;
    /// # Ok::<(), MemoryError>(())
    /// ```
    ///
    /// # Errors
    /// [`MemoryError::AtOnce`], [`MemoryError::Invalid`]; as [`Store::write`](crate::Store::write).
    pub fn enter<N>(&self, namespace: N, lease: Duration) -> Result<Permit>
    where
        N: TryInto<Namespace, Error: Into<MemoryError>>,
    {
        let namespace: Namespace = namespace.try_into().map_err(Into::into)?;
        let lease = lease.clamp(Duration::from_millis(1), LONGEST);
        let permit = Permit { memory: self.clone(), namespace, lease, held: Mutex::new(None) };
        permit.renew()?;
        Ok(permit)
    }

    /// Runs a transaction on permits. After a power loss no process is left that has one: they need not be flushed.
    fn on_permits<T>(&self, body: impl FnOnce(&Writer<'_>, Timestamp) -> Result<T>) -> Result<T> {
        let options = self.options.writing.durability(Durability::Relaxed);
        self.transact(options, |tx| body(&tx.writer, tx.now()))
    }
}

impl Permit {
    /// The namespace that was entered.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// When the lease ends; `None` if no limit was in the way.
    #[must_use]
    pub fn ends(&self) -> Option<Timestamp> {
        self.held().as_ref().map(|held| held.end)
    }

    /// Begins the lease anew, for an operation that takes longer. If it has ended, and another operation has taken the
    /// place, this enters again.
    ///
    /// # Errors
    /// As [`Memory::enter`].
    pub fn renew(&self) -> Result<()> {
        self.memory.measure(Operation::Enter, &self.namespace, || {
            let mut held = self.held();
            let is_limited = !limits(&self.memory.snapshot()?.reader(), &self.namespace)?.is_empty();
            if is_limited {
                let take =
                    |writer: &Writer<'_>, now| take(writer, &self.namespace, held.as_ref(), now + self.lease, now);
                *held = Some(self.memory.on_permits(take)?);
            } else {
                *held = None;
            }
            Ok(())
        })
    }

    /// Ends the operation: another one may enter. Dropping the permit does the same, and keeps errors to itself.
    ///
    /// # Errors
    /// As [`Store::write`](crate::Store::write). Then the permit ends with its lease.
    pub fn leave(self) -> Result<()> {
        self.give_back()
    }

    fn give_back(&self) -> Result<()> {
        let Some(held) = self.held().take() else { return Ok(()) };
        self.memory.on_permits(|writer, _| {
            held.namespaces
                .iter()
                .try_for_each(|namespace| Permits::new(writer, namespace).remove(held.end, held.id).map(drop))
        })
    }

    fn held(&self) -> MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // The lease ends what could not be given back.
        let _ = self.give_back();
    }
}

/// The namespaces that limit what enters one, and their limits.
fn limits(reader: &Reader<'_>, namespace: &Namespace) -> Result<Vec<(Namespace, u64)>> {
    let mut limits = Vec::new();
    for above in namespace.lineage() {
        let limit = Limits::read(reader, &above)?.most_at_once();
        limits.extend(limit.map(|limit| (above, limit)));
    }
    Ok(limits)
}

/// Enters all namespaces with a limit, or none. What is held still is moved to the new end.
fn take(
    writer: &Writer<'_>,
    namespace: &Namespace,
    before: Option<&Held>,
    end: Timestamp,
    now: Timestamp,
) -> Result<Held> {
    let id = match before {
        Some(held) => held.id,
        None => *ItemId::new(now)?.as_bytes(),
    };
    let mut namespaces = Vec::new();
    for (namespace, limit) in limits(&writer.reader, namespace)? {
        let permits = Permits::new(writer, &namespace);
        let is_held = before.map_or(Ok(false), |held| permits.remove(held.end, held.id))?;
        let running = permits.count(now)?;
        if !is_held && running >= limit {
            let end = if limit == 0 { None } else { permits.end_of(running - limit)? };
            let retry_after = end.map_or(Duration::MAX, |end| end.since(now));
            return Err(MemoryError::AtOnce { namespace, limit, running, retry_after });
        }
        permits.add(end, id)?;
        namespaces.push(namespace);
    }
    Ok(Held { id, end, namespaces })
}
