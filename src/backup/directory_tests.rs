use super::*;

const DAY: u64 = 86_400_000_000;
/// 2026-11-21.
const NOW: u64 = 20_778 * DAY + DAY / 2;

/// A backup by its number, made so many days ago, of a transaction; an increment if it has a base.
fn entry(id: u32, days_ago: i64, lsn: u64, base: Option<u32>) -> BackupEntry {
    let time_us = NOW.saturating_add_signed(-days_ago * DAY as i64) + u64::from(id);
    let base =
        base.map(|base| super::super::BackupBase { id: base.to_string(), file: String::new(), root_sequence: 1 });
    let manifest = Manifest { id: id.to_string(), base, store_id: "s".to_owned(), lsn, time_us, ..Manifest::default() };
    BackupEntry { path: id.to_string().into(), bytes: 1, manifest: Some(manifest), state: BackupState::Good }
}

fn removed(entries: &[BackupEntry], rule: &str) -> Vec<u32> {
    let mut entries = entries.to_vec();
    judge_chains(&mut entries);
    let gone = to_remove(&entries, &rule.parse().unwrap(), NOW);
    gone.iter().map(|path| path.to_str().unwrap().parse().unwrap()).collect()
}

fn sorted(mut ids: Vec<u32>) -> Vec<u32> {
    ids.sort_unstable();
    ids
}

#[test]
fn what_the_rule_does_not_keep_goes() {
    let daily: Vec<BackupEntry> = (0..10).map(|n| entry(n, 9 - i64::from(n), u64::from(n), None)).collect();
    assert_eq!(sorted(removed(&daily, "3d")), (0..7).collect::<Vec<_>>());
    assert!(removed(&daily, "10d").is_empty());
}

#[test]
fn what_a_kept_increment_needs_stays_and_an_increment_goes_before_its_base() {
    let chain = |n: u32| entry(n, 9 - i64::from(n), n.into(), n.checked_sub(1));
    let entries: Vec<BackupEntry> = (0..10).map(chain).collect();
    assert!(removed(&entries, "1d").is_empty());
    let mut two = entries;
    two.push(entry(10, 0, 10, None));
    assert_eq!(removed(&two, "1d"), (0..10).rev().collect::<Vec<_>>());
}

#[test]
fn the_last_good_one_stays_whatever_the_clock_says() {
    // The clock was set back by a year: the newest states seem to be the oldest.
    let mut entries: Vec<BackupEntry> = (0..5).map(|n| entry(n, 5 - i64::from(n), n.into(), None)).collect();
    entries.push(entry(7, 360, 7, None));
    entries.push(entry(8, 359, 8, None));
    let gone = removed(&entries, "2d");
    assert!(!gone.contains(&8) && !gone.contains(&4) && gone.contains(&7), "{gone:?}");
    assert_eq!(newest(entries.iter()).unwrap().path.to_str(), Some("8"));
    // Of another store, as after a restore, the latest counts, and the last of each store stays.
    let mut other = entry(9, 0, 1, None);
    if let Some(manifest) = &mut other.manifest {
        manifest.store_id = "t".to_owned();
    }
    entries.push(other);
    assert_eq!(newest(entries.iter()).unwrap().path.to_str(), Some("9"));
    assert!(!removed(&entries, "1d").contains(&8));
}

#[test]
fn what_a_clock_ahead_has_made_neither_counts_nor_goes() {
    let mut entries: Vec<BackupEntry> = (0..5).map(|n| entry(n, 5 - i64::from(n), n.into(), None)).collect();
    entries.extend((10..20).map(|n| entry(n, -1000 - i64::from(n), 5, None)));
    assert_eq!(sorted(removed(&entries, "2d")), [0, 1, 2]);
    // All of them are ahead of a clock that was set back.
    let ahead: Vec<BackupEntry> = (0..5).map(|n| entry(n, -400 + i64::from(n), n.into(), None)).collect();
    assert!(removed(&ahead, "1d").is_empty());
}

#[test]
fn what_is_not_good_neither_counts_nor_goes() {
    let mut entries: Vec<BackupEntry> = (0..4).map(|n| entry(n, 4 - i64::from(n), n.into(), None)).collect();
    for unreadable in entries.iter_mut().skip(2) {
        unreadable.manifest = None;
        unreadable.state = BackupState::Unreadable("damaged".to_owned());
    }
    entries.push(entry(5, 0, 5, Some(99)));
    assert_eq!(removed(&entries, "1d"), [0]);
    judge_chains(&mut entries);
    assert_eq!(entries[4].state, BackupState::BaseMissing);
    assert_eq!(newest(entries.iter()).unwrap().path.to_str(), Some("1"));
}

#[test]
fn a_long_chain_ends_with_a_full_backup() {
    let dir = tempfile::tempdir().unwrap();
    let store = crate::Store::open(dir.path().join("memory.mst")).unwrap();
    let backups = BackupDir::create(dir.path().join("backups")).unwrap();
    let kinds: Vec<bool> = (0..=LONGEST_CHAIN + 2)
        .map(|n| {
            store.write(|tx| tx.raw("t")?.put(b"k", &n.to_le_bytes())).unwrap();
            let made = backups.backup(&store.read().unwrap(), true, BackupOptions::new()).unwrap();
            made.manifest.unwrap().base.is_none()
        })
        .collect();
    let full: Vec<usize> = (0..kinds.len()).filter(|n| kinds[*n]).collect();
    assert_eq!(full, [0, LONGEST_CHAIN + 1]);
    assert!(backups.prune(&"1d".parse().unwrap()).unwrap().len() > LONGEST_CHAIN);
    assert_eq!(backups.list().unwrap().len(), 2);
}
