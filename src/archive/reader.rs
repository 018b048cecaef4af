//! Reading an archive back: which state of the store it leads to, and the transactions up to there.

use crate::engine::archive::KeptChange;
use crate::error::{CorruptionKind, Error, Result};
use std::path::{Path, PathBuf};

use super::place::{Listed, list};
use super::record::{Ending, GapRecord, Said, changes};
use super::segment::{Place, Record, Records, START, hash_of};
use super::state::State;

/// One archive in a directory: its segments, by number.
#[derive(Debug, Clone)]
pub(crate) struct Archived {
    segments: Vec<Listed>,
}

/// Where reading ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// Before the first transaction with a higher LSN.
    Lsn(u64),
    /// Before the first transaction with a later time, in microseconds since 1970.
    Time(u64),
    /// At the end.
    Newest,
}

impl Until {
    fn is_passed(self, lsn: u64, time: u64) -> bool {
        match self {
            Until::Lsn(until) => lsn > until,
            Until::Time(until) => time > until,
            Until::Newest => false,
        }
    }
}

/// Records of one segment with transactions that are committed.
#[derive(Debug, Clone)]
struct Piece {
    segment: usize,
    from: Place,
    to: Place,
}

/// What was found on the way to where reading ends.
#[derive(Debug, Clone, Default)]
pub(crate) struct Survey {
    /// The transaction before the first one that is there.
    pub(crate) first_commit: u64,
    /// That one was committed no later than this.
    pub(crate) begun: u64,
    /// What the archive has come to at the end of what was read.
    pub(crate) state: State,
    /// The last transaction before the end, and its time; the one before the first if none was read.
    pub(crate) last: (u64, u64),
    /// A transaction behind the end was found.
    pub(crate) passed: bool,
    /// All transactions up to here are known to be there, by time, when the end was passed or reached.
    pub(crate) covered: u64,
    /// What is missing between the beginning and the end.
    pub(crate) gaps: Vec<GapRecord>,
    pieces: Vec<Piece>,
}

/// All archives of a directory, the one that was appended to last first.
pub(crate) fn archives(directory: &Path) -> Result<Vec<Archived>> {
    let (found, unreadable) = list(directory, None)?;
    for (path, error) in unreadable {
        crate::trace::warn!(path = %path.display(), %error, "a segment of an archive cannot be read");
    }
    let mut archives: Vec<Archived> = Vec::new();
    for listed in found {
        match archives.last_mut().filter(|known| known.id() == listed.header.archive) {
            Some(known) => known.segments.push(listed),
            None => archives.push(Archived { segments: vec![listed] }),
        }
    }
    archives.sort_by_key(|archive| std::cmp::Reverse(archive.segments.last().map(|last| last.header.begun)));
    Ok(archives)
}

impl Archived {
    /// The archive with this id.
    pub(crate) fn open(directory: &Path, id: &[u8; 16]) -> Result<Option<Archived>> {
        let segments = list(directory, Some(id))?.0;
        Ok((!segments.is_empty()).then_some(Archived { segments }))
    }

    pub(crate) fn id(&self) -> [u8; 16] {
        self.segments.first().map(|first| first.header.archive).unwrap_or_default()
    }

    pub(crate) fn store_id(&self) -> [u8; 16] {
        self.segments.first().map(|first| first.header.store_id).unwrap_or_default()
    }

    /// The inode of the store's file.
    pub(crate) fn inode(&self) -> u64 {
        self.segments.first().map(|first| first.header.inode).unwrap_or_default()
    }

    /// Segments that hold nothing after a transaction, from the first on. The newest one is never among them.
    pub(crate) fn before(&self, commit: u64) -> impl Iterator<Item = &Path> {
        let is_before = |listed: &Listed| listed.header.state.started && listed.header.state.last_commit <= commit;
        let first = self.segments.iter().rposition(is_before).unwrap_or(0);
        self.segments.iter().take(first).map(|listed| listed.path.as_path())
    }

    /// When it was found that the store has another history than the archive.
    pub(crate) fn closed(&self) -> Result<Option<u64>> {
        Ok(self.survey(u64::MAX, Until::Newest)?.state.closed)
    }

    pub(crate) fn directory(&self) -> PathBuf {
        let first = self.segments.first().and_then(|first| first.path.parent());
        first.map(Path::to_path_buf).unwrap_or_default()
    }

    /// Reads all records on the way to `until`, from the last segment on before which nothing is wanted: no transaction
    /// after `after`, or, where a time is looked for, none with a later one.
    pub(crate) fn survey(&self, after: u64, until: Until) -> Result<Survey> {
        let is_before = |listed: &Listed| {
            let state = &listed.header.state;
            match until {
                Until::Time(time) => state.latest <= time,
                _ => state.last_commit <= after,
            }
        };
        let first =
            self.segments.iter().rposition(|listed| listed.header.state.started && is_before(listed)).unwrap_or(0);
        let mut survey = Surveying { until, survey: Survey::default(), known: false, waiting: Vec::new(), held: None };
        for (at, listed) in self.segments.iter().enumerate().skip(first) {
            let (number, state) = (listed.header.number, listed.header.state);
            match at.checked_sub(1).filter(|_| at > first).and_then(|before| self.segments.get(before)) {
                Some(before) if before.header.number + 1 == number => {}
                Some(_) => survey.jump(state, format!("no segment stands before {}", listed.path.display())),
                None => survey.begin(state, listed.header.begun),
            }
            self.read_segment(at, listed, &mut survey)?;
            if survey.survey.passed {
                break;
            }
        }
        Ok(survey.survey)
    }

