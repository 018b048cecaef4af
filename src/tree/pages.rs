//! Reading pages, verified on first touch.
//!
//! A pointer holds the CRC of its target. [`Verified`] remembers, for each page, the CRC under which this process
//! last verified it. So a page is trusted only as long as the pointer that leads to it expects the verified
//! content: a page that was reused has another CRC, and is verified again.

use super::node::Node;
use crate::bytes::Bytes;
use crate::disk::format::{
    FIRST_PAGE, KIND_BRANCH, KIND_FREE_DIRECTORY, KIND_FREE_REGION, KIND_LEAF, KIND_OVERFLOW, KIND_PENDING,
    KIND_PENDING_PART, MAX_NODE_SIZE, PAGE_CRC, PAGE_KIND, PAGE_LEVEL, PAGE_NUMBER, PAGE_RUN, PAGE_STORE, PAGE_TABLE,
    Ptr, get_u32,
};
use crate::disk::platform::{Disk, Mapping};
use crate::error::{CorruptionKind, Error, Result};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Pages per lazily allocated chunk of [`Verified`].
const CHUNK: usize = 4096;
/// Bytes of pages kept in private memory where there is no map, over all shards.
const CACHE_SIZE: usize = 16 << 20;
const CACHE_SHARDS: usize = 16;
/// Pages this close to each other are read together, with what lies between.
const NEAR_PAGES: u32 = 16;
/// Pages of memory are at least this large on every host.
const SMALLEST_MEMORY_PAGE: usize = 4096;

type Chunk = OnceLock<Box<[AtomicU32]>>;

/// What one process has verified of one store.
pub(crate) struct Verified {
    /// Bucket `b` has `2^b` chunks, so that the first level is small and nothing ever moves.
    buckets: [OnceLock<Box<[Chunk]>>; 21],
    cache: [Mutex<Cache>; CACHE_SHARDS],
    /// Whether nothing is remembered.
    forgets: bool,
    /// How many chunks of long values were verified.
    #[cfg(test)]
    pub(crate) chunks: AtomicU64,
}

/// Verified runs in private memory; the oldest is evicted first.
#[derive(Default)]
struct Cache {
    runs: HashMap<Ptr, Arc<[u8]>>,
    order: VecDeque<Ptr>,
    size: usize,
}

impl Verified {
    pub(crate) fn new() -> Verified {
        Verified {
            buckets: Default::default(),
            cache: Default::default(),
            forgets: false,
            #[cfg(test)]
            chunks: AtomicU64::new(0),
        }
    }

    /// For one pass over all pages: each is verified whenever it is read, and nothing is remembered of it.
    pub(crate) fn forgetting() -> Verified {
        Verified { forgets: true, ..Verified::new() }
    }

    /// Bucket, chunk in it, place in that.
    #[inline]
    fn place(page: u32) -> (usize, usize, usize) {
        let page = page as usize;
        let chunk = page / CHUNK + 1;
        let bucket = chunk.ilog2();
        (bucket as usize, chunk - (1 << bucket), page % CHUNK)
    }

    /// The CRC under which the page was last verified, 0 if never.
    #[inline]
    fn get(&self, page: u32) -> u32 {
        let (bucket, chunk, at) = Self::place(page);
        self.buckets
            .get(bucket)
            .and_then(OnceLock::get)
            .and_then(|chunks| chunks.get(chunk))
            .and_then(OnceLock::get)
            .and_then(|words| words.get(at))
            .map_or(0, |word| word.load(Ordering::Relaxed))
    }

    fn set(&self, page: u32, crc: u32) {
        if self.forgets {
            return;
        }
        let (bucket, chunk, at) = Self::place(page);
        let Some(chunks) = self.buckets.get(bucket) else { return };
        let chunks = chunks.get_or_init(|| (0..1usize << bucket).map(|_| OnceLock::new()).collect());
        let words = chunks.get(chunk).map(|c| c.get_or_init(|| (0..CHUNK).map(|_| AtomicU32::new(0)).collect()));
        if let Some(word) = words.and_then(|w| w.get(at)) {
            word.store(crc, Ordering::Relaxed);
        }
    }

    fn shard(&self, ptr: Ptr) -> Option<&Mutex<Cache>> {
        // (The chunks of a long value begin at pages that lie equally far apart.)
        let page = ptr.page as usize;
        self.cache.get((page ^ page >> 4 ^ page >> 8) % CACHE_SHARDS)
    }

