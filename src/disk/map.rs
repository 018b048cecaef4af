//! The data file, mapped for reading.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};

use super::platform::Mapping;
use super::sigbus::{self, Guard};

/// The first bytes of a file, and possibly room beyond its end.
pub(super) struct ReadMap {
    // Dropped first: an address that is no longer mapped must not be guarded.
    guard: Guard,
    raw: MmapRaw,
}

impl ReadMap {
    /// Maps `len` bytes of `file`; `None` if that is not possible or the map cannot be guarded.
    ///
    /// The map keeps the description of `file` open, with all its locks, also in forked children and after `file`
    /// is closed. So `file` must not be the description that takes locks.
    pub(super) fn new(file: &File, len: u64) -> io::Result<Option<ReadMap>> {
        let Some(len) = usize::try_from(len).ok().filter(|len| *len > 0 && cfg!(target_pointer_width = "64")) else {
            return Ok(None);
        };
        let raw = match MmapOptions::new().len(len).map_raw_read_only(file) {
            Ok(raw) => raw,
            // The file system maps no files, or this process may have no more address space.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENODEV | libc::ENOMEM | libc::EAGAIN)) => return Ok(None),
            Err(e) => return Err(e),
        };
        Ok(sigbus::guard(raw.as_ptr(), len, false).map(|guard| ReadMap { guard, raw }))
    }
}

impl ReadMap {
    /// Whether no page of it was lost.
    pub(super) fn is_whole(&self) -> bool {
        !self.guard.torn()
    }

    /// Loads little-endian words, each on its own; `false` if the map does not reach so far, or they are not aligned.
    pub(super) fn peek(&self, words: &mut [u64], offset: u64) -> bool {
        let Ok(start) = usize::try_from(offset) else { return false };
        let within = start.checked_add(words.len() * 8).is_some_and(|end| end <= self.raw.len());
        if !within || !start.is_multiple_of(8) {
            return false;
        }
        for (index, word) in words.iter_mut().enumerate() {
            let at = self.raw.as_mut_ptr().wrapping_add(start + index * 8).cast::<AtomicU64>();
            // SAFETY: mapped for reading as long as `self` lives, in range and aligned as was just checked.
            // Other processes write these bytes through the system; an atomic load of a machine word
            // is the one access that may meet that, also in memory that can only be read.
            *word = u64::from_le(unsafe { &*at }.load(Ordering::Acquire));
        }
        true
    }
}

impl Mapping for ReadMap {
    fn bytes(&self) -> &[u8] {
        // Pages that were verified before they were lost would otherwise still count as verified.
        if self.guard.torn() { &[] } else { self.kept() }
    }

    fn kept(&self) -> &[u8] {
        // SAFETY: mapped for reading as long as `self` lives, and a page that loses its file
        // becomes zeros. Other processes do write to the file, but not to pages that a reader may
        // use: they are copied on write and pinned. That is the contract of `Mapping`. A program
        // that breaks it gives a reader bytes that change, which it takes for damage or for other
        // values: nothing that is read from these bytes is used without a check of its range.
        unsafe { std::slice::from_raw_parts(self.raw.as_ptr(), self.raw.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fork::tests::{in_child, wait_for};
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn shows_what_is_written_and_what_grows_into_it() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[7; 4096], 0).unwrap();
        let map = ReadMap::new(&file, 1 << 30).unwrap().unwrap();
        assert_eq!(map.bytes().len(), 1 << 30);
        assert_eq!(map.bytes()[4095], 7);
        file.write_all_at(b"more", 1 << 20).unwrap();
        assert_eq!(&map.bytes()[1 << 20..][..4], b"more");
        assert!(ReadMap::new(&file, 0).unwrap().is_none());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn where_address_space_is_short_a_store_is_mapped_without_room_to_grow() {
        let dir = tempfile::tempdir().unwrap();
        let child = in_child(|| {
            let used = std::fs::read_to_string("/proc/self/statm").unwrap();
            let pages: u64 = used.split(' ').next().unwrap().parse().unwrap();
            let limit = pages * 4096 + (512 << 20);
            let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
            // SAFETY: given a valid limit.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
            let other = crate::Store::open(dir.path().join("other.mst")).unwrap();
            let map = other.engine().mapping(16).unwrap();
            map.map_or(1, |map| i32::from(map.bytes().len() != 16 * 4096))
        });
        assert_eq!(wait_for(child), 0);
    }

    #[test]
    fn a_foreign_truncation_reads_as_zeros() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().write_all_at(&[7; 65536], 0).unwrap();
        let map = ReadMap::new(file.as_file(), 65536).unwrap().unwrap();
        let bytes = map.bytes();
        assert!(bytes.iter().all(|b| *b == 7));
        File::options().write(true).open(file.path()).unwrap().set_len(4096).unwrap();
        assert_eq!(std::hint::black_box(bytes)[40_000], 0);
        assert!(std::hint::black_box(bytes)[..4096].iter().all(|b| *b == 7));
        assert!(std::hint::black_box(bytes)[4096..].iter().all(|b| *b == 0));
        assert!(map.bytes().is_empty(), "a torn map gives out nothing more");
    }

    #[test]
    fn a_truncation_is_survived_on_many_threads_at_once() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 24).unwrap();
        let map = ReadMap::new(&file, 1 << 24).unwrap().unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let bytes = map.bytes();
                scope.spawn(move || {
                    for round in 0..20_000_usize {
                        let at = (round * 7919 + thread * 131) * 4096 % (1 << 24);
                        assert_eq!(std::hint::black_box(bytes)[at], 0);
                    }
                });
            }
            file.set_len(0).unwrap();
        });
    }
}
