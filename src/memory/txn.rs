//! The operations of a write transaction.

use crate::WriteTxn;
use crate::memory::change::{self, Charge, Stored};
use crate::memory::error::{MemoryError, Result};
use crate::memory::find::Search;
use crate::memory::id::ItemId;
use crate::memory::item::{Added, Draft, Item};
use crate::memory::limits::{self, Limits};
use crate::memory::load;
use crate::memory::namespace::Namespace;
use crate::memory::query::{Found, Query};
use crate::memory::rows::{NamespaceRow, Row};
use crate::memory::scope;
use crate::memory::settings::Settings;
use crate::memory::tables::{Counters, Place, Table, Writer, last_number};
use crate::memory::time::Timestamp;
use serde_json::Value;
use std::cell::{Ref, RefCell};
use std::ops::Bound;

/// Operations on a memory inside one write transaction: all of them take effect together, or none.
///
/// [`Memory::write`](super::Memory::write) makes one; [`Memory::on`](super::Memory::on) makes one of a transaction that
/// the caller has begun, so that rows of other tables change with the items. An operation that returns an error has
/// changed nothing, and the transaction can go on.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// use memstone::memory::{Memory, MemoryError};
/// let memory = Memory::open(dir.path().join("memory.mst"))?;
/// memory.write(|tx| {
///     let tea = tx.add("ada", "likes tea")?;
///     tx.update(tea.id, |item| item.content.push_str(" and walks"))?;
///     Ok::<_, MemoryError>(())
/// })?;
/// # Ok::<(), MemoryError>(())
/// ```
///
/// ```
/// # let memory = memstone::memory::Memory::new(memstone::Store::in_memory()?);
/// use memstone::memory::{Draft, Limits, MemoryError, Query, Space};
/// use serde_json::json;
/// memory.write(|tx| {
///     tx.declare_space("small", Space::new(2))?;
///     tx.set_limits("ada", Limits::new().items(100).rate(10, std::time::Duration::from_secs(60)))?;
///     let id = tx.add("ada", Draft::new("likes tea").vector("small", [1.0, 0.0]))?.id;
///     let mut item = tx.get(id)?.unwrap();
///     assert_eq!(item.created, tx.now());
///     assert_eq!(tx.vector(id, "small")?, Some(vec![1.0, 0.0]));
///     item.content.push_str(" and walks");
///     assert_eq!(tx.put_if(&item)?.version, 2); // unless another change came between
///     tx.patch(id, &json!({ "metadata": { "source": "chat" } }))?;
///     tx.charge("ada", 1)?; // of the rate
///     assert_eq!(tx.find(&Query::new().words("walking"))?.hits.len(), 1);
///     assert!(tx.remove(id)?);
///     tx.add("ada", "likes coffee")?;
///     assert_eq!((tx.clear("ada", 10)?, tx.sweep(10)?), (1, 0));
///     Ok::<_, MemoryError>(())
/// })?;
/// # Ok::<(), memstone::memory::MemoryError>(())
/// ```
pub struct MemoryTxn<'t> {
    pub(super) writer: Writer<'t>,
    pub(super) settings: RefCell<Settings>,
    now: Timestamp,
}

impl std::fmt::Debug for MemoryTxn<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryTxn").field("now", &self.now).finish_non_exhaustive()
    }
}

