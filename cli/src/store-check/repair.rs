//! Repairing: what was saved, and what was not.

use std::path::Path;

use memstone::{CheckOptions, RepairOptions, RepairReport, RepairedTable, RootSource};

use crate::{Args, Outcome, print};

/// Repairs one file, and tells what came of it.
pub(crate) fn run(path: &Path, args: &Args) -> Outcome {
    // One that cannot even be checked, because no root slot is left, may be repaired all the same.
    let was_clean = memstone::check(path, &CheckOptions::new()).is_ok_and(|report| report.is_clean());
    if was_clean && args.in_place {
        if !args.quiet {
            print(&format!("{}: sound, nothing to repair\n", path.display()));
        }
        return Outcome::Clean;
    }
    let mut options = RepairOptions::new().in_place(args.in_place).unproven(args.unproven);
    if let Some(output) = &args.output {
        options = options.output(output);
    }
    let report = match memstone::repair(path, &options) {
        Ok(report) => report,
        Err(error) => return Outcome::failed(path, &error, args.json),
    };
    let complete = report.is_complete();
    if !(args.quiet && complete) {
        match args.json {
            true => print(&json(&report, complete)),
            false => print(&describe(&report, complete)),
        }
    }
    match (complete, was_clean) {
        (false, _) => Outcome::Damaged,
        (true, false) => Outcome::Repaired,
        (true, true) => Outcome::Clean,
    }
}

fn json(report: &RepairReport, complete: bool) -> String {
    let mut json = serde_json::to_value(report).unwrap_or_default();
    if let Some(fields) = json.as_object_mut() {
        fields.insert("complete".to_owned(), complete.into());
    }
    format!("{json}\n")
}

fn describe(report: &RepairReport, complete: bool) -> String {
    let path = report.path.display();
    let mut lines: Vec<String> = report.notes.iter().map(|note| format!("{path}: {note}")).collect();
    match report.root {
        RootSource::Older => lines.push(format!("{path}: taken from the older root {}", report.root_sequence)),
        RootSource::Rebuilt => {
            lines.push(format!(
                "{path}: no root slot is whole; taken from the pages of version {}",
                report.root_sequence
            ));
        }
        _ => {}
    }
    if let Some(lost) = report.lost_to_lsn {
        lines.push(format!("{path}: LOST: transactions after LSN {}, up to LSN {lost} at least", report.lsn));
    }
    for frame in &report.frames_beyond {
        let taken = if frame.taken { "taken, unproven" } else { "left out (--unproven takes it)" };
        let (lsn, operations, offset) = (frame.lsn, frame.operations, frame.offset);
        lines.push(format!("{path}: transaction of LSN {lsn}, {operations} operations, at byte {offset}: {taken}"));
    }
    if report.tables_may_be_missing {
        lines.push(format!("{path}: LOST: perhaps whole tables"));
    }
    for name in &report.lost_snapshots {
        lines.push(format!("{path}: LOST: the snapshot named {name:?}; the damaged file has it still"));
    }
    for table in &report.tables {
        describe_table(report, table, &mut lines);
    }
    if let Some(kept) = &report.kept {
        lines.push(format!("{path}: the damaged file is kept as {}", kept.display()));
    }
    let (output, lsn, tables) = (report.output.display(), report.lsn, report.tables.len());
    let entries: u64 = report.tables.iter().map(|table| table.entries).sum();
    let verdict = if complete { "repaired, nothing is lost" } else { "repaired IN PART" };
    lines.push(format!("{path}: {verdict}: {output} ({tables} tables, {entries} entries, up to LSN {lsn})"));
    lines.join("\n") + "\n"
}

fn describe_table(report: &RepairReport, table: &RepairedTable, lines: &mut Vec<String>) {
    let start = format!("{}: table {:?}", report.path.display(), table.name);
    if let Some(named_by) = &table.named_by {
        lines.push(format!("{start} (id {}) is named by {named_by}", table.id));
    }
    match table.lost_rows {
        Some(0) => {}
        Some(rows) => lines.push(format!("{start}: LOST: {rows} rows")),
        None => lines.push(format!("{start}: LOST: perhaps rows; how many cannot be told")),
    }
    for range in &table.lost_ranges {
        let from = range.from.as_ref().map_or("the start".to_owned(), |key| format!("{key:?}"));
        let to = range.to.as_ref().map_or("the end".to_owned(), |key| format!("before {key:?}"));
        lines.push(format!("{start}: from {from} to {to}: page {}: {}", range.page, range.why));
    }
    for value in &table.lost_values {
        lines.push(format!("{start}: LOST: the value of {:?}: page {}: {}", value.key, value.page, value.why));
    }
    for page in &table.salvaged {
        let taken = if page.taken { "taken" } else { "left out (--unproven takes them)" };
        let certainty = format!("{:?}", page.certainty).to_lowercase();
        lines.push(format!(
            "{start}: {} rows of page {}, written for root {}: {certainty}, {taken}",
            page.rows, page.page, page.version
        ));
    }
}
