//! Trees, their long values, and the two tables that describe all other tables.

use std::collections::BTreeMap;

use super::leaves::Row;
use super::levels::Tree;
use super::uses::Use;
use super::{Place, TableReport, Walk};
use crate::disk::format::{
    Extent, Extents, FIRST_USER_TABLE, KIND_OVERFLOW, OWN_TABLES, Overflow, SETTING_USER_VERSION, TABLE_CATALOG,
    TABLE_JOURNAL, TABLE_NAMES, TABLE_SETTINGS, TABLE_SNAPSHOTS, TreeRoot,
};
use crate::error::Result;
use crate::maintain::format::file::Expect;
use crate::maintain::format::journal::{journal, setting};
use crate::maintain::format::rows::{NameRow, catalog_row, name_row};

impl Walk<'_, '_> {
    /// Catalog and names, then each table.
    pub(super) fn trees(&mut self) -> Result<()> {
        let catalog =
            TableReport { name: "(catalog)".to_owned(), id: TABLE_CATALOG, internal: true, ..TableReport::default() };
        let rows = self.tree(self.root.catalog, catalog, true)?;
        let mut roots = BTreeMap::new();
        for (key, value) in rows {
            match catalog_row(&key, &value) {
                Some((id, root)) if OWN_TABLES.contains(&id) || self.is_user_table(id) => _ = roots.insert(id, root),
                _ => self.row("(catalog)", format!("the row {} is no table's", key.escape_ascii())),
            }
        }
        let names =
            TableReport { name: "(names)".to_owned(), id: TABLE_NAMES, internal: true, ..TableReport::default() };
        let damage = self.findings.report.damage;
        let rows = self.tree(roots.remove(&TABLE_NAMES).unwrap_or_default(), names, true)?;
        let (mut tables, ids) = self.tables_named(rows);
        if self.findings.report.damage == damage {
            self.judge_logged(ids);
        }
        for (key, value) in self.own_tree(&mut roots, TABLE_SETTINGS, "(settings)")? {
            if key == SETTING_USER_VERSION && value.len() < 8 {
                self.row("(settings)", format!("a user version of {} bytes", value.len()));
            }
            setting(&key, &value).into_iter().for_each(|why| self.row("(settings)", why));
        }
        let damage = self.findings.report.damage;
        let rows = self.own_tree(&mut roots, TABLE_JOURNAL, "(journal)")?;
        if self.findings.report.damage == damage
            && let Err(why) = journal(&rows, self.root.last_commit)
        {
            self.row("(journal)", why);
        }
        let snapshots = self.own_tree(&mut roots, TABLE_SNAPSHOTS, "(snapshots)")?;
        for id in roots.keys().copied().collect::<Vec<_>>() {
            tables.entry(id).or_insert_with(|| {
                self.row("(catalog)", format!("table {id} has entries but no name"));
                TableReport { name: format!("(table {id})"), id, ..TableReport::default() }
            });
        }
        for (id, table) in tables {
            self.tree(roots.remove(&id).unwrap_or_default(), table, false)?;
        }
        self.named(snapshots);
        Ok(())
    }

    /// A table of the store's own that need not exist.
    fn own_tree(&mut self, roots: &mut BTreeMap<u32, TreeRoot>, id: u32, name: &str) -> Result<Vec<Row>> {
        let Some(root) = roots.remove(&id) else { return Ok(Vec::new()) };
        self.tree(root, TableReport { name: name.to_owned(), id, internal: true, ..TableReport::default() }, true)
    }

    /// The tables in the rows of the names table, by their ids, and the ids by the names.
    fn tables_named(&mut self, rows: Vec<Row>) -> (BTreeMap<u32, TableReport>, BTreeMap<Vec<u8>, u32>) {
        let (mut tables, mut ids) = (BTreeMap::new(), BTreeMap::new());
        for (key, value) in rows {
            let name = String::from_utf8_lossy(&key).into_owned();
            let Some(row) = name_row(&key, &value).filter(|row| self.is_user_table(row.id)) else {
                self.row("(names)", format!("the row of table {name:?} cannot be understood"));
                continue;
            };
            ids.insert(key, row.id);
            if row.unknown_flags() != 0 {
                let place = Place { offset: 0, page: None, table: Some("(names)") };
                let flags = row.unknown_flags();
                let message = format!(
                    "a newer program has given table {name:?} the flags {flags:#x}; it is checked as any other"
                );
                self.findings.warning(place, message);
            }
            let NameRow { id, key_type, value_type, .. } = row;
            let table = TableReport { name: name.clone(), id, key_type, value_type, ..TableReport::default() };
            if let Some(TableReport { name: other, .. }) = tables.insert(id, table) {
                self.row("(names)", format!("the tables {other:?} and {name:?} have the same id {id}"));
            }
        }
        (tables, ids)
    }

