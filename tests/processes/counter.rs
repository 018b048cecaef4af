//! Processes that each read a counter and write it back: no increment is lost, no error surfaces.

use crate::common::{Child, Role, TestStore, number};
use memstone::{Error, Store};

const PROCESSES: u64 = 4;
const TIMES: u64 = 200;

pub const ROLES: &[Role] = &[("increment", increment)];

pub fn increment(words: &[String]) {
    let store = Store::open(&words[0]).unwrap();
    for _ in 0..words[1].parse().unwrap() {
        store
            .write(|tx| {
                let table = tx.raw("counters")?;
                let n = table.get(b"n")?.map_or(0, |n| number(&n));
                table.put(b"n", &(n + 1).to_be_bytes())?;
                Ok::<_, Error>(())
            })
            .unwrap();
    }
}

pub fn counter(store: &Store) -> u64 {
    store.read().unwrap().raw("counters").unwrap().get(b"n").unwrap().map_or(0, |n| number(&n))
}

#[test]
fn four_processes_count_to_800() {
    let test = TestStore::new();
    let children: Vec<_> = (0..PROCESSES).map(|_| Child::start("increment", &[&test.path.display(), &TIMES])).collect();
    for child in children {
        child.finish();
    }
    assert_eq!(counter(&test.open()), PROCESSES * TIMES);
}

#[test]
fn processes_that_come_and_go_count_no_less() {
    let test = TestStore::new();
    for round in 1..=8 {
        let children: Vec<_> = (0..PROCESSES).map(|_| Child::start("increment", &[&test.path.display(), &3])).collect();
        for child in children {
            child.finish();
        }
        assert_eq!(counter(&test.open()), round * PROCESSES * 3);
    }
}
