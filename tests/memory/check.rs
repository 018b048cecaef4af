use crate::support::{Fixture, SECOND};
use memstone::memory::{Draft, Limits, MemoryError, Query, Space};

fn filled() -> Fixture {
    let f = Fixture::new();
    f.memory.declare_space("s", Space::new(2)).unwrap();
    f.memory.declare_field("n").unwrap();
    for (n, namespace) in ["", "a", "a/b"].into_iter().enumerate() {
        let draft = Draft::new(format!("tea number {n}")).tags(["t"]).metadata("n", n).vector("s", [1.0, 2.0]);
        f.memory.add(namespace, draft.expires_in(SECOND)).unwrap();
    }
    // Permits of a process that was killed.
    for namespace in ["", "a"] {
        f.memory.set_limits(namespace, Limits::new().at_once(3)).unwrap();
    }
    (0..2).for_each(|_| std::mem::forget(f.memory.enter("a/b", SECOND).unwrap()));
    f.is_clean();
    f
}

/// Each row that any table has is needed: without it, or with another one beside it, the check finds a problem there.
#[test]
fn every_row_that_is_lost_or_left_over_is_found() {
    let f = filled();
    let store = f.memory.store().clone();
    let tables: Vec<String> = store.read().unwrap().tables().unwrap().into_iter().map(|table| table.name).collect();
    let mut tried = 0;
    // What is declared, and limits, are nothing's index.
    for table in tables.iter().filter(|name| !name.ends_with("settings") && !name.ends_with("limits")) {
        let snapshot = store.read().unwrap();
        let rows = snapshot.raw(table).unwrap().range(..).unwrap();
        for row in rows {
            let (key, value) = row.unwrap();
            store.write(|tx| tx.raw(table)?.delete(&key)).unwrap();
            let report = f.memory.check().unwrap();
            assert!(!report.is_clean(), "{table} without {key:?}");
            store.write(|tx| tx.raw(table)?.put(&key, &value)).unwrap();
            // The same row for an item, or a namespace, that is not there.
            let mut other = key.to_vec();
            match other.last_mut() {
                Some(last) => *last ^= 0x20,
                None => continue,
            }
            store.write(|tx| tx.raw(table)?.put(&other, &value)).unwrap();
            let report = f.memory.check().unwrap();
            assert!(!report.is_clean(), "{table} with {other:?}");
            store.write(|tx| tx.raw(table)?.delete(&other)).unwrap();
            tried += 1;
        }
    }
    f.is_clean();
    assert!(tried > 40, "only {tried} rows");
}

#[test]
fn every_value_that_is_changed_is_found_and_nothing_panics() {
    let f = filled();
    let store = f.memory.store().clone();
    let (mut missed, mut tried) = (Vec::new(), 0);
    for table in ["ids", "items", "namespaces", "numbers", "texts", "words"].map(|name| format!("memory.{name}")) {
        let snapshot = store.read().unwrap();
        for row in snapshot.raw(&table).unwrap().range(..).unwrap() {
            let (key, value) = row.unwrap();
            // The path of the root has no bytes.
            for at in 0..value.len() {
                let mut other = value.to_vec();
                other[at] ^= 0x41;
                store.write(|tx| tx.raw(&table)?.put(&key, &other)).unwrap();
                let report = f.memory.check().unwrap();
                if report.is_clean() && report.stale_texts == 0 {
                    missed.push((table.clone(), at));
                }
                for query in [Query::new(), Query::new().words("\"tea number\""), Query::new().vector("s", [1.0, 0.0])]
                {
                    if let Err(error) = f.memory.find(&query) {
                        assert!(matches!(error, MemoryError::Damaged { .. } | MemoryError::NoSpace { .. }), "{error}");
                    }
                }
                tried += 1;
            }
            store.write(|tx| tx.raw(&table)?.put(&key, &value)).unwrap();
            if let Some((_, cut)) = value.split_last() {
                store.write(|tx| tx.raw(&table)?.put(&key, cut)).unwrap();
                assert!(!f.memory.check().unwrap().is_clean(), "{table}, cut");
            }
            store.write(|tx| tx.raw(&table)?.put(&key, &value)).unwrap();
        }
    }
    // Nothing else says how often an item was changed or added again, or the next number of a namespace.
    missed.retain(|(table, at)| {
        !(table.ends_with("items") && (40..56).contains(at) || table.ends_with("namespaces") && (4..8).contains(at))
    });
    assert!(missed.is_empty() && tried > 500, "{missed:?} of {tried}");
    f.is_clean();
}

