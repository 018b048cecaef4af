//! Reading one state.

use crate::Snapshot;
use crate::memory::error::{MemoryError, Result};
use crate::memory::find::Search;
use crate::memory::id::ItemId;
use crate::memory::item::Item;
use crate::memory::limits::Limits;
use crate::memory::load;
use crate::memory::namespace::Namespace;
use crate::memory::query::{Found, Query};
use crate::memory::rows::NamespaceRow;
use crate::memory::scope;
use crate::memory::settings::Settings;
use crate::memory::tables::{Counters, Reader};
use crate::memory::time::Timestamp;
use crate::memory::vector::Space;
use std::sync::Arc;

/// One state of a memory, at one time: everything that is read from it agrees, whatever is written meanwhile.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// use memstone::memory::{Memory, MemoryError, Query};
/// let memory = Memory::open(dir.path().join("memory.mst"))?;
/// let tea = memory.add("ada", "likes tea")?;
/// let before = memory.snapshot()?;
/// memory.remove(tea.id)?;
/// assert!(before.get(tea.id)?.is_some() && memory.get(tea.id)?.is_none());
/// assert_eq!(before.find(&Query::new())?.hits.len(), 1);
/// # Ok::<(), MemoryError>(())
/// ```
///
/// ```
/// # let memory = memstone::memory::Memory::new(memstone::Store::in_memory()?);
/// use memstone::memory::{Draft, Limits, Space};
/// memory.declare_space("small", Space::new(2))?;
/// memory.declare_field("source")?;
/// memory.set_limits("ada", Limits::new().items(100))?;
/// let tea = memory.add("ada/chat", Draft::new("likes tea").vector("small", [0.0, 1.0]))?;
/// let snapshot = memory.snapshot()?;
/// assert_eq!(snapshot.vector(tea.id, "small")?, Some(vec![0.0, 1.0]));
/// assert_eq!(snapshot.usage("ada")?.items, 1);
/// assert_eq!(snapshot.namespaces("ada")?.len(), 2);
/// assert_eq!(snapshot.limits("ada")?, Limits::new().items(100));
/// assert_eq!((snapshot.fields(), snapshot.spaces().len()), (vec!["source".to_owned()], 1));
/// assert!(snapshot.now() >= snapshot.get(tea.id)?.unwrap().created);
/// assert!(snapshot.store_snapshot().lsn() > 0);
/// # Ok::<(), memstone::memory::MemoryError>(())
/// ```
#[derive(Clone)]
pub struct MemorySnapshot {
    snapshot: Snapshot,
    settings: Arc<Settings>,
    counters: Arc<Counters>,
    now: Timestamp,
}

impl std::fmt::Debug for MemorySnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemorySnapshot").field("lsn", &self.snapshot.lsn()).field("now", &self.now).finish()
    }
}

/// A namespace, and what it holds.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct NamespaceInfo {
    /// Its path.
    pub namespace: Namespace,
    /// Its own items; expired ones count until they are swept.
    pub own_items: u64,
    /// Bytes of its own items.
    pub own_bytes: u64,
    /// Items, with those of all namespaces below it.
    pub items: u64,
    /// Bytes of these: content, metadata, tags and vectors as they are stored, and 72 for each item.
    pub bytes: u64,
}

impl NamespaceInfo {
    fn new(namespace: Namespace, row: NamespaceRow) -> NamespaceInfo {
        let NamespaceRow { own, total, .. } = row;
        let (own_items, own_bytes, items, bytes) = (own.items, own.bytes, total.items, total.bytes);
        NamespaceInfo { namespace, own_items, own_bytes, items, bytes }
    }
}

impl MemorySnapshot {
    pub(super) fn new(snapshot: Snapshot, counters: &Arc<Counters>, now: Timestamp) -> Result<MemorySnapshot> {
        let settings = Arc::new(Settings::read(&Reader::of_snapshot(&snapshot, counters))?);
        Ok(MemorySnapshot { snapshot, settings, counters: Arc::clone(counters), now })
    }

    pub(super) fn reader(&self) -> Reader<'_> {
        Reader::of_snapshot(&self.snapshot, &self.counters)
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The state of the store.
    #[must_use]
    pub fn store_snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The time of this state: items that had expired then are not found.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// See [`Memory::get`](super::Memory::get).
    ///
    /// # Errors
    /// As there.
    pub fn get(&self, id: ItemId) -> Result<Option<Item>> {
        Ok(load::live(&self.reader(), &self.settings, id, self.now)?.map(|(_, item)| item))
    }

    /// See [`Memory::vector`](super::Memory::vector).
    ///
    /// # Errors
    /// As there.
    pub fn vector(&self, id: ItemId, space: &str) -> Result<Option<Vec<f32>>> {
        let reader = self.reader();
        let (place, _) = load::live(&reader, &self.settings, id, self.now)?.ok_or_else(|| load::not_found(id))?;
        load::vector(&reader, &self.settings, place, space)
    }

    /// See [`Memory::find`](super::Memory::find).
    ///
    /// # Errors
    /// As there.
    pub fn find(&self, query: &Query) -> Result<Found> {
        Search { reader: &self.reader(), settings: &self.settings, now: self.now }.find(query)
    }

    /// See [`Memory::usage`](super::Memory::usage).
    ///
    /// # Errors
    /// As there.
    pub fn usage<N>(&self, namespace: N) -> Result<NamespaceInfo>
    where
        N: TryInto<Namespace, Error: Into<MemoryError>>,
    {
        let namespace = namespace.try_into().map_err(Into::into)?;
        let row = load::namespace_row(&self.reader(), &namespace)?;
        Ok(NamespaceInfo::new(namespace, row.unwrap_or_default()))
    }

    /// See [`Memory::namespaces`](super::Memory::namespaces).
    ///
    /// # Errors
    /// As there.
    pub fn namespaces<N>(&self, under: N) -> Result<Vec<NamespaceInfo>>
    where
        N: TryInto<Namespace, Error: Into<MemoryError>>,
    {
        let under = under.try_into().map_err(Into::into)?;
        let rows = scope::namespaces(&self.reader(), &under, true)?;
        Ok(rows.into_iter().map(|(namespace, row)| NamespaceInfo::new(namespace, row)).collect())
    }

    /// The limits of a namespace.
    ///
    /// # Errors
    /// [`MemoryError::Invalid`], [`MemoryError::Store`], [`MemoryError::Damaged`].
    pub fn limits<N>(&self, namespace: N) -> Result<Limits>
    where
        N: TryInto<Namespace, Error: Into<MemoryError>>,
    {
        Limits::read(&self.reader(), &namespace.try_into().map_err(Into::into)?)
    }

    /// The vector spaces by name, in the order in which they were declared.
    #[must_use]
    pub fn spaces(&self) -> Vec<(String, Space)> {
        self.settings.spaces().map(|(_, name, space)| (name.to_owned(), space)).collect()
    }

    /// The metadata fields with an index.
    #[must_use]
    pub fn fields(&self) -> Vec<String> {
        self.settings.fields().map(|(_, name)| name.to_owned()).collect()
    }
}
