//! `memstone doctor`: one page for a person in trouble.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Args;
use memstone::{DiagnoseOptions, Diagnosis, Extent, OpenProcess, PinnedVersion, Urgency};
use serde_json::json;

use crate::clock::{readable, rfc3339};
use crate::failure::Failure;
use crate::output::{Output, columns};
use crate::progress::Progress;
use crate::text::{escaped, name, size};

/// Say in one page how a store is, what is wrong, and what to do about it
///
/// Works on a store that is damaged, cannot be opened, or is in use, and changes nothing. The exit code is 0 if nothing needs
/// attention, 4 if the store is damaged, and 6 if anything else does.
#[derive(Args)]
pub(crate) struct Doctor {
    /// The store's file
    file: PathBuf,
    /// Verify everything, as `check` does, not just all but leaves and long values
    #[arg(long)]
    full: bool,
    /// The directory that the store's backups are in
    #[arg(long, value_name = "DIR")]
    backups: Option<PathBuf>,
}

/// Something needs attention.
const ATTENTION: u8 = 6;
const DAMAGE: u8 = 4;

impl Doctor {
    pub(crate) fn run(self, out: &mut Output) -> Result<ExitCode, Failure> {
        let mut options = DiagnoseOptions::new().full(self.full);
        if let Some(directory) = self.backups {
            options = options.backups(directory);
        }
        let progress = Progress::new()?;
        let diagnosis = memstone::diagnose_with(&self.file, &options, |told| progress.tell_bytes(told))?;
        drop(progress);
        let code = match diagnosis.urgency() {
            Some(Urgency::Damage) => DAMAGE,
            _ if diagnosis.needs_attention() => ATTENTION,
            _ => 0,
        };
        if out.json() {
            let mut page = readable(json!(diagnosis));
            if let Some(fields) = page.as_object_mut() {
                fields.insert("needs_attention".to_owned(), diagnosis.needs_attention().into());
            }
            out.line(page)?;
        } else {
            lines(&diagnosis).into_iter().try_for_each(|line| out.line(line))?;
        }
        Ok(ExitCode::from(code))
    }
}

/// The page: the verdict, what to do, and then the figures.
fn lines(told: &Diagnosis) -> Vec<String> {
    let mut lines = vec![verdict(told)];
    lines.extend(concerns(told));
    let mut rows = Vec::new();
    rows.push(("HEALTH", health(told)));
    rows.extend(state(told));
    rows.extend(log_and_space(told));
    rows.extend(writers(told));
    rows.extend(place(told));
    rows.extend(backups(told));
    lines.push(String::new());
    lines.extend(columns(&rows.into_iter().map(|(what, text)| vec![what.to_owned(), text]).collect::<Vec<_>>()));
    for table in [tables(told), processes(told), pins(told), snapshots(told)] {
        if table.len() > 1 {
            lines.push(String::new());
            lines.extend(columns(&table));
        }
    }
    lines
}

fn path(path: &std::path::Path) -> String {
    escaped(path.as_os_str().as_encoded_bytes())
}

fn verdict(told: &Diagnosis) -> String {
    let count = told.concerns.iter().filter(|concern| concern.urgency > Urgency::Note).count();
    let verdict = match (told.urgency(), count) {
        (Some(Urgency::Damage), _) => "DAMAGED".to_owned(),
        (_, 0) => "nothing needs attention".to_owned(),
        (_, 1) => "one thing needs attention".to_owned(),
        (_, count) => format!("{count} things need attention"),
    };
    format!("{}: {verdict} ({})", path(&told.path), rfc3339(told.time))
}

fn concerns(told: &Diagnosis) -> Vec<String> {
    let mut lines = Vec::new();
    for (number, concern) in (1..).zip(&told.concerns) {
        let mark = match concern.urgency {
            Urgency::Damage => "DAMAGE: ",
            Urgency::Attention => "",
            _ => "note: ",
        };
        lines.push(String::new());
        lines.push(format!("{number}. {mark}{}", escaped(concern.what.as_bytes())));
        lines.push(format!("   {}", concern.remedy));
        lines.extend(concern.commands.iter().map(|command| format!("     $ {}", escaped(command.as_bytes()))));
    }
    lines
}

fn health(told: &Diagnosis) -> String {
    let health = &told.health;
    let extent = match health.extent {
        Extent::Full => "everything was verified",
        _ => "a quick look: all but leaves and long values; --full verifies them, too",
    };
    let found = match (health.damage, health.warnings) {
        (0, 0) if health.unfinished.is_some() && told.store.is_none() => "unknown".to_owned(),
        (0, 0) => "sound".to_owned(),
        (damage, warnings) => format!("{damage} findings of damage, {warnings} warnings"),
    };
    format!("{found} ({extent})")
}

fn state(told: &Diagnosis) -> Vec<(&'static str, String)> {
    let Some(store) = &told.store else { return Vec::new() };
    let checkpoint = store.checkpoint_time.map_or("never".to_owned(), |time| ago(told.time, time));
    let commit = store.last_commit.map_or("unknown".to_owned(), |lsn| lsn.to_string());
    vec![
        ("STORE", format!("{}, {}, pages of {} bytes", store.id, size(store.file_size), store.page_size)),
        ("COMMITS", format!("newest {commit}; in the tree up to {}, {checkpoint}", store.checkpoint_lsn)),
    ]
}

