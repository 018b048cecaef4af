//! What has changed in a memory since a cursor: the change feed of the store, told as items.

use crate::memory::Memory;
use crate::memory::error::Result;
use crate::memory::id::ItemId;
use crate::memory::load;
use crate::memory::namespace::Namespace;
use crate::memory::snapshot::MemorySnapshot;
use crate::memory::tables::{Number, Place, Reader, Table};
use crate::{Changed, Commit, Cursor, Feed, Gap};
use std::collections::{BTreeMap, BTreeSet};

/// An item that was stored or removed since a cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ItemChange {
    /// The item.
    pub id: ItemId,
    /// Where it is. Of a removed one: where it was, or `None` if that cannot be told, since its namespace is gone, too, or
    /// items of several namespaces were removed at once.
    pub namespace: Option<Namespace>,
    /// Whether it is gone. Otherwise it is new, or was changed, and the snapshot has it.
    pub removed: bool,
    /// The commit that changed it last.
    pub lsn: u64,
}

/// The answer of [`Memory::changes`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemoryFeed {
    /// The items that have changed, each once, in the order of their last changes; and the cursor to go on from.
    Items(Vec<ItemChange>, Cursor),
    /// They are not all known: read what is needed anew, and go on from this cursor.
    Gap(Gap, Cursor),
}

impl Memory {
    /// The items that any process has stored or removed since a cursor: [`MemorySnapshot::changes`] of the newest state.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use memstone::memory::{Memory, MemoryError, MemoryFeed};
    /// let memory = Memory::open(dir.path().join("memory.mst"))?;
    /// let seen = memory.store().read()?.end()?;
    /// let id = memory.add("ada", "likes tea")?.id;
    /// let MemoryFeed::Items(items, _) = memory.changes(seen)? else { panic!("a gap") };
    /// assert!(items.len() == 1 && items[0].id == id && !items[0].removed);
    /// # Ok::<(), MemoryError>(())
    /// ```
    ///
    /// # Errors
    /// As there, and as [`Memory::snapshot`].
    pub fn changes(&self, since: Cursor) -> Result<MemoryFeed> {
        self.snapshot()?.changes(since)
    }
}

impl MemorySnapshot {
    /// The items that were stored or removed after a cursor, up to this state. An item that was only counted once more
    /// as a duplicate was stored. One that expires is removed when it is swept.
    ///
    /// [`Store::wait_for_change`](crate::Store::wait_for_change) waits for a commit;
    /// [`Store::set_journal`](crate::Store::set_journal) decides how far back changes are known.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use memstone::memory::{Memory, MemoryError, MemoryFeed};
    /// let memory = Memory::open(dir.path().join("memory.mst"))?;
    /// let tea = memory.add("ada", "likes tea")?.id;
    /// let seen = memory.store().read()?.end()?;
    /// let walks = memory.add("ada", "likes walks")?.id;
    /// memory.remove(tea)?;
    ///
    /// let MemoryFeed::Items(items, cursor) = memory.changes(seen)? else { panic!("nothing was applied meanwhile") };
    /// let told: Vec<_> = items.iter().map(|item| (item.id, item.removed)).collect();
    /// assert_eq!(told, [(walks, false), (tea, true)]);
    /// assert_eq!(cursor, memory.store().read()?.end()?);
    /// # Ok::<(), MemoryError>(())
    /// ```
    ///
    /// # Errors
    /// [`MemoryError::Store`](super::MemoryError::Store), [`MemoryError::Damaged`](super::MemoryError::Damaged).
    pub fn changes(&self, since: Cursor) -> Result<MemoryFeed> {
        let end = self.store_snapshot().end()?;
        let commits = match self.store_snapshot().changes(since)? {
            Feed::Changes(commits) => commits,
            Feed::Gap(gap) => return Ok(MemoryFeed::Gap(gap, end)),
        };
        let (reader, mut touched) = (self.reader(), Touched::default());
        for commit in commits {
            touched.take_in(&commit?, &reader)?;
        }
        let mut items = touched.resolve(&reader)?;
        items.sort_by_key(|item| item.lsn);
        Ok(MemoryFeed::Items(items, end))
    }
}

/// What commits have touched, and the last of them.
#[derive(Default)]
struct Touched {
    ids: BTreeMap<ItemId, (u64, Option<Namespace>)>,
    places: BTreeMap<Place, u64>,
}

impl Touched {
    fn take_in(&mut self, commit: &Commit, reader: &Reader<'_>) -> Result<()> {
        let (mut ids, mut left) = (BTreeSet::new(), BTreeSet::new());
        for change in commit.changes() {
            match change {
                Changed::Put { table, key } if table == Table::Items.name() => {
                    self.places.extend(Place::at_end(key).map(|place| (place, commit.lsn())));
                }
                Changed::Deleted { table, key } if table == Table::Items.name() => {
                    left.extend(Place::at_end(key).map(|place| place.namespace));
                }
                Changed::Put { table, key } | Changed::Deleted { table, key } if table == Table::Ids.name() => {
                    ids.extend(<[u8; 16]>::try_from(key).map(ItemId::from_bytes));
                }
                _ => {}
            }
        }
        // (A row of an id does not say where the item was.)
        let namespace = match left.into_iter().collect::<Vec<Number>>()[..] {
            [number] => reader.get(Table::Numbers, &number.to_be_bytes())?.and_then(|path| Namespace::from_key(&path)),
            _ => None,
        };
        self.ids.extend(ids.into_iter().map(|id| (id, (commit.lsn(), namespace.clone()))));
        Ok(())
    }

    /// The items, as the reader's state has them.
    fn resolve(self, reader: &Reader<'_>) -> Result<Vec<ItemChange>> {
        let mut items = BTreeMap::new();
        for (id, (lsn, left)) in self.ids {
            let place = load::place(reader, id)?;
            let namespace = place.map_or(Ok(left), |place| load::path(reader, place.namespace).map(Some))?;
            items.insert(id, ItemChange { id, namespace, removed: place.is_none(), lsn });
        }
        for (place, lsn) in self.places {
            // (One that is gone has left a change of its id.)
            let Some(id) = load::id_at(reader, place)? else { continue };
            let namespace = Some(load::path(reader, place.namespace)?);
            let item = items.entry(id).or_insert(ItemChange { id, namespace, removed: false, lsn });
            item.lsn = item.lsn.max(lsn);
        }
        Ok(items.into_values().collect())
    }
}
