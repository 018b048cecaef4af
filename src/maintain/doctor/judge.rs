//! What in the figures needs attention, and what to do about it: for the store itself here, for processes in
//! `traffic`, for the store's surroundings in `around`.

mod around;
mod traffic;

use std::path::Path;
use std::time::Duration;

use super::Found;
use super::diagnosis::{Concern, Diagnosis, Extent, Subject, Urgency};
use crate::error::Error;

/// Free space that is worth giving back: at least this many bytes, and half of the file.
const MUCH: u64 = 64 << 20;

/// All concerns; those of the same urgency in the order in which to report them.
pub(super) fn concerns(found: &Found, told: &Diagnosis, no_backups: Option<&Error>) -> Vec<Concern> {
    let mut judge = Judge { file: quoted(&found.path), concerns: Vec::new() };
    judge.file(found);
    judge.health(found, told);
    judge.opening(found);
    judge.flush(found);
    judge.stopped(told);
    judge.unseen(found);
    judge.waits(told);
    judge.pins(told);
    judge.log(told);
    judge.place(told);
    judge.unknown_place(found);
    judge.archive(found, told);
    judge.backups(told, no_backups);
    judge.leftovers(told);
    judge.space(told);
    judge.concerns
}

struct Judge {
    /// The file's path, as a shell takes it.
    file: String,
    concerns: Vec<Concern>,
}

impl Judge {
    fn add(
        &mut self,
        urgency: Urgency,
        subject: Subject,
        what: impl Into<String>,
        remedy: impl Into<String>,
        commands: &[String],
    ) {
        let (what, remedy, commands) = (what.into(), remedy.into(), commands.to_vec());
        self.concerns.push(Concern { urgency, subject, what, remedy, commands });
    }

    /// What cannot be read as a store at all.
    fn file(&mut self, found: &Found) {
        let Err(error) = &found.look else { return };
        let (remedy, commands) = match error {
            Error::NotAStore { .. } => (
                "The path may be wrong. If a store was here, its first 8 KiB are destroyed: a repair looks for the rest and writes it \
                 to a new file; or restore a backup",
                vec![
                    format!("store-check --repair {}", self.file),
                    format!("memstone restore BACKUP {} --overwrite", self.file),
                ],
            ),
            Error::Format { .. } => ("The store is not damaged: update this program", Vec::new()),
            _ => (
                "If permission is denied, be the user that the store belongs to. Otherwise look at the disk: the system's log tells \
                 of what it could not read",
                vec![format!("ls -l {}", self.file), "dmesg | tail".to_owned()],
            ),
        };
        self.add(Urgency::Attention, Subject::File, error.to_string(), remedy, &commands);
    }

    /// What was found when the store was verified.
    fn health(&mut self, found: &Found, told: &Diagnosis) {
        let health = &told.health;
        let first = |severity| health.findings.iter().find(|finding| finding.severity == severity);
        if let Some(finding) = first(crate::Severity::Damage).filter(|_| health.damage > 0) {
            let table = finding.table.as_ref().map(|table| format!(", table {table:?}")).unwrap_or_default();
            let (count, offset, message) = (health.damage, finding.offset, &finding.message);
            let more = if count > 1 { format!("; {} more", count - 1) } else { String::new() };
            self.add(
                Urgency::Damage,
                Subject::Health,
                format!("the store is damaged: at byte {offset}{table}: {message}{more}"),
                "End the programs that write to it. Look at the disk. See how far the damage goes, then write what can be proved to a new \
                 file: this one is not changed",
                &[
                    "dmesg | tail".to_owned(),
                    format!("store-check {}", self.file),
                    format!("store-check --repair {}", self.file),
                ],
            );
        } else if let Some(finding) = first(crate::Severity::Warning) {
            let what = format!("a check warns: at byte {}: {}", finding.offset, finding.message);
            let remedy = "No committed data is lost. Checkpoints write broken copies of root slots again; see what is left after one";
            let commands = [format!("memstone checkpoint {}", self.file), format!("memstone check {}", self.file)];
            self.add(Urgency::Attention, Subject::Health, what, remedy, &commands);
        }
        if let (Some(why), true) = (&health.unfinished, found.look.is_ok()) {
            let asked = found.full.is_some() && health.extent == Extent::Quick;
            let urgency = if asked { Urgency::Attention } else { Urgency::Note };
            let remedy = "What was left out of the look is not known to be whole: verify it when fewer write";
            self.add(urgency, Subject::Health, why, remedy, &[format!("memstone check {}", self.file)]);
        }
    }

