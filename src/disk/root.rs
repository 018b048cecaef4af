//! Root slots, from which everything durable is found.
//!
//! Blocks 0 and 1 of the file, each of a page's size, are slots A and B. Root sequence `n` lives in slot `n % 2`, so
//! a new root never touches the block of the one it replaces. A slot holds the same 2048 bytes twice, at its start
//! and at its middle, so that one bad sector does not cost a root; a copy is valid on its own.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | magic `memstone` |
//! | 8 | 4 | format version |
//! | 12 | 2 | bytes of this copy: 2048 |
//! | 14 | 1 | kind of the checksum: 1 = CRC-32 (IEEE) |
//! | 15 | 1 | bytes of the checksum: 4 |
//! | 16 | 4 | CRC-32 of bytes 0..16 |
//! | 20 | 32 | checksum of bytes 52..2048 of this copy, then zeros |
//! | 52 | 4 | page size |
//! | 56 | 8 | features: a bit that a reader does not know means that it refuses the store |
//! | 64 | 8 | features: a bit that a reader does not know means that it must not write |
//! | 72 | 8 | features: bits that a reader need not know |
//! | 80 | 16 | store id |
//! | 96 | 8 | root sequence, from 1 |
//! | 104 | 8 | checkpoint LSN: transactions up to and including it are in the tree |
//! | 112 | 8 | log position: where the frame after the checkpoint LSN is looked for |
//! | 120 | 4 | CRC of the frame that ends at the log position (0 in a new store) |
//! | 124 | 4 | number of log segments, at most 64 |
//! | 128 | 8 | byte offset of the log position in the first log segment |
//! | 136 | 8 | free map's directory: `u32 page, u32 crc` |
//! | 144 | 8 | pending list: `u32 page, u32 crc` |
//! | 152 | 8 | pages in the file |
//! | 160 | 8 | time of the checkpoint that made this root, µs since 1970 (0 in a new store) |
//! | 168 | 8 | LSN of the newest transaction in the tree (the checkpoint LSN may be that of a checkpoint record) |
//! | 176 | 8 | time of the store's creation, µs since 1970 |
//! | 184 | 4 | application id, 0 = none |
//! | 188 | 4 | version of the lock bytes and the sidecar |
//! | 192 | 4 | next table id |
//! | 196 | 4 | slot number, 0 or 1 |
//! | 200 | 512 | log segments, in ring order from the one that holds the log position: `u32 page, u32 pages`; then zeros |
//! | 712 | 32 | catalog tree: `u32 page, u32 crc, u64 entries, u64 pages, u64 bytes` |

use crate::disk::format::{
    CHECKSUM_CRC32, FEATURES_INCOMPATIBLE, FEATURES_READ_ONLY, FIRST_PAGE, FIRST_USER_TABLE, FORMAT_VERSION, MAGIC,
    MAX_PAGE_SIZE, MIN_PAGE_SIZE, PREAMBLE_CRC, PREAMBLE_KIND, PREAMBLE_LENGTH, PREAMBLE_SIZE, PREAMBLE_VERSION,
    PROTOCOL_VERSION, Ptr, ROOT_CHECKSUM, ROOT_COPY, ROOT_FIELDS, TREE_ROOT_SIZE, TreeRoot, epoch_at, get_u16, get_u32,
    get_u64, put_bytes, put_u16, put_u32, put_u64,
};
use crate::disk::platform::Disk;
use crate::error::{CorruptionKind, Error, Result};
use std::io;
use std::path::Path;

/// Where the sequence lies in a copy.
const SEQUENCE_AT: usize = 96;
const SEGMENTS_AT: usize = 200;
const CATALOG_AT: usize = SEGMENTS_AT + 8 * MAX_SEGMENTS;
/// Most log segments a root can name.
pub(crate) const MAX_SEGMENTS: usize = 64;
/// The longest that both slots can be.
const MAX_SLOTS: usize = 2 * MAX_PAGE_SIZE as usize;

/// A run of pages that the log lives in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) page: u32,
    pub(crate) pages: u32,
}

