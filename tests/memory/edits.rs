use crate::support::{Fixture, SECOND};
use memstone::memory::{Draft, MemoryError, Query, Space, Timestamp};
use serde_json::{Value, json};
use std::cell::Cell;

#[test]
fn an_update_changes_the_item_and_all_that_finds_it() {
    let f = Fixture::new();
    f.memory.declare_field("stars").unwrap();
    f.memory.declare_space("small", Space::new(2)).unwrap();
    let draft = Draft::new("green tea").tags(["old", "both"]).metadata("stars", 1).vector("small", [1.0, 0.0]);
    let id = f.memory.add("a", draft).unwrap().id;
    let created = f.now();
    f.pass(SECOND);
    let item = f
        .memory
        .update(id, |item| {
            item.content = "black coffee".to_owned();
            item.tags = ["both".to_owned(), "new".to_owned()].into();
            item.metadata.insert("stars".to_owned(), json!(2));
            item.set_vector("small", [0.0, 1.0]);
            item.namespace = "b".parse().unwrap();
            // These are not the caller's.
            item.version = 99;
            item.duplicates = 99;
            item.created = Timestamp::MIN;
            item.updated = Timestamp::MIN;
            item.id = memstone::memory::ItemId::from_bytes([0; 16]);
        })
        .unwrap();
    assert_eq!((item.id, item.version, item.duplicates), (id, 2, 0));
    assert_eq!((item.created, item.updated), (created, f.now()));
    assert_eq!(f.memory.get(id).unwrap().unwrap(), item);
    assert_eq!(f.memory.vector(id, "small").unwrap().unwrap(), [0.0, 1.0]);
    let finds = |query: Query| f.found(&query) == [id];
    assert!(finds(Query::new().words("coffee")) && !finds(Query::new().words("tea")));
    assert!(finds(Query::new().tag("new").tag("both")) && !finds(Query::new().tag("old")));
    assert!(finds(Query::new().field("stars", 2)) && !finds(Query::new().field("stars", 1)));
    assert!(finds(Query::new().under("b")) && !finds(Query::new().under("a")));
    assert!(finds(Query::new().updated(f.now()..)) && !finds(Query::new().created(f.now()..)));
    f.is_clean();
    f.memory.update(id, |item| item.remove_vector("small")).unwrap();
    assert_eq!(f.memory.vector(id, "small").unwrap(), None);
    assert!(f.memory.get(id).unwrap().unwrap().spaces().is_empty());
    f.is_clean();
}

#[test]
fn an_update_that_changes_nothing_writes_nothing() {
    let f = Fixture::new();
    let id = f.memory.add("a", "tea").unwrap().id;
    let before = f.memory.store().last_commit().unwrap();
    f.pass(SECOND);
    assert_eq!(f.memory.update(id, |_| ()).unwrap().version, 1);
    assert_eq!(f.memory.store().last_commit().unwrap(), before);
}

#[test]
fn moving_takes_vectors_along() {
    let f = Fixture::new();
    f.memory.declare_space("one", Space::new(1)).unwrap();
    f.memory.declare_space("two", Space::new(1)).unwrap();
    let id = f.memory.add("a", Draft::new("tea").vector("one", [1.0]).vector("two", [2.0])).unwrap().id;
    f.memory
        .update(id, |item| {
            item.namespace = "a/b".parse().unwrap();
            item.set_vector("two", [3.0]);
        })
        .unwrap();
    assert_eq!(f.memory.vector(id, "one").unwrap().unwrap(), [1.0]);
    assert_eq!(f.memory.vector(id, "two").unwrap().unwrap(), [3.0]);
    assert_eq!(f.found(&Query::new().only_in("a/b").words("tea")), [id]);
    f.is_clean();
}

