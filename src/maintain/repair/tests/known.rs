//! Stores with known content, as files that a killed process leaves, and what lies on each of their pages.

use std::collections::{BTreeMap, BTreeSet};

use crate::disk::format::*;
use crate::disk::memory::MemoryDisk;
use crate::maintain::format::file::{Expect, File};
use crate::maintain::format::node::{self, Value};
use crate::maintain::format::rows::catalog_row;
use crate::maintain::format::slots::{Root, Slots};
use crate::maintain::format::space::{parts, regions};
use crate::maintain::repair::copy::{Sink, copy};
use crate::maintain::repair::report::RepairReport;
use crate::maintain::repair::survey::whole_file;
use crate::maintain::repair::*;
use crate::{Options, Snapshot, Store, Table};

/// Tables by name, each with its rows.
pub(super) type Content = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

pub(super) fn content_of(snapshot: &Snapshot) -> Content {
    let mut content = Content::new();
    for table in snapshot.tables().unwrap() {
        let rows = snapshot.untyped(&table.name).unwrap().range(..).unwrap();
        let rows = rows.map(|row| row.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap()).collect();
        content.insert(table.name, rows);
    }
    content
}

/// What a run of pages is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    Catalog,
    Names,
    /// A branch below a root, a table's root, be it a leaf or not, another leaf, a long value.
    Branch,
    Top,
    Leaf,
    Value,
    Directory,
    Region,
    Pending,
}

/// A run of pages in use.
#[derive(Debug, Clone)]
pub(super) struct Used {
    pub(super) page: u32,
    pub(super) pages: u32,
    pub(super) what: What,
    pub(super) table: u32,
    /// The rows that go with it.
    pub(super) keys: BTreeSet<Vec<u8>>,
}

pub(super) struct Known {
    pub(super) bytes: Vec<u8>,
    pub(super) content: Content,
    pub(super) ids: BTreeMap<u32, String>,
    pub(super) used: Vec<Used>,
    pub(super) root: Root,
}

/// Writes in many transactions and checkpoints, so that outdated pages lie about, and then into the log alone, if asked.
/// Without the `older` root there is but one to start from.
pub(super) fn known(rows: u32, tail: bool, older: bool) -> Known {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.mst");
    let store = Options::new().open(&path).unwrap();
    let value = |n: u32, round: u32| format!("{n} of round {round} {}", "x".repeat((n % 90) as usize)).into_bytes();
    for round in 0..6_u32 {
        store
            .write(|tx| {
                let (alpha, beta) = (tx.raw("alpha")?, tx.raw("beta")?);
                for n in (0..rows).filter(|n| round == 0 || (n / 40 + round) % 5 == 0) {
                    alpha.put(format!("key {n:06}").as_bytes(), &value(n, round))?;
                }
                for n in (0..rows).filter(|n| n % 7 == round) {
                    alpha.delete(format!("key {n:06}").as_bytes())?;
                }
                for n in 0..40 {
                    beta.put(&(n * 3 + round).to_be_bytes(), &value(n, round))?;
                }
                let long = tx.table(Table::<u32, [u8], crate::Raw>::new("long values"))?;
                long.insert(round, &vec![round as u8; 3000 + 9000 * round as usize][..])?;
                tx.raw("empty").map(drop)
            })
            .unwrap();
        store.checkpoint().unwrap();
    }
    if tail {
        write_tail(&store, rows);
        store.flush().unwrap();
    }
    let content = content_of(&store.read().unwrap());
    let mut bytes = std::fs::read(&path).unwrap();
    let newest = Slots::read(&MemoryDisk::new(bytes.clone())).unwrap().newest().unwrap();
    if !older {
        let slot = (newest.sequence as usize + 1) % 2 * newest.page_size as usize;
        bytes[slot..slot + newest.page_size as usize].fill(0xa5);
    }
    Known::new(bytes, content)
}

fn write_tail(store: &Store, rows: u32) {
    for n in 0..30_u32 {
        store
            .write(|tx| {
                tx.raw("alpha")?.put(format!("key {:06}", n * 17 % rows).as_bytes(), b"by the log")?;
                tx.raw("alpha")?.delete(format!("key {:06}", n * 23 % rows).as_bytes())?;
                tx.raw("late")?.put(&n.to_be_bytes(), b"only the log has it")?;
                tx.raw("late")?.put(b"long", b"short still")
            })
            .unwrap();
    }
    store
        .write(|tx| {
            tx.rename_table("beta", "gamma")?;
            tx.raw("late")?.put(b"long", &vec![7; 50_000])
        })
        .unwrap();
}

