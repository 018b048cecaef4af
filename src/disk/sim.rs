//! A disk in memory, for tests: the platform's two traits over a file whose every change is recorded,
//! so that the states a real disk may leave after a power loss can be made from the record.
//!
//! A [`World`] is one data file with its locks, its names, and the sidecars beside them. A [`SimDisk`] is one open file
//! description of it, held by one simulated process. A [`Conductor`] is asked before each call of the
//! platform: it may let the call fail, let another process run first, or end the process.
//!
//! What a crash leaves is made by [`Replay`]: it follows the record and knows, for each block, what
//! is durable and which later contents may or may not have reached the disk.

mod cache;
#[path = "../../tests/common/random.rs"]
pub(crate) mod random;
mod replay;
pub(crate) mod threads;

pub(crate) use replay::{Limits, Replay};

use crate::disk::platform::{Disk, FileId, Held, LockMode, Mapping, SharedMemory};
use crate::error::Holder;
use cache::Cache;
pub(crate) use random::Random as Rng;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What a page cache writes at once.
pub(crate) const BLOCK: usize = 4096;
/// What a disk writes whole or not at all.
pub(crate) const SECTOR: usize = 512;

pub(crate) type Block = [u8; BLOCK];

static ZERO: LazyLock<Arc<Block>> = LazyLock::new(|| Arc::new([0; BLOCK]));

/// Tells what happens, to look into a failure by, if `MEMSTONE_TRACE` is set.
macro_rules! trace {
    ($($what:tt)*) => {
        if $crate::disk::sim::is_traced() {
            println!($($what)*);
        }
    };
}
pub(crate) use trace;

pub(crate) fn is_traced() -> bool {
    static TRACED: LazyLock<bool> = LazyLock::new(|| std::env::var_os("MEMSTONE_TRACE").is_some());
    *TRACED
}

/// A file's bytes. Cloning costs one count for each block.
#[derive(Clone, Default)]
pub(crate) struct Image {
    blocks: Vec<Arc<Block>>,
    len: u64,
}

impl Image {
    fn block(&self, index: usize) -> Arc<Block> {
        self.blocks.get(index).unwrap_or(&ZERO).clone()
    }

    fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let n = buf.len().min(usize::try_from(self.len.saturating_sub(offset)).unwrap());
        let mut done = 0;
        while done < n {
            let at = usize::try_from(offset).unwrap() + done;
            let part = (n - done).min(BLOCK - at % BLOCK);
            buf[done..done + part].copy_from_slice(&self.blocks[at / BLOCK][at % BLOCK..at % BLOCK + part]);
            done += part;
        }
        n
    }

    /// Writes, and gives the numbers of the blocks that changed hands.
    pub(crate) fn write(&mut self, bytes: &[u8], offset: u64) -> std::ops::Range<usize> {
        let start = usize::try_from(offset).unwrap();
        if offset + bytes.len() as u64 > self.len {
            self.set_len(offset + bytes.len() as u64);
        }
        let mut done = 0;
        while done < bytes.len() {
            let at = start + done;
            let part = (bytes.len() - done).min(BLOCK - at % BLOCK);
            let block = Arc::make_mut(&mut self.blocks[at / BLOCK]);
            block[at % BLOCK..at % BLOCK + part].copy_from_slice(&bytes[done..done + part]);
            done += part;
        }
        start / BLOCK..(start + bytes.len()).div_ceil(BLOCK)
    }

    /// Sets the length; gives the block that was cut in its middle.
    fn set_len(&mut self, len: u64) -> Option<usize> {
        let count = usize::try_from(len).unwrap().div_ceil(BLOCK);
        let cut = len < self.len;
        self.blocks.truncate(count);
        self.blocks.resize_with(count, || ZERO.clone());
        self.len = len;
        let inside = usize::try_from(len).unwrap() % BLOCK;
        if !cut || inside == 0 {
            return None;
        }
        Arc::make_mut(&mut self.blocks[count - 1])[inside..].fill(0);
        Some(count - 1)
    }
}