fn log_and_space(told: &Diagnosis) -> Vec<(&'static str, String)> {
    let log = told.log.map(|log| {
        let cap = log.cap.map(|cap| format!(", may grow to {}", size(cap))).unwrap_or_default();
        let count = log.transactions.map(|count| format!(" ({count} transactions)")).unwrap_or_default();
        ("LOG", format!("{} of {} not in the tree{count}{cap}", size(log.used), size(log.capacity)))
    });
    let space = told.space.map(|space| {
        let (total, free, pending) = (size(space.total), size(space.free), size(space.pending));
        (
            "SPACE",
            format!("{total} of pages: {free} free, {pending} pending (kept for snapshots, or for the root before)"),
        )
    });
    log.into_iter().chain(space).collect()
}

fn writers(told: &Diagnosis) -> Vec<(&'static str, String)> {
    let Some(locks) = &told.locks else { return Vec::new() };
    let (turns, failures) = (locks.acquisitions, locks.failures);
    let [average, longest] = [locks.average_wait, locks.longest_wait].map(|wait| wait.as_secs_f64() * 1000.0);
    let counted = format!("{} commits, {} flushes, {} checkpoints", locks.commits, locks.flushes, locks.checkpoints);
    vec![(
        "TURNS",
        format!(
            "{turns} taken, {failures} given up, waited {average:.1} ms, at most {longest:.1} ms; {counted} (by those who have it open)"
        ),
    )]
}

fn place(told: &Diagnosis) -> Vec<(&'static str, String)> {
    let Some(place) = &told.place else { return Vec::new() };
    let kind = place.filesystem.as_deref().unwrap_or("unknown file system");
    let (left, total) = (size(place.available), size(place.total));
    vec![("DISK", format!("{}, {left} of {total} left", escaped(kind.as_bytes())))]
}

fn backups(told: &Diagnosis) -> Vec<(&'static str, String)> {
    let news = told.backups.as_ref().map(|news| {
        let newest = news.newest.map(|time| format!(", the newest made {}", ago(told.time, time))).unwrap_or_default();
        ("BACKUPS", format!("{} good in {}{newest}", news.good, path(&news.directory)))
    });
    let archive = told.archive.as_ref().map(|archive| {
        let covered = archive.covered.map_or("nothing yet".to_owned(), |time| format!("all up to {}", rfc3339(time)));
        let gaps = if archive.gaps.is_empty() { String::new() } else { format!(", {} gaps", archive.gaps.len()) };
        ("ARCHIVE", format!("{covered}{gaps}, in {}", path(&archive.directory)))
    });
    news.into_iter().chain(archive).collect()
}

fn head(names: &[&str]) -> Vec<Vec<String>> {
    vec![names.iter().map(|name| (*name).to_owned()).collect()]
}

fn tables(told: &Diagnosis) -> Vec<Vec<String>> {
    let mut rows = head(&["TABLE", "ENTRIES", "SIZE", "CONTENT"]);
    for table in &told.tables {
        rows.push(vec![name(&table.name), table.entries.to_string(), size(table.size), size(table.content)]);
    }
    rows
}

fn processes(told: &Diagnosis) -> Vec<Vec<String>> {
    let mut rows = head(&["PID", "HOST", "DOES", "FOR", "RUNS FOR", "COMMAND"]);
    for open in &told.processes {
        let OpenProcess { process, roles, .. } = open;
        let mut does: Vec<_> = roles.iter().map(|role| format!("{role:?}").to_lowercase()).collect();
        does.extend(process.stopped.then(|| "STOPPED".to_owned()));
        let since = |time: Option<SystemTime>| time.and_then(|since| told.time.duration_since(since).ok());
        let [turn, runs] =
            [open.waiting_or_writing, since(open.running_since)].map(|time| time.map_or("-".to_owned(), span));
        let (host, command) = (escaped(process.host.as_bytes()), escaped(process.command.as_bytes()));
        rows.push(vec![process.pid.to_string(), host, does.join(","), turn, runs, command]);
    }
    rows
}

fn pins(told: &Diagnosis) -> Vec<Vec<String>> {
    let mut rows = head(&["KEPT VERSIONS", "STATE", "FOR", "PID", "COMMAND"]);
    for PinnedVersion { from, to, outdated, process, age, at_least, .. } in &told.pins {
        let versions = if from == to { from.to_string() } else { format!("{from} to {to}") };
        let age = match (age, at_least) {
            (Some(age), _) => span(*age),
            (None, Some(age)) => format!("at least {}", span(*age)),
            (None, None) => "-".to_owned(),
        };
        let state = if *outdated { "outdated" } else { "newest" }.to_owned();
        let (pid, command) =
            process.as_ref().map_or(("?".to_owned(), "cannot be seen from here".to_owned()), |holder| {
                (holder.pid.to_string(), escaped(holder.command.as_bytes()))
            });
        rows.push(vec![versions, state, age, pid, command]);
    }
    rows
}

fn snapshots(told: &Diagnosis) -> Vec<Vec<String>> {
    let mut rows = head(&["SNAPSHOT", "LSN", "MADE", "KEEPS ALONE"]);
    for snapshot in &told.snapshots {
        let made = ago(told.time, snapshot.time);
        rows.push(vec![name(&snapshot.name), snapshot.lsn.to_string(), made, size(snapshot.kept)]);
    }
    rows
}

fn ago(now: SystemTime, time: SystemTime) -> String {
    now.duration_since(time).map_or_else(|_| rfc3339(time), |age| format!("{} ago", span(age)))
}

/// A time in its largest unit.
pub(crate) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", time.as_secs_f64()),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}
