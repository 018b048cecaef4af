//! A new store, made in one pass from rows in key order.
//!
//! Pages are taken one after the other from the file's beginning, so it is written from front to end, and has no
//! free page. No log, no commit, no flush: no process finds the file before it
//! is durable as a whole.

use crate::disk::format::{FIRST_PAGE, SETTING_USER_VERSION, TABLE_CATALOG, TABLE_NAMES, TABLE_SETTINGS, TreeRoot};
use crate::disk::host::{random, unix_us};
use crate::disk::platform::Disk;
use crate::disk::root::{NewStore, Root};
use crate::engine::MIN_LOG_PAGES;
use crate::engine::table_row::TableEntry;
use crate::error::{Error, Result};
use crate::tree::bulk::Bulk;
use crate::tree::pages::{Pages, Verified};
use crate::tree::space::Space;
use crate::tree::update::PageStore;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::manifest::{Manifest, TableManifest};
use super::rows::Item;

/// Adjacent pages are written together, up to this many bytes.
const RUN_BYTES: usize = 1 << 20;
/// The bitmap of pages grows by so many.
const GROWTH_PAGES: u64 = 1 << 14;
/// Root sequence of all that is built.
const VERSION: u64 = 1;
/// Root sequence of a store that was not written to since.
pub(super) const LAST_VERSION: u64 = VERSION + 1;

/// A store under construction, in an empty file.
pub(super) struct StoreBuilder {
    root: Root,
    pages: BuiltPages,
    trees: BTreeMap<u32, TreeRoot>,
    names: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Where its pages come from and go to.
struct BuiltPages {
    disk: Arc<dyn Disk>,
    pages: Arc<Pages>,
    space: Space,
    /// Pages not yet written: the first one's number, and their bytes.
    waiting: (u32, Vec<u8>),
}

impl StoreBuilder {
    /// Begins a store with an id of its own in an empty file.
    pub(super) fn new(disk: Arc<dyn Disk>, page_size: u32, application: u32) -> Result<StoreBuilder> {
        let store_id = random(disk.path())?;
        let new = NewStore { page_size, store_id, application, created: unix_us() };
        let root = Root { time: unix_us(), ..Root::first(&new, MIN_LOG_PAGES) };
        let page_count = root.page_count;
        disk.allocate(u64::from(FIRST_PAGE * page_size), root.log_capacity())
            .map_err(|e| Error::io("allocate", disk.path(), e))?;
        let verified = Arc::new(Verified::forgetting());
        let tag = root.store_tag();
        let pages = Arc::new(Pages::new(Arc::clone(&disk), None, verified, page_size, tag, page_count));
        let space = Space::new(page_size, tag, FIRST_PAGE, page_count);
        let pages = BuiltPages { disk, pages, space, waiting: (0, Vec::new()) };
        Ok(StoreBuilder { root, pages, trees: BTreeMap::new(), names: BTreeMap::new() })
    }

    /// Adds a table, with rows in strictly ascending order of their keys.
    pub(super) fn table<'s>(
        &mut self,
        table: &TableManifest,
        items: impl Iterator<Item = Result<Item<'s>>>,
    ) -> Result<()> {
        let mut bulk = Bulk::new(table.id, self.root.page_size);
        for item in items {
            match item? {
                Item::Row((key, value)) => bulk.row(&mut self.pages, &key, &value)?,
                Item::Leaf(leaf) => bulk.leaf(&mut self.pages, &leaf)?,
            }
        }
        let tree = bulk.finish(&mut self.pages)?;
        if !tree.ptr.is_none() {
            self.trees.insert(table.id, tree);
        }
        let row = TableEntry {
            flags: table.flags,
            schema: table.schema.as_str().into(),
            schema_version: table.schema_version,
            ..TableEntry::new(table.id, &table.key_type, &table.value_type)
        };
        self.names.insert(table.name.as_bytes().to_vec(), row.encode());
        self.root.next_table = self.root.next_table.max(table.id.saturating_add(1));
        Ok(())
    }

    /// Writes the rest; the file stays to be flushed.
    pub(super) fn finish(mut self, manifest: &Manifest) -> Result<Root> {
        let version = Some(manifest.user_version).filter(|version| *version != 0);
        let settings = version.map(|version| (SETTING_USER_VERSION, version.to_le_bytes()));
        let own = [
            (TABLE_NAMES, self.pages.tree(TABLE_NAMES, self.names)?),
            (TABLE_SETTINGS, self.pages.tree(TABLE_SETTINGS, settings)?),
        ];
        self.trees.extend(own.into_iter().filter(|(_, tree)| !tree.ptr.is_none()));
        let rows = self.trees.into_iter().map(|(id, tree)| (id.to_be_bytes(), tree.encode()));
        let mut root = self.root;
        root.catalog = self.pages.tree(TABLE_CATALOG, rows)?;
        root.next_table = root.next_table.max(manifest.next_table);
        (root.checkpoint_lsn, root.last_commit) = (manifest.lsn, manifest.lsn);
        self.pages.finish(&mut root)?;
        Ok(root)
    }
}

