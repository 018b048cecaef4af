//! Appending to an archive, by the checkpointer.

use crate::disk::host::{random, unix_us};
use crate::engine::archive::{Archive, Batch, Keep, KeptChange, KeptFrame, LargeTransaction};
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::place::{create, list, path_of, short};
use super::record::{Ending, GapRecord, Header};
use super::segment::{Appending, Segment};
use super::setting::Setting;
use super::state::{Connection, State};

/// A segment this long, or this old in microseconds, is followed by another one.
pub(crate) const SEGMENT_BYTES: u64 = 16 << 20;
const SEGMENT_AGE: u64 = 3_600_000_000;
/// The reason given for a gap if this process does not know it.
const UNKNOWN: &str = "a process that could not archive them, or did not know how, applied them";

/// What this process knows of the archive of one store.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// The newest segment of which archive, and where.
    open: Option<(Setting, Segment)>,
    /// Why the last batch was not kept.
    trouble: Option<String>,
    /// A transaction that was too large for the log and is committed, although the archive does not say so yet.
    committed: Option<u64>,
}

/// Begins an archive in a directory, durably, with nothing in it; gives what the store is to say of it.
pub(crate) fn begin(directory: &Path, store_id: [u8; 16], inode: u64) -> Result<Setting> {
    let archive = random(directory)?;
    let header = Header {
        tag: u32::from_le_bytes(random(directory)?),
        archive,
        store_id,
        inode,
        number: 1,
        previous_len: 0,
        previous_hash: [0; 32],
        begun: unix_us(),
        state: State::default(),
    };
    create(directory, &header)?;
    Ok(Setting { archive, inode, directory: directory.to_path_buf() })
}

/// The newest segment of an archive.
pub(crate) fn newest(setting: &Setting) -> Result<PathBuf> {
    let (found, unreadable) = list(&setting.directory, Some(&setting.archive))?;
    if let Some((_, error)) = unreadable.into_iter().next() {
        return Err(error);
    }
    found
        .last()
        .map(|listed| listed.path.clone())
        .ok_or_else(|| unusable(setting, "it is not there (is something not mounted?)"))
}

fn unusable(setting: &Setting, why: &str) -> Error {
    let reason = format!("archive {}: {why}", short(&setting.archive));
    Error::Backup { path: setting.directory.clone(), reason }
}

impl Archive for Keeper {
    fn keep(&self, batch: &Batch<'_>) -> Result<()> {
        let mut known = self.known();
        let kept = known.keep(batch);
        known.note(&kept);
        kept
    }

    fn keep_large(&self, large: &LargeTransaction<'_>) -> Result<()> {
        let mut known = self.known();
        let kept = known.keep_large(large);
        known.note(&kept);
        kept
    }

    fn confirm(&self, lsn: u64) -> Result<()> {
        let mut known = self.known();
        let Some((_, segment)) = known.open.as_mut().filter(|(_, segment)| pends(segment, lsn)) else { return Ok(()) };
        let settled = settle(segment, true);
        if settled.is_err() {
            known.committed = Some(lsn);
        }
        known.note(&settled);
        settled
    }

    fn trouble(&self) -> Option<String> {
        self.known().trouble.clone()
    }
}

impl Keeper {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pends(segment: &Segment, lsn: u64) -> bool {
    segment.state.pending.is_some_and(|(pending, _)| pending == lsn)
}

/// Says of the transaction that pends whether it is committed.
fn settle(segment: &mut Segment, committed: bool) -> Result<()> {
    let mut appending = segment.append();
    let state = &mut appending.state;
    if let Some((lsn, time)) = state.pending.take()
        && committed
    {
        (state.lsn, state.last_commit, state.time) = (lsn, lsn, time);
    }
    let ending = if committed { Ending::Committed } else { Ending::NotCommitted };
    appending.finish(ending)
}

impl Known {
    fn note(&mut self, kept: &Result<()>) {
        self.trouble = kept.as_ref().err().map(ToString::to_string);
        if kept.is_err()
            && let Some((_, segment)) = &mut self.open
        {
            // If it cannot be cut, its end is searched for again: it may hold a batch that may not be durable.
            let _ = segment.cut();
        }
    }

    /// The newest segment, as it is now, fit to be appended to.
    fn segment(&mut self, setting: Setting, batch: &Batch<'_>) -> Result<&mut Segment> {
        if setting.inode != batch.file().inode {
            let why = format!(
                "{} is another file than the one that is archived, a copy of it; begin an archive of its own",
                batch.path().display()
            );
            return Err(unusable(&setting, &why));
        }
        let open = match self.open.take().filter(|(known, _)| *known == setting) {
            Some((_, mut segment)) if is_newest(&setting, &segment)? => {
                segment.read_on_if_longer()?;
                segment
            }
            _ => Segment::open(&newest(&setting)?)?,
        };
        if open.header.store_id != batch.store_id() {
            return Err(unusable(&setting, "it is that of another store"));
        }
        let age = unix_us().saturating_sub(open.header.begun);
        let full = open.place.at >= SEGMENT_BYTES || age >= SEGMENT_AGE && open.place.number > 0;
        let next = if open.torn || full { follow(&setting, &open)? } else { open };
        Ok(&mut self.open.insert((setting, next)).1)
    }

