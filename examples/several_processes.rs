//! Several processes, one file, nothing configured: this program starts itself four times, and no count is lost.
//!
//!     cargo run --example several_processes -- shared.mst

use memstone::{Error, Result, Store, Table};
use std::process::{Child, Command};
use std::time::Duration;

const COUNTS: Table<&str, u64> = Table::new("counts");
const ROUNDS: u64 = 50;

/// Increments are read-modify-write: the transaction makes sure that no other process comes between.
fn work(store: &Store, name: &str) -> Result<()> {
    for _ in 0..ROUNDS {
        store.write(|tx| {
            let counts = tx.table(COUNTS)?;
            counts.update("all", |count| Some(count.unwrap_or(0) + 1))?;
            counts.update(name, |count| Some(count.unwrap_or(0) + 1))?;
            Ok(())
        })?;
    }
    Ok(())
}

/// Prints what other processes commit, until the count is complete.
fn follow(store: &Store, goal: u64) -> Result<()> {
    let mut seen = 0;
    loop {
        let snapshot = store.read()?;
        let count = snapshot.table(COUNTS)?.get("all")?.unwrap_or(0);
        assert!(count >= seen, "a counter never goes back");
        seen = count;
        if count == goal {
            return Ok(());
        }
        // Sleeps until a process commits something newer than this snapshot.
        store.wait_for_change(snapshot.lsn(), Duration::from_secs(1))?;
    }
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().unwrap_or("shared.mst".to_owned());
    let store = Store::open(&path)?;
    if let Some(name) = arguments.next() {
        let worked = work(&store, &name);
        // The error names the process that holds the lock; see `Options::timeout`.
        if let Err(Error::Busy { holder: Some(holder), .. }) = &worked {
            eprintln!("{holder} was writing for too long");
        }
        return Ok(worked?);
    }
    let before = store.read()?.table(COUNTS)?.get("all")?.unwrap_or(0);
    let program = std::env::current_exe()?;
    let names = ["ada", "bob", "cyd", "dan"];
    let start = |name: &&str| Command::new(&program).args([&path, *name]).spawn();
    let children: Vec<Child> = names.iter().map(start).collect::<std::result::Result<_, _>>()?;
    follow(&store, before + names.len() as u64 * ROUNDS)?;
    for mut child in children {
        child.wait()?;
    }
    for entry in store.read()?.table(COUNTS)?.range(..)? {
        let (name, count) = entry?;
        println!("{name}: {count}");
    }
    Ok(())
}
