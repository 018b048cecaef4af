//! Leaves and long values, judged piece by piece; the results are combined afterwards, so that several threads
//! may judge.

use std::borrow::Cow;

use super::pieces::Piece;
use super::siblings::Siblings;
use super::{Severity, TableReport};
use crate::disk::format::{Child, KIND_OVERFLOW, NODE_END, Overflow, PAGE_LEVEL, Ptr, get_u32};
use crate::maintain::format::file::{Expect, File};
use crate::maintain::format::node::{Entries, Value};
use crate::maintain::format::types::{KeyType, value_fits};

/// Key and value.
pub(super) type Row = (Vec<u8>, Vec<u8>);

/// What the entries of a table are checked against.
pub(super) struct Rules<'a> {
    pub(super) file: File<'a>,
    pub(super) nodes: Expect,
    /// Pages of a node at most.
    pub(super) node_pages: u32,
    pub(super) keys: &'a KeyType,
    pub(super) table: &'a TableReport,
    /// Values are checked against their type, and that type restricts them.
    pub(super) values: bool,
    /// The rows are wanted.
    pub(super) keep: bool,
    /// Findings of a piece that are reported in full.
    pub(super) max: usize,
}

/// A long value that a leaf points at.
pub(super) struct Long {
    pub(super) leaf: u32,
    pub(super) value: Overflow,
    /// Bytes of its tail.
    tail_len: u64,
    /// Its key and its tail, if they are needed.
    key: Vec<u8>,
    tail: Vec<u8>,
}

impl Long {
    pub(super) fn len(&self) -> u64 {
        self.value.len + self.tail_len
    }
}

/// What was found in a piece.
#[derive(Default)]
pub(super) struct Judged {
    /// Counts alone.
    pub(super) counts: TableReport,
    /// Page, what is wrong.
    pub(super) findings: Vec<(Severity, u32, String)>,
    /// Findings that are only counted: damage, warnings.
    pub(super) untold: (u64, u64),
    /// Nodes of more than one page.
    pub(super) runs: Vec<(u32, u32)>,
    pub(super) longs: Vec<Long>,
    pub(super) rows: Vec<Row>,
    /// Just after the last page of the leaves and of their long values.
    pub(super) end: u32,
    /// A node could not be decoded, so the counts are meaningless.
    pub(super) broken: bool,
}

