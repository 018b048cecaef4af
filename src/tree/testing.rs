//! For tests: a page store over a disk in memory that knows which pages are in use, and a check
//! of a whole tree against the layout and the rules of the tree.

use super::build::max_inline;
use super::node::common_prefix;
use super::pages::{Pages, Verified};
use super::update::PageStore;
use crate::disk::format::*;
use crate::disk::memory::MemoryDisk;
use crate::disk::platform::{Disk, Mapping};
use crate::error::Result;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) const STORE_TAG: u32 = 0xfeed_beef;

/// A map of what the file held at one time.
pub(crate) struct Frozen(pub(crate) Vec<u8>);

impl Mapping for Frozen {
    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Keeps account of every page. Pages freed by a version that others may still read are reused only
/// after [`TestStore::commit`].
pub(crate) struct TestStore {
    pub(crate) disk: Arc<MemoryDisk>,
    pages: Arc<Pages>,
    page_size: u32,
    version: u64,
    end: u32,
    /// First page and length of every run in use, with the version it was written for.
    pub(crate) live: BTreeMap<u32, (u32, u64)>,
    freed: Vec<(u32, u32)>,
    reusable: Vec<(u32, u32)>,
    /// Runs allocated since the last commit.
    pub(crate) allocated: usize,
    /// After so many more calls everything fails.
    pub(crate) fail_after: Option<usize>,
    /// Damage was put into the file: what is freed may make no sense.
    pub(crate) hostile: bool,
}

impl TestStore {
    pub(crate) fn new(page_size: u32) -> TestStore {
        let disk = Arc::new(MemoryDisk::for_writing(Vec::new()));
        let first = FIRST_PAGE;
        let count = u64::from(first);
        let pages = Pages::new(disk.clone(), None, Arc::new(Verified::new()), page_size, STORE_TAG, count);
        TestStore {
            disk,
            pages: Arc::new(pages),
            page_size,
            version: 1,
            end: first,
            live: BTreeMap::new(),
            freed: Vec::new(),
            reusable: Vec::new(),
            allocated: 0,
            fail_after: None,
            hostile: false,
        }
    }

    pub(crate) fn commit(&mut self) {
        self.reusable.append(&mut self.freed);
        self.version += 1;
        self.allocated = 0;
    }

    /// Begins the next version; what this one freed stays, for versions before it.
    pub(crate) fn keep(&mut self) {
        self.freed.clear();
        self.version += 1;
    }

    pub(crate) fn page_count(&self) -> u64 {
        u64::from(self.end)
    }

    /// Other bytes read as if they were this file, and what is verified of them.
    pub(crate) fn counted_on(&self, bytes: Vec<u8>, mapped: usize) -> (Arc<Pages>, Arc<Verified>) {
        let verified = Arc::new(Verified::new());
        let map = (mapped > 0).then(|| Arc::new(Frozen(bytes[..mapped.min(bytes.len())].to_vec())) as Arc<dyn Mapping>);
        let disk = Arc::new(MemoryDisk::for_writing(bytes));
        let pages = Pages::new(disk, map, Arc::clone(&verified), self.page_size, STORE_TAG, self.page_count());
        (Arc::new(pages), verified)
    }

    /// The same pages read anew, through a map of the first `mapped` bytes if that is not 0.
    pub(crate) fn reopened(&self, mapped: usize) -> Arc<Pages> {
        let bytes = self.disk.bytes.lock().unwrap();
        self.opened_on(bytes.clone(), mapped)
    }

    /// Other bytes read as if they were this file.
    pub(crate) fn opened_on(&self, bytes: Vec<u8>, mapped: usize) -> Arc<Pages> {
        self.counted_on(bytes, mapped).0
    }