/// What the store contains that older programs do not know. A new root has those of the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Features {
    /// A program that does not know one of these refuses the store.
    pub(crate) incompatible: u64,
    /// A program that does not know one of these may read the store, and not write it.
    pub(crate) read_only: u64,
    /// For the programs that know them; the others do not look at them.
    pub(crate) ignorable: u64,
}

/// One root: the whole tree, and where the log continues from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Root {
    pub(crate) page_size: u32,
    pub(crate) features: Features,
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
    pub(crate) created: u64,
    pub(crate) application: u32,
    pub(crate) protocol: u32,
}

/// What a new store is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewStore {
    pub(crate) page_size: u32,
    pub(crate) store_id: [u8; 16],
    /// Which application it is for; 0: it does not matter.
    pub(crate) application: u32,
    /// µs since 1970.
    pub(crate) created: u64,
}

impl Root {
    /// The first root of a store, with a log of so many pages, and no table.
    pub(crate) fn first(new: &NewStore, log_pages: u32) -> Root {
        let NewStore { page_size, store_id, application, created } = *new;
        Root {
            page_size,
            features: Features::default(),
            store_id,
            sequence: 1,
            checkpoint_lsn: 0,
            log_position: u64::from(page_size),
            log_crc: 0,
            log_offset: 0,
            segments: vec![Segment { page: FIRST_PAGE, pages: log_pages }],
            catalog: TreeRoot::default(),
            free_directory: Ptr::NONE,
            pending: Ptr::NONE,
            page_count: u64::from(FIRST_PAGE + log_pages),
            next_table: FIRST_USER_TABLE,
            time: 0,
            last_commit: 0,
            created,
            application,
            protocol: PROTOCOL_VERSION,
        }
    }

    /// The first four bytes of the store id, stored in every page and mixed into every frame's CRC.
    pub(crate) fn store_tag(&self) -> u32 {
        get_u32(&self.store_id, 0)
    }

    /// Where slot number `sequence % 2` starts.
    pub(crate) fn slot_offset(sequence: u64, page_size: u32) -> u64 {
        (sequence % 2) * u64::from(page_size)
    }

    /// Where the slot of this root starts.
    pub(crate) fn offset(&self) -> u64 {
        Root::slot_offset(self.sequence, self.page_size)
    }

