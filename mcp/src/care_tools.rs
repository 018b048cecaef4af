//! The tools that look after the memory: its health, and backups. They are not in the list unless
//! they are asked for, since each tool in it costs an assistant attention.

use crate::care::{Care, name_of};
use crate::failure::Failure;
use crate::metrics_tools::warnings_of;
use crate::shape::{Field, Shape};
use crate::tool::{Answer, Effect, Tool, Work};
use memstone::memory::check_layers;
use memstone::memory::graph::{GraphMut, GraphView, Subgraph};
use memstone::memory::jobs::Jobs;
use memstone::{BackupDir, BackupState, CheckOptions, DiagnoseOptions, Keep, Options, RestoreOptions};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::Path;

const NOTHING: Shape = Shape::Object(&[]);
pub(crate) const COUNTS: Shape = Shape::Object(&[
    Field::new("entities", Shape::Count, ""),
    Field::new("observations", Shape::Count, ""),
    Field::new("relations", Shape::Count, ""),
]);
const BACKUP: &[Field] = &[
    Field::new("name", Shape::Text, "The name of the backup, for restore_backup"),
    Field::new("bytes", Shape::Count, "The size of its file"),
    Field::new("rows", Shape::Count, "The number of rows in it"),
    Field::new("removed", Shape::List(&Shape::Text), "The names of the backups that were removed"),
];

/// The tools.
pub(crate) const TOOLS: &[Tool] = &[
    Tool {
        name: "get_system_health",
        title: "Get System Health",
        about: "Report whether the memory is in order, what needs attention, and what to do about it",
        input: NOTHING,
        output: Shape::Object(&[
            Field::new("status", Shape::Text, "good, note, attention, or damage"),
            Field::new("concerns", Shape::List(&Shape::Any), "What needs attention, the most urgent first"),
            Field::new("file", Shape::Text, "The file of the memory"),
            Field::new("processes", Shape::Count, "How many processes have it open"),
            Field::new("graph", COUNTS, "How much the knowledge graph holds"),
            Field::new("memories", Shape::Count, "How many memories there are"),
            Field::new("jobs", Shape::Count, "How many jobs there are that have not ended, and dead ones"),
            Field::new(
                "warnings",
                Shape::List(&Shape::Text),
                "Which figures have reached their thresholds, and what to do",
            ),
        ]),
        effect: Effect::Reads,
        work: Work::Care(get_system_health),
    },
    Tool {
        name: "check_integrity",
        title: "Check Integrity",
        about: "Verify every byte of the memory, and every index of memories, of jobs and of the knowledge graph",
        input: NOTHING,
        output: Shape::Object(&[
            Field::new("clean", Shape::Flag, "Whether nothing is wrong"),
            Field::new("findings", Shape::List(&Shape::Text), "What is wrong"),
        ]),
        effect: Effect::Reads,
        work: Work::Care(check_integrity),
    },
    Tool {
        name: "create_backup",
        title: "Create Backup",
        about: "Make a backup of the memory beside it, while it is in use, and remove older ones by a rule if one is given",
        input: Shape::Object(&[Field::optional(
            "keep",
            Shape::Text,
            "Remove what this rule does not keep, e.g. 7d,4w,12m: the last backup of each of 7 days, 4 weeks and 12 months \
             (also h and y)",
        )]),
        output: Shape::Object(BACKUP),
        effect: Effect::Keeps,
        work: Work::Care(create_backup),
    },
    Tool {
        name: "list_backups",
        title: "List Backups",
        about: "List the backups of the memory, oldest first",
        input: NOTHING,
        output: Shape::Object(&[
            Field::new("directory", Shape::Text, "Where they are"),
            Field::new("backups", Shape::List(&Shape::Any), "Name, size, number of rows, and whether it can be used"),
        ]),
        effect: Effect::Reads,
        work: Work::Care(list_backups),
    },
    Tool {
        name: "restore_backup",
        title: "Restore Backup",
        about: "Replace the knowledge graph by the one in a backup. Memories stay as they are. The present state is backed up before",
        input: Shape::Object(&[Field::new("name", Shape::Text, "The name of the backup, from list_backups")]),
        output: Shape::Object(&[
            Field::new("graph", COUNTS, "How much the memory holds now"),
            Field::new("before", Shape::Text, "The name of the backup of the state before"),
        ]),
        effect: Effect::Removes,
        work: Work::Care(restore_backup),
    },
];

