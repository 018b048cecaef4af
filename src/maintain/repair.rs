//! Repair and salvage: a new store with everything of a damaged one that can be proved, and a report of the rest.
//!
//! The damaged file is read by the check's own reader of the format, and never written. The result is written
//! through the engine, like any store.
//!
//! 1. `patient`: the damaged store, kept from being changed;
//! 2. `source`: the root whose trees hold best, by `survey`; without one, a root put together from what pages say of themselves;
//! 3. `plan`: its tables, and by one pass over all pages (`scan`) the leaves that lie in their gaps;
//! 4. `copy`: trees around their gaps (`tree`), what `leaves` fill these with, as far as `space` proves it, then the `log`;
//! 5. `target`: the result, under another name until it is whole, durable and verified.

mod bits;
mod copy;
mod leaves;
mod log;
mod patient;
mod plan;
pub(crate) mod report;
mod scan;
mod source;
mod space;
mod survey;
mod target;
#[cfg(test)]
mod tests;
mod tree;

use std::ffi::OsString;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::disk::platform::Disk;
use crate::error::{Error, Result};
use crate::maintain::watch::{Phase, Progress, Watch};
use report::{RepairReport, RepairedTable};
use target::Target;

/// How [`repair`] works.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("memory.mst");
/// use memstone::{RepairOptions, Store};
/// Store::open(&path)?.write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
/// let aside = RepairOptions::new().output(dir.path().join("mended.mst"));
/// assert_eq!(memstone::repair(&path, &aside)?.output, dir.path().join("mended.mst"));
/// // With all that is found, and by the damaged one's name:
/// let report = memstone::repair(&path, &RepairOptions::new().unproven(true).in_place(true))?;
/// assert!(report.output == path && report.kept.is_some());
/// # Ok::<(), memstone::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct RepairOptions {
    output: Option<PathBuf>,
    in_place: bool,
    unproven: bool,
}

impl RepairOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> RepairOptions {
        RepairOptions::default()
    }

    /// The file to write, which must not exist yet. Default: beside the damaged file, with `.repaired` appended
    /// to its name.
    #[must_use]
    pub fn output(mut self, path: impl Into<PathBuf>) -> RepairOptions {
        self.output = Some(path.into());
        self
    }

    /// Whether the repaired store takes over the damaged one's name. The damaged file is kept beside it; see
    /// [`RepairReport::kept`]. No process may have the store open. Default: no.
    #[must_use]
    pub fn in_place(mut self, in_place: bool) -> RepairOptions {
        self.in_place = in_place;
        self
    }

    /// Whether the result also gets rows that cannot be proved to be current: rows of pages that were freed,
    /// where newer ones are destroyed, and frames of the log behind a damaged one. This may bring back deleted
    /// rows, or outdated versions of rows. The report lists them in either case. Default: no.
    #[must_use]
    pub fn unproven(mut self, unproven: bool) -> RepairOptions {
        self.unproven = unproven;
        self
    }
}

/// Writes a new store with everything of a damaged one that can be proved, and reports the rest. See [`repair_with`].
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("memory.mst");
/// use memstone::{RepairOptions, Store};
/// # Store::open(&path)?.write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
/// let report = memstone::repair(&path, &RepairOptions::new())?;
/// assert!(report.is_complete());
/// let repaired = Store::open(&report.output)?;
/// assert_eq!(repaired.read()?.raw("t")?.get(b"k")?.unwrap(), b"v");
/// # Ok::<(), memstone::Error>(())
/// ```
///
/// # Errors
/// As [`repair_with`].
pub fn repair(path: impl AsRef<Path>, options: &RepairOptions) -> Result<RepairReport> {
    repair_with(path, options, |_| ControlFlow::Continue(()))
}

