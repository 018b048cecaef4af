//! The iterators of typed tables.

use super::definition::Table;
use super::key::Key;
use super::value::Value;
use crate::RawRange;
use crate::bytes::Bytes;
use crate::error::Result;

/// The entries of a range of keys, in order, from both ends.
///
/// An entry that cannot be decoded gives an error, and the iterator continues after it.
pub struct TypedRange<'s, K: ?Sized, V> {
    raw: RawRange<'s>,
    table: Table<'s, K, V>,
    last: Option<Bytes<'s>>,
}

/// The keys of a range. The values are not decoded, and long ones are not read.
pub struct Keys<'s, K: ?Sized, V>(TypedRange<'s, K, V>);

/// The values of a range, in the order of their keys, which are not decoded.
pub struct Values<'s, K: ?Sized, V>(TypedRange<'s, K, V>);

impl<'s, K: Key + ?Sized, V: Value> TypedRange<'s, K, V> {
    pub(super) fn new(raw: RawRange<'s>, table: Table<'s, K, V>) -> TypedRange<'s, K, V> {
        TypedRange { raw, table, last: None }
    }

    /// Only the keys of the remaining entries.
    pub fn keys(self) -> Keys<'s, K, V> {
        Keys(self)
    }

    /// Only the values of the remaining entries.
    pub fn values(self) -> Values<'s, K, V> {
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
        decode: impl FnOnce(Table<'s, K, V>, &[u8], &[u8]) -> Result<T>,
    ) -> Result<T> {
        let (key, value) = entry?;
        let decoded = decode(self.table, &key, &value);
        self.last = Some(key);
        decoded
    }

    /// The same for a key whose value was not read.
    fn give_key(&mut self, key: Result<Bytes<'s>>) -> Result<K::Owned> {
        self.give(key.map(|key| (key, Bytes::borrowed(&[]))), |table, key, _| table.decode_key(key))
    }
}

impl<K: Key + ?Sized, V: Value> Keys<'_, K, V> {
    /// See [`TypedRange::last_key`].
    pub fn last_key(&self) -> Result<Option<K::Owned>> {
        self.0.last_key()
    }
}

impl<K: Key + ?Sized, V: Value> Values<'_, K, V> {
    /// See [`TypedRange::last_key`].
    pub fn last_key(&self) -> Result<Option<K::Owned>> {
        self.0.last_key()
    }
}

impl<K: Key + ?Sized, V: Value> Iterator for TypedRange<'_, K, V> {
    type Item = Result<(K::Owned, V)>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.raw.next()?;
        Some(self.give(entry, Table::decode_entry))
    }
}

impl<K: Key + ?Sized, V: Value> DoubleEndedIterator for TypedRange<'_, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let entry = self.raw.next_back()?;
        Some(self.give(entry, Table::decode_entry))
    }
}

impl<K: Key + ?Sized, V: Value> Iterator for Keys<'_, K, V> {
    type Item = Result<K::Owned>;

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.0.raw.next_key()?;
        Some(self.0.give_key(key))
    }
}

impl<K: Key + ?Sized, V: Value> DoubleEndedIterator for Keys<'_, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let key = self.0.raw.next_key_back()?;
        Some(self.0.give_key(key))
    }
}

impl<K: Key + ?Sized, V: Value> Iterator for Values<'_, K, V> {
    type Item = Result<V>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.0.raw.next()?;
        Some(self.0.give(entry, |table, _, value| table.decode_value(value)))
    }
}

impl<K: Key + ?Sized, V: Value> DoubleEndedIterator for Values<'_, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let entry = self.0.raw.next_back()?;
        Some(self.0.give(entry, |table, _, value| table.decode_value(value)))
    }
}
