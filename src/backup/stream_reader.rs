//! Reading a backup that was written as a stream: every block is verified before anything in it is believed.

use crate::bytes::Bytes;
use crate::disk::format::{MAX_KEY_SIZE, MAX_VALUE_SIZE, get_u16, get_u32, get_u64};
use crate::error::{CorruptionKind, Error, Result};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::manifest::{End, Manifest};
use super::options::Watch;
use super::packed::{self, Packed};
use super::stream::{
    BLOCK_HEADER, CHUNK, COMPRESSED, END, END_MAGIC, FILE_HEADER, FOOTER, HEAD, KEEP, LONG, MAGIC, MAX_BLOCK, ROW,
    TABLE, TOUCHED, VERSION, block_crc,
};
use std::ops::Bound;

/// A stream in a file: found from the file's end, and read from any of its tables on.
pub(super) struct StreamFile {
    file: File,
    path: PathBuf,
    tag: u32,
    start: u64,
    last: u64,
    pub(super) manifest: Manifest,
    pub(super) end: End,
}

/// What a table of a stream says, in key order.
pub(super) enum Event {
    Row(Bytes<'static>, Bytes<'static>),
    Keep(Bound<Bytes<'static>>, Bound<Bytes<'static>>),
}

impl StreamFile {
    /// `None`: the file does not end as one that holds a stream.
    pub(super) fn open(path: &Path) -> Result<Option<StreamFile>> {
        let file = File::open(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Error::NotFound { path: path.to_path_buf() },
            _ => Error::io("open", path, e),
        })?;
        let len = file.metadata().map_err(|e| Error::io("stat", path, e))?.len();
        let Some(footer_at) = len.checked_sub(FOOTER as u64) else { return Ok(None) };
        let mut footer = [0; FOOTER];
        file.read_exact_at(&mut footer, footer_at).map_err(|e| Error::io("read", path, e))?;
        if footer.get(24..) != Some(&END_MAGIC[..])
            || crc32fast::hash(footer.get(4..).unwrap_or_default()) != get_u32(&footer, 0)
        {
            return Ok(None);
        }
        let (start, last) = (get_u64(&footer, 8), get_u64(&footer, 16));
        let mut header = [0; FILE_HEADER];
        let within = start.checked_add(last).is_some_and(|end| end < footer_at);
        if !within || file.read_exact_at(&mut header, start).is_err() || header.get(..8) != Some(&MAGIC[..]) {
            return Err(damaged(path, start, "the beginning of a backup", "something else"));
        }
        let found = get_u32(&header, 8);
        if found > VERSION {
            return Err(Error::newer_version(path, found, VERSION));
        }
        let tag = get_u32(&header, 12);
        let manifest = Manifest::default();
        let mut stream = StreamFile { file, path: path.to_path_buf(), tag, start, last, manifest, end: End::default() };
        stream.manifest = stream.reader(FILE_HEADER as u64, 0).packed(HEAD)?;
        if !stream.manifest.is_sane() {
            return Err(damaged(path, start, "a manifest of which a store can be made", "another one"));
        }
        // Its number is what the others before it leave.
        let number = stream.block_number(last)?;
        stream.end = stream.reader(last, number).packed(END)?;
        stream.manifest.content_hash.clone_from(&stream.end.content_hash);
        Ok(Some(stream))
    }

    pub(super) fn start(&self) -> u64 {
        self.start
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn block_number(&self, at: u64) -> Result<u64> {
        let mut number = [0; 8];
        self.file.read_exact_at(&mut number, self.start + at + 16).map_err(|e| Error::io("read", &self.path, e))?;
        Ok(u64::from_le_bytes(number))
    }

    fn reader(&self, at: u64, number: u64) -> Records<'_> {
        Records { stream: self, at, number, block: Arc::from([]), place: 0 }
    }

    /// What the stream says of a table, if it has it.
    pub(super) fn table(&self, id: u32) -> Result<Option<Records<'_>>> {
        let Some((_, at, number)) = self.end.tables.iter().find(|(table, ..)| *table == id) else { return Ok(None) };
        let mut records = self.reader(*at, *number);
        records.fill(5)?;
        let found = records.take(5)?;
        if found.first() != Some(&TABLE) || get_u32(&found, 1) != id {
            return Err(records.damage("the beginning of a table", "something else"));
        }
        Ok(Some(records))
    }

    /// The keys that only the log spoke of: table and key, in order.
    pub(super) fn touched(&self) -> Result<Vec<(u32, Vec<u8>)>> {
        let mut found = Vec::new();
        let Some((at, number)) = self.end.touched else { return Ok(found) };
        let mut records = self.reader(at, number);
        while records.code()? == TOUCHED {
            let head = records.take(7)?;
            let key = records.take(usize::from(get_u16(&head, 5)))?;
            found.push((get_u32(&head, 1), key.to_vec()));
        }
        Ok(found)
    }

    /// Reads every block.
    pub(super) fn verify(&self, watch: &mut Watch<'_>) -> Result<()> {
        let mut records = self.reader(FILE_HEADER as u64, 0);
        while records.at <= self.last {
            records.next_block()?;
            watch.tell()?;
        }
        let len = self.file.metadata().map_err(|e| Error::io("stat", &self.path, e))?.len();
        if self.start + records.at + FOOTER as u64 != len {
            return Err(records.damage("the end of the file after the last block", "something between"));
        }
        Ok(())
    }
}

