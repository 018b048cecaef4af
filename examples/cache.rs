//! A cache with expiry, shared by all processes: entries that are over are not returned, and swept in small steps.
//!
//!     cargo run --example cache -- cache.mst

use memstone::{Durability, Result, Store, Table, WriteOptions};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Cached {
    /// In seconds since 1970, as are all times here.
    expires: u64,
    value: String,
}

const CACHE: Table<&str, Cached> = Table::new("cache");
const BY_EXPIRY: Table<(u64, &str), ()> = Table::new("cache by expiry");

/// A cache may lose its newest entries in a power loss: no commit waits for the disk.
fn relaxed() -> WriteOptions {
    WriteOptions::new().durability(Durability::Relaxed)
}

fn put(store: &Store, key: &str, value: &str, expires: u64) -> Result<()> {
    store.write_with(relaxed(), |tx| {
        let cached = Cached { expires, value: value.to_owned() };
        if let Some(old) = tx.table(CACHE)?.insert(key, cached)? {
            tx.table(BY_EXPIRY)?.delete((old.expires, key))?;
        }
        tx.table(BY_EXPIRY)?.put((expires, key), ())
    })
}

fn get(store: &Store, key: &str, now: u64) -> Result<Option<String>> {
    let found = store.read()?.table(CACHE)?.get(key)?;
    Ok(found.filter(|cached| cached.expires > now).map(|cached| cached.value))
}

/// Removes at most `limit` entries that are over: a short transaction does not hold up other writers. Returns how
/// many it removed; fewer than `limit`: none is left.
fn sweep(store: &Store, now: u64, limit: usize) -> Result<usize> {
    store.write_with(relaxed(), |tx| {
        let (cache, by_expiry) = (tx.table(CACHE)?, tx.table(BY_EXPIRY)?);
        let mut removed = 0;
        while removed < limit
            && let Some(((expires, key), ())) = by_expiry.first()?
            && expires <= now
        {
            by_expiry.delete((expires, &key))?;
            cache.delete(&key)?;
            removed += 1;
        }
        Ok(removed)
    })
}

fn main() -> Result<()> {
    let store = Store::open(std::env::args().nth(1).unwrap_or("cache.mst".to_owned()))?;
    for minute in 0..100 {
        put(&store, &format!("answer {minute}"), "…", minute * 60)?;
    }
    put(&store, "answer 7", "a longer life", 1_000_000)?;
    let now = 50 * 60;
    println!("answer 7: {:?}", get(&store, "answer 7", now)?);
    println!("answer 8: {:?}", get(&store, "answer 8", now)?);
    while sweep(&store, now, 10)? == 10 {}
    println!("{} left", store.read()?.table(CACHE)?.len()?);
    Ok(())
}
