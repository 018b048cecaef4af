//! memstone: one raw table, nothing configured.

use std::path::Path;

use anyhow::Result;
use memstone::{Durability, RawTable, Store, WriteOptions};

use crate::engine::{Access, Engine, Reader};

const ROWS: &str = "rows";

pub struct Memstone {
    store: Store,
    durability: Durability,
}

pub struct MemstoneReader<'s>(RawTable<'s>);

impl Engine for Memstone {
    type Reader<'s> = MemstoneReader<'s>;

    fn open(dir: &Path, _access: Access) -> Result<Memstone> {
        Ok(Memstone { store: Store::open(dir.join("rows.mst"))?, durability: Durability::Sync })
    }

    fn relax(&mut self, relaxed: bool) -> Result<()> {
        self.durability = if relaxed { Durability::Relaxed } else { Durability::Sync };
        if !relaxed {
            self.store.flush()?;
        }
        Ok(())
    }

    fn write<K: AsRef<[u8]>, V: AsRef<[u8]>>(&self, changes: impl Iterator<Item = (K, Option<V>)>) -> Result<()> {
        let options = WriteOptions::new().durability(self.durability);
        let done: Result<(), memstone::Error> = self.store.write_with(options, |transaction| {
            let table = transaction.raw(ROWS)?;
            for (key, value) in changes {
                match value {
                    Some(value) => table.put(key.as_ref(), value.as_ref())?,
                    None => table.delete(key.as_ref())?,
                }
            }
            Ok(())
        });
        Ok(done?)
    }

    fn read<T>(&self, body: impl for<'s> FnOnce(&mut MemstoneReader<'s>) -> Result<T>) -> Result<T> {
        let snapshot = self.store.read()?;
        body(&mut MemstoneReader(snapshot.raw(ROWS)?))
    }

    fn close(self) -> Result<()> {
        Ok(self.store.close()?)
    }

    fn compact(dir: &Path) -> Result<bool> {
        let store = Memstone::open(dir, Access::Alone)?;
        store.store.compact()?;
        store.close()?;
        Ok(true)
    }
}

impl Reader for MemstoneReader<'_> {
    fn get(&mut self, key: &[u8], visit: impl FnOnce(&[u8])) -> Result<bool> {
        Ok(self.0.get(key)?.map(|value| visit(&value)).is_some())
    }

    fn scan(&mut self, from: &[u8], limit: usize, mut visit: impl FnMut(&[u8], &[u8])) -> Result<()> {
        for entry in self.0.range(from..)?.take(limit) {
            let (key, value) = entry?;
            visit(&key, &value);
        }
        Ok(())
    }
}