impl BuiltPages {
    fn tree<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &mut self,
        table: u32,
        rows: impl IntoIterator<Item = (K, V)>,
    ) -> Result<TreeRoot> {
        let mut bulk = Bulk::new(table, self.pages.page_size());
        for (key, value) in rows {
            bulk.row(self, key.as_ref(), value.as_ref())?;
        }
        bulk.finish(self)
    }

    fn io(&self, op: &'static str) -> impl FnOnce(std::io::Error) -> Error + '_ {
        move |source| Error::io(op, self.disk.path(), source)
    }

    fn grow(&mut self, pages: u64) -> Result<()> {
        let count = self.space.page_count() + pages.max(GROWTH_PAGES);
        self.space.grow(count);
        if self.space.page_count() < count {
            let source = std::io::Error::new(std::io::ErrorKind::StorageFull, "the store has as many pages as it can");
            return Err(self.io("grow the file")(source));
        }
        self.pages.set_page_count(count);
        Ok(())
    }

    fn write_out(&mut self) -> Result<()> {
        let (page, bytes) = &mut self.waiting;
        if bytes.is_empty() {
            return Ok(());
        }
        let offset = u64::from(*page) * u64::from(self.pages.page_size());
        self.disk.write_at(bytes, offset).map_err(|e| Error::io("write a page", self.disk.path(), e))?;
        // Written out early, so that commits of other processes do not wait for all of it at once.
        self.disk.start_writeback(offset, bytes.len() as u64);
        bytes.clear();
        Ok(())
    }

    /// Writes what waits, the free map, and the root in both slots.
    fn finish(&mut self, root: &mut Root) -> Result<()> {
        self.write_out()?;
        self.space.truncate(0);
        if self.space.free_pages() > 0 {
            loop {
                match self.space.growth_needed(VERSION) {
                    0 => break,
                    pages => {
                        let count = self.space.page_count() + pages;
                        self.space.grow(count);
                    }
                }
            }
            let (disk, page_size) = (Arc::clone(&self.disk), u64::from(root.page_size));
            let saved = self.space.save(VERSION, &mut |page, bytes| {
                let offset = u64::from(page) * page_size;
                disk.write_at(bytes, offset).map_err(|e| Error::io("write the free map", disk.path(), e))
            })?;
            (root.free_directory, root.pending) = (saved.directory, saved.pending);
        }
        root.page_count = self.space.page_count();
        let len = root.page_count * u64::from(root.page_size);
        self.disk.set_len(len).map_err(self.io("set the length"))?;
        // The same root twice, as a process that leaves writes it: so the process that opens it knows that it is durable. It is,
        // before the file has a name by which it is opened.
        for sequence in [VERSION, LAST_VERSION] {
            root.sequence = sequence;
            self.disk.write_at(&root.encode(), root.offset()).map_err(self.io("write a root slot"))?;
        }
        Ok(())
    }
}

impl PageStore for BuiltPages {
    fn pages(&self) -> &Arc<Pages> {
        &self.pages
    }

    fn version(&self) -> u64 {
        VERSION
    }

    fn allocate(&mut self, run: u32) -> Result<u32> {
        if let Some(page) = self.space.allocate(run) {
            return Ok(page);
        }
        self.grow(u64::from(run))?;
        self.space.allocate(run).ok_or_else(|| Error::Internal("no run of free pages after growing".to_owned()))
    }

    fn free(&mut self, page: u32, run: u32, _version: u64) -> Result<()> {
        self.space.release(page, run);
        Ok(())
    }

    fn write(&mut self, page: u32, bytes: &[u8]) -> Result<()> {
        let page_size = self.pages.page_size() as usize;
        let (first, waiting) = &self.waiting;
        let next = u64::from(*first) + (waiting.len() / page_size) as u64;
        if u64::from(page) != next || waiting.len() + bytes.len() > RUN_BYTES {
            self.write_out()?;
            self.waiting.0 = page;
        }
        self.waiting.1.extend_from_slice(bytes);
        Ok(())
    }
}
