//! Damage against known content: what is not on a destroyed page comes back, and the rest is reported.

mod known;

use std::collections::{BTreeMap, BTreeSet};

use super::report::*;
use crate::disk::sim::Rng as Random;
use crate::error::Error;
use known::*;

/// Whether the log has something that the tree has not, and whether there is an older root.
const VARIANTS: [(bool, bool); 3] = [(false, false), (true, false), (true, true)];

/// What of the content is not on these pages, with the log applied where it has one.
fn expected(known: &Known, destroyed: &[&Used]) -> (Content, BTreeMap<u32, BTreeSet<Vec<u8>>>) {
    let mut lost: BTreeMap<u32, BTreeSet<Vec<u8>>> = BTreeMap::new();
    for run in destroyed.iter().filter(|run| matches!(run.what, What::Leaf | What::Top | What::Value)) {
        lost.entry(run.table).or_default().extend(run.keys.iter().cloned());
    }
    let mut content = known.content.clone();
    for (table, keys) in &lost {
        let rows = content.get_mut(&known.ids[table]).unwrap();
        rows.retain(|key, value| !keys.contains(key) || value == b"by the log");
    }
    (content, lost)
}

/// Repairs, and compares with what must come of it.
#[track_caller]
fn judge(known: &Known, destroyed: &[&Used]) -> RepairReport {
    let told: Vec<_> = destroyed.iter().map(|run| (run.what, run.page, run.table)).collect();
    let (content, report) = repaired(known.without(destroyed), false).unwrap();
    if report.root == RootSource::Older {
        // The older tree holds, and with its log it comes to the same state.
        assert!(content == known.content && report.is_complete(), "{told:?}: {report:?}");
        return report;
    }
    let (mut right, lost) = expected(known, destroyed);
    if destroyed.iter().any(|run| run.what == What::Names) {
        // Names are rows, too: without them, tables bear their ids, and one without rows leaves no trace.
        let by_id = |id: &u32| report.tables.iter().find(|table| table.id == *id).map(|table| table.name.clone());
        let mut ids: BTreeMap<&str, String> = BTreeMap::new();
        ids.extend(known.ids.iter().filter_map(|(id, name)| Some((name.as_str(), by_id(id)?))));
        right = right.into_iter().map(|(name, rows)| (ids.get(name.as_str()).cloned().unwrap_or(name), rows)).collect();
        right.retain(|name, rows| !rows.is_empty() || content.contains_key(name));
    }
    for (name, rows) in &right {
        let found = content.get(name).unwrap_or_else(|| panic!("{told:?}: no table {name}: {:?}", content.keys()));
        let missing: Vec<_> = rows.keys().filter(|key| !found.contains_key(*key)).collect();
        let more: Vec<_> = found.keys().filter(|key| !rows.contains_key(*key)).collect();
        let other = rows.iter().filter(|(key, value)| found.get(*key).is_some_and(|found| found != *value)).count();
        let show = |keys: &[&Vec<u8>]| keys.iter().take(4).map(|k| k.escape_ascii().to_string()).collect::<Vec<_>>();
        assert!(
            found == rows,
            "{told:?}: {name}: {} missing {:?}, {} too many {:?}, {other} others",
            missing.len(),
            show(&missing),
            more.len(),
            show(&more)
        );
    }
    assert_eq!(content.len(), right.len(), "{told:?}: {:?}", content.keys());
    for table in &report.tables {
        let keys = lost.get(&table.id).cloned().unwrap_or_default();
        let text = |key: &[u8]| key.escape_ascii().to_string();
        let named = |key: &[u8]| table.lost_values.iter().any(|value| value.key == text(key));
        let in_range = |key: &[u8]| table.lost_ranges.iter().any(|range| holds(range, key));
        for key in &keys {
            let now = &known.content[known.ids.get(&table.id).unwrap_or(&table.name)];
            let overwritten = now.get(key).is_none_or(|value| value == b"by the log");
            assert!(named(key) || in_range(key) || overwritten, "{told:?}: {} is not told", text(key));
        }
        let values = destroyed.iter().filter(|run| run.what == What::Value && run.table == table.id);
        let on_leaves: BTreeSet<_> = destroyed
            .iter()
            .filter(|run| matches!(run.what, What::Leaf | What::Top) && run.table == table.id)
            .flat_map(|run| run.keys.iter())
            .collect();
        let values = values.filter(|run| !run.keys.iter().any(|key| on_leaves.contains(key))).count();
        assert_eq!(table.lost_values.len(), values, "{told:?}: {:?}", table.lost_values);
        if let Some(rows) = table.lost_rows {
            assert_eq!(rows, on_leaves.len() as u64, "{told:?}: {}: {:?}", table.name, table.lost_ranges);
        }
    }
    report
}

fn unescape(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let (kind, more) = rest.split_first().unwrap();
        rest = more;
        match kind {
            b'x' => {
                bytes.push(u8::from_str_radix(std::str::from_utf8(&rest[..2]).unwrap(), 16).unwrap());
                rest = &rest[2..];
            }
            b'n' => bytes.push(b'\n'),
            b't' => bytes.push(b'\t'),
            b'r' => bytes.push(b'\r'),
            other => bytes.push(*other),
        }
    }
    bytes
}

