//! Root slots, from which everything durable is found.
//!
//! Blocks 0 and 1 of the file (4096 bytes each) are slots A and B. Root sequence `n` lives in
//! slot `n % 2`, so a new root never touches the block of the one it replaces. A slot holds the
//! same 2048 bytes twice, so that one bad sector does not cost a root; a copy is valid on its own.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | magic `memstone` |
//! | 8 | 4 | CRC-32 of bytes 12..2048 of this copy |
//! | 12 | 4 | format version |
//! | 16 | 8 | feature flags; a set bit that a reader does not know means `Format` |
//! | 24 | 4 | page size |
//! | 28 | 4 | slot number, 0 or 1 |
//! | 32 | 16 | store id |
//! | 48 | 8 | root sequence, from 1 |
//! | 56 | 8 | checkpoint LSN: transactions up to and including it are in the tree |
//! | 64 | 8 | log position: where the frame after the checkpoint LSN is looked for |
//! | 72 | 4 | CRC of the frame that ends at the log position (0 in a new store) |
//! | 76 | 4 | number of log segments, at most 64 |
//! | 80 | 16 | catalog tree: `u32 page, u32 crc, u64 entries` |
//! | 96 | 8 | free map's directory: `u32 page, u32 crc` |
//! | 104 | 8 | pending list: `u32 page, u32 crc` |
//! | 112 | 8 | pages in the file |
//! | 120 | 4 | next table id |
//! | 124 | 4 | reserved, 0 |
//! | 128 | 8 | byte offset of the log position in the first log segment |
//! | 136 | 8 | time of the checkpoint that made this root, µs since 1970 (0 in a new store) |
//! | 144 | 8 | LSN of the newest transaction in the tree (the checkpoint LSN may be that of a checkpoint record) |
//! | 152 | 8 × n | log segments, in ring order from the one that holds the log position: `u32 page, u32 pages` |

use crate::disk::format::{
    EPOCH_AT, FORMAT_VERSION, HEAD_SIZE, MAGIC, MAX_PAGE_SIZE, MIN_PAGE_SIZE, Ptr, SLOT_SIZE, TreeRoot, get_u32,
    get_u64, put_bytes, put_u32, put_u64,
};
use crate::disk::platform::Disk;
use crate::error::{Error, Result};
use std::io;

/// Size of one copy of a root.
const COPY: usize = SLOT_SIZE / 2;
/// Where the sequence lies in a slot.
const SEQUENCE_AT: u64 = 48;
const SEGMENTS_AT: usize = 152;
/// Most log segments a root can name.
pub(crate) const MAX_SEGMENTS: usize = 64;

/// A run of pages that the log lives in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) page: u32,
    pub(crate) pages: u32,
}

/// One root: the whole tree, and where the log continues from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Root {
    pub(crate) page_size: u32,
    pub(crate) store_id: [u8; 16],
    pub(crate) sequence: u64,
    pub(crate) checkpoint_lsn: u64,
    pub(crate) log_position: u64,
    pub(crate) log_crc: u32,
    pub(crate) log_offset: u64,
    pub(crate) segments: Vec<Segment>,
    pub(crate) catalog: TreeRoot,
    pub(crate) free_directory: Ptr,
    pub(crate) pending: Ptr,
    pub(crate) page_count: u64,
    pub(crate) next_table: u32,
    pub(crate) time: u64,
    pub(crate) last_commit: u64,
}

impl Root {
    /// The first four bytes of the store id, stored in every page and mixed into every frame's CRC.
    pub(crate) fn store_tag(&self) -> u32 {
        get_u32(&self.store_id, 0)
    }

    /// Where slot number `sequence % 2` starts.
    pub(crate) fn slot_offset(sequence: u64) -> u64 {
        (sequence % 2) * SLOT_SIZE as u64
    }

