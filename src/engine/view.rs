//! What this process sees: a pinned version of the tree, the frames of the log since then in memory, and an LSN.
//!
//! A snapshot is an `Arc` of a [`View`]. If nothing has changed, taking one costs two reads of shared memory and a
//! reference count. Otherwise the new frames are read from the file and added to the memtables.

use crate::bytes::Bytes;
use crate::change::{Change, OwnedChange};
use crate::disk::format::{
    FIRST_PAGE, FIRST_USER_TABLE, Ptr, TABLE_CATALOG, TABLE_NAMES, TABLE_SETTINGS, TABLE_SPACE, TREE_ROOT_SIZE,
    TreeRoot,
};
use crate::disk::locks::lock;
use crate::disk::pins::Pin;
use crate::disk::root::{Root, peek_sequence};
use crate::engine::append::Log;
use crate::engine::checkpoint_guard::CheckpointGuard;
use crate::engine::chores::Chore;
use crate::engine::facts::{Facts, Known};
use crate::engine::table_row::TableEntry;
use crate::error::{CorruptionKind, Error, Result};
use crate::log::frame::FrameKind;
use crate::log::memtable::Memtable;
use crate::log::reader::{LogReader, Point, goes_on_elsewhere};
use crate::log::ring::Ring;
use crate::tree::cursor::get;
use crate::tree::node::LeafValue;
use crate::tree::pages::{Pages, Verified};
use crate::tree::space::{Space, SpaceRoot};
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// One version of the tree, whose pages are protected from reuse.
pub(crate) struct TreeVersion {
    pub(crate) root: Arc<Root>,
    pub(crate) pages: Arc<Pages>,
    _pin: Option<Pin>,
}

/// One committed state.
pub(crate) struct View {
    pub(crate) tree: Arc<TreeVersion>,
    /// The ring in which the log continues.
    pub(crate) ring: Arc<Ring>,
    /// Newest first.
    pub(crate) memtables: Vec<Arc<Memtable>>,
    pub(crate) lsn: u64,
    /// The newest transaction in this state; `lsn` may be that of a checkpoint record.
    pub(crate) last_commit: u64,
    pub(super) tables: RwLock<HashMap<Box<str>, Option<TableEntry>>>,
    /// What was found out about its tables.
    pub(crate) known: Known,
}

/// What this process has read so far.
#[derive(Default)]
pub(crate) struct ViewState {
    tree: Option<Arc<TreeVersion>>,
    ring: Option<Arc<Ring>>,
    memtables: Vec<Arc<Memtable>>,
    /// What was found out about the states up to `point`. As long as the log is read on, each state follows from the
    /// one before it.
    facts: Arc<RwLock<Facts>>,
    pub(super) point: Point,
    /// The newest LSN that a frame read by this process states was durable before it.
    pub(super) proved: u64,
    /// [`Engine::forgotten`] when the log was last read from a root.
    forgotten: u64,
}

/// How far a refresh must get.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// To this LSN, which was published.
    Lsn(u64),
    /// To the end of the chain.
    Tail,
    /// To the newest transaction, including one that only a root holds whose writer died before it published the
    /// root. For the holder of WRITER: no other process can be about to publish such a root.
    Newest,
}

impl Until {
    fn is_reached(self, lsn: u64) -> bool {
        matches!(self, Until::Lsn(until) if lsn >= until)
    }
}

/// What snapshots see.
pub(crate) struct Views {
    log: Log,
    pub(super) state: Mutex<ViewState>,
    /// The newest state that was returned.
    published: Mutex<Option<Arc<View>>>,
    used_ms: AtomicU64,
    /// The log's end at the last check for a batch that no process flushes, and the time of that check.
    pub(super) unflushed: Mutex<(u64, u64)>,
    /// How often a snapshot was returned although other processes may have shown more: its reader does not learn so.
    #[cfg(test)]
    pub(crate) shown_late: AtomicU64,
}

floor!(Views on Log, in log);

impl Views {
    pub(crate) fn new(log: Log) -> Views {
        Views {
            log,
            state: Mutex::default(),
            published: Mutex::new(None),
            used_ms: AtomicU64::new(0),
            unflushed: Mutex::new((0, 0)),
            #[cfg(test)]
            shown_late: AtomicU64::new(0),
        }
    }

