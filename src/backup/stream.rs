//! Writing a backup as a stream: records in checksummed blocks. `docs/BACKUP_FORMAT.md` has the bytes.

use crate::disk::format::{MAX_KEY_SIZE, put_bytes, put_u32, put_u64};
use crate::disk::host::random;
use crate::error::{Error, LimitKind, Result};
use std::io::Write;
use std::ops::Bound;
use std::path::PathBuf;

use super::manifest::{End, Manifest};
use super::packed::{self, Packed};

pub(super) const MAGIC: [u8; 8] = *b"mstnback";
pub(super) const END_MAGIC: [u8; 8] = *b"mstnbend";
/// Version of this format.
pub(super) const VERSION: u32 = 1;
/// Before the first block: magic, version, tag.
pub(super) const FILE_HEADER: usize = 16;
/// Before each block: CRC, length as stored, length as written, flags, number.
pub(super) const BLOCK_HEADER: usize = 24;
/// After the last block: CRC, version, start of the stream, place of the last block in it, magic.
pub(super) const FOOTER: usize = 32;
/// The block is compressed with zstd.
pub(super) const COMPRESSED: u32 = 1;
/// A block is closed when it has so many bytes.
pub(super) const BLOCK: usize = 256 << 10;
/// No block has more.
pub(super) const MAX_BLOCK: usize = 64 << 20;
/// Values up to this length lie in one record.
pub(super) const SHORT_VALUE: usize = 128 << 10;

pub(super) const HEAD: u8 = 1;
pub(super) const TABLE: u8 = 2;
pub(super) const ROW: u8 = 3;
pub(super) const LONG: u8 = 4;
pub(super) const CHUNK: u8 = 5;
pub(super) const KEEP: u8 = 6;
pub(super) const TOUCHED: u8 = 7;
pub(super) const END: u8 = 8;

/// Writes the blocks of a stream.
pub(super) struct StreamWriter<W: Write> {
    out: W,
    path: PathBuf,
    tag: u32,
    /// Where in its file the stream begins.
    start: u64,
    /// Bytes written of it.
    at: u64,
    number: u64,
    block: Vec<u8>,
    compress: bool,
    pub(super) end: End,
}

impl<W: Write> StreamWriter<W> {
    /// Begins a stream at byte `start` of its file (0, unless something stands before it).
    pub(super) fn new(out: W, path: PathBuf, start: u64, compress: bool, manifest: &Manifest) -> Result<Self> {
        let tag = u32::from_le_bytes(random(&path)?);
        let mut header = [0; FILE_HEADER];
        put_bytes(&mut header, 0, &MAGIC);
        put_u32(&mut header, 8, VERSION);
        put_u32(&mut header, 12, tag);
        let block = Vec::with_capacity(BLOCK * 2);
        let mut stream = StreamWriter { out, path, tag, start, at: 0, number: 0, block, compress, end: End::default() };
        stream.put(&header)?;
        stream.packed(HEAD, manifest)?;
        stream.close_block()?;
        Ok(stream)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|e| Error::io("write", &self.path, e))?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn packed(&mut self, code: u8, value: &impl Packed) -> Result<()> {
        let bytes = packed::pack(value);
        let limit = MAX_BLOCK - 16;
        if bytes.len() > limit {
            return Err(Error::TooLarge { what: LimitKind::Manifest, size: bytes.len() as u64, limit: limit as u64 });
        }
        self.block.push(code);
        self.length(bytes.len());
        self.block.extend_from_slice(&bytes);
        Ok(())
    }

    fn length(&mut self, len: usize) {
        self.block.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
    }

    fn key(&mut self, key: &[u8]) {
        debug_assert!(key.len() <= MAX_KEY_SIZE);
        self.block.extend_from_slice(&u16::try_from(key.len()).unwrap_or(u16::MAX).to_le_bytes());
    }

    fn close_if_full(&mut self) -> Result<()> {
        if self.block.len() < BLOCK { Ok(()) } else { self.close_block() }
    }

