//! memstone in a program that runs on tokio.
//!
//! Calls of the store block: a read for microseconds, a commit for a flush of the disk, a write transaction also
//! until it is its turn. So transactions run on tokio's threads for blocking work. `Store` and `Snapshot` are cheap to
//! clone and may be sent between tasks; a `WriteTxn` stays inside its closure, and so never lives across an `.await`.
//!
//!     cargo run --example async_tokio -- async.mst

use memstone::{Error, Result, Store, Table, WriteTxn};
use std::time::Duration;

const EVENTS: Table<u64, String> = Table::new("events");

/// Runs a write transaction without holding up other tasks.
async fn write<T, F>(store: &Store, body: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce(&WriteTxn) -> Result<T> + Send + 'static,
{
    let store = store.clone();
    blocking(move || store.write(body)).await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Hands on each event, whichever process stores it, until there are `count`.
async fn follow(store: Store, count: usize) -> Result<Vec<String>> {
    let (mut next, mut events) = (0, Vec::new());
    while events.len() < count {
        let snapshot = store.read()?; // never waits for a writer: short reads need no thread of their own
        for entry in snapshot.table(EVENTS)?.range(next..)? {
            let (number, event) = entry?;
            next = number + 1;
            events.push(event);
        }
        let (waiting, seen) = (store.clone(), snapshot.lsn());
        blocking(move || waiting.wait_for_change(seen, Duration::from_secs(1))).await?;
    }
    Ok(events)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let path = std::env::args().nth(1).unwrap_or("async.mst".to_owned());
    let store = blocking(move || Store::open(path)).await?;
    let follower = tokio::spawn(follow(store.clone(), 10));
    for number in 0..10 {
        write(&store, move |tx| {
            let events = tx.table(EVENTS)?;
            let next = events.last()?.map_or(0, |(last, _)| last + 1);
            events.put(next, format!("event {number}"))
        })
        .await?;
    }
    let events = follower.await.map_err(Error::abort)??;
    println!("{} events, the last one is {:?}", events.len(), events.last());
    Ok(())
}
