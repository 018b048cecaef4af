//! The rows of permits: which operations have entered a namespace, and when each lease ends.
//!
//! They lie in the order in which their leases end, behind their number, so that those that have ended are found, and
//! those that are left need not be counted.

use crate::memory::error::Result;
use crate::memory::namespace::Namespace;
use crate::memory::tables::{Reader, Table, Writer, key};
use crate::memory::time::Timestamp;
use std::ops::Bound;
use std::time::Duration;

/// No lease is longer.
pub(super) const LONGEST: Duration = Duration::from_secs(3600);

/// What a permit is known by.
pub(super) type PermitId = [u8; 16];

/// The permits of one namespace.
pub(super) struct Permits<'w, 't> {
    writer: &'w Writer<'t>,
    /// The path, and a byte of 0, which no part of a path begins with.
    prefix: Vec<u8>,
}

impl<'w, 't> Permits<'w, 't> {
    pub(super) fn new(writer: &'w Writer<'t>, namespace: &Namespace) -> Permits<'w, 't> {
        Permits { writer, prefix: key(&[&namespace.key(), &[0]]) }
    }

    /// Removes permits whose leases have ended, and gives the number of the others. A lease that ends later than any can
    /// was given before the clock was set back, and has ended, too.
    pub(super) fn count(&self, now: Timestamp) -> Result<u64> {
        let (next, latest) = (now + Duration::from_micros(1), now + LONGEST + Duration::from_micros(1));
        let mut ended = self.keys(Bound::Excluded(self.prefix.clone()), self.from(next))?;
        ended.extend(self.keys(Bound::Included(self.from(latest)), self.end())?);
        let left = read_count(&self.writer.reader, &self.prefix)?.saturating_sub(ended.len() as u64);
        if !ended.is_empty() {
            ended.iter().try_for_each(|key| self.writer.delete(Table::Permits, key))?;
            self.set_count(left)?;
        }
        Ok(left)
    }

    /// When the n-th lease ends, counted from 0.
    pub(super) fn end_of(&self, n: u64) -> Result<Option<Timestamp>> {
        let n = usize::try_from(n).unwrap_or(usize::MAX);
        let (from, to) = (Bound::Excluded(&self.prefix[..]), self.end());
        let row = self.writer.reader.range(Table::Permits, from, Bound::Excluded(&to))?.nth(n).transpose()?;
        let time = row.and_then(|(key, _)| key.get(self.prefix.len()..)?.first_chunk().copied());
        Ok(time.map(|time| Timestamp::from_micros(u64::from_be_bytes(time))))
    }

    pub(super) fn add(&self, end: Timestamp, permit: PermitId) -> Result<()> {
        self.writer.put(Table::Permits, &self.row(end, permit), b"")?;
        self.set_count(read_count(&self.writer.reader, &self.prefix)?.saturating_add(1))
    }

    /// Removes a permit; `false` if it is not there any more.
    pub(super) fn remove(&self, end: Timestamp, permit: PermitId) -> Result<bool> {
        let row = self.row(end, permit);
        if !self.writer.reader.contains(Table::Permits, &row)? {
            return Ok(false);
        }
        self.writer.delete(Table::Permits, &row)?;
        self.set_count(read_count(&self.writer.reader, &self.prefix)?.saturating_sub(1))?;
        Ok(true)
    }

    fn set_count(&self, count: u64) -> Result<()> {
        match count {
            0 => self.writer.delete(Table::Permits, &self.prefix),
            count => self.writer.put(Table::Permits, &self.prefix, &count.to_be_bytes()),
        }
    }

    fn keys(&self, from: Bound<Vec<u8>>, to: Vec<u8>) -> Result<Vec<Vec<u8>>> {
        let rows = self.writer.reader.range(Table::Permits, from.as_ref().map(Vec::as_slice), Bound::Excluded(&to))?;
        rows.map(|row| Ok(row?.0.to_vec())).collect()
    }

    fn row(&self, end: Timestamp, permit: PermitId) -> Vec<u8> {
        key(&[&self.from(end), &permit])
    }

    /// The first row whose lease ends then.
    fn from(&self, time: Timestamp) -> Vec<u8> {
        key(&[&self.prefix, &time.as_micros().to_be_bytes()])
    }

    /// The end of all rows of the namespace.
    fn end(&self) -> Vec<u8> {
        let path = self.prefix.split_last().map_or(&[][..], |(_, path)| path);
        key(&[path, &[1]])
    }
}

fn read_count(reader: &Reader<'_>, key: &[u8]) -> Result<u64> {
    let Some(row) = reader.get(Table::Permits, key)? else { return Ok(0) };
    let count = row.first_chunk().filter(|_| row.len() == 8);
    count.map(|count| u64::from_be_bytes(*count)).ok_or_else(|| Table::Permits.damaged(key, "not a number of permits"))
}

/// Removes all permits of a namespace that has no limit any more.
pub(super) fn clear(writer: &Writer<'_>, namespace: &Namespace) -> Result<()> {
    let permits = Permits::new(writer, namespace);
    let rows = permits.keys(Bound::Included(permits.prefix.clone()), permits.end())?;
    rows.iter().try_for_each(|key| writer.delete(Table::Permits, key))
}

/// The numbers of permits, and how many there are: each prefix with both.
pub(super) fn counts(reader: &Reader<'_>) -> Result<Vec<(Vec<u8>, u64, u64)>> {
    let mut counts: Vec<(Vec<u8>, u64, u64)> = Vec::new();
    for row in reader.prefix(Table::Permits, b"")? {
        let (key, _) = row?;
        // A part of a path is not empty, so the first 0 that follows another, or nothing, ends it.
        let end = (0..key.len()).find(|at| key.get(*at) == Some(&0) && (*at == 0 || key.get(*at - 1) == Some(&0)));
        let Some((prefix, rest)) = end.and_then(|end| key.split_at_checked(end + 1)) else {
            return Err(Table::Permits.damaged(&key, "not a permit"));
        };
        if counts.last().is_none_or(|(last, ..)| last != prefix) {
            counts.push((prefix.to_vec(), read_count(reader, prefix)?, 0));
        }
        match (rest.len(), counts.last_mut()) {
            (0, _) => {}
            (24, Some((.., found))) => *found += 1,
            _ => return Err(Table::Permits.damaged(&key, "not a permit")),
        }
    }
    Ok(counts)
}
