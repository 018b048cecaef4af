//! What the harness asks of a store.

use std::path::Path;

use anyhow::Result;

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
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.write(std::iter::once((key, Some(value))))
    }

    /// A transaction of many rows: for each key the new value, or `None` to remove the row.
    fn write<K: AsRef<[u8]>, V: AsRef<[u8]>>(&self, changes: impl Iterator<Item = (K, Option<V>)>) -> Result<()>;

    /// Reads within one snapshot.
    fn read<T>(&self, body: impl for<'s> FnOnce(&mut Self::Reader<'s>) -> Result<T>) -> Result<T>;

    /// One read with a snapshot of its own.
    fn get(&self, key: &[u8], visit: impl FnOnce(&[u8])) -> Result<bool> {
        self.read(|reader| reader.get(key, visit))
    }

    fn close(self) -> Result<()>;

    /// Gives the file's free space back to the filesystem, by the store's own means, while nothing uses the store;
    /// false if it has none.
    fn compact(_dir: &Path) -> Result<bool> {
        Ok(false)
    }
}

/// Reads of one snapshot.
pub trait Reader {
    /// Shows the value of a key; false if the key is not there.
    fn get(&mut self, key: &[u8], visit: impl FnOnce(&[u8])) -> Result<bool>;

    /// Shows up to `limit` rows in key order, the first being `from` or its successor.
    fn scan(&mut self, from: &[u8], limit: usize, visit: impl FnMut(&[u8], &[u8])) -> Result<()>;
}
