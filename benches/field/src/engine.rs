//! What the harness asks of a store.

use std::path::Path;

use anyhow::Result;

use crate::data::{Key, Value};

/// One change of a transaction: the new value, or `None` to remove the row.
pub type Change = (Key, Option<Value>);

/// Whether other processes use the store too. Only a store with a mode for it cares.
#[derive(Clone, Copy, PartialEq)]
pub enum Access {
    Alone,
    Shared,
}

pub trait Engine: Sized + 'static {
    type Reader<'s>: Reader;

    /// Opens the store in `dir`, creating it if it is missing.
    fn open(dir: &Path, access: Access) -> Result<Self>;

    /// From here on commits are not flushed (`true`), or are durable again, those before included (`false`).
    fn relax(&mut self, relaxed: bool) -> Result<()>;

    /// A transaction of one row.
    fn put(&self, key: &Key, value: &Value) -> Result<()> {
        self.write(std::iter::once((*key, Some(*value))))
    }

    /// A transaction of many rows.
    fn write(&self, changes: impl Iterator<Item = Change>) -> Result<()>;

    /// Reads within one snapshot.
    fn read<T>(&self, body: impl for<'s> FnOnce(&mut Self::Reader<'s>) -> Result<T>) -> Result<T>;

    /// One read with a snapshot of its own.
    fn get(&self, key: &Key, visit: impl FnOnce(&[u8])) -> Result<bool> {
        self.read(|reader| reader.get(key, visit))
    }

    fn close(self) -> Result<()>;
}

/// Reads of one snapshot.
pub trait Reader {
    /// Shows the value of a key; false if the key is not there.
    fn get(&mut self, key: &Key, visit: impl FnOnce(&[u8])) -> Result<bool>;

    /// Shows up to `limit` rows in key order, the first being `from` or its successor.
    fn scan(&mut self, from: &Key, limit: usize, visit: impl FnMut(&[u8], &[u8])) -> Result<()>;
}
