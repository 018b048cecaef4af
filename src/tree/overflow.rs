//! Long values: in runs of pages of their own.

use super::node::Header;
use super::pages::Pages;
use super::update::PageStore;
use crate::disk::format::{
    KIND_OVERFLOW, MAX_VALUE_SIZE, Overflow, PAGE_CRC, PAGE_HEADER, PAGE_NUMBER, PAGE_PAYLOAD_LEN, Ptr, put_u32,
    put_u64,
};
use crate::error::{Error, LimitKind, Result};

/// Bytes of a long value written at once.
const WRITE_CHUNK: usize = 1 << 20;

/// Writes a long value to a run of its own.
pub(crate) fn write_overflow(store: &mut dyn PageStore, table: u32, value: &[u8]) -> Result<Overflow> {
    let len = value.len() as u64;
    if len > MAX_VALUE_SIZE {
        return Err(Error::TooLarge { what: LimitKind::Value, size: len, limit: MAX_VALUE_SIZE });
    }
    let page_size = store.pages().page_size();
    let run = u32::try_from(Overflow::pages(len, page_size)).unwrap_or(u32::MAX);
    let page = store.allocate(run)?;
    let kind = KIND_OVERFLOW;
    let header =
        Header { page, store_tag: store.pages().store_tag(), kind, level: 0, version: store.version(), table, run };
    let page_size = page_size as usize;
    let total = run as usize * page_size;
    let mut buffer = vec![0; PAGE_HEADER];
    header.write(&mut buffer);
    put_u64(&mut buffer, PAGE_PAYLOAD_LEN, len);
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(buffer.get(PAGE_NUMBER..).unwrap_or_default());
    hasher.update(value);
    hasher.update(&vec![0; total - PAGE_HEADER - value.len()]);
    let crc = hasher.finalize();
    put_u32(&mut buffer, PAGE_CRC, crc);
    let (mut rest, mut at, mut left) = (value, page, total);
    while left > 0 {
        let size = left.min(WRITE_CHUNK);
        let (now, later) = rest.split_at(rest.len().min(size - buffer.len()));
        buffer.extend_from_slice(now);
        buffer.resize(size, 0);
        store.write(at, &buffer)?;
        buffer.clear();
        at += u32::try_from(size / page_size).unwrap_or(u32::MAX);
        (rest, left) = (later, left - size);
    }
    Ok(Overflow { ptr: Ptr { page, crc }, len, version: store.version() })
}

/// Frees the run of a long value on its pointer's word alone: a damaged value can be deleted.
pub(crate) fn free_overflow(store: &mut dyn PageStore, pages: &Pages, long: Overflow) -> Result<()> {
    let run = pages.overflow_run(long)?;
    store.free(long.ptr.page, run, long.version)
}
