//! A store's archive: starting and stopping it, and its status.

use super::Store;
use crate::archive::keeper;
use crate::archive::place::short;
use crate::archive::reader::{Archived, Until};
use crate::archive::setting::Setting;
use crate::disk::format::SETTING_ARCHIVE;
use crate::disk::host::time_of;
use crate::error::{Error, Result};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Transactions that an archive does not have: a checkpoint freed their log space while the archive could not be
/// written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ArchiveGap {
    /// The last transaction before them that is archived.
    pub from: u64,
    /// The last one that is missing.
    pub to: u64,
    /// When the gap was found; `None` until the archive itself records it.
    pub found: Option<SystemTime>,
    /// Why, as far as it is known.
    pub reason: String,
}

/// The status of a store's archive; see [`Store::archive_status`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ArchiveStatus {
    /// The directory that it lies in.
    pub directory: PathBuf,
    /// What the names of its files begin with.
    pub id: String,
    /// The newest transaction before the first archived one: restoring can continue from a backup that has at
    /// least this transaction.
    pub first: Option<u64>,
    /// The newest transaction that is archived.
    pub last: u64,
    /// All transactions up to this time are archived, except for the gaps.
    pub covered: Option<SystemTime>,
    /// What is missing, in order.
    pub gaps: Vec<ArchiveGap>,
    /// Why the archive cannot continue, or why the last checkpoint was not archived. Until the cause is removed,
    /// new commits are not archived, and become a gap. It deserves a warning.
    pub trouble: Option<String>,
}

