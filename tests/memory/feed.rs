use crate::random::Random;
use crate::support::Fixture;
use memstone::Gap;
use memstone::memory::{ItemId, MemoryFeed, Namespace, Query};
use std::collections::BTreeMap;

type Copy = BTreeMap<ItemId, (Namespace, u64)>;

/// All items, by id: where each is, and its version.
fn all(f: &Fixture) -> Copy {
    let items = f.memory.find(&Query::new().limit(1000)).unwrap().hits.into_iter().map(|hit| hit.item);
    items.map(|item| (item.id, (item.namespace, item.version))).collect()
}

#[test]
fn a_copy_that_follows_the_feed_is_the_memory() {
    let f = Fixture::new();
    let store = f.memory.store();
    store.set_journal(Some(1 << 20)).unwrap();
    let (mut copy, mut cursor) = (all(&f), store.read().unwrap().end().unwrap());
    let mut random = Random(7);
    let namespaces = ["ada", "ada/chat", "bob"];
    for round in 0..150 {
        for step in 0..1 + random.below(5) {
            let known: Vec<ItemId> = all(&f).into_keys().collect();
            let namespace = namespaces[random.below(3_usize)];
            let some = known.get(random.below(known.len().max(1)));
            match (random.below(12_u32), some) {
                (0..=4, _) | (_, None) => drop(f.memory.add(namespace, format!("{round} {step}")).unwrap()),
                (5 | 6, Some(id)) => drop(f.memory.update(*id, |item| item.content.push('x')).unwrap()),
                (7, Some(id)) => {
                    let to: Namespace = namespace.parse().unwrap();
                    drop(f.memory.update(*id, |item| item.namespace = to).unwrap());
                }
                (8 | 9, Some(id)) => drop(f.memory.remove(*id).unwrap()),
                (10, _) => drop(f.memory.clear("bob").unwrap()),
                _ => store.checkpoint().unwrap(),
            }
        }
        let snapshot = f.memory.snapshot().unwrap();
        let MemoryFeed::Items(items, end) = snapshot.changes(cursor).unwrap() else { panic!("a gap") };
        assert!(items.iter().all(|item| item.lsn > cursor.lsn()));
        for change in items {
            let item = snapshot.get(change.id).unwrap();
            assert_eq!(change.removed, item.is_none());
            match item {
                Some(item) => {
                    assert_eq!(change.namespace.as_ref(), Some(&item.namespace));
                    copy.insert(item.id, (item.namespace, item.version));
                }
                None => _ = copy.remove(&change.id),
            }
        }
        assert_eq!(copy, all(&f), "round {round}");
        cursor = end;
    }
    assert!(copy.len() > 10, "{}", copy.len());
}

#[test]
fn a_removed_item_was_somewhere_if_that_can_be_told() {
    let f = Fixture::new();
    let [tea, walks] = ["likes tea", "likes walks"].map(|text| f.memory.add("ada", text).unwrap().id);
    let seen = f.memory.store().read().unwrap().end().unwrap();
    f.memory.remove(tea).unwrap();
    let told = |since| match f.memory.changes(since).unwrap() {
        MemoryFeed::Items(items, _) => {
            items.into_iter().map(|item| (item.id, item.namespace.map(|path| path.to_string()), item.removed)).collect()
        }
        MemoryFeed::Gap(gap, _) => panic!("{gap}"),
        other => panic!("{other:?}"),
    };
    let found: Vec<_> = told(seen);
    assert_eq!(found, [(tea, Some("ada".to_owned()), true)]);
    // Its namespace goes with the last item.
    f.memory.remove(walks).unwrap();
    let found: Vec<_> = told(seen);
    assert_eq!(found, [(tea, None, true), (walks, None, true)]);
    f.memory.store().checkpoint().unwrap();
    let MemoryFeed::Gap(Gap::Truncated { oldest }, end) = f.memory.changes(seen).unwrap() else { panic!("no journal") };
    assert_eq!(oldest, end.lsn());
}
