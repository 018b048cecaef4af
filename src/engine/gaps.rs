//! Gaps: ranges of a table that are known to hold no key, however many deletions lie there.
//!
//! A deleted key stays in the buffer of its transaction until that ends, and in the log's memtables until a
//! checkpoint. A walk that has passed many of them notes the range as a gap, and the next walk goes on behind it at
//! once. A gap is a fact about the content of a state: it depends neither on the tree version nor on the memtables
//! that hold the deletions, and it is true of later states until a put hits it.

use crate::disk::format::MAX_KEY_SIZE;
use std::collections::BTreeMap;

/// The most gaps that are kept of one table.
const MOST: usize = 16;

/// The keys from `start` to before `end`. They are not in the states from the LSN `since` to before `until`.
#[derive(Debug)]
struct Gap {
    start: Vec<u8>,
    end: Vec<u8>,
    since: u64,
    until: u64,
    /// About as many deletions lie there.
    saves: usize,
}

/// The gaps of a succession of states. (Those of one state that changes are a succession of one LSN: what is no longer
/// true is forgotten.)
#[derive(Debug, Default)]
pub(crate) struct Gaps {
    tables: BTreeMap<u32, Vec<Gap>>,
    /// The puts up to this state were taken into account.
    newest: u64,
}

/// The least key after this one.
pub(crate) fn behind(key: &[u8]) -> Vec<u8> {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next
}

/// Lies behind every key.
pub(crate) fn end_of_keys() -> Vec<u8> {
    vec![0xff; MAX_KEY_SIZE + 1]
}

impl Gap {
    fn holds(&self, key: &[u8]) -> bool {
        *self.start <= *key && *key < *self.end
    }

    fn is_open(&self) -> bool {
        self.until == u64::MAX
    }
}

impl Gaps {
    pub(crate) fn starting_at(newest: u64) -> Gaps {
        Gaps { tables: BTreeMap::new(), newest }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tables.values().all(Vec::is_empty)
    }

    /// The gap around a key in the state `lsn`: where it starts, and the place right behind it.
    pub(crate) fn around(&self, table: u32, key: &[u8], lsn: u64) -> Option<(&[u8], &[u8])> {
        let mut gaps = self.tables.get(&table)?.iter();
        let gap = gaps.find(|gap| gap.holds(key) && (gap.since..gap.until).contains(&lsn))?;
        Some((&gap.start, &gap.end))
    }

    /// Notes that the state `lsn` has no key from `start` to before `end`. `false`: it is not the newest state, and a
    /// put after it may have hit the gap.
    pub(crate) fn add(&mut self, table: u32, start: Vec<u8>, end: Vec<u8>, lsn: u64, saves: usize) -> bool {
        if lsn != self.newest {
            return false;
        }
        let gaps = self.tables.entry(table).or_default();
        let mut new = Gap { start, end, since: lsn, until: u64::MAX, saves };
        if gaps.iter().any(|gap| gap.is_open() && gap.start <= new.start && new.end <= gap.end) {
            return true;
        }
        // Open gaps do not touch each other, so what joins the new one is found in one pass. Before this state, each
        // is still what it was.
        for gap in gaps.iter_mut().filter(|gap| gap.is_open()) {
            if gap.end < new.start || new.end < gap.start {
                continue;
            }
            gap.until = lsn;
            new.saves = new.saves.saturating_add(gap.saves);
            if gap.start < new.start {
                new.start.clone_from(&gap.start);
            }
            if gap.end > new.end {
                new.end.clone_from(&gap.end);
            }
        }
        gaps.push(new);
        tidy(gaps);
        true
    }

    /// The key is there from the state `lsn` on: it cuts its gap in two.
    pub(crate) fn cut(&mut self, table: u32, key: &[u8], lsn: u64) {
        let Some(gaps) = self.tables.get_mut(&table) else { return };
        let Some(hit) = gaps.iter_mut().find(|gap| gap.is_open() && gap.holds(key)) else { return };
        hit.until = lsn;
        let sides = [(hit.start.clone(), key.to_vec()), (behind(key), hit.end.clone())];
        let sides: Vec<_> = sides.into_iter().filter(|(start, end)| start < end).collect();
        // Where most of the deletions lie is not known.
        let saves = if sides.len() == 2 { hit.saves / 2 } else { hit.saves };
        let since = hit.since;
        gaps.extend(sides.into_iter().map(|(start, end)| Gap { start, end, since, until: u64::MAX, saves }));
        tidy(gaps);
    }

    pub(crate) fn forget(&mut self, table: u32) {
        self.tables.remove(&table);
    }

    /// All puts of the state `lsn` were taken into account.
    pub(crate) fn follow(&mut self, lsn: u64) {
        self.newest = lsn;
    }
}

/// Drops what is true of no state, then what is true of old states only, then what saves least.
fn tidy(gaps: &mut Vec<Gap>) {
    gaps.retain(|gap| gap.since < gap.until);
    while gaps.len() > MOST {
        let least = gaps.iter().enumerate().min_by_key(|(_, gap)| (gap.until, gap.saves));
        let Some((at, _)) = least else { return };
        gaps.remove(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found<'g>(gaps: &'g Gaps, key: &str, lsn: u64) -> Option<(&'g [u8], &'g [u8])> {
        gaps.around(1, key.as_bytes(), lsn)
    }

    fn add(gaps: &mut Gaps, start: &str, end: &str, lsn: u64) -> bool {
        gaps.add(1, start.into(), end.into(), lsn, 10)
    }

    #[test]
    fn a_gap_is_true_until_a_put_cuts_it() {
        let mut gaps = Gaps::starting_at(5);
        assert!(!add(&mut gaps, "b", "m", 4), "an older state");
        assert!(add(&mut gaps, "b", "m", 5));
        gaps.follow(6);
        gaps.cut(1, b"f", 7);
        gaps.cut(2, b"g", 7);
        gaps.follow(7);
        assert_eq!(found(&gaps, "c", 4), None, "it is not known of states before");
        assert_eq!(found(&gaps, "f", 6), Some((&b"b"[..], &b"m"[..])));
        assert_eq!(found(&gaps, "c", 7), Some((&b"b"[..], &b"f"[..])));
        assert_eq!(found(&gaps, "f", 7), None);
        assert_eq!(found(&gaps, "g", 7), Some((&b"f\0"[..], &b"m"[..])));
        assert_eq!((found(&gaps, "a", 7), found(&gaps, "m", 7)), (None, None));
        // It is deleted again, and the parts are joined.
        gaps.follow(8);
        assert!(add(&mut gaps, "e", "h", 8));
        assert_eq!(found(&gaps, "c", 8), Some((&b"b"[..], &b"m"[..])));
        assert_eq!(found(&gaps, "f", 7), None);
        gaps.forget(1);
        assert_eq!(found(&gaps, "c", 8), None);
    }

    #[test]
    fn the_gaps_that_save_most_are_kept() {
        let mut gaps = Gaps::default();
        for n in 0..100_u8 {
            assert!(gaps.add(1, vec![n, 0], vec![n, 1], 0, usize::from(n) + 1));
        }
        assert_eq!(gaps.tables[&1].len(), MOST);
        assert!(gaps.tables[&1].iter().all(|gap| gap.saves > 84));
        assert!(gaps.add(1, vec![0], end_of_keys(), 0, 1), "all in one");
        assert_eq!(gaps.tables[&1].len(), 1);
        assert_eq!(gaps.around(1, &[0xff; MAX_KEY_SIZE], 0).map(|gap| gap.0), Some(&[0][..]));
    }
}