    fn may_fail(&mut self) -> Result<()> {
        if let Some(left) = &mut self.fail_after {
            *left = left.checked_sub(1).ok_or_else(|| crate::Error::Invalid("injected".to_owned()))?;
        }
        Ok(())
    }
}

impl PageStore for TestStore {
    fn pages(&self) -> &Arc<Pages> {
        &self.pages
    }
    fn version(&self) -> u64 {
        self.version
    }
    fn allocate(&mut self, run: u32) -> Result<u32> {
        self.may_fail()?;
        self.allocated += 1;
        let page = match self.reusable.iter().position(|&(_, free)| free == run) {
            Some(index) => self.reusable.swap_remove(index).0,
            None => {
                let page = self.end;
                self.end += run;
                self.pages.set_page_count(u64::from(self.end));
                let size = self.end as usize * self.page_size as usize;
                self.disk.bytes.lock().unwrap().resize(size, 0);
                page
            }
        };
        assert!(self.live.insert(page, (run, self.version)).is_none() || self.hostile);
        Ok(page)
    }
    fn free(&mut self, page: u32, run: u32, version: u64) -> Result<()> {
        self.may_fail()?;
        if self.hostile {
            return Ok(());
        }
        let (length, birth) = self.live.remove(&page).expect("a page in use is freed");
        assert_eq!(length, run, "the whole run is freed");
        assert!(version == birth || version == 0, "page {page}: freed as of {version}, written for {birth}");
        if version == self.version { &mut self.reusable } else { &mut self.freed }.push((page, run));
        Ok(())
    }
    fn write(&mut self, page: u32, bytes: &[u8]) -> Result<()> {
        self.may_fail()?;
        assert_eq!(bytes.len() % self.page_size as usize, 0);
        let run = u32::try_from(bytes.len() / self.page_size as usize).unwrap();
        let (first, (length, birth)) = self.live.range(..=page).next_back().expect("pages are allocated");
        assert!(page + run <= first + length && *birth == self.version, "only new pages are written");
        self.disk.write_at(bytes, u64::from(page) * u64::from(self.page_size)).unwrap();
        Ok(())
    }
}

/// What a walk over a whole tree found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) entries: Vec<(Vec<u8>, Vec<u8>)>,
    /// First page and length of each run.
    pub(crate) runs: BTreeMap<u32, u32>,
    /// For each leaf in order: bytes used, bytes of its run.
    pub(crate) leaves: Vec<(usize, usize)>,
    /// For each branch: children, bytes used.
    pub(crate) branches: Vec<(usize, usize)>,
    pub(crate) height: usize,
}

/// Reads a whole tree by the layout that `node.rs` describes, with none of its code, and panics at
/// what breaks a rule.
pub(crate) fn check(pages: &Pages, table: u32, root: TreeRoot) -> Found {
    let mut found = Found::default();
    if root.ptr.is_none() {
        assert_eq!(root, TreeRoot::default());
        return found;
    }
    check_node(pages, table, root.ptr, None, &[], None, &mut found);
    assert_eq!(found.entries.len() as u64, root.count, "the root's count");
    assert_eq!(found.runs.values().map(|run| u64::from(*run)).sum::<u64>(), root.pages, "the root's pages");
    let bytes = found.entries.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum::<u64>();
    assert_eq!(bytes, root.bytes, "the root's bytes");
    assert!(found.entries.is_sorted_by(|a, b| a.0 < b.0), "keys ascend");
    found
}

/// A node's bytes, or `None` when the page is of another kind.
fn bytes_of(pages: &Pages, table: u32, ptr: Ptr) -> (bool, Vec<u8>) {
    match pages.run(ptr, KIND_LEAF, table) {
        Ok(bytes) => (true, bytes.to_vec()),
        Err(_) => (false, pages.run(ptr, KIND_BRANCH, table).unwrap().to_vec()),
    }
}

/// Length of the suffix and word of an entry that must start at `at`, and where the rest of it does; `behind` the heads
/// there is what tells.
fn lengths_of(bytes: &[u8], uniform: bool, behind: usize, index: usize, at: usize) -> (usize, usize, usize) {
    if uniform {
        return (usize::from(get_u16(bytes, behind)), get_u32(bytes, behind + 2) as usize, at);
    }
    assert_eq!(usize::from(get_u16(bytes, behind + 2 * index)), at, "entries follow each other");
    let (suffix, next) = get_varint(bytes, at);
    let (word, next) = get_varint(bytes, next);
    (suffix, word, next)
}

