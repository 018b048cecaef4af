//! The full verification of a store, beside live writers and without writing a byte.
//!
//! It reads the file according to the documented format alone. It shares with the engine only the format's
//! constants and the platform's interface, so that a bug in the engine is not repeated here. It reads each page
//! once, so that its time is bounded by the file's size, whatever the file holds; the pages of a tree are read in
//! the order in which they lie, not in that of their keys. It keeps one byte for each page, and for some of the
//! pages that are still to be read what they must be, so that memory is bounded, too.
//!
//! 1. `slots`: the newest root, which a shared lock on its version's byte then keeps whole;
//! 2. `log`: the chain of frames after the checkpoint;
//! 3. `tree`: catalog, names, and each table's tree with its long values: `levels` goes down from its root, `siblings` are the nodes of a level,
//!    `pieces` reads them, `leaves` judges them;
//! 4. `named`: what the named snapshots use beside that;
//! 5. `space`: the free map and the pending list;
//! 6. `uses`: each page has exactly one use;
//! 7. `other`: the tree of the root before, which serves if the newest one is lost.

mod leaves;
mod levels;
mod log;
mod named;
mod names;
mod other;
mod pieces;
mod report;
mod siblings;
mod slots;
mod space;
#[cfg(test)]
pub(super) mod tests;
mod tree;
mod uses;

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use crate::disk::format::KIND_FREE_DIRECTORY;
use crate::disk::platform::{Disk, LockMode};
use crate::disk::unix::{OpenMode, UnixDisk};
use crate::error::{Error, LockKind, Result};
use crate::maintain::format::PIN;
use crate::maintain::format::file::File;
use crate::maintain::format::slots::{Root, Slots};
use crate::maintain::format::space::regions;
use crate::maintain::watch::{Phase, Progress, Watch};
pub use report::{Finding, PageCounts, Report, Severity, TableReport};
use uses::{Use, Uses};

/// How often the newest root may change under the check before it gives up.
const ATTEMPTS: u32 = 200;

/// Default number of threads: judging a page takes about as long as reading it from the system's cache.
const THREADS: usize = 2;
/// Bytes kept about nodes that are still to be read: enough for about a million leaves.
const HELD: usize = 64 << 20;

/// How [`check`] works.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("memory.mst");
/// use memstone::{CheckOptions, Store};
/// use std::num::NonZeroUsize;
/// Store::open(&path)?.write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
/// let options = CheckOptions::new().max_findings(10).values(true).threads(NonZeroUsize::MIN);
/// assert!(memstone::check(&path, &options)?.is_clean());
/// # Ok::<(), memstone::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct CheckOptions {
    max_findings: usize,
    values: bool,
    threads: NonZeroUsize,
    /// Bytes kept about nodes that are still to be read.
    held: usize,
}

impl CheckOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> CheckOptions {
        let threads = NonZeroUsize::new(THREADS).unwrap_or(NonZeroUsize::MIN);
        CheckOptions { max_findings: 1000, values: false, threads, held: HELD }
    }

    /// How many findings are reported in full (default 1000); all are counted.
    #[must_use]
    pub fn max_findings(mut self, findings: usize) -> CheckOptions {
        self.max_findings = findings;
        self
    }

    /// Whether values are checked against the type recorded for their table, as keys always are (default: no).
    #[must_use]
    pub fn values(mut self, values: bool) -> CheckOptions {
        self.values = values;
        self
    }

    /// How many threads read and verify a large tree, the caller's included: at most this number, and at most one
    /// for each processor (default 2). A store of less than a megabyte does not use a second one.
    #[must_use]
    pub fn threads(mut self, threads: NonZeroUsize) -> CheckOptions {
        self.threads = threads;
        self
    }
}

impl Default for CheckOptions {
    fn default() -> CheckOptions {
        CheckOptions::new()
    }
}

/// Verifies the store at `path` in full, without changing it. Other processes may continue to write: the check
/// covers one root of the store, and the log after it.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("memory.mst");
/// use memstone::{CheckOptions, Store};
/// let store = Store::open(&path)?;
/// store.write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
/// store.checkpoint()?;
/// let report = memstone::check(&path, &CheckOptions::new())?;
/// assert!(report.is_clean(), "{:?}", report.findings);
/// let table = report.tables.iter().find(|table| table.name == "t").unwrap();
/// assert_eq!(table.entries, 1);
/// # Ok::<(), memstone::Error>(())
/// ```
///
/// # Errors
/// If the file cannot be opened or read, is not a store, or is of a newer format. Damage is no
/// error: it is in the [`Report`].
pub fn check(path: impl AsRef<Path>, options: &CheckOptions) -> Result<Report> {
    check_with(path, options, |_| ControlFlow::Continue(()))
}

