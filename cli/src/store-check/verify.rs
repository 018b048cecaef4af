//! Verifying: what is found in each file.

use std::path::Path;

use memstone::{CheckOptions, Report, Severity};

use crate::layers::{self, Compared};
use crate::{Args, Outcome, print};

/// Verifies one file, and tells what is found.
pub(crate) fn run(path: &Path, args: &Args) -> Outcome {
    let options = CheckOptions::new().max_findings(args.max_findings).values(args.values);
    let checked = memstone::check(path, &options).and_then(|report| {
        let compared = if args.values { layers::compare(path, &report)? } else { Compared::default() };
        Ok((report, compared))
    });
    let (report, compared) = match checked {
        Ok(checked) => checked,
        Err(error) => return Outcome::failed(path, &error, args.json),
    };
    let is_sound = report.damage == 0 && compared.contradictions.is_empty();
    if !args.quiet || !report.is_clean() || !is_sound {
        match args.json {
            true => print(&json(&report, &compared, args)),
            false => print(&describe(&report, &compared, args)),
        }
    }
    if is_sound { Outcome::Clean } else { Outcome::Damaged }
}

fn json(report: &Report, compared: &Compared, args: &Args) -> String {
    let mut json = serde_json::to_value(report).unwrap_or_default();
    if args.values {
        compared.add_to(&mut json);
    }
    format!("{json}\n")
}

fn describe(report: &Report, compared: &Compared, args: &Args) -> String {
    let path = report.path.display();
    let mut lines = Vec::new();
    for finding in &report.findings {
        let severity = match finding.severity {
            Severity::Damage => "damage",
            _ => "warning",
        };
        let page = finding.page.map(|page| format!(", page {page}")).unwrap_or_default();
        let table = finding.table.as_ref().map(|table| format!(", table {table:?}")).unwrap_or_default();
        lines.push(format!("{path}: {severity} at byte {}{page}{table}: {}", finding.offset, finding.message));
    }
    let untold = (report.damage + report.warnings).saturating_sub(report.findings.len() as u64);
    if untold > 0 {
        lines.push(format!("{path}: {untold} more findings"));
    }
    let told = compared.contradictions.iter().take(args.max_findings);
    lines.extend(told.map(|contradiction| format!("{path}: {}", contradiction.describe())));
    lines.extend(report.notes.iter().map(|note| format!("{path}: note: {note}")));
    if args.verbose {
        details(report, &mut lines);
    }
    if !args.quiet {
        let contradictory = compared.verdict();
        let verdict = match (report.damage, report.warnings) {
            (0, _) if contradictory.is_some() => contradictory.unwrap_or_default(),
            (0, 0) => "sound".to_owned(),
            (0, warnings) => format!("sound, {warnings} warnings"),
            (damage, warnings) => format!("DAMAGED: {damage} findings, {warnings} warnings"),
        };
        let tables = report.tables.iter().filter(|table| !table.internal);
        lines.push(format!(
            "{path}: {verdict} (root {}, LSN {}, {} tables, {} entries, {} pages)",
            report.root_sequence,
            report.lsn,
            tables.clone().count(),
            tables.map(|table| table.entries).sum::<u64>(),
            report.pages.total
        ));
    }
    lines.join("\n") + "\n"
}

fn details(report: &Report, lines: &mut Vec<String>) {
    let path = report.path.display();
    let pages = &report.pages;
    lines.push(format!(
        "{path}: store {}, format {}, {} bytes in pages of {}",
        report.store_id, report.format_version, report.file_bytes, report.page_size
    ));
    lines.push(format!(
        "{path}: pages: {} slots, {} log, {} tree, {} long values, {} free map, {} free, {} pending, {} lost",
        pages.slots, pages.log, pages.tree, pages.values, pages.free_map, pages.free, pages.pending, pages.lost
    ));
    lines.push(format!(
        "{path}: log: {} frames in {} of {} bytes, from LSN {} to {}",
        report.log_frames, report.log_bytes, report.log_capacity, report.checkpoint_lsn, report.lsn
    ));
    for table in &report.tables {
        let space = table.node_pages * u64::from(report.page_size);
        let fill = (table.node_bytes * 100).checked_div(space).unwrap_or(0);
        lines.push(format!(
            "{path}: table {:?} (id {}): {} entries, {} levels, {} leaves, {} branches, {fill} % full, \
             {} long values in {} pages, keys {} bytes, values {} bytes",
            table.name,
            table.id,
            table.entries,
            table.levels,
            table.leaves,
            table.branches,
            table.long_values,
            table.long_value_pages,
            table.key_bytes,
            table.value_bytes
        ));
    }
}
