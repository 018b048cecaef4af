//! redb: its default mode for one process, its multi-writer mode for many.

use std::path::Path;

use anyhow::Result;
use redb::{ConcurrencyMode, Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition};

use crate::engine::{Access, Engine, Reader};

const ROWS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("rows");

pub struct Redb {
    database: Database,
    durability: Durability,
}

pub struct RedbReader(ReadOnlyTable<&'static [u8], &'static [u8]>);

impl Engine for Redb {
    type Reader<'s> = RedbReader;

    fn open(dir: &Path, access: Access) -> Result<Redb> {
        let mut builder = Database::builder();
        if access == Access::Shared {
            builder.set_concurrency_mode(ConcurrencyMode::MultiWriter);
        }
        Ok(Redb { database: builder.create(dir.join("rows.redb"))?, durability: Durability::Immediate })
    }

    fn relax(&mut self, relaxed: bool) -> Result<()> {
        self.durability = if relaxed { Durability::None } else { Durability::Immediate };
        if !relaxed {
            self.write(std::iter::empty::<(&[u8], Option<&[u8]>)>())?;
        }
        Ok(())
    }

    fn write<K: AsRef<[u8]>, V: AsRef<[u8]>>(&self, changes: impl Iterator<Item = (K, Option<V>)>) -> Result<()> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(self.durability)?;
        let mut table = transaction.open_table(ROWS)?;
        for (key, value) in changes {
            match value {
                Some(value) => drop(table.insert(key.as_ref(), value.as_ref())?),
                None => drop(table.remove(key.as_ref())?),
            }
        }
        drop(table);
        Ok(transaction.commit()?)
    }

    fn read<T>(&self, body: impl for<'s> FnOnce(&mut RedbReader) -> Result<T>) -> Result<T> {
        body(&mut RedbReader(self.database.begin_read()?.open_table(ROWS)?))
    }

    fn close(self) -> Result<()> {
        Ok(())
    }

    fn compact(dir: &Path) -> Result<bool> {
        let mut store = Redb::open(dir, Access::Alone)?;
        store.database.compact()?;
        store.close()?;
        Ok(true)
    }
}

impl Reader for RedbReader {
    fn get(&mut self, key: &[u8], visit: impl FnOnce(&[u8])) -> Result<bool> {
        Ok(self.0.get(key)?.map(|value| visit(value.value())).is_some())
    }

    fn scan(&mut self, from: &[u8], limit: usize, mut visit: impl FnMut(&[u8], &[u8])) -> Result<()> {
        for entry in self.0.range(from..)?.take(limit) {
            let (key, value) = entry?;
            visit(key.value(), value.value());
        }
        Ok(())
    }
}
