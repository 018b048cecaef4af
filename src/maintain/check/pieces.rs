//! Runs that are read in the order in which they lie, in large pieces, by two threads where there are many.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread;

use crate::error::{Error, Result};
use crate::maintain::format::file::File;

/// Bytes read at once: few enough to stay in a core's cache until they are judged.
const PIECE: u64 = 256 << 10;
/// Bytes between two runs that are read along with them: less work than another call of the system. So many follow the
/// first page of a leaf of 16 KiB, whose length is not known before it is read.
const GAP: u64 = 12 << 10;
/// Pieces that are judged before their results are combined and progress is reported.
pub(super) const ROUND: usize = 64;
/// Fewer pieces are not worth a thread.
const WORTH_A_THREAD: usize = 4;
/// A piece that takes this many microseconds came from a disk, not from the system's cache.
const COLD_US: u64 = 150;
/// After such a piece, read-ahead is requested for this many pieces, each `AHEAD` pieces before it is read.
const COLD_PIECES: u32 = 64;
const AHEAD: usize = 16;

/// A stretch of the file, and which runs of a list, in the order of pages, lie in it.
pub(super) struct Piece {
    pub(super) runs: Range<usize>,
    page: u32,
    pages: u32,
}

impl Piece {
    /// The bytes from a page of it on, given those of the piece.
    pub(super) fn from<'b>(&self, bytes: &'b [u8], page: u32, page_size: u32) -> &'b [u8] {
        bytes.get((page - self.page) as usize * page_size as usize..).unwrap_or_default()
    }
}

/// Cuts runs, first page and pages of each, in the order of pages, into pieces. One that is longer than a piece is one alone.
pub(super) fn cut(page_size: u32, runs: impl Iterator<Item = (u32, u32)>) -> Vec<Piece> {
    let (most, gap) = (PIECE / u64::from(page_size), GAP / u64::from(page_size));
    let mut pieces: Vec<Piece> = Vec::new();
    for (at, (page, pages)) in runs.enumerate() {
        if let Some(last) = pieces.last_mut() {
            let end = u64::from(last.page) + u64::from(last.pages);
            let len = u64::from(page) + u64::from(pages) - u64::from(last.page);
            if u64::from(page) <= end + gap && len <= most {
                last.runs.end = at + 1;
                last.pages = last.pages.max(u32::try_from(len).unwrap_or(u32::MAX));
                continue;
            }
        }
        pieces.push(Piece { runs: at..at + 1, page, pages });
    }
    pieces
}

/// Reads each of the pieces and gives it to `judge`, by up to `threads` threads; without bytes if it could not be read whole, or
/// is one long run: then its runs are to be read one by one. Results come in the order of the pieces.
pub(super) fn judge<T: Send>(
    file: &File<'_>,
    pieces: &[Piece],
    threads: usize,
    judge: impl Fn(&Piece, Option<&[u8]>) -> T + Sync,
) -> Result<Vec<T>> {
    let (next, cold) = (AtomicUsize::new(0), AtomicU32::new(0));
    let work = || {
        let (mut buffer, mut judged) = (Vec::new(), Vec::new());
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(piece) = pieces.get(at) else { return judged };
            let left = cold.load(Ordering::Relaxed);
            let ahead = pieces.get(at + AHEAD).filter(|_| left > 0);
            if let Some(ahead) = ahead {
                let len = u64::from(ahead.pages) * u64::from(file.page_size);
                file.disk.start_reading(file.offset(ahead.page), len.min(PIECE));
            }
            let started = file.disk.now_us();
            let bytes = read(file, piece, &mut buffer);
            if file.disk.now_us().saturating_sub(started) > COLD_US {
                cold.store(COLD_PIECES, Ordering::Relaxed);
            } else {
                cold.store(left.saturating_sub(1), Ordering::Relaxed);
            }
            judged.push((at, judge(piece, bytes)));
        }
    };
    if threads < 2 || pieces.len() < WORTH_A_THREAD {
        return Ok(work().into_iter().map(|(_, judged)| judged).collect());
    }
    let mut all = thread::scope(|scope| {
        // One that cannot be started is done without.
        let helpers: Vec<_> =
            (1..threads).filter_map(|_| thread::Builder::new().spawn_scoped(scope, work).ok()).collect();
        let mut all = work();
        helpers.into_iter().for_each(|helper| all.extend(helper.join().unwrap_or_default()));
        all
    });
    if all.len() != pieces.len() {
        return Err(Error::Internal("judging a part of the file panicked".to_owned()));
    }
    all.sort_unstable_by_key(|(at, _)| *at);
    Ok(all.into_iter().map(|(_, judged)| judged).collect())
}

fn read<'b>(file: &File<'_>, piece: &Piece, buffer: &'b mut Vec<u8>) -> Option<&'b [u8]> {
    let len = u64::from(piece.pages) * u64::from(file.page_size);
    let len = usize::try_from(len).ok().filter(|_| len <= PIECE.max(u64::from(file.page_size)))?;
    if buffer.len() < len {
        buffer.resize(len, 0);
    }
    let bytes = buffer.get_mut(..len)?;
    file.read(bytes, file.offset(piece.page)).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_that_lie_close_are_read_together() {
        let cuts = |runs: &[(u32, u32)]| {
            cut(4096, runs.iter().copied()).iter().map(|p| (p.runs.clone(), p.page, p.pages)).collect::<Vec<_>>()
        };
        assert_eq!(cuts(&[]), []);
        assert_eq!(cuts(&[(2, 1), (3, 2), (7, 1), (12, 1)]), [(0..3, 2, 6), (3..4, 12, 1)]);
        // 64 pages are as many as are read at once; a longer run is read alone, in parts.
        assert_eq!(cuts(&[(2, 63), (65, 1), (66, 1)]), [(0..2, 2, 64), (2..3, 66, 1)]);
        assert_eq!(cuts(&[(2, 1000), (1002, 1)]), [(0..1, 2, 1000), (1..2, 1002, 1)]);
        assert_eq!(cuts(&[(u32::MAX, u32::MAX)]), [(0..1, u32::MAX, u32::MAX)]);
        // Overlapping runs, which a damaged store may name.
        assert_eq!(cuts(&[(2, 8), (3, 1)]), [(0..2, 2, 8)]);
    }
}
