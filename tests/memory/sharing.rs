//! Several threads and processes on one file.

use crate::random::Random;
use crate::support::Fixture;
use memstone::memory::{Draft, ItemId, Limits, Memory, MemoryError, Query};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const PATH: &str = "MEMSTONE_MEMORY_TEST_PATH";
const NAME: &str = "MEMSTONE_MEMORY_TEST_NAME";
const CHANGING: &str = "MEMSTONE_MEMORY_TEST_SEED";

/// The work of a child process: adds items, and prints their ids once they are acknowledged. In the other tests' process
/// it does nothing.
#[test]
fn child() {
    let (Ok(path), Ok(name)) = (std::env::var(PATH), std::env::var(NAME)) else { return };
    let memory = Memory::open(path).unwrap();
    for n in 0.. {
        if name != "for ever" && n == 50 {
            break;
        }
        memory.add("shared", "the same for all").unwrap();
        match memory.add(["shared", "limited"][n % 2], Draft::new(format!("item {n} of {name}")).tags(["all"])) {
            Ok(added) => println!("\nid {}", added.id),
            Err(MemoryError::Quota { .. }) => println!("\nrefused"),
            Err(error) => panic!("{error}"),
        }
    }
}

fn start(path: &Path, name: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "sharing::child", "--nocapture"]).env(PATH, path).env(NAME, name);
    command.stdout(Stdio::piped()).spawn().unwrap()
}

fn ids(child: &mut Child, most: usize) -> Vec<ItemId> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.filter_map(|line| line.unwrap().strip_prefix("id ").map(|id| id.parse().unwrap())).take(most).collect()
}

#[test]
fn four_processes_lose_nothing_and_keep_one_quota() {
    let f = Fixture::new();
    f.memory.set_limits("limited", Limits::new().items(30)).unwrap();
    let mut children: Vec<Child> = (0..4).map(|n| start(&f.path(), &n.to_string())).collect();
    let acknowledged: Vec<ItemId> = children.iter_mut().flat_map(|child| ids(child, usize::MAX)).collect();
    assert!(children.iter_mut().all(|child| child.wait().unwrap().success()));
    assert_eq!(acknowledged.len(), 4 * 25 + 30);
    let snapshot = f.memory.snapshot().unwrap();
    assert!(acknowledged.iter().all(|id| snapshot.get(*id).unwrap().is_some()));
    assert_eq!(snapshot.usage("limited").unwrap().items, 30, "the quota holds to the item");
    assert_eq!(snapshot.usage("shared").unwrap().items, 101);
    let same = snapshot.find(&Query::new().words("\"same for all\"")).unwrap();
    assert_eq!((same.hits.len(), same.hits[0].item.duplicates), (1, 199));
    f.is_clean();
}

#[test]
fn a_killed_process_leaves_what_it_was_told_is_stored() {
    let f = Fixture::new();
    for round in 1..4 {
        let mut child = start(&f.path(), "for ever");
        let acknowledged = ids(&mut child, 15 * round);
        child.kill().unwrap();
        child.wait().unwrap();
        let snapshot = f.memory.snapshot().unwrap();
        assert!(acknowledged.iter().all(|id| snapshot.get(*id).unwrap().is_some()));
        f.is_clean();
        f.memory.clear("").unwrap();
    }
}

#[test]
fn threads_that_edit_one_item_lose_no_edit() {
    let f = Fixture::new();
    let id = f.memory.add("a", Draft::new("counter").metadata("n", 0)).unwrap().id;
    let one_more = |item: &mut memstone::memory::Item| {
        let n = item.metadata["n"].as_u64().unwrap();
        item.metadata.insert("n".to_owned(), json!(n + 1));
    };
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let memory = f.memory.clone();
            scope.spawn(move || {
                for _ in 0..25 {
                    if thread % 2 == 0 {
                        memory.update(id, one_more).unwrap();
                        continue;
                    }
                    // Without a lock: again, until nothing came between.
                    while let Err(error) = memory.put_if(&{
                        let mut item = memory.get(id).unwrap().unwrap();
                        one_more(&mut item);
                        item
                    }) {
                        assert!(matches!(error, MemoryError::Conflict { .. }), "{error}");
                    }
                }
            });
        }
        // A reader beside them never sees the counter go back.
        let (mut last, memory) = (0, f.memory.clone());
        scope.spawn(move || {
            while last < 100 {
                let n = memory.get(id).unwrap().unwrap().metadata["n"].as_u64().unwrap();
                assert!(n >= last);
                last = n;
                std::thread::sleep(Duration::from_micros(100));
            }
        });
    });
    let item = f.memory.get(id).unwrap().unwrap();
    assert_eq!((&item.metadata["n"], item.version), (&json!(100), 101));
    f.is_clean();
}