    /// The bytes of the whole slot: both copies.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut copy = vec![0; ROOT_COPY];
        put_bytes(&mut copy, 0, &MAGIC);
        put_u32(&mut copy, PREAMBLE_VERSION, FORMAT_VERSION);
        put_u16(&mut copy, PREAMBLE_LENGTH, u16::try_from(ROOT_COPY).unwrap_or(u16::MAX));
        put_bytes(&mut copy, PREAMBLE_KIND, &[CHECKSUM_CRC32]);
        put_bytes(&mut copy, PREAMBLE_SIZE, &[4]);
        let crc = crc32fast::hash(copy.get(..PREAMBLE_CRC).unwrap_or_default());
        put_u32(&mut copy, PREAMBLE_CRC, crc);
        self.put_fields(&mut copy);
        let crc = crc32fast::hash(copy.get(ROOT_FIELDS..).unwrap_or_default());
        put_u32(&mut copy, ROOT_CHECKSUM, crc);
        let mut slot = vec![0; self.page_size as usize];
        for at in [0, self.page_size as usize / 2] {
            put_bytes(&mut slot, at, &copy);
        }
        slot
    }

    fn put_fields(&self, copy: &mut [u8]) {
        put_u32(copy, 52, self.page_size);
        put_u64(copy, 56, self.features.incompatible);
        put_u64(copy, 64, self.features.read_only);
        put_u64(copy, 72, self.features.ignorable);
        put_bytes(copy, 80, &self.store_id);
        put_u64(copy, SEQUENCE_AT, self.sequence);
        put_u64(copy, 104, self.checkpoint_lsn);
        put_u64(copy, 112, self.log_position);
        put_u32(copy, 120, self.log_crc);
        put_u32(copy, 124, u32::try_from(self.segments.len()).unwrap_or(u32::MAX));
        put_u64(copy, 128, self.log_offset);
        self.free_directory.put(copy, 136);
        self.pending.put(copy, 144);
        put_u64(copy, 152, self.page_count);
        put_u64(copy, 160, self.time);
        put_u64(copy, 168, self.last_commit);
        put_u64(copy, 176, self.created);
        put_u32(copy, 184, self.application);
        put_u32(copy, 188, self.protocol);
        put_u32(copy, 192, self.next_table);
        put_u32(copy, 196, u32::from(self.sequence % 2 == 1));
        for (i, segment) in self.segments.iter().take(MAX_SEGMENTS).enumerate() {
            put_u32(copy, SEGMENTS_AT + 8 * i, segment.page);
            put_u32(copy, SEGMENTS_AT + 8 * i + 4, segment.pages);
        }
        put_bytes(copy, CATALOG_AT, &self.catalog.encode());
    }

    /// Bytes of the log's ring.
    pub(crate) fn log_capacity(&self) -> u64 {
        self.segments.iter().map(|s| u64::from(s.pages)).sum::<u64>() * u64::from(self.page_size)
    }

    /// Refuses to write to a store with a feature that a writer must know.
    pub(crate) fn check_writable(&self, path: &Path) -> Result<()> {
        let unknown = self.features.read_only & !FEATURES_READ_ONLY;
        if unknown == 0 {
            return Ok(());
        }
        let found = format!("the features {unknown:#x}, which a writer must know");
        Err(Error::newer(path, found, "reading only"))
    }

    /// Refuses a store of another application than this one, unless this is 0.
    pub(crate) fn must_be_of(&self, application: u32, path: &Path) -> Result<()> {
        if application == 0 || application == self.application {
            return Ok(());
        }
        Err(Error::OtherApplication { path: path.to_path_buf(), expected: application, found: self.application })
    }

    /// Takes a copy apart. `None`: it is damaged, or none.
    fn decode(copy: &[u8]) -> Result<Option<Root>, Refusal> {
        if !has_preamble(copy)? {
            return Ok(None);
        }
        let crc = crc32fast::hash(copy.get(ROOT_FIELDS..ROOT_COPY).unwrap_or_default());
        let mut checksum = [0; ROOT_FIELDS - ROOT_CHECKSUM];
        put_u32(&mut checksum, 0, crc);
        if copy.get(ROOT_CHECKSUM..ROOT_FIELDS) != Some(&checksum[..]) {
            return Ok(None);
        }
        let unknown = get_u64(copy, 56) & !FEATURES_INCOMPATIBLE;
        if unknown != 0 {
            return Err(Refusal(format!("the features {unknown:#x}"), "none of these".to_owned()));
        }
        let protocol = get_u32(copy, 188);
        if protocol != PROTOCOL_VERSION {
            let supported = format!("protocol {PROTOCOL_VERSION}");
            return Err(Refusal(format!("locks and a sidecar of protocol {protocol}"), supported));
        }
        let root = Root::fields(copy);
        let slot = u64::from(get_u32(copy, 196));
        let whole = get_u32(copy, 124) as usize <= MAX_SEGMENTS && slot == root.sequence % 2;
        Ok((whole && root.is_sane()).then_some(root))
    }

    fn fields(copy: &[u8]) -> Root {
        let mut store_id = [0; 16];
        put_bytes(&mut store_id, 0, copy.get(80..96).unwrap_or_default());
        let segment =
            |i| Segment { page: get_u32(copy, SEGMENTS_AT + 8 * i), pages: get_u32(copy, SEGMENTS_AT + 8 * i + 4) };
        let catalog = copy.get(CATALOG_AT..CATALOG_AT + TREE_ROOT_SIZE).and_then(TreeRoot::decode);
        Root {
            page_size: get_u32(copy, 52),
            features: Features {
                incompatible: get_u64(copy, 56),
                read_only: get_u64(copy, 64),
                ignorable: get_u64(copy, 72),
            },
            store_id,
            sequence: get_u64(copy, SEQUENCE_AT),
            checkpoint_lsn: get_u64(copy, 104),
            log_position: get_u64(copy, 112),
            log_crc: get_u32(copy, 120),
            log_offset: get_u64(copy, 128),
            segments: (0..MAX_SEGMENTS.min(get_u32(copy, 124) as usize)).map(segment).collect(),
            catalog: catalog.unwrap_or_default(),
            free_directory: Ptr::get(copy, 136),
            pending: Ptr::get(copy, 144),
            page_count: get_u64(copy, 152),
            next_table: get_u32(copy, 192),
            time: get_u64(copy, 160),
            last_commit: get_u64(copy, 168),
            created: get_u64(copy, 176),
            application: get_u32(copy, 184),
            protocol: get_u32(copy, 188),
        }
    }

    /// A copy whose CRC is right but whose fields make no sense was forged or written by a bug:
    /// it is not used, as if it were torn.
    fn is_sane(&self) -> bool {
        let page_size = self.page_size;
        (MIN_PAGE_SIZE..=MAX_PAGE_SIZE).contains(&page_size)
            && page_size.is_power_of_two()
            && !self.segments.is_empty()
            && self.page_count <= u64::from(u32::MAX)
            && self.log_position < 1 << 62
            && self.checkpoint_lsn < 1 << 62
            && self.last_commit <= self.checkpoint_lsn
            && self.sequence < 1 << 60
            && self.log_offset < self.segments.first().map_or(0, |s| u64::from(s.pages) * u64::from(page_size))
            && self.log_offset % u64::from(page_size) == self.log_position % u64::from(page_size)
            && self.segments.iter().all(|s| {
                s.pages > 0 && s.page >= FIRST_PAGE && u64::from(s.page) + u64::from(s.pages) <= self.page_count
            })
    }
}

