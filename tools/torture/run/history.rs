//! The history of a worker, line by line, each with one write call, so that a kill loses no line
//! that was written and leaves at most half a line. Times are those of `clock`.
//!
//! `I txn call index r|w:table:key:hash… c:counter:value l:list:element,… a:list:element`: about to commit: when it began, what was
//! read and is written (hash 0: nothing there), the counters as they are then, the lists that were read and what is
//! appended. `A txn lsn time`:
//! acknowledged. `F txn`: it failed, and did not happen. (Neither: its outcome is unknown.)
//! `S thread lsn length digest call ret`: a snapshot's number of transactions and the digest of all it shows.
//! `P how thread length call ret c:counter:value… l:list:element,…`: a look at some of it.

use crate::random::{STEP, mix};
use memstone::{RawTable, ReadState, Result, Snapshot};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// Tables whose contents are written down. The journal has one row for each transaction, in order.
pub const TABLES: [&str; 4] = ["accounts", "counters", "registers", "lists"];
pub const COUNTERS: usize = 1;
pub const LISTS: usize = 3;
pub const JOURNAL: &str = "journal";

/// A value's hash; never 0, which stands for no value.
pub fn hash(bytes: &[u8]) -> u64 {
    let words = bytes.chunks(8).fold(bytes.len() as u64, |h, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix(h ^ u64::from_le_bytes(word)).wrapping_add(STEP)
    });
    mix(words) | 1
}

/// The part of one row in the digest of a state.
pub fn row(table: usize, key: u64, value: u64) -> u64 {
    if value == 0 { 0 } else { mix(mix(value ^ (table as u64) << 56).wrapping_add(mix(key))) }
}

pub fn number(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().unwrap())
}

/// A list's elements, by its value.
pub fn elements(value: Option<&[u8]>) -> Vec<u64> {
    value.unwrap_or_default().chunks(8).map(number).collect()
}

/// How many transactions there are.
pub fn length<S: ReadState>(journal: &RawTable<'_, S>) -> Result<u64> {
    Ok(journal.last()?.map_or(0, |(key, _)| number(&key) + 1))
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
        if let Some((key, _)) = table.nth(rows / 2)? {
            assert_eq!(table.rank(&key)?, rows / 2, "{name} has another key under a number");
        }
    }
    let journal = snap.raw(JOURNAL)?;
    let length = length(&journal)?;
    assert_eq!(journal.len()?, length, "the journal has holes");
    Ok((length, digest))
}

/// A transaction's reads and writes, by table and key; its lists, with what was in them and what it appends.
#[derive(Default, Clone)]
pub struct Intent {
    pub call: u64,
    pub index: u64,
    pub reads: Vec<(usize, u64, u64)>,
    pub writes: Vec<(usize, u64, u64)>,
    pub counters: Vec<(u64, u64)>,
    pub lists: Vec<(u64, Vec<u64>)>,
    pub appends: Vec<(u64, u64)>,
}

/// How a look came to its state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum How {
    /// By a snapshot of a store that was open.
    #[default]
    Snapshot,
    /// By a write transaction that wrote nothing.
    Write,
    /// By a snapshot of a store that was just opened.
    Opened,
}

/// A look at some rows of one state.
#[derive(Default, Clone)]
pub struct Peek {
    pub how: How,
    pub thread: u64,
    pub length: u64,
    pub call: u64,
    pub ret: u64,
    pub counters: Vec<(u64, u64)>,
    pub lists: Vec<(u64, Vec<u64>)>,
}

impl Peek {
    pub fn name(&self) -> String {
        let way = match self.how {
            How::Snapshot => "",
            How::Write => ", by a write that writes nothing,",
            How::Opened => ", of one that just opened,",
        };
        format!("a look{way} of {:x}", self.thread)
    }
}

/// A whole state's number of transactions, and digest.
pub struct Whole {
    pub thread: u64,
    pub lsn: u64,
    pub length: u64,
    pub digest: u64,
    pub call: u64,
    pub ret: u64,
}

/// One worker's history, being written.
pub struct Writer(File);

