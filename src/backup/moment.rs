//! Which backup, and which transactions of an archive after it, lead to a moment.

use crate::archive::place::short;
use crate::archive::reader::{Archived, Survey, Until, archives};
use crate::engine::archive::KeptChange;
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::directory::{BackupDir, BackupEntry, BackupState};
use super::manifest::{Manifest, hex};
use super::utc::stamp;

/// A state of a store, identified by the transactions up to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Moment {
    /// After the transaction with this LSN, or the last one before it.
    Lsn(u64),
    /// Before the first transaction that was committed later than this, by the clock of the process that committed it.
    Time(SystemTime),
    /// After the last transaction that was archived.
    Newest,
}

/// Transactions of an archive that follow a backup.
pub(super) struct Stretch {
    archive: Archived,
    survey: Survey,
    /// The last transaction that is wanted, and its time in microseconds since 1970.
    pub(super) last: (u64, u64),
}

/// How a moment is reached.
pub(super) struct Way {
    pub(super) backup: PathBuf,
    /// `None`: the backup is that state.
    pub(super) stretch: Option<Stretch>,
}

impl Way {
    /// The way to a moment, from a directory of backups with an archive.
    pub(super) fn find(directory: &BackupDir, moment: Moment) -> Result<Way> {
        let backups = directory.list()?;
        let mut refused = None;
        for archive in archives(directory.path())? {
            match Way::by(archive, &backups, moment) {
                Ok(way) => return Ok(way),
                // What the newest archive says is mostly what is wanted.
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        let none = || no_way(directory.path(), "there is no archive in it".to_owned());
        Err(refused.unwrap_or_else(none))
    }

    fn by(archive: Archived, backups: &[BackupEntry], moment: Moment) -> Result<Way> {
        let directory = archive.directory();
        let target = target(&archive, moment).map_err(|why| why.in_directory(&directory))?;
        let (store, closed) = (hex(&archive.store_id()), archive.closed()?.unwrap_or(u64::MAX));
        // One that was made after the store got another history has that.
        let of_store = |manifest: &&Manifest| {
            manifest.store_id == store && manifest.store_file.1 == archive.inode() && manifest.time_us <= closed
        };
        let good = backups.iter().filter(|entry| entry.state == BackupState::Good);
        let usable = good.filter_map(|entry| Some((entry, entry.manifest.as_ref().filter(of_store)?)));
        let before = usable.filter(|(_, manifest)| manifest.lsn <= target);
        let Some((entry, manifest)) = before.max_by_key(|(_, manifest)| (manifest.lsn, manifest.time_us)) else {
            let reason = format!(
                "there is no good backup of the store that is archived with transaction {target} or an earlier one"
            );
            return Err(no_way(&directory, reason));
        };
        let backup = entry.path.clone();
        if manifest.lsn == target {
            return Ok(Way { backup, stretch: None });
        }
        let survey = archive.survey(manifest.lsn, Until::Lsn(target))?;
        whole(&archive, &survey, manifest, target).map_err(|why| no_way(&directory, why))?;
        let last = survey.last;
        Ok(Way { backup, stretch: Some(Stretch { archive, survey, last }) })
    }
}

/// Why a moment cannot be reached, or something that failed.
enum Refusal {
    Why(String),
    Error(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal::Error(error)
    }
}

impl Refusal {
    fn in_directory(self, directory: &Path) -> Error {
        match self {
            Refusal::Why(why) => no_way(directory, why),
            Refusal::Error(error) => error,
        }
    }
}

fn no_way(directory: &Path, reason: String) -> Error {
    Error::Backup { path: directory.to_path_buf(), reason }
}

fn missing(from: u64, to: u64, reason: &str) -> String {
    format!("the archive has a gap: transactions after {from}, up to {to}, are missing ({reason})")
}

/// The last transaction before a moment.
fn target(archive: &Archived, moment: Moment) -> Result<u64, Refusal> {
    let until = match moment {
        Moment::Lsn(lsn) => return Ok(lsn),
        Moment::Newest => Until::Newest,
        Moment::Time(time) => {
            let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            Until::Time(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
        }
    };
    let survey = archive.survey(u64::MAX, until)?;
    let Until::Time(time) = until else { return Ok(survey.last.0) };
    if !survey.passed && time > survey.state.covered {
        let end = survey.state.last_commit;
        let covered = stamp(survey.state.covered);
        let why = format!("the archive reaches to {covered} only, where it ends with transaction {end}");
        return Err(Refusal::Why(why));
    }
    if survey.last.0 <= survey.first_commit && time < survey.begun {
        let first = survey.first_commit;
        return Err(Refusal::Why(format!(
            "the archive begins later, after transaction {first}; choose a backup by its date"
        )));
    }
    // Where the gap lies in time is known by what was there before it alone.
    match survey.gaps.iter().find(|gap| gap.to > survey.last.0 && time > survey.covered) {
        Some(gap) => Err(Refusal::Why(missing(gap.from, gap.to, &gap.reason))),
        None => Ok(survey.last.0),
    }
}

/// Whether all that lies between a backup and a transaction is in the archive.
fn whole(archive: &Archived, survey: &Survey, backup: &Manifest, target: u64) -> Result<(), String> {
    let (lsn, first) = (backup.lsn, survey.first_commit);
    if lsn < first {
        return Err(format!(
            "the newest backup before that has transaction {lsn}, and the archive begins after {first}"
        ));
    }
    if let Some(gap) = survey.gaps.iter().find(|gap| gap.from < target && gap.to > lsn) {
        return Err(missing(gap.from, gap.to, &gap.reason));
    }
    if !survey.passed && survey.last.0 < target {
        let end = survey.state.last_commit;
        return Err(format!("archive {} ends with transaction {end}, before {target}", short(&archive.id())));
    }
    Ok(())
}

impl Stretch {
    /// Reads the transactions after one, in order.
    pub(super) fn read(&self, after: u64, take: &mut dyn FnMut(u64, u32, KeptChange<'_>) -> Result<()>) -> Result<()> {
        self.archive.read(&self.survey, (after, self.last.0), take)
    }
}
