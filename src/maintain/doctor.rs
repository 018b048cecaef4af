//! A diagnosis for a user with a problem: everything that can be found out about a store and its surroundings,
//! without changing a byte. Each source is queried separately, and one that fails does not affect the rest: the
//! second reader for the file (`quick`, or the full check), the system for the holders of locks (`holders`), the
//! directory (`beside`), and the engine, if it can open the store, for the processes' counters. `judge` derives
//! concerns from the figures.

mod beside;
pub(crate) mod diagnosis;
mod holders;
mod judge;
mod quick;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::disk::host::time_of;
use crate::disk::platform::Disk;
use crate::disk::unix::{OpenMode, UnixDisk};
use crate::error::{Error, Result};
use crate::maintain::check::{CheckOptions, Report, check_with};
use crate::maintain::watch::Progress;
use crate::{ArchiveStatus, Locks, LogStats, Options, Stats};
use diagnosis::{Diagnosis, Extent, FilePlace, Health, LogState, SpaceUse, StoreState, TableSize};
use quick::Look;

/// How long opening the store may wait for a process that is opening it.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// Findings reported in full.
const FINDINGS: usize = 20;

/// How [`diagnose`] works.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
/// use memstone::{BackupDir, BackupOptions, DiagnoseOptions, Extent};
/// store.write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
/// let backups = BackupDir::create(dir.path().join("backups"))?;
/// backups.backup(&store.read()?, false, BackupOptions::new())?;
/// let options = DiagnoseOptions::new().full(true).backups(backups.path());
/// let diagnosis = memstone::diagnose(store.path(), &options)?;
/// assert_eq!((diagnosis.health.extent, diagnosis.backups.unwrap().good), (Extent::Full, 1));
/// # Ok::<(), memstone::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct DiagnoseOptions {
    full: bool,
    backups: Option<PathBuf>,
}

impl DiagnoseOptions {
    /// The defaults: a quick check, no directory of backups.
    #[must_use]
    pub fn new() -> DiagnoseOptions {
        DiagnoseOptions::default()
    }

    /// Whether everything is verified, as [`check`](crate::check) does, instead of everything except leaves and
    /// long values (default: no).
    #[must_use]
    pub fn full(mut self, full: bool) -> DiagnoseOptions {
        self.full = full;
        self
    }

    /// The directory of the store's backups (default: the one that the log is archived in, if any).
    #[must_use]
    pub fn backups(mut self, directory: impl Into<PathBuf>) -> DiagnoseOptions {
        self.backups = Some(directory.into());
        self
    }
}

/// What the engine reports about a store that it can open.
struct Told {
    stats: Stats,
    locks: Locks,
    archive: std::result::Result<Option<ArchiveStatus>, Error>,
}

/// Everything found, before it is judged.
struct Found {
    path: PathBuf,
    now: SystemTime,
    /// `None`: the file cannot be opened.
    look: Result<Look>,
    full: Option<Result<Report>>,
    told: Result<Told>,
    holders: holders::Held,
    place: std::io::Result<FilePlace>,
}

/// Examines a store, whole or damaged, in use or not, and its surroundings; reports what needs attention and what
/// to do about it. Nothing is changed: the store is opened for reading, if possible.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("memory.mst");
/// use memstone::{DiagnoseOptions, Store, Subject, Urgency};
/// let store = Store::open(&path)?;
/// store.write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
/// let diagnosis = memstone::diagnose(&path, &DiagnoseOptions::new())?;
/// assert_eq!((diagnosis.health.damage, diagnosis.tables[0].entries), (0, 1));
/// // No backups were named, which is worth a note.
/// assert!(diagnosis.concerns.iter().any(|concern| concern.subject == Subject::Backup));
/// if diagnosis.needs_attention() {
///     assert!(diagnosis.urgency() >= Some(Urgency::Attention));
///     diagnosis.concerns.iter().for_each(|concern| println!("{}: {}", concern.what, concern.remedy));
/// }
/// # Ok::<(), memstone::Error>(())
/// ```
///
/// # Errors
/// [`Error::NotFound`]; [`Error::NotAStore`] for a directory or a device. Any other problem is in the
/// [`Diagnosis`].
pub fn diagnose(path: impl AsRef<Path>, options: &DiagnoseOptions) -> Result<Diagnosis> {
    diagnose_with(path, options, |_| ControlFlow::Continue(()))
}

