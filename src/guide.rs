//! The guide: what to know, in twenty minutes, chapter by chapter.
//!
//! 1. [Concepts in five minutes](concepts)
//! 2. [Transactions](transactions)
//! 3. [Keys and order](keys)
//! 4. [Schema changes](schema_changes)
//! 5. [Async programs](async_programs)
//! 6. [Several processes](processes)
//! 7. [Following changes](following)
//! 8. [Backups](backups)
//! 9. [Performance](performance)
//! 10. [When not to use it](when_not), and a comparison with other engines
//!
//! Whole programs to copy from, of some sixty lines each: notes with an index (`examples/notes.rs`), a queue of jobs with
//! leases (`examples/job_queue.rs`), a cache with expiry (`examples/cache.rs`), secondary indexes
//! (`examples/secondary_indexes.rs`), several processes (`examples/several_processes.rs`), tokio
//! (`examples/async_tokio.rs`), a change of the schema (`examples/schema_change.rs`), moving from a JSON file
//! (`examples/from_json.rs`).

macro_rules! chapters {
    ($($name:ident),+) => {
        $(
            #[doc = include_str!(concat!("../docs/guide/", stringify!($name), ".md"))]
            pub mod $name {}
        )+
    };
}

chapters!(
    concepts,
    transactions,
    keys,
    schema_changes,
    async_programs,
    processes,
    following,
    backups,
    performance,
    when_not
);