impl Writer {
    pub fn new(path: &Path) -> Writer {
        Writer(File::options().append(true).create(true).open(path).unwrap())
    }

    fn line(&self, line: &str) {
        (&self.0).write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    pub fn intent(&self, txn: u64, intent: &Intent) {
        let mut line = format!("I {txn} {} {}", intent.call, intent.index);
        for (mark, rows) in [('r', &intent.reads), ('w', &intent.writes)] {
            for (table, key, hash) in rows {
                let _ = write!(line, " {mark}:{table}:{key}:{hash}");
            }
        }
        write_counters(&mut line, &intent.counters);
        write_lists(&mut line, &intent.lists);
        for (list, element) in &intent.appends {
            let _ = write!(line, " a:{list}:{element}");
        }
        self.line(&line);
    }

    pub fn acknowledged(&self, txn: u64, lsn: u64, time: u64) {
        self.line(&format!("A {txn} {lsn} {time}"));
    }

    pub fn failed(&self, txn: u64) {
        self.line(&format!("F {txn}"));
    }

    pub fn whole(&self, seen: &Whole) {
        let Whole { thread, lsn, length, digest, call, ret } = seen;
        self.line(&format!("S {thread} {lsn} {length} {digest} {call} {ret}"));
    }

    pub fn peek(&self, peek: &Peek) {
        let mut line = format!("P {} {} {} {} {}", peek.how as u64, peek.thread, peek.length, peek.call, peek.ret);
        write_counters(&mut line, &peek.counters);
        write_lists(&mut line, &peek.lists);
        self.line(&line);
    }
}

fn write_counters(line: &mut String, counters: &[(u64, u64)]) {
    for (counter, value) in counters {
        let _ = write!(line, " c:{counter}:{value}");
    }
}

fn write_lists(line: &mut String, lists: &[(u64, Vec<u64>)]) {
    for (list, elements) in lists {
        let elements: Vec<String> = elements.iter().map(u64::to_string).collect();
        let _ = write!(line, " l:{list}:{}", elements.join(","));
    }
}

/// One line, read back.
pub enum Line {
    Intent(u64, Intent),
    Acknowledged { txn: u64, lsn: u64, time: u64 },
    Failed(u64),
    Whole(Whole),
    Peek(Peek),
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
            let txn = next()?;
            let mut intent = Intent { call: next()?, index: next()?, ..Intent::default() };
            for word in words {
                let mut parts = word.split(':');
                let mark = parts.next()?;
                let first = parts.next()?.parse::<u64>().ok()?;
                match mark {
                    "a" => intent.appends.push((first, parts.next()?.parse().ok()?)),
                    "c" => intent.counters.push((first, parts.next()?.parse().ok()?)),
                    "l" => intent.lists.push((first, numbers(parts.next()?)?)),
                    _ => {
                        let row = (first as usize, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
                        if mark == "r" { intent.reads.push(row) } else { intent.writes.push(row) }
                    }
                }
            }
            Line::Intent(txn, intent)
        }
        "A" => Line::Acknowledged { txn: next()?, lsn: next()?, time: next()? },
        "F" => Line::Failed(next()?),
        "S" => Line::Whole(Whole {
            thread: next()?,
            lsn: next()?,
            length: next()?,
            digest: next()?,
            call: next()?,
            ret: next()?,
        }),
        "P" => {
            let how = [How::Snapshot, How::Write, How::Opened].into_iter().nth(next()? as usize)?;
            let mut peek =
                Peek { how, thread: next()?, length: next()?, call: next()?, ret: next()?, ..Peek::default() };
            for word in words {
                let mut parts = word.split(':');
                let (mark, first) = (parts.next()?, parts.next()?.parse::<u64>().ok()?);
                match mark {
                    "c" => peek.counters.push((first, parts.next()?.parse().ok()?)),
                    _ => peek.lists.push((first, numbers(parts.next()?)?)),
                }
            }
            Line::Peek(peek)
        }
        _ => return None,
    })
}

fn numbers(text: &str) -> Option<Vec<u64>> {
    text.split(',').filter(|word| !word.is_empty()).map(|word| word.parse().ok()).collect()
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
