//! Readers in threads see whole states, in order, while writers commit and the log is checkpointed.

use crate::common::{Random, TestStore, number};
use memstone::{Error, Options, Snapshot};
use std::sync::atomic::{AtomicBool, Ordering};

const ACCOUNTS: u64 = 50;

fn sum(snap: &Snapshot) -> u64 {
    snap.raw("accounts").unwrap().prefix(b"").unwrap().map(|row| number(&row.unwrap().1)).sum()
}

#[test]
fn every_snapshot_is_one_state() {
    let test = TestStore::new();
    let store = Options::new().log_cap(128 << 10).open(&test.path).unwrap();
    store
        .write(|tx| (0..ACCOUNTS).try_for_each(|i| tx.raw("accounts")?.put(&i.to_be_bytes(), &1000_u64.to_be_bytes())))
        .unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let (mut last, mut states) = (0, 0);
                    let mut kept: Option<(Snapshot, Vec<u8>)> = None;
                    while !stop.load(Ordering::Acquire) {
                        let snap = store.read().unwrap();
                        assert!(snap.lsn() >= last);
                        last = snap.lsn();
                        assert_eq!(sum(&snap), ACCOUNTS * 1000, "at {last}");
                        states += 1;
                        // One that is kept says the same for ever.
                        match &kept {
                            Some((old, bytes)) => assert_eq!(&all(old), bytes),
                            None => kept = Some((snap.clone(), all(&snap))),
                        }
                        if states % 20 == 0 {
                            kept = None;
                        }
                    }
                    states
                })
            })
            .collect();
        let writers: Vec<_> = (0..2)
            .map(|seed| {
                let store = &store;
                scope.spawn(move || {
                    let mut random = Random(seed);
                    for _ in 0..400 {
                        let (from, to, some) = (random.below(ACCOUNTS), random.below(ACCOUNTS), random.below(10));
                        store
                            .write(|tx| {
                                let table = tx.raw("accounts")?;
                                let at = |i: u64| Ok::<_, Error>(number(&table.get(&i.to_be_bytes())?.unwrap()));
                                if from != to && at(from)? >= some {
                                    let (a, b) = (at(from)? - some, at(to)? + some);
                                    table.put(&from.to_be_bytes(), &a.to_be_bytes())?;
                                    table.put(&to.to_be_bytes(), &b.to_be_bytes())?;
                                }
                                Ok::<_, Error>(())
                            })
                            .unwrap();
                        if random.below(20) == 0 {
                            store.checkpoint().unwrap();
                        }
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        stop.store(true, Ordering::Release);
        let states: Vec<i32> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
        println!("states checked by each reader: {states:?}");
    });
}

fn all(snap: &Snapshot) -> Vec<u8> {
    snap.raw("accounts").unwrap().prefix(b"").unwrap().flat_map(|row| row.unwrap().1.to_vec()).collect()
}
