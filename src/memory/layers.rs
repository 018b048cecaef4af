//! Verifying all layers that a store has, for programs that verify stores.

use crate::memory::Memory;
use crate::memory::check::{self, CheckReport, Problem};
use crate::memory::error::{MemoryError, Result};
use crate::memory::graph::GraphView;
use crate::memory::jobs;
use crate::memory::snapshot::MemorySnapshot;
use crate::{Error, Store};

/// The beginnings of the names of tables, by layer.
const ITEMS: &str = "memory.";
const JOBS: &str = "jobs.";
const GRAPH: &str = "graph.";

/// What [`check_layers`] has compared, and found.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct LayerReport {
    /// The layers whose tables are there: `memory`, `jobs` and `graph`.
    pub layers: Vec<&'static str>,
    /// What does not agree.
    pub problems: Vec<Problem>,
}

/// Compares the tables of each layer that a store has with each other: [`Memory::check`] for items and
/// jobs, and [`GraphView::verify`] for the knowledge graph. A store without them has no layers, and no problems.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// use memstone::memory::{Memory, MemoryError, check_layers};
/// let memory = Memory::open(dir.path().join("memory.mst"))?;
/// assert!(check_layers(memory.store())?.layers.is_empty());
/// memory.add("ada", "likes tea")?;
/// let report = check_layers(memory.store())?;
/// assert!(report.layers == ["memory"] && report.problems.is_empty());
/// # Ok::<(), MemoryError>(())
/// ```
///
/// # Errors
/// [`MemoryError::Store`], [`MemoryError::Layout`]. A table whose rows cannot be read at all is a problem.
pub fn check_layers(store: &Store) -> Result<LayerReport> {
    let tables = store.read()?.tables()?;
    let has = |start: &str| tables.iter().any(|table| table.name.starts_with(start));
    let mut report = LayerReport::default();
    type Check = fn(&Store) -> Result<Vec<Problem>>;
    let checks: [(&str, &str, Check); 3] =
        [("memory", ITEMS, check_items), ("jobs", JOBS, check_jobs), ("graph", GRAPH, check_graph)];
    for (layer, start, check) in checks {
        if !has(start) {
            continue;
        }
        match check(store) {
            // Tables of another program, which have such names.
            Err(MemoryError::Store(Error::TypeMismatch { .. })) => {}
            problems => {
                report.layers.push(layer);
                report.problems.extend(problems?);
            }
        }
    }
    Ok(report)
}

fn check_items(store: &Store) -> Result<Vec<Problem>> {
    problems(|| check::check(&Memory::new(store.clone()).snapshot()?))
}

fn check_jobs(store: &Store) -> Result<Vec<Problem>> {
    problems(|| jobs::check_at(store.read()?))
}

fn problems(check: impl FnOnce() -> Result<CheckReport>) -> Result<Vec<Problem>> {
    let mut report = CheckReport::default();
    if let Some(found) = report.take(check())? {
        report.add(found);
    }
    Ok(report.problems)
}

/// Items and jobs in one state.
pub(super) fn check(snapshot: &MemorySnapshot) -> Result<CheckReport> {
    let mut report = check::check(snapshot)?;
    match jobs::check_at(snapshot.store_snapshot().clone()) {
        // Tables of another program, which have such names.
        Err(MemoryError::Store(Error::TypeMismatch { .. })) => {}
        found => {
            if let Some(found) = report.take(found)? {
                report.add(found);
            }
        }
    }
    Ok(report)
}

fn check_graph(store: &Store) -> Result<Vec<Problem>> {
    let snapshot = store.read()?;
    let problems = GraphView::new(&snapshot).and_then(|graph| graph.verify());
    problems.map_err(|error| MemoryError::Store(error.into()))
}
