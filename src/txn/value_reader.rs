//! Reading a value in part, or as a stream, without the whole of it.

use crate::bytes::Bytes;
use crate::engine::file::check_key;
use crate::error::{Error, Result};
use crate::tree::long_value::LongValue;
use crate::tree::node::LeafValue;
use crate::txn::snapshot::Snapshot;
use crate::txn::state::ReadState;
use crate::txn::table::RawTable;
use std::io::{self, BufRead, Read, Seek, SeekFrom};
use std::ops::Range;
use std::panic::{RefUnwindSafe, UnwindSafe};

impl<'s, S: ReadState> RawTable<'s, S> {
    /// The length of a key's value in bytes. Does not read a long value.
    ///
    /// # Errors
    /// As [`RawTable::get`].
    pub fn value_len(&self, key: &[u8]) -> Result<Option<u64>> {
        Ok(self.find(key)?.map(|found| match found {
            LeafValue::Inline(value) => value.len() as u64,
            LeafValue::Overflow(long) => long.len(),
        }))
    }

    /// A part of a key's value, as far as the range lies in it. Of a long value only the chunks of 64 KiB that the
    /// range touches are read and verified. Nothing is copied if the part lies in one piece in the map of the file.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// store.write(|tx| tx.raw("films")?.put(b"a", &vec![7; 1 << 20]))?;
    /// let snapshot = store.read()?;
    /// let films = snapshot.raw("films")?;
    /// assert_eq!(films.value_len(b"a")?, Some(1 << 20));
    /// assert_eq!(films.get_slice(b"a", 500_000..504_096)?.unwrap().len(), 4096);
    /// assert_eq!(films.get_slice(b"a", 1_048_570..2_000_000)?.unwrap(), &[7; 6]);
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`RawTable::get`]. Damage in another part of the value is not noticed.
    pub fn get_slice(&self, key: &[u8], range: Range<u64>) -> Result<Option<Bytes<'s>>> {
        self.open_value(key)?.map(|value| self.in_file(value.slice(range))).transpose()
    }

    /// Reads a key's value as a stream, and from any position: as it is now, whatever a transaction does to the key
    /// afterwards. At most 64 KiB of it are in memory.
    ///
    /// ```
    /// use std::io::{Read, Seek, SeekFrom};
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// store.write(|tx| tx.raw("films")?.put(b"a", b"a very long film"))?;
    /// let snapshot = store.read()?;
    /// let mut film = snapshot.raw("films")?.reader(b"a")?.unwrap();
    /// assert!(film.len() == 16 && !film.is_empty());
    /// film.seek(SeekFrom::End(-4)).unwrap();
    /// let mut end = String::new();
    /// film.read_to_string(&mut end).unwrap();
    /// assert_eq!(end, "film");
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`RawTable::get`].
    pub fn reader(&self, key: &[u8]) -> Result<Option<ValueReader<'s, S>>> {
        let value = self.open_value(key)?;
        let table = self.clone();
        Ok(value.map(|value| ValueReader { table, value, at: 0, part: Bytes::borrowed(&[]), part_at: 0 }))
    }

    fn find(&self, key: &[u8]) -> Result<Option<LeafValue<'s>>> {
        check_key(key)?;
        let Some(ground) = self.ground()? else { return Ok(None) };
        self.in_file(ground.find(key))
    }

    fn open_value(&self, key: &[u8]) -> Result<Option<Opened<'s>>> {
        check_key(key)?;
        let Some(ground) = self.ground()? else { return Ok(None) };
        let opened = ground.find(key).and_then(|found| match found {
            Some(LeafValue::Inline(value)) => Ok(Some(Opened::Inline(value))),
            Some(LeafValue::Overflow(long)) => Ok(Some(Opened::Long(Box::new(ground.long_value(&long)?)))),
            None => Ok(None),
        });
        self.in_file(opened)
    }
}

/// A value that is read in parts.
enum Opened<'s> {
    Inline(Bytes<'s>),
    Long(Box<LongValue<'s>>),
}

impl<'s> Opened<'s> {
    fn len(&self) -> u64 {
        match self {
            Opened::Inline(value) => value.len() as u64,
            Opened::Long(value) => value.len(),
        }
    }

    fn slice(&self, range: Range<u64>) -> Result<Bytes<'s>> {
        match self {
            Opened::Inline(value) => {
                let within = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(value.len());
                Ok(value.slice(within(range.start).min(within(range.end))..within(range.end)))
            }
            Opened::Long(value) => value.slice(range),
        }
    }

    /// The part around a byte that is read at once.
    fn part_around(&self, at: u64) -> Range<u64> {
        match self {
            Opened::Inline(value) => 0..value.len() as u64,
            Opened::Long(value) => value.chunk_around(at),
        }
    }
}

/// Reads one value, as a stream or from any position. [`RawTable::reader`] makes one.
///
/// Errors are those of [`RawTable::get`], each as the source of an [`io::Error`].
pub struct ValueReader<'s, S: ReadState = Snapshot> {
    table: RawTable<'s, S>,
    value: Opened<'s>,
    /// The position.
    at: u64,
    /// The part that was read last, and where it begins.
    part: Bytes<'s>,
    part_at: u64,
}

// A read that a panic has interrupted leaves the position before or after it, in an unchanged value.
impl UnwindSafe for ValueReader<'_> {}
impl RefUnwindSafe for ValueReader<'_> {}

shows! { self: [S: ReadState] ValueReader<'_, S> { len: self.value.len(), at: self.at } }

impl<S: ReadState> ValueReader<'_, S> {
    /// The length of the value in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.value.len()
    }

    /// Whether the value has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What follows the position in the part that was read last.
    fn rest(&self) -> &[u8] {
        let skip = self.at.checked_sub(self.part_at).and_then(|skip| usize::try_from(skip).ok());
        skip.and_then(|skip| self.part.get(skip..)).unwrap_or_default()
    }
}

impl<S: ReadState> BufRead for ValueReader<'_, S> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.rest().is_empty() && self.at < self.len() {
            // In a forked child, or in a table that was dropped, nothing is read.
            self.table.ground().map_err(as_io)?;
            let range = self.value.part_around(self.at);
            self.part_at = range.start;
            self.part = self.table.in_file(self.value.slice(range)).map_err(as_io)?;
        }
        Ok(self.rest())
    }

    fn consume(&mut self, size: usize) {
        self.at += size.min(self.rest().len()) as u64;
    }
}

impl<S: ReadState> Read for ValueReader<'_, S> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let size = self.fill_buf()?.read(out)?;
        self.consume(size);
        Ok(size)
    }
}

impl<S: ReadState> Seek for ValueReader<'_, S> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.len().checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = place.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a position before the value"))?;
        Ok(self.at)
    }
}

/// An error of the store in a stream.
pub(super) fn as_io(error: Error) -> io::Error {
    let kind = match &error {
        Error::Io { cause, .. } => cause.kind(),
        Error::Full { .. } => io::ErrorKind::StorageFull,
        Error::Corrupt(_) => io::ErrorKind::InvalidData,
        Error::TooLarge { .. } => io::ErrorKind::InvalidInput,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}