fn holds(range: &LostRange, key: &[u8]) -> bool {
    range.from.as_ref().is_none_or(|from| unescape(from).as_slice() <= key)
        && range.to.as_ref().is_none_or(|to| key < unescape(to).as_slice())
}

#[test]
fn a_healthy_store_is_itself() {
    for (tail, older) in VARIANTS {
        let known = known(3000, tail, older);
        let report = judge(&known, &[]);
        assert!(report.is_complete(), "{report:?}");
        assert!(report.notes.is_empty() && report.root == RootSource::Newest);
        assert_eq!(report.frames > 30, tail);
    }
}

#[test]
fn each_page_alone() {
    for (tail, older) in VARIANTS {
        let known = known(3000, tail, older);
        let kinds: BTreeSet<What> = known.used.iter().map(|run| run.what).collect();
        assert_eq!(kinds.len(), 8, "{kinds:?}");
        for run in &known.used {
            let report = judge(&known, &[run]);
            let whole = run.keys.is_empty() || run.what == What::Catalog;
            assert_eq!(
                report.is_complete(),
                whole || report.root == RootSource::Older,
                "{:?} {}: {report:?}",
                run.what,
                run.page
            );
        }
    }
}

#[test]
fn each_kind_of_page_with_each_other() {
    for (tail, older) in VARIANTS {
        let known = known(3000, tail, older);
        let mut random = Random(7);
        for (at, first) in known.used.iter().enumerate() {
            // Each kind once with each page, and some of the many leaves.
            let mut kinds: BTreeMap<(What, u32), &Used> = BTreeMap::new();
            for second in known.used.iter().skip(at + 1) {
                let table = if matches!(second.what, What::Leaf | What::Top) { second.table } else { 0 };
                if !kinds.contains_key(&(second.what, table)) || random.below(4) == 0 {
                    kinds.insert((second.what, table), second);
                }
            }
            for second in kinds.values() {
                judge_in_doubt(&known, &[first, second]);
            }
        }
    }
}

/// As `judge`, unless the free map is destroyed together with what leads to leaves: then rows that were deleted may come back,
/// and the report must say that it is not certain.
fn judge_in_doubt(known: &Known, destroyed: &[&Used]) {
    let is = |what: &[What]| destroyed.iter().any(|run| what.contains(&run.what));
    if is(&[What::Directory, What::Region, What::Pending]) && is(&[What::Branch, What::Top, What::Catalog]) {
        all_that_is_left(known, known.without(destroyed), destroyed);
    } else {
        judge(known, destroyed);
    }
}

/// Each row of a page that is whole is there; and if the report says that all is, it is.
#[track_caller]
fn all_that_is_left(known: &Known, bytes: Vec<u8>, destroyed: &[&Used]) {
    let told: Vec<_> = destroyed.iter().map(|run| (run.what, run.page, run.table)).collect();
    let (content, report) = repaired(bytes, false).unwrap();
    if report.is_complete() || report.root == RootSource::Older {
        assert!(content == known.content, "{told:?}: {report:?}");
        return;
    }
    let (right, _) = expected(known, destroyed);
    for (id, name) in &known.ids {
        let Some(rows) = right.get(name).filter(|rows| !rows.is_empty()) else { continue };
        let table = report.tables.iter().find(|table| table.id == *id);
        let table = table.unwrap_or_else(|| panic!("{told:?}: table {id} {name} is not there"));
        let found = &content[&table.name];
        let wrong: Vec<_> = rows.iter().filter(|(key, value)| found.get(*key) != Some(*value)).collect();
        let first = wrong.first().map(|(key, _)| key.escape_ascii().to_string());
        assert!(wrong.is_empty(), "{told:?}: {name}: {} rows are wrong or missing: {first:?} {table:?}", wrong.len());
        assert!(!table.is_complete() || found == rows, "{told:?}: {name}: {table:?}");
    }
}

#[test]
fn thousands_of_random_damages() {
    for (seed, (tail, older)) in VARIANTS.into_iter().enumerate() {
        let known = known(3000, tail, older);
        let mut random = Random(seed as u64);
        for _ in 0..700 {
            let count = 1 + random.below(8) as usize;
            let mut destroyed: Vec<&Used> = Vec::new();
            for _ in 0..count {
                let run = &known.used[random.below(known.used.len() as u64) as usize];
                if !destroyed.iter().any(|other| other.page == run.page) {
                    destroyed.push(run);
                }
            }
            judge_in_doubt(&known, &destroyed);
        }
    }
}

#[test]
fn any_damaged_bytes_end_in_an_answer() {
    let known = known(600, true, true);
    let mut random = Random(3);
    for _ in 0..300 {
        let mut bytes = known.bytes.clone();
        for _ in 0..1 + random.below(30) {
            let (at, len) = (random.below(bytes.len() as u64) as usize, 1 + random.below(3000) as usize);
            let end = (at + len).min(bytes.len());
            bytes[at..end].fill(random.below(256) as u8);
        }
        let _ = repaired(bytes, random.below(2) == 0).unwrap();
    }
}

