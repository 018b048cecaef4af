//! Writing a value as a stream, without the whole of it in memory.

use crate::bytes::Bytes;
use crate::change::Change;
use crate::disk::format::MAX_VALUE_SIZE;
use crate::engine::file::check_key;
use crate::engine::streams::{LONG_VALUE, Stream};
use crate::error::{Error, LimitKind, Result};
use crate::txn::txn_table::TxnTable;
use crate::txn::value_reader::as_io;
use crate::txn::write::WriteTxn;
use crate::txn::write_table::RawTableMut;
use std::io::{self, Write};
use std::rc::Rc;

impl<'t> RawTableMut<'t> {
    /// Sets a key's value to `len` bytes that are written one after the other. [`ValueWriter::finish`] puts the value;
    /// without it nothing is put. Until then the key has the value that it had.
    ///
    /// A value of 32 KiB or more goes to pages of the file at once, so that only 128 KiB of it are in memory. For these
    /// pages the transaction waits for a running checkpoint, as long as the store's timeout allows, and no checkpoint
    /// runs until it ends. All values together may be longer than the log. A shorter value stays in memory, as with
    /// [`RawTableMut::put`].
    ///
    /// ```
    /// use std::io::Write;
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// store.write(|tx| {
    ///     let films = tx.raw("films")?;
    ///     let mut film = films.writer(b"a", 3_000_000)?;
    ///     for _ in 0..3 {
    ///         film.write_all(&vec![7; 1_000_000]).unwrap();
    ///     }
    ///     film.finish()
    /// })?;
    /// assert_eq!(store.read()?.raw("films")?.value_len(b"a")?, Some(3_000_000));
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::TooLarge`] for a key or value beyond the limits, [`Error::NoTable`] if this transaction dropped the
    /// table, [`Error::Busy`] if a checkpoint of another process takes too long, [`Error::Nested`] if this thread holds
    /// the store still otherwise, [`Error::Full`], [`Error::Io`], [`Error::Forked`].
    pub fn writer(&self, key: &[u8], len: u64) -> Result<ValueWriter<'t>> {
        check_key(key)?;
        self.txn().id_of(self.table())?;
        let to = if len < LONG_VALUE {
            To::Memory(Vec::new())
        } else {
            To::Pages(Box::new(self.txn().in_file(self.txn().stream(len))?))
        };
        let (txn, table) = (self.txn(), Rc::clone(self.table()));
        Ok(ValueWriter { txn, table, key: key.to_vec(), len, missing: len, failed: false, to })
    }
}

/// Writes one value as a stream. [`RawTableMut::writer`] makes one.
///
/// Errors are those of the store, each as the source of an [`io::Error`]. After an error the value cannot be put.
#[must_use = "without `finish` nothing is put"]
pub struct ValueWriter<'t> {
    txn: &'t WriteTxn,
    table: Rc<TxnTable>,
    key: Vec<u8>,
    len: u64,
    missing: u64,
    /// A write failed, so bytes may be missing in between.
    failed: bool,
    to: To,
}

enum To {
    Memory(Vec<u8>),
    Pages(Box<Stream>),
}

shows! { self: ValueWriter<'_> { len: self.len, missing: self.missing } }

impl ValueWriter<'_> {
    /// Puts the value. As many bytes as were announced have been written.
    ///
    /// # Errors
    /// [`Error::Invalid`] if bytes are missing, or a write failed: nothing is put. [`Error::NoTable`] if this transaction
    /// has dropped the table meanwhile, [`Error::Full`], [`Error::Io`], [`Error::Forked`].
    pub fn finish(self) -> Result<()> {
        if self.failed || self.missing > 0 {
            let why = if self.failed { "a write failed".to_owned() } else { format!("{} are missing", self.missing) };
            return Err(Error::Invalid(format!("a value of {} bytes is not complete: {why}", self.len)));
        }
        let id = self.txn.id_of(&self.table)?;
        let change = match self.to {
            To::Memory(value) => Change::Put(Bytes::copied(&value)),
            To::Pages(stream) => Change::PutOverflow(Box::new(self.txn.in_file(stream.finish(self.txn.engine(), id))?)),
        };
        self.txn.change_row(id, &self.key, Some(change));
        Ok(())
    }
}

impl Write for ValueWriter<'_> {
    /// Takes all of the bytes.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.txn.engine().check_process().map_err(as_io)?;
        let size = bytes.len() as u64;
        let fits = size <= self.missing && self.len <= MAX_VALUE_SIZE;
        let written = match &mut self.to {
            _ if !fits => {
                let size = self.len - self.missing + size;
                Err(Error::TooLarge { what: LimitKind::StreamedValue, size, limit: self.len })
            }
            To::Memory(value) => {
                value.extend_from_slice(bytes);
                Ok(())
            }
            To::Pages(stream) => stream.write(self.txn.engine(), bytes),
        };
        self.failed |= written.is_err();
        self.txn.in_file(written).map_err(as_io)?;
        self.missing -= size;
        Ok(bytes.len())
    }

    /// Does nothing: the commit makes the value durable.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
