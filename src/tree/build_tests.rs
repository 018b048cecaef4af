//! How full the leaves of large entries are.

use super::*;
use crate::tree::encode::NodeItem;

type Row = (Vec<u8>, Vec<u8>);

/// Rows with keys of 16 bytes and values of 500 to 3,000.
fn documents(count: u32, seed: u32) -> Vec<Row> {
    let number = |n: u32| crc32fast::hash(&[seed.to_be_bytes(), n.to_be_bytes()].concat());
    let row = |n| {
        let key = [number(n), n, 0, seed].map(u32::to_be_bytes).concat();
        (key, vec![7; 500 + number(n + count) as usize % 2501])
    };
    let mut rows: Vec<Row> = (0..count).map(row).collect();
    rows.sort();
    rows
}

/// Writes `from..to` as a leaf; gives its pages.
fn pages(level: &Level, from: usize, to: usize) -> u32 {
    level.encode(from, to, &mut Vec::new()).unwrap()
}

fn item((key, value): &Row) -> NodeItem<'_> {
    NodeItem { key, payload: value, long: false }
}

#[test]
fn a_stream_of_large_entries_is_cut_where_pages_are_full() {
    let rows = documents(5_000, 1);
    let (mut level, mut taken, mut used) = (Level::new(true, 4096), 0, 0);
    for row in &rows {
        if level.push(item(row)) {
            taken += level.front();
            let run = pages(&level, 0, level.front());
            assert!((2..=4).contains(&run), "{run} pages");
            used += run;
            level.drop_front();
        }
    }
    let payload: usize = rows[..taken].iter().map(|(key, value)| key.len() + value.len()).sum();
    let size = used as usize * 4096;
    assert!(size * 100 < payload * 105, "{size} bytes for {payload}");
}

#[test]
fn a_leaf_that_is_too_large_by_one_entry_is_cut_where_its_parts_take_the_fewest_pages() {
    let mut splits = [0; 2];
    for seed in 0..500 {
        let mut level = Level::new(true, 4096);
        for row in &documents(40, seed) {
            level.push(item(row));
            if level.overflows() {
                break;
            }
        }
        let ends = level.plan(Packing::Even);
        assert_eq!((ends.len(), ends[1]), (2, level.len()));
        splits[usize::from(pages(&level, 0, ends[0]) + pages(&level, ends[0], ends[1]) > 5)] += 1;
    }
    assert!(splits[1] * 50 < splits[0], "five pages or six: {splits:?}");
}

#[test]
fn the_last_item_comes_back_to_where_it_was() {
    let rows = documents(200, 3);
    for count in [5, 30, 77, 200] {
        let mut level = Level::new(true, 4096);
        for row in &rows[..count] {
            if level.push(item(row)) {
                level.drop_front();
            }
        }
        let state = |level: &Level| (level.front(), level.overflows(), level.len());
        let before = state(&level);
        let (key, value) = level.pop().unwrap();
        assert_eq!(level.len(), before.2 - 1);
        assert!(!level.push(item(&(key, value))));
        assert_eq!(state(&level), before);
    }
}
