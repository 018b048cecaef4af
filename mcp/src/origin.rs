//! Importing the file of the reference server, once.
//!
//! The same transaction that writes the graph notes that it was imported, so several servers that start at once do
//! it once, and a server that is killed meanwhile leaves either all or nothing.

use crate::failure::Failure;
use crate::json_lines;
use memstone::memory::graph::{GraphMut, GraphView};
use memstone::{Store, Table, WriteOptions};
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// The one import of a store, under an empty key.
const ORIGIN: Table<(), Origin> = Table::new("mcp.origin");

/// What was imported.
#[derive(Debug, Serialize, Deserialize)]
struct Origin {
    path: String,
    bytes: u64,
    /// When the file was changed last, in milliseconds since 1970.
    changed: Option<u64>,
    entities: u64,
    relations: u64,
}

/// Imports `source` unless that was done, or the graph has a content of its own. `wait` bounds how long this waits
/// for the turn to write.
pub(crate) fn import_once(store: &Store, source: &Path, wait: Duration) -> Result<(), Failure> {
    let Some((bytes, changed)) = read(source)? else { return Ok(()) };
    let snapshot = store.read()?;
    if let Some(origin) = snapshot.table(ORIGIN)?.get(())? {
        if (origin.bytes, origin.changed) != (size(&bytes), changed) {
            tracing::warn!(
                file = %source.display(),
                "has changed since it was imported; the memory is in the store, and the changes are not read"
            );
        }
        return Ok(());
    }
    if !is_empty(&GraphView::new(&snapshot)?)? {
        tracing::warn!(file = %source.display(), "is not imported: the memory has a content of its own");
        return Ok(());
    }
    drop(snapshot);
    let (graph, others) = json_lines::parse(source, &bytes)?;
    if others > 0 {
        tracing::warn!(file = %source.display(), lines = others, "has lines that are neither entities nor relations");
    }
    let imported = store.transact(WriteOptions::new().timeout(wait), |tx| {
        let origins = tx.table(ORIGIN)?;
        // Another server may have been faster, and even have changed the graph since.
        if origins.get(())?.is_some() {
            return Ok(false);
        }
        let editor = GraphMut::new(tx)?;
        let (entities, relations) = (size(&graph.entities), size(&graph.relations));
        editor.create_entities(&graph.entities)?;
        editor.create_relations(&graph.relations)?;
        let path = source.display().to_string();
        origins.put((), Origin { path, bytes: size(&bytes), changed, entities, relations })?;
        Ok::<_, Failure>(true)
    })?;
    if imported.value {
        let (entities, relations) = (graph.entities.len(), graph.relations.len());
        tracing::info!(file = %source.display(), entities, relations, "imported");
    }
    Ok(())
}

fn is_empty(graph: &GraphView<'_>) -> Result<bool, Failure> {
    let counts = graph.counts()?;
    Ok((counts.entities, counts.relations) == (0, 0))
}

fn size<T>(of: &[T]) -> u64 {
    u64::try_from(of.len()).unwrap_or(u64::MAX)
}

/// The file's content and when it was changed; `None` if there is no such file.
fn read(source: &Path) -> Result<Option<(Vec<u8>, Option<u64>)>, Failure> {
    let wrong = |error: std::io::Error| Failure::Import {
        path: source.to_path_buf(),
        line: None,
        reason: format!("cannot be read: {error}"),
    };
    let bytes = match std::fs::read(source) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        read => read.map_err(wrong)?,
    };
    let changed = std::fs::metadata(source).and_then(|of| of.modified()).map_err(wrong)?;
    let changed = changed.duration_since(SystemTime::UNIX_EPOCH).ok();
    Ok(Some((bytes, changed.and_then(|time| u64::try_from(time.as_millis()).ok()))))
}