    fn cached(&self, ptr: Ptr) -> Option<Arc<[u8]>> {
        self.shard(ptr)?.lock().unwrap_or_else(PoisonError::into_inner).runs.get(&ptr).cloned()
    }

    fn cache(&self, ptr: Ptr, run: &Arc<[u8]>) {
        let Some(shard) = self.shard(ptr) else { return };
        if self.forgets || run.len() > CACHE_SIZE / CACHE_SHARDS / 4 {
            return;
        }
        let mut cache = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.runs.insert(ptr, Arc::clone(run)).is_none() {
            cache.order.push_back(ptr);
            cache.size += run.len();
        }
        while cache.size > CACHE_SIZE / CACHE_SHARDS {
            let Some(old) = cache.order.pop_front() else { break };
            let freed = cache.runs.remove(&old).map_or(0, |run| run.len());
            cache.size -= freed;
        }
    }
}

/// Reads the pages of one tree version: through the map as far as it reaches, otherwise into private memory.
pub(crate) struct Pages {
    disk: Arc<dyn Disk>,
    pub(super) map: Option<Arc<dyn Mapping>>,
    verified: Arc<Verified>,
    shift: u32,
    store_tag: u32,
    /// Pages from here on do not exist. A writer raises it after growing the file.
    page_count: AtomicU64,
}