impl Known {
    fn new(bytes: Vec<u8>, content: Content) -> Known {
        let disk = MemoryDisk::new(bytes.clone());
        let root = Slots::read(&disk).unwrap().newest().unwrap();
        let all = whole_file(&disk, root.page_size, get_u32(&root.store, 0)).unwrap();
        let mut used = Vec::new();
        walk(&all, root.catalog.ptr, TABLE_CATALOG, None, &mut used);
        let trees: Vec<(u32, TreeRoot)> = rows_of(&all, root.catalog.ptr, TABLE_CATALOG)
            .iter()
            .filter_map(|(key, value)| catalog_row(key, value))
            .collect();
        let mut ids = BTreeMap::new();
        for (id, tree) in trees {
            walk(&all, tree.ptr, id, None, &mut used);
            if id == TABLE_NAMES {
                let rows = rows_of(&all, tree.ptr, id);
                ids = rows.iter().map(|(k, v)| (get_u32(v, 0), String::from_utf8(k.clone()).unwrap())).collect();
            }
        }
        let none = Used { page: 0, pages: 1, what: What::Directory, table: TABLE_SPACE, keys: BTreeSet::new() };
        let (payload, pages) = all.space_payload(root.directory, KIND_FREE_DIRECTORY).unwrap();
        used.push(Used { page: root.directory.page, pages, ..none.clone() });
        for region in regions(&payload, root.page_size, root.page_count).unwrap() {
            used.push(Used { page: region.ptr.page, what: What::Region, ..none.clone() });
        }
        let (list, pages) = all.space_payload(root.pending, KIND_PENDING).unwrap();
        used.push(Used { page: root.pending.page, pages, what: What::Pending, ..none.clone() });
        for part in parts(&list).unwrap().0 {
            let (_, pages) = all.space_payload(part, KIND_PENDING_PART).unwrap();
            used.push(Used { page: part.page, pages, what: What::Pending, ..none.clone() });
        }
        used.retain(|run| run.page != 0);
        let mut known = Known { bytes, content, ids, used, root };
        // What the log renamed is known by its new name in the result.
        known.ids.values_mut().filter(|name| *name == "beta").for_each(|name| {
            if known.content.contains_key("gamma") {
                *name = "gamma".to_owned();
            }
        });
        known
    }

    /// The file with runs overwritten.
    pub(super) fn without(&self, destroyed: &[&Used]) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        for run in destroyed {
            let from = run.page as usize * self.root.page_size as usize;
            bytes[from..from + run.pages as usize * self.root.page_size as usize].fill(0xa5);
        }
        bytes
    }
}

fn walk(all: &File<'_>, ptr: Ptr, table: u32, above: Option<u8>, used: &mut Vec<Used>) {
    let expect = Expect { kinds: &[KIND_LEAF, KIND_BRANCH], table, version: u64::MAX };
    let run = all.run(ptr, expect, 16).unwrap();
    let level = run[PAGE_LEVEL];
    let mut keys = BTreeSet::new();
    if level == 0 {
        for (key, value) in node::leaf(&run).unwrap() {
            keys.insert(key.to_vec());
            if let Value::Long(long) = value {
                for extent in long.pages.extents(all.page_size).unwrap().iter() {
                    let keys = [key.to_vec()].into();
                    used.push(Used { page: extent.page, pages: extent.pages, what: What::Value, table, keys });
                }
            }
        }
    } else {
        for child in node::branch(&run).unwrap().children {
            walk(all, child.ptr, table, Some(level), used);
        }
    }
    let what = match (table, level, above) {
        (TABLE_CATALOG, _, _) => What::Catalog,
        (TABLE_NAMES, _, _) => What::Names,
        (_, _, None) => What::Top,
        (_, 0, _) => What::Leaf,
        _ => What::Branch,
    };
    let pages = (run.len() / all.page_size as usize) as u32;
    used.push(Used { page: ptr.page, pages, what, table, keys });
}

fn rows_of(all: &File<'_>, ptr: Ptr, table: u32) -> Vec<(Vec<u8>, Vec<u8>)> {
    let expect = Expect { kinds: &[KIND_LEAF], table, version: u64::MAX };
    let run = all.run(ptr, expect, 16).unwrap();
    let short =
        |value: &Value<'_>| if let Value::Inline(value) = value { value.to_vec() } else { panic!("a long row") };
    node::leaf(&run).unwrap().iter().map(|(key, value)| (key.to_vec(), short(value))).collect()
}

/// Takes the rows without a file.
#[derive(Default)]
struct Rows(BTreeMap<(usize, Vec<u8>), Vec<u8>>);

impl Sink for Rows {
    fn set(&mut self, table: usize, key: &[u8], value: Option<Vec<u8>>) -> Result<()> {
        match value {
            Some(value) => self.0.insert((table, key.to_vec()), value),
            None => self.0.remove(&(table, key.to_vec())),
        };
        Ok(())
    }
}

/// Where the frames of the log lie in the file.
pub(super) fn frames(bytes: &[u8]) -> Vec<u64> {
    let disk = MemoryDisk::new(bytes.to_vec());
    let mut go_on = |_: Progress| ControlFlow::Continue(());
    let watch = &mut Watch::new(Path::new(""), &mut go_on);
    source::choose(&disk, watch).unwrap().log.chain.iter().map(|mark| mark.offset).collect()
}

/// What a repair of these bytes gives.
pub(super) fn repaired(bytes: Vec<u8>, unproven: bool) -> Result<(Content, RepairReport)> {
    let disk = MemoryDisk::new(bytes);
    let mut go_on = |_: Progress| ControlFlow::Continue(());
    let watch = &mut Watch::new(Path::new(""), &mut go_on);
    let mut survey = source::choose(&disk, watch)?;
    let mut plan = plan::plan(&mut survey, unproven, watch)?;
    let mut rows = Rows::default();
    let tables = copy(&survey, &mut plan, &mut rows, unproven, watch)?;
    let mut content: Content = plan.tables.iter().map(|table| (table.row.name.clone(), BTreeMap::new())).collect();
    for ((table, key), value) in rows.0 {
        content.get_mut(&plan.tables[table].row.name).unwrap().insert(key, value);
    }
    Ok((content, tell(&survey, &plan, tables, unproven)))
}
