//! A memory for assistants and other programs: items in namespaces, found by words, vectors, tags, times and metadata.
//!
//! Everything lies in ordinary tables of one store (`memory.items` and others), and every operation is one transaction
//! of it: what is acknowledged is durable, indexes agree with the items at any moment, and any number of processes may
//! work on the same file. `docs/MEMORY.md` has concepts, recipes and limits.
//!
//! ```
//! # let dir = tempfile::tempdir().unwrap();
//! use memstone::memory::{Draft, Memory, MemoryError, Query, Space};
//!
//! let memory = Memory::open(dir.path().join("memory.mst"))?;
//! memory.declare_space("small", Space::new(3))?;
//! let tea = Draft::new("Ada drinks green tea in the morning").tags(["habits"]).vector("small", [0.9, 0.1, 0.0]);
//! let id = memory.add("ada/chat", tea)?.id;
//! memory.add("ada/chat", Draft::new("Ada walks to work").vector("small", [0.1, 0.9, 0.0]))?;
//!
//! let query = Query::new().under("ada").words("tea drinking").vector("small", [1.0, 0.0, 0.0]);
//! assert_eq!(memory.find(&query)?.hits[0].item.id, id);
//!
//! memory.update(id, |item| item.content = "Ada drinks black tea".to_owned())?;
//! assert_eq!(memory.get(id)?.unwrap().version, 2);
//! # Ok::<(), MemoryError>(())
//! ```

mod change;
mod check;
mod declare;
mod error;
mod feed;
mod field;
mod find;
pub mod graph;
mod id;
mod item;
mod job_counts;
pub mod jobs;
mod language;
mod layers;
mod limits;
mod load;
mod measure;
mod namespace;
mod options;
mod permit;
mod permits;
mod postings;
mod query;
mod rank;
mod rows;
mod scope;
mod settings;
mod snapshot;
mod statistics;
mod tables;
mod tags;
mod text;
mod thresholds;
mod time;
mod txn;
mod vector;
mod vector_rows;

pub use check::{CheckReport, Problem};
pub use error::{MemoryError, Resource, Result};
pub use feed::{ItemChange, MemoryFeed};
pub use id::ItemId;
pub use item::{Added, Draft, Item, MAX_CONTENT, MAX_METADATA, MAX_TAGS};
pub use language::Language;
pub use layers::{LayerReport, check_layers};
pub use limits::Limits;
pub use measure::{Measuring, Meter, Operation, Outcome};
pub use namespace::Namespace;
pub use options::MemoryOptions;
pub use permit::Permit;
pub use query::{Cursor, Found, Hit, Order, Query};
pub use snapshot::{MemorySnapshot, NamespaceInfo};
pub use statistics::{OperationStatistics, Statistics};
pub use tags::TagInfo;
pub use thresholds::{Thresholds, Warning, Watched};
pub use time::Timestamp;
pub use txn::MemoryTxn;
pub use vector::{Format, Metric, Space};

use crate::{Store, WriteOptions, WriteTxn};
use serde_json::Value;
use std::path::Path;
use std::sync::atomic::Ordering;

/// So many items are removed by one transaction of [`Memory::sweep`] and [`Memory::clear`]: others wait for no more.
const BATCH: usize = 64;

/// How many rows of the store the operations of a memory have read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Work {
    /// Rows looked up, or passed by a walk.
    pub rows_read: u64,
    /// Rows put or deleted.
    pub rows_written: u64,
}

/// A memory in a store. Cloning the handle is cheap; handles may be used from any thread, and any number of processes
/// may use the same file. What concerns several processes (spaces, fields, language, limits) lies in the store.
///
/// Methods that change something run one write transaction each; use [`Memory::write`] for several changes at once.
///
/// ```
/// # let memory = memstone::memory::Memory::new(memstone::Store::in_memory()?);
/// use memstone::memory::{Draft, Language, Limits, Memory, MemoryError, MemoryOptions, Query, Space};
/// memory.declare_space("small", Space::new(2))?;
/// memory.set_language(Language::None)?;
/// memory.set_limits("ada", Limits::new().items(100).rate(10, std::time::Duration::from_secs(60)))?;
/// let id = memory.add("ada/chat", Draft::new("likes tea").vector("small", [1.0, 0.0]))?.id;
/// assert_eq!(memory.vector(id, "small")?, Some(vec![1.0, 0.0]));
/// let mut item = memory.update(id, |item| item.content.push_str(" and walks"))?;
/// item.tags.insert("habits".to_owned());
/// memory.put_if(&item)?; // refused if another change came between
/// memory.charge("ada", 1)?; // of the rate
///
/// let before = memory.snapshot()?;
/// assert!(memory.remove(id)?);
/// memory.write(|tx| {
///     tx.add("ada", "likes coffee")?;
///     tx.add("ada/chat", "drinks it black")?;
///     Ok::<_, MemoryError>(())
/// })?;
/// assert_eq!((before.find(&Query::new())?.hits.len(), memory.namespaces("ada")?.len()), (1, 2));
/// assert_eq!((memory.sweep(10)?, memory.clear("ada")?), (0, 2));
/// assert!(!memory.drop_field("source")?);
/// let again = Memory::with(memory.store().clone(), MemoryOptions::new());
/// assert!(again.find(&Query::new())?.hits.is_empty());
/// # Ok::<(), memstone::memory::MemoryError>(())
/// ```
#[derive(Clone)]
pub struct Memory {
    store: Store,
    options: MemoryOptions,
    meter: Meter,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").field("path", &self.store.path()).finish_non_exhaustive()
    }
}

