//! `memstone backups`: lists a directory of backups.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Args;
use memstone::{BackupDir, BackupEntry, BackupState};
use serde_json::json;

use crate::backup::kind_name;
use crate::clock::rfc3339;
use crate::failure::Failure;
use crate::output::{Output, columns};
use crate::text::escaped;

/// List a directory of backups: age, size, kind, and whether each can be used
///
/// "good" is what is whole as far as its own words and those of what it builds on tell. With --verify
/// each is read in full, with all that it builds on; the exit code is 4 if one is damaged.
#[derive(Args)]
pub(crate) struct Backups {
    /// The directory
    dir: PathBuf,
    /// Read and verify each of them in full
    #[arg(long)]
    verify: bool,
}

impl Backups {
    pub(crate) fn run(self, out: &mut Output) -> Result<ExitCode, Failure> {
        let backups = BackupDir::open(&self.dir)?;
        let mut rows =
            vec![["AGE", "TIME", "KIND", "BYTES", "ROWS", "LSN", "STATE", "FILE"].map(str::to_owned).to_vec()];
        let mut damaged = false;
        for entry in backups.list()? {
            let state = match (&entry.state, self.verify) {
                (BackupState::Good, true) => match backups.verify(&entry) {
                    Ok(()) => "verified".to_owned(),
                    Err(error) => {
                        damaged = true;
                        format!("damaged: {error}")
                    }
                },
                (BackupState::Good, false) => "good".to_owned(),
                (BackupState::BaseMissing, _) => "its base is missing".to_owned(),
                (BackupState::Unreadable(why), _) => format!("unreadable: {why}"),
                (_, _) => "unknown".to_owned(),
            };
            damaged |= self.verify && entry.state != BackupState::Good;
            match out.json() {
                true => out.line(json!({
                    "path": entry.path, "bytes": entry.bytes, "state": state, "manifest": entry.manifest,
                }))?,
                false => rows.push(row(&entry, &state)),
            }
        }
        if !out.json() {
            columns(&rows).into_iter().try_for_each(|line| out.line(line))?;
        }
        Ok(if damaged { ExitCode::from(4) } else { ExitCode::SUCCESS })
    }
}

fn row(entry: &BackupEntry, state: &str) -> Vec<String> {
    let name = entry.path.file_name().unwrap_or_default().as_encoded_bytes();
    let (name, state) = (escaped(name), escaped(state.as_bytes()));
    let Some(manifest) = &entry.manifest else {
        let unknown = || "?".to_owned();
        return vec![unknown(), unknown(), unknown(), entry.bytes.to_string(), unknown(), unknown(), state, name];
    };
    let age = SystemTime::now().duration_since(manifest.time()).map_or("ahead".to_owned(), age);
    let (kind, rows) = (kind_name(manifest.kind).to_owned(), manifest.rows().to_string());
    vec![age, rfc3339(manifest.time()), kind, entry.bytes.to_string(), rows, manifest.lsn.to_string(), state, name]
}

/// A time in its largest unit.
fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}
