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
//! Whole programs to copy from are in `examples/`: a notes program with an index, a job queue with leases, a cache with
//! expiry, secondary indexes, several processes, tokio, a change of the schema, moving from a JSON file.

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