    fn keep(&mut self, batch: &Batch<'_>) -> Result<()> {
        let setting = setting_of(batch)?;
        let (reason, committed) = (self.trouble.clone(), self.committed);
        let segment = self.segment(setting, batch)?;
        let undecided = settle_pending(segment, batch, committed)?;
        let connection = match segment.state.connects(batch.base()) {
            _ if segment.state.closed.is_some() => Connection::Contradicts,
            connection => connection,
        };
        if connection == Connection::Contradicts {
            return Err(close(segment, batch)?);
        }
        let gap = match connection {
            Connection::Gap { from, to } => Some((from, to)),
            _ => undecided.map(|lsn| (segment.state.last_commit, lsn)),
        };
        let news = batch.last_commit() > segment.state.last_commit || gap.is_some();
        if !news && !batch.always && connection != Connection::Begins {
            return Ok(());
        }
        append(segment, batch, connection, gap, reason)?;
        self.committed = None;
        Ok(())
    }

    fn keep_large(&mut self, large: &LargeTransaction<'_>) -> Result<()> {
        let LargeTransaction { batch, lsn, .. } = *large;
        let setting = setting_of(batch)?;
        let segment = self.open.as_mut().filter(|(known, _)| *known == setting).map(|(_, segment)| segment);
        let is_this = |state: &State| (state.lsn, state.time) == (batch.end.lsn, batch.time);
        let Some(segment) = segment.filter(|segment| !segment.torn && is_this(&segment.state)) else {
            return Err(unusable(&setting, "what comes before a large transaction was not archived"));
        };
        let mut appending = segment.append();
        large.read(&mut Sink { appending: &mut appending, kept: (0, 0), contradicts: false })?;
        appending.state.pending = Some((lsn, batch.time));
        appending.finish(Ending::Direct)
    }
}

fn setting_of(batch: &Batch<'_>) -> Result<Setting> {
    Setting::decode(&batch.setting)
        .ok_or_else(|| Error::Internal("what the store says of its archive cannot be understood".to_owned()))
}

/// Whether no other process has begun a segment since, and this one is still all there.
fn is_newest(setting: &Setting, segment: &Segment) -> Result<bool> {
    let next = path_of(&setting.directory, &setting.archive, segment.header.number + 1);
    Ok(segment.path.exists() && !next.exists() && segment.len()? >= segment.place.at)
}

/// Begins the segment after this one, whose content up to its last ending is sealed by it.
fn follow(setting: &Setting, last: &Segment) -> Result<Segment> {
    let header = Header {
        tag: u32::from_le_bytes(random(&setting.directory)?),
        number: last.header.number + 1,
        previous_len: last.place.at,
        previous_hash: last.hash()?,
        begun: unix_us(),
        state: last.state,
        ..last.header.clone()
    };
    Segment::open(&create(&setting.directory, &header)?)
}

/// Decides whether the last transaction that was too large for the log is committed. Returns the newest transaction of the
/// root if that is unknown: then it, and what else may be in the root, counts as missing.
fn settle_pending(segment: &mut Segment, batch: &Batch<'_>, committed: Option<u64>) -> Result<Option<u64>> {
    let Some((lsn, _)) = segment.state.pending else { return Ok(None) };
    let known = if committed == Some(lsn) { Some(true) } else { segment.state.is_committed(batch.base()) };
    settle(segment, known == Some(true))?;
    Ok(if known.is_none() { Some(batch.base().last_commit) } else { None })
}

/// The archive ends here: the store has another history.
fn close(segment: &mut Segment, batch: &Batch<'_>) -> Result<Error> {
    if segment.state.closed.is_none() {
        let mut appending = segment.append();
        appending.state.closed = Some(batch.time);
        appending.finish(Ending::Closed)?;
    }
    let (path, last) = (segment.path.clone(), segment.state.last_commit);
    let reason = format!(
        "the archive holds transactions up to {last} that the store does not have: its file was put back from an older copy; \
         begin another archive, and make a full backup"
    );
    Ok(Error::Backup { path, reason })
}

/// Appends a batch.
fn append(
    segment: &mut Segment,
    batch: &Batch<'_>,
    connection: Connection,
    gap: Option<(u64, u64)>,
    reason: Option<String>,
) -> Result<()> {
    let kept = if connection == Connection::Ahead { (segment.state.lsn, segment.state.crc) } else { (0, 0) };
    let mut appending = segment.append();
    if let Some((from, to)) = gap {
        let reason = reason.unwrap_or_else(|| UNKNOWN.to_owned());
        appending.gap(&GapRecord { from, to, time: batch.time, reason })?;
    }
    let mut sink = Sink { appending: &mut appending, kept, contradicts: kept.0 > batch.end.lsn };
    batch.read(&mut sink)?;
    if sink.contradicts {
        segment.cut().map_err(|e| Error::io("cut the archive", &segment.path, e))?;
        return Err(close(segment, batch)?);
    }
    let (base, state) = (batch.base(), &mut appending.state);
    if connection == Connection::Begins {
        (state.started, state.first_commit) = (true, base.last_commit);
    }
    (state.lsn, state.crc) = (batch.end.lsn, batch.end.crc);
    state.last_commit = batch.last_commit();
    (state.sequence, state.time) = (batch.sequence, batch.time);
    state.covered = state.covered.max(batch.covered);
    appending.finish(Ending::Batch)
}

/// Takes the frames of a batch that are not kept yet.
struct Sink<'a, 's> {
    appending: &'a mut Appending<'s>,
    /// The log is kept up to this LSN, whose frame has this CRC.
    kept: (u64, u32),
    contradicts: bool,
}

impl Keep for Sink<'_, '_> {
    fn frame(&mut self, frame: KeptFrame) -> Result<bool> {
        self.contradicts |= frame.lsn == self.kept.0 && frame.crc != self.kept.1;
        let wanted = frame.is_transaction && frame.lsn > self.kept.0 && !self.contradicts;
        if wanted {
            self.appending.transaction(frame.lsn, frame.time);
        }
        Ok(wanted)
    }

    fn change(&mut self, table: u32, change: KeptChange<'_>) -> Result<()> {
        self.appending.change(table, change)
    }
}
