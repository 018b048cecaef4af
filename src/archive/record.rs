//! The bytes of a segment: its header, and records. `docs/BACKUP_FORMAT.md` tells the same in words.

use super::state::{STATE, State};
use crate::disk::format::{
    MAX_KEY_SIZE, MAX_VALUE_SIZE, get_u16, get_u32, get_u64, put_bytes, put_u32, put_u64, take, take_all,
};
use crate::engine::archive::KeptChange;

pub(crate) const MAGIC: [u8; 8] = *b"mstnslog";
/// Version of this format.
pub(crate) const VERSION: u32 = 1;
/// Before the first record.
pub(crate) const HEADER: usize = 256;
/// Before the bytes of each record: CRC, length, number, kind.
pub(crate) const RECORD_HEADER: usize = 24;
/// A record of changes is closed when it has so many bytes.
pub(crate) const FULL: usize = 1 << 20;
/// No record is longer: one change with the longest key and value, and some more.
pub(crate) const MAX_RECORD: u64 = MAX_VALUE_SIZE + (4 << 20);

/// Changes of transactions.
pub(crate) const CHANGES: u32 = 1;
/// The end of something: what the archive has come to, and by what.
pub(crate) const END: u32 = 2;
/// Transactions are missing.
pub(crate) const GAP: u32 = 3;

const TRANSACTION: u8 = 16;
const PUT: u8 = 1;
const DELETE: u8 = 2;
const DROP: u8 = 4;

/// What a segment's header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    /// A random number of this segment.
    pub(crate) tag: u32,
    pub(crate) archive: [u8; 16],
    pub(crate) store_id: [u8; 16],
    /// The inode of the store's file: a copy of the file does not go on with its archive.
    pub(crate) inode: u64,
    /// From 1.
    pub(crate) number: u64,
    /// How many bytes of the segment before count, and their hash; 0 for the first.
    pub(crate) previous_len: u64,
    pub(crate) previous_hash: [u8; 32],
    /// When it was begun, in microseconds since 1970.
    pub(crate) begun: u64,
    /// What the archive had come to before.
    pub(crate) state: State,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        put_bytes(&mut out, 0, &MAGIC);
        put_u32(&mut out, 12, VERSION);
        put_u32(&mut out, 16, self.tag);
        put_bytes(&mut out, 20, &self.archive);
        put_bytes(&mut out, 36, &self.store_id);
        put_u64(&mut out, 52, self.inode);
        put_u64(&mut out, 60, self.number);
        put_u64(&mut out, 68, self.previous_len);
        put_bytes(&mut out, 76, &self.previous_hash);
        put_u64(&mut out, 108, self.begun);
        put_bytes(&mut out, 116, &self.state.encode());
        let crc = crc32fast::hash(out.get(12..).unwrap_or_default());
        put_u32(&mut out, 8, crc);
        out
    }

    /// The header, or the version of it if that is a newer one; `None` if it is none.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Result<Header, u32>> {
        if bytes.len() < HEADER || bytes.get(..8) != Some(&MAGIC[..]) {
            return None;
        }
        let bytes = bytes.get(..HEADER)?;
        if crc32fast::hash(bytes.get(12..)?) != get_u32(bytes, 8) {
            return None;
        }
        let version = get_u32(bytes, 12);
        if version != VERSION {
            return Some(Err(version));
        }
        let id = |at: usize| bytes.get(at..)?.first_chunk::<16>().copied();
        Some(Ok(Header {
            tag: get_u32(bytes, 16),
            archive: id(20)?,
            store_id: id(36)?,
            inode: get_u64(bytes, 52),
            number: get_u64(bytes, 60),
            previous_len: get_u64(bytes, 68),
            previous_hash: bytes.get(76..)?.first_chunk::<32>().copied()?,
            begun: get_u64(bytes, 108),
            state: State::decode(bytes.get(116..116 + STATE)?)?,
        }))
    }
}

/// By what a place was reached where a segment may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// All transactions since the ending before are committed.
    Batch = 1,
    /// The one transaction since the ending before is committed if the next ending says so.
    Direct = 2,
    Committed = 3,
    NotCommitted = 4,
    Closed = 5,
}

impl Ending {
    pub(crate) fn encode(self) -> u32 {
        self as u32
    }

    pub(crate) fn decode(code: u32) -> Option<Ending> {
        [Ending::Batch, Ending::Direct, Ending::Committed, Ending::NotCommitted, Ending::Closed]
            .into_iter()
            .find(|ending| ending.encode() == code)
    }
}

/// CRC of a record: the segment's tag, the header after the CRC, and the bytes.
pub(crate) fn record_crc(tag: u32, header: &[u8], bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&tag.to_le_bytes());
    hasher.update(header.get(4..RECORD_HEADER).unwrap_or_default());
    hasher.update(bytes);
    hasher.finalize()
}

