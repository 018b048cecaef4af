//! LMDB through heed: the unnamed database, readers not tied to their thread (`MDB_NOTLS`).

use std::ops::Bound;
use std::path::Path;

use anyhow::Result;
use heed::types::Bytes;
use heed::{CommitOrAbort, CompactionOption, Env, EnvFlags, EnvOpenOptions, FlagSetMode, RoTxn, WithoutTls};

use crate::engine::{Access, Engine, Reader};

type Database = heed::Database<'static, Bytes, Bytes>;

/// Fixed for the life of an environment, so it must be larger than any run needs.
const MAP_SIZE: usize = 16 << 30;

pub struct Lmdb {
    env: Env<WithoutTls>,
    database: Database,
}

pub struct LmdbReader<'s> {
    transaction: RoTxn<'s, WithoutTls>,
    database: Database,
}

impl Engine for Lmdb {
    type Reader<'s> = LmdbReader<'s>;

    fn open(dir: &Path, _access: Access) -> Result<Lmdb> {
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(MAP_SIZE).max_readers(1024);
        // SAFETY: the directory is the harness's own; nothing but LMDB touches its files.
        let env = unsafe { options.open(dir)? };
        let opened = env.open_databases_and_commit(env.read_txn()?, |opener, transaction| {
            opener.open_database::<Bytes, Bytes>(transaction, None).map(CommitOrAbort::<_, ()>::Commit)
        })?;
        let database = opened.commit().flatten().ok_or_else(|| anyhow::anyhow!("no unnamed database"))?;
        Ok(Lmdb { env, database })
    }

    fn relax(&mut self, relaxed: bool) -> Result<()> {
        let mode = if relaxed { FlagSetMode::Enable } else { FlagSetMode::Disable };
        // SAFETY: one thread; a crash meanwhile only spoils a file that the harness throws away.
        unsafe { self.env.set_flags(EnvFlags::NO_SYNC, mode)? };
        if !relaxed {
            self.env.force_sync()?;
        }
        Ok(())
    }

    fn write<K: AsRef<[u8]>, V: AsRef<[u8]>>(&self, changes: impl Iterator<Item = (K, Option<V>)>) -> Result<()> {
        let mut transaction = self.env.write_txn()?;
        for (key, value) in changes {
            match value {
                Some(value) => self.database.put(&mut transaction, key.as_ref(), value.as_ref())?,
                None => drop(self.database.delete(&mut transaction, key.as_ref())?),
            }
        }
        Ok(transaction.commit()?)
    }

    fn read<T>(&self, body: impl for<'s> FnOnce(&mut LmdbReader<'s>) -> Result<T>) -> Result<T> {
        body(&mut LmdbReader { transaction: self.env.read_txn()?, database: self.database })
    }

    fn close(self) -> Result<()> {
        self.env.prepare_for_closing().wait();
        Ok(())
    }

    /// A compact copy takes the place of the file.
    fn compact(dir: &Path) -> Result<bool> {
        let (file, copy) = (dir.join("data.mdb"), dir.join("copy.mdb"));
        let store = Lmdb::open(dir, Access::Alone)?;
        store.env.copy_to_path(&copy, CompactionOption::Enabled)?;
        store.close()?;
        std::fs::rename(copy, file)?;
        Ok(true)
    }
}

impl Reader for LmdbReader<'_> {
    fn get(&mut self, key: &[u8], visit: impl FnOnce(&[u8])) -> Result<bool> {
        Ok(self.database.get(&self.transaction, key)?.map(visit).is_some())
    }

    fn scan(&mut self, from: &[u8], limit: usize, mut visit: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let bounds = (Bound::Included(from), Bound::Unbounded);
        for entry in self.database.range(&self.transaction, &bounds)?.take(limit) {
            let (key, value) = entry?;
            visit(key, value);
        }
        Ok(())
    }
}
