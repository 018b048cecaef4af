//! The rows of the journal, and of the settings that belong to it.

use crate::disk::format::{
    FIRST_USER_TABLE, JOURNAL_COVERS, JOURNAL_PART, MAX_KEY_SIZE, MAX_NAME_SIZE, SETTING_CURSOR, SETTING_JOURNAL,
    get_u16, get_u32, get_u64,
};

/// What is wrong with a row of the settings.
pub(in crate::maintain) fn setting(key: &[u8], row: &[u8]) -> Option<String> {
    if key == SETTING_JOURNAL && row.len() < 8 {
        return Some(format!("a journal's bound of {} bytes", row.len()));
    }
    let name = key.strip_prefix(SETTING_CURSOR)?;
    let sound = row.len() >= 16 && get_u32(row, 12) <= 1;
    (!sound).then(|| format!("the cursor {} cannot be understood", name.escape_ascii()))
}

/// Checks all rows of a journal whose root has transactions up to `newest`.
pub(in crate::maintain) fn journal(rows: &[(Vec<u8>, Vec<u8>)], newest: u64) -> Result<(), String> {
    let Some(((key, covers), parts)) = rows.split_last() else { return Ok(()) };
    if key != JOURNAL_COVERS || covers.len() < 24 {
        return Err("its last row does not say what it covers".to_owned());
    }
    let (floor, end) = (get_u64(covers, 0), get_u64(covers, 12));
    if floor > end || end > newest {
        return Err(format!("it covers LSN {floor} to {end}, and the newest in the tree is {newest}"));
    }
    let (mut last, mut record) = ((floor, 0), Vec::new());
    for (key, bytes) in parts {
        let part = key
            .split_first_chunk::<8>()
            .and_then(|(lsn, part)| Some((u64::from_be_bytes(*lsn), u32::from_be_bytes(part.try_into().ok()?))));
        let Some((lsn, part)) = part else { return Err(format!("the key {}", key.escape_ascii())) };
        let goes_on = !record.is_empty() && record.len() % JOURNAL_PART == 0 && part > 0 && (lsn, part) == last;
        if !goes_on {
            judge(last.0, &record)?;
            record.clear();
            if part > 0 || lsn <= last.0 || lsn > end {
                return Err(format!("part {part} of LSN {lsn} after LSN {}, of {floor} to {end}", last.0));
            }
        }
        record.extend_from_slice(bytes);
        last = (lsn, part.saturating_add(1));
    }
    judge(last.0, &record)?;
    let crc = if record.is_empty() { get_u32(covers, 8) } else { get_u32(&record, 0) };
    if (last.0, crc) != (end, get_u32(covers, 20)) {
        return Err(format!("it ends with LSN {}, not with LSN {end} and its checksum", last.0));
    }
    Ok(())
}

/// Checks a whole record; an empty one is that of no transaction.
fn judge(lsn: u64, record: &[u8]) -> Result<(), String> {
    if record.is_empty() {
        return Ok(());
    }
    let mut rest = record.get(4..).ok_or_else(|| format!("a record of {} bytes for LSN {lsn}", record.len()))?;
    let (mut table, mut count) = (false, 0_u64);
    while !rest.is_empty() {
        count += 1;
        rest = entry(rest, &mut table).ok_or_else(|| format!("entry {count} of LSN {lsn} cannot be understood"))?;
    }
    Ok(())
}

/// What follows the first entry; `table`: whether one has named the table of keys.
fn entry<'r>(rest: &'r [u8], table: &mut bool) -> Option<&'r [u8]> {
    let (code, rest) = rest.split_first()?;
    let name = |rest: &'r [u8]| {
        let (name, rest) = sized(rest)?;
        (std::str::from_utf8(name).is_ok() && name.len() <= MAX_NAME_SIZE).then_some(rest)
    };
    match code {
        1 | 4..=7 => {
            let (id, rest) = rest.split_first_chunk::<4>()?;
            let rest = name(rest).filter(|_| u32::from_le_bytes(*id) >= FIRST_USER_TABLE)?;
            *table |= *code == 1;
            if *code == 7 { name(rest) } else { Some(rest) }
        }
        2 | 3 => sized(rest).filter(|(key, _)| key.len() <= MAX_KEY_SIZE && *table).map(|(_, rest)| rest),
        _ => None,
    }
}

