//! The root slots: four copies, of which one whole one is enough.

use crate::disk::format::{
    CHECKSUM_CRC32, FEATURES_INCOMPATIBLE, FIRST_PAGE, FORMAT_VERSION, MAGIC, MAX_PAGE_SIZE, MIN_PAGE_SIZE,
    PREAMBLE_CRC, PREAMBLE_KIND, PREAMBLE_LENGTH, PREAMBLE_SIZE, PREAMBLE_VERSION, PROTOCOL_VERSION, Ptr,
    ROOT_CHECKSUM, ROOT_COPY, ROOT_FIELDS, TREE_ROOT_SIZE, TreeRoot, get_u16, get_u32, get_u64,
};
use crate::disk::platform::Disk;
use crate::error::{Error, Result};
use crate::maintain::format::file::File;

const MAX_SEGMENTS: u32 = 64;
/// Versions beyond this one have no lock byte.
const MAX_SEQUENCE: u64 = (1 << 61) - 1;
const PAGE_SIZE: usize = 52;
const INCOMPATIBLE: usize = 56;
const STORE: usize = 80;
const SEQUENCE: usize = 96;
const CHECKPOINT_LSN: usize = 104;
const LOG_POSITION: usize = 112;
const LOG_CRC: usize = 120;
const SEGMENT_COUNT: usize = 124;
const LOG_OFFSET: usize = 128;
const DIRECTORY: usize = 136;
const PENDING: usize = 144;
const PAGE_COUNT: usize = 152;
const COMMIT_TIME: usize = 160;
const LAST_COMMIT: usize = 168;
const APPLICATION: usize = 184;
const PROTOCOL: usize = 188;
const NEXT_TABLE: usize = 192;
const SLOT: usize = 196;
const SEGMENTS: usize = 200;
const CATALOG: usize = SEGMENTS + 8 * MAX_SEGMENTS as usize;

/// What a copy of a slot says.
#[derive(Debug, Clone)]
pub(in crate::maintain) struct Root {
    pub(in crate::maintain) format_version: u32,
    pub(in crate::maintain) page_size: u32,
    pub(in crate::maintain) store: [u8; 16],
    pub(in crate::maintain) sequence: u64,
    pub(in crate::maintain) checkpoint_lsn: u64,
    pub(in crate::maintain) log_position: u64,
    pub(in crate::maintain) log_crc: u32,
    pub(in crate::maintain) log_offset: u64,
    /// First page and pages of each.
    pub(in crate::maintain) segments: Vec<(u32, u32)>,
    pub(in crate::maintain) catalog: TreeRoot,
    pub(in crate::maintain) directory: Ptr,
    pub(in crate::maintain) pending: Ptr,
    pub(in crate::maintain) page_count: u64,
    pub(in crate::maintain) next_table: u32,
    pub(in crate::maintain) commit_time: u64,
    /// LSN of the newest transaction in the tree; the checkpoint's may be that of a mark.
    pub(in crate::maintain) last_commit: u64,
    pub(in crate::maintain) application: u32,
    /// Where this copy stands.
    pub(in crate::maintain) offset: u64,
}

pub(in crate::maintain) enum Content {
    Whole(Box<Root>),
    /// Never written.
    Zero,
    Broken(String),
}

/// Both slots as they were at one moment.
pub(in crate::maintain) struct Slots {
    /// Where each copy stands, and what it says.
    pub(in crate::maintain) copies: Vec<(u64, Content)>,
}

impl Slots {
    pub(in crate::maintain) fn read(disk: &dyn Disk) -> Result<Slots> {
        let page_size = page_size(disk)?;
        let mut bytes = read_slots(disk, page_size)?;
        // A root that is being written just now looks torn: wait until it stands still.
        for _ in 0..10 {
            let again = read_slots(disk, page_size)?;
            if again == bytes {
                break;
            }
            bytes = again;
        }
        let mut copies = Vec::new();
        for offset in places(page_size) {
            let content = match parse(disk, copy_at(&bytes, offset), offset, page_size)? {
                Content::Whole(root) if root.page_size != page_size => {
                    Content::Broken(format!("it states a page size of {}", root.page_size))
                }
                content => content,
            };
            copies.push((offset, content));
        }
        Ok(Slots { copies })
    }

    /// The whole copy with the highest sequence.
    pub(in crate::maintain) fn newest(&self) -> Option<Root> {
        self.copies
            .iter()
            .filter_map(|(_, content)| match content {
                Content::Whole(root) => Some(root.as_ref()),
                _ => None,
            })
            .max_by_key(|root| root.sequence)
            .cloned()
    }
}

