//! A backup and all that it builds on, read as one state.

use crate::bytes::Bytes;
use crate::disk::rename::parent_of;
use crate::disk::root::{read_head, read_slots};
use crate::error::{CorruptionKind, Error, Result};
use crate::{Options, Store};
use std::fs::{self, File};
use std::ops::{Bound, Deref, RangeBounds};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::full::hash_of;
use super::manifest::{BackupKind, Manifest, TableManifest, hex};
use super::options::Watch;
use super::rows::{Item, Items, Row, Rows, Source, State};
use super::stream_reader::{Event, Records, StreamFile};

/// No chain has more increments.
const LONGEST: usize = 10_000;

/// What is at the bottom of a chain.
enum Ground {
    /// A store; it stays open, and its snapshot held, as long as its state is read.
    Store(Box<State>, crate::Snapshot),
    /// A stream of all rows.
    Stream(Box<StreamFile>),
}

/// A state that lies in one backup or in several.
pub(super) struct Chain {
    ground: Ground,
    /// What was changed later, the oldest first.
    increments: Vec<StreamFile>,
    manifest: Manifest,
}

impl Chain {
    /// Opens a backup, or any store, and what it builds on.
    pub(super) fn open(path: &Path) -> Result<Chain> {
        Chain::open_on(path, None)
    }

    /// With `base` in the place of the file that the backup names as its base.
    fn open_on(path: &Path, base: Option<&Path>) -> Result<Chain> {
        let mut increments: Vec<StreamFile> = Vec::new();
        let (mut path, mut next) = (path.to_path_buf(), base.map(Path::to_path_buf));
        let ground = loop {
            match open_backup(&path)? {
                Some(stream) if stream.manifest.kind == BackupKind::Increment => {
                    let found = next.take().map_or_else(|| find_base(&stream), Ok)?;
                    increments.push(stream);
                    path = found;
                }
                Some(stream) if stream.start() == 0 => break Ground::Stream(Box::new(stream)),
                _ => break Chain::open_store(&path)?,
            }
            if increments.len() > LONGEST {
                return Err(unusable(&path, format!("it builds on more than {LONGEST} increments")));
            }
        };
        increments.reverse();
        let manifest = match (increments.last(), &ground) {
            (Some(newest), _) => newest.manifest.clone(),
            (None, Ground::Stream(stream)) => stream.manifest.clone(),
            (None, Ground::Store(state, snapshot)) => match open_backup(&path)? {
                Some(stream) => stream.manifest,
                None => snapshot.describe(state)?,
            },
        };
        Ok(Chain { ground, increments, manifest })
    }

    fn open_store(path: &Path) -> Result<Ground> {
        // Nobody writes to a backup, so it may lie where locks cannot be trusted.
        let store = Options::new().create(false).read_only(true).single_process(true).open(path)?;
        let snapshot = Store::read(&store)?;
        let state = snapshot.state()?;
        Ok(Ground::Store(Box::new(state), snapshot))
    }

    /// What the newest of them says of itself.
    pub(super) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The backup that an increment is to build on.
    pub(super) fn base_of_increment(path: &Path) -> Result<StreamFile> {
        match open_backup(path)? {
            Some(stream) if stream.start() > 0 || stream.manifest.kind == BackupKind::Increment => Ok(stream),
            Some(_) => {
                Err(unusable(path, "a stream cannot be the base of an increment; use a full backup in a file".into()))
            }
            None => {
                let reason = "it has no manifest: it is no backup, or was written to since; make a full backup";
                Err(unusable(path, reason.to_owned()))
            }
        }
    }