/// Bytes with their length before them, and what follows.
fn sized(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = rest.split_at_checked(2)?;
    rest.split_at_checked(usize::from(get_u16(len, 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(lsn: u64, part: u32, bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
        ([&lsn.to_be_bytes()[..], &part.to_be_bytes()].concat(), bytes.to_vec())
    }

    fn covers(floor: (u64, u32), end: (u64, u32)) -> (Vec<u8>, Vec<u8>) {
        let mark = |(lsn, crc): (u64, u32)| [&lsn.to_le_bytes()[..], &crc.to_le_bytes()].concat();
        (JOURNAL_COVERS.to_vec(), [mark(floor), mark(end)].concat())
    }

    /// A record of a table, and of so many keys of 8 bytes.
    fn record(crc: u32, keys: u64) -> Vec<u8> {
        let mut record = [&crc.to_le_bytes()[..], &[1, 16, 0, 0, 0, 1, 0, b't']].concat();
        (0..keys).for_each(|key| record.extend([&[2, 8, 0][..], &key.to_be_bytes()].concat()));
        record
    }

    #[test]
    fn a_journal_is_whole_or_called_damaged() {
        assert_eq!(journal(&[], 9), Ok(()));
        assert_eq!(journal(&[covers((9, 1), (9, 1))], 9), Ok(()));
        let long = record(8, 300);
        let (first, second) = long.split_at(JOURNAL_PART);
        let sound = [
            row(5, 0, &record(7, 1)),
            row(8, 0, first),
            row(8, 1, second),
            row(9, 0, &record(9, 0)),
            covers((3, 1), (9, 9)),
        ];
        assert_eq!(journal(&sound, 9), Ok(()));
        assert_eq!(journal(&sound, 12), Ok(()), "a maker of roots that keeps no journal");
        let mut longer = sound.clone();
        longer[4].1.extend(b"newer");
        assert_eq!(journal(&longer, 9), Ok(()));

        let wrong = |change: &dyn Fn(&mut Vec<(Vec<u8>, Vec<u8>)>)| {
            let mut rows = sound.to_vec();
            change(&mut rows);
            assert_ne!(rows, sound);
            assert!(journal(&rows, 9).is_err(), "{:?}", rows.iter().map(|(key, _)| key).collect::<Vec<_>>());
        };
        assert!(journal(&sound, 8).is_err(), "what is not in the tree yet");
        (1..5).for_each(|at| wrong(&|rows| _ = rows.remove(at)));
        wrong(&|rows| rows[4] = covers((5, 1), (9, 9)));
        wrong(&|rows| rows[4] = covers((9, 1), (3, 9)));
        wrong(&|rows| rows[4] = covers((3, 1), (9, 8)));
        wrong(&|rows| _ = rows[4].1.pop());
        wrong(&|rows| rows[2] = row(8, 2, second));
        wrong(&|rows| rows[1].1.truncate(JOURNAL_PART - 1));
        wrong(&|rows| _ = rows[2].1.pop());
        wrong(&|rows| _ = rows[0].0.pop());
        for (at, byte) in [(4, 0), (4, 8), (4, 2), (5, 15), (9, 200), (11, 0xff), (12, 9), (13, 9)] {
            wrong(&|rows| rows[0].1[at] = byte);
        }
        // Any byte may be wrong.
        for (at, byte) in (0..first.len().min(64)).flat_map(|at| [0, 1, 0x80, 0xff].map(|byte| (at, byte))) {
            let mut rows = sound.to_vec();
            rows[1].1[at] ^= byte;
            let _ = journal(&rows, 9);
        }
    }

    #[test]
    fn settings_of_the_journal_are_long_enough() {
        let cursor = [SETTING_CURSOR, b"reader"].concat();
        assert_eq!(
            [setting(SETTING_JOURNAL, &[0; 8]), setting(&cursor, &[0; 16]), setting(b"archive", b"")],
            [None, None, None]
        );
        assert!(setting(SETTING_JOURNAL, &[0; 7]).is_some() && setting(&cursor, &[0; 15]).is_some());
        assert!(setting(&cursor, &[2; 16]).is_some());
    }
}
