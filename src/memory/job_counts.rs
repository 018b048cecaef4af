//! How many jobs count for the quota of a namespace: those of it and of all below it that have not ended, and dead letters.
//! Jobs that are kept to be seen go by themselves, and do not count.

use crate::memory::error::Result;
use crate::memory::namespace::Namespace;
use crate::memory::tables::{Reader, Table, Writer};

/// The number of a namespace.
pub(super) fn read(reader: &Reader<'_>, namespace: &Namespace) -> Result<u64> {
    let key = namespace.key();
    let row = reader.get(Table::JobCounts, &key)?;
    row.map_or(Ok(0), |row| parse(&key, &row))
}

/// The number in a row.
pub(super) fn parse(key: &[u8], row: &[u8]) -> Result<u64> {
    let number = <[u8; 8]>::try_from(row).map(u64::from_be_bytes);
    number.map_err(|_| Table::JobCounts.damaged(key, "not a number of jobs"))
}

/// Changes the numbers of a namespace and of all above it. A namespace without jobs has no row.
pub(super) fn change(writer: &Writer<'_>, namespace: &Namespace, more: bool) -> Result<()> {
    for namespace in namespace.lineage() {
        let (key, count) = (namespace.key(), read(&writer.reader, &namespace)?);
        match if more { count.saturating_add(1) } else { count.saturating_sub(1) } {
            0 => writer.delete(Table::JobCounts, &key)?,
            count => writer.put(Table::JobCounts, &key, &count.to_be_bytes())?,
        }
    }
    Ok(())
}