#[test]
fn put_if_stores_only_what_was_not_changed_meanwhile() {
    let f = Fixture::new();
    let id = f.memory.add("a", "tea").unwrap().id;
    let mut item = f.memory.get(id).unwrap().unwrap();
    item.content = "green tea".to_owned();
    let stored = f.memory.put_if(&item).unwrap();
    assert_eq!(stored.version, 2);
    let late = f.memory.put_if(&item).unwrap_err();
    assert!(matches!(late, MemoryError::Conflict { expected: 1, found: Some(2), .. }), "{late}");
    // A duplicate that is counted is no change.
    f.memory.add("a", "green tea").unwrap();
    item = stored;
    item.content = "black tea".to_owned();
    assert_eq!(f.memory.put_if(&item).unwrap().duplicates, 1);
    f.memory.remove(id).unwrap();
    let gone = f.memory.put_if(&item).unwrap_err();
    assert!(matches!(gone, MemoryError::Conflict { found: None, .. }), "{gone}");
    f.is_clean();
}

#[test]
fn a_long_edit_holds_no_lock_and_loses_no_other_edit() {
    let f = Fixture::new();
    let id = f.memory.add("a", Draft::new("tea").metadata("n", 0)).unwrap().id;
    let rounds = Cell::new(0);
    let item = f
        .memory
        .edit(id, |item| {
            rounds.set(rounds.get() + 1);
            if rounds.get() <= 3 {
                // Another caller writes while this one thinks.
                f.memory.patch(id, &json!({"metadata": {"n": rounds.get()}}))?;
            }
            item.content.push('!');
            Ok::<_, MemoryError>(())
        })
        .unwrap();
    assert_eq!((item.content.as_str(), &item.metadata["n"], rounds.get()), ("tea!", &json!(3), 4));
    let removed = f.memory.edit(id, |item| {
        item.content.push('!');
        f.memory.remove(id).map(drop)
    });
    assert!(matches!(removed.unwrap_err(), MemoryError::NotFound { .. }));
    let refused = f.memory.edit(f.memory.add("a", "x").unwrap().id, |_| Err(MemoryError::NotFound { id }));
    assert!(refused.is_err());
    f.is_clean();
}

#[test]
fn a_merge_patch_is_that_of_the_rfc() {
    let f = Fixture::new();
    // The examples of RFC 7396, appendix A, as the member "a" where they are no objects.
    let cases = [
        (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
        (json!({"a": "b"}), json!({"a": null}), json!({})),
        (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
        (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
        (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
        (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
        (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
        (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        (json!({"a": [1]}), json!({"a": {"b": 1}}), json!({"a": {"b": 1}})),
    ];
    for (n, (target, patch, expected)) in cases.into_iter().enumerate() {
        let Value::Object(target) = target else { panic!() };
        let id = f.memory.add("a", Draft::new(format!("case {n}")).all_metadata(target)).unwrap().id;
        let item = f.memory.patch(id, &json!({"metadata": patch})).unwrap();
        assert_eq!(Value::Object(item.metadata), expected, "case {n}");
    }
    let id = f.memory.add("b", Draft::new("tea").tags(["x"]).expires_in(SECOND)).unwrap().id;
    let item = f.memory.patch(id, &json!({"content": "coffee", "tags": ["y"], "expires": null})).unwrap();
    assert_eq!((item.content.as_str(), item.tags.contains("y"), item.expires), ("coffee", true, None));
    let later = (f.now() + SECOND).as_micros();
    let item = f.memory.patch(id, &json!({"expires": later, "tags": null, "metadata": null})).unwrap();
    assert_eq!((item.expires, item.tags.len()), (Some(Timestamp::from_micros(later)), 0));
    for wrong in [
        json!(1),
        json!({"content": null}),
        json!({"content": 1}),
        json!({"tags": [1]}),
        json!({"expires": -1}),
        json!({"metadata": 1}),
        json!({"version": 7}),
    ] {
        assert!(matches!(f.memory.patch(id, &wrong), Err(MemoryError::Invalid { .. })), "{wrong}");
    }
    f.is_clean();
}
