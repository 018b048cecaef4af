//! The quick check of a store: everything but leaves and long values, by the second reader of the file. The root
//! is pinned, so that its pages stay while other processes write.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::disk::format::{
    FIRST_USER_TABLE, KIND_BRANCH, KIND_LEAF, PAGE_LEVEL, Ptr, TABLE_CATALOG, TABLE_NAMES, TreeRoot,
};
use crate::disk::platform::{Disk, LockMode};
use crate::error::{Error, Result};
use crate::maintain::check::{Finding, Severity};
use crate::maintain::format::PIN;
use crate::maintain::format::file::{Expect, File};
use crate::maintain::format::frames::{KIND_COMMIT, Ring};
use crate::maintain::format::node::{self, Value};
use crate::maintain::format::rows::{NameRow, catalog_row, name_row};
use crate::maintain::format::slots::{Content, Root, Slots};
use crate::maintain::format::space::Unused;

/// How often the newest root may change during the quick check before it continues without the log.
const ATTEMPTS: u32 = 20;
/// Nodes have levels below this.
const LEVELS: u8 = 32;
/// Most nodes that are read: the branches of some 25 GB of rows. In a damaged tree they might form a cycle.
const NODES: u32 = 1 << 15;

/// The result of the quick check.
#[derive(Default)]
pub(super) struct Look {
    pub(super) findings: Vec<Finding>,
    pub(super) root: Option<Root>,
    /// Sequence and time, in microseconds since 1970, of each root that a slot has.
    pub(super) times: Vec<(u64, u64)>,
    pub(super) file_size: u64,
    pub(super) trees: Vec<(NameRow, TreeRoot)>,
    /// Free pages, and pending pages.
    pub(super) space: Option<(u64, u64)>,
    pub(super) log: Option<LogLook>,
    /// Why parts of it were left out.
    pub(super) unfinished: Option<String>,
    /// Nodes read so far.
    nodes: u32,
}

/// The log's chain.
#[derive(Clone, Copy)]
pub(super) struct LogLook {
    pub(super) capacity: u64,
    pub(super) used: u64,
    pub(super) transactions: u64,
}

impl Look {
    fn add(&mut self, severity: Severity, offset: u64, page: Option<u32>, table: Option<&str>, message: String) {
        let (page, table) = (page.map(u64::from), table.map(str::to_owned));
        self.findings.push(Finding { severity, offset, page, table, message });
    }
}

/// Looks at the store on a disk.
///
/// # Errors
/// [`Error::NotAStore`], [`Error::Format`], [`Error::Io`].
pub(super) fn look(disk: &dyn Disk) -> Result<Look> {
    for attempt in 1..=ATTEMPTS {
        let slots = Slots::read(disk)?;
        let mut look =
            Look { file_size: disk.len().map_err(|e| Error::io("stat", disk.path(), e))?, ..Look::default() };
        judge_slots(&slots, &mut look);
        let Some(root) = slots.newest() else { return Ok(look) };
        let byte = PIN + root.sequence;
        let pinned = disk.try_lock(byte, LockMode::Shared).map_err(|e| Error::io("lock", disk.path(), e))?;
        // A process that looked for pins before this one was set may have reused the pages of a root that is no
        // longer the newest.
        let whole = pinned && root.is_newest(disk)? && root_looked_at(disk, root, &mut look, attempt == ATTEMPTS)?;
        if pinned {
            disk.unlock(byte).map_err(|e| Error::io("unlock", disk.path(), e))?;
        }
        if whole {
            return Ok(look);
        }
        disk.sleep(Duration::from_millis(u64::from(attempt)));
    }
    let unfinished = Some("checkpoints came faster than a root could be looked at: try again".to_owned());
    Ok(Look { unfinished, ..Look::default() })
}

fn judge_slots(slots: &Slots, look: &mut Look) {
    let any = slots.newest().is_some();
    for (offset, content) in &slots.copies {
        if let Content::Whole(root) = content {
            look.times.push((root.sequence, root.commit_time));
        }
        let Content::Broken(why) = content else { continue };
        let severity = if any { Severity::Warning } else { Severity::Damage };
        look.add(severity, *offset, None, None, format!("this copy of the root slot is broken: {why}"));
    }
    if !any {
        let message = "no root slot is whole: nothing can be found from here".to_owned();
        look.add(Severity::Damage, 0, None, None, message);
    }
}

/// Examines what a pinned root leads to. `false`: there is a newer root, whose log took the place of this one's.
fn root_looked_at(disk: &dyn Disk, root: Root, look: &mut Look, last: bool) -> Result<bool> {
    let page_size = u64::from(root.page_size);
    let whole = look.file_size / page_size;
    let file = root.file(disk, root.page_count.min(whole));
    if root.page_count > whole {
        let message = format!("the file should have {} pages, but ends after {whole}", root.page_count);
        look.add(Severity::Damage, look.file_size, None, None, message);
    }
    // The log comes first: its frames live only until the next root.
    let findings = look.findings.len();
    log(&file, &root, look);
    if !root.is_newest(disk)? {
        if !last {
            return Ok(false);
        }
        look.findings.truncate(findings);
        look.log = None;
        look.unfinished = Some("the log was not read: checkpoints came faster than it could be".to_owned());
    }
    trees(&file, &root, look);
    space(&file, &root, look);
    look.root = Some(root);
    Ok(true)
}

