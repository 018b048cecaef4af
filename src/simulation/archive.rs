//! The archive of the log, over power losses: whatever a crash leaves of the store, and of what was just appended to the
//! archive, the archive goes on without a gap, and each of its transactions leads to the state that it made.
//!
//! The archive's files are real. What they hold is noted with the place in the record of the store's disk at which each
//! call of the archive began and ended.

use super::crash::commit_next;
use super::model::{KINDS, Kind, META, Model, NUMBER, Step, commit, number, numbered, steps};
use super::unsynced_root::{LOG_CAP, Script, put, put_and_repair, put_much};
use super::{check, effort, settings};
use crate::archive::keeper::Keeper;
use crate::archive::reader::{Archived, Until};
use crate::archive::setting::Setting;
use crate::disk::format::{FIRST_USER_TABLE, TABLE_NAMES};
use crate::disk::sim::{Call, Event, Free, Image, Limits, Replay, Rng, Verdict, World};
use crate::engine::archive::{Archive, Batch, KeptChange, LargeTransaction};
use crate::engine::commit::Durability;
use crate::engine::{Settings, open};
use crate::error::{Error, Result};
use crate::store::Store;
use crate::store::archive::ArchiveStatus;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// All files of a directory.
type Files = BTreeMap<PathBuf, Vec<u8>>;

fn files(directory: &Path) -> Files {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().path()).map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn put_back(directory: &Path, files: &Files) {
    for entry in fs::read_dir(directory).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    files.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
}

/// An archive whose files are noted after each call.
#[derive(Debug)]
struct Spy {
    keeper: Keeper,
    world: Arc<World>,
    directory: PathBuf,
    noted: Mutex<Vec<(usize, Files)>>,
    /// Calls are refused while it says so.
    refuses: Mutex<bool>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("World")
    }
}

impl Spy {
    fn call(&self, call: impl FnOnce(&Keeper) -> Result<()>) -> Result<()> {
        if *self.refuses.lock().unwrap() {
            return Err(Error::Invalid("refused".to_owned()));
        }
        let done = call(&self.keeper);
        self.note();
        done
    }

    fn note(&self) {
        let events = self.world.history().1.len();
        self.noted.lock().unwrap().push((events, files(&self.directory)));
    }
}

impl Archive for Spy {
    fn keep(&self, batch: &Batch<'_>) -> Result<()> {
        self.call(|keeper| keeper.keep(batch))
    }
    fn keep_large(&self, large: &LargeTransaction<'_>) -> Result<()> {
        self.call(|keeper| keeper.keep_large(large))
    }
    fn confirm(&self, lsn: u64) -> Result<()> {
        self.call(|keeper| keeper.confirm(lsn))
    }
    fn trouble(&self) -> Option<String> {
        self.keeper.trouble()
    }
}

fn with(archive: Arc<dyn Archive>, log_cap: u64) -> Settings {
    Settings { archive: Some(archive), ..settings(log_cap) }
}

/// A directory in memory, where there is one: its flushes take no time.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// What was done, the state after each commit, and the archive at each time.
struct Recording {
    start: Image,
    events: Vec<Event>,
    states: Vec<Model>,
    noted: Vec<(usize, Files)>,
}

fn record(kind: Kind, steps: &[Step], directory: &Path) -> Recording {
    let world = World::new(Image::default(), Arc::new(Free));
    open::create(&*world.disk(0), 4096, *b"simulated store!").unwrap();
    world.record();
    let new_spy = |noted| {
        let (keeper, world, directory) = (Keeper::default(), Arc::clone(&world), directory.to_path_buf());
        Arc::new(Spy { keeper, world, directory, noted: Mutex::new(noted), refuses: Mutex::new(false) })
    };
    let mut spy = new_spy(Vec::new());
    let mut disk = world.disk(0);
    let mut store = Some(Store::on_disk(Arc::clone(&disk) as _, with(Arc::clone(&spy) as _, kind.log_cap())).unwrap());
    store.as_ref().unwrap().start_archive(directory).unwrap();
    world.record();
    spy.noted.lock().unwrap().clear();
    spy.note();
    let mut states = vec![Model::default()];
    for step in steps {
        let open = store.as_ref().unwrap();
        let newest = states.len() - 1;
        match step {
            Step::Commit(changes, durability) => commit_next(&world, open, &mut states, changes, *durability),
            Step::Checkpoint | Step::Flush => {
                open.checkpoint().unwrap();
                world.remark(Event::Acked(newest));
            }
            Step::Reopen => store.take().unwrap().close().unwrap(),
            Step::Die => {
                disk.kill();
                disk.silence();
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(store.take())));
            }
        }
        if store.is_none() {
            // Another process: it knows of the archive what the files say.
            let noted = std::mem::take(&mut *spy.noted.lock().unwrap());
            spy = new_spy(noted);
            disk = world.disk(0);
            let settings = with(Arc::clone(&spy) as _, kind.log_cap());
            store = Some(Store::on_disk(Arc::clone(&disk) as _, settings).unwrap());
            world.remark(Event::Acked(newest));
        }
    }
    let status = store.as_ref().unwrap().archive_now().unwrap();
    assert_eq!((status.gaps.len(), status.trouble), (0, None));
    leads_to(directory, &states, 1..=states.len() - 1).unwrap();
    drop(store);
    let (start, events) = world.history();
    let noted = std::mem::take(&mut *spy.noted.lock().unwrap());
    Recording { start, events, states, noted }
}