fn get_system_health(care: &Care<'_>, _: &Value) -> Result<Answer, Failure> {
    let backups = care.backups();
    let options = DiagnoseOptions::new();
    let options = if backups.is_dir() { options.backups(backups) } else { options };
    let diagnosis = memstone::diagnose(care.store.path(), &options)?;
    let snapshot = care.store.read()?;
    Answer::of(json!({
        "status": diagnosis.urgency().map_or(json!("good"), |urgency| json!(urgency)),
        "concerns": diagnosis.concerns,
        "file": care.store.path().display().to_string(),
        "processes": diagnosis.processes.len(),
        "graph": GraphView::new(&snapshot)?.counts()?,
        "memories": care.items.usage("")?.items,
        "jobs": Jobs::of(care.items).held("")?,
        "warnings": warnings_of(care.items)?,
    }))
}

fn check_integrity(care: &Care<'_>, _: &Value) -> Result<Answer, Failure> {
    let options = CheckOptions::new().values(true);
    let report =
        memstone::check_with(care.store.path(), &options, |progress| care.step(progress.bytes, progress.total))?;
    let mut findings: Vec<String> =
        report.findings.iter().map(|found| format!("byte {}: {}", found.offset, found.message)).collect();
    // Of a damaged store the tables are not compared.
    if report.damage == 0 {
        findings.extend(check_layers(care.store)?.problems.iter().map(ToString::to_string));
    }
    Answer::of(json!({ "clean": report.is_clean() && findings.is_empty(), "findings": findings }))
}

fn create_backup(care: &Care<'_>, arguments: &Value) -> Result<Answer, Failure> {
    #[derive(Deserialize)]
    struct Arguments {
        keep: Option<String>,
    }
    // A rule that is none is refused before anything is done.
    let keep = Arguments::deserialize(arguments)?.keep.map(|rule| rule.parse::<Keep>()).transpose()?;
    let (name, bytes, rows) = care.back_up()?;
    let removed = keep.map(|keep| BackupDir::open(care.backups())?.prune(&keep)).transpose()?.unwrap_or_default();
    let removed: Vec<String> = removed.iter().map(|path| name_of(path)).collect();
    Answer::of(json!({ "name": name, "bytes": bytes, "rows": rows, "removed": removed }))
}

fn list_backups(care: &Care<'_>, _: &Value) -> Result<Answer, Failure> {
    let directory = care.backups();
    let entries = if directory.is_dir() { BackupDir::open(&directory)?.list()? } else { Vec::new() };
    let backups: Vec<Value> = entries
        .into_iter()
        .map(|entry| {
            let state = match &entry.state {
                BackupState::Good => "good".to_owned(),
                BackupState::Unreadable(reason) => reason.clone(),
                _ => "what it builds on is missing".to_owned(),
            };
            let rows = entry.manifest.map_or(0, |manifest| manifest.rows());
            json!({ "name": name_of(&entry.path), "bytes": entry.bytes, "rows": rows, "state": state })
        })
        .collect();
    Answer::of(json!({ "directory": directory.display().to_string(), "backups": backups }))
}

/// The graph alone is put back, in one transaction: the store stays the same file for all servers that have it open.
fn restore_backup(care: &Care<'_>, arguments: &Value) -> Result<Answer, Failure> {
    #[derive(Deserialize)]
    struct Arguments {
        name: String,
    }
    let Arguments { name } = Arguments::deserialize(arguments)?;
    let directory = care.backups();
    let entries = if directory.is_dir() { BackupDir::open(&directory)?.list()? } else { Vec::new() };
    let backup = entries.into_iter().find(|entry| name_of(&entry.path) == name);
    let backup = backup.ok_or_else(|| Failure::Place(format!("There is no backup named {name}; see list_backups")))?;
    let graph = graph_in(care, &backup.path, &directory)?;
    let before = care.write_bulk(|tx| {
        // No other transaction can come between this backup and the change.
        let (before, _, _) = care.back_up()?;
        let editor = GraphMut::new(tx)?;
        editor.clear()?;
        editor.create_entities(&graph.entities)?;
        editor.create_relations(&graph.relations)?;
        Ok(before)
    })?;
    let snapshot = care.store.read()?;
    Answer::of(json!({ "graph": GraphView::new(&snapshot)?.counts()?, "before": before }))
}

/// The graph in a backup, which is restored in a directory of its own for this.
fn graph_in(care: &Care<'_>, backup: &Path, directory: &Path) -> Result<Subgraph, Failure> {
    let place = directory.join(format!(".restoring-{}", std::process::id()));
    let trouble = |error: std::io::Error| Failure::Place(format!("{}: {error}", place.display()));
    std::fs::create_dir(&place).map_err(trouble)?;
    let restored = place.join("memory.mst");
    let options = RestoreOptions::new().progress(|progress| care.step(progress.rows, progress.total_rows));
    let graph = memstone::restore(backup, &restored, options).map_err(Failure::from).and_then(|_| {
        let store = Options::new().create(false).open(&restored)?;
        let graph = GraphView::new(&store.read()?)?.whole()?;
        store.close()?;
        Ok(graph)
    });
    std::fs::remove_dir_all(&place).map_err(trouble)?;
    graph
}