    /// The next record starts a block.
    fn close_block(&mut self) -> Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let block = std::mem::take(&mut self.block);
        let packed = if self.compress { compressed(&block) } else { None };
        let stored = packed.as_deref().unwrap_or(&block);
        let mut header = [0; BLOCK_HEADER];
        put_u32(&mut header, 4, u32::try_from(stored.len()).unwrap_or(u32::MAX));
        put_u32(&mut header, 8, u32::try_from(block.len()).unwrap_or(u32::MAX));
        put_u32(&mut header, 12, if packed.is_some() { COMPRESSED } else { 0 });
        put_u64(&mut header, 16, self.number);
        let crc = block_crc(self.tag, &header, stored);
        put_u32(&mut header, 0, crc);
        self.put(&header)?;
        self.put(stored)?;
        self.number += 1;
        self.block = block;
        self.block.clear();
        Ok(())
    }

    /// A table begins.
    pub(super) fn table(&mut self, id: u32) -> Result<()> {
        self.close_block()?;
        self.end.tables.push((id, self.at, self.number));
        self.block.push(TABLE);
        self.block.extend_from_slice(&id.to_le_bytes());
        Ok(())
    }

    /// A row of the table.
    pub(super) fn row(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if value.len() > SHORT_VALUE {
            return self.long_row(key, value);
        }
        self.block.push(ROW);
        self.key(key);
        self.length(value.len());
        self.block.extend_from_slice(key);
        self.block.extend_from_slice(value);
        self.close_if_full()
    }

    fn long_row(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.block.push(LONG);
        self.key(key);
        self.block.extend_from_slice(&(value.len() as u64).to_le_bytes());
        self.block.extend_from_slice(key);
        for chunk in value.chunks(BLOCK) {
            self.block.push(CHUNK);
            self.length(chunk.len());
            self.block.extend_from_slice(chunk);
            self.close_if_full()?;
        }
        Ok(())
    }

    /// The rows of the base from one key to another stay as they are there.
    pub(super) fn keep(&mut self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<()> {
        let part = |bound| match bound {
            Bound::Included(key) => (0, key),
            Bound::Excluded(key) => (1, key),
            Bound::Unbounded => (2, &[][..]),
        };
        let ((open, first), (close, last)) = (part(from), part(to));
        self.block.push(KEEP);
        self.block.push(open | close << 2);
        self.key(first);
        self.key(last);
        self.block.extend_from_slice(first);
        self.block.extend_from_slice(last);
        self.close_if_full()
    }

    /// Only the log spoke of this key, so the next increment has to say what became of it.
    pub(super) fn touched(&mut self, table: u32, key: &[u8]) -> Result<()> {
        if self.end.touched.is_none() {
            self.close_block()?;
            self.end.touched = Some((self.at, self.number));
        }
        self.block.push(TOUCHED);
        self.block.extend_from_slice(&table.to_le_bytes());
        self.key(key);
        self.block.extend_from_slice(key);
        self.close_if_full()
    }

    /// Ends the stream; gives its length in bytes.
    pub(super) fn finish(mut self, content_hash: Option<String>) -> Result<u64> {
        self.close_block()?;
        self.end.content_hash = content_hash;
        let last = self.at;
        let end = std::mem::take(&mut self.end);
        self.packed(END, &end)?;
        self.close_block()?;
        let mut footer = [0; FOOTER];
        put_u32(&mut footer, 4, VERSION);
        put_u64(&mut footer, 8, self.start);
        put_u64(&mut footer, 16, last);
        put_bytes(&mut footer, 24, &END_MAGIC);
        let crc = crc32fast::hash(footer.get(4..).unwrap_or_default());
        put_u32(&mut footer, 0, crc);
        self.put(&footer)?;
        self.out.flush().map_err(|e| Error::io("write", &self.path, e))?;
        Ok(self.at)
    }
}

/// CRC of a block: its stream's tag, its header after the CRC, and its bytes as stored.
pub(super) fn block_crc(tag: u32, header: &[u8], stored: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&tag.to_le_bytes());
    hasher.update(header.get(4..BLOCK_HEADER).unwrap_or_default());
    hasher.update(stored);
    hasher.finalize()
}

#[cfg(feature = "zstd")]
fn compressed(block: &[u8]) -> Option<Vec<u8>> {
    zstd::bulk::compress(block, 3).ok().filter(|packed| packed.len() < block.len())
}

#[cfg(not(feature = "zstd"))]
fn compressed(_: &[u8]) -> Option<Vec<u8>> {
    None
}