    /// Why the engine could not be asked.
    fn opening(&mut self, found: &Found) {
        let (Err(error), Ok(_)) = (&found.told, &found.look) else { return };
        let what = format!("the store cannot be opened, so some figures are missing: {error}");
        let (urgency, remedy, commands) = match error {
            // The place says it already.
            Error::UnsupportedFilesystem { .. } => return,
            Error::Corrupt(_) => (
                Urgency::Damage,
                "End the programs that write to it, and write what can be proved to a new file: this one is not changed",
                vec![format!("store-check {}", self.file), format!("store-check --repair {}", self.file)],
            ),
            Error::Busy { holder: Some(holder), .. } => (
                Urgency::Attention,
                "Another process opens the store, or leaves it, and does not get on. Let it go on, or end it",
                vec![format!("kill -CONT {}", holder.pid), format!("kill -KILL {}", holder.pid)],
            ),
            Error::NotShared { .. } => (
                Urgency::Attention,
                "Open the store by the path by which the others have it open: see which processes these are",
                vec![format!("memstone doctor {}", self.file)],
            ),
            Error::Poisoned { .. } => (
                Urgency::Attention,
                "The next process that opens it for writing writes once more what a failed flush left uncertain. If that is refused, \
                 look at the disk",
                vec![format!("memstone checkpoint {}", self.file), "dmesg | tail".to_owned()],
            ),
            _ => (
                Urgency::Attention,
                "See what the message says, and try again",
                vec![format!("memstone stat {}", self.file)],
            ),
        };
        self.add(urgency, Subject::Opening, what, remedy, &commands);
    }

    fn flush(&mut self, found: &Found) {
        if found.told.as_ref().is_ok_and(|told| told.stats.flush_failed) {
            let remedy = "Nothing that was acknowledged is lost. The next write writes once more what the disk refused; if it gets an \
                          error again, the disk is full or failing";
            let commands =
                [format!("df {}", self.file), format!("memstone checkpoint {}", self.file), "dmesg | tail".to_owned()];
            self.add(
                Urgency::Attention,
                Subject::Flush,
                "a flush has failed, and is not made good yet",
                remedy,
                &commands,
            );
        }
    }

    fn log(&mut self, told: &Diagnosis) {
        let Some(log) = &told.log else { return };
        if log.cap.is_some_and(|cap| log.capacity >= cap) && log.used / 3 >= log.capacity / 4 {
            let (used, capacity) = (bytes(log.used), bytes(log.capacity));
            let what = format!("the log is at its cap: {used} of {capacity} are not in the tree yet");
            let remedy = "Writers wait for checkpoints. Run a checkpoint now; if it is full again soon, give it a larger cap in the programs \
                          (`Options::log_cap`)";
            self.add(Urgency::Attention, Subject::Log, what, remedy, &[format!("memstone checkpoint {}", self.file)]);
        }
    }

    fn space(&mut self, told: &Diagnosis) {
        let Some(space) = &told.space else { return };
        if space.free >= MUCH && space.free >= space.total / 2 {
            let what = format!("{} of {} in the file are free", bytes(space.free), bytes(space.total));
            let remedy = "They are used again by what is written. To give them back to the system:";
            self.add(Urgency::Note, Subject::Space, what, remedy, &[format!("memstone compact {}", self.file)]);
        }
        let largest = told.snapshots.iter().max_by_key(|snapshot| snapshot.kept);
        if let Some(snapshot) = largest.filter(|snapshot| snapshot.kept >= MUCH && snapshot.kept >= space.total / 4) {
            let name = quoted(Path::new(&snapshot.name));
            let what = format!("the snapshot {} alone keeps {}", name, bytes(snapshot.kept));
            let commands = [
                format!("memstone snapshot diff {} {name} --count", self.file),
                format!("memstone snapshot delete {} {name}", self.file),
            ];
            self.add(Urgency::Note, Subject::Space, what, "If nobody goes back to it any more, delete it:", &commands);
        }
    }
}

/// A path, or a name, as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "_-./:+,@%=".contains(letter);
    match text.chars().all(plain) && !text.is_empty() && !text.starts_with('-') {
        true => text.into_owned(),
        // One that begins with a dash would be taken for an option.
        false if text.starts_with('-') => format!("'./{}'", text.replace('\'', r"'\''")),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// A number of bytes in its largest unit.
fn bytes(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.iter().find(|(shift, _)| bytes >> shift > 0) {
        Some((shift, unit)) => {
            let tenths = (u128::from(bytes) * 10) >> shift;
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} bytes"),
    }
}

/// A time in its largest unit.
fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", time.as_secs_f64()),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_takes() {
        for (path, shown) in [
            ("/srv/memory.mst", "/srv/memory.mst"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("$(reboot)", "'$(reboot)'"),
            ("-rf", "'./-rf'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(Path::new(path)), shown);
        }
    }

    #[test]
    fn sizes_and_times() {
        let sizes = [0, 1023, 1024, 1536, u64::MAX].map(bytes);
        assert_eq!(sizes, ["0 bytes", "1023 bytes", "1.0 KiB", "1.5 KiB", "16777215.9 TiB"]);
        let times = [1, 59, 60, 7199, 172_799, 172_800].map(|seconds| time(Duration::from_secs(seconds)));
        assert_eq!(times, ["1.0 s", "59.0 s", "1 min", "1 h", "47 h", "2 days"]);
    }
}
