//! A tree from its root to its leaves, level by level: many nodes of a level are read in the order in which they lie in the
//! file, and not in that of their keys.
//!
//! Branches, about a hundredth of the pages, say what each leaf must be: its checksum and the range of its keys.
//! That is kept for as many leaves as there is memory for (`held`), and these are read in one go.

use std::borrow::Cow;

use super::leaves::{Judged, Long, Row, Rules, unlike};
use super::pieces::{self, ROUND};
use super::siblings::{NONE, Siblings};
use super::uses::Use;
use super::{Place, Severity, TableReport, Walk};
use crate::disk::format::{
    Child, KIND_BRANCH, KIND_LEAF, MAX_LEVEL, MAX_PAGE_SIZE, NODE_END, PAGE_LEVEL, Ptr, get_u32,
};
use crate::error::Result;
use crate::maintain::format::file::Expect;
use crate::maintain::format::node::{self, Entries};
use crate::maintain::format::types::{KeyType, value_fits};

/// Longest value that is kept of the store's own tables: two type names.
const MAX_OWN_VALUE: u64 = 1 << 18;

/// Long values that are judged together, in the order of their pages.
const LONGS: usize = 1 << 14;

/// A tree on its way.
pub(super) struct Tree<'w, 'd, 'p> {
    walk: &'w mut Walk<'d, 'p>,
    report: TableReport,
    /// A part could not be read, so that counts say nothing.
    broken: bool,
    /// Whether the rows are wanted.
    keep: bool,
    rows: Vec<Row>,
    key_type: KeyType,
    /// Just after the last page that was found in use.
    end: u32,
    /// Bytes kept about nodes, on all levels.
    held: usize,
}

impl<'w, 'd, 'p> Tree<'w, 'd, 'p> {
    pub(super) fn new(walk: &'w mut Walk<'d, 'p>, report: TableReport, keep: bool) -> Tree<'w, 'd, 'p> {
        let key_type = KeyType::named(&report.key_type);
        Tree { walk, report, broken: false, keep, rows: Vec::new(), key_type, end: 0, held: 0 }
    }

    /// What the tree holds, and where its last page ends; whether a part of it could not be read; the rows in key order,
    /// if they are wanted.
    pub(super) fn finish(self) -> (TableReport, u32, bool, Vec<Row>) {
        let mut rows = self.rows;
        rows.sort();
        (self.report, self.end, self.broken, rows)
    }

    /// All of it.
    pub(super) fn walk(&mut self, root: Ptr) -> Result<()> {
        if !self.claim(root) {
            return Ok(());
        }
        let rules = self.rules();
        let run = match rules.file.run(root, rules.nodes, rules.node_pages) {
            Ok(run) => run,
            Err(why) => {
                self.damage(root.page, format!("a node: {why}"));
                return Ok(());
            }
        };
        let level = run.get(PAGE_LEVEL).copied().unwrap_or(0);
        if level == 0 {
            let mut judged = Judged::default();
            rules.leaf(root, &run, &[], None, &mut Entries::default(), &mut judged);
            let mut longs = Vec::new();
            self.found(vec![judged], &mut longs)?;
            return self.longs(longs);
        }
        let mut below = Siblings::from(&[]);
        self.branch(root, level, None, &run, &[], None, &mut below);
        drop(run);
        self.descend(level - 1, below)
    }

    fn rules(&self) -> Rules<'_> {
        let file = self.walk.file;
        let nodes = Expect { kinds: &[KIND_LEAF, KIND_BRANCH], table: self.report.id, version: file.version };
        let values = self.walk.values && !value_fits(&self.report.value_type, &[]);
        Rules {
            file,
            nodes,
            // A node is never longer than the longest page.
            node_pages: MAX_PAGE_SIZE / file.page_size,
            keys: &self.key_type,
            table: &self.report,
            values,
            keep: self.keep,
            max: self.walk.findings.max,
        }
    }

    fn damage(&mut self, page: u32, message: String) {
        self.broken = true;
        let place = Place { offset: self.walk.file.offset(page), page: Some(page), table: Some(&self.report.name) };
        self.walk.findings.damage(place, message);
    }

    /// Marks the first page of a node when a pointer to it is found. A page that has a use already is not read
    /// again, which bounds the time.
    fn claim(&mut self, ptr: Ptr) -> bool {
        let unused = self.walk.uses.get(ptr.page) == Use::Nothing;
        if let Err(why) = self.walk.file.within(ptr.page, 1)
            && unused
        {
            self.damage(ptr.page, format!("a node: {why}"));
            return false;
        }
        let alone = self.walk.claim(ptr.page, 1, Use::Tree, Some(&self.report.name));
        self.broken |= !alone;
        alone
    }