/// [`check`], with a callback that receives the progress every few megabytes, and may cancel the check.
///
/// Memory: a byte for each page of the file, the rows of the store's own tables, one frame of the log at a time,
/// and for each tree what is known of pages that are still to be read: a fiftieth of the tree, but about 100 MiB
/// at most.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("memory.mst");
/// use memstone::{CheckOptions, Error};
/// use std::ops::ControlFlow;
/// # memstone::Store::open(&path)?.write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
/// let mut last = None;
/// let report = memstone::check_with(&path, &CheckOptions::new(), |progress| {
///     last = Some(progress); // progress.bytes of progress.total
///     ControlFlow::Continue(())
/// })?;
/// assert!(report.is_clean() && last.is_some());
/// let broken_off = memstone::check_with(&path, &CheckOptions::new(), |_| ControlFlow::Break(()));
/// assert!(matches!(broken_off, Err(Error::Cancelled { .. })));
/// # Ok::<(), memstone::Error>(())
/// ```
///
/// # Errors
/// As [`check`]; [`Error::Cancelled`] if the callback broke it off.
pub fn check_with(
    path: impl AsRef<Path>,
    options: &CheckOptions,
    mut progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<Report> {
    let disk = UnixDisk::open(path.as_ref(), OpenMode { read_only: true, create: false })?;
    check_disk_with(&disk, options, &mut Watch::new(path.as_ref(), &mut progress))
}

/// Where something was found.
#[derive(Clone, Copy)]
struct Place<'a> {
    offset: u64,
    page: Option<u32>,
    table: Option<&'a str>,
}

impl Place<'_> {
    fn byte(offset: u64) -> Place<'static> {
        Place { offset, page: None, table: None }
    }
}

struct Findings {
    report: Report,
    max: usize,
}

impl Findings {
    fn add(&mut self, severity: Severity, place: Place<'_>, message: impl Into<String>) {
        match severity {
            Severity::Damage => self.report.damage += 1,
            Severity::Warning => self.report.warnings += 1,
        }
        if self.report.findings.len() < self.max {
            self.report.findings.push(Finding {
                severity,
                offset: place.offset,
                page: place.page.map(u64::from),
                table: place.table.map(str::to_owned),
                message: message.into(),
            });
        }
    }

    fn damage(&mut self, place: Place<'_>, message: impl Into<String>) {
        self.add(Severity::Damage, place, message);
    }

    fn warning(&mut self, place: Place<'_>, message: impl Into<String>) {
        self.add(Severity::Warning, place, message);
    }
}

/// State shared by all parts of the check.
struct Walk<'d, 'p> {
    watch: &'d mut Watch<'p>,
    file: File<'d>,
    root: Root,
    uses: Uses,
    findings: Findings,
    logged: names::Logged,
    pinned: named::Pinned<'d>,
    kept: named::Kept,
    /// Values are checked against their types.
    values: bool,
    threads: usize,
    /// Bytes kept about nodes that are still to be read.
    held: usize,
}

impl Walk<'_, '_> {
    /// Checks the log. `false`: there is a newer root meanwhile, with which the check starts again.
    fn check_log(&mut self, last: bool) -> Result<bool> {
        if self.root.last_commit > self.root.checkpoint_lsn {
            let (newest, checkpoint) = (self.root.last_commit, self.root.checkpoint_lsn);
            let message = format!("its newest transaction has LSN {newest}, but its tree ends with LSN {checkpoint}");
            self.findings.damage(Place::byte(self.root.offset), message);
        }
        // The log is read before the trees: its frames live only until the next root.
        let before = (self.findings.report.clone(), self.uses.clone());
        self.log()?;
        if !self.root.is_newest(self.file.disk)? {
            if !last {
                return Ok(false);
            }
            (self.findings.report, self.uses) = before;
            self.logged = names::Logged::default();
            // The pins of named snapshots may have come too late.
            self.pinned = named::Pinned::default();
            self.claim_log();
            self.findings.report.notes.push(
                "the log was not checked: checkpoints came faster than it could be read; the tree of the root is checked, but no named snapshot"
                    .to_owned(),
            );
        }
        Ok(true)
    }

    /// According to the free map; used for the progress only.
    fn bytes_in_use(&self) -> u64 {
        let directory = self.file.space_payload(self.root.directory, KIND_FREE_DIRECTORY).map(|(payload, _)| payload);
        let regions = directory.and_then(|list| regions(&list, self.file.page_size, self.root.page_count));
        let free: u64 = regions.unwrap_or_default().iter().map(|region| u64::from(region.free)).sum();
        u64::from(self.file.pages).saturating_sub(free) * u64::from(self.file.page_size)
    }

    /// Marks a run as used; a finding, and `false`, if any page of it has a use already.
    fn claim(&mut self, page: u32, run: u32, as_what: Use, table: Option<&str>) -> bool {
        let Some((twice, other, count)) = self.uses.claim(page, run, as_what) else { return true };
        let place = Place { offset: self.file.offset(twice), page: Some(twice), table };
        let message = match count {
            1 => format!("the page is used twice: by {} and by {}", other.name(), as_what.name()),
            _ => format!(
                "{count} pages from here on are used twice: by {} (the first) and by {}",
                other.name(),
                as_what.name()
            ),
        };
        self.findings.damage(place, message);
        false
    }
}

