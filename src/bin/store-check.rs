//! Verifies stores in full, beside live writers and without changing a byte.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use memstone::{CheckOptions, Report, Severity};

const DAMAGED: u8 = 4;
const FAILED: u8 = 5;

/// Verify memstone stores in full: every page, key and pointer, the log, and that each page has
/// exactly one use. Other processes may go on using the store; the file is never written.
///
/// Exit status: 0 no damage, 2 wrong usage, 4 damage found in any file, 5 a file could not be
/// checked.
#[derive(Parser)]
#[command(name = "store-check", version)]
struct Args {
    /// The data files.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print one JSON object for each file.
    #[arg(long)]
    json: bool,
    /// Print nothing about files without findings.
    #[arg(short, long)]
    quiet: bool,
    /// Print what each table holds and what the pages are used for.
    #[arg(short, long)]
    verbose: bool,
    /// Print at most this many findings for each file.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    max_findings: usize,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let options = CheckOptions::new().max_findings(args.max_findings);
    let (mut damaged, mut failed) = (false, false);
    for path in &args.files {
        let text = match memstone::check(path, &options) {
            Ok(report) => {
                damaged |= report.damage > 0;
                match (args.json, args.quiet && report.is_clean()) {
                    (_, true) => continue,
                    (true, _) => serde_json::to_string(&report).map(|json| json + "\n").unwrap_or_default(),
                    (false, _) => describe(&report, &args),
                }
            }
            Err(error) => {
                failed = true;
                eprintln!("store-check: {error}");
                if !args.json {
                    continue;
                }
                format!("{}\n", serde_json::json!({ "path": path.to_string_lossy(), "error": error.to_string() }))
            }
        };
        // Whoever reads this may stop early, as `head` does: the exit status still tells.
        let _ = std::io::stdout().write_all(text.as_bytes());
    }
    ExitCode::from(match (damaged, failed) {
        (true, _) => DAMAGED,
        (false, true) => FAILED,
        (false, false) => 0,
    })
}

fn describe(report: &Report, args: &Args) -> String {
    let path = report.path.display();
    let mut lines = Vec::new();
    for finding in &report.findings {
        let severity = match finding.severity {
            Severity::Damage => "damage",
            Severity::Warning => "warning",
        };
        let page = finding.page.map(|page| format!(", page {page}")).unwrap_or_default();
        let table = finding.table.as_ref().map(|table| format!(", table {table:?}")).unwrap_or_default();
        lines.push(format!("{path}: {severity} at byte {}{page}{table}: {}", finding.offset, finding.message));
    }
    let untold = (report.damage + report.warnings).saturating_sub(report.findings.len() as u64);
    if untold > 0 {
        lines.push(format!("{path}: {untold} more findings"));
    }
    lines.extend(report.notes.iter().map(|note| format!("{path}: note: {note}")));
    if args.verbose {
        details(report, &mut lines);
    }
    if !args.quiet {
        let verdict = match (report.damage, report.warnings) {
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