    /// Nodes of this level, and all below them. Levels fall by one at each step, so the recursion is never deeper than
    /// `MAX_LEVEL`.
    fn descend(&mut self, level: u8, siblings: Siblings) -> Result<()> {
        let size = siblings.size();
        self.held += size;
        if level == 0 {
            self.leaves(&siblings)?;
        } else {
            let mut from = 0;
            while from < siblings.len() {
                // Half as many bytes as are held of what they lead to.
                let branches = self.walk.held / (2 * self.walk.file.page_size as usize);
                let to = siblings.len().min(from + branches.max(1));
                self.branches(level, &siblings, from..to)?;
                from = to;
            }
        }
        self.held -= size;
        Ok(())
    }

    /// Some branches of a level, and all below them.
    fn branches(&mut self, level: u8, siblings: &Siblings, range: std::ops::Range<usize>) -> Result<()> {
        let order = siblings.in_page_order(range.clone());
        let mut runs: Vec<Option<Vec<u8>>> = Vec::new();
        runs.resize_with(range.len(), || None);
        let pieces = pieces::cut(self.walk.file.page_size, order.iter().map(|i| (siblings.node(*i as usize).page, 1)));
        for round in pieces.chunks(ROUND) {
            let rules = self.rules();
            let read = pieces::judge(&rules.file, round, self.walk.threads, |piece, bytes| {
                let nodes = order.get(piece.runs.clone()).unwrap_or_default().iter().map(|index| *index as usize);
                let node = |index| (index, rules.node(siblings.node(index), piece, bytes).map(Cow::into_owned));
                nodes.map(node).collect::<Vec<_>>()
            })?;
            for (index, run) in read.into_iter().flatten() {
                match run {
                    Ok(run) => {
                        if let Some(place) = runs.get_mut(index - range.start) {
                            *place = Some(run);
                        }
                    }
                    Err(why) => self.damage(siblings.node(index).page, format!("a node: {why}")),
                }
            }
        }
        let mut below = Siblings::from(siblings.low(range.start));
        for (index, run) in range.zip(runs) {
            let (noted, low, high) = (siblings.noted(index), siblings.low(index), siblings.high(index));
            match run {
                Some(run) => self.branch(noted.ptr, level, Some(noted), &run, low, high, &mut below),
                None => below.push(NONE, high),
            }
            if self.held + below.size() > self.walk.held && !below.is_empty() {
                let next = Siblings::from(high.unwrap_or_default());
                self.descend(level - 1, std::mem::replace(&mut below, next))?;
            }
        }
        if below.is_empty() { Ok(()) } else { self.descend(level - 1, below) }
    }

    /// Judges a branch whose checksum is right, and of which its parent has `noted` something; appends its children.
    #[expect(clippy::too_many_arguments, reason = "what its parent says of it")]
    fn branch(
        &mut self,
        ptr: Ptr,
        level: u8,
        noted: Option<Child>,
        run: &[u8],
        low: &[u8],
        high: Option<&[u8]>,
        below: &mut Siblings,
    ) {
        match self.children(ptr, level, run, low, high, below) {
            Ok(found) => {
                noted.into_iter().flat_map(|noted| unlike(noted, found)).for_each(|why| self.damage(ptr.page, why));
            }
            Err(why) => {
                self.damage(ptr.page, why);
                below.push(NONE, high);
            }
        }
    }

    /// Returns what its parent must note of it, by its own notes.
    fn children(
        &mut self,
        ptr: Ptr,
        level: u8,
        run: &[u8],
        low: &[u8],
        high: Option<&[u8]>,
        below: &mut Siblings,
    ) -> std::result::Result<Child, String> {
        let pages = u32::try_from(run.len() / self.walk.file.page_size as usize).unwrap_or(u32::MAX);
        self.claim_rest(ptr.page, pages);
        let found = run.get(PAGE_LEVEL).copied().unwrap_or(0);
        if found > MAX_LEVEL || found != level {
            return Err(format!("level {found} below level {}", level + 1));
        }
        self.report.levels = self.report.levels.max(level + 1);
        self.report.branches += 1;
        self.report.node_pages += u64::from(pages);
        self.report.node_bytes += u64::from(get_u32(run, NODE_END));
        let node = node::branch(run)?;
        let (first, last) = (node.separators.first(), node.separators.last());
        if first.is_some_and(|first| low >= first) || high.is_some_and(|high| last.is_some_and(|last| last >= high)) {
            return Err("its separators are outside of the range that its parents give it".to_owned());
        }
        let mut all = Child { ptr, count: 0, end: ptr.page.saturating_add(pages) };
        self.end = self.end.max(all.end);
        for (index, child) in node.children.iter().enumerate() {
            let ptr = if self.claim(child.ptr) { child.ptr } else { Ptr::NONE };
            below.push(Child { ptr, ..*child }, node.separators.get(index).or(high));
            all.count = all.count.saturating_add(child.count);
            all.end = all.end.max(child.end);
        }
        Ok(all)
    }