impl Store {
    /// Archives the log in a directory from now on: each transaction is archived before its space in the log is
    /// reused, by the process that makes the checkpoint, until [`Store::stop_archive`]. With a backup made from
    /// now on, [`restore`](crate::restore) can then bring back any moment. A directory of backups
    /// ([`BackupDir`](crate::BackupDir)) is the natural place. The directory is created if it does not exist. If
    /// the store has an archive in that directory that can be continued, it is.
    ///
    /// An archive that cannot be written blocks no commit: what was not archived is a gap, which
    /// [`Store::archive_status`] reports, and into or across which nothing is restored. Another backup starts
    /// after it.
    ///
    /// The setting is stored in the store. A copy of the file, or a restored store, does not continue the
    /// archive.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("memory.mst");
    /// # let backups = dir.path().join("backups");
    /// use memstone::{BackupDir, BackupOptions, Moment, RestoreOptions, Store};
    /// let store = Store::open(&path)?;
    /// store.start_archive(&backups)?;
    /// BackupDir::open(&backups)?.backup(&store.read()?, false, BackupOptions::new())?;
    /// store.write(|tx| tx.raw("t")?.put(b"k", b"good"))?;
    /// let good = store.last_commit()?;
    /// store.write(|tx| tx.raw("t")?.put(b"k", b"oops"))?;
    /// store.archive_now()?;
    /// let again = dir.path().join("again.mst");
    /// memstone::restore(&backups, &again, RestoreOptions::new().to(Moment::Lsn(good)))?;
    /// assert_eq!(Store::open(&again)?.read()?.raw("t")?.get(b"k")?.unwrap(), b"good");
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Full`] if the archive cannot be started (the store is unchanged then); and as
    /// [`Store::write`] and [`Store::checkpoint`].
    pub fn start_archive(&self, directory: impl AsRef<Path>) -> Result<ArchiveStatus> {
        self.engine().check_writable()?;
        if !self.engine().disk.is_file() {
            return Err(Error::Invalid("a store in memory has no archive".to_owned()));
        }
        let directory = directory.as_ref();
        match DirBuilder::new().mode(0o700).create(directory) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::io("make the directory", directory, e));
            }
            _ => {}
        }
        let directory = fs::canonicalize(directory).map_err(|e| Error::io("find the directory", directory, e))?;
        if let Some(status) = self.goes_on_in(&directory)? {
            return Ok(status);
        }
        let setting = keeper::begin(&directory, self.engine().store_id, self.engine().disk.identity().inode)?;
        self.set_archive(Some(&setting))?;
        self.archive_now()
    }

    /// Starts an archive in a directory, unless the store has its archive there already.
    pub(super) fn archive_in(&self, directory: &Path) -> Result<()> {
        let there = fs::canonicalize(directory).ok();
        let setting = self.archive_setting()?.filter(|setting| Some(&setting.directory) == there.as_ref());
        match setting.is_some_and(|setting| setting.inode == self.engine().disk.identity().inode) {
            true => Ok(()),
            false => self.start_archive(directory).map(drop),
        }
    }

    /// The status of the archive if the store has one there that can be continued.
    fn goes_on_in(&self, directory: &Path) -> Result<Option<ArchiveStatus>> {
        let Some(setting) = self.archive_setting()? else { return Ok(None) };
        if setting.directory != *directory || setting.inode != self.engine().disk.identity().inode {
            return Ok(None);
        }
        let closed =
            Archived::open(directory, &setting.archive)?.map(|archive| archive.survey(u64::MAX, Until::Newest));
        match closed.transpose()? {
            Some(survey) if survey.state.closed.is_none() => self.archive_now().map(Some),
            _ => Ok(None),
        }
    }

    /// Archives all commits so far, and ends the archive; its files stay. Returns `false` if there was none.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// store.start_archive(dir.path().join("backups"))?;
    /// assert!(store.stop_archive()?);
    /// assert!(store.archive_status()?.is_none() && !store.stop_archive()?);
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Store::write`] and [`Store::checkpoint`].
    pub fn stop_archive(&self) -> Result<bool> {
        if self.archive_setting()?.is_none() {
            return Ok(false);
        }
        self.archive_now()?;
        self.set_archive(None)?;
        Ok(true)
    }

    /// Makes a checkpoint, so that everything committed so far is archived, and returns the archive's status.
    /// (Transactions are archived when a checkpoint takes them out of the log. That happens automatically when
    /// the log has grown, when the store is idle, and when the last process leaves.)
    ///
    /// # Errors
    /// As [`Store::checkpoint`]; [`Error::Invalid`] if the store has no archive. If the archive could not be
    /// written, the status says so, not an error.
    pub fn archive_now(&self) -> Result<ArchiveStatus> {
        self.in_file(self.engine().archive_now(self.timeout))?;
        self.archive_status()?
            .ok_or_else(|| Error::Invalid(format!("{}: the store has no archive", self.path().display())))
    }

    /// The archive's status: what it covers, what is missing, and whether it continues. `None`: the store has no
    /// archive. Reads all of the archive's files, and takes time accordingly.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// assert!(store.archive_status()?.is_none());
    /// store.start_archive(dir.path().join("backups"))?;
    /// store.write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
    /// let status = store.archive_now()?;
    /// assert_eq!((status.last, status.trouble), (store.last_commit()?, None));
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Store::read`]. Problems of the archive are in the status.
    pub fn archive_status(&self) -> Result<Option<ArchiveStatus>> {
        let Some(setting) = self.archive_setting()? else { return Ok(None) };
        let mut status = ArchiveStatus {
            directory: setting.directory.clone(),
            id: short(&setting.archive),
            first: None,
            last: 0,
            covered: None,
            gaps: Vec::new(),
            trouble: self.engine().settings.archive.as_ref().and_then(|archive| archive.trouble()),
        };
        let described = Archived::open(&setting.directory, &setting.archive).and_then(|archive| match archive {
            Some(archive) => self.describe(&archive, &mut status),
            None => {
                status.trouble = Some("none of its files is there".to_owned());
                Ok(())
            }
        });
        if let Err(error) = described {
            status.trouble = Some(error.to_string());
        }
        if setting.inode != self.engine().disk.identity().inode {
            let why = "this file is a copy of the one that is archived: begin an archive of its own";
            status.trouble = Some(why.to_owned());
        }
        Ok(Some(status))
    }

    fn describe(&self, archive: &Archived, status: &mut ArchiveStatus) -> Result<()> {
        // Read first: what a checkpoint takes out of the log meanwhile is archived before it is in a root.
        let root = self.in_file(self.engine().slots())?.newest;
        let survey = archive.survey(0, Until::Newest)?;
        let state = survey.state;
        status.first = state.started.then_some(survey.first_commit);
        status.last = state.last_commit;
        status.covered = state.started.then(|| time_of(state.covered));
        status.gaps = survey
            .gaps
            .into_iter()
            .map(|gap| ArchiveGap { from: gap.from, to: gap.to, found: Some(time_of(gap.time)), reason: gap.reason })
            .collect();
        if state.closed.is_some() {
            let why = "the store's file was put back from an older copy: begin another archive, and make a full backup";
            status.trouble = Some(why.to_owned());
        }
        if state.started && root.last_commit > state.last_commit && state.pending.is_none() {
            let reason =
                status.trouble.clone().unwrap_or_else(|| "a checkpoint applied them without archiving them".to_owned());
            let gap = ArchiveGap { from: state.last_commit, to: root.last_commit, found: None, reason };
            status.gaps.push(gap);
        }
        Ok(())
    }

    fn archive_setting(&self) -> Result<Option<Setting>> {
        let row = self.in_file(self.read()?.view().archive_setting())?;
        Ok(row.as_deref().and_then(Setting::decode))
    }

    fn set_archive(&self, setting: Option<&Setting>) -> Result<()> {
        let row = setting.map(Setting::encode);
        self.write(|tx| tx.put_setting(SETTING_ARCHIVE, row.as_deref()))
    }
}
