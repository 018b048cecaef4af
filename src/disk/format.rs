//! The constants of the file format: offsets, sizes, kinds and limits. `docs/FILE_FORMAT.md` explains them with
//! the bytes of a real store. Everything that reads the file (the engine, the checker, the repair) shares these
//! definitions and nothing else.

pub(crate) use super::extents::{
    CHUNK, Extent, Extents, MAX_EXTENTS, MAX_OVERFLOW_SIZE, Overflow, Shape, pages_per_chunk,
};

// The preamble: the first bytes of each copy of a root. No later version changes it, so every version tells a newer
// store from a damaged one.
/// First bytes of each copy of a root.
pub(crate) const MAGIC: [u8; 8] = *b"memstone";
/// The newest format version this code reads, and the one it writes.
pub(crate) const FORMAT_VERSION: u32 = 2;
/// `u32`: the format version.
pub(crate) const PREAMBLE_VERSION: usize = 8;
/// `u16`: bytes of the copy.
pub(crate) const PREAMBLE_LENGTH: usize = 12;
/// `u8`: the kind of the copy's checksum.
pub(crate) const PREAMBLE_KIND: usize = 14;
/// `u8`: its bytes.
pub(crate) const PREAMBLE_SIZE: usize = 15;
/// `u32`: CRC-32 of the bytes before it.
pub(crate) const PREAMBLE_CRC: usize = 16;
/// Where the copy's checksum lies, with zeros after it up to the fields that it covers.
pub(crate) const ROOT_CHECKSUM: usize = 20;
/// Where the fields of the root start; the room for the checksum ends here.
pub(crate) const ROOT_FIELDS: usize = 52;
/// Bytes of a copy of a root.
pub(crate) const ROOT_COPY: usize = 2048;
/// The kind of checksum of this version: CRC-32 (IEEE), of four bytes.
pub(crate) const CHECKSUM_CRC32: u8 = 1;

// Feature flags that this code knows: none yet.
/// A reader that does not know one of these refuses the store.
pub(crate) const FEATURES_INCOMPATIBLE: u64 = 0;
/// A reader that does not know one of these may read the store, and not write it.
pub(crate) const FEATURES_READ_ONLY: u64 = 0;
/// The version of the lock bytes and of the sidecar: processes with different ones cannot share a store.
pub(crate) const PROTOCOL_VERSION: u32 = 1;

/// Where the epoch of the sidecar lies, in a block of its own after the two root slots: writing it touches no root.
pub(crate) const fn epoch_at(page_size: u32) -> u64 {
    2 * page_size as u64
}

/// Where the durability note lies, in the same block but in another sector: a torn write of the epoch leaves it whole.
pub(crate) const fn durable_note_at(page_size: u32) -> u64 {
    epoch_at(page_size) + page_size as u64 / 2
}

/// The first page: the blocks before it, each of a page's size, are the two root slots and that of the epoch.
pub(crate) const FIRST_PAGE: u32 = 3;

/// Smallest page size.
pub(crate) const MIN_PAGE_SIZE: u32 = 4096;
/// Largest page size.
pub(crate) const MAX_PAGE_SIZE: u32 = 65536;
/// Page size of a new store.
pub(crate) const DEFAULT_PAGE_SIZE: u32 = 4096;
/// A tree node is a run of whole pages no longer than this, so that offsets in it fit 16 bits.
pub(crate) const MAX_NODE_SIZE: usize = 65536;

/// Longest key in bytes.
///
/// ```
/// # let store = memstone::Store::in_memory()?;
/// use memstone::{Error, MAX_KEY_SIZE};
/// let put = |size| store.write(|tx| tx.raw("t")?.put(&vec![7; size], b""));
/// put(MAX_KEY_SIZE)?;
/// assert!(matches!(put(MAX_KEY_SIZE + 1), Err(Error::TooLarge { .. })));
/// # Ok::<(), memstone::Error>(())
/// ```
pub const MAX_KEY_SIZE: usize = 8192;
/// Longest value in bytes.
///
/// ```
/// # let store = memstone::Store::in_memory()?;
/// use memstone::{Error, LimitKind, MAX_VALUE_SIZE};
/// let refused = store.write(|tx| tx.raw("t")?.writer(b"k", MAX_VALUE_SIZE + 1).map(drop));
/// assert!(matches!(refused, Err(Error::TooLarge { limit: MAX_VALUE_SIZE, .. })));
/// # Ok::<(), memstone::Error>(())
/// ```
pub const MAX_VALUE_SIZE: u64 = 1 << 30;
/// Longest payload of a log frame in bytes: offsets in a whole frame fit 32 bits, on any host.
pub(crate) const MAX_FRAME_PAYLOAD: u32 = 1 << 30;
/// Longest table name in bytes.
///
/// ```
/// # let store = memstone::Store::in_memory()?;
/// use memstone::{Error, MAX_NAME_SIZE};
/// let create = |size| store.write(|tx| tx.raw(&"t".repeat(size)).map(drop));
/// create(MAX_NAME_SIZE)?;
/// assert!(matches!(create(MAX_NAME_SIZE + 1), Err(Error::TooLarge { .. })));
/// # Ok::<(), memstone::Error>(())
/// ```
pub const MAX_NAME_SIZE: usize = 1024;

