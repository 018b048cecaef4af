use crate::support::{Fixture, SECOND};
use memstone::memory::{Draft, Limits, MemoryError, Query, Space, Timestamp};

#[test]
fn what_has_expired_is_found_by_nothing() {
    let f = Fixture::new();
    f.memory.declare_space("s", Space::new(1)).unwrap();
    let draft = |n: u32| Draft::new(format!("tea {n}")).tags(["t"]).vector("s", [1.0]);
    let short = f.memory.add("a", draft(1).expires_in(SECOND)).unwrap().id;
    let long = f.memory.add("a", draft(2).expires_at(f.now() + SECOND * 2)).unwrap().id;
    let queries = [
        Query::new(),
        Query::new().tag("t"),
        Query::new().words("tea"),
        Query::new().words("\"tea\""),
        Query::new().vector("s", [1.0]),
        Query::new().words("tea").vector("s", [1.0]),
    ];
    let lens = || queries.each_ref().map(|query| f.found(&query.clone().limit(1)).len() + f.found(query).len());
    assert_eq!(lens(), [3; 6]);
    let before = f.memory.snapshot().unwrap();
    f.pass(SECOND);
    for query in &queries {
        assert_eq!(f.found(query), [long]);
        assert_eq!(before.find(query).unwrap().hits.len(), 2, "a snapshot keeps its time");
    }
    assert_eq!(f.memory.get(short).unwrap(), None);
    assert!(!f.memory.remove(short).unwrap());
    assert!(matches!(f.memory.update(short, |_| ()), Err(MemoryError::NotFound { .. })));
    assert!(matches!(f.memory.vector(short, "s"), Err(MemoryError::NotFound { .. })));
    assert!(matches!(f.memory.find(&Query::new().like("s", short)), Err(MemoryError::NotFound { .. })));
    assert!(!f.memory.add("a", draft(1)).unwrap().duplicate);
    f.is_clean();
    f.pass(SECOND);
    assert_eq!(lens(), [2; 6]);
    // The last time is no time.
    let never = f.memory.add("a", Draft::new("for ever").expires_at(Timestamp::MAX)).unwrap().id;
    assert_eq!(f.memory.get(never).unwrap().unwrap().expires, None);
    f.is_clean();
}

#[test]
fn a_sweep_removes_what_has_expired_in_small_steps() {
    let f = Fixture::new();
    f.memory.set_limits("a", Limits::new().items(300)).unwrap();
    f.memory
        .write(|tx| {
            for n in 0..300_u32 {
                let draft = Draft::new(format!("item {n}"));
                tx.add("a", if n < 200 { draft.expires_in(SECOND * (n / 50 + 1)) } else { draft })?;
            }
            Ok::<_, MemoryError>(())
        })
        .unwrap();
    assert_eq!(f.memory.sweep(u64::MAX).unwrap(), 0);
    f.pass(SECOND * 3);
    assert!(f.memory.add("a", "more").is_err(), "they take room until they are swept");
    let (before, commits) =
        (f.memory.store().last_commit().unwrap(), |lsn: u64| f.memory.store().last_commit().unwrap() - lsn);
    assert_eq!(f.memory.sweep(10).unwrap(), 10);
    assert_eq!(f.memory.sweep(u64::MAX).unwrap(), 140);
    assert!(commits(before) >= 3, "no transaction removes all of them");
    assert_eq!(f.memory.usage("a").unwrap().items, 150);
    assert_eq!(f.memory.sweep(u64::MAX).unwrap(), 0);
    f.memory.add("a", "more").unwrap();
    f.is_clean();
    f.pass(SECOND * 100);
    assert_eq!(f.memory.sweep(u64::MAX).unwrap(), 50);
    assert_eq!(f.memory.usage("a").unwrap().items, 101);
    f.is_clean();
}