    /// The bytes of the whole slot: both copies.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut copy = vec![0; COPY];
        put_bytes(&mut copy, 0, &MAGIC);
        put_u32(&mut copy, 12, FORMAT_VERSION);
        put_u32(&mut copy, 24, self.page_size);
        put_u32(&mut copy, 28, u32::from(self.sequence % 2 == 1));
        put_bytes(&mut copy, 32, &self.store_id);
        put_u64(&mut copy, 48, self.sequence);
        put_u64(&mut copy, 56, self.checkpoint_lsn);
        put_u64(&mut copy, 64, self.log_position);
        put_u32(&mut copy, 72, self.log_crc);
        put_u32(&mut copy, 76, u32::try_from(self.segments.len()).unwrap_or(u32::MAX));
        put_bytes(&mut copy, 80, &self.catalog.encode());
        put_u32(&mut copy, 96, self.free_directory.page);
        put_u32(&mut copy, 100, self.free_directory.crc);
        put_u32(&mut copy, 104, self.pending.page);
        put_u32(&mut copy, 108, self.pending.crc);
        put_u64(&mut copy, 112, self.page_count);
        put_u32(&mut copy, 120, self.next_table);
        put_u64(&mut copy, 128, self.log_offset);
        put_u64(&mut copy, 136, self.time);
        put_u64(&mut copy, 144, self.last_commit);
        for (i, segment) in self.segments.iter().enumerate() {
            put_u32(&mut copy, SEGMENTS_AT + 8 * i, segment.page);
            put_u32(&mut copy, SEGMENTS_AT + 8 * i + 4, segment.pages);
        }
        let crc = crc32fast::hash(copy.get(12..).unwrap_or_default());
        put_u32(&mut copy, 8, crc);
        let mut slot = copy.clone();
        slot.extend_from_slice(&copy);
        slot
    }

    /// Bytes of the log's ring.
    pub(crate) fn log_capacity(&self) -> u64 {
        self.segments.iter().map(|s| u64::from(s.pages)).sum::<u64>() * u64::from(self.page_size)
    }

    /// The first page behind the root slots and the epoch's block.
    pub(crate) fn first_page(page_size: u32) -> u32 {
        u32::try_from(HEAD_SIZE.div_ceil(u64::from(page_size))).unwrap_or(3)
    }

    fn decode(copy: &[u8], slot: u32) -> Result<Option<Root>, Refusal> {
        if copy.len() < COPY || copy.get(..8) != Some(&MAGIC[..]) {
            return Ok(None);
        }
        let version = get_u32(copy, 12);
        if crc32fast::hash(copy.get(12..COPY).unwrap_or_default()) != get_u32(copy, 8) {
            return Ok(None);
        }
        if version > FORMAT_VERSION {
            return Err(Refusal::Newer(version));
        }
        if get_u64(copy, 16) != 0 {
            // A feature bit of a later version, although the version number is one we know.
            return Err(Refusal::Newer(FORMAT_VERSION + 1));
        }
        let page_size = get_u32(copy, 24);
        let count = get_u32(copy, 76) as usize;
        let mut store_id = [0; 16];
        put_bytes(&mut store_id, 0, copy.get(32..48).unwrap_or_default());
        let root = Root {
            page_size,
            store_id,
            sequence: get_u64(copy, 48),
            checkpoint_lsn: get_u64(copy, 56),
            log_position: get_u64(copy, 64),
            log_crc: get_u32(copy, 72),
            log_offset: get_u64(copy, 128),
            segments: (0..count.min(MAX_SEGMENTS))
                .map(|i| Segment {
                    page: get_u32(copy, SEGMENTS_AT + 8 * i),
                    pages: get_u32(copy, SEGMENTS_AT + 8 * i + 4),
                })
                .collect(),
            catalog: TreeRoot::decode(copy.get(80..96).unwrap_or_default()).unwrap_or_default(),
            free_directory: Ptr { page: get_u32(copy, 96), crc: get_u32(copy, 100) },
            pending: Ptr { page: get_u32(copy, 104), crc: get_u32(copy, 108) },
            page_count: get_u64(copy, 112),
            next_table: get_u32(copy, 120),
            time: get_u64(copy, 136),
            last_commit: get_u64(copy, 144),
        };
        Ok((count <= MAX_SEGMENTS && get_u32(copy, 28) == slot && root.is_sane(slot)).then_some(root))
    }

    /// A copy whose CRC is right but whose fields make no sense was forged or written by a bug:
    /// it is not used, as if it were torn.
    fn is_sane(&self, slot: u32) -> bool {
        let page_size = self.page_size;
        u64::from(slot) == self.sequence % 2
            && (MIN_PAGE_SIZE..=MAX_PAGE_SIZE).contains(&page_size)
            && page_size.is_power_of_two()
            && !self.segments.is_empty()
            && self.page_count <= u64::from(u32::MAX)
            && self.log_position < 1 << 62
            && self.checkpoint_lsn < 1 << 62
            && self.last_commit <= self.checkpoint_lsn
            && self.sequence < 1 << 60
            && self.log_offset < self.segments.first().map_or(0, |s| u64::from(s.pages) * u64::from(page_size))
            && self.log_offset % 4096 == self.log_position % 4096
            && self.segments.iter().all(|s| {
                s.pages > 0
                    && s.page >= Root::first_page(page_size)
                    && u64::from(s.page) + u64::from(s.pages) <= self.page_count
            })
    }
}