/// Follows the chain of frames. Whether one is missing at its end is left to the full check.
fn log(file: &File<'_>, root: &Root, look: &mut Look) {
    let ring = match Ring::new(root) {
        Ok(ring) => ring,
        Err(why) => return look.add(Severity::Damage, root.offset, None, None, why),
    };
    let (mut position, mut lsn, mut crc) = (root.log_position, root.checkpoint_lsn, root.log_crc);
    let mut transactions = 0;
    loop {
        match ring.next(file, position, lsn.saturating_add(1), crc) {
            Ok(Some(frame)) => {
                (position, lsn, crc) = (frame.end(), frame.lsn(), frame.crc());
                transactions += u64::from(frame.kind() == KIND_COMMIT);
            }
            Ok(None) => break,
            Err(why) => {
                look.add(Severity::Damage, ring.locate(position).0, None, None, format!("the log: {why}"));
                break;
            }
        }
    }
    let used = position - root.log_position;
    look.log = Some(LogLook { capacity: ring.total, used, transactions });
}

/// Catalog and names, and the size of each table's tree.
fn trees(file: &File<'_>, root: &Root, look: &mut Look) {
    let mut roots = BTreeMap::new();
    for (key, value) in rows(file, root.catalog, TABLE_CATALOG, "(catalog)", look) {
        match catalog_row(&key, &value) {
            Some((id, tree)) => _ = roots.insert(id, tree),
            None => {
                let message = format!("the row {} is no table's", key.escape_ascii());
                look.add(Severity::Damage, root.offset, None, Some("(catalog)"), message);
            }
        }
    }
    let names = roots.get(&TABLE_NAMES).copied().unwrap_or_default();
    for (key, value) in rows(file, names, TABLE_NAMES, "(names)", look) {
        let Some(row) = name_row(&key, &value).filter(|row| row.id >= FIRST_USER_TABLE) else {
            let message = format!("the row of table {:?} cannot be understood", key.escape_ascii().to_string());
            look.add(Severity::Damage, root.offset, None, Some("(names)"), message);
            continue;
        };
        let tree = roots.get(&row.id).copied().unwrap_or_default();
        walk(file, tree, row.id, &row.name, look, &mut |_| {});
        look.trees.push((row, tree));
    }
}

/// All rows of one of the store's own tables, those with long values aside: there are none.
fn rows(file: &File<'_>, tree: TreeRoot, table: u32, name: &str, look: &mut Look) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    let mut leaves = Vec::new();
    walk(file, tree, table, name, look, &mut |leaf| leaves.push(leaf));
    for ptr in leaves {
        let told = file.run(ptr, Expect { kinds: &[KIND_LEAF], table, version: file.version }, file.pages);
        let found = told.and_then(|leaf| {
            let entries = node::leaf(&leaf)?;
            let inline = entries.iter().filter_map(|(key, value)| match value {
                Value::Inline(bytes) => Some((key.to_vec(), bytes.to_vec())),
                Value::Long(_) => None,
            });
            rows.extend(inline);
            Ok(())
        });
        if let Err(why) = found {
            look.add(Severity::Damage, file.offset(ptr.page), Some(ptr.page), Some(name), format!("a leaf: {why}"));
        }
    }
    rows
}

/// Reads the branches of a tree, and its root, and calls `each` for each leaf.
fn walk(file: &File<'_>, tree: TreeRoot, table: u32, name: &str, look: &mut Look, each: &mut dyn FnMut(Ptr)) {
    if tree.ptr.is_none() {
        return;
    }
    let mut open = vec![(tree.ptr, LEVELS)];
    while let Some((ptr, below)) = open.pop() {
        look.nodes += 1;
        if look.nodes > NODES {
            look.unfinished = Some(format!("only the first {NODES} branches were read"));
            return;
        }
        match node_at(file, ptr, table, below) {
            Ok((0, _)) => each(ptr),
            Ok((1, children)) => children.into_iter().for_each(&mut *each),
            Ok((level, children)) => open.extend(children.into_iter().rev().map(|child| (child, level))),
            Err(why) => {
                look.add(Severity::Damage, file.offset(ptr.page), Some(ptr.page), Some(name), format!("a node: {why}"));
            }
        }
    }
}

/// A node of a level lower than `below`: its level, and its children, in order.
fn node_at(file: &File<'_>, ptr: Ptr, table: u32, below: u8) -> Result<(u8, Vec<Ptr>), String> {
    let expect = Expect { kinds: &[KIND_LEAF, KIND_BRANCH], table, version: file.version };
    let run = file.run(ptr, expect, file.pages)?;
    let level = run.get(PAGE_LEVEL).copied().unwrap_or(0);
    if level >= below || below != LEVELS && level + 1 != below {
        return Err(format!("level {level} below level {below}"));
    }
    let children = if level == 0 { Vec::new() } else { node::branch(&run)?.children };
    Ok((level, children.into_iter().map(|child| child.ptr).collect()))
}

/// The free map and the pending list.
fn space(file: &File<'_>, root: &Root, look: &mut Look) {
    let Unused { free, pending, broken } = Unused::read(file, root);
    let sum = |runs: &[(u64, u64)]| runs.iter().map(|(_, pages)| pages).sum::<u64>();
    look.space = broken.is_empty().then(|| (sum(&free), sum(&pending)));
    for (page, why) in broken {
        let message = format!("the free map: {why}");
        look.add(Severity::Damage, file.offset(page), Some(page), None, message);
    }
}
