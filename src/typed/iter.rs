//! The iterators of typed tables.

use super::codec::{Codec, MessagePack};
use super::definition::{Entry, Table};
use super::key::Key;
use crate::bytes::Bytes;
use crate::error::Result;
use crate::{RawRange, ReadState, Snapshot};

/// The entries of a range of keys, in order, from both ends.
///
/// An entry that cannot be decoded gives an error, and the iterator continues after it.
///
/// ```
/// # let store = memstone::Store::in_memory()?;
/// use memstone::Table;
/// const AGES: Table<&str, u32> = Table::new("ages");
/// store.write(|tx| tx.table(AGES)?.bulk_load([("ada", 36), ("bob", 7), ("cyd", 51)]).map(drop))?;
/// let snapshot = store.read()?;
/// let ages = snapshot.table(AGES)?;
/// let mut range = ages.range("b"..)?;
/// assert_eq!(range.next().transpose()?, Some(("bob".to_owned(), 7)));
/// assert_eq!(range.last_key()?.as_deref(), Some("bob"));
/// assert_eq!(range.keys().next_back().transpose()?.as_deref(), Some("cyd"));
/// assert_eq!(ages.range(..)?.values().collect::<Result<Vec<_>, _>>()?, [36, 7, 51]);
/// # Ok::<(), memstone::Error>(())
/// ```
#[must_use = "an iterator does nothing unless it is asked for its entries"]
pub struct TypedRange<'s, K: ?Sized, V: ?Sized, C = MessagePack, S: ReadState = Snapshot> {
    raw: RawRange<'s, S>,
    table: Table<'s, K, V, C>,
    last: Option<Bytes<'s>>,
}

/// The keys of a range. The values are not decoded, and long ones are not read.
///
/// ```
/// # let store = memstone::Store::in_memory()?;
/// use memstone::Table;
/// const AGES: Table<&str, u32> = Table::new("ages");
/// store.write(|tx| tx.table(AGES)?.bulk_load([("ada", 36), ("bob", 7)]).map(drop))?;
/// let snapshot = store.read()?;
/// let mut keys = snapshot.table(AGES)?.keys()?;
/// assert_eq!(keys.next().transpose()?, Some("ada".to_owned()));
/// assert_eq!(keys.last_key()?.as_deref(), Some("ada")); // to go on later
/// # Ok::<(), memstone::Error>(())
/// ```
#[must_use = "an iterator does nothing unless it is asked for its keys"]
pub struct Keys<'s, K: ?Sized, V: ?Sized, C = MessagePack, S: ReadState = Snapshot>(TypedRange<'s, K, V, C, S>);

/// The values of a range, in the order of their keys, which are not decoded.
///
/// ```
/// # let store = memstone::Store::in_memory()?;
/// use memstone::Table;
/// const AGES: Table<&str, u32> = Table::new("ages");
/// store.write(|tx| tx.table(AGES)?.bulk_load([("ada", 36), ("bob", 7)]).map(drop))?;
/// let snapshot = store.read()?;
/// let mut values = snapshot.table(AGES)?.values()?;
/// assert_eq!(values.next().transpose()?, Some(36));
/// assert_eq!(values.last_key()?.as_deref(), Some("ada")); // to go on later
/// # Ok::<(), memstone::Error>(())
/// ```
#[must_use = "an iterator does nothing unless it is asked for its values"]
pub struct Values<'s, K: ?Sized, V: ?Sized, C = MessagePack, S: ReadState = Snapshot>(TypedRange<'s, K, V, C, S>);

impl<'s, K: Key + ?Sized, V: ?Sized, C: Codec<V>, S: ReadState> TypedRange<'s, K, V, C, S> {
    pub(super) fn new(raw: RawRange<'s, S>, table: Table<'s, K, V, C>) -> TypedRange<'s, K, V, C, S> {
        TypedRange { raw, table, last: None }
    }

    /// Only the keys of the remaining entries.
    pub fn keys(self) -> Keys<'s, K, V, C, S> {
        Keys(self)
    }

    /// Only the values of the remaining entries.
    pub fn values(self) -> Values<'s, K, V, C, S> {
        Values(self)
    }

    /// The key of the entry returned last, from either end; `None` before the first one.
    ///
    /// To continue later, in another snapshot or another process, open the range `(Bound::Excluded(last_key),
    /// Bound::Unbounded)`, or read backwards from `..last_key`.
    pub fn last_key(&self) -> Result<Option<K::Owned>> {
        self.last.as_ref().map(|key| self.table.decode_key(key)).transpose()
    }

    /// Notes the entry's key, and passes the entry on to `decode`.
    fn give<T>(
        &mut self,
        entry: Result<(Bytes<'s>, Bytes<'s>)>,
        decode: impl FnOnce(Table<'s, K, V, C>, &[u8], Bytes<'s>) -> Result<T>,
    ) -> Result<T> {
        let (key, value) = entry?;
        let decoded = decode(self.table, &key, value);
        self.last = Some(key);
        decoded
    }

    /// The same for a key whose value was not read.
    fn give_key(&mut self, key: Result<Bytes<'s>>) -> Result<K::Owned> {
        self.give(key.map(|key| (key, Bytes::borrowed(&[]))), |table, key, _| table.decode_key(key))
    }

    fn give_value(&mut self, entry: Result<(Bytes<'s>, Bytes<'s>)>) -> Result<C::Value<'s>> {
        self.give(entry, |table, _, value| table.decode_value(value))
    }
}

impl<K: Key + ?Sized, V: ?Sized, C: Codec<V>, S: ReadState> Keys<'_, K, V, C, S> {
    /// See [`TypedRange::last_key`].
    pub fn last_key(&self) -> Result<Option<K::Owned>> {
        self.0.last_key()
    }
}

impl<K: Key + ?Sized, V: ?Sized, C: Codec<V>, S: ReadState> Values<'_, K, V, C, S> {
    /// See [`TypedRange::last_key`].
    pub fn last_key(&self) -> Result<Option<K::Owned>> {
        self.0.last_key()
    }
}

both_ends! {
    self: ['s, K: Key + ?Sized, V: ?Sized, C: Codec<V>, S: ReadState] TypedRange<'s, K, V, C, S> => Result<Entry<'s, K, V, C>> {
        next: self.raw.next().map(|entry| self.give(entry, Table::decode_entry)),
        back: self.raw.next_back().map(|entry| self.give(entry, Table::decode_entry))
    }
}

both_ends! {
    self: ['s, K: Key + ?Sized, V: ?Sized, C: Codec<V>, S: ReadState] Keys<'s, K, V, C, S> => Result<K::Owned> {
        next: self.0.raw.next_key().map(|key| self.0.give_key(key)),
        back: self.0.raw.next_key_back().map(|key| self.0.give_key(key))
    }
}

both_ends! {
    self: ['s, K: Key + ?Sized, V: ?Sized, C: Codec<V>, S: ReadState] Values<'s, K, V, C, S> => Result<C::Value<'s>> {
        next: self.0.raw.next().map(|entry| self.0.give_value(entry)),
        back: self.0.raw.next_back().map(|entry| self.0.give_value(entry))
    }
}

shows! {
    self:
    [K: ?Sized, V: ?Sized, C, S: ReadState] TypedRange<'_, K, V, C, S> { table: self.table.name() }
    [K: ?Sized, V: ?Sized, C, S: ReadState] Keys<'_, K, V, C, S> { table: self.0.table.name() }
    [K: ?Sized, V: ?Sized, C, S: ReadState] Values<'_, K, V, C, S> { table: self.0.table.name() }
}