/// What a newer program has made: what was found, and what this program supports.
struct Refusal(String, String);

/// Whether a copy begins with the preamble of a version that this code reads.
fn has_preamble(copy: &[u8]) -> Result<bool, Refusal> {
    let crc = crc32fast::hash(copy.get(..PREAMBLE_CRC).unwrap_or_default());
    if copy.len() < ROOT_COPY || !copy.starts_with(&MAGIC) || crc != get_u32(copy, PREAMBLE_CRC) {
        return Ok(false);
    }
    let version = get_u32(copy, PREAMBLE_VERSION);
    if version > FORMAT_VERSION {
        return Err(Refusal(format!("format version {version}"), format!("format version {FORMAT_VERSION}")));
    }
    let (length, [kind, size]) = (get_u16(copy, PREAMBLE_LENGTH), get_u16(copy, PREAMBLE_KIND).to_le_bytes());
    if (usize::from(length), kind, size) != (ROOT_COPY, CHECKSUM_CRC32, 4) {
        let found = format!("roots of {length} bytes with checksums of kind {kind} and {size} bytes");
        return Err(Refusal(found, format!("{ROOT_COPY} bytes with checksums of kind {CHECKSUM_CRC32} and 4 bytes")));
    }
    Ok(version == FORMAT_VERSION)
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
pub(crate) fn peek_sequence(disk: &dyn Disk, page_size: u32) -> io::Result<u64> {
    let mut found = [[0]; 2];
    for (slot, word) in (0..).zip(&mut found) {
        disk.peek(word, Root::slot_offset(slot, page_size) + SEQUENCE_AT as u64)?;
    }
    Ok(found.map(|[sequence]| sequence).into_iter().max().unwrap_or(0))
}

/// The epoch of the sidecar that was started last: see `engine::sharing`.
pub(crate) fn peek_epoch(disk: &dyn Disk, page_size: u32) -> io::Result<u64> {
    let mut word = [0];
    disk.peek(&mut word, epoch_at(page_size))?;
    let [epoch] = word;
    Ok(epoch)
}

/// Begins another epoch. The caller holds OPEN.
pub(crate) fn write_epoch(disk: &dyn Disk, page_size: u32, epoch: u64) -> io::Result<()> {
    disk.write_at(&epoch.to_le_bytes(), epoch_at(page_size))
}

/// What the two slots hold.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    /// The root with the highest sequence.
    pub(crate) newest: Root,
    /// The root before it, where its slot is readable.
    pub(crate) older: Option<Root>,
}

/// Where the copies of a root lie in a store with such pages, each with the number of its slot.
fn places(page_size: u32) -> [(u64, usize); 4] {
    let (block, half) = (page_size as usize, page_size as usize / 2);
    [(0, 0), (0, half), (1, block), (1, block + half)]
}