    /// Verifies an increment on its base before it gets its name: every block, and, if it has a hash of the
    /// content, that it gives that content.
    pub(super) fn verify_increment(path: &Path, base: &Path, watch: &mut Watch<'_>) -> Result<()> {
        let Some(stream) = StreamFile::open(path)? else {
            return Err(Error::corrupt(CorruptionKind::Backup, 0, None, "an increment", "something else").in_file(path));
        };
        stream.verify(watch)?;
        let Some(expected) = &stream.manifest.content_hash else { return Ok(()) };
        let chain = Chain::open_on(path, Some(base))?;
        let found = hash_of(&chain).map(|hash| hex(&hash));
        if found.as_ref().is_ok_and(|found| found == expected) {
            return Ok(());
        }
        let found = found.map_or_else(|error| error.to_string(), |hash| format!("content hash {hash}"));
        let reason = format!(
            "no increment can build on it: together they do not give the state that was backed up ({found} instead of {expected}); \
             the store's file may have been put back from a copy since; make a full backup"
        );
        Err(unusable(base, reason))
    }

    /// Verifies the blocks of all streams; pages of a store are verified as they are read.
    pub(super) fn verify_streams(&self, watch: &mut Watch<'_>) -> Result<()> {
        let ground = if let Ground::Stream(stream) = &self.ground { Some(&**stream) } else { None };
        ground.into_iter().chain(&self.increments).try_for_each(|stream| stream.verify(watch))
    }

    /// The rows of a table, up to and including so many increments.
    fn rows_with(&self, table: u32, increments: usize) -> Result<Rows<'_>> {
        let Some(newest) = increments.checked_sub(1) else {
            return match &self.ground {
                Ground::Store(state, _) if state.has(table) => state.rows(table),
                Ground::Store(..) => Ok(Box::new(std::iter::empty())),
                Ground::Stream(stream) => events(stream, table, Box::new(std::iter::empty())),
            };
        };
        let Some(stream) = self.increments.get(newest) else { return Ok(Box::new(std::iter::empty())) };
        events(stream, table, self.rows_with(table, newest)?)
    }
}

impl Source for Chain {
    fn tables(&self) -> &[TableManifest] {
        &self.manifest.tables
    }

    fn rows(&self, table: u32) -> Result<Rows<'_>> {
        self.rows_with(table, self.increments.len())
    }

    fn items(&self, table: u32) -> Result<Items<'_>> {
        match &self.ground {
            Ground::Store(state, _) if self.increments.is_empty() && state.has(table) => state.items(table),
            _ => Ok(Box::new(self.rows(table)?.map(|row| row.map(Item::Row)))),
        }
    }
}

/// The rows of a table as a stream has them, over those of its base.
fn events<'s>(stream: &'s StreamFile, table: u32, base: Rows<'s>) -> Result<Rows<'s>> {
    let Some(records) = stream.table(table)? else { return Ok(Box::new(std::iter::empty())) };
    let mut merged = Merged { records, base, head: None, keep: None, path: stream.path() };
    Ok(Box::new(std::iter::from_fn(move || merged.next().transpose())))
}

/// What a stream says of a table, over the rows of its base.
struct Merged<'s> {
    records: Records<'s>,
    base: Rows<'s>,
    /// The next row of the base.
    head: Option<Row<'s>>,
    /// What is being kept: up to here, and whether a row with this very key is still to come.
    keep: Option<(Bound<Bytes<'static>>, bool)>,
    path: &'s Path,
}