impl Slots {
    /// Whether both slots hold the same root. A process that leaves writes its last root a second time. So the
    /// next process to open the store knows, without a flush, that the newest state is durable: the second write
    /// began only when the first was durable.
    pub(crate) fn are_copies(&self) -> bool {
        self.older.as_ref().is_some_and(|older| {
            older.sequence + 1 == self.newest.sequence
                && Root { sequence: self.newest.sequence, ..older.clone() } == self.newest
        })
    }
}

/// The highest sequence that a slot seems to have; another process may be writing the words read here.
pub(crate) fn peek_sequence(disk: &dyn Disk) -> io::Result<u64> {
    let mut found = [[0]; 2];
    for (slot, word) in (0..).zip(&mut found) {
        disk.peek(word, Root::slot_offset(slot) + SEQUENCE_AT)?;
    }
    Ok(found.map(|[sequence]| sequence).into_iter().max().unwrap_or(0))
}

/// The epoch of the sidecar that was started last: see `engine::sharing`.
pub(crate) fn peek_epoch(disk: &dyn Disk) -> io::Result<u64> {
    let mut word = [0];
    disk.peek(&mut word, EPOCH_AT)?;
    let [epoch] = word;
    Ok(epoch)
}

/// Begins another epoch. The caller holds OPEN.
pub(crate) fn write_epoch(disk: &dyn Disk, epoch: u64) -> io::Result<()> {
    disk.write_at(&epoch.to_le_bytes(), EPOCH_AT)
}

enum Refusal {
    Newer(u32),
}

/// What the two slots hold.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    /// The root with the highest sequence.
    pub(crate) newest: Root,
    /// The root before it, where its slot is readable.
    pub(crate) older: Option<Root>,
}

/// Reads the roots out of the first 8192 bytes of a file (fewer, if the file is shorter).
///
/// The error distinguishes a file that was never a store, a damaged store, and a store of a newer version.
pub(crate) fn read_slots(prefix: &[u8], path: &std::path::Path) -> Result<Slots> {
    let mut found: [Option<Root>; 2] = [None, None];
    let mut newer = None;
    for (slot, place) in found.iter_mut().enumerate() {
        for copy in 0..2 {
            let start = slot * SLOT_SIZE + copy * COPY;
            let bytes = prefix.get(start..(start + COPY).min(prefix.len())).unwrap_or_default();
            match Root::decode(bytes, u32::try_from(slot).unwrap_or(0)) {
                Ok(Some(root)) if place.is_none() => *place = Some(root),
                Ok(_) => {}
                Err(Refusal::Newer(version)) => newer = newer.max(Some(version)),
            }
        }
    }
    if let Some(found) = newer {
        return Err(Error::Format { path: path.to_path_buf(), found, supported: FORMAT_VERSION });
    }
    let [a, b] = found;
    let (newest, older) = match (a, b) {
        (Some(a), Some(b)) if a.store_id != b.store_id => {
            // Both are whole, but of two stores: a block was copied. It cannot be decided which is right.
            return Err(
                Error::corrupt("root slots", 0, None, "two roots of one store", "roots of two stores").in_file(path)
            );
        }
        (Some(a), Some(b)) if a.sequence > b.sequence => (a, Some(b)),
        (a, Some(b)) => (b, a),
        (Some(a), None) => (a, None),
        (None, None) => return Err(nothing_found(prefix, path)),
    };
    Ok(Slots { newest, older })
}

