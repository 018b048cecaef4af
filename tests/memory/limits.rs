use crate::support::{Fixture, SECOND};
use memstone::memory::{Draft, Limits, Memory, MemoryError, Namespace, Resource, Timestamp};
use std::time::Duration;

#[test]
fn quotas_hold_to_the_item_for_all_that_is_below() {
    let f = Fixture::new();
    f.memory.set_limits("ada", Limits::new().items(3)).unwrap();
    f.memory.set_limits("ada/chat", Limits::new().items(1)).unwrap();
    f.memory.add("ada/chat", "1").unwrap();
    let refused = f.memory.add("ada/chat", "2").unwrap_err();
    let chat: Namespace = "ada/chat".parse().unwrap();
    assert!(
        matches!(&refused, MemoryError::Quota { namespace, resource: Resource::Items, limit: 1, used: 1, asked: 1 } if *namespace == chat),
        "{refused}"
    );
    assert_eq!(refused.to_string(), "namespace \"ada/chat\" may hold 1 items: it holds 1, and 1 more were to be added");
    f.memory.add("ada/x", "2").unwrap();
    let third = f.memory.add("ada", "3").unwrap().id;
    assert!(f.memory.add("ada/y", "4").is_err() && f.memory.add("bob", "4").is_ok());
    // The same content again is no new item, and an edit needs no room for one.
    assert!(f.memory.add("ada/x", "2").unwrap().duplicate);
    f.memory.update(third, |item| item.content = "three".to_owned()).unwrap();
    // Moving within a limit does not count against it, moving under one does.
    f.memory.update(third, |item| item.namespace = "ada/z".parse().unwrap()).unwrap();
    assert!(f.memory.update(third, |item| item.namespace = chat.clone()).is_err());
    f.memory.remove(third).unwrap();
    f.memory.add("ada/y", "4").unwrap();
    assert_eq!(f.memory.usage("ada").unwrap().items, 3);
    // A limit that is lowered takes nothing away, and lets it become less.
    f.memory.set_limits("ada", Limits::new().items(1)).unwrap();
    assert!(f.memory.add("ada/y", "5").is_err());
    assert_eq!(f.memory.clear("ada/y").unwrap(), 1);
    f.memory.set_limits("ada", Limits::new()).unwrap();
    f.memory.add("ada/y", "5").unwrap();
    assert_eq!(f.memory.snapshot().unwrap().limits("ada/chat").unwrap(), Limits::new().items(1));
    f.is_clean();
}

#[test]
fn quotas_of_bytes_hold_to_the_byte() {
    let f = Fixture::new();
    let id = f.memory.add("a", "x".repeat(100)).unwrap().id;
    let used = f.memory.usage("a").unwrap().bytes;
    f.memory.set_limits("a", Limits::new().bytes(used + 1)).unwrap();
    let refused = f.memory.update(id, |item| item.content.push_str("yy")).unwrap_err();
    assert!(matches!(refused, MemoryError::Quota { resource: Resource::Bytes, asked: 2, .. }), "{refused}");
    assert_eq!(f.memory.get(id).unwrap().unwrap().content.len(), 100);
    f.memory.update(id, |item| item.content.push('y')).unwrap();
    f.memory.update(id, |item| item.content = "z".repeat(101)).unwrap();
    assert!(f.memory.add("a", "").is_err());
    assert_eq!(f.memory.usage("a").unwrap().bytes, used + 1);
    f.is_clean();
}

fn wait_of(refused: MemoryError) -> Duration {
    assert!(refused.is_retryable() != matches!(refused, MemoryError::Rate { retry_after: Duration::MAX, .. }));
    match refused {
        MemoryError::Rate { retry_after, .. } => retry_after,
        other => panic!("{other}"),
    }
}