impl Pages {
    /// `page_size` is a power of two.
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        map: Option<Arc<dyn Mapping>>,
        verified: Arc<Verified>,
        page_size: u32,
        store_tag: u32,
        page_count: u64,
    ) -> Pages {
        debug_assert!(page_size.is_power_of_two());
        let shift = page_size.trailing_zeros();
        Pages { disk, map, verified, shift, store_tag, page_count: AtomicU64::new(page_count) }
    }

    pub(crate) fn set_page_count(&self, pages: u64) {
        self.page_count.store(pages, Ordering::Release);
    }

    /// The map, with all that was ever lent from it; empty if there is none.
    pub(crate) fn kept(&self) -> &[u8] {
        self.map.as_ref().map_or(&[], |map| map.kept())
    }

    pub(crate) fn page_size(&self) -> u32 {
        1 << self.shift
    }

    pub(crate) fn store_tag(&self) -> u32 {
        self.store_tag
    }

    pub(super) fn page_count(&self) -> u64 {
        self.page_count.load(Ordering::Acquire)
    }

    /// Whether the target of a pointer was verified before.
    #[inline]
    pub(super) fn is_verified(&self, ptr: Ptr) -> bool {
        ptr.crc != 0 && self.verified.get(ptr.page) == ptr.crc
    }

    pub(super) fn set_verified(&self, ptr: Ptr) {
        self.verified.set(ptr.page, ptr.crc);
    }

    /// Verified bytes in private memory.
    pub(super) fn cached(&self, ptr: Ptr) -> Option<Arc<[u8]>> {
        self.verified.cached(ptr)
    }

    #[cfg(test)]
    pub(super) fn note_chunk(&self) {
        self.verified.chunks.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn cache(&self, ptr: Ptr, bytes: &Arc<[u8]>) {
        self.verified.cache(ptr, bytes);
    }

    /// A whole verified run, header included: of this kind, of this table.
    pub(crate) fn run(&self, ptr: Ptr, kind: u8, table: u32) -> Result<Bytes<'_>> {
        let run = self.fetch(ptr)?;
        if run.get(PAGE_KIND) != Some(&kind) || get_u32(&run, PAGE_TABLE) != table {
            return Err(self.misplaced(ptr, &run, kind_name(kind), table));
        }
        Ok(run)
    }

    /// A node of this table, at this level if one is given.
    #[inline]
    pub(crate) fn node(&self, ptr: Ptr, table: u32, level: Option<u8>) -> Result<Node<'_>> {
        let run = self.fetch(ptr)?;
        Node::parse(run, table, level).unwrap_or_else(|| Err(self.not_a_node(ptr, table, level)))
    }

    /// For one pass over the tree: has the leaves below a branch read ahead in the order in which they lie in the
    /// file.
    pub(crate) fn expect_leaves(&self, branch: &Node<'_>) {
        if !self.verified.forgets || branch.level() != 1 {
            return;
        }
        let mut pages: Vec<u32> = (0..branch.count()).map(|index| branch.child(index).page).collect();
        pages.sort_unstable();
        for near in pages.chunk_by(|a, b| b - a <= NEAR_PAGES) {
            if let (Some(first), Some(last)) = (near.first(), near.last()) {
                self.disk.start_reading(u64::from(*first) << self.shift, (u64::from(last - first) + 1) << self.shift);
            }
        }
    }

    /// The number of pages by the file's present length. The writer of a long value that only the log refers to
    /// may have grown the file for it, which the root does not show yet.
    #[cold]
    pub(super) fn grown(&self) -> u64 {
        let pages = self.disk.len().unwrap_or(0) >> self.shift;
        self.page_count.fetch_max(pages, Ordering::AcqRel).max(pages)
    }

    /// Whether a run lies within the file, behind the root slots.
    #[inline]
    pub(super) fn exists(&self, page: u32, run: u64, page_count: u64) -> bool {
        page >= FIRST_PAGE && run >= 1 && u64::from(page) + run <= page_count
    }

    /// A verified run. For a page that was verified before, only the first lines are executed.
    #[inline]
    fn fetch(&self, ptr: Ptr) -> Result<Bytes<'_>> {
        if let Some(map) = &self.map
            && self.is_verified(ptr)
            && let Some(run) = self.mapped(&**map, ptr.page)
        {
            return Ok(Bytes::borrowed(run));
        }
        self.fetch_unverified(ptr)
    }

    /// The run that starts at `page` if the map holds all of it.
    #[inline]
    fn mapped<'m>(&self, map: &'m dyn Mapping, page: u32) -> Option<&'m [u8]> {
        let count = self.page_count.load(Ordering::Acquire);
        // The map may reach beyond the file's end, where not even the header may be touched.
        if !self.exists(page, 1, count) {
            return None;
        }
        let start = usize::try_from(u64::from(page) << self.shift).ok()?;
        let from = map.bytes().get(start..)?;
        let run = get_u32(from, PAGE_RUN);
        let size = usize::try_from(u64::from(run) << self.shift).ok()?;
        if !self.exists(page, u64::from(run), count) {
            return None;
        }
        let run = from.get(..size)?;
        // A file is cut from its end. So if a part of the run is lost, its last byte is; touching it marks the
        // map as torn. (A run within one page of memory needs only its header touched.)
        if size > SMALLEST_MEMORY_PAGE && std::hint::black_box(run.last().copied()).is_some() && map.bytes().is_empty()
        {
            return None;
        }
        Some(run)
    }

    #[cold]
    fn fetch_unverified(&self, ptr: Ptr) -> Result<Bytes<'_>> {
        let count = self.page_count.load(Ordering::Acquire);
        if !self.exists(ptr.page, 1, count) {
            return Err(self.damage(
                CorruptionKind::Page,
                ptr,
                format!("a page below {count}"),
                "no such page".to_owned(),
            ));
        }
        if let Some(run) = self.map.as_ref().and_then(|map| self.mapped(&**map, ptr.page))
            && self.check(ptr, run).is_ok()
        {
            self.verified.set(ptr.page, ptr.crc);
            return Ok(Bytes::borrowed(run));
        }
        // A part of the map that failed once reads as zeros from then on: the file itself decides.
        let run = match self.verified.cached(ptr) {
            Some(run) => run,
            None => {
                let run = self.read(ptr, count)?;
                self.verified.cache(ptr, &run);
                run
            }
        };
        let size = run.len();
        Ok(Bytes::shared(run, 0..size))
    }

    /// Reads and verifies a run in private memory.
    fn read(&self, ptr: Ptr, page_count: u64) -> Result<Arc<[u8]>> {
        let page_size = 1usize << self.shift;
        let first = self.read_bytes(ptr, page_size)?;
        let run = u64::from(get_u32(&first, PAGE_RUN));
        if run == 1 {
            self.check(ptr, &first)?;
            return Ok(first);
        }
        // Before memory is allocated for it, the header must be what the pointer expects.
        if !self.exists(ptr.page, run, page_count) {
            return Err(self.damage(
                CorruptionKind::Page,
                ptr,
                format!("a run within {page_count} pages"),
                format!("{run} pages"),
            ));
        }
        self.check_header(ptr, &first)?;
        let size = usize::try_from(run << self.shift).unwrap_or(usize::MAX);
        let whole = self.read_bytes(ptr, size)?;
        self.check(ptr, &whole)?;
        Ok(whole)
    }

    fn read_bytes(&self, ptr: Ptr, size: usize) -> Result<Arc<[u8]>> {
        let mut buffer: Arc<[u8]> = std::iter::repeat_n(0, size).collect();
        let offset = u64::from(ptr.page) << self.shift;
        self.read_at(ptr, Arc::get_mut(&mut buffer).unwrap_or_default(), offset)?;
        Ok(buffer)
    }

    /// Reads bytes of the file that belong to the target of a pointer.
    pub(super) fn read_at(&self, ptr: Ptr, place: &mut [u8], offset: u64) -> Result<()> {
        let got = self.disk.read_at(place, offset).map_err(|e| Error::io("read", self.disk.path(), e))?;
        if got < place.len() {
            let (expected, found) = (format!("{} bytes", place.len()), format!("{got} before the file's end"));
            return Err(self.damage(CorruptionKind::Page, ptr, expected, found));
        }
        Ok(())
    }

    /// Whether a complete run is what its pointer says.
    fn check(&self, ptr: Ptr, run: &[u8]) -> Result<()> {
        self.check_header(ptr, run)?;
        let size = u64::from(get_u32(run, PAGE_RUN)) << self.shift;
        let crc = crc32fast::hash(run.get(PAGE_NUMBER..).unwrap_or_default());
        if size != run.len() as u64 || crc != ptr.crc {
            return Err(self.damage(
                CorruptionKind::Page,
                ptr,
                format!("CRC {:08x}", ptr.crc),
                format!("CRC {crc:08x}"),
            ));
        }
        Ok(())
    }

    fn check_header(&self, ptr: Ptr, run: &[u8]) -> Result<()> {
        let found = (get_u32(run, PAGE_CRC), get_u32(run, PAGE_NUMBER), get_u32(run, PAGE_STORE));
        if found == (ptr.crc, ptr.page, self.store_tag) {
            // A run longer than any node is refused before its CRC is computed.
            let size = u64::from(get_u32(run, PAGE_RUN)) << self.shift;
            if matches!(run.get(PAGE_KIND), Some(&KIND_LEAF | &KIND_BRANCH)) && size > MAX_NODE_SIZE as u64 {
                let expected = format!("at most {MAX_NODE_SIZE} bytes");
                return Err(self.damage(CorruptionKind::Node, ptr, expected, format!("{size} bytes")));
            }
            return Ok(());
        }
        let show = |(crc, page, store): (u32, u32, u32)| format!("CRC {crc:08x}, page {page}, store {store:08x}");
        Err(self.damage(CorruptionKind::Page, ptr, show((ptr.crc, ptr.page, self.store_tag)), show(found)))
    }

    #[cold]
    fn not_a_node(&self, ptr: Ptr, table: u32, level: Option<u8>) -> Error {
        let name = if level == Some(0) { CorruptionKind::Leaf } else { CorruptionKind::Node };
        self.fetch(ptr).map_or_else(|error| error, |run| self.misplaced(ptr, &run, name, table))
    }

    #[cold]
    pub(super) fn misplaced(&self, ptr: Ptr, run: &[u8], kind: CorruptionKind, table: u32) -> Error {
        let found = format!(
            "kind {} at level {} of table {}",
            run.get(PAGE_KIND).copied().unwrap_or_default(),
            run.get(PAGE_LEVEL).copied().unwrap_or_default(),
            get_u32(run, PAGE_TABLE)
        );
        self.damage(kind, ptr, format!("a {kind} of table {table}, one level below its parent"), found)
    }

    #[cold]
    pub(super) fn damage(&self, kind: CorruptionKind, ptr: Ptr, expected: String, found: String) -> Error {
        Error::corrupt(kind, u64::from(ptr.page) << self.shift, Some(u64::from(ptr.page)), expected, found)
    }
}

fn kind_name(kind: u8) -> CorruptionKind {
    match kind {
        KIND_LEAF => CorruptionKind::Leaf,
        KIND_BRANCH => CorruptionKind::Branch,
        KIND_OVERFLOW => CorruptionKind::LongValue,
        KIND_FREE_REGION => CorruptionKind::FreeRegion,
        KIND_FREE_DIRECTORY => CorruptionKind::FreeDirectory,
        KIND_PENDING | KIND_PENDING_PART => CorruptionKind::PendingList,
        _ => CorruptionKind::Page,
    }
}