/// The work of a child process that changes items of a namespace of its own in all ways, and prints what it was told.
#[test]
fn changing_child() {
    let (Ok(path), Ok(seed)) = (std::env::var(PATH), std::env::var(CHANGING)) else { return };
    let memory = Memory::open(path).unwrap();
    memory.set_limits("permits", Limits::new().at_once(1_000)).unwrap();
    let (mut random, mut ids) = (Random(seed.parse().unwrap()), Vec::new());
    let namespace = format!("child{seed}");
    for n in 0.. {
        let id = if ids.is_empty() { None } else { Some(ids[random.below(ids.len())]) };
        match (random.below(8_u8), id) {
            (0, Some(id)) => {
                println!("\nbegun {id} -");
                assert!(memory.remove(id).unwrap());
                ids.retain(|known| *known != id);
                println!("\nend {id} -");
            }
            (1..4, Some(id)) => {
                println!("\nbegun {id} {n}");
                memory
                    .write(|tx| {
                        tx.update(id, |item| item.content = format!("{n} changed"))?;
                        tx.patch(id, &json!({"metadata": {"n": n}, "tags": [n.to_string()]}))
                    })
                    .unwrap();
                println!("\nend {id} {n}");
            }
            (4, _) => std::mem::forget(memory.enter("permits", Duration::from_secs(60)).unwrap()),
            _ => {
                let id = ItemId::new(memstone::memory::Timestamp::now()).unwrap();
                println!("\nbegun {id} {n}");
                let draft = Draft::new(format!("{n} changed")).id(id).metadata("n", n).tags([n.to_string()]);
                memory.add(&namespace, draft).unwrap();
                ids.push(id);
                println!("\nend {id} {n}");
            }
        }
    }
}

/// What a child was told of each item, and what it had begun and was not told of.
fn told(child: &mut Child, lines: usize) -> (BTreeMap<ItemId, Option<u64>>, Option<(ItemId, Option<u64>)>) {
    let (mut known, mut begun) = (BTreeMap::new(), None);
    let output = BufReader::new(child.stdout.take().unwrap()).lines();
    let words = output.map_while(Result::ok).enumerate().map(|(at, line)| {
        if at == lines {
            child.kill().unwrap();
        }
        line.split(' ').map(str::to_owned).collect::<Vec<_>>()
    });
    // What it printed before it died is read to the end. A line that was cut is of something begun.
    for words in words {
        let [kind, id, n] = &words[..] else { continue };
        let (Ok(id), n) = (id.parse(), n.parse().ok()) else { continue };
        match &**kind {
            "begun" => begun = Some((id, n)),
            "end" => {
                known.insert(id, n);
                begun = None;
            }
            _ => {}
        }
    }
    child.wait().unwrap();
    (known, begun)
}

#[test]
fn killed_processes_leave_each_item_as_they_were_told_or_as_they_had_begun() {
    let f = Fixture::new();
    for round in 0..3 {
        let start = |n: usize| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "sharing::changing_child", "--nocapture"]).env(PATH, f.path());
            command.env(CHANGING, (round * 10 + n).to_string()).stdout(Stdio::piped()).spawn().unwrap()
        };
        let mut children: Vec<Child> = (0..3).map(start).collect();
        let told: Vec<_> = std::thread::scope(|scope| {
            let each = children.iter_mut().enumerate();
            let threads: Vec<_> = each.map(|(n, child)| scope.spawn(move || told(child, 200 + 40 * n))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let snapshot = f.memory.snapshot().unwrap();
        let found = |id: ItemId| {
            let item = snapshot.get(id).unwrap()?;
            let n = item.metadata["n"].as_u64().unwrap();
            assert_eq!((&item.content, &item.tags), (&format!("{n} changed"), &[n.to_string()].into()), "not by half");
            Some(n)
        };
        for (known, begun) in &told {
            assert!(known.len() > 10);
            for (id, n) in known {
                let is_begun = begun.is_some_and(|begun| begun == (*id, found(*id)));
                assert!(found(*id) == *n || is_begun, "{id}: {:?}, not {n:?}", found(*id));
            }
            if let Some((id, n)) = begun {
                assert!(found(*id) == *n || found(*id) == known.get(id).copied().flatten());
            }
        }
        f.is_clean();
    }
}