/// All sizes that pages can have.
fn page_sizes() -> impl Iterator<Item = u32> {
    std::iter::successors(Some(MIN_PAGE_SIZE), |size| Some(size * 2)).take_while(|size| *size <= MAX_PAGE_SIZE)
}

/// The first bytes of a file as [`read_slots`] takes them, if the size of its pages is not known. Only the places of
/// copies are read, up to those of the smallest size for which one is found: what else cannot be read does not matter.
pub(crate) fn read_head(mut read: impl FnMut(&mut [u8], u64) -> io::Result<usize>) -> io::Result<Vec<u8>> {
    let (mut head, mut end, mut failed) = (vec![0; MAX_SLOTS], 0, None);
    for page_size in page_sizes() {
        let mut is_found = false;
        for (_, at) in places(page_size) {
            let copy = head.get_mut(at..at + ROOT_COPY).unwrap_or_default();
            match read(copy, at as u64) {
                Ok(0) => {}
                Ok(n) => end = end.max(at + n),
                Err(e) => failed = Some(e),
            }
            is_found |= Root::decode(copy).map_or(true, |root| root.is_some_and(|root| root.page_size == page_size));
        }
        if is_found {
            failed = None;
            break;
        }
    }
    head.truncate(end);
    failed.map_or(Ok(head), Err)
}

/// Reads the roots out of the first bytes of a file: those of both slots, or those of [`read_head`] (fewer, if the file
/// is shorter).
///
/// A copy counts only where it must lie by the page size that it states. The smallest size for which a copy is found
/// is the store's: up to its own slot B a store has nothing but its slots.
///
/// The error distinguishes a file that was never a store, a damaged store, and a store of a newer version.
pub(crate) fn read_slots(prefix: &[u8], path: &Path) -> Result<Slots> {
    let mut newer = None;
    let mut of_size = |page_size| {
        let mut found = [None, None];
        for (slot, at) in places(page_size) {
            match Root::decode(prefix.get(at..at + ROOT_COPY).unwrap_or_default()) {
                Ok(Some(root)) if (root.page_size, root.sequence % 2) == (page_size, slot) => {
                    // A write that was torn leaves two roots in its slot. The newer one counts, so that the next write
                    // of the slot, if it is torn too, brings back no root that was passed over.
                    if let Some(place) = found.get_mut(usize::from(slot == 1))
                        && place.as_ref().is_none_or(|other: &Root| other.sequence < root.sequence)
                    {
                        *place = Some(root);
                    }
                }
                Ok(_) => {}
                Err(refusal) => newer = Some(refusal),
            }
        }
        (newer.is_some() || found.iter().any(Option::is_some)).then_some(found)
    };
    let [a, b] = page_sizes().find_map(&mut of_size).unwrap_or_default();
    if let Some(Refusal(found, supported)) = newer {
        return Err(Error::newer(path, found, supported));
    }
    let (newest, older) = match (a, b) {
        (Some(a), Some(b)) if a.store_id != b.store_id => {
            // Both are whole, but of two stores: a block was copied. It cannot be decided which is right.
            return Err(Error::corrupt(
                CorruptionKind::RootSlots,
                0,
                None,
                "two roots of one store",
                "roots of two stores",
            )
            .in_file(path));
        }
        (Some(a), Some(b)) if a.sequence > b.sequence => (a, Some(b)),
        (a, Some(b)) => (b, a),
        (Some(a), None) => (a, None),
        (None, None) => return Err(nothing_found(prefix, path)),
    };
    Ok(Slots { newest, older })
}

fn nothing_found(prefix: &[u8], path: &Path) -> Error {
    let path = path.to_path_buf();
    let is_copy = |(_, at): (u64, usize)| prefix.get(at..).is_some_and(|copy| copy.starts_with(&MAGIC));
    let has_magic = page_sizes().flat_map(places).any(is_copy);
    if has_magic {
        let expected = "a root slot with a valid checksum";
        return Error::corrupt(CorruptionKind::RootSlots, 0, None, expected, "two damaged slots").in_file(&path);
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
#[path = "root_tests.rs"]
mod tests;
