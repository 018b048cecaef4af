//! Trees, their long values, and the two tables that tell of all others.

use std::collections::BTreeMap;

use super::uses::Use;
use super::{Place, TableReport, Walk};
use crate::disk::format::{
    FIRST_USER_TABLE, KIND_BRANCH, KIND_LEAF, KIND_OVERFLOW, MAX_LEVEL, MAX_PAGE_SIZE, MAX_VALUE_SIZE, NODE_END,
    Overflow, PAGE_HEADER, PAGE_LEVEL, Ptr, TABLE_CATALOG, TABLE_NAMES, TABLE_SETTINGS, TABLE_SNAPSHOTS, TreeRoot,
    get_u32,
};
use crate::maintain::format::file::Expect;
use crate::maintain::format::node::{self, Value};
use crate::maintain::format::rows::{NameRow, catalog_row, name_row};
use crate::maintain::format::types::{KeyType, value_fits};

/// Longest value that is kept of the store's own tables: two type names.
const MAX_OWN_VALUE: u64 = 1 << 18;

type Row = (Vec<u8>, Vec<u8>);

/// A tree on its way.
struct Tree<'w, 'd> {
    walk: &'w mut Walk<'d>,
    report: TableReport,
    /// A part could not be read, so that counts say nothing.
    broken: bool,
    /// The rows, if they are wanted.
    rows: Option<Vec<Row>>,
    key_type: KeyType,
}

impl Walk<'_> {
    /// Catalog and names, then each table.
    pub(super) fn trees(&mut self) {
        let catalog =
            TableReport { name: "(catalog)".to_owned(), id: TABLE_CATALOG, internal: true, ..TableReport::default() };
        let rows = self.tree(self.root.catalog, catalog, true);
        let mut roots = BTreeMap::new();
        for (key, value) in rows {
            match catalog_row(&key, &value) {
                Some((id, root))
                    if [TABLE_NAMES, TABLE_SNAPSHOTS, TABLE_SETTINGS].contains(&id) || self.is_user_table(id) =>
                {
                    _ = roots.insert(id, root)
                }
                _ => self.row("(catalog)", format!("the row {} is no table's", key.escape_ascii())),
            }
        }
        let names =
            TableReport { name: "(names)".to_owned(), id: TABLE_NAMES, internal: true, ..TableReport::default() };
        let damage = self.findings.report.damage;
        let rows = self.tree(roots.remove(&TABLE_NAMES).unwrap_or_default(), names, true);
        if let Some(settings) = roots.remove(&TABLE_SETTINGS) {
            let name = "(settings)".to_owned();
            self.tree(
                settings,
                TableReport { name, id: TABLE_SETTINGS, internal: true, ..TableReport::default() },
                false,
            );
        }
        let mut tables = BTreeMap::new();
        let mut ids = BTreeMap::new();
        for (key, value) in rows {
            let name = String::from_utf8_lossy(&key).into_owned();
            let Some(row) = name_row(&key, &value).filter(|row| self.is_user_table(row.id)) else {
                self.row("(names)", format!("the row of table {name:?} cannot be understood"));
                continue;
            };
            ids.insert(key, row.id);
            let NameRow { name: _, id, key_type, value_type } = row;
            let table = TableReport { name: name.clone(), id, key_type, value_type, ..TableReport::default() };
            if let Some(TableReport { name: other, .. }) = tables.insert(id, table) {
                self.row("(names)", format!("the tables {other:?} and {name:?} have the same id {id}"));
            }
        }
        if self.findings.report.damage == damage {
            self.judge_logged(ids);
        }
        let snapshots = TableReport {
            name: "(snapshots)".to_owned(),
            id: TABLE_SNAPSHOTS,
            internal: true,
            ..TableReport::default()
        };
        let snapshots = roots.remove(&TABLE_SNAPSHOTS).map(|root| self.tree(root, snapshots, true)).unwrap_or_default();
        for id in roots.keys().copied().collect::<Vec<_>>() {
            tables.entry(id).or_insert_with(|| {
                self.row("(catalog)", format!("table {id} has entries but no name"));
                TableReport { name: format!("(table {id})"), id, ..TableReport::default() }
            });
        }
        for (id, table) in tables {
            self.tree(roots.remove(&id).unwrap_or_default(), table, false);
        }
        self.named(snapshots);
    }

    fn is_user_table(&self, id: u32) -> bool {
        (FIRST_USER_TABLE..self.root.next_table).contains(&id)
    }

    /// Something wrong in a row of the store's own tables.
    pub(super) fn row(&mut self, table: &str, message: String) {
        let page = self.root.catalog.ptr.page;
        self.findings.damage(Place { offset: self.file.offset(page), page: Some(page), table: Some(table) }, message);
    }

    fn tree(&mut self, root: TreeRoot, report: TableReport, keep: bool) -> Vec<Row> {
        let offset = self.file.offset(root.ptr.page);
        let key_type = KeyType::named(&report.key_type);
        let mut tree = Tree { walk: self, report, broken: false, rows: keep.then(Vec::new), key_type };
        if !root.ptr.is_none() {
            tree.node(root.ptr, None, None, None);
        }
        let Tree { report, broken, rows, .. } = tree;
        if !broken && report.entries != root.count {
            let place = Place { offset, page: Some(root.ptr.page), table: Some(&report.name) };
            let message = format!("{} entries are noted, but {} are there", root.count, report.entries);
            self.findings.damage(place, message);
        }
        self.findings.report.tables.push(report);
        rows.unwrap_or_default()
    }

    /// Reads a long value that was verified just before.
    fn long_bytes(&self, long: Overflow, table: u32) -> Result<Vec<u8>, String> {
        let expect = Expect { kinds: &[KIND_OVERFLOW], table, version: self.file.version };
        self.file.long_value(long.ptr, expect, Overflow::pages(long.len, self.file.page_size), long.len)
    }

    /// Verifies a long value and marks its pages. `place`, the one of its pointer, is told if the
    /// pointer itself makes no sense.
    pub(super) fn long_value(&mut self, long: Overflow, table: u32, as_what: Use, place: Place<'_>) -> bool {
        let pages = Overflow::pages(long.len.min(MAX_VALUE_SIZE), self.file.page_size);
        let (exists, version) = if as_what == Use::LogValue {
            // Written since the root was, so perhaps at an end of the file that the root knows not.
            let end = self.file.offset(long.ptr.page) + pages * u64::from(self.file.page_size);
            let exists = long.ptr.page >= self.file.first_page && self.file.disk.len().is_ok_and(|len| end <= len);
            (exists, u64::MAX)
        } else {
            (self.file.within(long.ptr.page, pages).is_ok(), self.file.version)
        };
        if long.len > MAX_VALUE_SIZE || !exists {
            let message = format!("a value of {} bytes at page {} cannot be", long.len, long.ptr.page);
            self.findings.damage(place, message);
            return false;
        }
        let run = u32::try_from(pages).unwrap_or(u32::MAX);
        if !self.claim(long.ptr.page, run, as_what, place.table) {
            return false;
        }
        let expect = Expect { kinds: &[KIND_OVERFLOW], table, version };
        if let Err(why) = self.file.long_run(long.ptr, expect, pages, long.len) {
            let page = long.ptr.page;
            let place = Place { offset: self.file.offset(page), page: Some(page), table: place.table };
            self.findings.damage(place, format!("a long value: {why}"));
            return false;
        }
        true
    }
}