/// A tree is never higher than this; a deeper one is damage.
pub(crate) const MAX_LEVEL: u8 = 40;

// The header that starts every page run. All integers are little-endian.
/// CRC-32 of all bytes of the run after this field; of a long value, of the rest of its head.
pub(crate) const PAGE_CRC: usize = 0;
/// `u32`: number of the run's first page.
pub(crate) const PAGE_NUMBER: usize = 4;
/// `u32`: first four bytes of the store id.
pub(crate) const PAGE_STORE: usize = 8;
/// `u8`: one of the `KIND_` constants.
pub(crate) const PAGE_KIND: usize = 12;
/// `u8`: 0 for leaves, one more than its children for a branch, 0 for other kinds.
pub(crate) const PAGE_LEVEL: usize = 13;
/// `u16`: of a leaf, one of the `LAYOUT_` constants; of any other run, zero.
pub(crate) const PAGE_LAYOUT: usize = 14;
/// `u64`: sequence of the root that this page was written for.
pub(crate) const PAGE_VERSION: usize = 16;
/// `u32`: table id.
pub(crate) const PAGE_TABLE: usize = 24;
/// `u32`: pages in this run; of a long value, in its first extent.
pub(crate) const PAGE_RUN: usize = 28;
/// `u64`: for long values and space runs the payload's length in bytes; nodes keep
/// `u16 count, u16 prefix length, u32 end of the last entry` here.
pub(crate) const PAGE_PAYLOAD_LEN: usize = 32;
/// Size of the header; the payload, or the node's arrays, start here.
pub(crate) const PAGE_HEADER: usize = 40;

/// Node header: `u16` number of entries (leaf) or of children (branch).
pub(crate) const NODE_COUNT: usize = 32;
/// Node header: `u16` bytes that all its keys share at their start.
pub(crate) const NODE_PREFIX: usize = 34;
/// Node header: `u32` offset just after the last used byte.
pub(crate) const NODE_END: usize = 36;

/// Leaf: each entry has an offset, and its own lengths.
pub(crate) const LAYOUT_VARIED: u16 = 0;
/// Leaf: all suffixes have one length, and all values one length and one kind, which are noted once.
pub(crate) const LAYOUT_UNIFORM: u16 = 1;
/// What a leaf notes instead of the offsets if its entries are alike: `u16` length of a suffix, `u32` what a varied
/// entry has before its value.
pub(crate) const UNIFORM_SIZE: usize = 6;

/// Whether a run of this kind may say so of its layout.
pub(crate) fn is_layout(layout: u16, kind: u8) -> bool {
    layout == LAYOUT_VARIED || (layout == LAYOUT_UNIFORM && kind == KIND_LEAF)
}

/// A leaf: keys and values.
pub(crate) const KIND_LEAF: u8 = 1;
/// A branch: separators and children.
pub(crate) const KIND_BRANCH: u8 = 2;
/// A long value.
pub(crate) const KIND_OVERFLOW: u8 = 3;
/// One region of the free map.
pub(crate) const KIND_FREE_REGION: u8 = 4;
/// The directory of the free map's regions.
pub(crate) const KIND_FREE_DIRECTORY: u8 = 5;
/// The list of pages that stay until snapshots end: the newest groups, and pointers to its parts.
pub(crate) const KIND_PENDING: u8 = 6;
/// A part of that list.
pub(crate) const KIND_PENDING_PART: u8 = 7;

