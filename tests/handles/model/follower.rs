//! A reader that knows the store by its change feed alone, with or without a journal.

use super::tables::Tables;
use memstone::{Changed, Commit, Cursor, Feed, Snapshot};
use std::collections::{BTreeMap, BTreeSet};

/// The names of tables, and their keys: the feed has no values.
type Keys = BTreeMap<String, BTreeSet<Vec<u8>>>;

fn keys_of(tables: &Tables) -> Keys {
    let keys = |rows: &BTreeMap<Vec<u8>, Vec<u8>>| rows.keys().cloned().collect();
    tables.by_name().into_iter().map(|(name, table)| (name.to_owned(), keys(&table.rows))).collect()
}

pub struct Follower {
    cursor: Cursor,
    keys: Keys,
}

impl Follower {
    pub fn new(snapshot: &Snapshot, tables: &Tables) -> Follower {
        Follower { cursor: snapshot.end().expect("the end of a snapshot"), keys: keys_of(tables) }
    }

    /// Goes on to the state of this snapshot, by what the feed tells or, after a gap, by the state itself.
    pub fn follow(&mut self, snapshot: &Snapshot, tables: &Tables) {
        match snapshot.changes(self.cursor).expect("the feed") {
            Feed::Changes(commits) => {
                for commit in commits {
                    let commit = commit.expect("a commit of the feed");
                    assert!(commit.lsn() > self.cursor.lsn(), "commits ascend");
                    self.take_in(&commit);
                    self.cursor = commit.cursor();
                }
                assert!(self.keys == keys_of(tables), "the feed leads to another state");
                self.cursor = snapshot.end().expect("the end of a snapshot");
            }
            _ => *self = Follower::new(snapshot, tables),
        }
    }

    fn take_in(&mut self, commit: &Commit) {
        let dropped = |change: &Changed<'_>| matches!(change, Changed::TableDropped { .. });
        for change in commit.changes().filter(dropped) {
            assert!(self.keys.remove(change.table()).is_some(), "{change:?}, which is not there");
        }
        // All renamings happen at once.
        let renamed: Vec<_> = commit
            .changes()
            .filter_map(|change| match change {
                Changed::TableRenamed { table, from } => {
                    let keys = self.keys.remove(from).unwrap_or_else(|| panic!("{change:?}, which is not there"));
                    Some((table.to_owned(), keys))
                }
                _ => None,
            })
            .collect();
        self.keys.extend(renamed);
        for change in commit.changes() {
            let keys = self.keys.get_mut(change.table());
            match (change, keys) {
                (Changed::TableDropped { .. } | Changed::TableRenamed { .. }, _) => {}
                (Changed::TableCreated { table }, None) => _ = self.keys.insert(table.to_owned(), BTreeSet::new()),
                (Changed::Put { key, .. }, Some(keys)) => _ = keys.insert(key.to_vec()),
                (Changed::Deleted { key, .. }, Some(keys)) => _ = keys.remove(key),
                (Changed::TableCleared { .. }, Some(keys)) => keys.clear(),
                (change, _) => panic!("{change:?} does not fit"),
            }
        }
    }
}