    pub(super) fn note_used(&self) {
        self.used_ms.store(self.disk.now_ms(), Ordering::Relaxed);
    }

    /// The last returned state, if it still is what readers may see. Takes no lock that a thread holds while it reads
    /// the log.
    pub(super) fn up_to_date(&self, visible: u64) -> Option<Arc<View>> {
        self.note_used();
        let published = lock(&self.published);
        let view = published.as_ref()?;
        (view.lsn >= visible && view.tree.root.sequence >= self.known_root()).then(|| Arc::clone(view))
    }

    /// Reads the log on to the published visible LSN.
    pub(super) fn catch_up(&self) -> Result<Arc<View>> {
        let mut state = lock(&self.state);
        self.note_used();
        let visible = self.visible();
        if let Some(view) = self.up_to_date(visible) {
            return Ok(view);
        }
        self.refresh(&mut state, Until::Lsn(visible))?;
        // A transaction in a new root's tree is visible even if its writer died before it published the root.
        self.publish_view(&mut state, self.visible())
    }

    /// The state at the end of the log, durable or not: the next transaction builds on it.
    pub(crate) fn view_at_end(&self) -> Result<Arc<View>> {
        // A root that is not published may be one whose flush failed before this process opened the file. The holder
        // of APPEND settles it before anything is built on it. (Not with the view locked, which readers need.)
        self.load_hints(&self.known_sidecar());
        if peek_sequence(&*self.disk, self.page_size).map_err(self.io("look at the file"))? > self.known_root() {
            drop(self.lock_append(self.deadline())?);
        }
        let mut state = lock(&self.state);
        self.note_used();
        self.refresh(&mut state, Until::Newest)?;
        self.state_at(&state, state.point.lsn).map(Arc::new)
    }

    /// Reads everything up to the checkpoint record `lsn`, and returns the state there, with the memtables that end
    /// there, newest first. With CHECKPOINT held the root does not change.
    pub(crate) fn view_at(&self, _turn: &CheckpointGuard<'_>, lsn: u64) -> Result<View> {
        let mut state = lock(&self.state);
        self.refresh(&mut state, Until::Lsn(lsn))?;
        let mut view = self.state_at(&state, lsn)?;
        view.memtables.retain(|memtable| memtable.after() < view.lsn);
        Ok(view)
    }

    /// The state at `lsn`, or where what this process has read ends.
    fn state_at(&self, state: &ViewState, lsn: u64) -> Result<View> {
        let (tree, ring, memtables) = (tree_of(state)?, self.ring_of(state)?, state.memtables.clone());
        let lsn = lsn.min(state.point.lsn);
        let last_commit = last_commit(&tree.root, &memtables, lsn);
        let (tables, known) = (RwLock::default(), Known::new(&state.facts));
        Ok(View { tree, ring, memtables, lsn, last_commit, tables, known })
    }

    pub(super) fn publish_view(&self, state: &mut ViewState, lsn: u64) -> Result<Arc<View>> {
        let mut view = self.state_at(state, lsn)?;
        if let Some(old) = &*lock(&self.published)
            && Arc::ptr_eq(&old.tree, &view.tree)
            && !view.memtables.iter().any(|g| g.renames())
        {
            view.tables = RwLock::new(old.tables.read().unwrap_or_else(PoisonError::into_inner).clone());
        }
        let view = Arc::new(view);
        *lock(&self.published) = Some(Arc::clone(&view));
        Ok(view)
    }

    /// Releases the tree version and large memtables that were not used for `idle_ms`.
    pub(crate) fn relax_view(&self, idle_ms: u64) -> bool {
        let mut state = lock(&self.state);
        let used = self.used_ms.load(Ordering::Relaxed);
        if state.tree.is_none() || self.disk.now_ms().saturating_sub(used) < idle_ms {
            return false;
        }
        // Snapshots keep what they need themselves.
        *lock(&self.published) = None;
        state.tree = None;
        if state.memtables.iter().map(|g| g.bytes()).sum::<usize>() > 1 << 20 {
            // They are read from the log again when they are needed.
            state.memtables.clear();
            state.ring = None;
        }
        true
    }

    pub(crate) fn view_is_pinned(&self) -> bool {
        lock(&self.state).tree.is_some()
    }

