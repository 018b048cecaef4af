//! A look at a few rows of one state, by few calls.

use super::history::{COUNTERS, JOURNAL, LISTS, Peek, TABLES, elements, length, number};
use crate::random::Random;
use memstone::{RawTable, ReadState, Result};

/// How many counters there are.
pub const COUNTED: u64 = 8;
/// Lists at a time. After so many transactions others take their place, so that none grows for ever.
const AT_ONCE: u64 = 8;
const EPOCH: u64 = 128;

/// One of the lists of the time when there are so many transactions, or of shortly before.
pub fn some_list(length: u64, random: &mut Random) -> u64 {
    let epoch = (length / EPOCH).saturating_sub(u64::from(random.below(8) == 0));
    epoch * AT_ONCE + random.below(AT_ONCE)
}

/// The number of transactions, some counters, some lists.
pub fn peek<'t, S: ReadState + 't>(
    table: &dyn Fn(&str) -> Result<RawTable<'t, S>>,
    random: &mut Random,
) -> Result<Peek> {
    let mut seen = Peek { length: length(&table(JOURNAL)?)?, ..Peek::default() };
    for _ in 0..2 {
        let counter = random.below(COUNTED);
        let value = table(TABLES[COUNTERS])?.get(&counter.to_be_bytes())?.map_or(0, |value| number(&value));
        seen.counters.push((counter, value));
    }
    for _ in 0..random.below(4) {
        let list = some_list(seen.length, random);
        let value = table(TABLES[LISTS])?.get(&list.to_be_bytes())?;
        seen.lists.push((list, elements(value.as_deref())));
    }
    Ok(seen)
}
