use crate::support::{Fixture, SECOND};
use memstone::memory::{Draft, Item, ItemId, MAX_CONTENT, MAX_METADATA, MemoryError, Namespace, Space, Timestamp};
use serde_json::{Map, Value, json};

#[test]
fn an_item_comes_back_as_it_was_given() {
    let f = Fixture::new();
    f.memory.declare_space("small", Space::new(2)).unwrap();
    let metadata = json!({"a": [1, -2, 0.1, 1e300, u64::MAX], "b": {"c": null, "d": "é\u{0}"}, "": false});
    let Value::Object(metadata) = metadata else { panic!() };
    let draft = Draft::new("Tee \u{0} 茶")
        .all_metadata(metadata.clone())
        .tags(["b", "a", "b"])
        .vector("small", [0.5, -3.25])
        .expires_in(SECOND);
    let added = f.memory.add("ada/chat", draft).unwrap();
    assert!(!added.duplicate);
    let item = f.memory.get(added.id).unwrap().unwrap();
    assert_eq!((item.content.as_str(), &item.metadata), ("Tee \u{0} 茶", &metadata));
    assert_eq!(item.tags.iter().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((item.created, item.updated, item.expires), (f.now(), f.now(), Some(f.now() + SECOND)));
    assert_eq!((item.version, item.duplicates), (1, 0));
    assert_eq!(item.namespace, "ada/chat".parse().unwrap());
    assert_eq!(item.spaces().iter().collect::<Vec<_>>(), ["small"]);
    assert_eq!(f.memory.vector(added.id, "small").unwrap().unwrap(), [0.5, -3.25]);
    assert_eq!(item.content_hash(), *blake3::hash("Tee \u{0} 茶".as_bytes()).as_bytes());
    f.is_clean();

    assert!(f.memory.remove(added.id).unwrap() && !f.memory.remove(added.id).unwrap());
    assert_eq!(f.memory.get(added.id).unwrap(), None);
    assert_eq!(f.memory.namespaces("").unwrap(), [], "what is empty leaves nothing behind");
    f.is_clean();
}

#[test]
fn ids_are_uuids_of_version_7_that_follow_the_clock() {
    let f = Fixture::new();
    let mut last = ItemId::new(Timestamp::MIN).unwrap();
    for n in 0..20 {
        f.pass(SECOND);
        let id = f.memory.add("a", format!("item {n}")).unwrap().id;
        let text = id.to_string();
        assert!(id > last && text.parse::<ItemId>().unwrap() == id, "{text}");
        assert_eq!((&text[14..15], text.len()), ("7", 36));
        assert!("89ab".contains(&text[19..20]), "{text}");
        let millis = u64::from_str_radix(&text.replace('-', "")[..12], 16).unwrap();
        assert_eq!(millis, f.now().as_micros() / 1000);
        last = id;
    }
    assert!("01890a5d-ac96-774b-bcce-b302099a805".parse::<ItemId>().is_err());
    assert!("01890a5d-ac96-774b-bcce-b302099a805é".parse::<ItemId>().is_err());
}

#[test]
fn a_given_id_and_time_are_kept_and_an_id_is_not_taken_twice() {
    let f = Fixture::new();
    let id = ItemId::from_bytes([7; 16]);
    let old = Timestamp::from_micros(5);
    f.memory.add("a", Draft::new("from elsewhere").id(id).created(old)).unwrap();
    let item = f.memory.get(id).unwrap().unwrap();
    assert_eq!((item.created, item.updated), (old, old));
    let again = f.memory.add("b", Draft::new("other").id(id)).unwrap_err();
    assert!(matches!(again, MemoryError::Exists { id: found } if found == id), "{again}");
    assert_eq!(f.memory.usage("").unwrap().items, 1);
    // An expired one makes room.
    f.memory.update(id, |item| item.expires = Some(old)).unwrap();
    f.memory.add("b", Draft::new("other").id(id)).unwrap();
    assert_eq!(f.memory.get(id).unwrap().unwrap().content, "other");
    f.is_clean();
}

#[test]
fn the_same_content_is_the_same_item() {
    let f = Fixture::new();
    let first = f.memory.add("a", "likes tea").unwrap();
    let again = f.memory.add("a", Draft::new("likes tea").tags(["new"])).unwrap();
    assert_eq!((again.id, again.duplicate), (first.id, true));
    let item = f.memory.get(first.id).unwrap().unwrap();
    assert_eq!((item.duplicates, item.version, item.tags.len()), (1, 1, 0));
    // Elsewhere, or asked for, it is another one.
    assert!(!f.memory.add("a/b", "likes tea").unwrap().duplicate);
    let kept = f.memory.add("a", Draft::new("likes tea").keep_duplicate()).unwrap();
    assert!(!kept.duplicate && kept.id != first.id);
    assert_eq!(f.memory.usage("a").unwrap().items, 3);
    // One that was edited away, or has expired, is not the same.
    f.memory.update(first.id, |item| item.content = "likes walks".to_owned()).unwrap();
    f.memory.update(kept.id, |item| item.expires = Some(Timestamp::MIN)).unwrap();
    assert!(!f.memory.add("a", "likes tea").unwrap().duplicate);
    f.is_clean();
}

#[test]
fn namespaces_count_what_is_in_and_below_them() {
    let f = Fixture::new();
    let mut ids = Vec::new();
    for (namespace, n) in [("", 1), ("ada", 2), ("ada/chat", 3), ("ada/chat/x", 4), ("adam", 5)] {
        for k in 0..n {
            ids.push(f.memory.add(namespace, format!("item {k}")).unwrap().id);
        }
    }
    let counts = |namespace: &str| {
        let usage = f.memory.usage(namespace).unwrap();
        (usage.own_items, usage.items)
    };
    assert_eq!(["", "ada", "ada/chat", "ada/chat/x", "adam"].map(counts), [(1, 15), (2, 9), (3, 7), (4, 4), (5, 5)]);
    let bytes = f.memory.usage("").unwrap().bytes;
    assert_eq!(bytes, 15 * (72 + "item 0".len() as u64 + "{}".len() as u64));
    let below: Vec<_> = f.memory.namespaces("ada").unwrap().into_iter().map(|n| n.namespace.to_string()).collect();
    assert_eq!(below, ["ada", "ada/chat", "ada/chat/x"]);
    assert_eq!(f.memory.clear("ada/chat").unwrap(), 7);
    assert_eq!((counts(""), counts("ada"), counts("ada/chat")), ((1, 8), (2, 2), (0, 0)));
    f.is_clean();
    assert_eq!(f.memory.clear("").unwrap(), 8);
    assert_eq!(counts(""), (0, 0));
    f.is_clean();
}

#[test]
fn what_cannot_be_stored_is_refused() {
    let f = Fixture::new();
    f.memory.declare_space("small", Space::new(2)).unwrap();
    let refused = |draft: Draft| f.memory.add("a", draft).unwrap_err().to_string();
    let mut deep = json!(1);
    for _ in 0..100 {
        deep = json!([deep]);
    }
    let cases = [
        (Draft::new("x".repeat(MAX_CONTENT + 1)), "invalid content"),
        (Draft::new("x").metadata("big", "x".repeat(MAX_METADATA)), "invalid metadata"),
        (Draft::new("x").metadata("deep", deep), "nested"),
        (Draft::new("x").tags([""]), "invalid tag"),
        (Draft::new("x").tags(["a\0b"]), "invalid tag"),
        (Draft::new("x").tags((0..300).map(|n| n.to_string())), "invalid tags"),
        (Draft::new("x").vector("small", [1.0]), "1 elements"),
        (Draft::new("x").vector("small", [1.0, f32::INFINITY]), "finite"),
        (Draft::new("x").vector("large", [1.0]), "no vector space"),
    ];
    for (draft, expected) in cases {
        let error = refused(draft);
        assert!(error.contains(expected), "{error:?} lacks {expected:?}");
    }
    for wrong in ["/", "a/", "a//b", "a\u{7}", &"a/".repeat(20), &"a".repeat(201)] {
        assert!(f.memory.add(wrong, "x").is_err(), "{wrong:?}");
        assert!(f.memory.find(&memstone::memory::Query::new().under(wrong)).is_err(), "{wrong:?}");
    }
    assert_eq!(f.memory.usage("").unwrap().items, 0);
    f.is_clean();
}

#[test]
fn a_batch_takes_effect_as_a_whole_or_not_at_all() {
    let f = Fixture::new();
    let kept = f.memory.add("a", "kept").unwrap().id;
    let failed = f.memory.write(|tx| {
        tx.add("a", "first")?;
        tx.add("b/c", "second")?;
        tx.remove(kept)?;
        assert_eq!(tx.get(kept)?, None);
        assert_eq!(tx.find(&memstone::memory::Query::new())?.hits.len(), 2);
        Err::<(), _>(MemoryError::NotFound { id: kept })
    });
    assert!(failed.is_err());
    assert_eq!(f.memory.usage("").unwrap().items, 1);
    f.is_clean();
    // An operation that is refused leaves the others.
    f.memory
        .write(|tx| {
            tx.add("a", "first")?;
            assert!(tx.add("a", Draft::new("second").vector("none", [1.0])).is_err());
            assert!(tx.update(ItemId::from_bytes([1; 16]), |_| ()).is_err());
            tx.add("a", "third").map(drop)
        })
        .unwrap();
    assert_eq!(f.memory.usage("a").unwrap().items, 3);
    f.is_clean();
}

#[test]
fn items_are_written_as_json() {
    let f = Fixture::new();
    let id = f.memory.add("a/b", Draft::new("text").tags(["t"]).metadata("n", 1)).unwrap().id;
    let item: Item = f.memory.get(id).unwrap().unwrap();
    let json = serde_json::to_value(&item).unwrap();
    assert_eq!(json["namespace"], "a/b");
    assert_eq!(json["id"], id.to_string());
    assert_eq!(json["metadata"], json!({"n": 1}));
    assert_eq!(json["created"], f.now().as_micros());
    let back: (ItemId, Namespace) = serde_json::from_value(json!([json["id"], json["namespace"]])).unwrap();
    assert_eq!(back, (item.id, item.namespace));
    assert_eq!(serde_json::from_str::<Map<String, Value>>("{}").unwrap(), Map::new());
}