/// [`repair`], with a callback that receives the progress from time to time, and may cancel the repair.
///
/// The damaged file is not written. The result gets its name only when it is whole, durable and verified: if the
/// repair ends before that, nothing is left under the name. It has the same tables, with their names, types and
/// rows; page numbers, LSNs and the store's id are new. Memory: the names of the tables, the keys at the ends of
/// destroyed parts, one key for each leaf found in them, the list of the log's frames, and 16 MiB of rows, or the
/// longest value.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("memory.mst");
/// use memstone::{Error, RepairOptions, Store};
/// use std::ops::ControlFlow;
/// # Store::open(&path)?.write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
/// let options = RepairOptions::new().output(dir.path().join("mended.mst"));
/// let cancelled = memstone::repair_with(&path, &options, |_| ControlFlow::Break(()));
/// assert!(matches!(cancelled, Err(Error::Cancelled { .. })));
/// assert!(!dir.path().join("mended.mst").exists());
/// # Ok::<(), memstone::Error>(())
/// ```
///
/// # Errors
/// [`Error::Busy`] if another process may write to the store, or, for a repair in place, has it open at all;
/// [`Error::NotAStore`] if no page of the file is one of a store; [`Error::Format`]; [`Error::NotFound`]; [`Error::Cancelled`] if the
/// callback broke it off; [`Error::Full`], [`Error::Io`], also if there is a file of the output's name.
pub fn repair_with(
    path: impl AsRef<Path>,
    options: &RepairOptions,
    mut progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<RepairReport> {
    let path = path.as_ref();
    let watch = &mut Watch::new(path, &mut progress);
    let output = match &options.output {
        _ if options.in_place => path.to_path_buf(),
        Some(output) => output.clone(),
        None => with_ending(path, ".repaired"),
    };
    if !options.in_place && output.symlink_metadata().is_ok() {
        let cause = std::io::ErrorKind::AlreadyExists.into();
        return Err(Error::Io { op: "create the repaired store", path: output, cause });
    }
    let disk = patient::open(path, options.in_place)?;
    watch.phase(Phase::Reading, 0)?;
    let mut survey = source::choose(&disk, watch)?;
    let mut plan = plan::plan(&mut survey, options.unproven, watch)?;
    if let Some(row) = plan.tables.iter().map(|table| &table.row).find(|row| row.unknown_flags() != 0) {
        let found = format!("the table {:?} with the flags {:#x}", row.name, row.unknown_flags());
        return Err(Error::newer(path, found, "none of these"));
    }
    watch.phase(Phase::Writing, 0)?;
    let names = plan.tables.iter().map(|table| table.row.clone()).collect();
    let mut target = Target::create(path, &output, &survey.root, names, plan.user_version)?;
    let tables = copy::copy(&survey, &mut plan, &mut target, options.unproven, watch)?;
    watch.phase(Phase::Verifying, 0)?;
    let (hash, counts) = target.finish()?;
    let mut report = tell(&survey, &plan, tables, options.unproven);
    for table in &mut report.tables {
        table.entries = counts.iter().find(|info| info.name == table.name).map_or(0, |info| info.entries);
    }
    report.content_hash = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    watch.phase(Phase::Publishing, 0)?;
    if options.in_place {
        let kept = damaged_name(path);
        target.replace(path, &kept)?;
        report.kept = Some(kept);
    } else {
        target.publish(&output)?;
    }
    report.path = disk.path().to_path_buf();
    report.output = output;
    Ok(report)
}

fn tell(survey: &survey::Survey<'_>, plan: &plan::Plan, tables: Vec<RepairedTable>, unproven: bool) -> RepairReport {
    let mut notes: Vec<String> = survey.space.notes.iter().chain(&survey.log.notes).cloned().collect();
    for (own, what) in
        [(&survey.catalog, "catalog"), (&survey.names, "names table"), (&survey.snapshots, "table of named snapshots")]
    {
        let gap = |gap: &tree::Gap| format!("the {what} at page {}: {}", gap.page, gap.why);
        notes.extend(own.tree.gaps.iter().map(gap));
    }
    let newest = plan.frames.last().map_or(survey.log.lsn, |mark| mark.lsn);
    RepairReport {
        page_size: survey.root.page_size,
        root: survey.source,
        root_sequence: survey.root.sequence,
        lsn: newest,
        lost_to_lsn: survey.log.lost_to,
        frames: plan.frames.len() as u64,
        frames_beyond: copy::beyond(survey, unproven),
        tables,
        lost_snapshots: survey.snapshots.rows.iter().map(|(name, _)| name.escape_ascii().to_string()).collect(),
        tables_may_be_missing: !survey.knows_its_tables(),
        notes,
        ..RepairReport::default()
    }
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path.as_os_str());
    name.push(ending);
    PathBuf::from(name)
}

/// An unused name for the damaged file.
fn damaged_name(path: &Path) -> PathBuf {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let names = (0..u32::MAX).map(|n| match n {
        0 => with_ending(path, &format!(".damaged-{time}")),
        n => with_ending(path, &format!(".damaged-{time}-{n}")),
    });
    names.into_iter().find(|name| name.symlink_metadata().is_err()).unwrap_or_else(|| with_ending(path, ".damaged"))
}
