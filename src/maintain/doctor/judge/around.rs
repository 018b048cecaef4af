//! What surrounds a store: its file system, its archive, its backups, what lies beside it.

use std::time::Duration;

use super::super::Found;
use super::super::diagnosis::{Diagnosis, FilePlace, Subject, Urgency};
use super::{Judge, bytes, quoted, time};
use crate::error::Error;

/// File systems whose content goes with the machine's memory, and those that go with a container.
const VOLATILE: [&str; 2] = ["tmpfs", "ramfs"];
const LAYERED: [&str; 3] = ["overlay", "aufs", "fuse.fuse-overlayfs"];
/// The least room that a store needs for its log and copied pages.
const LITTLE: u64 = 64 << 20;
/// A newest backup that is older than this is reported: nightly backups, of which one may fail.
const OVERDUE: Duration = Duration::from_secs(2 * 86_400);

impl Judge {
    pub(super) fn unknown_place(&mut self, found: &Found) {
        if let (Err(error), Ok(_)) = (&found.place, &found.look) {
            let what = format!("the file system cannot be looked at: {error}");
            self.add(Urgency::Note, Subject::Filesystem, what, "Look by hand:", &[format!("df {}", self.file)]);
        }
    }

    pub(super) fn place(&mut self, told: &Diagnosis) {
        let Some(place) = &told.place else { return };
        self.filesystem(place);
        let size = told.store.as_ref().map_or(0, |store| store.file_size);
        if place.available < LITTLE.max(size / 10) {
            let what = format!("the disk is nearly full: {} of {} left", bytes(place.available), bytes(place.total));
            let remedy = "Make room. Commits that find none fail with `Full` and change nothing; reading goes on. Free pages of the \
                          store itself are given back by compacting it, which needs some room first";
            self.add(
                Urgency::Attention,
                Subject::Room,
                what,
                remedy,
                &[format!("df {}", self.file), format!("memstone compact {}", self.file)],
            );
        }
        if let Some(why) = &place.directory_refused {
            let what = format!("this user cannot write the store's directory ({why})");
            let remedy = "No sidecar can be made beside the file. Processes of such users share one in the system's directory of shared \
                          memory; where those of containers cannot, a second writer is refused. Allow the users that write the store to \
                          write its directory";
            self.add(
                Urgency::Note,
                Subject::Directory,
                what,
                remedy,
                &[format!("ls -ld \"$(dirname {})\"", self.file)],
            );
        }
        if place.links > 1 {
            let others: Vec<_> = place.other_names.iter().map(|name| quoted(name)).collect();
            let here = if others.is_empty() { String::new() } else { format!(" (here: {})", others.join(", ")) };
            let what = format!("the file has {} names{here}", place.links);
            let remedy = "Open it by one of them only: processes that come by different names are refused. Remove the names that nobody \
                          needs: the file stays as long as one is left";
            let commands: Vec<_> = others.iter().map(|name| format!("rm {name}")).collect();
            self.add(Urgency::Attention, Subject::Links, what, remedy, &commands);
        }
    }

    fn filesystem(&mut self, place: &FilePlace) {
        let kind = place.filesystem.as_deref().unwrap_or_default();
        if place.remote {
            let what = format!("the file lies on {kind}, which other machines can reach");
            let remedy = "Locks and maps cannot be trusted there. Move the store to a disk of this machine, while no program has it open";
            let commands = [format!("mv {} /a/local/disk/", self.file)];
            self.add(Urgency::Attention, Subject::Filesystem, what, remedy, &commands);
        } else if VOLATILE.contains(&kind) || LAYERED.contains(&kind) {
            let end = if VOLATILE.contains(&kind) { "when the machine restarts" } else { "with its container" };
            let what = format!("the file lies on {kind}: it is gone {end}");
            let remedy = "Unless that is meant: back it up to a disk, and use it there (in a container: in a volume)";
            let commands = [format!("memstone backup {} /a/disk/NAME.mst", self.file)];
            self.add(Urgency::Attention, Subject::Filesystem, what, remedy, &commands);
        }
    }