/// Reads the archive from its beginning, and holds the state after each transaction against the one with its number;
/// the numbers must be these, in order.
fn leads_to(directory: &Path, states: &[Model], numbers: impl IntoIterator<Item = usize>) -> Result<(), String> {
    let text = |e: Error| e.to_string();
    let archives = crate::archive::reader::archives(directory).map_err(text)?;
    let archive: &Archived = archives.first().ok_or("no archive")?;
    let survey = archive.survey(0, Until::Newest).map_err(text)?;
    if !survey.gaps.is_empty() {
        return Err(format!("gaps: {:?}", survey.gaps));
    }
    let mut names: BTreeMap<String, u32> = BTreeMap::new();
    let mut rows: BTreeMap<u32, BTreeMap<Vec<u8>, Arc<[u8]>>> = BTreeMap::new();
    let (mut at, mut found) = (0, Vec::new());
    let look = |names: &BTreeMap<String, u32>, rows: &BTreeMap<u32, BTreeMap<_, _>>, found: &mut Vec<usize>| {
        let rows_of = |id: &u32| Arc::new(rows.get(id).cloned().unwrap_or_default());
        let model = Model(names.iter().map(|(name, id)| (name.clone(), rows_of(id))).collect());
        let number = model
            .0
            .get(META)
            .and_then(|meta| meta.get(NUMBER))
            .map_or(0, |value| usize::try_from(u64::from_be_bytes(value[..].try_into().unwrap())).unwrap());
        // What was committed after the crash has a number of its own.
        if let Some(state) = states.get(number)
            && *state != model
        {
            return Err(format!("the archive leads to another state {number}"));
        }
        found.extend((number > 0).then_some(number));
        Ok(())
    };
    let mut wrong = Ok(());
    let read = archive.read(&survey, (0, u64::MAX), &mut |lsn, table, change| {
        if lsn != at && at != 0 && wrong.is_ok() {
            wrong = look(&names, &rows, &mut found);
        }
        at = lsn;
        let name = |key: &[u8]| String::from_utf8(key.to_vec()).unwrap();
        match change {
            KeptChange::Put { key, value } if table == TABLE_NAMES => {
                names.insert(name(key), crate::engine::table_row::TableEntry::decode(value).unwrap().id);
            }
            KeptChange::Delete { key } if table == TABLE_NAMES => _ = names.remove(&name(key)),
            KeptChange::Put { key, value } => {
                rows.entry(table).or_default().insert(key.to_vec(), value.into());
            }
            KeptChange::Delete { key } => _ = rows.entry(table).or_default().remove(key),
            KeptChange::Drop => _ = rows.remove(&table),
        }
        Ok(())
    });
    read.map_err(text)?;
    wrong?;
    look(&names, &rows, &mut found)?;
    let expected: Vec<usize> = numbers.into_iter().collect();
    if found != expected {
        return Err(format!("the archive has {found:?}"));
    }
    Ok(())
}

