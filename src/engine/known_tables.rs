//! The tables that this process has looked up.

use crate::disk::locks::lock;
use crate::engine::Engine;
use std::collections::HashMap;

/// What stays the same about a table until the set of tables changes.
#[derive(Debug, Clone)]
pub(crate) struct KnownTable {
    pub(crate) id: u32,
    pub(crate) key_type: Box<str>,
    pub(crate) value_type: Box<str>,
}

/// The tables that this process has looked up since the set of tables last changed.
#[derive(Default)]
pub(crate) struct KnownTables {
    /// The transaction that last changed it.
    as_of: u64,
    tables: HashMap<Box<str>, KnownTable>,
}

impl Engine {
    /// A table as this process knows it, and the LSN as of which: the newest change of the set of tables, unless
    /// a process that changed it died before it could publish that. The commit checks it.
    pub(crate) fn known_table(&self, name: &str) -> Option<(KnownTable, u64)> {
        let sidecar = self.sidecar();
        let known = lock(&self.tables);
        let found = known.tables.get(name).filter(|_| sidecar.tables() == Some(known.as_of))?;
        Some((found.clone(), known.as_of))
    }

    pub(crate) fn remember_table(&self, name: &str, table: &KnownTable) {
        let Some(as_of) = self.sidecar().tables() else { return };
        let mut known = lock(&self.tables);
        if known.as_of != as_of {
            known.as_of = as_of;
            known.tables.clear();
        }
        known.tables.insert(name.into(), table.clone());
    }
}
