//! SQLite as a key-value store at its best: WAL, `synchronous=FULL`, a `WITHOUT ROWID` table, prepared statements,
//! the file mapped and as much cache as the other stores have.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use crate::engine::{Access, Engine, Reader};

const PUT: &str = "INSERT OR REPLACE INTO rows (k, v) VALUES (?1, ?2)";
const REMOVE: &str = "DELETE FROM rows WHERE k = ?1";
const GET: &str = "SELECT v FROM rows WHERE k = ?1";
const SCAN: &str = "SELECT k, v FROM rows WHERE k >= ?1 ORDER BY k LIMIT ?2";

pub struct Sqlite(Connection);

pub struct SqliteReader<'s> {
    get: CachedStatement<'s>,
    scan: CachedStatement<'s>,
}

impl Sqlite {
    fn transaction<T>(&self, begin: &str, body: impl FnOnce() -> Result<T>) -> Result<T> {
        self.0.prepare_cached(begin)?.execute([])?;
        let done = body();
        let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
        self.0.prepare_cached(end)?.execute([])?;
        done
    }
}

impl Engine for Sqlite {
    type Reader<'s> = SqliteReader<'s>;

    fn open(dir: &Path, _access: Access) -> Result<Sqlite> {
        let connection = Connection::open(dir.join("rows.sqlite"))?;
        connection.busy_timeout(Duration::from_secs(30))?;
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             PRAGMA mmap_size = 1073741824; PRAGMA cache_size = -1048576;
             CREATE TABLE IF NOT EXISTS rows (k BLOB PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID;",
        )?;
        Ok(Sqlite(connection))
    }

    fn relax(&mut self, relaxed: bool) -> Result<()> {
        let level = if relaxed { "NORMAL" } else { "FULL" };
        self.0.pragma_update(None, "synchronous", level)?;
        if !relaxed {
            // A durable commit flushes the whole log before it.
            let row = self
                .0
                .prepare_cached("SELECT k, v FROM rows LIMIT 1")?
                .query_row([], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?)));
            if let Some((key, value)) = row.optional()? {
                self.0.prepare_cached(PUT)?.execute(params![key, value])?;
            }
        }
        Ok(())
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.0.prepare_cached(PUT)?.execute(params![key, value])?;
        Ok(())
    }

    fn write<K: AsRef<[u8]>, V: AsRef<[u8]>>(&self, changes: impl Iterator<Item = (K, Option<V>)>) -> Result<()> {
        self.transaction("BEGIN IMMEDIATE", || {
            let mut put = self.0.prepare_cached(PUT)?;
            let mut remove = self.0.prepare_cached(REMOVE)?;
            for (key, value) in changes {
                match value {
                    Some(value) => put.execute(params![key.as_ref(), value.as_ref()])?,
                    None => remove.execute(params![key.as_ref()])?,
                };
            }
            Ok(())
        })
    }

    fn read<T>(&self, body: impl for<'s> FnOnce(&mut SqliteReader<'s>) -> Result<T>) -> Result<T> {
        self.transaction("BEGIN", || {
            body(&mut SqliteReader { get: self.0.prepare_cached(GET)?, scan: self.0.prepare_cached(SCAN)? })
        })
    }

    fn get(&self, key: &[u8], visit: impl FnOnce(&[u8])) -> Result<bool> {
        select(&mut *self.0.prepare_cached(GET)?, key, visit)
    }

    fn close(self) -> Result<()> {
        self.0.close().map_err(|(_, error)| error.into())
    }

    fn compact(dir: &Path) -> Result<bool> {
        let store = Sqlite::open(dir, Access::Alone)?;
        store.0.execute_batch("VACUUM")?;
        store.close()?;
        Ok(true)
    }
}

fn select(statement: &mut rusqlite::Statement<'_>, key: &[u8], visit: impl FnOnce(&[u8])) -> Result<bool> {
    let mut rows = statement.query(params![key])?;
    let Some(row) = rows.next()? else { return Ok(false) };
    visit(row.get_ref(0)?.as_blob()?);
    Ok(true)
}

impl Reader for SqliteReader<'_> {
    fn get(&mut self, key: &[u8], visit: impl FnOnce(&[u8])) -> Result<bool> {
        select(&mut self.get, key, visit)
    }

    fn scan(&mut self, from: &[u8], limit: usize, mut visit: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let mut rows = self.scan.query(params![from, i64::try_from(limit)?])?;
        while let Some(row) = rows.next()? {
            visit(row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_blob()?);
        }
        Ok(())
    }
}