impl<'t> MemoryTxn<'t> {
    pub(super) fn new(tx: &'t WriteTxn, counters: &'t Counters, now: Timestamp) -> Result<MemoryTxn<'t>> {
        let writer = Writer::new(tx, counters);
        let settings = RefCell::new(Settings::read(&writer.reader)?);
        Ok(MemoryTxn { writer, settings, now })
    }

    pub(super) fn settings(&self) -> Ref<'_, Settings> {
        self.settings.borrow()
    }

    /// The time of this transaction: all of its changes have it.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Adds an item to a namespace. If the namespace has one with the same content, that one stays as it is, and counts
    /// one more duplicate; see [`Draft::keep_duplicate`].
    ///
    /// # Errors
    /// [`MemoryError::Invalid`], [`MemoryError::NoSpace`], [`MemoryError::Exists`] if the draft has the id of an item,
    /// [`MemoryError::Quota`], [`MemoryError::Rate`], [`MemoryError::Store`].
    pub fn add<N>(&self, namespace: N, draft: impl Into<Draft>) -> Result<Added>
    where
        N: TryInto<Namespace, Error: Into<MemoryError>>,
    {
        let namespace: Namespace = namespace.try_into().map_err(Into::into)?;
        let draft: Draft = draft.into();
        if !draft.keep_duplicate
            && let Some(stored) = self.duplicate_of(&namespace, &draft.content)?
        {
            change::count_duplicate(&self.writer, &stored, self.now)?;
            return Ok(Added { id: stored.item().id, duplicate: true });
        }
        let id = draft.id.map_or_else(|| ItemId::new(self.now), Ok)?;
        self.make_room(id)?;
        let item = draft.into_item(id, namespace, self.now);
        change::add(&self.writer, &self.settings(), item, Charge::At(self.now))?;
        Ok(Added { id, duplicate: false })
    }

    /// The item of a namespace that has this content.
    fn duplicate_of(&self, namespace: &Namespace, content: &str) -> Result<Option<Stored>> {
        let reader = &self.writer.reader;
        let Some(row) = load::namespace_row(reader, namespace)? else { return Ok(None) };
        for entry in reader.prefix(Table::Hashes, &load::hash_key(row.number, content))? {
            let place = Place { namespace: row.number, number: last_number(&entry?.0) };
            let Some(row) = reader.get(Table::Items, &place.key())? else { continue };
            let row = Row::parse(place, &row)?;
            if row.is_live(self.now) && row.content == content {
                return Stored::read(&self.writer, &self.settings(), place).map(Some);
            }
        }
        Ok(None)
    }

    /// Removes an expired item with this id; there must be no other.
    fn make_room(&self, id: ItemId) -> Result<()> {
        let Some(place) = load::place(&self.writer.reader, id)? else { return Ok(()) };
        let stored = Stored::read(&self.writer, &self.settings(), place)?;
        if self.is_live(&stored) {
            return Err(MemoryError::Exists { id });
        }
        change::remove(&self.writer, &self.settings(), &stored, Charge::Nothing)
    }

    fn is_live(&self, stored: &Stored) -> bool {
        stored.item().expires.is_none_or(|time| time > self.now)
    }

    fn stored(&self, id: ItemId) -> Result<Option<Stored>> {
        let Some(place) = load::place(&self.writer.reader, id)? else { return Ok(None) };
        let stored = Stored::read(&self.writer, &self.settings(), place)?;
        Ok(Some(stored).filter(|stored| self.is_live(stored)))
    }

    /// An item.
    ///
    /// # Errors
    /// [`MemoryError::Store`], [`MemoryError::Damaged`].
    pub fn get(&self, id: ItemId) -> Result<Option<Item>> {
        Ok(load::live(&self.writer.reader, &self.settings(), id, self.now)?.map(|(_, item)| item))
    }

    /// An item's vector in a space.
    ///
    /// # Errors
    /// [`MemoryError::NotFound`], [`MemoryError::NoSpace`]; otherwise as [`MemoryTxn::get`].
    pub fn vector(&self, id: ItemId, space: &str) -> Result<Option<Vec<f32>>> {
        let (reader, settings) = (&self.writer.reader, self.settings());
        let (place, _) = load::live(reader, &settings, id, self.now)?.ok_or_else(|| load::not_found(id))?;
        load::vector(reader, &settings, place, space)
    }

    /// Searches, and sees what this transaction has changed.
    ///
    /// # Errors
    /// As [`Memory::find`](super::Memory::find).
    pub fn find(&self, query: &Query) -> Result<Found> {
        Search { reader: &self.writer.reader, settings: &self.settings(), now: self.now }.find(query)
    }

    /// Changes an item: `edit` gets it as it is, and what it leaves is stored. Gives the item as it is then. If nothing
    /// was changed, nothing is written.
    ///
    /// # Errors
    /// [`MemoryError::NotFound`], and as [`MemoryTxn::add`].
    pub fn update(&self, id: ItemId, edit: impl FnOnce(&mut Item)) -> Result<Item> {
        let stored = self.stored(id)?.ok_or_else(|| load::not_found(id))?;
        let mut item = stored.item().clone();
        edit(&mut item);
        self.store(&stored, item)
    }

    /// Stores an item that was read before, perhaps in another transaction, if it was not changed since. Gives the item
    /// as it is then.
    ///
    /// # Errors
    /// [`MemoryError::Conflict`] if it was changed or removed, and as [`MemoryTxn::add`].
    pub fn put_if(&self, item: &Item) -> Result<Item> {
        let stored = self.stored(item.id)?;
        let found = stored.as_ref().map(|stored| stored.item().version);
        match stored.filter(|_| found == Some(item.version)) {
            Some(stored) => self.store(&stored, item.clone()),
            None => Err(MemoryError::Conflict { id: item.id, expected: item.version, found }),
        }
    }

    /// Changes an item by a JSON merge patch (RFC 7396): an object with any of the members `content`, `metadata`, `tags`
    /// and `expires` (microseconds since 1970, or null). Gives the item as it is then.
    ///
    /// # Errors
    /// [`MemoryError::Invalid`] for other members or types, and as [`MemoryTxn::update`].
    pub fn patch(&self, id: ItemId, patch: &Value) -> Result<Item> {
        let stored = self.stored(id)?.ok_or_else(|| load::not_found(id))?;
        let mut item = stored.item().clone();
        item.merge(patch)?;
        self.store(&stored, item)
    }

    /// Stores another version of an item. What is not the caller's to change stays.
    fn store(&self, stored: &Stored, item: Item) -> Result<Item> {
        let before = stored.item();
        let mut item = Item {
            id: before.id,
            created: before.created,
            updated: before.updated,
            version: before.version,
            duplicates: before.duplicates,
            spaces: before.spaces.clone(),
            ..item
        };
        if item == *before {
            return Ok(item);
        }
        item.updated = self.now;
        item.version = before.version.saturating_add(1);
        change::replace(&self.writer, &self.settings(), Some(stored), item, Charge::At(self.now))
    }

    /// Removes an item; `false` if there is none.
    ///
    /// # Errors
    /// [`MemoryError::Rate`], [`MemoryError::Store`], [`MemoryError::Damaged`].
    pub fn remove(&self, id: ItemId) -> Result<bool> {
        Ok(self.take_out(id)?.is_some())
    }

    /// Removes an item, and tells from which namespace.
    pub(super) fn take_out(&self, id: ItemId) -> Result<Option<Namespace>> {
        let Some(stored) = self.stored(id)? else { return Ok(None) };
        change::remove(&self.writer, &self.settings(), &stored, Charge::At(self.now))?;
        Ok(Some(stored.item().namespace.clone()))
    }

    /// Removes items of a namespace and of those below it, at most so many, and returns their number: 0 when none is
    /// left. Takes nothing from a rate.
    ///
    /// # Errors
    /// As [`MemoryTxn::remove`].
    pub fn clear<N>(&self, namespace: N, limit: usize) -> Result<usize>
    where
        N: TryInto<Namespace, Error: Into<MemoryError>>,
    {
        let namespace = namespace.try_into().map_err(Into::into)?;
        let mut places = Vec::new();
        for row in self.writer.reader.prefix(Table::Namespaces, &namespace.key())? {
            let (key, row) = row?;
            let number = NamespaceRow::parse(&key, &row)?.number.to_be_bytes();
            for entry in self.writer.reader.prefix(Table::Items, &number)?.take(limit - places.len()) {
                places.extend(Place::at_end(&entry?.0));
            }
            if places.len() == limit {
                break;
            }
        }
        self.remove_all(&places)
    }

    /// Removes expired items, at most so many, and returns their number.
    ///
    /// # Errors
    /// As [`MemoryTxn::remove`].
    pub fn sweep(&self, limit: usize) -> Result<usize> {
        let end = scope::after(&self.now.as_micros().to_be_bytes());
        let rows = self.writer.reader.range(Table::Expiries, Bound::Unbounded, end.as_ref().map(Vec::as_slice))?;
        let places = rows.take(limit).map(|row| {
            let (key, _) = row?;
            Place::at_end(&key).ok_or_else(|| Table::Expiries.damaged(&key, "not a place"))
        });
        self.remove_all(&places.collect::<Result<Vec<_>>>()?)
    }

    fn remove_all(&self, places: &[Place]) -> Result<usize> {
        for place in places {
            let stored = Stored::read(&self.writer, &self.settings(), *place)?;
            change::remove(&self.writer, &self.settings(), &stored, Charge::Nothing)?;
        }
        Ok(places.len())
    }

    /// Sets what a namespace may hold together with those below it, and how often it may be written to.
    ///
    /// # Errors
    /// [`MemoryError::Invalid`], [`MemoryError::Store`].
    pub fn set_limits<N>(&self, namespace: N, limits: Limits) -> Result<()>
    where
        N: TryInto<Namespace, Error: Into<MemoryError>>,
    {
        limits.write(&self.writer, &namespace.try_into().map_err(Into::into)?)
    }

    /// Takes tokens from the rate of a namespace and of those above it, for what the caller counts.
    ///
    /// # Errors
    /// [`MemoryError::Rate`], [`MemoryError::Invalid`], [`MemoryError::Store`].
    pub fn charge<N>(&self, namespace: N, tokens: u64) -> Result<()>
    where
        N: TryInto<Namespace, Error: Into<MemoryError>>,
    {
        limits::take(&self.writer, &namespace.try_into().map_err(Into::into)?, tokens, self.now)
    }
}