/// The header of a record.
pub(crate) fn record_header(tag: u32, number: u64, kind: u32, bytes: &[u8]) -> [u8; RECORD_HEADER] {
    let mut header = [0; RECORD_HEADER];
    put_u32(&mut header, 4, u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    put_u64(&mut header, 8, number);
    put_u32(&mut header, 16, kind);
    let crc = record_crc(tag, &header, bytes);
    put_u32(&mut header, 0, crc);
    header
}

/// A transaction begins, or goes on.
pub(crate) fn put_transaction(out: &mut Vec<u8>, lsn: u64, time: u64) {
    out.push(TRANSACTION);
    out.extend_from_slice(&lsn.to_le_bytes());
    out.extend_from_slice(&time.to_le_bytes());
}

pub(crate) fn put_change(out: &mut Vec<u8>, table: u32, change: KeptChange<'_>) {
    let mut start = |code: u8, key: &[u8]| {
        out.push(code);
        out.extend_from_slice(&table.to_le_bytes());
        out.extend_from_slice(&u16::try_from(key.len()).unwrap_or(u16::MAX).to_le_bytes());
    };
    match change {
        KeptChange::Put { key, value } => {
            start(PUT, key);
            out.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
            out.extend_from_slice(key);
            out.extend_from_slice(value);
        }
        KeptChange::Delete { key } => {
            start(DELETE, key);
            out.extend_from_slice(key);
        }
        KeptChange::Drop => start(DROP, &[]),
    }
}

/// What a record of changes says, in order.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Said<'a> {
    Transaction { lsn: u64, time: u64 },
    Change(u32, KeptChange<'a>),
}

/// What a record of changes says. An item of `None` says that the rest makes no sense.
pub(crate) fn changes(bytes: &[u8]) -> impl Iterator<Item = Option<Said<'_>>> {
    take_all(bytes, take_said)
}

fn take_said<'a>(rest: &mut &'a [u8]) -> Option<Said<'a>> {
    let code = *take(rest, 1)?.first()?;
    if code == TRANSACTION {
        let numbers = take(rest, 16)?;
        return Some(Said::Transaction { lsn: get_u64(numbers, 0), time: get_u64(numbers, 8) });
    }
    let head = take(rest, 6)?;
    let (table, key_len) = (get_u32(head, 0), usize::from(get_u16(head, 4)));
    if key_len > MAX_KEY_SIZE {
        return None;
    }
    let change = match code {
        PUT => {
            let value_len = get_u32(take(rest, 4)?, 0) as usize;
            let key = take(rest, key_len)?;
            KeptChange::Put { key, value: take(rest, value_len)? }
        }
        DELETE => KeptChange::Delete { key: take(rest, key_len)? },
        DROP if key_len == 0 => KeptChange::Drop,
        _ => return None,
    };
    Some(Said::Change(table, change))
}

/// What a record of a gap says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GapRecord {
    /// Transactions after `from`, up to `to`, are missing.
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// When it was found, in microseconds since 1970.
    pub(crate) time: u64,
    pub(crate) reason: String,
}

impl GapRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for number in [self.from, self.to, self.time] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(self.reason.as_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<GapRecord> {
        let reason = String::from_utf8_lossy(bytes.get(24..)?).into_owned();
        Some(GapRecord { from: get_u64(bytes, 0), to: get_u64(bytes, 8), time: get_u64(bytes, 16), reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> Header {
        let state = State { lsn: 7, started: true, last_commit: 6, pending: Some((8, 9)), ..State::default() };
        let (archive, store_id, previous_hash) = ([1; 16], [2; 16], [3; 32]);
        Header { tag: 5, archive, store_id, inode: 4, number: 2, previous_len: 300, previous_hash, begun: 10, state }
    }

    #[test]
    fn what_is_written_reads_back() {
        assert_eq!(Header::decode(&header().encode()), Some(Ok(header())));
        let state = State { closed: Some(1), gap: (2, 3), gaps: 1, crc: 4, ..header().state };
        assert_eq!(State::decode(&state.encode()), Some(state));
        let gap = GapRecord { from: 1, to: 2, time: 3, reason: "no space".to_owned() };
        assert_eq!(GapRecord::decode(&gap.encode()), Some(gap));
        let mut bytes = Vec::new();
        put_transaction(&mut bytes, 7, 8);
        put_change(&mut bytes, 16, KeptChange::Put { key: b"k", value: b"value" });
        put_change(&mut bytes, 17, KeptChange::Delete { key: b"" });
        put_change(&mut bytes, 18, KeptChange::Drop);
        let said: Vec<_> = changes(&bytes).map(|said| format!("{:?}", said.unwrap())).collect();
        assert_eq!(said.len(), 4);
        assert_eq!(said[0], "Transaction { lsn: 7, time: 8 }");
        assert!(said[1].contains("16") && said[3].contains("Drop"), "{said:?}");
    }

    #[test]
    fn a_newer_version_and_other_bytes_are_told_apart() {
        let mut newer = header().encode();
        put_u32(&mut newer, 12, VERSION + 1);
        let crc = crc32fast::hash(&newer[12..]);
        put_u32(&mut newer, 8, crc);
        assert_eq!(Header::decode(&newer), Some(Err(VERSION + 1)));
        for at in 0..HEADER {
            let mut bytes = header().encode();
            bytes[at] ^= 1;
            assert_eq!(Header::decode(&bytes), None, "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = (Header::decode(&bytes), State::decode(&bytes), GapRecord::decode(&bytes));
            let mut last = true;
            for said in changes(&bytes) {
                prop_assert!(last, "nothing comes after what makes no sense");
                last = said.is_some();
            }
        }
    }
}
