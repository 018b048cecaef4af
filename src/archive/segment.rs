//! A segment of an archive: reading its records, and appending to the newest one.

use crate::disk::format::{get_u32, get_u64};
use crate::disk::platform::Disk;
use crate::disk::unix::{OpenMode, UnixDisk};
use crate::engine::archive::KeptChange;
use crate::error::{Error, Result};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::place::read_header;
use super::record::{
    CHANGES, END, Ending, FULL, GAP, GapRecord, HEADER, Header, MAX_RECORD, RECORD_HEADER, put_change, put_transaction,
    record_crc, record_header,
};
use super::state::{STATE, State};

/// A record as it was read.
#[derive(Debug)]
pub(crate) enum Record {
    Changes(Vec<u8>),
    End(Ending, Box<State>),
    Gap(GapRecord),
}

/// A place between two records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The byte of the file.
    pub(crate) at: u64,
    /// The number of the record that starts there.
    pub(crate) number: u64,
}

/// Before the first record.
pub(crate) const START: Place = Place { at: HEADER as u64, number: 0 };

/// Reads records one after the other, each verified before anything in it is believed.
pub(crate) struct Records {
    file: File,
    path: PathBuf,
    tag: u32,
    pub(crate) place: Place,
    /// Nothing is read from here on.
    end: u64,
}

impl Records {
    /// From a place on, up to a byte of the file if one is given.
    pub(crate) fn open(path: &Path, header: &Header, place: Place, end: Option<u64>) -> Result<Records> {
        let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
        let len = file.metadata().map_err(|e| Error::io("stat", path, e))?.len();
        let end = end.unwrap_or(len).min(len);
        Ok(Records { file, path: path.to_path_buf(), tag: header.tag, place, end })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is nothing more.
    pub(crate) fn is_at_end(&self) -> bool {
        self.place.at >= self.end
    }

    /// The next record. `None`: what follows is no whole record.
    pub(crate) fn next(&mut self) -> Result<Option<Record>> {
        let io = |e| Error::io("read", &self.path, e);
        let room = self.end.saturating_sub(self.place.at);
        let mut header = [0; RECORD_HEADER];
        if room < RECORD_HEADER as u64 {
            return Ok(None);
        }
        self.file.read_exact_at(&mut header, self.place.at).map_err(io)?;
        let len = u64::from(get_u32(&header, 4));
        if len > MAX_RECORD || len > room - RECORD_HEADER as u64 || get_u64(&header, 8) != self.place.number {
            return Ok(None);
        }
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        self.file.read_exact_at(&mut bytes, self.place.at + RECORD_HEADER as u64).map_err(io)?;
        if record_crc(self.tag, &header, &bytes) != get_u32(&header, 0) {
            return Ok(None);
        }
        let record = match get_u32(&header, 16) {
            CHANGES => Some(Record::Changes(bytes)),
            GAP => GapRecord::decode(&bytes).map(Record::Gap),
            END => {
                let ending = bytes.get(STATE..).and_then(|code| Ending::decode(get_u32(code, 0)));
                ending.zip(State::decode(&bytes)).map(|(ending, state)| Record::End(ending, Box::new(state)))
            }
            _ => None,
        };
        if record.is_some() {
            self.place = Place { at: self.place.at + RECORD_HEADER as u64 + len, number: self.place.number + 1 };
        }
        Ok(record)
    }
}

/// The newest segment, to be appended to.
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) header: Header,
    disk: UnixDisk,
    /// After the last ending.
    pub(crate) place: Place,
    pub(crate) state: State,
    /// Something follows the last ending: nothing may be appended here any more.
    pub(crate) torn: bool,
}

shows! { self: Segment { path: self.path, place: self.place } }

impl Segment {
    /// Opens a segment and reads it to its last ending, which is durable then.
    pub(crate) fn open(path: &Path) -> Result<Segment> {
        let header = read_header(path)?;
        let disk = UnixDisk::open(path, OpenMode { read_only: false, create: false })?;
        let (path, state) = (path.to_path_buf(), header.state);
        let mut segment = Segment { path, header, disk, place: START, state, torn: false };
        segment.read_on()?;
        Ok(segment)
    }

    /// Reads what another process has appended.
    pub(crate) fn read_on(&mut self) -> Result<()> {
        let mut records = Records::open(&self.path, &self.header, self.place, None)?;
        while let Some(record) = records.next()? {
            if let Record::End(_, state) = record {
                (self.place, self.state) = (records.place, *state);
            }
        }
        self.torn = records.end > self.place.at;
        // What a killed process appended may lie in the system's cache only.
        self.disk.flush().map_err(|e| Error::io("flush", &self.path, e))
    }