/// Goes on with the store and the archive as a crash left them.
fn go_on(image: Image, directory: &Path, log_cap: u64, states: &[Model]) -> Result<ArchiveStatus, String> {
    let text = |e: Error| e.to_string();
    let world = World::new(image, Arc::new(Free));
    let disk = world.disk(1);
    let store = Store::on_disk(Arc::clone(&disk) as _, with(Arc::new(Keeper::default()), log_cap)).map_err(text)?;
    let found = number(&store.read().map_err(text)?).map_err(text)?;
    commit(&store, &numbered(Vec::new(), 1_000_000), Durability::Sync).map_err(text)?;
    let status = store.archive_now().map_err(text)?;
    check::structure(&store)?;
    disk.silence();
    drop(store);
    if status.trouble.is_some() || !status.gaps.is_empty() {
        return Err(format!("found {found}: {status:?}"));
    }
    leads_to(directory, states, (1..=found).chain([1_000_000])).map_err(|e| format!("found {found}: {e}"))?;
    Ok(status)
}

/// What a crash in the middle of a call may leave of the archive: some of what was appended.
fn torn(before: &Files, after: &Files, rng: &mut Rng) -> Files {
    let mut torn = before.clone();
    for (path, bytes) in after {
        match before.get(path) {
            Some(old) if old.len() < bytes.len() => {
                let mut left = bytes[..old.len() + rng.below(bytes.len() - old.len() + 1)].to_vec();
                if left.len() > old.len() && rng.one_in(2) {
                    // A block that was not written yet.
                    let at = old.len() + rng.below(left.len() - old.len());
                    let end = left.len().min(at + 512);
                    left[at..end].fill(0);
                }
                torn.insert(path.clone(), left);
            }
            None if rng.one_in(2) => _ = torn.insert(path.clone(), bytes.clone()),
            _ => {}
        }
    }
    torn
}

fn explore(kind: Kind, seed: u64, count: usize, budget: usize) -> usize {
    let directory = directory();
    let mut rng = Rng(seed);
    let recording = record(kind, &steps(kind, &mut rng, count), directory.path());
    let mut replay = Replay::new(recording.start.clone());
    let mut states = 0;
    let every = (recording.events.len() / budget.max(1)).max(1);
    for (at, event) in recording.events.iter().enumerate() {
        let changed = replay.apply(event);
        // Each place at which the archive was called, and some of the others.
        let called = recording.noted.iter().any(|(count, _)| *count == at + 1);
        if !(called || changed && rng.one_in(every)) {
            continue;
        }
        let mut images = Vec::new();
        let limits = Limits { all: 2, sample: 2, torn: 1 };
        replay.crash_states(&mut rng, limits, &mut |_| true, &mut |image| images.push(image));
        images.truncate(3);
        let earlier = recording.noted.iter().rfind(|(count, _)| *count <= at);
        let here = recording.noted.iter().filter(|(count, _)| *count == at + 1);
        let whole: Vec<&Files> = earlier.into_iter().chain(here).map(|(_, files)| files).collect();
        let mut left: Vec<Files> = whole.iter().copied().cloned().collect();
        left.extend(whole.windows(2).map(|pair| torn(pair[0], pair[1], &mut rng)));
        for image in images {
            for files in &left {
                put_back(directory.path(), files);
                go_on(image.clone(), directory.path(), kind.log_cap(), &recording.states)
                    .unwrap_or_else(|e| panic!("{kind:?}, seed {seed}, event {at} of {}: {e}", recording.events.len()));
                states += 1;
            }
        }
    }
    states
}

#[test]
fn the_archive_goes_on_after_every_power_loss() {
    let seeds = effort("MEMSTONE_STATES", 1_000).div_ceil(1_000) as u64;
    for kind in KINDS {
        let states: usize = (1..=seeds).map(|seed| explore(kind, seed, 25, 25)).sum();
        println!("{kind:?}: {states} states");
        assert!(states > 20, "{kind:?}: {states}");
    }
}

