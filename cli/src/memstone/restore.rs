//! `memstone restore`: brings a store back.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::Args;
use memstone::{Moment, RestoreOptions};
use serde_json::json;

use crate::clock::rfc3339;
use crate::failure::Failure;
use crate::output::Output;
use crate::progress::Progress;

/// Bring a store back from a backup, a directory of backups, or a stream
///
/// All of the source is verified before anything is changed. A store that is replaced is kept as
/// FILE.before-restore-TIME. Refused while a process has FILE open, which is named.
#[derive(Args)]
pub(crate) struct Restore {
    /// A backup, a directory of backups, or `-` for a stream on standard input
    source: PathBuf,
    /// The store's file
    file: PathBuf,
    /// From a directory: the newest backup made at this time or before, such as 2026-11-21, 2026-11-21T15:45 (UTC) or 2026-11-21T15:45:06+01:00
    #[arg(long, value_name = "DATE", value_parser = date)]
    at: Option<SystemTime>,
    /// From a directory with an archive: this very moment, as a time (as with --at), as the number of a transaction, or `latest`
    #[arg(long, value_name = "TIME|LSN", value_parser = moment, conflicts_with = "at")]
    to: Option<Moment>,
    /// Replace a store that is there
    #[arg(long)]
    overwrite: bool,
}

/// A date alone means all of that day.
fn date(text: &str) -> Result<SystemTime, String> {
    use jiff::civil::{Date, DateTime, Time};
    use jiff::{Timestamp, tz::TimeZone};
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time.into());
    }
    let civil = match (text.contains([':', 'T']), text.parse::<Date>()) {
        (false, Ok(date)) => Ok(date.to_datetime(Time::MAX)),
        _ => text.parse::<DateTime>(),
    };
    let time = civil.and_then(|time| time.to_zoned(TimeZone::UTC)).map_err(|error| error.to_string())?;
    Ok(time.timestamp().into())
}

/// Digits alone are the number of a transaction.
fn moment(text: &str) -> Result<Moment, String> {
    match text {
        "latest" => Ok(Moment::Newest),
        _ if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            text.parse().map(Moment::Lsn).map_err(|error: std::num::ParseIntError| error.to_string())
        }
        _ => date(text).map(Moment::Time),
    }
}

impl Restore {
    pub(crate) fn run(self, out: &mut Output) -> Result<(), Failure> {
        let progress = Progress::new()?;
        let options = RestoreOptions::new().overwrite(self.overwrite).progress(|told| progress.tell(told));
        let options = self.at.into_iter().fold(options, RestoreOptions::at);
        let options = self.to.into_iter().fold(options, RestoreOptions::to);
        let report = match self.source == Path::new("-") {
            true => {
                let spooled = Spooled::read(&self.file)?;
                memstone::restore(&spooled.0, &self.file, options)?
            }
            false => {
                if (self.at.is_some() || self.to.is_some()) && !self.source.is_dir() {
                    return Err(Failure::Usage("--at and --to choose from a directory of backups".to_owned()));
                }
                memstone::restore(&self.source, &self.file, options)?
            }
        };
        if out.json() {
            return out.line(json!({
                "path": self.file, "source": report.source, "replaced": report.replaced, "manifest": report.manifest,
            }));
        }
        let (manifest, file) = (&report.manifest, self.file.display());
        let made = rfc3339(manifest.time());
        out.line(format_args!("{file}: {} rows, up to transaction {}, as of {made}", manifest.rows(), manifest.lsn))?;
        report.replaced.map_or(Ok(()), |kept| out.line(format_args!("{}: what was there before", kept.display())))
    }
}

/// Standard input in a file: a stream is read from its end.
struct Spooled(PathBuf);

impl Spooled {
    fn read(beside: &Path) -> Result<Spooled, Failure> {
        let name = beside.file_name().unwrap_or_default().to_string_lossy();
        let spooled = Spooled(beside.with_file_name(format!(".{name}.{}.stream", std::process::id())));
        let mut file = fs::File::create_new(&spooled.0)?;
        io::copy(&mut io::stdin().lock(), &mut file)?;
        Ok(spooled)
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let text = |text: &str| date(text).map(rfc3339);
        assert_eq!(text("2026-11-21"), Ok("2026-11-21T23:59:59.999Z".to_owned()));
        assert_eq!(text("2026-11-21T15:45"), Ok("2026-11-21T15:45:00.000Z".to_owned()));
        assert_eq!(text("2026-11-21 15:45:06"), Ok("2026-11-21T15:45:06.000Z".to_owned()));
        assert_eq!(text("2026-11-21T15:45:06.5Z"), Ok("2026-11-21T15:45:06.500Z".to_owned()));
        assert_eq!(text("2026-11-21T15:45:06+01:00"), Ok("2026-11-21T14:45:06.000Z".to_owned()));
        assert_eq!(moment("17"), Ok(Moment::Lsn(17)));
        assert_eq!(moment("latest"), Ok(Moment::Newest));
        assert_eq!(
            moment("1970-01-01T00:00:01Z"),
            Ok(Moment::Time(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1)))
        );
        assert!(moment("99999999999999999999").is_err() && moment("").is_err());
        assert!(text("yesterday").is_err() && text("").is_err() && text("2026-13-01").is_err());
    }
}