impl Rules<'_> {
    /// Judges the leaves that lie in a piece; `order` are those of the siblings that the pieces were cut from.
    pub(super) fn leaves(&self, siblings: &Siblings, order: &[u32], piece: &Piece, bytes: Option<&[u8]>) -> Judged {
        let (mut judged, mut entries) = (Judged::default(), Entries::default());
        for index in order.get(piece.runs.clone()).unwrap_or_default().iter().map(|index| *index as usize) {
            let (ptr, low, high) = (siblings.node(index), siblings.low(index), siblings.high(index));
            let run = match self.node(ptr, piece, bytes) {
                Ok(run) => run,
                Err(why) => {
                    self.damage(&mut judged, ptr.page, format!("a node: {why}"));
                    continue;
                }
            };
            if let Some(found) = self.leaf(ptr, &run, low, high, &mut entries, &mut judged) {
                for why in unlike(siblings.noted(index), found) {
                    self.told(&mut judged, Severity::Damage, ptr.page, || why);
                }
            }
        }
        judged
    }

    /// A node, from the bytes of the piece that it lies in, as far as there are some; what is missing is read.
    pub(super) fn node<'b>(&self, ptr: Ptr, piece: &Piece, bytes: Option<&'b [u8]>) -> Result<Cow<'b, [u8]>, String> {
        let page_size = self.file.page_size;
        let here = bytes.map(|bytes| piece.from(bytes, ptr.page, page_size));
        match here.filter(|here| here.len() >= page_size as usize) {
            Some(here) => self.file.run_of(here, ptr, self.nodes, self.node_pages),
            None => self.file.run(ptr, self.nodes, self.node_pages).map(Cow::Owned),
        }
    }

    /// Judges a leaf whose checksum is right. Returns what its parent must note of it, unless it cannot be decoded.
    pub(super) fn leaf(
        &self,
        ptr: Ptr,
        run: &[u8],
        low: &[u8],
        high: Option<&[u8]>,
        entries: &mut Entries,
        judged: &mut Judged,
    ) -> Option<Child> {
        let pages = u32::try_from(run.len() / self.file.page_size as usize).unwrap_or(u32::MAX);
        if pages > 1 {
            judged.runs.push((ptr.page, pages));
        }
        let level = run.get(PAGE_LEVEL).copied().unwrap_or(0);
        if level != 0 {
            self.damage(judged, ptr.page, format!("level {level} below level 1"));
            return None;
        }
        let counts = &mut judged.counts;
        (counts.levels, counts.leaves) = (1, counts.leaves + 1);
        counts.node_pages += u64::from(pages);
        counts.node_bytes += u64::from(get_u32(run, NODE_END));
        if let Err(why) = entries.read(run) {
            self.damage(judged, ptr.page, why);
            return None;
        }
        let mut keys = entries.iter(run).map(|(key, _)| key);
        let (first, last) = (keys.clone().next(), keys.next_back());
        if Some(low) > first || high.is_some_and(|high| last >= Some(high)) {
            let why = "its keys are outside of the range that its parents give it";
            self.damage(judged, ptr.page, why.to_owned());
            return None;
        }
        let mut found = Child { ptr, count: 0, end: ptr.page.saturating_add(pages) };
        for (key, value) in entries.iter(run) {
            if let Value::Long(long) = &value {
                let extents = self.file.extents(&long.pages).unwrap_or_default();
                found.end = found.end.max(u32::try_from(extents.end()).unwrap_or(u32::MAX));
            }
            found.count += 1;
            self.entry(ptr.page, key, value, judged);
        }
        judged.end = judged.end.max(found.end);
        Some(found)
    }

    fn entry(&self, page: u32, key: &[u8], value: Value<'_>, judged: &mut Judged) {
        judged.counts.entries += 1;
        judged.counts.key_bytes += key.len() as u64;
        if !self.keys.fits(key) {
            let kind = &self.table.key_type;
            self.warning(judged, page, || format!("the key {} is none of the type {kind}", key.escape_ascii()));
        }
        match value {
            Value::Inline(value) => {
                judged.counts.value_bytes += value.len() as u64;
                self.value(page, key, value, judged);
                if self.keep {
                    judged.rows.push((key.to_vec(), value.to_vec()));
                }
            }
            Value::Long(value) => {
                let kept = |bytes: &[u8]| if self.keep || self.values { bytes.to_vec() } else { Vec::new() };
                let (key, tail, tail_len) = (kept(key), kept(value.tail), value.tail.len() as u64);
                judged.longs.push(Long { leaf: page, value: value.pages, tail_len, key, tail });
            }
        }
    }

    /// Judges long values, which lie in a piece; they are in the order of pages.
    pub(super) fn longs(&self, longs: &[Long], piece: &Piece, bytes: Option<&[u8]>) -> Judged {
        let mut judged = Judged::default();
        for long in longs.get(piece.runs.clone()).unwrap_or_default() {
            if let Err(why) = self.long(long, piece, bytes, &mut judged) {
                // The key is present: the tree is not broken.
                self.told(&mut judged, Severity::Damage, long.value.ptr.page, || format!("a long value: {why}"));
            }
        }
        judged
    }

    fn long(&self, long: &Long, piece: &Piece, bytes: Option<&[u8]>, judged: &mut Judged) -> Result<(), String> {
        let ptr = long.value.ptr;
        let extents = self.file.extents(&long.value)?;
        let pages = extents.pages();
        let expect = Expect { kinds: &[KIND_OVERFLOW], table: self.nodes.table, version: self.nodes.version };
        let size = usize::try_from(pages * u64::from(self.file.page_size)).unwrap_or(usize::MAX);
        let here = bytes.filter(|_| extents.len() == 1);
        let here = here.and_then(|bytes| piece.from(bytes, ptr.page, self.file.page_size).get(..size));
        if let Some(run) = here {
            let front = self.file.long_value_of(run, &long.value, expect)?;
            self.long_bytes(long, front, judged);
        } else if self.values || self.keep {
            let front = self.file.long_value(&long.value, expect)?;
            self.long_bytes(long, &front, judged);
        } else {
            self.file.verify_long(&long.value, expect)?;
        }
        judged.counts.long_values += 1;
        judged.counts.long_value_pages += pages;
        judged.counts.value_bytes += long.len();
        Ok(())
    }

    fn long_bytes(&self, long: &Long, front: &[u8], judged: &mut Judged) {
        if !self.values && !self.keep {
            return;
        }
        let value = [front, &long.tail].concat();
        self.value(long.leaf, &long.key, &value, judged);
        if self.keep {
            judged.rows.push((long.key.clone(), value));
        }
    }

    fn value(&self, page: u32, key: &[u8], value: &[u8], judged: &mut Judged) {
        if self.values && !value_fits(&self.table.value_type, value) {
            let kind = &self.table.value_type;
            let message = || format!("the value of key {} is none of the type {kind}", key.escape_ascii());
            self.warning(judged, page, message);
        }
    }

    fn damage(&self, judged: &mut Judged, page: u32, message: String) {
        judged.broken = true;
        self.told(judged, Severity::Damage, page, || message);
    }

    fn warning(&self, judged: &mut Judged, page: u32, message: impl FnOnce() -> String) {
        self.told(judged, Severity::Warning, page, message);
    }

    fn told(&self, judged: &mut Judged, severity: Severity, page: u32, message: impl FnOnce() -> String) {
        match severity {
            _ if judged.findings.len() < self.max => judged.findings.push((severity, page, message())),
            Severity::Damage => judged.untold.0 += 1,
            Severity::Warning => judged.untold.1 += 1,
        }
    }
}

/// What a parent notes of a child and the child itself contradicts.
pub(super) fn unlike(noted: Child, found: Child) -> impl Iterator<Item = String> {
    let count = (noted.count != found.count)
        .then(|| format!("its parent notes {} entries below it, but there are {}", noted.count, found.count));
    let end = (noted.end != found.end)
        .then(|| format!("its parent notes that it ends before page {}, but it ends before {}", noted.end, found.end));
    count.into_iter().chain(end)
}
