//! Comparing the tables of the layers on a store, the memory layer and the knowledge graph, with each other: for both commands.

use std::path::Path;

use memstone::{Error, Report};
use serde::Serialize;

/// What was compared, and what does not agree.
#[derive(Default, Serialize)]
pub(crate) struct Compared {
    /// The layers whose tables the store has.
    pub(crate) layers: Vec<&'static str>,
    pub(crate) contradictions: Vec<Contradiction>,
}

/// A row that does not agree with the others, or a table that has too many or too few.
#[derive(Serialize)]
pub(crate) struct Contradiction {
    pub(crate) table: String,
    /// Empty for a table as a whole.
    pub(crate) row: String,
    /// What was expected, and found.
    pub(crate) message: String,
}

impl Contradiction {
    /// As a finding is told of.
    pub(crate) fn describe(&self) -> String {
        let row = if self.row.is_empty() { String::new() } else { format!(", row {}", self.row) };
        format!("contradiction in table {:?}{row}: {}", self.table, self.message)
    }
}

impl Compared {
    /// What to say of them all.
    pub(crate) fn verdict(&self) -> Option<String> {
        let (count, layers) = (self.contradictions.len(), self.layers.join(", "));
        (count > 0)
            .then(|| format!("CONTRADICTORY: {count} in the tables of {layers}: another program has written to them"))
    }

    /// Adds this to a report as JSON.
    pub(crate) fn add_to(&self, json: &mut serde_json::Value) {
        if let (Some(fields), Ok(serde_json::Value::Object(own))) = (json.as_object_mut(), serde_json::to_value(self)) {
            fields.extend(own);
        }
    }
}

/// Compares the newest state of a store whose pages were found to be sound; of a damaged one nothing is compared.
pub(crate) fn compare(path: &Path, report: &Report) -> Result<Compared, Error> {
    if report.damage > 0 { Ok(Compared::default()) } else { compare_layers(path) }
}

#[cfg(feature = "memory")]
fn compare_layers(path: &Path) -> Result<Compared, Error> {
    let store = memstone::Store::options().create(false).read_only(true).open(path)?;
    let report = memstone::memory::check_layers(&store).map_err(|error| match error {
        memstone::memory::MemoryError::Store(error) => error,
        error => Error::abort(error),
    })?;
    let contradiction = |problem: memstone::memory::Problem| Contradiction {
        table: problem.table.to_owned(),
        row: problem.key,
        message: problem.reason,
    };
    Ok(Compared { layers: report.layers, contradictions: report.problems.into_iter().map(contradiction).collect() })
}

/// A command that was built without the memory layer knows no layers.
#[cfg(not(feature = "memory"))]
fn compare_layers(_: &Path) -> Result<Compared, Error> {
    Ok(Compared::default())
}