    pub(super) fn archive(&mut self, found: &Found, told: &Diagnosis) {
        let status = format!("memstone archive {} status", self.file);
        if let Ok(Err(error)) = found.told.as_ref().map(|told| &told.archive) {
            let what = format!("it cannot be told how the archive stands: {error}");
            self.add(
                Urgency::Attention,
                Subject::Archive,
                what,
                "See what is wrong with its directory",
                std::slice::from_ref(&status),
            );
        }
        let Some(archive) = &told.archive else { return };
        let directory = quoted(&archive.directory);
        let backup = format!("memstone backup {} --dir {directory}", self.file);
        if let Some(trouble) = &archive.trouble {
            let what = format!("the archive does not go on: {trouble}");
            let remedy = "What is committed meanwhile cannot be brought back by time. Put that right, archive what is in the log, and \
                          make a backup";
            let commands = [format!("memstone archive {} flush", self.file), backup.clone(), status];
            self.add(Urgency::Attention, Subject::Archive, what, remedy, &commands);
        }
        let covered = told.backups.as_ref().and_then(|news| news.newest_lsn).unwrap_or(0);
        for gap in &archive.gaps {
            let what = format!("the archive has a gap: after {}, up to {}: {}", gap.from, gap.to, gap.reason);
            let (urgency, remedy, commands) = match gap.found.is_some() && covered >= gap.to {
                true => (
                    Urgency::Note,
                    "Moments in it do not come back; a backup was made since, so later ones do",
                    Vec::new(),
                ),
                false => (
                    Urgency::Attention,
                    "Make a backup: what follows it can be brought back again",
                    vec![backup.clone()],
                ),
            };
            self.add(urgency, Subject::Archive, what, remedy, &commands);
        }
    }

    pub(super) fn backups(&mut self, told: &Diagnosis, error: Option<&Error>) {
        if let Some(error) = error {
            let what = format!("the directory of backups cannot be read: {error}");
            let remedy = "See whether it is mounted, and whether this user may read it";
            return self.add(Urgency::Attention, Subject::Backup, what, remedy, &[]);
        }
        let Some(news) = &told.backups else {
            let what = "no directory of backups was named, so nothing is known of them";
            let remedy = "Name it; if there is none yet, make a backup each night";
            let file = &self.file;
            let commands = [
                format!("memstone doctor {file} --backups DIR"),
                format!("memstone backup {file} --dir DIR --increment --keep 7d,4w,12m"),
            ];
            return self.add(Urgency::Note, Subject::Backup, what, remedy, &commands);
        };
        let directory = quoted(&news.directory);
        let backup = format!("memstone backup {} --dir {directory} --increment --keep 7d,4w,12m", self.file);
        let age = news.newest.and_then(|newest| told.time.duration_since(newest).ok());
        if news.good == 0 {
            let what = format!("there is no good backup of this store in {directory}");
            let remedy = "Make one now. (A restored store has an id of its own: its backups begin with a full one)";
            self.add(Urgency::Attention, Subject::Backup, what, remedy, &[backup]);
        } else if let Some(age) = age.filter(|age| *age > OVERDUE) {
            let what = format!("the newest good backup is {} old", time(age));
            let remedy = "Make one now, and see why the scheduler made none";
            self.add(Urgency::Attention, Subject::Backup, what, remedy, &[backup]);
        }
        if news.bad > 0 {
            let what = format!("{} files in {directory} cannot be used as backups", news.bad);
            let commands = [format!("memstone backups {directory} --verify")];
            self.add(Urgency::Attention, Subject::Backup, what, "See which, and why:", &commands);
        }
    }

    pub(super) fn leftovers(&mut self, told: &Diagnosis) {
        for left in &told.leftovers {
            let path = quoted(&left.path);
            let size = if left.bytes > 0 { format!(", {}", bytes(left.bytes)) } else { String::new() };
            let what = format!("{path} lies beside the store{size}: {}", left.what);
            let (remedy, commands) = if left.what == "a repaired store" {
                let put = format!("mv {0} {0}.damaged && mv {path} {0}", self.file);
                (
                    "Compare, and put it in the damaged one's place while no program has either open; or remove it",
                    vec![format!("store-check {path}"), put],
                )
            } else if left.bytes == 0 {
                ("Remove it when no program works on it", vec![format!("rm -r {path}")])
            } else {
                ("Remove it when nobody misses it any more", vec![format!("rm {path}")])
            };
            self.add(Urgency::Note, Subject::Leftover, what, remedy, &commands);
        }
    }
}