#[test]
fn a_rate_is_one_bucket_of_tokens_for_all() {
    let f = Fixture::new();
    f.memory.set_limits("a", Limits::new().rate(3, SECOND * 30)).unwrap();
    // Another handle, as another process has it, takes from the same bucket.
    let other = Memory::new(f.memory.store().clone());
    let (first, second) = (f.memory.add("a", "1").unwrap().id, f.memory.add("a/b", "2").unwrap().id);
    drop(other);
    f.memory.update(first, |item| item.content.push('!')).unwrap();
    assert_eq!(wait_of(f.memory.remove(second).unwrap_err()), SECOND * 10);
    assert_eq!(wait_of(f.memory.add("a", "1!").unwrap_err()), SECOND * 10, "a duplicate is an operation, too");
    f.memory.add("b", "elsewhere").unwrap();
    f.pass(Duration::from_micros(9_999_999));
    assert_eq!(wait_of(f.memory.add("a", "3").unwrap_err()), Duration::from_micros(1));
    f.pass(Duration::from_micros(1));
    f.memory.add("a", "3").unwrap();
    assert!(f.memory.add("a", "4").is_err());
    // No more than a whole bucket is saved up.
    f.pass(SECOND * 10_000);
    f.memory.charge("a/b/c", 3).unwrap();
    assert_eq!(wait_of(f.memory.charge("a", 2).unwrap_err()), SECOND * 20);
    assert_eq!(wait_of(f.memory.charge("a", 4).unwrap_err()), Duration::MAX);
    // A clock that goes back closes nothing for longer than it takes to fill.
    f.set_clock(Timestamp::from_micros(1_000_000));
    f.memory.charge("a", 3).unwrap();
    assert_eq!(wait_of(f.memory.charge("a", 1).unwrap_err()), SECOND * 10);
    f.pass(SECOND * 10);
    f.memory.charge("a", 1).unwrap();
    f.is_clean();
}

#[test]
fn what_is_refused_by_one_limit_takes_nothing_from_another() {
    let f = Fixture::new();
    f.memory.set_limits("", Limits::new().rate(2, SECOND)).unwrap();
    f.memory.set_limits("a", Limits::new().rate(1, SECOND).items(1)).unwrap();
    f.memory.add("a", "1").unwrap();
    assert!(matches!(f.memory.add("a", "2"), Err(MemoryError::Quota { .. })));
    f.memory.set_limits("a", Limits::new().rate(0, SECOND)).unwrap();
    assert_eq!(wait_of(f.memory.add("a", "2").unwrap_err()), Duration::MAX);
    f.memory.add("b", "2").unwrap();
    assert_eq!(wait_of(f.memory.add("b", "3").unwrap_err()), SECOND / 2);
    // Housekeeping takes nothing.
    assert_eq!(f.memory.clear("").unwrap(), 2);
    // An operation that is refused inside a batch takes nothing either, and the batch goes on.
    f.pass(SECOND);
    f.memory
        .write(|tx| {
            assert!(tx.add("b", Draft::new("x").vector("none", [1.0])).is_err());
            tx.add("b", "x")?;
            tx.add("b", "y")?;
            assert!(tx.add("b", "z").is_err());
            Ok::<_, MemoryError>(())
        })
        .unwrap();
    assert_eq!(f.memory.usage("b").unwrap().items, 2);
    f.is_clean();
}

/// How many may run, how many do, and when one of them has to have ended.
fn refusal(refused: MemoryError) -> (u64, u64, Duration) {
    assert!(refused.is_retryable() != matches!(refused, MemoryError::AtOnce { retry_after: Duration::MAX, .. }));
    match refused {
        MemoryError::AtOnce { limit, running, retry_after, .. } => (limit, running, retry_after),
        other => panic!("{other}"),
    }
}