/// One change of the file, or a remark of the test between changes.
#[derive(Clone)]
pub(crate) enum Event {
    Write {
        first: usize,
        blocks: Vec<Arc<Block>>,
        len: u64,
    },
    SetLen {
        len: u64,
        cut: Option<(usize, Arc<Block>)>,
    },
    Flush,
    /// Everything that was not durable may have been dropped, and later flushes will not write it.
    FlushFailed,
    /// The cache lets go of a block whose flush failed: what is read from now on is what the disk holds.
    Dropped(usize, Arc<Block>),
    /// Commit `n` begins.
    Begun(usize),
    /// All commits up to `n` were acknowledged.
    Acked(usize),
}

/// What is asked of a [`Conductor`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    Len,
    Read,
    Write,
    SetLen,
    Allocate,
    Flush,
    Lock,
    Unlock,
    Probe,
    Sidecar,
    Memory,
    /// A thread takes a lock within its process.
    Mutex,
    /// A read, a write or a flush is done, and its thread has not gone on yet: the others of its process may.
    Done,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Go,
    /// It fails with this code, undone.
    Fail(i32),
    /// A write fails after so many bytes of 65536; a read is short.
    Part(usize, i32),
}

/// Decides what happens at each call of the platform.
pub(crate) trait Conductor: Send + Sync {
    fn before(&self, _process: usize, _call: Call) -> Verdict {
        Verdict::Go
    }
    /// Sleeps, or waits for the word to change from `expected` or to be woken.
    fn sleep(&self, _process: usize, _time: Duration) {}
    fn wait(&self, process: usize, _word: (usize, usize), time: Duration) {
        self.sleep(process, time);
    }
    fn wake(&self, _process: usize, _word: (usize, usize)) {}
    /// Another thread has the lock; this was found so often before.
    fn contend(&self, _process: usize, _times: u32) {}
    fn now_ms(&self) -> u64 {
        1
    }
    fn now_us(&self) -> u64 {
        self.now_ms() * 1000
    }
}

/// Lets everything happen.
pub(crate) struct Free;
impl Conductor for Free {}

/// A sidecar's memory, and the number that this very sidecar goes by.
pub(crate) struct Words(Vec<AtomicU64>, u64);

impl Words {
    fn new(size: usize, id: u64) -> Arc<Words> {
        Arc::new(Words((0..size / 8).map(|_| AtomicU64::new(0)).collect(), id))
    }

    fn contents(&self) -> Vec<u64> {
        self.0.iter().map(|word| word.load(Ordering::SeqCst)).collect()
    }

    fn put(&self, contents: &[u64]) {
        for (word, value) in self.0.iter().zip(contents) {
            word.store(*value, Ordering::SeqCst);
        }
    }

    /// Fills it with garbage.
    pub(crate) fn spoil(&self, rng: &mut Rng) {
        for _ in 0..200 {
            self.0[rng.below(64 + 512)]
                .store(if rng.one_in(2) { rng.next() } else { rng.next() % 9 }, Ordering::SeqCst);
        }
    }
}

#[derive(Default)]
struct State {
    image: Image,
    /// The file as it was when the record began, and the record.
    history: Option<(Image, Vec<Event>)>,
    locks: BTreeMap<u64, HashMap<usize, LockMode>>,
    /// By the directory entry of the data file beside which each lies; the last one lies elsewhere, for all.
    sidecars: BTreeMap<usize, Arc<Words>>,
    /// What was copied of a sidecar, to be put back later.
    copy: Option<(usize, Vec<u64>)>,
    made: u64,
    /// Directory entries that no longer lead to the data file.
    lost_names: Vec<usize>,
    descriptions: usize,
    /// Grows with each failed flush; each description reports it once.
    failures: u64,
    cache: Option<Cache>,
}

/// One data file, all that is known of it, and all who use it.
pub(crate) struct World {
    state: Mutex<State>,
    conductor: Arc<dyn Conductor>,
}