impl Root {
    /// The file as this root describes it, of which so many pages are looked at.
    pub(in crate::maintain) fn file<'d>(&self, disk: &'d dyn Disk, pages: u64) -> File<'d> {
        File {
            disk,
            page_size: self.page_size,
            store_tag: get_u32(&self.store, 0),
            pages: u32::try_from(pages).unwrap_or(u32::MAX),
            version: self.sequence,
        }
    }

    /// Whether no newer one is in the slots by now.
    pub(in crate::maintain) fn is_newest(&self, disk: &dyn Disk) -> Result<bool> {
        Ok(Slots::read(disk)?.newest().is_some_and(|now| now.sequence == self.sequence))
    }
}

fn not_a_store(disk: &dyn Disk, found: &str) -> Error {
    Error::NotAStore { path: disk.path().to_path_buf(), found: found.to_owned() }
}

/// Where the copies lie in a store with such pages: two of slot A, two of slot B.
fn places(page_size: u32) -> [u64; 4] {
    let (block, half) = (u64::from(page_size), u64::from(page_size / 2));
    [0, half, block, block + half]
}

fn page_sizes() -> impl Iterator<Item = u32> {
    (MIN_PAGE_SIZE.ilog2()..=MAX_PAGE_SIZE.ilog2()).map(|bits| 1 << bits)
}

/// The size of the store's pages: the smallest that a whole copy states which lies where it puts it.
fn page_size(disk: &dyn Disk) -> Result<u32> {
    let (mut any, mut failed) = (false, None);
    for size in page_sizes() {
        for offset in places(size) {
            // What cannot be read may be a page of a store with smaller ones.
            let copy = read_at(disk, offset, ROOT_COPY).unwrap_or_else(|error| {
                failed = Some(error);
                Vec::new()
            });
            any |= copy.starts_with(&MAGIC);
            match parse(disk, &copy, offset, size)? {
                Content::Whole(root) if root.page_size == size => return Ok(size),
                _ => {}
            }
        }
    }
    if any {
        return Ok(MIN_PAGE_SIZE);
    }
    failed.map_or(Ok(()), Err)?;
    let start = read_slots(disk, MIN_PAGE_SIZE)?;
    let found = match start.as_slice() {
        [] => "an empty file",
        start if start.iter().all(|byte| *byte == 0) => "it starts with zeros",
        _ => "it starts with other bytes",
    };
    Err(not_a_store(disk, found))
}

/// Both slots of a store with such pages, or what the file has of them.
fn read_slots(disk: &dyn Disk, page_size: u32) -> Result<Vec<u8>> {
    read_at(disk, 0, 2 * page_size as usize)
}

fn read_at(disk: &dyn Disk, offset: u64, len: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let mut len = 0;
    while let Some(rest) = bytes.get_mut(len..).filter(|rest| !rest.is_empty()) {
        let read = disk.read_at(rest, offset + len as u64).map_err(|source| Error::io("read", disk.path(), source))?;
        if read == 0 {
            break;
        }
        len += read;
    }
    bytes.truncate(len);
    Ok(bytes)
}

/// The bytes of a copy, as far as the file has them.
fn copy_at(slots: &[u8], offset: u64) -> &[u8] {
    let at = usize::try_from(offset).unwrap_or(usize::MAX).min(slots.len());
    slots.get(at..(at + ROOT_COPY).min(slots.len())).unwrap_or_default()
}