impl Tree<'_, '_> {
    fn damage(&mut self, page: u32, message: String) {
        self.broken = true;
        let place = Place { offset: self.walk.file.offset(page), page: Some(page), table: Some(&self.report.name) };
        self.walk.findings.damage(place, message);
    }

    /// A node and all below it, whose keys must be in `low..high`. `above` is its parent's level;
    /// levels fall by one at each step, so the recursion is never deeper than `MAX_LEVEL`.
    fn node(&mut self, ptr: Ptr, above: Option<u8>, low: Option<&[u8]>, high: Option<&[u8]>) {
        let page_size = self.walk.file.page_size;
        // A page that has a use already is not walked again: that bounds the time.
        let before = self.walk.uses.get(ptr.page);
        if before != Use::Nothing {
            self.broken = true;
            let name = self.report.name.clone();
            self.walk.claim(ptr.page, 1, Use::Tree, Some(&name));
            return;
        }
        let expect =
            Expect { kinds: &[KIND_LEAF, KIND_BRANCH], table: self.report.id, version: self.walk.file.version };
        // A node is never longer than the longest page.
        let run = match self.walk.file.run(ptr, expect, MAX_PAGE_SIZE / page_size) {
            Ok(run) => run,
            Err(why) => {
                if self.walk.file.within(ptr.page, 1).is_ok() {
                    self.walk.uses.claim(ptr.page, 1, Use::Tree);
                }
                return self.damage(ptr.page, format!("a node: {why}"));
            }
        };
        let pages = u32::try_from(run.len() / page_size as usize).unwrap_or(u32::MAX);
        let name = self.report.name.clone();
        if !self.walk.claim(ptr.page, pages, Use::Tree, Some(&name)) {
            self.broken = true;
            return;
        }
        let level = run.get(PAGE_LEVEL).copied().unwrap_or(0);
        if level > MAX_LEVEL || above.is_some_and(|above| level + 1 != above) {
            return self.damage(ptr.page, format!("level {level} below level {}", above.unwrap_or(MAX_LEVEL + 1)));
        }
        self.report.levels = self.report.levels.max(level + 1);
        self.report.node_pages += u64::from(pages);
        self.report.node_bytes += u64::from(get_u32(&run, NODE_END));
        let result = if level == 0 { self.leaf(ptr, &run, low, high) } else { self.branch(level, &run, low, high) };
        if let Err(why) = result {
            self.damage(ptr.page, why);
        }
    }