#[test]
fn a_store_without_any_root_slot() {
    for (tail, older) in VARIANTS {
        let mut known = known(3000, tail, older);
        for fill in [0, 0xa5] {
            known.bytes[..2 * 4096].fill(fill);
            let (content, report) = repaired(known.bytes.clone(), false).unwrap();
            assert_eq!(report.root, RootSource::Rebuilt);
            assert!(content == known.content, "{report:?}");
            assert!(report.frames >= 31 || !tail, "{report:?}");
            for run in known.used.iter().step_by(9) {
                all_that_is_left(&known, known.without(&[run]), &[run]);
            }
        }
    }
}

#[test]
fn a_file_cut_anywhere() {
    let known = known(3000, false, true);
    for len in (0..known.bytes.len()).step_by(7177).chain([8192, 8193, 12288, known.bytes.len() - 1]) {
        let bytes = known.bytes[..len].to_vec();
        let cut: Vec<&Used> = known.used.iter().filter(|run| (run.page + run.pages) as usize * 4096 > len).collect();
        if len < 100 {
            assert!(matches!(repaired(bytes, false), Err(Error::NotAStore { .. })));
            continue;
        }
        all_that_is_left(&known, bytes, &cut);
    }
}

#[test]
fn older_rows_come_back_only_when_asked_for() {
    let known = known(3000, false, false);
    let mut taken = 0;
    for run in known.used.iter().filter(|run| matches!(run.what, What::Leaf | What::Top)) {
        let bytes = known.without(&[run]);
        let (proven, without) = repaired(bytes.clone(), false).unwrap();
        let (all, with) = repaired(bytes, true).unwrap();
        for (name, rows) in &proven {
            assert!(rows.iter().all(|(key, value)| all[name].get(key) == Some(value)), "a proven row is another one");
            for key in all[name].keys().filter(|key| !rows.contains_key(*key)) {
                taken += 1;
                let table = with.tables.iter().find(|table| table.name == *name).unwrap();
                assert!(table.lost_ranges.iter().any(|range| holds(range, key)), "outside of what is lost");
            }
        }
        let pages = |report: &RepairReport, taken| {
            let pages = report.tables.iter().flat_map(|table| &table.salvaged);
            pages.filter(|page| page.certainty == Certainty::Unproven && page.taken == taken).count()
        };
        assert_eq!((pages(&without, true), pages(&with, false)), (0, 0));
        assert_eq!(pages(&without, false), pages(&with, true));
        assert!(run.keys.is_empty() || !with.is_complete() && !without.is_complete());
    }
    assert!(taken > 100, "{taken}");
}

#[test]
fn transactions_behind_a_damaged_one_are_told_and_taken_only_when_asked_for() {
    let known = known(600, true, true);
    let frames = frames(&known.bytes);
    assert!(frames.len() > 30);
    let is_late = |key: &&Vec<u8>| key.len() == 4 && key[0] == 0;
    let late = |content: &Content| content.get("late").map_or(0, |rows| rows.keys().filter(is_late).count());
    for (at, offset) in frames.iter().enumerate().take(frames.len() - 1) {
        let mut bytes = known.bytes.clone();
        bytes[*offset as usize + 70] ^= 1;
        let (content, report) = repaired(bytes.clone(), false).unwrap();
        assert_eq!((report.frames, report.is_complete()), (at as u64, false));
        let newest = report.frames_beyond.last().unwrap().lsn;
        assert_eq!((report.lost_to_lsn, report.frames_beyond.len()), (Some(newest), frames.len() - 1 - at));
        assert!(late(&content) <= at);
        let (content, report) = repaired(bytes, true).unwrap();
        assert!(!report.is_complete() && report.frames_beyond.iter().all(|frame| frame.taken));
        // The first one tells of the table: without it there is none.
        assert!(late(&content) >= 28 || at < 2, "{at}: {}", late(&content));
        assert!(at < 2 || content["late"][&b"long"[..]].len() == 50_000);
    }
}

#[test]
fn an_older_value_does_not_stand_for_one_that_is_destroyed() {
    let mut known = known(600, true, true);
    assert_eq!(known.content["late"][&b"long"[..]].len(), 50_000);
    let is_value = |page: &[u8]| page[12] == 3 && page[32..40] == 50_000_u64.to_le_bytes();
    let at = known.bytes.chunks(4096).position(is_value).unwrap();
    known.bytes[at * 4096 + 9000] ^= 1;
    let (content, report) = repaired(known.bytes.clone(), false).unwrap();
    assert!(!content["late"].contains_key(&b"long"[..]), "its value of before is outdated");
    let late = report.tables.iter().find(|table| table.name == "late").unwrap();
    assert_eq!((late.lost_values[0].key.as_str(), late.lost_values[0].page), ("long", at as u64));
    assert!(!report.is_complete());
    known.content.get_mut("late").unwrap().remove(&b"long"[..]);
    assert!(content == known.content);
}
