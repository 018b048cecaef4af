//! Cursors that are kept in the store, under names.

use crate::direction::Direction;
use crate::disk::format::{SETTING_CURSOR, TABLE_SETTINGS};
use crate::engine::file::check_name_size;
use crate::engine::merge::{MergeCursor, TableSource};
use crate::error::{CorruptionKind, Error, LimitKind, Result};
use crate::txn::changes::Cursor;
use crate::txn::snapshot::Snapshot;
use crate::txn::write::WriteTxn;
use std::ops::Bound;

/// The key of a cursor's row.
fn row_key(name: &str) -> Result<Vec<u8>> {
    if name.is_empty() {
        return Err(Error::Invalid("a cursor's name cannot be empty".to_owned()));
    }
    check_name_size(LimitKind::CursorName, name)?;
    Ok([SETTING_CURSOR, name.as_bytes()].concat())
}

/// A row: `u64` LSN, `u32` checksum, `u32` 1 if that is known. The store's id is that of the store: a clone goes on with
/// the cursors of its original.
fn encode(cursor: &Cursor) -> Vec<u8> {
    [cursor.lsn.to_le_bytes(), cursor.crc_bytes()].concat()
}

fn decode(store_id: [u8; 16], row: &[u8]) -> Result<Cursor> {
    let cursor = row.split_first_chunk::<8>().and_then(|(lsn, rest)| {
        let crc = Cursor::crc_from(rest.first_chunk()?)?;
        Some(Cursor { store_id, lsn: u64::from_le_bytes(*lsn), crc })
    });
    cursor.ok_or_else(|| {
        Error::corrupt(CorruptionKind::Settings, 0, None, "a cursor of 16 bytes", format!("{} bytes", row.len()))
    })
}

impl Snapshot {
    /// The cursor of this name, as this state has it; see [`WriteTxn::set_cursor`]. `None`: there is none.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an empty name, [`Error::TooLarge`] for one of more than [`MAX_NAME_SIZE`](crate::MAX_NAME_SIZE)
    /// bytes, [`Error::Corrupt`], [`Error::Io`], [`Error::Forked`].
    pub fn cursor(&self, name: &str) -> Result<Option<Cursor>> {
        self.engine().check_process()?;
        let row = self.in_file(self.view().setting(&row_key(name)?))?;
        self.in_file(row.map(|row| decode(self.engine().store_id, &row)).transpose())
    }

    /// The cursors of this state, by their names.
    ///
    /// ```
    /// # let store = memstone::Store::in_memory()?;
    /// let end = store.read()?.end()?;
    /// store.write(|tx| tx.set_cursor("index", &end))?;
    /// let now = store.read()?;
    /// assert_eq!((now.cursors()?, now.cursor("index")?), (vec![("index".to_owned(), end)], Some(end)));
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Io`], [`Error::Forked`].
    pub fn cursors(&self) -> Result<Vec<(String, Cursor)>> {
        self.engine().check_process()?;
        self.in_file(self.list_cursors())
    }

    fn list_cursors(&self) -> Result<Vec<(String, Cursor)>> {
        let settings = TableSource::committed(self.view(), TABLE_SETTINGS)?;
        let mut rows = MergeCursor::new(settings, Direction::Forward, Bound::Included(SETTING_CURSOR))?;
        let mut cursors = Vec::new();
        while let Some((key, found)) = rows.next()? {
            let Some(name) = key.strip_prefix(SETTING_CURSOR) else { break };
            let name = String::from_utf8_lossy(name).into_owned();
            cursors.push((name, decode(self.engine().store_id, &settings.read(found)?)?));
        }
        Ok(cursors)
    }
}

impl WriteTxn {
    /// Keeps a cursor in the store, under a name: up to where a reader of [`Snapshot::changes`] has processed them.
    ///
    /// It is a part of the transaction like any other change. So a reader that sets its cursor in the transaction
    /// that has the effects of what it read has each effect exactly once, whatever ends the process between two
    /// transactions. The commit of a cursor alone is not in the feed; a reader that finds no change needs not to
    /// commit anything, and must not wait for its own commit.
    ///
    /// A clone has the cursors of its original, and goes on with them. A restored backup, a loaded dump and a repaired
    /// store have none: the reader begins anew, as after a [`Gap`](crate::Gap).
    ///
    /// ```
    /// # let store = memstone::Store::in_memory()?;
    /// use memstone::{Changed, Feed};
    /// # store.write(|tx| tx.set_cursor("count", &store.read()?.end()?))?;
    /// # store.write(|tx| tx.raw("notes")?.put(b"a", b"1"))?;
    /// # store.write(|tx| { tx.raw("notes")?.put(b"b", b"1")?; tx.raw("notes")?.put(b"c", b"1") })?;
    ///
    /// // Counts the puts to "notes".
    /// store.write(|tx| {
    ///     let snapshot = store.read()?;
    ///     let cursor = tx.cursor("count")?.expect("it was set when the count was 0");
    ///     let Feed::Changes(commits) = snapshot.changes(cursor)? else { return Err(memstone::Error::abort("count all")) };
    ///     let mut puts = 0_u8;
    ///     for commit in commits {
    ///         puts += commit?.changes().filter(|it| matches!(it, Changed::Put { table: "notes", .. })).count() as u8;
    ///     }
    ///     tx.raw("counts")?.put(b"puts", &[puts])?;
    ///     tx.set_cursor("count", &snapshot.end()?)
    /// })?;
    /// assert_eq!(store.read()?.raw("counts")?.get(b"puts")?.unwrap(), [3]);
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] for an empty name, or a cursor of another store; [`Error::TooLarge`] for a name of more than
    /// [`MAX_NAME_SIZE`](crate::MAX_NAME_SIZE) bytes; [`Error::Corrupt`], [`Error::Io`].
    pub fn set_cursor(&self, name: &str, cursor: &Cursor) -> Result<()> {
        if cursor.store_id != self.engine().store_id {
            return self.in_file(Err(Error::Invalid(format!("the cursor for {name:?} is that of another store"))));
        }
        self.put_setting(&row_key(name)?, Some(&encode(cursor)))
    }

    /// Deletes a cursor. Returns whether there was one.
    ///
    /// ```
    /// # let store = memstone::Store::in_memory()?;
    /// let end = store.read()?.end()?;
    /// store.write(|tx| tx.set_cursor("index", &end))?;
    /// assert!(store.write(|tx| tx.delete_cursor("index"))?);
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`WriteTxn::set_cursor`].
    pub fn delete_cursor(&self, name: &str) -> Result<bool> {
        let found = self.cursor(name)?;
        if found.is_some() {
            self.put_setting(&row_key(name)?, None)?;
        }
        Ok(found.is_some())
    }

    /// The cursor of this name, as this transaction sees it.
    ///
    /// # Errors
    /// As [`Snapshot::cursor`].
    pub fn cursor(&self, name: &str) -> Result<Option<Cursor>> {
        let row = self.in_file(self.setting_now(&row_key(name)?))?;
        self.in_file(row.map(|row| decode(self.engine().store_id, &row)).transpose())
    }
}