    fn is_user_table(&self, id: u32) -> bool {
        (FIRST_USER_TABLE..self.root.next_table).contains(&id)
    }

    /// Something wrong in a row of the store's own tables.
    pub(super) fn row(&mut self, table: &str, message: String) {
        let page = self.root.catalog.ptr.page;
        self.findings.damage(Place { offset: self.file.offset(page), page: Some(page), table: Some(table) }, message);
    }

    fn tree(&mut self, root: TreeRoot, report: TableReport, keep: bool) -> Result<Vec<Row>> {
        let offset = self.file.offset(root.ptr.page);
        let damage = self.findings.report.damage;
        let mut tree = Tree::new(self, report, keep);
        if !root.ptr.is_none() {
            tree.walk(root.ptr)?;
        }
        let (report, end, broken, rows) = tree.finish();
        if !broken && report.entries != root.count {
            let place = Place { offset, page: Some(root.ptr.page), table: Some(&report.name) };
            let message = format!("{} entries are noted, but {} are there", root.count, report.entries);
            self.findings.damage(place, message);
        }
        // A long value that is damaged is counted neither here nor there.
        let whole = self.findings.report.damage == damage;
        let (pages, bytes) = (report.pages(), report.key_bytes + report.value_bytes);
        if whole && (pages, bytes) != (root.pages, root.bytes) {
            let place = Place { offset, page: Some(root.ptr.page), table: Some(&report.name) };
            let noted = format!("{} pages and {} bytes are noted", root.pages, root.bytes);
            self.findings.damage(place, format!("{noted}, but {pages} and {bytes} are there"));
        }
        if whole && end != root.end {
            let place = Place { offset, page: Some(root.ptr.page), table: Some(&report.name) };
            self.findings.damage(place, format!("it is noted to end before page {}, but ends before {end}", root.end));
        }
        self.findings.report.tables.push(report);
        Ok(rows)
    }

    /// Verifies a long value that only the log refers to, and marks its pages. An impossible pointer is reported
    /// at its `place`.
    pub(super) fn logged_value(&mut self, long: Overflow, table: u32, place: Place<'_>) {
        if !self.claim_long(long, Use::LogValue, place) {
            return;
        }
        // It was written after the root.
        let expect = Expect { kinds: &[KIND_OVERFLOW], table, version: u64::MAX };
        if let Err(why) = self.file.verify_long(&long, expect) {
            let page = long.ptr.page;
            let place = Place { offset: self.file.offset(page), page: Some(page), table: place.table };
            self.findings.damage(place, format!("a long value: {why}"));
        }
    }

    /// Marks the pages of a long value; a finding, and `false`, if it cannot be there.
    pub(super) fn claim_long(&mut self, long: Overflow, as_what: Use, place: Place<'_>) -> bool {
        let extents = if as_what == Use::LogValue {
            // It may lie beyond the end of the file that the root knows.
            self.file.extents(&long).and_then(|extents| self.exist(&extents).map(|()| extents))
        } else {
            self.file.extents_within(&long)
        };
        match extents {
            Ok(extents) => {
                let claimed = |extent: &Extent| self.claim(extent.page, extent.pages, as_what, place.table);
                extents.iter().filter(claimed).count() == extents.len()
            }
            Err(why) => {
                let message = format!("a value of {} bytes at page {} cannot be: {why}", long.len, long.ptr.page);
                self.findings.damage(place, message);
                false
            }
        }
    }

    /// Whether extents lie within the file.
    fn exist(&self, extents: &Extents) -> std::result::Result<(), String> {
        let len = self.file.disk.len().map_err(|error| format!("the file's length cannot be read: {error}"))?;
        let within = extents.iter().all(|extent| extent.page >= self.file.first_page());
        let end = extents.end() * u64::from(self.file.page_size);
        if within && end <= len { Ok(()) } else { Err(format!("it ends at byte {end}, and the file at {len}")) }
    }
}