    fn read_segment(&self, at: usize, listed: &Listed, survey: &mut Surveying) -> Result<()> {
        let next = self.segments.get(at + 1).filter(|next| next.header.number == listed.header.number + 1);
        let end = next.map(|next| next.header.previous_len);
        let mut records = Records::open(&listed.path, &listed.header, START, end)?;
        let mut from = START;
        while let Some(record) = records.next()? {
            match record {
                Record::Changes(bytes) => survey.changes(&bytes, &records)?,
                Record::Gap(gap) => survey.survey.gaps.push(gap),
                Record::End(ending, state) => {
                    survey.ending(ending, *state, Piece { segment: at, from, to: records.place });
                    from = records.place;
                }
            }
            if survey.survey.passed {
                return Ok(());
            }
        }
        survey.waiting.clear();
        let Some(next) = next else { return Ok(()) };
        // The segment that follows says where this one ends.
        let whole = records.is_at_end() && from.at == next.header.previous_len;
        if !whole || hash_of(&listed.path, from.at)? != next.header.previous_hash {
            let reason = format!("{} is damaged at byte {}", listed.path.display(), records.place.at);
            survey.jump(next.header.state, reason);
        }
        Ok(())
    }

    /// Reads the committed transactions of a survey with LSNs after the first number, up to the second.
    pub(crate) fn read(
        &self,
        survey: &Survey,
        (after, to): (u64, u64),
        take: &mut dyn FnMut(u64, u32, KeptChange<'_>) -> Result<()>,
    ) -> Result<()> {
        for piece in &survey.pieces {
            let Some(listed) = self.segments.get(piece.segment) else { continue };
            let mut records = Records::open(&listed.path, &listed.header, piece.from, Some(piece.to.at))?;
            let mut lsn = 0;
            while !records.is_at_end() {
                let Some(record) = records.next()? else { return Err(damaged(&records)) };
                let Record::Changes(bytes) = record else { continue };
                for said in changes(&bytes) {
                    match said.ok_or_else(|| damaged(&records))? {
                        Said::Transaction { lsn: next, .. } => lsn = next,
                        Said::Change(table, change) if lsn > after && lsn <= to => take(lsn, table, change)?,
                        Said::Change(..) => {}
                    }
                }
            }
        }
        Ok(())
    }
}

fn damaged(records: &Records) -> Error {
    let place = records.place.at;
    Error::corrupt(CorruptionKind::Archive, place, None, "a whole record", "something else").in_file(records.path())
}

/// A survey on its way.
struct Surveying {
    until: Until,
    survey: Survey,
    /// What the archive begins with is known.
    known: bool,
    /// Transactions since the last ending.
    waiting: Vec<(u64, u64)>,
    /// A transaction that counts if the next ending says so.
    held: Option<(Vec<(u64, u64)>, Piece)>,
}

impl Surveying {
    fn begin(&mut self, state: State, begun: u64) {
        let survey = &mut self.survey;
        survey.begun = if state.started { state.latest } else { begun };
        (survey.first_commit, survey.last) = (state.last_commit, (state.last_commit, state.latest));
        (survey.state, self.known) = (state, state.started);
    }

    /// Goes on with another state: what lies between is missing.
    fn jump(&mut self, state: State, reason: String) {
        let from = self.survey.state.last_commit;
        if state.last_commit > from || !self.known {
            self.survey.gaps.push(GapRecord { from, to: state.last_commit, time: state.time, reason });
        }
        self.waiting.clear();
        self.held = None;
        self.survey.state = state;
    }

    fn changes(&mut self, bytes: &[u8], records: &Records) -> Result<()> {
        for said in changes(bytes) {
            if let Said::Transaction { lsn, time } = said.ok_or_else(|| damaged(records))?
                && self.waiting.last().is_none_or(|(last, _)| *last != lsn)
            {
                self.waiting.push((lsn, time));
            }
        }
        Ok(())
    }

    fn ending(&mut self, ending: Ending, state: State, piece: Piece) {
        if !self.known {
            (self.known, self.survey.first_commit) = (true, state.first_commit);
            self.survey.last.0 = state.first_commit;
        }
        let waiting = std::mem::take(&mut self.waiting);
        let before = self.survey.state.covered;
        match ending {
            Ending::Batch => self.count(waiting, piece),
            Ending::Direct => self.held = Some((waiting, piece)),
            Ending::Committed => {
                if let Some((held, piece)) = self.held.take() {
                    self.count(held, piece);
                }
            }
            Ending::NotCommitted => self.held = None,
            Ending::Closed => {}
        }
        self.survey.covered = if self.survey.passed { before } else { state.covered };
        self.survey.state = state;
    }

    fn count(&mut self, transactions: Vec<(u64, u64)>, piece: Piece) {
        for (lsn, time) in transactions {
            if self.until.is_passed(lsn, time) {
                self.survey.passed = true;
                break;
            }
            self.survey.last = (lsn, time);
        }
        self.survey.pieces.push(piece);
    }
}