impl World {
    pub(crate) fn new(image: Image, conductor: Arc<dyn Conductor>) -> Arc<World> {
        Arc::new(World { state: Mutex::new(State { image, ..State::default() }), conductor })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on every change is recorded. What the file holds now is durable.
    pub(crate) fn record(&self) {
        let mut state = self.state();
        state.history = Some((state.image.clone(), Vec::new()));
    }

    pub(crate) fn remark(&self, event: Event) {
        if let Some((_, events)) = &mut self.state().history {
            events.push(event);
        }
    }

    /// The file as it was when the record began, and the record so far.
    pub(crate) fn history(&self) -> (Image, Vec<Event>) {
        self.state().history.clone().unwrap()
    }

    pub(crate) fn image(&self) -> Image {
        self.state().image.clone()
    }

    pub(crate) fn sidecar(&self) -> Option<Arc<Words>> {
        let state = self.state();
        state.sidecars.get(&0).or(state.sidecars.values().next()).cloned()
    }

    pub(crate) fn remove_sidecar(&self) {
        self.state().sidecars.clear();
    }

    /// Moves the sidecar beside the data file out of the way, to be put back later.
    pub(crate) fn hide_sidecar(&self) -> Arc<Words> {
        self.state().sidecars.remove(&0).unwrap()
    }

    pub(crate) fn show_sidecar(&self, hidden: Arc<Words>) {
        self.state().sidecars.insert(0, hidden);
    }

    /// Keeps a copy of a sidecar, as a backup of the directory would.
    pub(crate) fn copy_sidecar(&self) {
        let mut state = self.state();
        state.copy = state.sidecars.iter().next().map(|(name, words)| (*name, words.contents()));
    }

    /// Puts the copy where the sidecar was: into the same file, or as another one of its name.
    pub(crate) fn restore_sidecar(&self, in_place: bool) {
        let mut state = self.state();
        let Some((name, contents)) = state.copy.clone() else { return };
        match state.sidecars.get(&name) {
            Some(words) if in_place => words.put(&contents),
            _ => {
                state.made += 1;
                let words = Words::new(contents.len() * 8, state.made);
                words.put(&contents);
                state.sidecars.insert(name, words);
            }
        }
    }

    /// The data file is renamed, replaced or deleted: the entry no longer leads to it.
    pub(crate) fn lose_name(&self, name: usize) {
        self.state().lost_names.push(name);
    }

    /// The file has all its names again.
    pub(crate) fn give_names_back(&self) {
        self.state().lost_names.clear();
    }

    /// A new description, of a process that goes by the given number.
    pub(crate) fn disk(self: &Arc<Self>, process: usize) -> Arc<SimDisk> {
        self.disk_of(process, Access::default())
    }

    /// The same for a process that reaches the file in some other way.
    pub(crate) fn disk_of(self: &Arc<Self>, process: usize, access: Access) -> Arc<SimDisk> {
        let mut state = self.state();
        state.descriptions += 1;
        let (id, seen) = (state.descriptions, AtomicU64::new(state.failures));
        drop(state);
        Arc::new(SimDisk {
            world: Arc::clone(self),
            process,
            access,
            id,
            seen,
            killed: AtomicBool::new(false),
            silent: AtomicBool::new(false),
            grave: Words::new(8, 0),
        })
    }
}

/// How a process reaches the data file, and what it may do beside it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Access {
    /// The directory entry by which it came.
    pub(crate) name: usize,
    pub(crate) read_only: bool,
    /// It may not make files in the directory.
    pub(crate) cannot_make: bool,
    /// Nor in the directory of shared memory.
    pub(crate) cannot_make_elsewhere: bool,
    /// It may not open a sidecar at all, or not for writing.
    pub(crate) cannot_open: bool,
    pub(crate) cannot_write: bool,
}

/// One open file description.
pub(crate) struct SimDisk {
    world: Arc<World>,
    process: usize,
    access: Access,
    id: usize,
    /// The newest failed flush that was reported to this description.
    seen: AtomicU64,
    /// The process is gone, and its thread must not go on.
    killed: AtomicBool,
    /// Nothing is done any more, and no error matters.
    silent: AtomicBool,
    /// What a dead process writes to instead of the sidecar.
    grave: Arc<Words>,
}

/// A process was killed: what its thread unwinds with.
pub(crate) struct Killed;

fn dead() -> io::Error {
    io::Error::other("this process is dead")
}

impl SimDisk {
    /// The process is gone, at once: its locks with it. Its thread unwinds at its next call.
    pub(crate) fn kill(&self) {
        self.killed.store(true, Ordering::SeqCst);
        self.drop_locks();
    }

    /// Nothing that is called from now on does anything: for dropping a store without a trace.
    pub(crate) fn silence(&self) {
        self.silent.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.killed.load(Ordering::SeqCst) || self.silent.load(Ordering::SeqCst)
    }

