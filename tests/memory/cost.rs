//! What an operation costs, in rows and bytes, does not grow with the number of items.

use crate::random::Random;
use crate::support::{Fixture, SECOND};
use memstone::memory::{Draft, ItemId, MemoryError, Query, Space};

const WORDS: usize = 2000;

/// A text of twelve words, of which a few are in most texts.
fn text(random: &mut Random, n: u32) -> String {
    let word = |random: &mut Random| {
        let end = 1 + random.below(WORDS);
        format!("w{}", random.below(end))
    };
    let words: Vec<String> = (0..12).map(|_| word(random)).collect();
    format!("number{n} {}", words.join(" "))
}

fn fill(f: &Fixture, from: u32, to: u32) -> Vec<ItemId> {
    let mut random = Random(u64::from(from));
    f.memory
        .write(|tx| {
            (from..to)
                .map(|n| {
                    let draft = Draft::new(text(&mut random, n))
                        .tags(["usual"])
                        .metadata("n", n)
                        .vector("s", [n as f32, 1.0])
                        .expires_in(SECOND * (n + 100));
                    Ok::<_, MemoryError>(tx.add("ada/chat", draft)?.id)
                })
                .collect::<Result<Vec<_>, MemoryError>>()
        })
        .unwrap()
}

/// Rows read and written, and bytes of the log, by one operation.
fn cost(f: &Fixture, operation: impl FnOnce()) -> [u64; 3] {
    let position = || f.memory.store().stats().unwrap().log.position;
    let (before, bytes) = (f.memory.work(), position());
    operation();
    let after = f.memory.work();
    [after.rows_read - before.rows_read, after.rows_written - before.rows_written, position() - bytes]
}

#[test]
fn the_cost_of_an_operation_is_the_same_at_any_size() {
    let f = Fixture::new();
    f.memory.declare_space("s", Space::new(2)).unwrap();
    f.memory.declare_field("n").unwrap();
    let (mut ids, mut found) = (Vec::new(), Vec::new());
    for size in [500_u32, 8_000] {
        ids.extend(fill(&f, ids.len() as u32, size));
        let mut random = Random(7);
        let mut sums: Vec<[u64; 3]> = vec![[0; 3]; 7];
        for n in 0..10_u32 {
            let id = ids[ids.len() / 2 + n as usize];
            // The same texts at each size.
            let (new, other) = (text(&mut random, n), text(&mut random, n));
            let draft = Draft::new(new.clone()).tags(["usual"]).metadata("n", n).vector("s", [1.0, 1.0]);
            let mut added = None;
            let operations: [&mut dyn FnMut(); 7] = [
                &mut || added = Some(f.memory.add("ada/chat", draft.clone()).unwrap().id),
                &mut || assert!(f.memory.add("ada/chat", draft.clone()).unwrap().duplicate),
                &mut || drop(f.memory.get(id).unwrap()),
                &mut || drop(f.memory.find(&Query::new().under("ada")).unwrap()),
                &mut || drop(f.memory.usage("ada").unwrap()),
                &mut || drop(f.memory.find(&Query::new().words(format!("number{}", n + 100))).unwrap()),
                &mut || drop(f.memory.update(id, |item| item.content.clone_from(&other)).unwrap()),
            ];
            for (operation, sum) in operations.into_iter().zip(&mut sums) {
                let cost = cost(&f, operation);
                sum.iter_mut().zip(cost).for_each(|(sum, cost)| *sum += cost);
            }
            // The middle of the numbers stays in the middle.
            let added = added.unwrap();
            assert!(f.memory.remove(added).unwrap());
        }
        found.push(sums);
    }
    for (operation, (small, large)) in found[0].iter().zip(&found[1]).enumerate() {
        for (what, (small, large)) in ["rows read", "rows written", "bytes"].iter().zip(small.iter().zip(large)) {
            // Blocks of words that are fuller make rows longer, up to 192 bytes each, not more of them.
            // A block of vectors may be complete at one size and not at the other.
            let more = if *what == "bytes" { small / 2 + 1024 } else { small / 20 + 20 };
            assert!(*large <= small + more, "operation {operation}: {small} {what}, then {large}: {found:?}");
        }
    }
    f.is_clean();
}

#[test]
fn a_search_for_a_word_that_all_have_reads_a_row_for_64_items() {
    let f = Fixture::new();
    f.memory
        .write(|tx| {
            for n in 0..2000 {
                tx.add("a", format!("common n{n}"))?;
            }
            Ok::<_, MemoryError>(())
        })
        .unwrap();
    let found = f.memory.find(&Query::new().words("common")).unwrap();
    assert!(found.rows_read < 2000 / 64 + 40, "{} rows", found.rows_read);
    assert_eq!(found.hits.len(), 10);
}

/// The tags are listed by their index: two rows for each, and two to find the namespace, however many items have them.
#[test]
fn listing_tags_reads_no_items() {
    let f = Fixture::new();
    let mut found = Vec::new();
    for size in [50_u32, 3_000] {
        let add = |tx: &memstone::memory::MemoryTxn<'_>| {
            (0..size).try_for_each(|n| {
                let tags = ["all".to_owned(), format!("{}", n % 3)];
                tx.add(format!("ada/{}", n % 2), Draft::new(format!("{size} {n}")).tags(tags)).map(drop)
            })
        };
        f.memory.write(add).unwrap();
        let mut tags = Vec::new();
        let [read, written, _] = cost(&f, || tags = f.memory.tags("ada").unwrap());
        let tags: Vec<(String, u64)> = tags.into_iter().map(|of| (of.tag, of.items)).collect();
        found.push((read, written, tags));
    }
    let of = |size: u64| {
        let third = |n: u64| (n.to_string(), (size + 2 - n) / 3);
        vec![third(0), third(1), third(2), ("all".to_owned(), size)]
    };
    let sum: Vec<(String, u64)> = of(50).into_iter().zip(of(3_000)).map(|(a, b)| (a.0, a.1 + b.1)).collect();
    assert_eq!((&found[0].2, &found[1].2), (&of(50), &sum));
    assert_eq!(found[0].0, found[1].0, "as many rows read for many items as for few");
    assert!(found[0].0 <= 25 && found[0].1 == 0, "{found:?}");
    assert_eq!(f.memory.tags("ada/0").unwrap().len(), 4);
    assert!(f.memory.tags("bob").unwrap().is_empty());
}
