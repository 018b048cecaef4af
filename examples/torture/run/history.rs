//! What a worker writes down, line by line, each with one write call, so that a kill loses no line
//! that was written and leaves at most half a line.
//!
//! `I txn index r|w:table:key:hash…`: about to commit: what was read, what is written (hash 0: nothing
//! there). `A txn lsn`: acknowledged. `F txn`: failed cleanly. `S lsn length digest`: a snapshot's
//! number of transactions and the digest of all it shows.

use memstone::{RawTable, Result, Snapshot};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// Tables whose contents are written down. The journal has one row for each transaction, in order.
pub const TABLES: [&str; 3] = ["accounts", "counters", "registers"];
pub const JOURNAL: &str = "journal";

pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A value's hash; never 0, which stands for no value.
pub fn hash(bytes: &[u8]) -> u64 {
    let words = bytes.chunks(8).fold(bytes.len() as u64, |h, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix(h ^ u64::from_le_bytes(word)).wrapping_add(0x9e37_79b9_7f4a_7c15)
    });
    mix(words) | 1
}

/// What one row adds to the digest of a state.
pub fn row(table: usize, key: u64, value: u64) -> u64 {
    if value == 0 { 0 } else { mix(mix(value ^ (table as u64) << 56).wrapping_add(mix(key))) }
}

pub fn number(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().unwrap())
}

/// The number of transactions that a snapshot has, and the digest of all rows.
pub fn look(snap: &Snapshot) -> Result<(u64, u64)> {
    let mut digest = 0;
    for (i, name) in TABLES.iter().enumerate() {
        let table = snap.raw(name)?;
        let mut rows = 0;
        for item in table.prefix(b"")? {
            let (key, value) = item?;
            digest ^= row(i, number(&key), hash(&value));
            rows += 1;
        }
        assert_eq!(table.len()?, rows, "{name} has another length than it says");
    }
    let journal: RawTable<'_> = snap.raw(JOURNAL)?;
    let length = journal.len()?;
    let last = journal.last()?.map_or(0, |(key, _)| number(&key) + 1);
    assert_eq!(length, last, "the journal has holes");
    Ok((length, digest))
}

/// A transaction's reads and writes, by table and key.
#[derive(Default, Clone)]
pub struct Intent {
    pub index: u64,
    pub reads: Vec<(usize, u64, u64)>,
    pub writes: Vec<(usize, u64, u64)>,
}

/// One worker's history, being written.
pub struct Writer(File);

impl Writer {
    pub fn new(path: &Path) -> Writer {
        Writer(File::options().append(true).create(true).open(path).unwrap())
    }

    fn line(&self, line: &str) {
        (&self.0).write_all(line.as_bytes()).unwrap();
    }

    pub fn intent(&self, txn: u64, intent: &Intent) {
        let mut line = format!("I {txn} {}", intent.index);
        for (mark, rows) in [('r', &intent.reads), ('w', &intent.writes)] {
            for (table, key, hash) in rows {
                let _ = write!(line, " {mark}:{table}:{key}:{hash}");
            }
        }
        self.line(&format!("{line}\n"));
    }

    pub fn acknowledged(&self, txn: u64, lsn: u64) {
        self.line(&format!("A {txn} {lsn}\n"));
    }

    pub fn failed(&self, txn: u64) {
        self.line(&format!("F {txn}\n"));
    }

    pub fn snapshot(&self, thread: u64, lsn: u64, length: u64, digest: u64) {
        self.line(&format!("S {thread} {lsn} {length} {digest}\n"));
    }
}

/// One line, read back.
pub enum Line {
    Intent(u64, Intent),
    Acknowledged(u64, u64),
    Failed(u64),
    Snapshot { thread: u64, lsn: u64, length: u64, digest: u64 },
}

/// A history's whole lines.
pub fn read(path: &Path) -> Vec<Line> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| parse(line).unwrap_or_else(|| panic!("{}: {line}", path.display()))).collect()
}

fn parse(line: &str) -> Option<Line> {
    let mut words = line.split(' ');
    let kind = words.next()?;
    let mut next = || words.next()?.parse::<u64>().ok();
    Some(match kind {
        "I" => {
            let (txn, index) = (next()?, next()?);
            let mut intent = Intent { index, ..Intent::default() };
            for word in words {
                let mut parts = word.split(':');
                let mark = parts.next()?;
                let row = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
                if mark == "r" { intent.reads.push(row) } else { intent.writes.push(row) }
            }
            Line::Intent(txn, intent)
        }
        "A" => Line::Acknowledged(next()?, next()?),
        "F" => Line::Failed(next()?),
        "S" => Line::Snapshot { thread: next()?, lsn: next()?, length: next()?, digest: next()? },
        _ => return None,
    })
}

/// A state that is replayed.
#[derive(Default)]
pub struct State {
    rows: HashMap<(usize, u64), u64>,
    pub digest: u64,
}

impl State {
    pub fn get(&self, table: usize, key: u64) -> u64 {
        self.rows.get(&(table, key)).copied().unwrap_or(0)
    }

    pub fn set(&mut self, table: usize, key: u64, value: u64) {
        let old = self.rows.insert((table, key), value).unwrap_or(0);
        self.digest ^= row(table, key, old) ^ row(table, key, value);
    }
}