    /// The same, if there is something to be read.
    pub(crate) fn read_on_if_longer(&mut self) -> Result<()> {
        if self.torn || self.len()? == self.place.at { Ok(()) } else { self.read_on() }
    }

    /// Bytes of the file.
    pub(crate) fn len(&self) -> Result<u64> {
        self.disk.len().map_err(|e| Error::io("read the length", &self.path, e))
    }

    /// The hash of all that counts in it.
    pub(crate) fn hash(&self) -> Result<[u8; 32]> {
        hash_of(&self.path, self.place.at)
    }

    /// Begins to append. Nothing of it counts before [`Appending::finish`].
    pub(crate) fn append(&mut self) -> Appending<'_> {
        let (place, state) = (self.place, self.state);
        Appending { segment: self, place, state, changes: Vec::new(), transaction: None }
    }
}

/// The hash of a segment up to some byte.
pub(crate) fn hash_of(path: &Path, len: u64) -> Result<[u8; 32]> {
    let io = |e| Error::io("read", path, e);
    let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    let (mut hasher, mut at, mut buffer) = (blake3::Hasher::new(), 0, vec![0; FULL]);
    while at < len {
        let wanted = usize::try_from(len - at).unwrap_or(FULL).min(FULL);
        let part = buffer.get_mut(..wanted).unwrap_or_default();
        file.read_exact_at(part, at).map_err(io)?;
        hasher.update(part);
        at += wanted as u64;
    }
    Ok(hasher.finalize().into())
}

/// Records on their way to the end of a segment.
pub(crate) struct Appending<'s> {
    segment: &'s mut Segment,
    place: Place,
    pub(crate) state: State,
    changes: Vec<u8>,
    transaction: Option<(u64, u64)>,
}

impl Appending<'_> {
    pub(crate) fn transaction(&mut self, lsn: u64, time: u64) {
        self.transaction = Some((lsn, time));
        put_transaction(&mut self.changes, lsn, time);
        self.state.latest = self.state.latest.max(time);
    }

    pub(crate) fn change(&mut self, table: u32, change: KeptChange<'_>) -> Result<()> {
        if self.changes.len() >= FULL {
            self.close()?;
            if let Some((lsn, time)) = self.transaction {
                put_transaction(&mut self.changes, lsn, time);
            }
        }
        put_change(&mut self.changes, table, change);
        Ok(())
    }

    pub(crate) fn gap(&mut self, gap: &GapRecord) -> Result<()> {
        self.close()?;
        self.state = self.state.with_gap(gap.from, gap.to);
        self.put(GAP, &gap.encode())
    }

    fn close(&mut self) -> Result<()> {
        if self.changes.is_empty() {
            return Ok(());
        }
        let changes = std::mem::take(&mut self.changes);
        self.put(CHANGES, &changes)?;
        self.changes = changes;
        self.changes.clear();
        Ok(())
    }

    fn put(&mut self, kind: u32, bytes: &[u8]) -> Result<()> {
        let header = record_header(self.segment.header.tag, self.place.number, kind, bytes);
        let all = [&header[..], bytes].concat();
        let disk = &self.segment.disk;
        disk.write_at(&all, self.place.at).map_err(|e| Error::io("append to the archive", &self.segment.path, e))?;
        disk.start_writeback(self.place.at, all.len() as u64);
        self.place = Place { at: self.place.at + all.len() as u64, number: self.place.number + 1 };
        Ok(())
    }

    /// Ends what was appended, makes it durable, and lets it count.
    pub(crate) fn finish(mut self, ending: Ending) -> Result<()> {
        self.close()?;
        let end = [&self.state.encode()[..], &ending.encode().to_le_bytes()].concat();
        self.put(END, &end)?;
        let segment = &mut self.segment;
        if let Err(e) = segment.disk.flush() {
            // What the system goes on showing of it may not be on disk.
            segment.torn = true;
            return Err(Error::io("flush the archive", &segment.path, e));
        }
        (segment.place, segment.state) = (self.place, self.state);
        Ok(())
    }
}

impl Segment {
    /// After an append that failed: nothing of it may be found later. What cannot be cut off stays, and the next
    /// segment says that it does not count.
    pub(crate) fn cut(&mut self) -> io::Result<()> {
        let cut = self.disk.set_len(self.place.at).and_then(|()| self.disk.flush());
        self.torn |= cut.is_err();
        cut
    }
}