/// Verifies the store on a disk of a test.
#[cfg(test)]
pub(crate) fn check_disk(disk: &dyn Disk, options: &CheckOptions) -> Result<Report> {
    check_disk_with(disk, options, &mut Watch::new(disk.path(), &mut |_| ControlFlow::Continue(())))
}

/// Verifies the store on `disk`.
fn check_disk_with(disk: &dyn Disk, options: &CheckOptions, watch: &mut Watch<'_>) -> Result<Report> {
    for attempt in 0..ATTEMPTS {
        let slots = Slots::read(disk)?;
        let Some(root) = slots.newest() else { return no_root(disk, &slots, options) };
        let byte = PIN + root.sequence;
        if disk.try_lock(byte, LockMode::Shared).map_err(|source| Error::io("lock", disk.path(), source))? {
            // The version counts as pinned only if it is still the newest now that the lock is held: a writer
            // that looked for pins before that may have reused its pages.
            let result = if root.is_newest(disk)? {
                check_pinned(disk, &slots, root, options, watch, attempt + 10 >= ATTEMPTS)
            } else {
                Ok(None)
            };
            disk.unlock(byte).map_err(|source| Error::io("unlock", disk.path(), source))?;
            if let Some(report) = result? {
                return Ok(report);
            }
        }
        disk.sleep(Duration::from_millis(u64::from(attempt.min(20))));
    }
    Err(Error::Busy {
        path: disk.path().to_path_buf(),
        lock: LockKind::Pin,
        waited: Duration::from_millis(u64::from(ATTEMPTS) * 20),
        holder: None,
    })
}

fn start_report(disk: &dyn Disk, options: &CheckOptions) -> Result<Findings> {
    let file_bytes = disk.len().map_err(|source| Error::io("stat", disk.path(), source))?;
    let report = Report { path: disk.path().to_path_buf(), file_bytes, ..Report::default() };
    Ok(Findings { report, max: options.max_findings })
}

/// The report for a store in which no root is whole.
fn no_root(disk: &dyn Disk, slots: &Slots, options: &CheckOptions) -> Result<Report> {
    let mut findings = start_report(disk, options)?;
    slots::judge(slots, None, &mut findings);
    findings.damage(Place::byte(0), "no root slot is whole: nothing can be found from here");
    Ok(findings.report)
}

/// Runs the check. `None` if the root changed while the log was read; the check is then repeated with the new
/// root, unless this is the `last` attempt.
fn check_pinned(
    disk: &dyn Disk,
    slots: &Slots,
    root: Root,
    options: &CheckOptions,
    watch: &mut Watch<'_>,
    last: bool,
) -> Result<Option<Report>> {
    let mut findings = start_report(disk, options)?;
    slots::judge(slots, Some(&root), &mut findings);
    describe(&root, &mut findings.report);
    let page_size = u64::from(root.page_size);
    let whole = findings.report.file_bytes / page_size;
    let pages = if root.page_count > whole {
        // The length was taken after the root was pinned, and a newer root may cut the file off.
        if !root.is_newest(disk)? {
            return Ok(None);
        }
        let message = format!("the file should have {} pages, but ends after {whole}", root.page_count);
        findings.damage(Place::byte(findings.report.file_bytes), message);
        whole
    } else {
        root.page_count
    };
    let mut walk = Walk {
        watch,
        file: root.file(disk, pages),
        root,
        uses: Uses::default(),
        findings,
        logged: names::Logged::default(),
        pinned: named::Pinned::default(),
        kept: named::Kept::default(),
        values: options.values,
        threads: options.threads.min(std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)).get(),
        held: options.held,
    };
    walk.pinned = named::Pinned::take(&walk.file, walk.root.catalog, walk.root.sequence)?;
    walk.claim(0, walk.file.first_page(), Use::Slots, None);
    if !walk.check_log(last)? {
        return Ok(None);
    }
    walk.watch.phase(Phase::Verifying, walk.bytes_in_use())?;
    walk.trees()?;
    walk.space();
    walk.judge_kept();
    walk.judge_uses();
    walk.other_root(slots)?;
    Ok(Some(walk.findings.report))
}

/// Describes the checked root in the report.
fn describe(root: &Root, report: &mut Report) {
    report.store_id = uuid(&root.store);
    report.format_version = root.format_version;
    report.page_size = root.page_size;
    report.root_sequence = root.sequence;
    report.checkpoint_lsn = root.checkpoint_lsn;
    report.lsn = root.checkpoint_lsn;
    report.commit_time_us = root.commit_time;
}

fn uuid(id: &[u8; 16]) -> String {
    let mut out = String::with_capacity(36);
    for (at, byte) in id.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        out.push_str(&format!("{byte:02x}"));
    }
    out
}
