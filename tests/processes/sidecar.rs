//! The sidecar may be deleted, cut, or overwritten at any time: no increment is lost or doubled,
//! nobody crashes, and every reader sees what was acknowledged before it looked.

use crate::common::{Child, Random, Role, TestStore, give_up_after, number, setting, stop_flag, tell};
use crate::counter::counter;
use memstone::{Error, Store};
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

pub const ROLES: &[Role] = &[("count_on", count_on)];

/// Increments until told to stop; each ten times says the counter's value, at last how often.
fn count_on(words: &[String]) {
    let store = Store::open(&words[0]).unwrap();
    let stop = stop_flag();
    let mut times = 0;
    while !stop.load(Ordering::Acquire) {
        let n = store
            .write(|tx| {
                let table = tx.raw("counters")?;
                let n = table.get(b"n")?.map_or(0, |n| number(&n)) + 1;
                table.put(b"n", &n.to_be_bytes())?;
                Ok::<_, Error>(n)
            })
            .unwrap();
        times += 1;
        if times % 10 == 0 {
            tell(n);
        }
    }
    tell(format!("total {times}"));
}

#[derive(Debug, Clone, Copy)]
enum Damage {
    Delete,
    Empty,
    Cut,
    Overwrite,
    FewBytes,
}

fn damage(test: &TestStore, how: Damage, random: &mut Random) {
    let path = test.sidecar();
    let open = || std::fs::File::options().write(true).open(&path);
    match how {
        Damage::Delete => drop(std::fs::remove_file(&path)),
        Damage::Empty => drop(open().map(|file| file.set_len(0))),
        Damage::Cut => {
            let len = random.below(300_000);
            drop(open().map(|file| file.set_len(len)));
        }
        Damage::Overwrite => {
            let len = std::fs::metadata(&path).map_or(0, |meta| meta.len());
            let garbage = random.bytes(len as usize);
            drop(open().map(|file| file.write_all_at(&garbage, 0)));
        }
        Damage::FewBytes => {
            for _ in 0..8 {
                let (at, garbage) = (random.below(4096), random.bytes(5));
                drop(open().map(|file| file.write_all_at(&garbage, at)));
            }
        }
    }
}

fn survive(kinds: &[Damage], seed: u64) {
    let test = TestStore::new();
    let store = test.open();
    let mut children: Vec<_> = (0..4).map(|_| Child::start("count_on", &[&test.path.display()])).collect();
    let mut random = Random(seed);
    let times = setting("MEMSTONE_SIDECAR_DAMAGES", 80);
    let (mut acked, mut last): (u64, u64) = (children[0].hear().parse().unwrap(), 0);
    for _ in 0..times {
        damage(&test, kinds[random.below(kinds.len() as u64) as usize], &mut random);
        for _ in 0..random.below(20) {
            std::thread::sleep(Duration::from_millis(3));
            for child in &mut children {
                child.must_run();
                while let Some(line) = child.heard() {
                    acked = acked.max(line.parse().unwrap());
                }
            }
            let n = counter(&store);
            assert!(n >= last, "the reader saw {last}, and then {n}");
            assert!(n >= acked, "{acked} was acknowledged before, {n} is seen");
            last = n;
        }
    }
    let mut total = 0;
    for child in &mut children {
        child.say("stop");
    }
    for child in children {
        total += child.finish().iter().find_map(|line| line.strip_prefix("total ")).unwrap().parse::<u64>().unwrap();
    }
    println!("{times} times {kinds:?}: {total} increments");
    drop(store);
    assert_eq!(counter(&test.open()), total, "seed {seed}");
}

#[test]
fn deleted() {
    survive(&[Damage::Delete], 1);
}

#[test]
fn cut() {
    survive(&[Damage::Empty, Damage::Cut], 2);
}

#[test]
fn overwritten() {
    survive(&[Damage::Overwrite, Damage::FewBytes], 3);
}

#[test]
fn everything_at_once() {
    survive(&[Damage::Delete, Damage::Empty, Damage::Cut, Damage::Overwrite, Damage::FewBytes], 4);
}

#[test]
fn a_reader_that_is_told_of_no_new_root_keeps_what_it_sees() {
    // A store that lies idle for a second checkpoints its log by itself. On a machine as slow as that, once more.
    let started = Instant::now();
    while !is_kept_beside_new_roots() {
        give_up_after(started, "the log is checkpointed each time before the reader has looked");
    }
}

/// `false` if the log was checkpointed before the reader had its state.
fn is_kept_beside_new_roots() -> bool {
    let test = TestStore::new();
    let store = test.open();
    let put = |key: &[u8], value: &[u8]| store.write(|tx| tx.raw("t")?.put(key, value)).unwrap();
    put(b"a", b"1");
    let reader = memstone::Options::new().read_only(true).open(&test.path).unwrap();
    assert!(reader.read().unwrap().raw("t").unwrap().contains(b"a").unwrap());
    std::fs::remove_file(test.sidecar()).unwrap();
    put(b"a", b"2");
    store.checkpoint().unwrap();
    put(b"long", &[1; 40_000]);
    // The next sidecar says what is durable, and nothing of that checkpoint.
    std::fs::remove_file(test.sidecar()).unwrap();
    // Few commits, so that the log is not checkpointed; many looks, so that the reader's state stays.
    for _ in 0..4 {
        put(b"a", b"3");
        for _ in 0..20 {
            reader.read().unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let snap = reader.read().unwrap();
    assert!(snap.raw("t").unwrap().contains(b"long").unwrap());
    if store.stats().unwrap().root_sequence != 2 {
        return false;
    }
    put(b"long", b"short");
    for i in 0..6_u8 {
        store.checkpoint().unwrap();
        put(&[i], &[2; 40_000]);
    }
    assert!(snap.raw("t").unwrap().get(b"long").unwrap().unwrap() == [1; 40_000][..]);
    true
}