/// Table id of the catalog tree, which maps a table id to its tree.
pub(crate) const TABLE_CATALOG: u32 = 0;
/// Table id of the names tree, which maps a table's name to its id and types.
pub(crate) const TABLE_NAMES: u32 = 1;
/// Table id borne by pages of the free map, the pending list.
pub(crate) const TABLE_SPACE: u32 = 2;
/// Table id of the tree that maps a named snapshot's name to its state.
pub(crate) const TABLE_SNAPSHOTS: u32 = 3;
/// Table id of the store's own settings, by name.
pub(crate) const TABLE_SETTINGS: u32 = 4;
/// Table id of the journal: what the transactions in the tree have changed, as far back as its bound reaches.
pub(crate) const TABLE_JOURNAL: u32 = 5;
/// The store's own tables that the catalog may lead to.
pub(crate) const OWN_TABLES: [u32; 4] = [TABLE_NAMES, TABLE_SNAPSHOTS, TABLE_SETTINGS, TABLE_JOURNAL];
/// Key of the row that says what the journal covers; it comes after all others.
pub(crate) const JOURNAL_COVERS: &[u8] = &[0xff];
/// Bytes of a record in one row of the journal; only the last row of a record may have fewer.
pub(crate) const JOURNAL_PART: usize = 2048;
/// The row of the settings table that says how many bytes the journal may have.
pub(crate) const SETTING_JOURNAL: &[u8] = b"journal";
/// The rows of the settings table that hold cursors begin with this; the cursor's name follows.
pub(crate) const SETTING_CURSOR: &[u8] = b"cursor ";
/// The row of the settings table that describes the archive of the log.
pub(crate) const SETTING_ARCHIVE: &[u8] = b"archive";
/// The row of the settings table with the user's own version of the store.
pub(crate) const SETTING_USER_VERSION: &[u8] = b"user version";
/// The flags of a table that this code knows: none yet. A table with another one is refused.
pub(crate) const TABLE_FLAGS: u32 = 0;
/// Ids of user tables start here. Ids are never used twice.
pub(crate) const FIRST_USER_TABLE: u32 = 16;

/// The lowest bits of the word before a value in a leaf say what the bytes there are.
pub(crate) const VALUE_KIND_BITS: u32 = 2;
/// Kind of a value: the bytes are the value.
pub(crate) const VALUE_INLINE: usize = 0;
/// Kind of a value: the bytes are the pointer to its overflow run.
pub(crate) const VALUE_LONG: usize = 1;

/// A pointer: the first page of a run and the CRC found in its header. Page 0 is no page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub(crate) struct Ptr {
    pub(crate) page: u32,
    pub(crate) crc: u32,
}

impl Ptr {
    pub(crate) const NONE: Ptr = Ptr { page: 0, crc: 0 };

    pub(crate) fn is_none(self) -> bool {
        self.page == 0
    }

    #[inline]
    pub(crate) fn get(bytes: &[u8], at: usize) -> Ptr {
        Ptr { page: get_u32(bytes, at), crc: get_u32(bytes, at + 4) }
    }

    pub(crate) fn put(self, out: &mut [u8], at: usize) {
        put_u32(out, at, self.page);
        put_u32(out, at + 4, self.crc);
    }
}

/// A child of a branch, and what lies below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Child {
    pub(crate) ptr: Ptr,
    /// How many entries the leaves below it have.
    pub(crate) count: u64,
    /// Just after the last page of the child, of all nodes below it and of all their long values.
    pub(crate) end: u32,
}

/// Encoded size of a [`Child`]: `u32 page, u32 crc, u48 count, u32 end`.
pub(crate) const CHILD_SIZE: usize = 18;

impl Child {
    pub(crate) fn encode(self) -> [u8; CHILD_SIZE] {
        let mut out = [0; CHILD_SIZE];
        self.ptr.put(&mut out, 0);
        put_bytes(&mut out, 8, self.count.to_le_bytes().first_chunk::<6>().map_or(&[], |low| low));
        put_u32(&mut out, 14, self.end);
        out
    }

    /// Bytes that are missing read as zero.
    pub(crate) fn decode(bytes: &[u8]) -> Child {
        let count = u64::from(get_u32(bytes, 8)) | u64::from(get_u16(bytes, 12)) << 32;
        Child { ptr: Ptr::get(bytes, 0), count, end: get_u32(bytes, 14) }
    }
}

/// One table's tree: its root node and what it holds. An empty tree has no root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct TreeRoot {
    pub(crate) ptr: Ptr,
    /// Entries.
    pub(crate) count: u64,
    /// Pages of its nodes and of its long values.
    pub(crate) pages: u64,
    /// Bytes of the keys and values, as the user has given them.
    pub(crate) bytes: u64,
    /// Just after the last of its pages in the file.
    pub(crate) end: u32,
}