/// [`diagnose`], with a callback that receives the progress of a full check, and may cancel it.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
/// use memstone::DiagnoseOptions;
/// use std::ops::ControlFlow;
/// store.write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
/// let mut calls = 0;
/// let full = DiagnoseOptions::new().full(true);
/// memstone::diagnose_with(store.path(), &full, |progress| {
///     calls += 1;
///     println!("{:?}: {} of {}", progress.phase, progress.bytes, progress.total);
///     ControlFlow::Continue(())
/// })?;
/// assert!(calls > 0);
/// # Ok::<(), memstone::Error>(())
/// ```
///
/// # Errors
/// As [`diagnose`]; [`Error::Cancelled`] if the callback broke the check off.
pub fn diagnose_with(
    path: impl AsRef<Path>,
    options: &DiagnoseOptions,
    progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<Diagnosis> {
    let path = path.as_ref();
    let disk: Result<Arc<dyn Disk>> = match UnixDisk::open(path, OpenMode { read_only: true, create: false }) {
        Err(error @ (Error::NotFound { .. } | Error::NotAStore { .. })) => return Err(error),
        opened => opened.map(|disk| Arc::new(disk) as _),
    };
    // Before this process takes locks itself.
    let holders = disk.as_ref().map(holders::look).unwrap_or_default();
    let full = options.full.then(|| check_with(path, &CheckOptions::new().max_findings(FINDINGS), progress));
    if let Some(Err(error @ Error::Cancelled { .. })) = full {
        return Err(error);
    }
    let found = Found {
        path: path.to_path_buf(),
        now: SystemTime::now(),
        look: disk.and_then(|disk| quick::look(&*disk)),
        full,
        told: ask_engine(path),
        holders,
        place: beside::place(path),
    };
    Ok(put_together(found, options))
}

/// Opens the store for reading, and asks for its figures.
fn ask_engine(path: &Path) -> Result<Told> {
    let store = Options::new().create(false).read_only(true).timeout(LOCK_WAIT).open(path)?;
    Ok(Told { stats: store.stats()?, locks: store.locks()?, archive: store.archive_status() })
}

fn put_together(found: Found, options: &DiagnoseOptions) -> Diagnosis {
    let told = found.told.as_ref().ok();
    let look = found.look.as_ref().ok();
    let archive = told.and_then(|told| told.archive.as_ref().ok()?.clone());
    let store = look.and_then(|look| store_state(look, told));
    let id = store.as_ref().map(|store| store.id.clone());
    let directory = options.backups.clone().or_else(|| Some(archive.as_ref()?.directory.clone()));
    let backups = directory.map(|directory| beside::backups(directory, id.as_deref()));
    let mut diagnosis = Diagnosis {
        path: found.path.clone(),
        time: found.now,
        concerns: Vec::new(),
        health: health(&found),
        tables: look.map(|look| tables(look, &found)).unwrap_or_default(),
        space: look.and_then(space),
        log: log(look, told),
        processes: found.holders.processes(told.map(|told| &told.locks), found.now),
        pins: found.holders.pins(look, told.map(|told| &told.locks), found.now),
        snapshots: told.map(|told| told.stats.snapshots.clone()).unwrap_or_default(),
        locks: told.map(|told| told.stats.locks.clone()),
        place: found.place.as_ref().ok().cloned(),
        leftovers: beside::leftovers(&found.path, found.now),
        backups: backups.as_ref().and_then(|news| news.as_ref().ok().cloned()),
        archive,
        store,
    };
    let mut concerns = judge::concerns(&found, &diagnosis, backups.as_ref().and_then(|news| news.as_ref().err()));
    concerns.sort_by_key(|concern| std::cmp::Reverse(concern.urgency));
    diagnosis.concerns = concerns;
    diagnosis
}

fn health(found: &Found) -> Health {
    if let Some(Ok(report)) = &found.full {
        let unfinished = report.notes.first().cloned();
        let (damage, warnings, findings) = (report.damage, report.warnings, report.findings.clone());
        return Health { extent: Extent::Full, unfinished, damage, warnings, findings };
    }
    let refused = found.full.as_ref().and_then(|full| full.as_ref().err()).map(ToString::to_string);
    match &found.look {
        Ok(look) => {
            let damage = look.findings.iter().filter(|f| f.severity == crate::Severity::Damage).count() as u64;
            let warnings = look.findings.len() as u64 - damage;
            let findings = look.findings.iter().take(FINDINGS).cloned().collect();
            let unfinished = refused.or_else(|| look.unfinished.clone());
            Health { extent: Extent::Quick, unfinished, damage, warnings, findings }
        }
        Err(error) => Health {
            extent: Extent::Quick,
            unfinished: Some(error.to_string()),
            damage: 0,
            warnings: 0,
            findings: Vec::new(),
        },
    }
}

fn store_state(look: &Look, told: Option<&Told>) -> Option<StoreState> {
    let root = look.root.as_ref()?;
    Some(StoreState {
        id: root.store.iter().map(|byte| format!("{byte:02x}")).collect(),
        format_version: root.format_version,
        page_size: root.page_size,
        file_size: look.file_size,
        root_sequence: root.sequence,
        checkpoint_lsn: root.checkpoint_lsn,
        checkpoint_time: (root.commit_time != 0).then(|| time_of(root.commit_time)),
        last_commit: told.map(|told| told.stats.last_commit),
    })
}

/// The tables that readers see, or those in the tree, each with its size.
fn tables(look: &Look, found: &Found) -> Vec<TableSize> {
    let page_size = look.root.as_ref().map_or(0, |root| u64::from(root.page_size));
    let mut tables: Vec<TableSize> = match &found.told {
        Ok(told) => told
            .stats
            .tables
            .iter()
            .map(|table| TableSize {
                name: table.name.clone(),
                entries: table.entries,
                key_type: table.key_type.clone(),
                value_type: table.value_type.clone(),
                size: table.pages.saturating_mul(page_size),
                content: table.bytes,
            })
            .collect(),
        Err(_) => look
            .trees
            .iter()
            .map(|(row, tree)| TableSize {
                name: row.name.clone(),
                entries: tree.count,
                key_type: row.key_type.clone(),
                value_type: row.value_type.clone(),
                size: tree.pages.saturating_mul(page_size),
                content: tree.bytes,
            })
            .collect(),
    };
    tables.sort_by_key(|table| std::cmp::Reverse(table.size));
    tables
}

fn space(look: &Look) -> Option<SpaceUse> {
    let (root, (free, pending)) = (look.root.as_ref()?, look.space?);
    let size = u64::from(root.page_size);
    let log = root.segments.iter().map(|(_, pages)| u64::from(*pages)).sum::<u64>();
    Some(SpaceUse { total: root.page_count * size, log: log * size, free: free * size, pending: pending * size })
}

fn log(look: Option<&Look>, told: Option<&Told>) -> Option<LogState> {
    let read = look.and_then(|look| look.log);
    let transactions = read.map(|log| log.transactions);
    match (told, read) {
        (Some(Told { stats, .. }), _) => {
            let LogStats { capacity, used, cap, .. } = stats.log;
            Some(LogState { capacity, used, cap: Some(cap), transactions })
        }
        (None, Some(log)) => Some(LogState { capacity: log.capacity, used: log.used, cap: None, transactions }),
        (None, None) => None,
    }
}