fn parse(disk: &dyn Disk, copy: &[u8], offset: u64, page_size: u32) -> Result<Content> {
    let broken = |why: &str| Ok(Content::Broken(why.to_owned()));
    let newer = |found: String, supported: String| Err(Error::newer(disk.path(), found, supported));
    if copy.iter().all(|byte| *byte == 0) {
        return Ok(Content::Zero);
    }
    if !copy.starts_with(&MAGIC) {
        return broken("the magic bytes are missing");
    }
    if copy.len() < ROOT_COPY {
        return broken("it is cut off");
    }
    if get_u32(copy, PREAMBLE_CRC) != crc32fast::hash(copy.get(..PREAMBLE_CRC).unwrap_or_default()) {
        return broken("its preamble does not match its CRC");
    }
    let version = get_u32(copy, PREAMBLE_VERSION);
    if version > FORMAT_VERSION {
        return newer(format!("format version {version}"), format!("format version {FORMAT_VERSION}"));
    }
    let byte = |at| copy.get(at).copied().unwrap_or(0);
    let (length, kind, size) = (get_u16(copy, PREAMBLE_LENGTH), byte(PREAMBLE_KIND), byte(PREAMBLE_SIZE));
    if (usize::from(length), kind, size) != (ROOT_COPY, CHECKSUM_CRC32, 4) {
        return newer(format!("roots of {length} bytes, checksums of kind {kind}, {size} bytes"), "others".to_owned());
    }
    if version < FORMAT_VERSION {
        return Ok(Content::Broken(format!("format version {version}")));
    }
    let (checksum, rest) = copy.get(ROOT_CHECKSUM..).unwrap_or_default().split_at(ROOT_FIELDS - ROOT_CHECKSUM);
    let (crc, zeros) = checksum.split_at(4);
    if get_u32(crc, 0) != crc32fast::hash(rest) || zeros.iter().any(|byte| *byte != 0) {
        return broken("its bytes do not match its CRC");
    }
    let unknown = get_u64(copy, INCOMPATIBLE) & !FEATURES_INCOMPATIBLE;
    if unknown != 0 {
        return newer(format!("the features {unknown:#x}"), "none of these".to_owned());
    }
    let protocol = get_u32(copy, PROTOCOL);
    if protocol != PROTOCOL_VERSION {
        let found = format!("locks and a sidecar of protocol {protocol}");
        return newer(found, format!("protocol {PROTOCOL_VERSION}"));
    }
    Ok(match fields(copy, offset, page_size) {
        Ok(root) => Content::Whole(Box::new(root)),
        Err(why) => Content::Broken(why),
    })
}

/// The fields of a copy whose CRC is right, as far as they can be judged alone.
fn fields(copy: &[u8], offset: u64, page_size: u32) -> Result<Root, String> {
    let segment_count = get_u32(copy, SEGMENT_COUNT);
    if segment_count > MAX_SEGMENTS {
        return Err(format!("{segment_count} log segments"));
    }
    let segments_end = SEGMENTS + 8 * segment_count as usize;
    let tree_root = copy.get(CATALOG..CATALOG + TREE_ROOT_SIZE).and_then(TreeRoot::decode).unwrap_or_default();
    let root = Root {
        format_version: get_u32(copy, PREAMBLE_VERSION),
        page_size: get_u32(copy, PAGE_SIZE),
        store: copy.get(STORE..).and_then(|b| b.first_chunk::<16>()).copied().unwrap_or_default(),
        sequence: get_u64(copy, SEQUENCE),
        checkpoint_lsn: get_u64(copy, CHECKPOINT_LSN),
        log_position: get_u64(copy, LOG_POSITION),
        log_crc: get_u32(copy, LOG_CRC),
        log_offset: get_u64(copy, LOG_OFFSET),
        segments: (SEGMENTS..segments_end).step_by(8).map(|at| (get_u32(copy, at), get_u32(copy, at + 4))).collect(),
        catalog: tree_root,
        directory: Ptr { page: get_u32(copy, DIRECTORY), crc: get_u32(copy, DIRECTORY + 4) },
        pending: Ptr { page: get_u32(copy, PENDING), crc: get_u32(copy, PENDING + 4) },
        page_count: get_u64(copy, PAGE_COUNT),
        next_table: get_u32(copy, NEXT_TABLE),
        commit_time: get_u64(copy, COMMIT_TIME),
        last_commit: get_u64(copy, LAST_COMMIT),
        application: get_u32(copy, APPLICATION),
        offset,
    };
    let slot = offset / u64::from(page_size);
    if !root.page_size.is_power_of_two() || !(MIN_PAGE_SIZE..=MAX_PAGE_SIZE).contains(&root.page_size) {
        return Err(format!("a page size of {}", root.page_size));
    }
    if root.sequence == 0 || root.sequence > MAX_SEQUENCE || root.sequence % 2 != slot {
        return Err(format!("root {} in slot {slot}", root.sequence));
    }
    if u64::from(get_u32(copy, SLOT)) != slot {
        return Err(format!("it says it is slot {}", get_u32(copy, SLOT)));
    }
    if root.page_count < u64::from(FIRST_PAGE) || root.page_count > u64::from(u32::MAX) {
        return Err(format!("{} pages", root.page_count));
    }
    let rest = [segments_end..CATALOG, CATALOG + TREE_ROOT_SIZE..ROOT_COPY];
    if rest.into_iter().any(|rest| copy.get(rest).is_none_or(|rest| rest.iter().any(|byte| *byte != 0))) {
        return Err("reserved bytes are not zero".to_owned());
    }
    Ok(root)
}
