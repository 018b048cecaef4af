//! The root slots: four copies, of which one whole one is enough.

use crate::disk::format::{
    FORMAT_VERSION, HEAD_SIZE, MAGIC, MAX_PAGE_SIZE, MIN_PAGE_SIZE, Ptr, SLOT_SIZE, TREE_ROOT_SIZE, TreeRoot, get_u32,
    get_u64,
};
use crate::disk::platform::Disk;
use crate::error::{Error, Result};

/// Bytes of one copy; a slot holds two.
const COPY: usize = SLOT_SIZE / 2;
const MAX_SEGMENTS: u32 = 64;
/// Versions beyond this one have no lock byte.
const MAX_SEQUENCE: u64 = (1 << 61) - 1;
const CRC: usize = 8;
const FORMAT: usize = 12;
const FEATURES: usize = 16;
const PAGE_SIZE: usize = 24;
const SLOT: usize = 28;
const STORE: usize = 32;
const SEQUENCE: usize = 48;
const CHECKPOINT_LSN: usize = 56;
const LOG_POSITION: usize = 64;
const LOG_CRC: usize = 72;
const SEGMENT_COUNT: usize = 76;
const CATALOG: usize = 80;
const DIRECTORY: usize = 96;
const PENDING: usize = 104;
const PAGE_COUNT: usize = 112;
const NEXT_TABLE: usize = 120;
const RESERVED: usize = 124;
const LOG_OFFSET: usize = 128;
const COMMIT_TIME: usize = 136;
const LAST_COMMIT: usize = 144;
const SEGMENTS: usize = 152;

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
        let mut bytes = read_prefix(disk)?;
        // A root that is being written just now looks torn: wait until it stands still.
        for _ in 0..10 {
            let again = read_prefix(disk)?;
            if again == bytes {
                break;
            }
            bytes = again;
        }
        if bytes.is_empty() {
            return Err(not_a_store(disk, "an empty file"));
        }
        if !bytes.chunks(COPY).any(|copy| copy.starts_with(&MAGIC)) {
            let found = if bytes.iter().all(|byte| *byte == 0) { "zeros" } else { "other bytes" };
            return Err(not_a_store(disk, &format!("it starts with {found}")));
        }
        bytes.resize(2 * SLOT_SIZE, 0);
        let mut copies = Vec::new();
        for (offset, copy) in (0u64..).step_by(COPY).zip(bytes.chunks_exact(COPY)) {
            copies.push((offset, parse(disk, copy, offset)?));
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

fn not_a_store(disk: &dyn Disk, found: &str) -> Error {
    Error::NotAStore { path: disk.path().to_path_buf(), found: found.to_owned() }
}

fn read_prefix(disk: &dyn Disk) -> Result<Vec<u8>> {
    let mut bytes = vec![0; 2 * SLOT_SIZE];
    let mut len = 0;
    while let Some(rest) = bytes.get_mut(len..).filter(|rest| !rest.is_empty()) {
        let read = disk.read_at(rest, len as u64).map_err(|source| Error::io("read", disk.path(), source))?;
        if read == 0 {
            break;
        }
        len += read;
    }
    bytes.truncate(len);
    Ok(bytes)
}

fn parse(disk: &dyn Disk, copy: &[u8], offset: u64) -> Result<Content> {
    if copy.iter().all(|byte| *byte == 0) {
        return Ok(Content::Zero);
    }
    if !copy.starts_with(&MAGIC) {
        return Ok(Content::Broken("the magic bytes are missing".to_owned()));
    }
    if get_u32(copy, CRC) != crc32fast::hash(copy.get(FORMAT..).unwrap_or_default()) {
        return Ok(Content::Broken("its bytes do not match its CRC".to_owned()));
    }
    let found = get_u32(copy, FORMAT);
    if found > FORMAT_VERSION || get_u64(copy, FEATURES) != 0 {
        return Err(Error::Format { path: disk.path().to_path_buf(), found, supported: FORMAT_VERSION });
    }
    Ok(match fields(copy, offset) {
        Ok(root) => Content::Whole(Box::new(root)),
        Err(why) => Content::Broken(why),
    })
}

/// The fields of a copy whose CRC is right, as far as they can be judged alone.
fn fields(copy: &[u8], offset: u64) -> Result<Root, String> {
    let segment_count = get_u32(copy, SEGMENT_COUNT);
    if segment_count > MAX_SEGMENTS {
        return Err(format!("{segment_count} log segments"));
    }
    let segments_end = SEGMENTS + 8 * segment_count as usize;
    let tree_root = copy.get(CATALOG..CATALOG + TREE_ROOT_SIZE).and_then(TreeRoot::decode).unwrap_or_default();
    let root = Root {
        format_version: get_u32(copy, FORMAT),
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
        offset,
    };
    let slot = offset / SLOT_SIZE as u64;
    if root.format_version == 0 {
        return Err("format version 0".to_owned());
    }
    if !root.page_size.is_power_of_two() || !(MIN_PAGE_SIZE..=MAX_PAGE_SIZE).contains(&root.page_size) {
        return Err(format!("a page size of {}", root.page_size));
    }
    if root.sequence == 0 || root.sequence > MAX_SEQUENCE || root.sequence % 2 != slot {
        return Err(format!("root {} in slot {slot}", root.sequence));
    }
    if u64::from(get_u32(copy, SLOT)) != slot {
        return Err(format!("it says it is slot {}", get_u32(copy, SLOT)));
    }
    if root.page_count < HEAD_SIZE.div_ceil(u64::from(root.page_size)) || root.page_count > u64::from(u32::MAX) {
        return Err(format!("{} pages", root.page_count));
    }
    let rest = copy.get(segments_end..).unwrap_or_default();
    if get_u32(copy, RESERVED) != 0 || rest.iter().any(|byte| *byte != 0) {
        return Err("reserved bytes are not zero".to_owned());
    }
    Ok(root)
}
