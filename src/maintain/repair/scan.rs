//! One pass over all pages, in the order in which they lie, for those that say what they are.

use crate::disk::format::{KIND_BRANCH, KIND_LEAF, KIND_OVERFLOW, MAX_PAGE_SIZE, MIN_PAGE_SIZE, PAGE_NUMBER};
use crate::disk::platform::Disk;
use crate::error::{Error, Result};
use crate::maintain::format::file::{Expect, File};
use crate::maintain::format::frames::FRAME_MAGIC;
use crate::maintain::format::pages::{Described, describe, page_size_of};
use crate::maintain::watch::Watch;

/// So much is read at once.
const PIECE: usize = 1 << 20;

/// What the pass meets.
pub(super) enum Seen<'x> {
    /// A whole run of nodes or of the free map.
    Run(Described, &'x [u8]),
    /// The header of a long value, which is not verified: only a pointer tells which of them is which.
    Value(Described),
    /// The start of a frame, perhaps, at this byte of the file.
    Frame(u64),
}

/// Calls `each` for every run of nodes or of the free map that is whole, wherever a root or a tree says it should be.
pub(super) fn scan(file: &File<'_>, watch: &mut Watch<'_>, each: &mut dyn FnMut(Seen<'_>) -> Result<()>) -> Result<()> {
    let page_size = file.page_size as usize;
    let per_piece = u32::try_from((PIECE / page_size).max(1)).unwrap_or(1);
    let mut piece = vec![0; per_piece as usize * page_size];
    let mut page = file.first_page();
    while page < file.pages {
        let count = per_piece.min(file.pages - page);
        watch.step(u64::from(page) * page_size as u64)?;
        let bytes = piece.get_mut(..count as usize * page_size).unwrap_or_default();
        if file.read(bytes, file.offset(page)).is_err() {
            // A bad sector, perhaps: what lies beside it is worth reading.
            for (place, number) in bytes.chunks_exact_mut(page_size).zip(page..) {
                if file.read(place, file.offset(number)).is_err() {
                    place.fill(0);
                }
            }
        }
        let mut skip = 0;
        for (bytes, number) in bytes.chunks_exact(page_size).zip(page..) {
            if skip > 0 {
                skip -= 1;
                continue;
            }
            match describe(bytes, number, file.store_tag) {
                Some(value) if value.kind == KIND_OVERFLOW => each(Seen::Value(value))?,
                Some(described) => {
                    if let Some(run) = whole(file, described, bytes) {
                        each(Seen::Run(described, run.as_deref().unwrap_or(bytes)))?;
                        skip = described.pages - 1;
                    }
                }
                None => {
                    for (start, at) in bytes.chunks(8).zip((file.offset(number)..).step_by(8)) {
                        if start.starts_with(&FRAME_MAGIC) {
                            each(Seen::Frame(at))?;
                        }
                    }
                }
            }
        }
        page += count;
        page += skip.min(file.pages - page);
    }
    Ok(())
}

/// Whether a run is whole; its bytes, if they are more than the page at hand.
#[expect(clippy::option_option, reason = "whole or not, and its bytes if there are more")]
fn whole(file: &File<'_>, described: Described, page: &[u8]) -> Option<Option<Vec<u8>>> {
    if described.pages == 1 {
        return (crc32fast::hash(page.get(PAGE_NUMBER..)?) == described.ptr.crc).then_some(None);
    }
    let kinds: &'static [u8] = match described.kind {
        KIND_LEAF => &[KIND_LEAF],
        KIND_BRANCH => &[KIND_BRANCH],
        _ => &[4, 5, 6],
    };
    let expect = Expect { kinds, table: described.table, version: u64::MAX };
    file.run(described.ptr, expect, file.pages).ok().map(Some)
}

/// Page size and store tag, told by the first page that proves its own.
pub(super) fn find_page_size(disk: &dyn Disk, watch: &mut Watch<'_>) -> Result<Option<(u32, u32)>> {
    let len = disk.len().map_err(|source| Error::io("stat", disk.path(), source))?;
    let mut block = vec![0; MAX_PAGE_SIZE as usize];
    let mut offset = u64::from(MIN_PAGE_SIZE);
    while offset < len {
        watch.step(offset)?;
        // Short at the end of the file; what cannot be read is passed over.
        let read = disk.read_at(&mut block, offset).unwrap_or(0);
        if let Some(found) = page_size_of(block.get(..read).unwrap_or_default(), offset) {
            return Ok(Some(found));
        }
        offset += u64::from(MIN_PAGE_SIZE);
    }
    Ok(None)
}
