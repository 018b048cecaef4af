//! The tables that the log changes, checked against the names table once that is known: no frame changes a table
//! without a name.

use std::collections::{BTreeMap, BTreeSet};

use super::{Place, Walk};
use crate::disk::format::{FIRST_USER_TABLE, TABLE_NAMES, TABLE_SETTINGS};
use crate::maintain::format::frames::Op;
use crate::maintain::format::rows::name_row;

enum Event {
    /// A name stands for a table from here on, or for none.
    Name(Vec<u8>, Option<u32>),
    Change(u32),
}

/// What the frames do to the set of tables, and with it, in order.
#[derive(Default)]
pub(super) struct Logged {
    /// Where the frame lies, its LSN, what it does.
    events: Vec<(u64, u64, Event)>,
    /// Tables changed since the last event of a name: once is enough.
    changed: BTreeSet<u32>,
}

impl Logged {
    pub(super) fn see(&mut self, offset: u64, lsn: u64, table: u32, op: Op<'_>) -> Result<(), String> {
        let event = match op {
            // Long values of the names table are left to the check of the tree.
            Op::Drop | Op::PutLong { .. } if table == TABLE_NAMES => return Ok(()),
            Op::Put { key, value } if table == TABLE_NAMES => {
                let row = name_row(key, value).filter(|row| row.id >= FIRST_USER_TABLE);
                let row = row.ok_or_else(|| {
                    format!("the row of table {:?} cannot be understood", key.escape_ascii().to_string())
                })?;
                Event::Name(key.to_vec(), Some(row.id))
            }
            Op::Delete { key } if table == TABLE_NAMES => Event::Name(key.to_vec(), None),
            Op::Drop => return Ok(()),
            Op::Put { .. } | Op::Delete { .. } if table == TABLE_SETTINGS => return Ok(()),
            _ if table < FIRST_USER_TABLE => return Err(format!("it changes table {table}, which no transaction may")),
            _ if !self.changed.insert(table) => return Ok(()),
            _ => Event::Change(table),
        };
        if let Event::Name(..) = event {
            self.changed.clear();
        }
        self.events.push((offset, lsn, event));
        Ok(())
    }
}

impl Walk<'_, '_> {
    /// Judges what the log does, by the names that the tree holds: by name, the table's id.
    pub(super) fn judge_logged(&mut self, mut names: BTreeMap<Vec<u8>, u32>) {
        let mut live: BTreeSet<u32> = names.values().copied().collect();
        for (offset, lsn, event) in std::mem::take(&mut self.logged.events) {
            match event {
                Event::Name(name, id) => {
                    let old = match id {
                        Some(id) => names.insert(name, id),
                        None => names.remove(&name),
                    };
                    // A rename removes one name and adds another: at the end of the frame one of them counts.
                    old.into_iter().for_each(|old| _ = live.remove(&old));
                    live.extend(names.values().copied());
                }
                Event::Change(id) if !live.contains(&id) => {
                    let message = format!("the frame of LSN {lsn}: it changes table {id}, which has no name then");
                    self.findings.damage(Place::byte(offset), message);
                }
                Event::Change(_) => {}
            }
        }
    }
}