impl<'s> Merged<'s> {
    fn next(&mut self) -> Result<Option<Row<'s>>> {
        loop {
            if let Some((to, _)) = self.keep.clone()
                && let Some(row) = self.kept(&to)?
            {
                return Ok(Some(row));
            }
            match self.records.event()? {
                Some(Event::Row(key, value)) => return Ok(Some((key, value))),
                Some(Event::Keep(from, to)) => self.begin(&from, to)?,
                None => return Ok(None),
            }
        }
    }

    /// The next row that is kept; none when the last was given.
    fn kept(&mut self, to: &Bound<Bytes<'static>>) -> Result<Option<Row<'s>>> {
        let row = match self.head.take() {
            Some(row) => Some(row),
            None => self.base.next().transpose()?,
        };
        let kept = (Bound::Unbounded, to.as_ref().map(Deref::deref));
        match row {
            Some((key, value)) if RangeBounds::<[u8]>::contains(&kept, &*key) => {
                if matches!(to, Bound::Included(last) if **last == *key) {
                    self.keep = None;
                }
                Ok(Some((key, value)))
            }
            row => {
                self.head = row;
                if self.keep.take().is_some_and(|(_, expected)| expected) { Err(self.misfit()) } else { Ok(None) }
            }
        }
    }

    /// Goes to the first row of the base that is kept. Where the increment names keys of the base, they must be there.
    fn begin(&mut self, from: &Bound<Bytes<'static>>, to: Bound<Bytes<'static>>) -> Result<()> {
        let kept = (from.as_ref().map(Deref::deref), Bound::Unbounded);
        loop {
            if self.head.is_none() {
                self.head = self.base.next().transpose()?;
            }
            if self.head.as_ref().is_none_or(|(key, _)| RangeBounds::<[u8]>::contains(&kept, &**key)) {
                break;
            }
            self.head = None;
        }
        if let Bound::Included(first) = from
            && self.head.as_ref().is_none_or(|(key, _)| **key != **first)
        {
            return Err(self.misfit());
        }
        let expected = matches!(to, Bound::Included(_));
        self.keep = Some((to, expected));
        Ok(())
    }

    fn misfit(&self) -> Error {
        unusable(self.path, "it does not fit the backup that it builds on: a row that it keeps is not there".to_owned())
    }
}

fn unusable(path: &Path, reason: String) -> Error {
    Error::Backup { path: path.to_path_buf(), reason }
}

/// A backup's own words: of a stream, or of a store with a manifest that still speaks of it.
pub(super) fn open_backup(path: &Path) -> Result<Option<StreamFile>> {
    let Some(stream) = StreamFile::open(path)? else { return Ok(None) };
    if stream.start() == 0 {
        return Ok(Some(stream));
    }
    // A process that has written to the store since has made another root, or left a frame in the log.
    let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    let head = read_head(|bytes, at| file.read_at(bytes, at));
    let root = read_slots(&head.map_err(|e| Error::io("read the root slots", path, e))?, path)?.newest;
    let page_size = u64::from(root.page_size);
    let log = root.segments.first().map_or(0, |segment| u64::from(segment.page) * page_size + root.log_offset);
    let mut frame = [0; 8];
    file.read_exact_at(&mut frame, log).map_err(|e| Error::io("read the log", path, e))?;
    let unchanged = stream.start() == root.page_count * page_size
        && root.sequence == super::builder::LAST_VERSION
        && frame == [0; 8];
    Ok(unchanged.then_some(stream))
}

/// The file of the backup that an increment builds on: the one that it names, or another one beside it.
fn find_base(stream: &StreamFile) -> Result<PathBuf> {
    let directory = parent_of(stream.path());
    let Some(base) = &stream.manifest.base else {
        return Err(unusable(stream.path(), "it is an increment, and names no base".to_owned()));
    };
    let is_it = |path: &Path| matches!(open_backup(path), Ok(Some(found)) if found.manifest.id == base.id);
    // Its name alone: a path in a forged file must not lead elsewhere.
    let named = Path::new(&base.file).file_name().map(|name| directory.join(name));
    if let Some(named) = named.filter(|path| is_it(path)) {
        return Ok(named);
    }
    let entries = fs::read_dir(&directory).map_err(|e| Error::io("list", &directory, e))?;
    let found = entries.flatten().map(|entry| entry.path()).find(|path| path.is_file() && is_it(path));
    found.ok_or_else(|| {
        let reason = format!("it builds on backup {} ({:?}), which is not beside it", base.id, base.file);
        unusable(stream.path(), reason)
    })
}