#[test]
fn no_more_operations_run_at_once_than_the_limit_says() {
    let f = Fixture::new();
    f.memory.set_limits("a", Limits::new().at_once(2)).unwrap();
    f.memory.set_limits("a/b", Limits::new().at_once(1)).unwrap();
    let first = f.memory.enter("a/b", SECOND * 30).unwrap();
    f.pass(SECOND);
    // Another handle, as another process has it, counts the same permits.
    let other = Memory::with(f.memory.store().clone(), f.options());
    assert_eq!(refusal(other.enter("a/b/c", SECOND).unwrap_err()), (1, 1, SECOND * 29));
    let second = other.enter("a/x", SECOND * 10).unwrap();
    let refused = f.memory.enter("a", SECOND).unwrap_err();
    let text = "namespace \"a\" allows 2 operations at once, and 2 are running; again in 10.000 s, if none of them ends \
                before or is renewed";
    assert_eq!(refused.to_string(), text);
    f.memory.enter("b", SECOND).unwrap();
    f.is_clean();
    // One that ends makes room, wherever it was; a refused one has taken none.
    drop(first);
    let third = f.memory.enter("a/b", SECOND * 5).unwrap();
    assert_eq!(refusal(f.memory.enter("a", SECOND).unwrap_err()), (2, 2, SECOND * 5));
    second.leave().unwrap();
    third.leave().unwrap();
    let held: Vec<_> = (0..2).map(|_| f.memory.enter("a", SECOND).unwrap()).collect();
    f.memory.set_limits("a", Limits::new().at_once(1)).unwrap();
    assert_eq!(refusal(f.memory.enter("a", SECOND).unwrap_err()), (1, 2, SECOND));
    f.memory.set_limits("a", Limits::new().at_once(0)).unwrap();
    assert_eq!(refusal(f.memory.enter("a", SECOND).unwrap_err()), (0, 2, Duration::MAX));
    drop(held);
    f.is_clean();
    let rows = f.memory.store().read().unwrap().raw("memory.permits").unwrap().len().unwrap();
    assert_eq!(rows, 0, "nothing is left of those that left");
}

#[test]
fn a_lease_ends_what_nobody_ends() {
    let f = Fixture::new();
    f.memory.set_limits("a", Limits::new().at_once(1)).unwrap();
    let killed = f.memory.enter("a", SECOND * 30).unwrap();
    assert_eq!(killed.ends(), Some(f.now() + SECOND * 30));
    f.pass(SECOND * 30 - Duration::from_micros(1));
    assert_eq!(refusal(f.memory.enter("a", SECOND).unwrap_err()), (1, 1, Duration::from_micros(1)));
    killed.renew().unwrap();
    f.pass(SECOND * 29);
    assert_eq!(refusal(f.memory.enter("a", SECOND).unwrap_err()), (1, 1, SECOND));
    f.pass(SECOND);
    // Its place is taken, so that it can neither go on nor take the other's place when it leaves.
    let next = f.memory.enter("a", SECOND * 30).unwrap();
    assert_eq!(refusal(killed.renew().unwrap_err()), (1, 1, SECOND * 30));
    killed.leave().unwrap();
    assert_eq!(refusal(f.memory.enter("a", SECOND).unwrap_err()), (1, 1, SECOND * 30));
    // One whose lease has ended goes on if its place is free.
    f.pass(SECOND * 60);
    next.renew().unwrap();
    assert_eq!(refusal(f.memory.enter("a", SECOND).unwrap_err()), (1, 1, SECOND * 30));
    f.is_clean();
    // What was given before the clock was set back ends at once.
    f.set_clock(Timestamp::from_micros(1_000_000));
    let late = f.memory.enter("a", SECOND * 30).unwrap();
    drop(next);
    assert_eq!(refusal(f.memory.enter("a", SECOND).unwrap_err()), (1, 1, SECOND * 30));
    drop(late);
    // Without a limit nothing is counted, and nothing is written.
    let held = f.memory.enter("a", SECOND).unwrap();
    f.memory.set_limits("a", Limits::new()).unwrap();
    let lsn = f.memory.store().last_commit().unwrap();
    let free = f.memory.enter("a", SECOND).unwrap();
    assert_eq!((free.ends(), f.memory.store().last_commit().unwrap()), (None, lsn));
    held.renew().unwrap();
    assert_eq!(held.ends(), None);
    f.memory.set_limits("a", Limits::new().at_once(1)).unwrap();
    f.memory.enter("a", SECOND).unwrap();
    f.is_clean();
}