fn nothing_found(prefix: &[u8], path: &std::path::Path) -> Error {
    let path = path.to_path_buf();
    let has_magic = [0, COPY, SLOT_SIZE, SLOT_SIZE + COPY].iter().any(|&at| prefix.get(at..at + 8) == Some(&MAGIC[..]));
    if has_magic {
        let expected = "a root slot with a valid checksum";
        return Error::corrupt("root slots", 0, None, expected, "two damaged slots").in_file(&path);
    }
    let found = if prefix.is_empty() {
        "the file is empty".to_owned()
    } else if prefix.starts_with(b"SQLite format 3") {
        "it is an SQLite database".to_owned()
    } else if prefix.starts_with(b"redb") {
        "it is a redb database".to_owned()
    } else if std::str::from_utf8(prefix.get(..prefix.len().min(64)).unwrap_or_default())
        .is_ok_and(|text| !text.is_empty() && text.chars().all(|c| !c.is_control() || c.is_whitespace()))
    {
        "it looks like a text file".to_owned()
    } else {
        format!("it starts with {:02x?}", prefix.get(..prefix.len().min(8)).unwrap_or_default())
    };
    Error::NotAStore { path, found }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn root(sequence: u64) -> Root {
        Root {
            page_size: 4096,
            store_id: *b"0123456789abcdef",
            sequence,
            checkpoint_lsn: 7,
            log_position: 4096,
            log_crc: 5,
            log_offset: 4096,
            segments: vec![Segment { page: 3, pages: 16 }],
            catalog: TreeRoot { ptr: Ptr { page: 20, crc: 9 }, count: 3 },
            free_directory: Ptr { page: 21, crc: 1 },
            pending: Ptr::NONE,
            page_count: 30,
            next_table: 16,
            time: 0,
            last_commit: 7,
        }
    }

    fn file(roots: &[Root]) -> Vec<u8> {
        let mut bytes = vec![0; 2 * SLOT_SIZE];
        for root in roots {
            put_bytes(&mut bytes, Root::slot_offset(root.sequence) as usize, &root.encode());
        }
        bytes
    }

    #[test]
    fn the_highest_valid_sequence_wins() {
        let bytes = file(&[root(4), root(5)]);
        let slots = read_slots(&bytes, Path::new("x")).unwrap();
        assert_eq!(slots.newest, root(5));
        assert_eq!(slots.older, Some(root(4)));
    }

    #[test]
    fn any_one_flipped_byte_still_gives_the_newest_root() {
        let bytes = file(&[root(4), root(5)]);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert_eq!(read_slots(&damaged, Path::new("x")).unwrap().newest, root(5), "byte {at}");
        }
    }

    #[test]
    fn a_torn_new_slot_leaves_the_old_root() {
        let mut bytes = file(&[root(4), root(5)]);
        let at = Root::slot_offset(5) as usize;
        bytes[at + 100] ^= 1;
        bytes[at + COPY + 100] ^= 1;
        assert_eq!(read_slots(&bytes, Path::new("x")).unwrap().newest, root(4));
    }

    #[test]
    fn what_is_not_a_store_is_named() {
        let error = |bytes: &[u8]| read_slots(bytes, Path::new("x")).unwrap_err().to_string();
        assert!(error(b"").contains("empty"));
        assert!(error(b"hello, world\n").contains("text"));
        assert!(error(b"SQLite format 3\0xxx").contains("SQLite"));
        assert!(error(&[0xff; 9000]).contains("ff"));
        let mut newer = file(&[root(5)]);
        let at = Root::slot_offset(5) as usize;
        for copy in [at, at + COPY] {
            put_u32(&mut newer, copy + 12, 9);
            let crc = crc32fast::hash(&newer[copy + 12..copy + COPY]);
            put_u32(&mut newer, copy + 8, crc);
        }
        assert!(matches!(read_slots(&newer, Path::new("x")), Err(Error::Format { found: 9, .. })));
        let mut damaged = file(&[root(5)]);
        damaged[at + 60] ^= 1;
        damaged[at + COPY + 60] ^= 1;
        assert!(read_slots(&damaged, Path::new("x")).unwrap_err().is_corrupt());
    }
}
