//! A store's archive: setting it up, and how it stands.

use super::Store;
use crate::archive::keeper;
use crate::archive::place::short;
use crate::archive::reader::{Archived, Until};
use crate::archive::setting::Setting;
use crate::bytes::Bytes;
use crate::change::Change;
use crate::disk::format::{SETTING_ARCHIVE, TABLE_SETTINGS};
use crate::error::{Error, Result};
use serde::Serialize;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Transactions that an archive does not have: they were folded while it could not be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ArchiveGap {
    /// The last transaction before them that is archived.
    pub from: u64,
    /// The last one that is missing.
    pub to: u64,
    /// When that was found; `None` as long as the archive itself does not say it.
    pub found: Option<SystemTime>,
    /// Why, as far as it is known.
    pub reason: String,
}

/// How the archive of a store stands; see [`Store::archive_status`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ArchiveStatus {
    /// The directory that it lies in.
    pub directory: PathBuf,
    /// What the names of its files begin with.
    pub id: String,
    /// The newest transaction before the first that is archived: a backup that has at least this one can be led on from.
    pub first: Option<u64>,
    /// The newest transaction that is archived.
    pub last: u64,
    /// All transactions up to this time are archived, but for the gaps.
    pub covered: Option<SystemTime>,
    /// What is missing, in order.
    pub gaps: Vec<ArchiveGap>,
    /// Why it cannot go on, or why the last fold was not archived: until that is put right, what is committed is not
    /// archived, and ends as a gap. A warning should be raised for it.
    pub trouble: Option<String>,
}

fn time(us: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(us.min(1 << 55))
}

impl Store {
    /// Archives the log in a directory from now on: each transaction is kept there before its space in the log is used again, by
    /// whichever process folds the log, until [`Store::stop_archive`]. With a backup made from now on, [`restore`](crate::restore) then
    /// brings back any moment. A directory of backups ([`BackupDir`](crate::BackupDir)) is the natural place. It is made if it is not there. If the store has an archive in
    /// that directory that can go on, it does.
    ///
    /// An archive that cannot be written stops no commit: what was not kept is a gap, which [`Store::archive_status`] tells, and
    /// into or across which nothing is restored. Another backup begins behind it.
    ///
    /// The setting lies in the store. A copy of the file, and a restored store, do not go on with the archive.
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
    /// [`Error::Io`], [`Error::Full`] if the archive cannot be begun (the store is unchanged then); and as [`Store::write`] and [`Store::checkpoint`].
    pub fn start_archive(&self, directory: impl AsRef<Path>) -> Result<ArchiveStatus> {
        self.engine().check_writable()?;
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

    /// Begins an archive in a directory, unless the store says already that its archive is there.
    pub(super) fn archive_in(&self, directory: &Path) -> Result<()> {
        let there = fs::canonicalize(directory).ok();
        let setting = self.archive_setting()?.filter(|setting| Some(&setting.directory) == there.as_ref());
        match setting.is_some_and(|setting| setting.inode == self.engine().disk.identity().inode) {
            true => Ok(()),
            false => self.start_archive(directory).map(drop),
        }
    }

    /// How the archive stands if the store has one there that is fit to go on.
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

    /// Archives what is committed so far, and ends the archive; its files stay. `false`: there was none.
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

    /// Folds the log, so that everything committed so far is in the archive, and tells how that stands. (What is in the log only is
    /// not archived yet. The log is folded by itself when it has grown, when the store is idle, and when the last process leaves.)
    ///
    /// # Errors
    /// As [`Store::checkpoint`]; [`Error::Invalid`] if the store has no archive. That the archive could not be written is
    /// told by the status, not by an error.
    pub fn archive_now(&self) -> Result<ArchiveStatus> {
        self.in_file(self.engine().archive_now())?;
        self.archive_status()?
            .ok_or_else(|| Error::Invalid(format!("{}: the store has no archive", self.path().display())))
    }

    /// How the archive stands: what it covers, what is missing, and whether it goes on. `None`: the store has none. Reads the archive's
    /// files, so it takes as long as that.
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
    /// As [`Store::read`]. What is wrong with the archive is in the status.
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
        let told = Archived::open(&setting.directory, &setting.archive).and_then(|archive| match archive {
            Some(archive) => self.tell(&archive, &mut status),
            None => {
                status.trouble = Some("none of its files is there".to_owned());
                Ok(())
            }
        });
        if let Err(error) = told {
            status.trouble = Some(error.to_string());
        }
        if setting.inode != self.engine().disk.identity().inode {
            let why = "this file is a copy of the one that is archived: begin an archive of its own";
            status.trouble = Some(why.to_owned());
        }
        Ok(Some(status))
    }

    fn tell(&self, archive: &Archived, status: &mut ArchiveStatus) -> Result<()> {
        // First: what is folded meanwhile is archived before it is in a root.
        let root = self.in_file(self.engine().slots())?.newest;
        let survey = archive.survey(0, Until::Newest)?;
        let state = survey.state;
        status.first = state.started.then_some(survey.first_commit);
        status.last = state.last_commit;
        status.covered = state.started.then(|| time(state.covered));
        status.gaps = survey
            .gaps
            .into_iter()
            .map(|gap| ArchiveGap { from: gap.from, to: gap.to, found: Some(time(gap.time)), reason: gap.reason })
            .collect();
        if state.closed.is_some() {
            let why = "the store's file was put back from an older copy: begin another archive, and make a full backup";
            status.trouble = Some(why.to_owned());
        }
        if state.started && root.last_commit > state.last_commit && state.pending.is_none() {
            let reason = status.trouble.clone().unwrap_or_else(|| "they were folded without being archived".to_owned());
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
        let write = setting.map_or(Change::Delete, |setting| Change::Put(Bytes::copied(&setting.encode())));
        self.write(|tx| {
            tx.change_row(TABLE_SETTINGS, SETTING_ARCHIVE, Some(write));
            Ok(())
        })
    }
}
