//! A hash of a state's content: equal for two stores that hold the same tables with the same rows, however their
//! pages are arranged.

use crate::Snapshot;
use crate::error::Result;

/// Distinguish tables from rows, so that no row can look like a table.
const TABLE: u8 = 1;
const ROW: u8 = 2;

/// The hash of a state, fed table by table in the order of their names' bytes, and each table row by row in key
/// order.
///
/// BLAKE3 over, for each table, `01`, then name, key type and value type, and for each of its rows `02`, then key and
/// value; each of these with its length before it, as a `u64`, little-endian.
pub(crate) struct ContentHash {
    hasher: blake3::Hasher,
    /// Bytes still to be hashed: hashing many at once is several times as fast.
    waiting: Vec<u8>,
}

/// Bytes hashed at once.
const AT_ONCE: usize = 64 << 10;

impl ContentHash {
    pub(crate) fn new() -> ContentHash {
        ContentHash { hasher: blake3::Hasher::new(), waiting: Vec::with_capacity(AT_ONCE) }
    }

    /// A table starts, and the one before it ends.
    pub(crate) fn table(&mut self, name: &[u8], key_type: &str, value_type: &str) {
        self.feed(&[TABLE]);
        self.sized(name);
        self.sized(key_type.as_bytes());
        self.sized(value_type.as_bytes());
    }

    /// The next row of the table.
    pub(crate) fn row(&mut self, key: &[u8], value: &[u8]) {
        self.feed(&[ROW]);
        self.sized(key);
        self.sized(value);
    }

    pub(crate) fn finish(mut self) -> [u8; 32] {
        self.hasher.update(&self.waiting);
        self.hasher.finalize().into()
    }

    fn sized(&mut self, bytes: &[u8]) {
        self.feed(&(bytes.len() as u64).to_le_bytes());
        self.feed(bytes);
    }

    /// Pieces of exactly this size match the boundaries within which the hash processes many blocks in parallel.
    fn feed(&mut self, mut bytes: &[u8]) {
        while self.waiting.len() + bytes.len() >= AT_ONCE {
            let (now, later) = bytes.split_at(AT_ONCE.saturating_sub(self.waiting.len()).min(bytes.len()));
            self.waiting.extend_from_slice(now);
            self.hasher.update(&self.waiting);
            self.waiting.clear();
            bytes = later;
        }
        self.waiting.extend_from_slice(bytes);
    }
}

/// A hash (BLAKE3, 32 bytes) of the whole content of a state: the tables' names and types, and their rows. Two
/// stores with the same content have the same hash, whatever their age, page size or layout; so it shows whether
/// a copy is complete. Each row is read once.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
/// # let other = memstone::Store::open(dir.path().join("other.mst"))?;
/// store.write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
/// other.write(|tx| tx.raw("t")?.put(b"k", b"old"))?;
/// assert_ne!(memstone::content_hash(&store.read()?)?, memstone::content_hash(&other.read()?)?);
/// other.write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
/// assert_eq!(memstone::content_hash(&store.read()?)?, memstone::content_hash(&other.read()?)?);
/// # Ok::<(), memstone::Error>(())
/// ```
///
/// # Errors
/// [`Error::Corrupt`](crate::Error::Corrupt), [`Error::Io`](crate::Error::Io), [`Error::Forked`](crate::Error::Forked).
pub fn content_hash(snapshot: &Snapshot) -> Result<[u8; 32]> {
    let mut hash = ContentHash::new();
    // In the order of their names.
    for table in snapshot.tables()? {
        hash.table(table.name.as_bytes(), &table.key_type, &table.value_type);
        for entry in snapshot.untyped(&table.name)?.range(..)? {
            let (key, value) = entry?;
            hash.row(&key, &value);
        }
    }
    Ok(hash.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, Store, Table};

    fn hash_of(tell: impl FnOnce(&mut ContentHash)) -> [u8; 32] {
        let mut hash = ContentHash::new();
        tell(&mut hash);
        hash.finish()
    }

    #[test]
    fn other_content_has_another_hash() {
        type Tell = fn(&mut ContentHash);
        let told: [Tell; 9] = [
            |_| {},
            |h| h.table(b"t", "str", "u8"),
            |h| h.table(b"ts", "tr", "u8"),
            |h| h.table(b"t", "str", "u16"),
            |h| {
                h.table(b"t", "str", "u8");
                h.row(b"a", b"bc");
            },
            |h| {
                h.table(b"t", "str", "u8");
                h.row(b"ab", b"c");
            },
            |h| {
                h.table(b"t", "str", "u8");
                h.row(b"a", b"");
                h.row(b"b", b"c");
            },
            |h| {
                h.table(b"t", "str", "u8");
                h.row(b"a", b"bc");
                h.table(b"u", "str", "u8");
            },
            |h| {
                h.table(b"t", "str", "u8");
                h.table(b"u", "str", "u8");
                h.row(b"a", b"bc");
            },
        ];
        let hashes: std::collections::BTreeSet<_> = told.iter().map(|tell| hash_of(tell)).collect();
        assert_eq!(hashes.len(), told.len());
    }

    #[test]
    fn long_and_short_parts_are_hashed_as_one_stream() {
        let value = |len: usize| (0..len).map(|at| (at % 251) as u8).collect::<Vec<_>>();
        let rows = [0, 1, AT_ONCE - 100, AT_ONCE, 3, 3 * AT_ONCE + 7, AT_ONCE - 1, 5].map(value);
        let mut whole = vec![TABLE];
        let sized = |whole: &mut Vec<u8>, part: &[u8]| {
            whole.extend_from_slice(&(part.len() as u64).to_le_bytes());
            whole.extend_from_slice(part);
        };
        [&b"t"[..], b"str", b"u8"].iter().for_each(|part| sized(&mut whole, part));
        for row in &rows {
            whole.push(ROW);
            sized(&mut whole, &row[..row.len().min(9)]);
            sized(&mut whole, row);
        }
        let hash = hash_of(|hash| {
            hash.table(b"t", "str", "u8");
            rows.iter().for_each(|row| hash.row(&row[..row.len().min(9)], row));
        });
        assert_eq!(hash, *blake3::hash(&whole).as_bytes());
    }

    #[test]
    fn the_layout_does_not_matter() -> Result<()> {
        let dir = tempfile::tempdir().unwrap();
        let fill = |name: &str, page_size, rows: &mut dyn Iterator<Item = u32>| {
            let store = Options::new().page_size(page_size).open(dir.path().join(name))?;
            for row in rows {
                store
                    .write(|tx| tx.table(Table::<u32, String>::new("typed"))?.insert(row, "x".repeat(row as usize)))?;
            }
            Store::write(&store, |tx| tx.raw("empty").map(drop))?;
            let hash = content_hash(&store.read()?)?;
            store.checkpoint()?;
            assert_eq!(content_hash(&store.read()?)?, hash, "the log or the tree: the same rows");
            Ok::<_, crate::Error>(hash)
        };
        assert_eq!(fill("a", 4096, &mut (0..300))?, fill("b", 16384, &mut (0..300).rev())?);
        assert_ne!(fill("c", 4096, &mut (0..299))?, fill("d", 4096, &mut (0..300))?);
        Ok(())
    }
}