/// A checkpoint that cannot be archived is a checkpoint all the same, and what is missing is told, now and later.
#[test]
fn what_could_not_be_archived_is_a_gap() {
    let directory = directory();
    let world = World::new(Image::default(), Arc::new(Free));
    open::create(&*world.disk(0), 4096, *b"simulated store!").unwrap();
    world.record();
    let spy = Arc::new(Spy {
        keeper: Keeper::default(),
        world: Arc::clone(&world),
        directory: directory.path().to_path_buf(),
        noted: Mutex::default(),
        refuses: Mutex::new(false),
    });
    let store = Store::on_disk(world.disk(0), with(Arc::clone(&spy) as _, 64 << 10)).unwrap();
    store.start_archive(directory.path()).unwrap();
    let put = |n: usize, len: usize| {
        store.write(|tx| tx.raw("t")?.put(&n.to_be_bytes(), &vec![n as u8; len])).unwrap();
        store.last_commit().unwrap()
    };
    let kept = put(1, 10);
    store.checkpoint().unwrap();
    *spy.refuses.lock().unwrap() = true;
    // Many times the log's cap: nothing stops.
    let lost = (0..100).fold(0, |_, n| put(n, 9000));
    store.checkpoint().unwrap();
    let status = store.archive_status().unwrap().unwrap();
    assert_eq!(status.gaps.iter().map(|gap| (gap.from, gap.to)).collect::<Vec<_>>(), [(kept, lost)], "{status:?}");
    *spy.refuses.lock().unwrap() = false;
    let next = put(3, 10);
    // A large transaction with nothing before it, too.
    let large = put(4, 60_000);
    let status = store.archive_now().unwrap();
    assert_eq!(status.gaps.iter().map(|gap| (gap.from, gap.to)).collect::<Vec<_>>(), [(kept, lost)], "{status:?}");
    assert_eq!((status.last, status.gaps[0].found.is_some()), (large, true));
    assert!(next > lost);
    let setting = Setting::decode(&store.read().unwrap().view().archive_setting().unwrap().unwrap()).unwrap();
    let archive = Archived::open(directory.path(), &setting.archive).unwrap().unwrap();
    let survey = archive.survey(0, Until::Newest).unwrap();
    let mut found = Vec::new();
    archive
        .read(&survey, (kept, u64::MAX), &mut |lsn, _, _| {
            found.push(lsn);
            Ok(())
        })
        .unwrap();
    found.dedup();
    assert_eq!(found, [next, large]);
}

/// What the archive leads to in the end: all rows of its one table.
fn rows_in_the_end(directory: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let archives = crate::archive::reader::archives(directory).unwrap();
    let survey = archives[0].survey(0, Until::Newest).unwrap();
    assert!(survey.gaps.is_empty(), "{:?}", survey.gaps);
    let mut rows = BTreeMap::new();
    let read = archives[0].read(&survey, (0, u64::MAX), &mut |_, table, change| {
        match change {
            KeptChange::Put { key, value } if table >= FIRST_USER_TABLE => {
                _ = rows.insert(key.to_vec(), value.to_vec())
            }
            KeptChange::Delete { key } if table >= FIRST_USER_TABLE => _ = rows.remove(key),
            _ => {}
        }
        Ok(())
    });
    read.unwrap();
    rows
}

/// A flush fails, in a commit or a checkpoint, and what it was to write is gone: what was never committed is not in the
/// archive, and LSNs that are passed over are no gap.
#[test]
fn a_failed_flush_makes_no_gap_and_leaves_no_lost_transaction() {
    for (nth, large, checkpoints) in
        (0..9).flat_map(|nth| [(nth, false, false), (nth, true, false), (nth, false, true)])
    {
        let place = format!("flush {nth}, large: {large}, checkpoints: {checkpoints}");
        let directory = directory();
        let script = Arc::new(Script::default());
        let world = World::new(Image::default(), Arc::clone(&script) as _);
        open::create(&*world.disk(0), 4096, *b"simulated store!").unwrap();
        let store =
            |process| Store::on_disk(world.disk(process) as _, with(Arc::new(Keeper::default()), LOG_CAP)).unwrap();
        let (first, second) = (store(0), store(1));
        first.start_archive(directory.path()).unwrap();
        put(&first, "first").unwrap();
        world.drop_unwritten(None);
        script.after(1, Call::Flush, nth, Verdict::Fail(libc::EIO));
        let done = if large { put_much(&second) } else { put(&second, "second") };
        let checkpointed = if checkpoints { second.checkpoint() } else { Ok(()) };
        world.drop_now();
        let third = store(2);
        put_and_repair(&third, "next");
        let status = (0..4).find_map(|_| third.archive_now().ok()).unwrap_or_else(|| panic!("{place}"));
        assert_eq!((&status.trouble, status.gaps.len()), (&None, 0), "{place}: {status:?}");
        let snapshot = third.read().unwrap();
        assert_eq!(status.last, snapshot.lsn(), "{place}, {done:?}, {checkpointed:?}");
        let table = snapshot.raw("t").unwrap();
        let rows = table.prefix(b"").unwrap().map(|row| row.map(|(key, value)| (key.to_vec(), value.to_vec())));
        assert_eq!(rows_in_the_end(directory.path()), rows.collect::<Result<_>>().unwrap(), "{place}");
    }
}