    pub(super) fn refresh(&self, state: &mut ViewState, until: Until) -> Result<()> {
        let newer = state.tree.as_ref().is_none_or(|tree| tree.root.sequence < self.known_root());
        if newer || state.ring.is_none() || state.forgotten != self.forgotten.load(Ordering::Acquire) {
            self.adopt(state)?;
        }
        for attempt in 0.. {
            let before = state.point;
            let newest = self.read_on(state, until)?;
            let pinned = state.tree.as_ref().map_or(0, |tree| tree.root.sequence);
            // The long values of a frame are kept for the frame's root and later ones, so a state that contains the
            // frame must not be based on an older root.
            if until.is_reached(state.point.lsn) && newest <= pinned {
                return Ok(());
            }
            // The chain may end here because a checkpoint freed this part of the log and its space was reused.
            let newest_slot = self.slots()?.newest;
            let root = newest_slot.sequence;
            // The appender of a frame knew that the root named in it was durable.
            self.raise_root(newest.min(root));
            self.load_hints(&self.known_sidecar());
            if until == Until::Newest && root > pinned {
                let elsewhere = goes_on_elsewhere(&*self.disk, &tree_of(state)?.root, &newest_slot, state.point);
                if elsewhere.map_err(self.io("read the log"))? {
                    self.confirm_root()?;
                }
            }
            // One that is newer, and certainly durable.
            if root > pinned && self.durable_root()?.sequence > pinned {
                self.adopt(state)?;
                continue;
            }
            if !matches!(until, Until::Lsn(_)) || until.is_reached(state.point.lsn) {
                return Ok(());
            }
            // The LSN was published, but is not in the log: damage, or garbage in the sidecar.
            if attempt > 2 && state.point == before {
                if root > pinned {
                    // The newer root is not published, and the published LSN is only found through it.
                    self.confirm_root()?;
                    self.adopt(state)?;
                    continue;
                }
                let ring = self.ring_of(state)?;
                return LogReader::new(&*self.disk, &ring, self.store_tag, state.point).verify_end(pinned);
            }
        }
        Ok(())
    }

    fn ring_of(&self, state: &ViewState) -> Result<Arc<Ring>> {
        state.ring.clone().ok_or_else(|| Error::Internal("no root was read".to_owned()))
    }

    /// Reads the log on. Returns the newest root that any of the frames read was written for.
    fn read_on(&self, state: &mut ViewState, until: Until) -> Result<u64> {
        let mut newest = 0;
        let ring = self.ring_of(state)?;
        let mut reader = LogReader::new(&*self.disk, &ring, self.store_tag, state.point);
        while until != Until::Lsn(state.point.lsn) {
            let Some(frame) = reader.next()? else { break };
            if frame.header.kind == FrameKind::Checkpoint {
                state.memtables.insert(0, Arc::new(Memtable::new(frame.after.lsn)));
            } else if let Some(newest) = state.memtables.first() {
                newest.insert(&frame);
            }
            state.facts.write().unwrap_or_else(PoisonError::into_inner).follow(&frame);
            newest = newest.max(frame.header.root_sequence);
            state.proved = state.proved.max(frame.header.durable_lsn);
            state.point = frame.after;
        }
        Ok(newest)
    }

    /// The newest root that is certainly durable, pinned.
    ///
    /// Pins the root first, then checks again. If it still is that root, the checkpointer that makes the root
    /// after the next reads the pins later than this, and finds this one, since the next root is published before that.
    /// (Unless the checkpointers have left this sidecar: then there is a newer root than the published one, and the
    /// sidecar's name is checked.)
    pub(super) fn pinned_root(&self) -> Result<TreeVersion> {
        loop {
            let root = self.durable_root()?;
            let pin = self.pins.pin(root.sequence)?;
            let sidecar = self.known_sidecar();
            self.load_hints(&sidecar);
            let slots = self.slots()?;
            let again = self.certain_root(&slots).is_none_or(|again| again.sequence != root.sequence);
            let newer = slots.newest.sequence > root.sequence;
            let left = newer && self.was_left(&sidecar)?;
            let silent = newer && sidecar.root().is_none();
            if silent || left && self.rejoin_sidecar(false).is_err() {
                // This process cannot know whether the newest root is built upon already, so it must pin that one.
                self.confirm_root()?;
            } else if !again && !left {
                return self.open_tree(Arc::new(root), Some(pin));
            }
        }
    }