    fn check_alive(&self) -> io::Result<()> {
        if self.killed.load(Ordering::SeqCst) && !std::thread::panicking() {
            std::panic::resume_unwind(Box::new(Killed));
        }
        if self.is_dead() { Err(dead()) } else { Ok(()) }
    }

    fn drop_locks(&self) {
        for holders in self.world.state().locks.values_mut() {
            holders.remove(&self.id);
        }
    }

    fn enter(&self, call: Call) -> io::Result<Verdict> {
        self.check_alive()?;
        let verdict = self.world.conductor.before(self.process, call);
        self.world.state().drop_blocks(false);
        // It may have been killed while others ran.
        self.check_alive()?;
        match verdict {
            Verdict::Fail(code) => Err(io::Error::from_raw_os_error(code)),
            verdict => Ok(verdict),
        }
    }

    /// Other threads may go on before this one uses what a call gave: they change what the process knows.
    fn leave(&self) -> io::Result<()> {
        if threads::is_played() {
            let _ = self.world.conductor.before(self.process, Call::Done);
            self.check_alive()?;
        }
        Ok(())
    }

    fn write_recorded(&self, bytes: &[u8], offset: u64) {
        let mut state = self.world.state();
        let touched = state.image.write(bytes, offset);
        if let Some(cache) = &mut state.cache {
            cache.unwritten.retain(|index| !touched.contains(index));
        }
        let (first, len) = (touched.start, state.image.len);
        let blocks = touched.map(|index| state.image.block(index)).collect();
        if let Some((_, events)) = &mut state.history {
            trace!("{}: process {} writes {} bytes at {offset}", events.len(), self.process, bytes.len());
            events.push(Event::Write { first, blocks, len });
        }
    }

    /// A process is killed in the middle of a write: some of it is there.
    pub(crate) fn write_and_die(&self, bytes: &[u8], offset: u64, part: usize) {
        let n = bytes.len() * part / 65536;
        if n > 0 {
            self.write_recorded(&bytes[..n], offset);
        }
    }

    fn resize(&self, len: u64) {
        let mut state = self.world.state();
        let cut = state.image.set_len(len).map(|index| (index, state.image.block(index)));
        if let Some(cache) = &mut state.cache {
            cache.disk.set_len(len);
            cache.unwritten.retain(|index| *index < len.div_ceil(BLOCK as u64) as usize);
        }
        if let Some((_, events)) = &mut state.history {
            trace!("{}: process {} sets the length {len}", events.len(), self.process);
            events.push(Event::SetLen { len, cut });
        }
    }
}

impl Drop for SimDisk {
    fn drop(&mut self) {
        self.drop_locks();
    }
}

impl Disk for SimDisk {
    fn path(&self) -> &Path {
        Path::new("simulated.mst")
    }

    fn identity(&self) -> FileId {
        FileId { device: 1, inode: 1 }
    }

    fn place(&self) -> u64 {
        self.access.name as u64 + 1
    }