    /// Marks the pages of a node behind its first one.
    fn claim_rest(&mut self, page: u32, pages: u32) {
        if pages > 1 && !self.walk.claim(page + 1, pages - 1, Use::Tree, Some(&self.report.name)) {
            self.broken = true;
        }
    }

    /// Leaves, and their long values.
    fn leaves(&mut self, siblings: &Siblings) -> Result<()> {
        let order = siblings.in_page_order(0..siblings.len());
        let pieces = pieces::cut(self.walk.file.page_size, order.iter().map(|i| (siblings.node(*i as usize).page, 1)));
        let mut longs = Vec::new();
        for round in pieces.chunks(ROUND) {
            let rules = self.rules();
            let judged = pieces::judge(&rules.file, round, self.walk.threads, |piece, bytes| {
                rules.leaves(siblings, &order, piece, bytes)
            })?;
            self.found(judged, &mut longs)?;
            // More of them lie closer together, but their keys and tails take memory if they are wanted.
            let rules = self.rules();
            if longs.len() >= LONGS || rules.keep || rules.values {
                self.longs(std::mem::take(&mut longs))?;
            }
        }
        self.longs(longs)
    }

    /// Combines the results for some leaves; collects the long values that they refer to.
    fn found(&mut self, judged: Vec<Judged>, longs: &mut Vec<Long>) -> Result<()> {
        for mut judged in judged {
            for (page, pages) in std::mem::take(&mut judged.runs) {
                self.claim_rest(page, pages);
            }
            longs.append(&mut judged.longs);
            self.add(judged)?;
        }
        Ok(())
    }

    fn add(&mut self, judged: Judged) -> Result<()> {
        self.broken |= judged.broken;
        for (severity, page, message) in judged.findings {
            let offset = self.walk.file.offset(page);
            let place = Place { offset, page: Some(page), table: Some(&self.report.name) };
            self.walk.findings.add(severity, place, message);
        }
        let (damage, warnings) = judged.untold;
        self.walk.findings.report.damage += damage;
        self.walk.findings.report.warnings += warnings;
        self.report.add(&judged.counts);
        self.rows.extend(judged.rows);
        self.end = self.end.max(judged.end);
        let pages = judged.counts.node_pages + judged.counts.long_value_pages;
        self.walk.watch.more(pages * u64::from(self.walk.file.page_size))
    }

    fn longs(&mut self, mut longs: Vec<Long>) -> Result<()> {
        longs.sort_by_key(|long| long.value.ptr.page);
        longs.retain(|long| self.claim_long(long));
        let page_size = self.walk.file.page_size;
        let pages = |long: &Long| {
            let first = long.value.extents(page_size).and_then(|extents| extents.iter().next()).unwrap_or_default();
            (first.page, first.pages)
        };
        let pieces = pieces::cut(page_size, longs.iter().map(pages));
        for round in pieces.chunks(ROUND) {
            let rules = self.rules();
            let judged =
                pieces::judge(&rules.file, round, self.walk.threads, |piece, bytes| rules.longs(&longs, piece, bytes))?;
            judged.into_iter().try_for_each(|judged| self.add(judged))?;
        }
        Ok(())
    }

    /// Marks the pages of a long value; a finding, and `false`, if they are impossible.
    fn claim_long(&mut self, long: &Long) -> bool {
        let place =
            Place { offset: self.walk.file.offset(long.leaf), page: Some(long.leaf), table: Some(&self.report.name) };
        if self.keep && long.len() > MAX_OWN_VALUE {
            let message = format!("a row of {} bytes in a table of the store itself", long.len());
            self.walk.findings.add(Severity::Damage, place, message);
            self.broken = true;
            return false;
        }
        self.walk.claim_long(long.value, Use::Value, place)
    }
}