    /// Adopts the newest root that is certainly durable.
    fn adopt(&self, state: &mut ViewState) -> Result<()> {
        let tree = self.pinned_root()?;
        let root = Arc::clone(&tree.root);
        state.ring = Some(Arc::new(Ring::new(&root)));
        let forgotten = self.forgotten.load(Ordering::Acquire);
        let forgets = std::mem::replace(&mut state.forgotten, forgotten) != forgotten;
        if forgets || root.checkpoint_lsn > state.point.lsn || state.memtables.is_empty() {
            state.point = Point::start_of(&root);
            state.memtables = vec![Arc::new(Memtable::new(root.checkpoint_lsn))];
            state.facts = Arc::new(RwLock::new(Facts::starting_at(root.checkpoint_lsn)));
        } else {
            // Memtables of earlier checkpoints that did not finish were applied with this one.
            state.memtables.retain(|g| g.after() >= root.checkpoint_lsn);
        }
        self.raise_root(root.sequence);
        self.raise_durable(root.checkpoint_lsn);
        state.tree = Some(Arc::new(tree));
        // It would keep the previous version pinned without any reader.
        *lock(&self.published) = None;
        if self.settings.threads {
            self.background.call(Chore::Watch);
        }
        crate::trace::debug!(root = root.sequence, checkpoint_lsn = root.checkpoint_lsn, "tree version adopted");
        Ok(())
    }

    pub(crate) fn open_tree(&self, root: Arc<Root>, pin: Option<Pin>) -> Result<TreeVersion> {
        self.tree_version(root, pin, Arc::clone(&self.verified))
    }

    /// A tree version, and what is remembered of its pages.
    pub(super) fn tree_version(&self, root: Arc<Root>, pin: Option<Pin>, seen: Arc<Verified>) -> Result<TreeVersion> {
        let map = if self.settings.memory_map { self.mapping(root.page_count)? } else { None };
        let (disk, count) = (Arc::clone(&self.disk), root.page_count);
        let pages = Arc::new(Pages::new(disk, map, seen, self.page_size, self.store_tag, count));
        Ok(TreeVersion { root, pages, _pin: pin })
    }
}

/// The newest transaction up to `lsn`, which may be the LSN of a checkpoint record. Several records may follow each other.
/// Every memtable but the oldest starts after a checkpoint record.
fn last_commit(root: &Root, memtables: &[Arc<Memtable>], lsn: u64) -> u64 {
    let marks = memtables.iter().map(|g| g.after()).filter(|after| *after > root.checkpoint_lsn);
    let last = marks.fold(lsn, |last, mark| if mark == last { last - 1 } else { last });
    if last <= root.checkpoint_lsn { root.last_commit } else { last }
}

fn tree_of(state: &ViewState) -> Result<Arc<TreeVersion>> {
    state.tree.clone().ok_or_else(|| Error::Internal("no root was read".to_owned()))
}

impl TreeVersion {
    /// The pages of this version that are pending, and those that are free by this directory: that of the root, or
    /// [`Ptr::NONE`] if the free pages do not matter.
    pub(crate) fn space(&self, directory: Ptr) -> Result<Space> {
        let root = &self.root;
        let stored = SpaceRoot { directory, pending: root.pending, page_count: root.page_count };
        let mut read = |ptr, kind| self.pages.run(ptr, kind, TABLE_SPACE);
        Space::load(root.page_size, root.store_tag(), FIRST_PAGE, stored, &mut read)
    }

    /// The row of a table in the catalog; a table without one is empty.
    pub(crate) fn catalog_row(&self, table: u32) -> Result<Option<Bytes<'_>>> {
        let row = get(&self.pages, TABLE_CATALOG, self.root.catalog, &table.to_be_bytes())?;
        row.map(|row| row.read(&self.pages, TABLE_CATALOG)).transpose()
    }

    /// The tree of a table.
    pub(crate) fn table(&self, table: u32) -> Result<TreeRoot> {
        let Some(row) = self.catalog_row(table)? else { return Ok(TreeRoot::default()) };
        TreeRoot::of_row(&row).ok_or_else(|| {
            let expected = format!("at least {TREE_ROOT_SIZE} bytes");
            Error::corrupt(CorruptionKind::Catalog, 0, None, expected, format!("{} bytes", row.len()))
        })
    }
}

