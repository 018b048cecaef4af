//! Search by words and by vectors at once. Embeddings come from the caller; here, from letters.
//!
//! `cargo run --features memory --example hybrid_search -- "tea in the morning"`

#![allow(missing_docs, reason = "a program")]

use memstone::memory::{Draft, Format, Memory, MemoryError, Query, Space};

/// How often each letter occurs: an embedding that knows spelling, not meaning.
fn embed(text: &str) -> Vec<f32> {
    let mut counts = vec![0.0; 26];
    for letter in text.bytes().filter(u8::is_ascii_alphabetic) {
        if let Some(count) = counts.get_mut(usize::from(letter.to_ascii_lowercase() - b'a')) {
            *count += 1.0;
        }
    }
    counts
}

fn main() -> Result<(), MemoryError> {
    let dir = std::env::temp_dir().join(format!("hybrid-search-{}", std::process::id()));
    std::fs::create_dir_all(&dir)
        .map_err(|error| MemoryError::Invalid { what: "directory", reason: error.to_string() })?;
    let memory = Memory::open(dir.join("memory.mst"))?;
    memory.declare_space("letters", Space::new(26).format(Format::F16))?;
    memory.write(|tx| {
        for text in ["Ada drinks green tea", "Mornings begin with a walk", "The theatre opens at night", "Team meeting"]
        {
            tx.add("ada", Draft::new(text).vector("letters", embed(text)))?;
        }
        Ok::<_, MemoryError>(())
    })?;

    let wanted = std::env::args().nth(1).unwrap_or_else(|| "tea in the morning".to_owned());
    let query = Query::new().under("ada").words(&wanted).vector("letters", embed(&wanted)).limit(3);
    for hit in memory.find(&query)?.hits {
        println!("{:.4}  words {:?}  vector {:?}  {}", hit.score, hit.words, hit.similarity, hit.item.content);
    }
    memory.clear("")?;
    drop(memory);
    let _ = std::fs::remove_dir_all(&dir);
    Ok(())
}
