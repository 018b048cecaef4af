//! `memstone check`: verifies a store in full. `store-check` does more: several stores, repair.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use memstone::{CheckOptions, Severity};
use serde_json::json;

use crate::failure::Failure;
use crate::layers::{self, Compared};
use crate::output::Output;
use crate::progress::Progress;

/// Verify a store in full, beside live writers; exits with 4 if it is damaged
#[derive(Args)]
pub(crate) struct Check {
    /// The store's file
    file: PathBuf,
    /// Hold values against the type that their table notes, as keys always are, and the tables of the memory layer and of
    /// a knowledge graph against each other
    #[arg(long)]
    values: bool,
}

impl Check {
    pub(crate) fn run(self, out: &mut Output) -> Result<ExitCode, Failure> {
        let progress = Progress::new()?;
        let options = CheckOptions::new().values(self.values);
        let report = memstone::check_with(&self.file, &options, |told| progress.tell_bytes(told))?;
        drop(progress);
        let compared = if self.values { layers::compare(&self.file, &report)? } else { Compared::default() };
        let is_sound = report.damage == 0 && compared.contradictions.is_empty();
        let code = ExitCode::from(if is_sound { 0 } else { 4 });
        if out.json() {
            let mut report = json!(report);
            if self.values {
                compared.add_to(&mut report);
            }
            out.line(report)?;
            return Ok(code);
        }
        for finding in &report.findings {
            let severity = if finding.severity == Severity::Damage { "damage" } else { "warning" };
            let table = finding.table.as_ref().map(|table| format!(", table {table:?}")).unwrap_or_default();
            out.line(format!("{severity} at byte {}{table}: {}", finding.offset, finding.message))?;
        }
        for contradiction in &compared.contradictions {
            out.line(contradiction.describe())?;
        }
        if let Some(verdict) = compared.verdict() {
            out.line(verdict)?;
            return Ok(code);
        }
        let (damage, warnings) = (report.damage, report.warnings);
        let verdict = if damage > 0 { "DAMAGED: `store-check --repair` saves what can be saved" } else { "sound" };
        out.line(format!("{verdict} ({damage} findings of damage, {warnings} warnings, up to LSN {})", report.lsn))?;
        Ok(code)
    }
}
