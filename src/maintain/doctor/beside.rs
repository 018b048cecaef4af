//! What surrounds a store: its file system, what other programs have left beside it, its backups.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::diagnosis::{BackupNews, FilePlace, Leftover};
use crate::disk::rename::parent_of;
use crate::disk::surroundings::look_around;
use crate::error::Result;
use crate::{BackupDir, BackupState};

/// What is younger may belong to a process that is at work.
const AT_WORK: Duration = Duration::from_secs(3600);

/// Where the file lies.
pub(super) fn place(path: &Path) -> io::Result<FilePlace> {
    let around = look_around(path)?;
    Ok(FilePlace {
        remote: around.remote.is_some(),
        filesystem: around.remote.or(around.kind),
        total: around.total,
        available: around.available,
        directory_refused: around.directory.err(),
        links: around.links,
        other_names: around.other_names,
    })
}

/// Files named after the store that were left by a repair, a restore, or a process that died.
pub(super) fn leftovers(path: &Path, now: SystemTime) -> Vec<Leftover> {
    let Some(name) = path.file_name().map(|name| name.to_string_lossy().into_owned()) else { return Vec::new() };
    let entries = fs::read_dir(parent_of(path)).into_iter().flatten().flatten();
    let mut found: Vec<Leftover> = entries
        .filter_map(|entry| {
            let what = leftover(&entry.file_name().to_string_lossy(), &name)?;
            let meta = entry.metadata().ok()?;
            let modified = meta.modified().ok();
            let old = modified.and_then(|time| now.duration_since(time).ok()).is_some_and(|age| age > AT_WORK);
            let bytes = if meta.is_file() { meta.len() } else { 0 };
            // A hidden name is that of something that is being made.
            let shown = old || !entry.file_name().to_string_lossy().starts_with('.');
            shown.then(|| Leftover { path: entry.path(), what, bytes, modified })
        })
        .collect();
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

/// What a file of this name is to the store of that name.
fn leftover(file: &str, store: &str) -> Option<&'static str> {
    if let Some(ending) = file.strip_prefix(store) {
        return match ending {
            ".repaired" => Some("a repaired store"),
            _ if ending.starts_with(".before-restore-") => Some("the store as it was before a restore"),
            _ if ending.starts_with(".damaged-") => Some("the damaged store, kept by a repair in place"),
            _ => None,
        };
    }
    if file.starts_with(".memstone-load-") {
        return Some("a load that did not end");
    }
    let random = file.strip_prefix('.')?.strip_prefix(store)?.strip_prefix('.')?;
    let (_, ending) = random.split_once('.').filter(|(digits, _)| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
    match ending {
        "part" => Some("a backup or a restore that did not end"),
        "repair" => Some("a repair that did not end"),
        "new" => Some("a new store that was never named"),
        _ => None,
    }
}

/// The backups of the store with this id in a directory.
pub(super) fn backups(directory: PathBuf, id: Option<&str>) -> Result<BackupNews> {
    let entries = BackupDir::open(&directory)?.list()?;
    let mut news =
        BackupNews { directory, good: 0, bad: 0, newest: None, newest_file: None, newest_kind: None, newest_lsn: None };
    for entry in entries {
        let of_another = |store: &str| id.is_some_and(|id| store != id);
        match (&entry.manifest, &entry.state) {
            (Some(manifest), _) if of_another(&manifest.store_id) => {}
            (Some(manifest), BackupState::Good) => {
                news.good += 1;
                if news.newest.is_none_or(|newest| manifest.time() >= newest) {
                    news.newest = Some(manifest.time());
                    news.newest_file = Some(entry.path);
                    news.newest_kind = Some(manifest.kind);
                    news.newest_lsn = Some(manifest.lsn);
                }
            }
            _ => news.bad += 1,
        }
    }
    Ok(news)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_what_is_left() {
        for (file, is_left) in [
            ("m.mst", false),
            ("m.mst-shm", false),
            ("m.mst.repaired", true),
            ("m.mst.before-restore-2026-11-20T00-00-00Z", true),
            ("m.mst.damaged-1790000000", true),
            ("m.mst.notes", false),
            ("other.mst.repaired", false),
            (".m.mst.0123abcd.part", true),
            (".m.mst.0123abcd.repair", true),
            (".m.mst.0123abcd.new", true),
            (".m.mst.notes.part", false),
            (".other.mst.0123abcd.part", false),
            (".memstone-load-abc", true),
        ] {
            assert_eq!(leftover(file, "m.mst").is_some(), is_left, "{file}");
        }
    }
}