impl Memory {
    /// Opens the store with this path, or creates it.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Memory> {
        Ok(Memory::new(Store::open(path)?))
    }

    /// The memory in an open store.
    #[must_use]
    pub fn new(store: Store) -> Memory {
        Memory::with(store, MemoryOptions::default())
    }

    /// The same with other options.
    #[must_use]
    pub fn with(store: Store, options: MemoryOptions) -> Memory {
        let meter = options.meter.clone().unwrap_or_default();
        Memory { store, options, meter }
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Rows that this handle, its clones and others with its meter have read and written so far. Rows read by a search
    /// that is still running, or by a transaction, are added when it ends.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # use memstone::memory::{Memory, MemoryError};
    /// # let memory = Memory::open(dir.path().join("memory.mst"))?;
    /// let before = memory.work();
    /// memory.add("ada", "likes tea")?;
    /// assert!(memory.work().rows_written > before.rows_written);
    /// # Ok::<(), MemoryError>(())
    /// ```
    #[must_use]
    pub fn work(&self) -> Work {
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let counters = self.meter.counters();
        Work { rows_read: read(&counters.read), rows_written: read(&counters.written) }
    }

    /// The newest state, for several reads that agree. Waits for no writer.
    ///
    /// # Errors
    /// As [`Store::read`], [`MemoryError::Layout`], [`MemoryError::Damaged`].
    pub fn snapshot(&self) -> Result<MemorySnapshot> {
        MemorySnapshot::new(self.store.read()?, self.meter.counters(), self.options.clock.now())
    }

    /// Runs `body` in one write transaction: commits if it returns `Ok`, and rolls everything back if it returns `Err` or
    /// panics. Blocks all other writers meanwhile: think before it, or use [`Memory::edit`].
    ///
    /// # Errors
    /// What `body` returns; as [`Store::write`]; [`MemoryError::Layout`], [`MemoryError::Damaged`].
    pub fn write<T, E: From<MemoryError>>(&self, body: impl FnOnce(&MemoryTxn<'_>) -> Result<T, E>) -> Result<T, E> {
        let running = self.meter.begin();
        let result = self.transact(self.options.writing, body);
        let outcome = if result.is_ok() { Outcome::Done } else { Outcome::Failed };
        running.end(Operation::Transaction, &Namespace::root(), outcome);
        result
    }

    /// The same, not measured.
    fn transact<T, E: From<MemoryError>>(
        &self,
        options: WriteOptions,
        body: impl FnOnce(&MemoryTxn<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let store_error = |error| E::from(MemoryError::Store(error));
        let tx = self.store.begin_write_with(options).map_err(store_error)?;
        let memory_tx = self.on(&tx)?;
        let result = body(&memory_tx)?;
        drop(memory_tx);
        tx.commit().map_err(store_error)?;
        Ok(result)
    }

    /// The memory inside a transaction of its store that the caller has begun, and commits.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # use memstone::memory::{Memory, MemoryError};
    /// # let memory = Memory::open(dir.path().join("memory.mst"))?;
    /// let tx = memory.store().begin_write()?;
    /// let added = memory.on(&tx)?.add("ada", "likes tea")?;
    /// tx.raw("my own table")?.put(b"the last one", added.id.as_bytes())?;
    /// tx.commit()?;
    /// # Ok::<(), MemoryError>(())
    /// ```
    ///
    /// # Errors
    /// [`MemoryError::Store`], [`MemoryError::Layout`], [`MemoryError::Damaged`].
    pub fn on<'t>(&'t self, tx: &'t WriteTxn) -> Result<MemoryTxn<'t>> {
        MemoryTxn::new(tx, self.meter.counters(), self.options.clock.now())
    }

    /// Adds an item to a namespace: see [`MemoryTxn::add`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # use memstone::memory::{Memory, MemoryError};
    /// # let memory = Memory::open(dir.path().join("memory.mst"))?;
    /// let first = memory.add("ada", "likes tea")?;
    /// let again = memory.add("ada", "likes tea")?;
    /// assert!(again.id == first.id && again.duplicate);
    /// assert_eq!(memory.get(first.id)?.unwrap().duplicates, 1);
    /// # Ok::<(), MemoryError>(())
    /// ```
    ///
    /// # Errors
    /// As [`MemoryTxn::add`] and [`Store::write`].
    pub fn add<N>(&self, namespace: N, draft: impl Into<Draft>) -> Result<Added>
    where
        N: TryInto<Namespace, Error: Into<MemoryError>>,
    {
        let namespace = namespace.try_into().map_err(Into::into)?;
        self.change(Operation::Add, &namespace, |tx| tx.add(&namespace, draft))
    }

    /// An item, unless it has expired.
    ///
    /// # Errors
    /// As [`Memory::snapshot`].
    pub fn get(&self, id: ItemId) -> Result<Option<Item>> {
        self.measure_by(
            Operation::Get,
            |item: &Option<Item>| Some(&item.as_ref()?.namespace),
            || self.snapshot()?.get(id),
        )
    }

    /// An item's vector in a space, as the space's format keeps it.
    ///
    /// # Errors
    /// [`MemoryError::NotFound`], [`MemoryError::NoSpace`]; otherwise as [`Memory::snapshot`].
    pub fn vector(&self, id: ItemId, space: &str) -> Result<Option<Vec<f32>>> {
        self.measure(Operation::Get, &Namespace::root(), || self.snapshot()?.vector(id, space))
    }

    /// Searches.
    ///
    /// # Errors
    /// [`MemoryError::Invalid`], [`MemoryError::NoSpace`], [`MemoryError::NoField`]; [`MemoryError::NotFound`] for
    /// [`Query::like`]; otherwise as [`Memory::snapshot`].
    pub fn find(&self, query: &Query) -> Result<Found> {
        let root = Namespace::root();
        self.measure(Operation::Find, query.namespace().unwrap_or(&root), || self.snapshot()?.find(query))
    }

    /// Changes an item in one transaction: see [`MemoryTxn::update`]. `edit` must be quick.
    ///
    /// # Errors
    /// As [`MemoryTxn::update`] and [`Store::write`].
    pub fn update(&self, id: ItemId, edit: impl FnOnce(&mut Item)) -> Result<Item> {
        self.change_item(|tx| tx.update(id, edit))
    }

    /// Changes an item without holding a lock while `edit` thinks: reads the item, lets it edit a copy, and stores that if
    /// nobody has changed the item meanwhile; otherwise repeats all of it, at most 100 times. `edit` may take minutes, and
    /// may ask a model.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # use memstone::memory::{Memory, MemoryError};
    /// # let memory = Memory::open(dir.path().join("memory.mst"))?;
    /// # fn ask_a_model(text: &str) -> String { text.to_uppercase() }
    /// let id = memory.add("ada", "likes tea")?.id;
    /// let item = memory.edit(id, |item| {
    ///     item.content = ask_a_model(&item.content);
    ///     Ok::<_, MemoryError>(())
    /// })?;
    /// assert_eq!((item.content.as_str(), item.version), ("LIKES TEA", 2));
    /// # Ok::<(), MemoryError>(())
    /// ```
    ///
    /// # Errors
    /// What `edit` returns; [`MemoryError::Conflict`] if the item was changed each time; otherwise as [`Memory::update`].
    pub fn edit<E: From<MemoryError>>(
        &self,
        id: ItemId,
        mut edit: impl FnMut(&mut Item) -> Result<(), E>,
    ) -> Result<Item, E> {
        let mut attempts = 100;
        loop {
            let mut item = self.get(id)?.ok_or(MemoryError::NotFound { id })?;
            edit(&mut item)?;
            attempts -= 1;
            match self.put_if(&item) {
                Err(MemoryError::Conflict { found: Some(_), .. }) if attempts > 0 => {}
                Err(MemoryError::Conflict { found: None, .. }) => return Err(MemoryError::NotFound { id }.into()),
                done => return Ok(done?),
            }
        }
    }

    /// Stores an item that was read before, if it was not changed since: see [`MemoryTxn::put_if`].
    ///
    /// # Errors
    /// As [`MemoryTxn::put_if`] and [`Store::write`].
    pub fn put_if(&self, item: &Item) -> Result<Item> {
        self.change_item(|tx| tx.put_if(item))
    }

    /// Changes an item by a JSON merge patch: see [`MemoryTxn::patch`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # use memstone::memory::{Draft, Memory, MemoryError};
    /// # use serde_json::json;
    /// # let memory = Memory::open(dir.path().join("memory.mst"))?;
    /// let id = memory.add("ada", Draft::new("likes tea").metadata("stars", 3).metadata("old", true))?.id;
    /// let item = memory.patch(id, &json!({"metadata": {"stars": 5, "old": null}, "tags": ["habits"]}))?;
    /// assert_eq!(serde_json::Value::Object(item.metadata), json!({"stars": 5}));
    /// # Ok::<(), MemoryError>(())
    /// ```
    ///
    /// # Errors
    /// As [`MemoryTxn::patch`] and [`Store::write`].
    pub fn patch(&self, id: ItemId, patch: &Value) -> Result<Item> {
        self.change_item(|tx| tx.patch(id, patch))
    }

    /// Removes an item; `false` if there is none.
    ///
    /// # Errors
    /// As [`MemoryTxn::remove`] and [`Store::write`].
    pub fn remove(&self, id: ItemId) -> Result<bool> {
        let take_out = || self.transact(self.options.writing, |tx| tx.take_out(id));
        Ok(self.measure_by(Operation::Remove, |namespace| namespace.as_ref(), take_out)?.is_some())
    }

    /// Removes all items of a namespace and of those below it, in small transactions, and returns their number.
    ///
    /// # Errors
    /// As [`MemoryTxn::clear`] and [`Store::write`]. What was removed before stays removed.
    pub fn clear<N>(&self, namespace: N) -> Result<u64>
    where
        N: TryInto<Namespace, Error: Into<MemoryError>>,
    {
        let namespace: Namespace = namespace.try_into().map_err(Into::into)?;
        self.measure(Operation::Clear, &namespace, || self.repeat(u64::MAX, |tx, limit| tx.clear(&namespace, limit)))
    }

    /// Removes expired items, at most so many, in small transactions, and returns their number. Until then they take room,
    /// and count for quotas, but are not found.
    ///
    /// # Errors
    /// As [`MemoryTxn::sweep`] and [`Store::write`]. What was removed before stays removed.
    pub fn sweep(&self, limit: u64) -> Result<u64> {
        let all = Namespace::root();
        self.measure(Operation::Sweep, &all, || self.repeat(limit, |tx, limit| tx.sweep(limit)))
    }

    fn repeat(&self, limit: u64, step: impl Fn(&MemoryTxn<'_>, usize) -> Result<usize>) -> Result<u64> {
        let mut removed = 0;
        loop {
            let next = usize::try_from(limit - removed).unwrap_or(BATCH).min(BATCH);
            let done = if next == 0 { 0 } else { self.transact(self.options.writing, |tx| step(tx, next))? };
            removed += done as u64;
            if done < BATCH {
                return Ok(removed);
            }
        }
    }

    /// What a namespace holds, by its counters: nothing is counted.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # use memstone::memory::{Memory, MemoryError};
    /// # let memory = Memory::open(dir.path().join("memory.mst"))?;
    /// memory.add("ada/chat", "likes tea")?;
    /// let usage = memory.usage("ada")?;
    /// assert_eq!((usage.own_items, usage.items), (0, 1));
    /// # Ok::<(), MemoryError>(())
    /// ```
    ///
    /// # Errors
    /// [`MemoryError::Invalid`], and as [`Memory::snapshot`].
    pub fn usage<N>(&self, namespace: N) -> Result<NamespaceInfo>
    where
        N: TryInto<Namespace, Error: Into<MemoryError>>,
    {
        self.snapshot()?.usage(namespace)
    }

    /// The namespaces that hold anything, by path: one, and those below it.
    ///
    /// # Errors
    /// As [`Memory::usage`].
    pub fn namespaces<N>(&self, under: N) -> Result<Vec<NamespaceInfo>>
    where
        N: TryInto<Namespace, Error: Into<MemoryError>>,
    {
        self.snapshot()?.namespaces(under)
    }

    /// Declares a vector space: items may have one vector of that name. Does nothing if it is declared already.
    ///
    /// # Errors
    /// [`MemoryError::SpaceDiffers`] if it is declared otherwise; [`MemoryError::Invalid`],
    /// [`MemoryError::Exhausted`]; as [`Store::write`].
    pub fn declare_space(&self, name: &str, space: Space) -> Result<()> {
        if self.snapshot()?.spaces().iter().any(|known| (known.0.as_str(), known.1) == (name, space)) {
            return Ok(());
        }
        self.transact(self.options.writing, |tx| tx.declare_space(name, space))
    }

    /// Declares a field of the metadata, so that searches can have conditions on it: a member by its name, or, with a
    /// slash in front, a JSON pointer such as `/source/author`. Items that exist are added to the index in the same
    /// transaction. Does nothing if it is declared already.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # use memstone::memory::{Draft, Memory, MemoryError, Query};
    /// # let memory = Memory::open(dir.path().join("memory.mst"))?;
    /// memory.add("ada", Draft::new("likes tea").metadata("stars", 3))?;
    /// memory.declare_field("stars")?;
    /// assert_eq!(memory.find(&Query::new().field_range("stars", 2..4))?.hits.len(), 1);
    /// # Ok::<(), MemoryError>(())
    /// ```
    ///
    /// # Errors
    /// [`MemoryError::Invalid`], [`MemoryError::Exhausted`]; as [`Store::write`].
    pub fn declare_field(&self, name: &str) -> Result<()> {
        if self.snapshot()?.fields().iter().any(|known| known == name) {
            return Ok(());
        }
        self.transact(self.options.writing, |tx| tx.declare_field(name))
    }

    /// Removes the index of a field; `false` if it has none. The metadata stays.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn drop_field(&self, name: &str) -> Result<bool> {
        self.transact(self.options.writing, |tx| tx.drop_field(name))
    }

    /// Sets the language of the texts, and makes the index of words anew, in one transaction. The same language again
    /// makes it anew for another version of this library, whose rules for words may differ.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn set_language(&self, language: Language) -> Result<()> {
        self.transact(self.options.writing, |tx| tx.set_language(language))
    }

    /// Sets what a namespace may hold together with those below it, and how often it may be written to.
    ///
    /// # Errors
    /// [`MemoryError::Invalid`], and as [`Store::write`].
    pub fn set_limits<N>(&self, namespace: N, limits: Limits) -> Result<()>
    where
        N: TryInto<Namespace, Error: Into<MemoryError>>,
    {
        self.transact(self.options.writing, |tx| tx.set_limits(namespace, limits))
    }

    /// Takes tokens from the rate of a namespace and of those above it, for what the caller counts: searches, or calls of
    /// a model.
    ///
    /// # Errors
    /// [`MemoryError::Rate`], [`MemoryError::Invalid`], and as [`Store::write`].
    pub fn charge<N>(&self, namespace: N, tokens: u64) -> Result<()>
    where
        N: TryInto<Namespace, Error: Into<MemoryError>>,
    {
        let namespace = namespace.try_into().map_err(Into::into)?;
        self.change(Operation::Charge, &namespace, |tx| tx.charge(&namespace, tokens))
    }

    /// The tags of the items in a namespace and below it, by their names, and how many items have each; expired ones
    /// count until they are swept. Two rows are read for each tag of each namespace, however many items have it.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # use memstone::memory::{Draft, Memory, MemoryError};
    /// # let memory = Memory::open(dir.path().join("memory.mst"))?;
    /// memory.add("ada/chat", Draft::new("likes tea").tags(["drinks", "habits"]))?;
    /// memory.add("ada", Draft::new("walks to work").tags(["habits"]))?;
    /// let tags = memory.tags("ada")?;
    /// let tags: Vec<_> = tags.iter().map(|of| (of.tag.as_str(), of.items)).collect();
    /// assert_eq!(tags, [("drinks", 1), ("habits", 2)]);
    /// # Ok::<(), MemoryError>(())
    /// ```
    ///
    /// # Errors
    /// As [`Memory::usage`].
    pub fn tags<N>(&self, under: N) -> Result<Vec<TagInfo>>
    where
        N: TryInto<Namespace, Error: Into<MemoryError>>,
    {
        self.snapshot()?.tags(under)
    }

    /// Verifies that all indexes and counters agree with the items, and those of the [`jobs`] of the store with the jobs,
    /// in one state.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # use memstone::memory::{Memory, MemoryError};
    /// # let memory = Memory::open(dir.path().join("memory.mst"))?;
    /// memory.add("ada", "likes tea")?;
    /// assert!(memory.check()?.is_clean());
    /// # Ok::<(), MemoryError>(())
    /// ```
    ///
    /// # Errors
    /// As [`Memory::snapshot`]. What disagrees is no error: the report has it.
    pub fn check(&self) -> Result<CheckReport> {
        self.measure(Operation::Check, &Namespace::root(), || layers::check(&self.snapshot()?))
    }
}
