//! How fast a client may make changes that take long, such as the parts of an import: they leave most of the time to others.
//!
//! Every process applies what any of them commits, and while a long transaction runs no other one is written. So after each
//! of them its client pauses in proportion to it, if others commit meanwhile. No lock is held in that time, and each call
//! is still one transaction. A client that is alone with the memory never pauses.

use crate::failure::Failure;
use memstone::{Store, WriteOptions, WriteTxn};
use serde_json::Value;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A pause is so many times as long as the change before it, and at most [`LONGEST`].
const PAUSE: u32 = 5;
const LONGEST: Duration = Duration::from_secs(5);
/// A change whose arguments weigh more is bulk: a few pages of text, or some dozens of ids.
const SMALL: usize = 4096;

/// The changes of a client.
#[derive(Debug)]
pub(crate) struct Pace(Mutex<State>);

#[derive(Debug)]
struct State {
    /// The number of its newest transaction, if there was one.
    newest: Option<u64>,
    /// When its next change may begin.
    due: Instant,
}

impl Pace {
    pub(crate) fn new() -> Pace {
        Pace(Mutex::new(State { newest: None, due: Instant::now() }))
    }

    /// When the next change may begin.
    pub(crate) fn due(&self) -> Instant {
        self.state().due
    }

    /// Makes a change, in one write transaction. Its locks are waited for so long.
    pub(crate) fn change<T>(
        &self,
        store: &Store,
        is_bulk: bool,
        timeout: Duration,
        body: impl FnOnce(&WriteTxn) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut began = Instant::now();
        let committed = store.transact(WriteOptions::new().timeout(timeout), |tx| {
            began = Instant::now();
            body(tx)
        })?;
        self.note(committed.lsn, is_bulk.then(|| began.elapsed()), Instant::now());
        Ok(committed.value)
    }

    /// Notes a transaction that has ended now, and how long it took if that matters.
    pub(crate) fn note(&self, lsn: u64, took: Option<Duration>, now: Instant) {
        let mut state = self.state();
        let others = state.newest.is_some_and(|newest| lsn > newest + 1);
        state.newest = state.newest.max(Some(lsn));
        if let Some(took) = took.filter(|_| others) {
            state.due = now + (took * PAUSE).min(LONGEST);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a change with these arguments is bulk.
pub(crate) fn is_bulk(arguments: &Value) -> bool {
    weight(arguments) > SMALL
}

/// How much there is to index: the bytes of texts, and something for each of them. The numbers of a vector are one row.
fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 32,
        Value::Array(values) => values.iter().map(weight).sum(),
        Value::Object(members) => members.values().map(weight).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 1,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use serde_json::json;

    fn put(pace: &Pace, store: &Store, is_bulk: bool) {
        let body = |tx: &WriteTxn| Ok(tx.raw("t")?.put(b"key", b"value")?);
        pace.change(store, is_bulk, Duration::from_secs(10), body).unwrap();
    }

    #[test]
    fn a_client_pauses_after_bulk_changes_while_others_commit() {
        let store = Store::in_memory().unwrap();
        let (bulky, other) = (Pace::new(), Pace::new());
        let at_first = bulky.due();
        for _ in 0..3 {
            put(&bulky, &store, true);
            assert_eq!(bulky.due(), at_first, "it is alone");
        }
        put(&other, &store, false);
        put(&bulky, &store, false);
        assert_eq!(bulky.due(), at_first, "it is small");
        put(&other, &store, false);
        put(&bulky, &store, true);
        assert!(bulky.due() > at_first);
        let due = bulky.due();
        put(&bulky, &store, true);
        assert_eq!(bulky.due(), due, "it is alone again");
    }

    #[test]
    fn a_pause_is_in_proportion_and_has_an_end() {
        let (pace, now) = (Pace::new(), Instant::now() + LONGEST);
        for (lsn, took, pause) in [
            (1, Duration::from_millis(10), None),
            (7, Duration::from_millis(10), Some(Duration::from_millis(10) * PAUSE)),
            (6, Duration::from_millis(70), None),
            (9, Duration::from_secs(3600), Some(LONGEST)),
        ] {
            let before = pace.due();
            pace.note(lsn, Some(took), now);
            assert_eq!(pace.due(), pause.map_or(before, |pause| now + pause));
        }
    }

    #[test]
    fn many_texts_or_a_long_one_are_bulk() {
        assert!(!is_bulk(
            &json!({ "memories": [{ "content": "a".repeat(1000), "vectors": { "v": vec![0.5; 2048] } }] })
        ));
        assert!(is_bulk(&json!({ "memories": [{ "content": "a".repeat(SMALL + 1) }] })));
        assert!(is_bulk(&json!({ "ids": vec!["01234567-89ab-cdef-0123-456789abcdef"; 64] })));
    }
}