    fn leaf(&mut self, ptr: Ptr, run: &[u8], low: Option<&[u8]>, high: Option<&[u8]>) -> Result<(), String> {
        self.report.leaves += 1;
        let entries = node::leaf(run, self.walk.file.page_size)?;
        let (first, last) = (entries.first().map(|e| e.0), entries.last().map(|e| e.0));
        if low > first || high.is_some_and(|high| last >= Some(high)) {
            return Err("its keys are outside of the range that its parents give it".to_owned());
        }
        let (name, id) = (self.report.name.clone(), self.report.id);
        let offset = self.walk.file.offset(ptr.page);
        let place = Place { offset, page: Some(ptr.page), table: Some(&name) };
        for (key, value) in entries {
            self.report.entries += 1;
            self.report.key_bytes += key.len() as u64;
            if !self.key_type.fits(key) {
                let message = format!("the key {} is none of the type {}", key.escape_ascii(), self.report.key_type);
                self.walk.findings.warning(place, message);
            }
            let value = match value {
                Value::Inline(value) => {
                    self.report.value_bytes += value.len() as u64;
                    self.judge_value(key, value, place);
                    Some(value.to_vec()).filter(|_| self.rows.is_some())
                }
                Value::Long(long) => {
                    let sound = self.walk.long_value(long, id, Use::Value, place);
                    if !sound {
                        continue;
                    }
                    self.report.long_values += 1;
                    self.report.long_value_pages += Overflow::pages(long.len, self.walk.file.page_size);
                    self.report.value_bytes += long.len;
                    if self.walk.values && !value_fits(&self.report.value_type, &[]) {
                        let value = self.walk.long_bytes(long, id)?;
                        self.judge_value(key, &value, place);
                    }
                    if self.rows.is_some() { self.own_value(long)? } else { None }
                }
            };
            if let (Some(rows), Some(value)) = (&mut self.rows, value) {
                rows.push((key.to_vec(), value));
            }
        }
        Ok(())
    }

    fn judge_value(&mut self, key: &[u8], value: &[u8], place: Place<'_>) {
        if self.walk.values && !value_fits(&self.report.value_type, value) {
            let message =
                format!("the value of key {} is none of the type {}", key.escape_ascii(), self.report.value_type);
            self.walk.findings.warning(place, message);
        }
    }

    /// Reads a long value of the store's own tables, which was verified just before.
    fn own_value(&self, long: Overflow) -> Result<Option<Vec<u8>>, String> {
        if long.len > MAX_OWN_VALUE {
            return Err(format!("a row of {} bytes in a table of the store itself", long.len));
        }
        let mut value = vec![0; usize::try_from(long.len).unwrap_or(0)];
        self.walk.file.read(&mut value, self.walk.file.offset(long.ptr.page) + PAGE_HEADER as u64)?;
        Ok(Some(value))
    }

    fn branch(&mut self, level: u8, run: &[u8], low: Option<&[u8]>, high: Option<&[u8]>) -> Result<(), String> {
        self.report.branches += 1;
        let node = node::branch(run)?;
        let (first, last) = (node.separators.first(), node.separators.last());
        if low.is_some_and(|low| first.is_some_and(|first| low >= first.as_slice()))
            || high.is_some_and(|high| last.is_some_and(|last| last.as_slice() >= high))
        {
            return Err("its separators are outside of the range that its parents give it".to_owned());
        }
        for (index, child) in node.children.iter().enumerate() {
            let left = index.checked_sub(1).and_then(|at| node.separators.get(at)).map(Vec::as_slice);
            let right = node.separators.get(index).map(Vec::as_slice);
            self.node(*child, Some(level), left.or(low), right.or(high));
        }
        Ok(())
    }
}
