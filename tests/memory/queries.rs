use crate::support::{Fixture, SECOND, ids};
use memstone::memory::{Cursor, Draft, ItemId, MemoryError, Order, Query, Space, Timestamp};
use serde_json::json;
use std::ops::Bound;

#[test]
fn fields_are_found_by_value_and_range_in_their_order() {
    let f = Fixture::new();
    let long = |end: &str| "x".repeat(300) + end;
    let values = [
        json!(null),
        json!(false),
        json!(true),
        json!(i64::MIN),
        json!(-1.5),
        json!(-1),
        json!(0),
        json!(0.25),
        json!(1),
        json!(9_007_199_254_740_992_u64),
        json!(9_007_199_254_740_993_u64),
        json!(u64::MAX - 1),
        json!(u64::MAX),
        json!(1e300),
        json!(""),
        json!("a"),
        json!("a\u{0}"),
        json!("a\u{0}b"),
        json!("ab"),
        json!(long("1")),
        json!(long("2")),
    ];
    let add = |n: usize, value: &serde_json::Value| {
        f.memory.add("a", Draft::new(format!("{n}")).metadata("v", value.clone())).unwrap().id
    };
    // Half of them before the field is declared.
    let mut all: Vec<ItemId> = values.iter().enumerate().take(10).map(|(n, v)| add(n, v)).collect();
    assert!(matches!(f.memory.find(&Query::new().field("v", 1)), Err(MemoryError::NoField { .. })));
    f.memory.declare_field("v").unwrap();
    all.extend(values.iter().enumerate().skip(10).map(|(n, v)| add(n, v)));
    f.is_clean();
    for (id, value) in all.iter().zip(&values).skip(1) {
        assert_eq!(f.found(&Query::new().field("v", value.clone())), [*id], "{value}");
    }
    assert!(f.memory.find(&Query::new().field("v", json!(null))).is_err());
    assert!(f.found(&Query::new().field("v", long("3"))).is_empty());
    assert_eq!(f.found(&Query::new().field("v", 1.0)), [all[8]], "1 and 1.0 are the same number");
    let range = |query: Query| {
        let mut found = f.found(&query.limit(100));
        found.sort();
        let mut at: Vec<usize> = found.iter().map(|id| all.iter().position(|x| x == id).unwrap()).collect();
        at.sort_unstable();
        at
    };
    assert_eq!(range(Query::new().field_range("v", 0..)), [6, 7, 8, 9, 10, 11, 12, 13]);
    assert_eq!(range(Query::new().field_range("v", -1..=0)), [5, 6]);
    assert_eq!(range(Query::new().field_range("v", ..0)), [3, 4, 5]);
    assert_eq!(range(Query::new().field_range("v", "a"..)), [15, 16, 17, 18, 19, 20]);
    assert_eq!(range(Query::new().field_range("v", "a"..="a\u{0}b")), [15, 16, 17]);
    assert_eq!(range(Query::new().field_range::<&str>("v", (Bound::Excluded("a"), Bound::Excluded("ab")))), [16, 17]);
    assert_eq!(range(Query::new().field_range("v", ..false)), [] as [usize; 0]);
    assert_eq!(range(Query::new().field_range::<i32>("v", ..)), (1..21).collect::<Vec<_>>());
    assert_eq!(range(Query::new().field_range("v", (Bound::Included(5), Bound::Excluded(1)))), [] as [usize; 0]);
    assert!(f.memory.drop_field("v").unwrap() && !f.memory.drop_field("v").unwrap());
    f.is_clean();
}

#[test]
fn fields_may_be_pointers_and_arrays() {
    let f = Fixture::new();
    let pointer = "/a/b~1c";
    f.memory.declare_field(pointer).unwrap();
    f.memory.declare_field("list").unwrap();
    let one = Draft::new("one").metadata("a", json!({"b/c": 7})).metadata("list", json!(["x", 2, "x", [3]]));
    let id = f.memory.add("a", one).unwrap().id;
    f.memory.add("a", Draft::new("two").metadata("a", json!([7])).metadata("list", json!({"x": 2}))).unwrap();
    assert_eq!(f.found(&Query::new().field(pointer, 7)), [id]);
    assert_eq!(f.found(&Query::new().field("list", "x").field("list", 2)), [id]);
    assert!(f.found(&Query::new().field("list", 3)).is_empty());
    f.is_clean();
    f.memory.drop_field(pointer).unwrap();
    f.memory.declare_field("other").unwrap();
    assert_eq!(f.memory.snapshot().unwrap().fields(), ["other", "list"]);
    assert!(f.found(&Query::new().field("other", 7)).is_empty());
    f.is_clean();
}