impl View {
    /// Finds a table by name; `None` if there is none. One that a newer program has made is refused.
    pub(crate) fn table(&self, name: &str) -> Result<Option<TableEntry>> {
        if let Some(known) = self.tables.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Ok(known.clone());
        }
        let names = self.tree_root(TABLE_NAMES)?;
        let row = self.value(TABLE_NAMES, names, name.as_bytes())?;
        let entry = match row {
            Some(row) => {
                let mut entry = TableEntry::of_row(name.as_bytes(), &row)?;
                entry.check_flags(name)?;
                entry.root = self.tree_root(entry.id)?;
                Some(entry)
            }
            None => None,
        };
        self.tables.write().unwrap_or_else(PoisonError::into_inner).insert(name.into(), entry.clone());
        Ok(entry)
    }

    /// A table id that was never used, neither in the tree nor in the log.
    pub(crate) fn first_free_id(&self) -> u32 {
        let (changed, dropped) = self.tables_in_log();
        let most = changed.last().max(dropped.last()).copied().unwrap_or(0);
        let mut next = self.tree.root.next_table.max(FIRST_USER_TABLE).max(most.saturating_add(1));
        for memtable in &self.memtables {
            for (_, change) in memtable.versions(TABLE_NAMES, self.lsn) {
                if let Change::Put(row) = &change
                    && let Some(entry) = TableEntry::decode(row)
                {
                    next = next.max(entry.id.saturating_add(1));
                }
            }
        }
        next
    }

    /// The tables that the log changes, and those that it drops.
    pub(crate) fn tables_in_log(&self) -> (BTreeSet<u32>, BTreeSet<u32>) {
        let (mut changed, mut dropped) = (BTreeSet::new(), BTreeSet::new());
        for memtable in &self.memtables {
            let touched = memtable.touched_tables();
            changed.extend(touched.0);
            dropped.extend(touched.1);
        }
        changed.retain(|table| !dropped.contains(table));
        (changed, dropped)
    }

    /// A row of the store's own settings.
    pub(crate) fn setting(&self, name: &[u8]) -> Result<Option<Vec<u8>>> {
        let root = self.tree_root(TABLE_SETTINGS)?;
        Ok(self.value(TABLE_SETTINGS, root, name)?.map(|row| row.to_vec()))
    }

    /// The tree of a table, without the log's changes.
    pub(crate) fn tree_root(&self, table: u32) -> Result<TreeRoot> {
        self.tree.table(table)
    }

    /// The log's change to a key in this state.
    #[inline]
    pub(crate) fn logged(&self, table: u32, key: &[u8]) -> Option<OwnedChange> {
        self.memtables.iter().filter(|g| !g.is_empty()).find_map(|g| g.get(table, key, self.lsn))
    }

    /// The value of a key in this state.
    #[inline]
    pub(crate) fn value(&self, table: u32, root: TreeRoot, key: &[u8]) -> Result<Option<Bytes<'_>>> {
        let found = self.leaf_value(table, root, key)?;
        found.map(|found| found.read(&self.tree.pages, table)).transpose()
    }

    /// The value of a key in this state, or where it is.
    #[inline]
    pub(crate) fn leaf_value(&self, table: u32, root: TreeRoot, key: &[u8]) -> Result<Option<LeafValue<'_>>> {
        match self.logged(table, key) {
            Some(change) => Ok(after(change)),
            None => get(&self.tree.pages, table, root, key),
        }
    }
}

/// The value of the key after the change.
pub(super) fn after(change: OwnedChange) -> Option<LeafValue<'static>> {
    match change {
        Change::Put(value) => Some(LeafValue::Inline(value)),
        Change::PutOverflow(overflow) => Some(LeafValue::Overflow(Box::new((*overflow).into()))),
        Change::Delete => None,
    }
}

/// What a row of the settings says that is a number, as `expected` describes it.
pub(crate) fn number_in(row: &[u8], expected: &str) -> Result<u64> {
    match row.first_chunk() {
        Some(number) => Ok(u64::from_le_bytes(*number)),
        None => Err(Error::corrupt(CorruptionKind::Settings, 0, None, expected, format!("{} bytes", row.len()))),
    }
}
