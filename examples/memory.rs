//! An assistant's memory: remember, recall, correct, forget. Any number of processes may run this on one file.
//!
//! `cargo run --features memory --example memory -- memory.mst`

#![allow(missing_docs, reason = "a program")]

use memstone::memory::{Draft, Limits, Memory, MemoryError, Query};
use serde_json::json;
use std::time::Duration;

fn main() -> Result<(), MemoryError> {
    let memory = Memory::open(std::env::args().nth(1).unwrap_or_else(|| "memory.mst".to_owned()))?;
    memory.declare_field("source")?;
    memory.set_limits("ada", Limits::new().items(10_000).rate(100, Duration::from_secs(60)))?;

    let tea = memory.add("ada/chat", Draft::new("Ada drinks green tea in the morning").metadata("source", "chat"))?;
    println!("{} {}", tea.id, if tea.duplicate { "was known" } else { "is new" });
    memory.add("ada/chat", Draft::new("Ada is on the train until noon").expires_in(Duration::from_secs(3 * 3600)))?;

    for hit in memory.find(&Query::new().under("ada").words("what does Ada drink").limit(3))?.hits {
        println!("{:.2} {}", hit.score, hit.item.content);
    }
    // The edit may take long, ask a model, and run again if another process changed the item meanwhile.
    let corrected = memory.edit(tea.id, |item| {
        item.tags.insert("habits".to_owned());
        Ok::<_, MemoryError>(())
    })?;
    memory.patch(tea.id, &json!({"metadata": {"certain": true}}))?;
    println!("version {} of {:?}", corrected.version, corrected.content);
    println!("{} items expired; {} are left", memory.sweep(1000)?, memory.usage("ada")?.items);
    Ok(())
}
