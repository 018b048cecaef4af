//! The tree of the other root slot, which the store falls back to if the newest root is lost.
//!
//! What the two roots share was checked already. The rest is pending in the newest root, and may be reused as
//! soon as a writer needs pages; so it is checked only while no process may write. A writer that died may have
//! started to write there: then the header is another one. So it counts as damage only if a page has the very
//! header that it should have, or cannot be read at all.

use super::{Place, Walk};
use crate::disk::format::{
    Extent, KIND_BRANCH, KIND_LEAF, KIND_OVERFLOW, MAX_LEVEL, MAX_PAGE_SIZE, Overflow, PAGE_CRC, PAGE_HEADER,
    PAGE_LEVEL, PAGE_NUMBER, PAGE_RUN, PAGE_STORE, Ptr, TABLE_CATALOG, get_u32,
};
use crate::error::{Error, Result};
use crate::maintain::format::file::{Expect, File};
use crate::maintain::format::node::{self, Value};
use crate::maintain::format::rows::catalog_row;
use crate::maintain::format::slots::{Content, Root, Slots};
use crate::maintain::format::{READERS, WRITERS};

/// A pass over what the other root alone leads to.
struct Other<'w, 'd, 'p> {
    walk: &'w mut Walk<'d, 'p>,
    file: File<'d>,
    /// Page, what is wrong.
    found: Vec<(u32, String)>,
    /// Rows of the catalog.
    tables: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Walk<'_, '_> {
    /// Checks the tree of the root before this one, if it is not the same.
    pub(super) fn other_root(&mut self, slots: &Slots) -> Result<()> {
        let before = self.root.sequence - 1;
        let other = slots.copies.iter().find_map(|(_, content)| match content {
            Content::Whole(root) if root.sequence == before && root.store == self.root.store => Some(root.as_ref()),
            _ => None,
        });
        let Some(other) = other.filter(|other| other.page_size == self.root.page_size) else { return Ok(()) };
        if !self.may_nobody_write()? {
            return Ok(());
        }
        let file = File { version: before, ..self.file };
        let mut pass = Other { walk: self, file, found: Vec::new(), tables: Vec::new() };
        pass.trees(other)?;
        let found = pass.found;
        // A writer that opened meanwhile may have written to these pages.
        if !self.root.is_newest(self.file.disk)? || !self.may_nobody_write()? {
            return Ok(());
        }
        self.findings.report.other_root = Some(before);
        for (page, why) in found {
            let place = Place { offset: self.file.offset(page), page: Some(page), table: None };
            let message = format!("root {before}, which serves if root {} is lost: {why}", self.root.sequence);
            self.findings.warning(place, message);
        }
        Ok(())
    }

    fn may_nobody_write(&self) -> Result<bool> {
        let disk = self.file.disk;
        let writer =
            disk.probe(WRITERS, READERS - WRITERS).map_err(|e| Error::io("look for writers", disk.path(), e))?;
        Ok(writer.is_none())
    }
}

impl Other<'_, '_, '_> {
    fn trees(&mut self, other: &Root) -> Result<()> {
        self.node(other.catalog.ptr, TABLE_CATALOG, None)?;
        for (key, value) in std::mem::take(&mut self.tables) {
            if let Some((id, root)) = catalog_row(&key, &value) {
                self.node(root.ptr, id, None)?;
            }
        }
        Ok(())
    }

    /// Whether a page is one that this root alone has, and was not met before.
    fn is_its_own(&mut self, ptr: Ptr, pages: u64) -> bool {
        !ptr.is_none() && self.file.within(ptr.page, pages).is_ok() && self.walk.uses.take_pending(ptr.page)
    }

    /// Whether no other run was written there since: the header of one page stands for all of it. So it does if it cannot be read.
    fn has_its_header(&self, ptr: Ptr) -> bool {
        let mut header = [0; PAGE_HEADER];
        let read = self.file.read(&mut header, self.file.offset(ptr.page));
        let fields = [PAGE_CRC, PAGE_NUMBER, PAGE_STORE, PAGE_RUN].map(|at| get_u32(&header, at));
        read.is_err() || fields == [ptr.crc, ptr.page, self.file.store_tag, 1]
    }

    fn node(&mut self, ptr: Ptr, table: u32, above: Option<u8>) -> Result<()> {
        if !self.is_its_own(ptr, 1) {
            return Ok(());
        }
        let expect = Expect { kinds: &[KIND_LEAF, KIND_BRANCH], table, version: self.file.version };
        let run = match self.file.run(ptr, expect, MAX_PAGE_SIZE / self.file.page_size) {
            Ok(run) => run,
            Err(why) => {
                if self.has_its_header(ptr) {
                    self.found.push((ptr.page, format!("a node of table {table}: {why}")));
                }
                return Ok(());
            }
        };
        self.walk.watch.more(run.len() as u64)?;
        let level = run.get(PAGE_LEVEL).copied().unwrap_or(0);
        if level > MAX_LEVEL || above.is_some_and(|above| level + 1 != above) {
            self.found.push((ptr.page, format!("a node of table {table} at level {level}")));
            return Ok(());
        }
        let result = if level == 0 { self.leaf(&run, table)? } else { self.branch(level, &run, table)? };
        if let Err(why) = result {
            self.found.push((ptr.page, format!("a node of table {table}: {why}")));
        }
        Ok(())
    }

    fn branch(&mut self, level: u8, run: &[u8], table: u32) -> Result<std::result::Result<(), String>> {
        match node::branch(run) {
            Ok(node) => {
                node.children.iter().try_for_each(|child| self.node(child.ptr, table, Some(level)))?;
                Ok(Ok(()))
            }
            Err(why) => Ok(Err(why)),
        }
    }

    fn leaf(&mut self, run: &[u8], table: u32) -> Result<std::result::Result<(), String>> {
        let entries = match node::leaf(run) {
            Ok(entries) => entries,
            Err(why) => return Ok(Err(why)),
        };
        for (key, value) in entries {
            match value {
                Value::Inline(value) if table == TABLE_CATALOG => self.tables.push((key.to_vec(), value.to_vec())),
                Value::Inline(_) => {}
                Value::Long(long) => self.long(long.pages, table)?,
            }
        }
        Ok(Ok(()))
    }

    fn long(&mut self, long: Overflow, table: u32) -> Result<()> {
        let Ok(extents) = self.file.extents(&long) else { return Ok(()) };
        let pages = extents.pages();
        let own = |extent: Extent| self.is_its_own(Ptr { page: extent.page, ..long.ptr }, u64::from(extent.pages));
        if !extents.iter().all(own) {
            return Ok(());
        }
        let expect = Expect { kinds: &[KIND_OVERFLOW], table, version: self.file.version };
        if let Err(why) = self.file.verify_long(&long, expect)
            && self.has_its_header(long.ptr)
        {
            self.found.push((long.ptr.page, format!("a long value of table {table}: {why}")));
        }
        self.walk.watch.more(pages * u64::from(self.file.page_size))
    }
}