/// Encoded size of a [`TreeRoot`]: `u32 page, u32 crc, u64 count, u64 pages, u64 bytes, u32 end`.
pub(crate) const TREE_ROOT_SIZE: usize = 36;

impl TreeRoot {
    pub(crate) fn encode(self) -> [u8; TREE_ROOT_SIZE] {
        let mut out = [0; TREE_ROOT_SIZE];
        self.ptr.put(&mut out, 0);
        put_u64(&mut out, 8, self.count);
        put_u64(&mut out, 16, self.pages);
        put_u64(&mut out, 24, self.bytes);
        put_u32(&mut out, 32, self.end);
        out
    }

    /// The tree at the front of a row; what follows it is of a newer program.
    pub(crate) fn of_row(row: &[u8]) -> Option<TreeRoot> {
        row.get(..TREE_ROOT_SIZE).and_then(TreeRoot::decode)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<TreeRoot> {
        let [count, pages, bytes_of_rows] = [8, 16, 24].map(|at| get_u64(bytes, at));
        (bytes.len() == TREE_ROOT_SIZE).then(|| TreeRoot {
            ptr: Ptr::get(bytes, 0),
            count,
            pages,
            bytes: bytes_of_rows,
            end: get_u32(bytes, 32),
        })
    }
}

// Reading integers out of a slice. Bytes beyond the end read as zero: offsets from disk are checked by their
// users, and a mistake there must not become a panic.

#[inline]
pub(crate) fn get_u16(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(|b| b.first_chunk::<2>()).map_or(0, |b| u16::from_le_bytes(*b))
}

#[inline]
pub(crate) fn get_u32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|b| b.first_chunk::<4>()).map_or(0, |b| u32::from_le_bytes(*b))
}

/// A LEB128 number below 2^21, and where it ends. The number of a longer sequence is wrong, but not its end.
#[inline]
pub(crate) fn get_varint(bytes: &[u8], at: usize) -> (usize, usize) {
    let byte = |at: usize| usize::from(bytes.get(at).copied().unwrap_or(0));
    let first = byte(at);
    if first < 0x80 {
        return (first, at + 1);
    }
    let second = byte(at + 1);
    let low = (first & 0x7f) | (second & 0x7f) << 7;
    if second < 0x80 { (low, at + 2) } else { (low | (byte(at + 2) & 0x7f) << 14, at + 3) }
}

/// Appends a number below 2^21 as LEB128.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    debug_assert!(value < 1 << 21);
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap_or(0));
}

pub(crate) fn get_u64(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|b| b.first_chunk::<8>()).map_or(0, |b| u64::from_le_bytes(*b))
}

#[inline]
pub(crate) fn put_bytes(out: &mut [u8], at: usize, value: &[u8]) {
    debug_assert!(at + value.len() <= out.len());
    if let Some(place) = out.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

pub(crate) fn put_u16(out: &mut [u8], at: usize, value: u16) {
    put_bytes(out, at, &value.to_le_bytes());
}

pub(crate) fn put_u32(out: &mut [u8], at: usize, value: u32) {
    put_bytes(out, at, &value.to_le_bytes());
}

pub(crate) fn put_u64(out: &mut [u8], at: usize, value: u64) {
    put_bytes(out, at, &value.to_le_bytes());
}

/// Appends bytes behind their length, which is a `u16`; those beyond its range are checked for before they get here.
pub(crate) fn put_sized(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(bytes.get(..usize::from(len)).unwrap_or_default());
}

/// Takes bytes off the front; `None`: there are fewer.
pub(crate) fn take<'b>(rest: &mut &'b [u8], len: usize) -> Option<&'b [u8]> {
    let (taken, left) = rest.split_at_checked(len)?;
    *rest = left;
    Some(taken)
}

/// Takes what [`put_sized`] has appended.
pub(crate) fn take_sized<'b>(rest: &mut &'b [u8]) -> Option<&'b [u8]> {
    let len = get_u16(take(rest, 2)?, 0);
    take(rest, usize::from(len))
}

/// Takes one thing after the other by `read`, to the end of the bytes, or to where they make no sense: the last item is
/// `None` then.
pub(crate) fn take_all<'b, T>(
    mut rest: &'b [u8],
    read: impl Fn(&mut &'b [u8]) -> Option<T>,
) -> impl Iterator<Item = Option<T>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let taken = read(&mut rest);
        if taken.is_none() {
            rest = &[];
        }
        Some(taken)
    })
}
