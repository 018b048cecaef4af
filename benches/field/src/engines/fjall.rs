//! fjall: one keyspace, batches, a flush of the journal for each durable commit.

use std::path::Path;

use anyhow::Result;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot};

use crate::engine::{Access, Engine, Reader};

pub struct Fjall {
    database: Database,
    rows: Keyspace,
    durability: PersistMode,
}

pub struct FjallReader<'s> {
    snapshot: Snapshot,
    rows: &'s Keyspace,
}

impl Engine for Fjall {
    type Reader<'s> = FjallReader<'s>;

    fn open(dir: &Path, _access: Access) -> Result<Fjall> {
        let database = Database::builder(dir).cache_size(1 << 30).open()?;
        let rows = database.keyspace("rows", KeyspaceCreateOptions::default)?;
        Ok(Fjall { database, rows, durability: PersistMode::SyncData })
    }

    fn relax(&mut self, relaxed: bool) -> Result<()> {
        self.durability = if relaxed { PersistMode::Buffer } else { PersistMode::SyncData };
        if !relaxed {
            self.database.persist(PersistMode::SyncData)?;
        }
        Ok(())
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.rows.insert(key, value)?;
        if !matches!(self.durability, PersistMode::Buffer) {
            self.database.persist(self.durability)?;
        }
        Ok(())
    }

    fn write<K: AsRef<[u8]>, V: AsRef<[u8]>>(&self, changes: impl Iterator<Item = (K, Option<V>)>) -> Result<()> {
        let mut batch = self.database.batch().durability(Some(self.durability));
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(&self.rows, key.as_ref(), value.as_ref()),
                None => batch.remove(&self.rows, key.as_ref()),
            }
        }
        Ok(batch.commit()?)
    }

    fn read<T>(&self, body: impl for<'s> FnOnce(&mut FjallReader<'s>) -> Result<T>) -> Result<T> {
        body(&mut FjallReader { snapshot: self.database.snapshot(), rows: &self.rows })
    }

    fn close(self) -> Result<()> {
        Ok(())
    }
}

impl Reader for FjallReader<'_> {
    fn get(&mut self, key: &[u8], visit: impl FnOnce(&[u8])) -> Result<bool> {
        Ok(self.snapshot.get(self.rows, key)?.map(|value| visit(&value)).is_some())
    }

    fn scan(&mut self, from: &[u8], limit: usize, mut visit: impl FnMut(&[u8], &[u8])) -> Result<()> {
        for entry in self.snapshot.range(self.rows, from..).take(limit) {
            let (key, value) = entry.into_inner()?;
            visit(&key, &value);
        }
        Ok(())
    }
}