fn check_node(
    pages: &Pages,
    table: u32,
    ptr: Ptr,
    level: Option<u8>,
    low: &[u8],
    high: Option<&[u8]>,
    found: &mut Found,
) {
    let (leaf, bytes) = bytes_of(pages, table, ptr);
    let count = usize::from(get_u16(&bytes, NODE_COUNT));
    let prefix = usize::from(get_u16(&bytes, NODE_PREFIX));
    let end = get_u32(&bytes, NODE_END) as usize;
    assert_eq!(leaf, bytes[PAGE_LEVEL] == 0);
    assert!(level.is_none_or(|level| level == bytes[PAGE_LEVEL]), "levels fall by one");
    assert!(found.runs.insert(ptr.page, get_u32(&bytes, PAGE_RUN)).is_none(), "page {} is used twice", ptr.page);
    assert!(bytes[end..].iter().all(|byte| *byte == 0), "unused bytes are zero");
    assert!(bytes.len() - end < pages.page_size() as usize, "no page too many");
    if level.is_none() {
        found.height = usize::from(bytes[PAGE_LEVEL]) + 1;
    }
    let u16s = |at: usize, n: usize| (0..n).map(|i| usize::from(get_u16(&bytes, at + 2 * i))).collect::<Vec<_>>();
    let check_keys = |keys: &[Vec<u8>], heads: usize| {
        let shared = common_prefix(keys.first().unwrap(), keys.last().unwrap());
        assert_eq!(shared, prefix, "the prefix is exact");
        for (i, key) in keys.iter().enumerate() {
            let mut head = key[prefix..].to_vec();
            head.resize(4, 0);
            assert_eq!(get_u32(&bytes, heads + 4 * i), u32::from_be_bytes(head.try_into().unwrap()), "head {i}");
        }
        assert!(keys.is_sorted_by(|a, b| a < b));
        assert!(keys[0].as_slice() >= low && high.is_none_or(|high| keys[keys.len() - 1].as_slice() < high));
    };
    if leaf {
        assert!(count >= 1);
        let heads = 40 + prefix;
        let uniform = bytes[14] == 1;
        let behind = heads + 4 * count;
        let (mut keys, mut at) = (Vec::new(), behind + if uniform { 6 } else { 2 * count });
        let mut lengths = Vec::new();
        for index in 0..count {
            let (suffix, word, next) = lengths_of(&bytes, uniform, behind, index, at);
            lengths.push((suffix, word));
            let head = get_u32(&bytes, heads + 4 * index).to_be_bytes();
            let rest = &bytes[next..next + suffix.saturating_sub(4)];
            keys.push([&bytes[40..heads], &head[..suffix.min(4)], rest].concat());
            at = next + rest.len() + word / 4;
            let value = &bytes[next + rest.len()..at];
            let value = if word % 4 == 0 {
                assert!(value.len() <= max_inline(pages.page_size()));
                value.to_vec()
            } else {
                assert_eq!(word % 4, 1);
                let long = Overflow::decode(value).unwrap();
                for Extent { page, pages } in long.extents(pages.page_size()).unwrap().iter() {
                    assert!(found.runs.insert(page, pages).is_none(), "page {page} is used twice");
                }
                pages.overflow(&long, table).unwrap().to_vec()
            };
            found.entries.push((keys[keys.len() - 1].clone(), value));
        }
        assert_eq!(at, end);
        assert_eq!(uniform, lengths.iter().all(|each| *each == lengths[0]), "uniform are all leaves that can be");
        check_keys(&keys, heads);
        found.leaves.push((end, bytes.len()));
        return;
    }
    assert!(count >= 2);
    let m = count - 1;
    let suffixes = 40 + prefix + 6 * m + CHILD_SIZE * count;
    let mut ends = u16s(40 + prefix + 4 * m, m);
    assert_eq!(ends[0], suffixes);
    ends.push(end);
    let keys: Vec<Vec<u8>> = ends.windows(2).map(|w| [&bytes[40..40 + prefix], &bytes[w[0]..w[1]]].concat()).collect();
    check_keys(&keys, 40 + prefix);
    assert!(keys[0].as_slice() > low, "a separator is above its node's lower bound");
    found.branches.push((count, end));
    for i in 0..count {
        let at = 40 + prefix + 6 * m + CHILD_SIZE * i;
        let child = Child::decode(&bytes[at..at + CHILD_SIZE]);
        let before = found.entries.len();
        let low = if i == 0 { low } else { &keys[i - 1] };
        check_node(
            pages,
            table,
            child.ptr,
            Some(bytes[PAGE_LEVEL] - 1),
            low,
            keys.get(i).map(Vec::as_slice).or(high),
            found,
        );
        assert_eq!((found.entries.len() - before) as u64, child.count, "entries below child {i}");
    }
}