#[test]
fn rows_of_a_newer_layout_are_refused() {
    let f = filled();
    let store = f.memory.store().clone();
    let row = store.read().unwrap().raw("memory.settings").unwrap().get(b"").unwrap().unwrap().to_vec();
    let at = row.windows(6).position(|part| part == b"layout").unwrap() + 6;
    let mut newer = row.clone();
    assert_eq!(newer[at], 1);
    newer[at] = 2;
    store.write(|tx| tx.raw("memory.settings")?.put(b"", &newer)).unwrap();
    assert!(matches!(f.memory.add("a", "x"), Err(MemoryError::Layout { found: 2, supported: 1 })));
    assert!(f.memory.find(&Query::new()).is_err());
    store.write(|tx| tx.raw("memory.settings")?.put(b"", b"\xc1")).unwrap();
    assert!(matches!(f.memory.check(), Err(MemoryError::Damaged { .. })));
}

/// Vectors of sixteen items lie in one row.
#[test]
fn rows_of_several_vectors_are_checked_as_well() {
    let f = Fixture::new();
    f.memory.declare_space("s", Space::new(2)).unwrap();
    for n in 0..40_u8 {
        f.memory.add("a", Draft::new(format!("{n}")).vector("s", [f32::from(n), 1.0])).unwrap();
    }
    let store = f.memory.store().clone();
    let snapshot = store.read().unwrap();
    let rows = snapshot.raw("memory.vector_blocks").unwrap().range(..).unwrap();
    let rows: Vec<_> = rows.map(|row| row.unwrap()).collect();
    assert_eq!((rows.len(), snapshot.raw("memory.vectors").unwrap().len().unwrap()), (2, 8));
    let table = "memory.vector_blocks";
    for (key, value) in &rows {
        let mut others: Vec<Option<Vec<u8>>> = vec![None, Some(Vec::new()), Some(value[..value.len() - 8].to_vec())];
        for bit in 0..16 {
            let mut other = value.to_vec();
            other[bit / 8] ^= 1 << (bit % 8);
            others.push(Some(other.clone()));
            other.truncate(value.len() - 8);
            others.push(Some(other));
        }
        for other in others {
            match other {
                Some(other) => store.write(|tx| tx.raw(table)?.put(key, &other)).unwrap(),
                None => store.write(|tx| tx.raw(table)?.delete(key)).unwrap(),
            }
            assert!(!f.memory.check().unwrap().is_clean());
            let found = f.memory.find(&Query::new().vector("s", [1.0, 0.0]));
            assert!(matches!(found, Ok(_) | Err(MemoryError::Damaged { .. })), "{found:?}");
        }
        store.write(|tx| tx.raw(table)?.put(key, value)).unwrap();
    }
    f.is_clean();
    // Removing and changing them keeps the others.
    let all = f.found(&Query::new().vector("s", [1.0, 0.0]).limit(100));
    for (n, id) in all.iter().rev().enumerate() {
        match n % 4 {
            0 => assert!(f.memory.remove(*id).unwrap()),
            1 => drop(f.memory.update(*id, |item| item.set_vector("s", [7.0, 7.0])).unwrap()),
            2 => drop(f.memory.update(*id, |item| item.remove_vector("s")).unwrap()),
            _ => {}
        }
    }
    let left = f.memory.find(&Query::new().vector("s", [1.0, 0.0]).limit(100)).unwrap();
    assert_eq!(left.hits.len(), 20);
    f.is_clean();
    f.memory.clear("").unwrap();
    assert!(store.read().unwrap().raw(table).unwrap().is_empty().unwrap());
    f.is_clean();
}