    fn lost_name(&self) -> Option<&'static str> {
        self.world.state().lost_names.contains(&self.access.name).then_some("nothing has its name any more")
    }

    fn writable(&self) -> bool {
        !self.access.read_only
    }

    fn len(&self) -> io::Result<u64> {
        self.enter(Call::Len)?;
        Ok(self.world.state().image.len)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let _ = self.enter(Call::Read)?;
        let n = self.world.state().image.read(buf, offset);
        self.leave().map(|()| n)
    }

    fn peek(&self, words: &mut [u64], offset: u64) -> io::Result<()> {
        let mut bytes = vec![0; words.len() * 8];
        self.read_at(&mut bytes, offset)?;
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().unwrap());
        }
        Ok(())
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        assert!(!self.access.read_only, "written through a description for reading");
        match self.enter(Call::Write)? {
            Verdict::Part(part, code) => {
                self.write_and_die(buf, offset, part);
                // Code 0: the process was killed on the way.
                if code == 0 {
                    self.kill();
                    self.check_alive()?;
                }
                Err(io::Error::from_raw_os_error(code))
            }
            _ => {
                self.write_recorded(buf, offset);
                self.leave()
            }
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.enter(Call::SetLen)?;
        self.resize(len);
        Ok(())
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.enter(Call::Allocate)?;
        let end = offset + len;
        if end > self.world.state().image.len {
            self.resize(end);
        }
        // What a real one does to bytes never written cannot be told apart from writing zeros.
        let zeros = vec![0; usize::try_from(len).unwrap()];
        let mut found = zeros.clone();
        self.world.state().image.read(&mut found, offset);
        if found == zeros {
            self.write_recorded(&zeros, offset);
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let entered = self.enter(Call::Flush);
        let mut state = self.world.state();
        if let Err(e) = entered {
            if self.is_dead() {
                return Err(e);
            }
            state.failures += 1;
            self.seen.store(state.failures, Ordering::SeqCst);
            if let Some((_, events)) = &mut state.history {
                trace!("{}: process {}'s flush fails", events.len(), self.process);
                events.push(Event::FlushFailed);
            }
            state.after_flush(true);
            return Err(e);
        }
        let failures = state.failures;
        if let Some((_, events)) = &mut state.history {
            let told =
                if self.seen.load(Ordering::SeqCst) == failures { "" } else { ", and is told of one that failed" };
            trace!("{}: process {} flushes{told}", events.len(), self.process);
            events.push(Event::Flush);
        }
        state.after_flush(false);
        if self.seen.swap(failures, Ordering::SeqCst) != failures {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        drop(state);
        self.leave()
    }

    fn start_writeback(&self, _: u64, _: u64) {}

    fn try_lock(&self, byte: u64, mode: LockMode) -> io::Result<bool> {
        self.enter(Call::Lock)?;
        assert!(!self.access.read_only || mode == LockMode::Shared, "an exclusive lock of a description for reading");
        let mut state = self.world.state();
        let holders = state.locks.entry(byte).or_default();
        let free =
            holders.iter().all(|(id, held)| *id == self.id || (mode == LockMode::Shared && *held == LockMode::Shared));
        if free {
            holders.insert(self.id, mode);
        }
        Ok(free)
    }

    fn unlock(&self, byte: u64) -> io::Result<()> {
        // A refusal would keep the lock for ever, which no system does; so no faults here.
        self.enter(Call::Unlock)?;
        let mut state = self.world.state();
        if let Some(holders) = state.locks.get_mut(&byte) {
            holders.remove(&self.id);
            if holders.is_empty() {
                state.locks.remove(&byte);
            }
        }
        Ok(())
    }

    fn probe(&self, first: u64, len: u64) -> io::Result<Option<(u64, u64)>> {
        self.enter(Call::Probe)?;
        // As on Linux: the locks of one description are looked through before those of the next, adjacent
        // bytes that it holds in one mode are one lock, and the answer is cut to the question.
        let state = self.world.state();
        let asked = || state.locks.range(first..first + len);
        let others = asked().flat_map(|(_, holders)| holders.keys().copied()).filter(|id| *id != self.id);
        let Some(owner) = others.min() else { return Ok(None) };
        let mut held = asked().filter_map(|(byte, holders)| Some((*byte, *holders.get(&owner)?)));
        let Some((start, mode)) = held.next() else { return Ok(None) };
        let joined = held.zip(start + 1..).take_while(|(next, byte)| *next == (*byte, mode)).count();
        Ok(Some((start, 1 + joined as u64)))
    }

    fn holders(&self, first: u64, len: u64) -> Vec<Held> {
        let state = self.world.state();
        let held = state.locks.range(first..first + len).flat_map(|(byte, holders)| {
            let others = holders.keys().filter(|id| **id != self.id);
            others.map(|id| {
                let (pid, host) = (u32::try_from(*id).unwrap(), "simulated".to_owned());
                let holder = Holder { pid, host, command: format!("description {id}"), since: None, stopped: false };
                Held { first: *byte, last: *byte, holder }
            })
        });
        held.collect()
    }

    fn map(&self, _: u64) -> io::Result<Option<Arc<dyn Mapping>>> {
        Ok(None)
    }

    fn sidecar(&self, site: usize, size: usize, create: bool) -> io::Result<Arc<dyn SharedMemory>> {
        self.enter(Call::Sidecar)?;
        let Access { name, cannot_make, cannot_make_elsewhere, cannot_open, cannot_write, .. } = self.access;
        let refused = if create { [cannot_make, cannot_make_elsewhere][site] } else { cannot_open };
        let name = if site == 0 { name } else { ELSEWHERE };
        let mut state = self.world.state();
        if refused && (create || state.sidecars.contains_key(&name)) {
            return Err(io::Error::from_raw_os_error(libc::EACCES));
        }
        if create {
            state.made += 1;
            let words = Words::new(size, state.made);
            state.sidecars.insert(name, words);
        }
        let words = state.sidecars.get(&name).cloned().ok_or(io::ErrorKind::NotFound)?;
        drop(state);
        let (world, process) = (Arc::clone(&self.world), self.process);
        let grave = Arc::clone(&self.grave);
        // A dead process is known by its description's being dead; the sidecar asks the conductor.
        Ok(Arc::new(SimMemory { world, process, name, writable: create || !cannot_write, words, grave }))
    }

    fn now_ms(&self) -> u64 {
        self.world.conductor.now_ms()
    }

    fn now_us(&self) -> u64 {
        self.world.conductor.now_us()
    }

    fn sleep(&self, time: Duration) {
        if !self.is_dead() {
            self.world.conductor.sleep(self.process, time);
        }
    }
}

/// The name under which a sidecar lies that is not beside the data file.
const ELSEWHERE: usize = usize::MAX;

struct SimMemory {
    world: Arc<World>,
    process: usize,
    name: usize,
    writable: bool,
    words: Arc<Words>,
    grave: Arc<Words>,
}

impl SimMemory {
    fn word(&self, index: usize) -> (usize, usize) {
        (Arc::as_ptr(&self.words).addr(), index)
    }
}

impl SharedMemory for SimMemory {
    fn words(&self) -> &[AtomicU64] {
        // The dead are told by a verdict: they write to their grave.
        let alive = self.world.conductor.before(self.process, Call::Memory) == Verdict::Go;
        if alive { &self.words.0 } else { &self.grave.0 }
    }

    fn id(&self) -> u64 {
        self.words.1
    }

    fn is_writable(&self) -> bool {
        self.writable
    }

    fn remove(&self) -> io::Result<()> {
        let alive = self.world.conductor.before(self.process, Call::Memory) == Verdict::Go;
        if alive && self.is_current() {
            self.world.state().sidecars.remove(&self.name);
        }
        Ok(())
    }

    fn is_current(&self) -> bool {
        let _ = self.world.conductor.before(self.process, Call::Memory);
        self.world.state().sidecars.get(&self.name).is_some_and(|words| Arc::ptr_eq(words, &self.words))
    }

    fn wait(&self, index: usize, expected: u32, timeout: Duration) {
        let word = self.words.0.get(index).map_or(0, |w| w.load(Ordering::SeqCst));
        if u32::try_from(word & 0xffff_ffff) == Ok(expected) {
            self.world.conductor.wait(self.process, self.word(index), timeout);
        }
    }

    fn wake_all(&self, index: usize) {
        self.world.conductor.wake(self.process, self.word(index));
    }
}

/// The file at the end of a record, but one block of one write never reached its place: it was lost,
/// or it went elsewhere. Both happened although the disk said that all was well.
pub(crate) fn with_a_lying_disk(start: &Image, events: &[Event], rng: &mut Rng) -> Image {
    let mut image = start.clone();
    let writes = events.iter().filter(|event| matches!(event, Event::Write { .. })).count();
    // Late writes are more often the ones that still matter.
    let victim = writes - 1 - rng.below(writes).min(rng.below(writes));
    let (misdirected, mut nth) = (rng.one_in(2), 0);
    for event in events {
        match event {
            Event::Write { first, blocks, len } => {
                image.set_len(*len);
                let lost = if nth == victim { rng.below(blocks.len()) } else { usize::MAX };
                for (i, block) in blocks.iter().enumerate() {
                    let place = if i != lost {
                        first + i
                    } else if misdirected {
                        rng.below(image.blocks.len())
                    } else {
                        continue;
                    };
                    image.blocks[place] = Arc::clone(block);
                }
                nth += 1;
            }
            Event::SetLen { len, cut } => {
                image.set_len(*len);
                if let Some((index, block)) = cut {
                    image.blocks[*index] = Arc::clone(block);
                }
            }
            _ => {}
        }
    }
    image
}

// What a crash leaves.