/// Records of a stream, from some block on.
pub(super) struct Records<'f> {
    stream: &'f StreamFile,
    /// Where the next block starts, in the stream, and its number.
    at: u64,
    number: u64,
    block: Arc<[u8]>,
    place: usize,
}

impl Records<'_> {
    fn damage(&self, expected: &str, found: &str) -> Error {
        damaged(&self.stream.path, self.stream.start.saturating_add(self.at), expected, found)
    }

    fn next_block(&mut self) -> Result<()> {
        if self.at > self.stream.last {
            return Err(self.damage("a block", "a place behind the last one"));
        }
        let (file, path) = (&self.stream.file, &self.stream.path);
        let offset = self.stream.start + self.at;
        let mut header = [0; BLOCK_HEADER];
        file.read_exact_at(&mut header, offset).map_err(|e| short(path, offset, e))?;
        let (stored, raw) = (get_u32(&header, 4) as usize, get_u32(&header, 8) as usize);
        if stored > MAX_BLOCK || raw > MAX_BLOCK || get_u64(&header, 16) != self.number {
            return Err(self.damage(&format!("block {}", self.number), "something else"));
        }
        let mut bytes: Arc<[u8]> = std::iter::repeat_n(0, stored).collect();
        let place = Arc::get_mut(&mut bytes).unwrap_or_default();
        file.read_exact_at(place, offset + BLOCK_HEADER as u64).map_err(|e| short(path, offset, e))?;
        let crc = block_crc(self.stream.tag, &header, &bytes);
        if crc != get_u32(&header, 0) {
            return Err(self.damage(&format!("CRC {:08x}", get_u32(&header, 0)), &format!("CRC {crc:08x}")));
        }
        self.block = match get_u32(&header, 12) {
            0 if stored == raw => bytes,
            COMPRESSED => self.decompressed(&bytes, raw)?,
            _ => return Err(self.damage("known flags", "others")),
        };
        self.at += (BLOCK_HEADER + stored) as u64;
        self.number = self.number.saturating_add(1);
        self.place = 0;
        Ok(())
    }

    #[cfg(feature = "zstd")]
    fn decompressed(&self, bytes: &[u8], raw: usize) -> Result<Arc<[u8]>> {
        match zstd::bulk::decompress(bytes, raw) {
            Ok(block) if block.len() == raw => Ok(Arc::from(block)),
            _ => Err(self.damage("a compressed block", "bytes that cannot be decompressed")),
        }
    }

    #[cfg(not(feature = "zstd"))]
    fn decompressed(&self, _: &[u8], _: usize) -> Result<Arc<[u8]>> {
        let reason = "it is compressed, and this program was built without the feature `zstd`".to_owned();
        Err(Error::Backup { path: self.stream.path.clone(), reason })
    }

    /// Goes to the next block if this one is used up; a record lies in one block.
    fn fill(&mut self, len: usize) -> Result<()> {
        if self.place == self.block.len() {
            self.next_block()?;
        }
        if self.block.len() - self.place < len {
            return Err(self.damage("a record within its block", "one that is cut"));
        }
        Ok(())
    }

    fn take(&mut self, len: usize) -> Result<Bytes<'static>> {
        if self.block.len() - self.place < len {
            return Err(self.damage("a record within its block", "one that is cut"));
        }
        let range = self.place..self.place + len;
        self.place = range.end;
        Ok(Bytes::shared(Arc::clone(&self.block), range))
    }

    /// The code of the next record, which stays to be read.
    fn code(&mut self) -> Result<u8> {
        self.fill(1)?;
        Ok(self.block.get(self.place).copied().unwrap_or_default())
    }

    fn packed<T: Packed>(&mut self, code: u8) -> Result<T> {
        if self.code()? != code {
            return Err(self.damage("a manifest", "another record"));
        }
        let head = self.take(5)?;
        let bytes = self.take(get_u32(&head, 1) as usize)?;
        packed::unpack(&bytes).ok_or_else(|| self.damage("a manifest", "something else"))
    }

    /// The next event of the table; none at its end.
    pub(super) fn event(&mut self) -> Result<Option<Event>> {
        match self.code()? {
            ROW => {
                let head = self.take(7)?;
                let key = self.take(usize::from(get_u16(&head, 1)))?;
                let value = self.take(get_u32(&head, 3) as usize)?;
                Ok(Some(Event::Row(self.key(key)?, value)))
            }
            LONG => {
                let head = self.take(11)?;
                let key = self.take(usize::from(get_u16(&head, 1)))?;
                let value = self.long_value(get_u64(&head, 3))?;
                Ok(Some(Event::Row(self.key(key)?, value)))
            }
            KEEP => {
                let head = self.take(6)?;
                let bounds = head.get(1).copied().unwrap_or_default();
                let first = self.take(usize::from(get_u16(&head, 2)))?;
                let last = self.take(usize::from(get_u16(&head, 4)))?;
                let bound = |code, key| match code {
                    0 => Some(Bound::Included(key)),
                    1 => Some(Bound::Excluded(key)),
                    2 => Some(Bound::Unbounded),
                    _ => None,
                };
                match (bound(bounds & 3, first), bound(bounds >> 2, last)) {
                    (Some(first), Some(last)) => Ok(Some(Event::Keep(first, last))),
                    _ => Err(self.damage("bounds", "none that are known")),
                }
            }
            TABLE | TOUCHED | END => Ok(None),
            _ => Err(self.damage("a record", "none that is known")),
        }
    }

    fn key(&self, key: Bytes<'static>) -> Result<Bytes<'static>> {
        if key.len() <= MAX_KEY_SIZE { Ok(key) } else { Err(self.damage("a key", "one that is too long")) }
    }

    fn long_value(&mut self, len: u64) -> Result<Bytes<'static>> {
        if len > MAX_VALUE_SIZE {
            return Err(self.damage("a value", "one that is too long"));
        }
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let mut value = Vec::new();
        while value.len() < len {
            if self.code()? != CHUNK {
                return Err(self.damage("more of a value", "another record"));
            }
            let head = self.take(5)?;
            let chunk = self.take(get_u32(&head, 1) as usize)?;
            if chunk.is_empty() || value.len() + chunk.len() > len {
                return Err(self.damage("a part of a value", "one that does not fit"));
            }
            value.extend_from_slice(&chunk);
        }
        Ok(Bytes::shared(Arc::from(value), 0..len))
    }
}

fn short(path: &Path, offset: u64, error: std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => damaged(path, offset, "a block", "the end of the file"),
        _ => Error::io("read", path, error),
    }
}

fn damaged(path: &Path, offset: u64, expected: &str, found: &str) -> Error {
    Error::corrupt(CorruptionKind::Backup, offset, None, expected, found).in_file(path)
}