#[test]
fn items_come_by_time_page_after_page() {
    let f = Fixture::new();
    let mut added = Vec::new();
    for n in 0..30 {
        // Several share a time; namespaces take turns.
        if n % 4 == 0 {
            f.pass(SECOND);
        }
        let namespace = ["a", "a/b", "c"][n % 3];
        let tag = if n % 2 == 0 { "even" } else { "odd" };
        added.push((f.now(), f.memory.add(namespace, Draft::new(format!("{n}")).tags([tag])).unwrap().id));
    }
    let times: std::collections::HashMap<ItemId, Timestamp> = added.iter().map(|(time, id)| (*id, *time)).collect();
    let all = |query: Query| {
        let (mut found, mut query) = (Vec::new(), query.limit(4));
        loop {
            let page = f.memory.find(&query).unwrap();
            assert!(page.hits.len() <= 4);
            found.extend(ids(&page));
            match page.next {
                Some(next) => query = query.after(next.to_string().parse::<Cursor>().unwrap()),
                None => return found,
            }
        }
    };
    let newest = all(Query::new());
    let mut oldest = all(Query::new().order(Order::Oldest));
    assert!(newest.windows(2).all(|pair| times[&pair[0]] >= times[&pair[1]]));
    oldest.reverse();
    assert_eq!((newest.len(), &newest), (30, &oldest), "each once, in one order and its opposite");
    let only = |wanted: &dyn Fn(usize) -> bool| {
        newest.iter().copied().filter(|id| wanted(added.iter().position(|a| a.1 == *id).unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(all(Query::new().under("a")), only(&|n| n % 3 < 2));
    assert_eq!(all(Query::new().only_in("a")), only(&|n| n % 3 == 0));
    assert_eq!(all(Query::new().tag("even")), only(&|n| n % 2 == 0));
    let (from, to) = (added[8].0, added[16].0);
    assert_eq!(all(Query::new().created(from..to)), only(&|n| (8..16).contains(&n)));
    assert_eq!(all(Query::new().created(from..=to).tag("odd")), only(&|n| (8..20).contains(&n) && n % 2 == 1));
    assert!(all(Query::new().under("a/b/c")).is_empty() && all(Query::new().tag("eve")).is_empty());
    // The one that was changed last comes first.
    f.pass(SECOND);
    f.memory.update(added[5].1, |item| item.content.push('!')).unwrap();
    let updated = all(Query::new().order(Order::LastUpdated));
    assert_eq!((updated[0], updated.len()), (added[5].1, 30));
    assert_eq!(all(Query::new().updated(f.now()..)), [added[5].1]);
    assert_eq!(all(Query::new().order(Order::LastUpdated).updated(..f.now()).tag("odd")).len(), 14);
    assert!(
        "1-2".parse::<Cursor>().is_err() && "x-0-0".parse::<Cursor>().is_err() && "0-0-0-0".parse::<Cursor>().is_err()
    );
    assert!(f.memory.find(&Query::new().words("x").after("0-0-0".parse().unwrap())).is_err());
}

#[test]
fn few_selected_items_are_not_searched_for_among_all() {
    let f = Fixture::new();
    f.memory
        .write(|tx| {
            for n in 0..1000 {
                tx.add("a", Draft::new(format!("{n}")).tags([if n % 300 == 0 { "rare" } else { "usual" }]))?;
            }
            Ok::<_, MemoryError>(())
        })
        .unwrap();
    let rare = f.memory.find(&Query::new().tag("rare")).unwrap();
    assert_eq!(rare.hits.iter().map(|hit| hit.item.content.as_str()).collect::<Vec<_>>(), ["900", "600", "300", "0"]);
    assert!(rare.rows_read < 25, "{} rows", rare.rows_read);
    let recent = f.memory.find(&Query::new()).unwrap();
    assert!(recent.rows_read < 40, "{} rows", recent.rows_read);
}

#[test]
fn words_and_vectors_are_fused_by_reciprocal_ranks() {
    let f = Fixture::new();
    f.memory.declare_space("s", Space::new(2)).unwrap();
    let add = |text: &str, x: f32, y: f32| f.memory.add("a", Draft::new(text).vector("s", [x, y])).unwrap().id;
    let both = add("green tea", 0.9, 0.1);
    let by_words = f.memory.add("a", "tea tea").unwrap().id;
    let by_vector = add("coffee", 1.0, 0.0);
    let neither = f.memory.add("a", "walks").unwrap().id;
    let query = Query::new().words("tea").vector("s", [1.0, 0.0]);
    let found = f.memory.find(&query).unwrap();
    let order = ids(&found);
    assert_eq!(order[0], both, "second in both lists, before the first in one");
    assert!(!order.contains(&neither) && order.len() == 3);
    let hit = |id| found.hits.iter().find(|hit| hit.item.id == id).unwrap();
    assert!((hit(both).score - 2.0 / 62.0).abs() < 1e-6);
    assert!((hit(by_words).score - 1.0 / 61.0).abs() < 1e-6);
    assert!((hit(by_vector).score - 1.0 / 61.0).abs() < 1e-6);
    assert!(hit(both).words.is_some() && hit(both).similarity.is_some() && hit(by_vector).words.is_none());
    assert_eq!(f.found(&query.limit(1)), [both]);
    assert!(f.found(&Query::new().limit(0)).is_empty() && f.found(&Query::new().words("tea").limit(0)).is_empty());
}
