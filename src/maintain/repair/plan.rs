//! The tables that the result is to have, and where the rows of their destroyed parts may be found.

use std::collections::{BTreeMap, BTreeSet};

use super::leaves::{Leaf, fill};
use super::log::Mark;
use super::scan::{Seen, scan};
use super::space::PageState;
use super::survey::{Survey, Tree};
use super::tree::{Gap, value_of};
use crate::disk::format::{
    FIRST_USER_TABLE, KIND_BRANCH, KIND_LEAF, Ptr, SETTING_USER_VERSION, TABLE_CATALOG, TABLE_NAMES, TABLE_SETTINGS,
    TreeRoot, get_u64,
};
use crate::error::Result;
use crate::maintain::format::frames::Op;
use crate::maintain::format::node;
use crate::maintain::format::pages::Described;
use crate::maintain::format::rows::{NameRow, catalog_row, name_row};
use crate::maintain::watch::Watch;

/// A table of the result.
pub(super) struct TablePlan {
    pub(super) row: NameRow,
    /// Where the name comes from, if not from the names table of the root.
    pub(super) named_by: Option<String>,
    pub(super) tree: Tree,
    /// Leaves that may have rows of its gaps.
    pub(super) leaves: Vec<Leaf>,
}

pub(super) struct Plan {
    pub(super) tables: Vec<TablePlan>,
    /// Frames to apply, in order.
    pub(super) frames: Vec<Mark>,
    pub(super) user_version: u64,
}

/// The nodes of one table, though the catalog may not lead to them.
#[derive(Default)]
struct Nodes {
    /// The highest node in use, its level, and how many nodes in use are as high.
    top: Ptr,
    level: u8,
    count: u32,
    /// The highest of the nodes of the newest version: a change of the table writes its root.
    newest: Ptr,
    newest_is: (u64, u8),
    newest_count: u32,
    /// The level of the highest of all.
    highest: u8,
    /// Of some nodes it is not known whether they are in use.
    unsettled: bool,
}

impl Nodes {
    fn see(&mut self, run: Described, state: PageState) {
        self.highest = self.highest.max(run.level);
        if state == PageState::GivenUp {
            return;
        }
        self.unsettled |= state == PageState::Unknown;
        if self.newest.is_none() || (run.version, run.level) > self.newest_is {
            (self.newest, self.newest_is, self.newest_count) = (run.ptr, (run.version, run.level), 0);
        }
        self.newest_count += u32::from((run.version, run.level) == self.newest_is);
        if self.count == 0 || run.level > self.level {
            (self.top, self.level, self.count) = (run.ptr, run.level, 0);
        }
        self.count += u32::from(run.level == self.level);
    }

    /// The root, if it can be told.
    fn root(&self) -> Option<Ptr> {
        if !self.unsettled {
            return Some(self.top).filter(|_| self.count == 1);
        }
        Some(self.newest).filter(|_| self.newest_is.1 == self.highest && self.newest_count == 1)
    }
}

/// What one pass over all pages found.
#[derive(Default)]
struct Found {
    /// Leaves that lie in gaps, by table.
    leaves: BTreeMap<u32, Vec<Leaf>>,
    /// Nodes, by table.
    nodes: BTreeMap<u32, Nodes>,
    /// Pages in use that say nothing of themselves.
    silent: BTreeSet<u32>,
}

/// As many silent pages are told apart; with more, no number of them proves anything.
const MANY_SILENT: usize = 1000;

pub(super) fn plan(survey: &mut Survey<'_>, unproven: bool, watch: &mut Watch<'_>) -> Result<Plan> {
    let mut frames = survey.log.chain.clone();
    if unproven {
        frames.extend(survey.log.beyond.iter());
    }
    let mut old_names = Vec::new();
    if !survey.knows_its_tables() {
        old_names = find_tables(survey, watch)?;
    }
    let dropped = replay_names(survey, &frames)?;
    let mut tables = name_tables(survey, &old_names, &dropped);
    if tables.iter().any(|table| !table.tree.gaps.is_empty()) {
        let gaps = tables.iter().map(|t| (t.row.id, t.tree.gaps.as_slice())).collect();
        let mut found = look(survey, &gaps, watch)?;
        for table in &mut tables {
            table.leaves = found.leaves.remove(&table.row.id).unwrap_or_default();
        }
    }
    let user_version = user_version(survey, &frames)?;
    Ok(Plan { tables, frames, user_version })
}

/// Completes catalog and names from leaves to which nothing leads. Gives the rows of the names table that are outdated: of a
/// table without a name they still tell what it was called, and its types, which never change.
fn find_tables(survey: &mut Survey<'_>, watch: &mut Watch<'_>) -> Result<Vec<NameRow>> {
    let own_gaps = BTreeMap::from([
        (TABLE_CATALOG, survey.catalog.tree.gaps.as_slice()),
        (TABLE_NAMES, survey.names.tree.gaps.as_slice()),
    ]);
    let mut found = look(survey, &own_gaps, watch)?;
    complete_catalog(survey, &mut found, watch)?;
    // What is silent is the pages that the catalog is known to have lost: then nothing else is.
    let lost: BTreeSet<u32> = survey.catalog.tree.gaps.iter().map(|gap| gap.page).collect();
    let nothing_else = survey.space.is_whole() && found.silent.is_subset(&lost);
    if !survey.catalog.tree.gaps.is_empty() {
        let has = |survey: &Survey<'_>, id| match id {
            TABLE_NAMES => survey.names.tree.expected.is_some(),
            id => id < FIRST_USER_TABLE || survey.trees.contains_key(&id),
        };
        for (id, nodes) in &found.nodes {
            if !has(survey, *id) {
                add_found(survey, *id, nodes, nothing_else, watch)?;
            }
        }
        if found.nodes.get(&TABLE_NAMES).is_none_or(|nodes| nodes.newest.is_none())
            && survey.names.tree.expected.is_none()
        {
            survey.names.tree.gaps.push(Gap::all(0, "no page of the names table is whole"));
        } else if nothing_else {
            let note = "the catalog is destroyed, and nothing else: each table was found by its own pages";
            survey.space.notes.push(note.to_owned());
            survey.catalog.tree.gaps.clear();
        }
    }
    complete_names(survey, &mut found)
}

fn complete_catalog(survey: &mut Survey<'_>, found: &mut Found, watch: &mut Watch<'_>) -> Result<()> {
    let mut leaves = found.leaves.remove(&TABLE_CATALOG).unwrap_or_default();
    // An outdated row would lead to an outdated tree, so only leaves in use count.
    leaves.retain(|leaf| leaf.state == PageState::InUse);
    let (all, tree) = (survey.all, &survey.catalog.tree);
    let missing = tree.expected.map(|expected| expected.saturating_sub(tree.rows));
    let mut rows = Vec::new();
    let filling = fill(&all, TABLE_CATALOG, &tree.gaps, &mut leaves, missing, false, &mut |key, value| {
        rows.extend(value_of(&all, TABLE_CATALOG, value).ok().and_then(|value| catalog_row(key, &value)));
        Ok(())
    })?;
    for (id, root) in rows {
        survey.add_tree(id, root, Some(root.count), watch)?;
    }
    if filling.missing == Some(0) {
        survey.catalog.tree.gaps.clear();
    }
    Ok(())
}

/// A table that the catalog no longer leads to.
fn add_found(survey: &mut Survey<'_>, id: u32, nodes: &Nodes, complete: bool, watch: &mut Watch<'_>) -> Result<()> {
    if nodes.newest.is_none() {
        // Only pages that were given up: it was dropped, or is empty.
        return Ok(());
    }
    if let Some(ptr) = nodes.root() {
        survey.add_tree(id, TreeRoot { ptr, ..TreeRoot::default() }, None, watch)?;
    } else {
        let mut tree = Tree::default();
        tree.gaps.push(Gap::all(0, "its root is destroyed, and so is the row of the catalog"));
        if id == TABLE_NAMES {
            survey.names.tree = tree;
        } else {
            survey.trees.insert(id, tree);
        }
    }
    let tree = if id == TABLE_NAMES { Some(&mut survey.names.tree) } else { survey.trees.get_mut(&id) };
    if let Some(tree) = tree.filter(|tree| complete && tree.gaps.is_empty()) {
        tree.expected = Some(tree.rows);
    }
    Ok(())
}

fn complete_names(survey: &mut Survey<'_>, found: &mut Found) -> Result<Vec<NameRow>> {
    let mut leaves = found.leaves.remove(&TABLE_NAMES).unwrap_or_default();
    let (all, tree) = (survey.all, &survey.names.tree);
    let missing = tree.expected.map(|expected| expected.saturating_sub(tree.rows));
    let (mut rows, mut old) = (Vec::new(), Vec::new());
    let mut current: Vec<Leaf> = leaves.iter().filter(|leaf| leaf.state != PageState::GivenUp).cloned().collect();
    let filling = fill(&all, TABLE_NAMES, &tree.gaps, &mut current, missing, false, &mut |key, value| {
        rows.extend(value_of(&all, TABLE_NAMES, value).ok().map(|value| (key.to_vec(), value)));
        Ok(())
    })?;
    leaves.retain(|leaf| leaf.state == PageState::GivenUp);
    leaves.sort_by_key(|leaf| std::cmp::Reverse(leaf.version));
    for leaf in &mut leaves {
        let one = std::slice::from_mut(leaf);
        fill(&all, TABLE_NAMES, &[Gap::all(0, "")], one, None, true, &mut |key, value| {
            old.extend(value_of(&all, TABLE_NAMES, value).ok().and_then(|value| name_row(key, &value)));
            Ok(())
        })?;
    }
    rows.into_iter().for_each(|(key, value)| survey.names.add(&key, value));
    if filling.missing == Some(0) {
        survey.names.tree.gaps.clear();
    }
    Ok(old)
}

/// Applies what the log says of the names table. Gives the ids of tables that it dropped.
fn replay_names(survey: &mut Survey<'_>, frames: &[Mark]) -> Result<BTreeSet<u32>> {
    let mut names: BTreeMap<Vec<u8>, Vec<u8>> = std::mem::take(&mut survey.names.rows).into_iter().collect();
    let mut dropped = BTreeSet::new();
    for mark in frames {
        survey.log.replay(&survey.file, mark, &mut |table, op| {
            match op {
                Op::Drop => _ = dropped.insert(table),
                _ if table != TABLE_NAMES => {}
                Op::Put { key, value } => _ = names.insert(key.to_vec(), value.to_vec()),
                Op::Delete { key } => _ = names.remove(key),
                Op::PutLong { key, value } => {
                    let value = super::tree::long_value(&survey.all, TABLE_NAMES, value).unwrap_or_default();
                    names.insert(key.to_vec(), value);
                }
            }
            Ok(())
        })?;
    }
    survey.names.rows = names.into_iter().collect();
    Ok(dropped)
}

/// The user's version of the content, as the settings and the log have it.
fn user_version(survey: &Survey<'_>, frames: &[Mark]) -> Result<u64> {
    let mut version = 0;
    let mut set = |key: &[u8], value: &[u8]| {
        if key == SETTING_USER_VERSION {
            version = get_u64(value, 0);
        }
    };
    survey.settings.iter().for_each(|(key, value)| set(key, value));
    for mark in frames {
        survey.log.replay(&survey.file, mark, &mut |table, op| {
            match op {
                Op::Put { key, value } if table == TABLE_SETTINGS => set(key, value),
                Op::Delete { key } if table == TABLE_SETTINGS => set(key, &[]),
                _ => {}
            }
            Ok(())
        })?;
    }
    Ok(version)
}

/// Gives each table its name, and those without one one that says so.
fn name_tables(survey: &mut Survey<'_>, old_names: &[NameRow], dropped: &BTreeSet<u32>) -> Vec<TablePlan> {
    let mut trees = std::mem::take(&mut survey.trees);
    trees.retain(|id, _| !dropped.contains(id));
    let mut tables = Vec::new();
    let mut taken = BTreeSet::new();
    let catalog = &survey.catalog.tree.gaps;
    let bytes = NameRow { key_type: "bytes".into(), value_type: "bytes".into(), ..NameRow::default() };
    for row in survey.names.rows.iter().filter_map(|(key, value)| name_row(key, value)) {
        // One without rows has no tree; but where the catalog has a gap, it may have had some.
        let no_tree = || match catalog.iter().find(|gap| gap.holds(&row.id.to_be_bytes())) {
            None => Tree { expected: Some(0), ..Tree::default() },
            Some(_) => {
                let why = "its row of the catalog is destroyed, and it has no page in use: perhaps it was empty";
                Tree { gaps: vec![Gap::all(0, why)], ..Tree::default() }
            }
        };
        let tree = trees.remove(&row.id).unwrap_or_else(no_tree);
        taken.insert(row.name.clone());
        tables.push(TablePlan { row, named_by: None, tree, leaves: Vec::new() });
    }
    for (id, tree) in trees {
        let old = old_names.iter().find(|row| row.id == id);
        let name = old.map_or_else(|| format!("recovered-{id}"), |row| row.name.clone());
        let named_by = match old {
            Some(_) => "an outdated page of the names table",
            None => "nothing: its row in the names table is destroyed, and its types are unknown",
        };
        let free = (0..).map(|n| if n == 0 { name.clone() } else { format!("{name}-{n}") });
        let name = free.into_iter().find(|name| taken.insert(name.clone())).unwrap_or(name);
        let row = NameRow { name, id, ..old.cloned().unwrap_or(bytes.clone()) };
        tables.push(TablePlan { row, named_by: Some(named_by.to_owned()), tree, leaves: Vec::new() });
    }
    tables
}

/// One pass over all pages, for leaves in these gaps.
fn look(survey: &Survey<'_>, gaps: &BTreeMap<u32, &[Gap]>, watch: &mut Watch<'_>) -> Result<Found> {
    let mut found = Found::default();
    let all = survey.all;
    // The first page that no run so far reaches.
    let mut next = all.first_page();
    let silence = |from: u32, to: u32, silent: &mut BTreeSet<u32>| {
        let in_use = |page: &u32| {
            !survey.used.has(*page) && !survey.is_of_log(*page) && survey.space.state(*page) == PageState::InUse
        };
        let room = (MANY_SILENT + 1).saturating_sub(silent.len());
        silent.extend((from..to).filter(in_use).take(room));
    };
    let (leaves, nodes, silent) = (&mut found.leaves, &mut found.nodes, &mut found.silent);
    scan(&all, watch, &mut |seen| {
        let (run, bytes) = match seen {
            Seen::Run(run, bytes) => (run, Some(bytes)),
            Seen::Value(run) if survey.space.state(run.ptr.page) == PageState::InUse => (run, None),
            _ => return Ok(()),
        };
        silence(next, run.ptr.page, silent);
        next = next.max(run.ptr.page.saturating_add(run.pages));
        if let Some(bytes) = bytes
            && matches!(run.kind, KIND_LEAF | KIND_BRANCH)
            && !survey.used.has(run.ptr.page)
            && !survey.is_of_log(run.ptr.page)
        {
            let state = state_of(survey, run);
            if run.version <= survey.root.sequence {
                nodes.entry(run.table).or_default().see(run, state);
            }
            let wanted = gaps.get(&run.table).filter(|_| run.kind == KIND_LEAF);
            leaves.entry(run.table).or_default().extend(wanted.and_then(|gaps| leaf(run, bytes, state, gaps)));
        }
        Ok(())
    })?;
    silence(next, survey.file.pages, silent);
    Ok(found)
}

/// A page of a root newer than this one is not one of its pages, whatever its free map says.
fn state_of(survey: &Survey<'_>, run: Described) -> PageState {
    if run.version > survey.root.sequence { PageState::GivenUp } else { survey.space.state(run.ptr.page) }
}

fn leaf(run: Described, bytes: &[u8], state: PageState, gaps: &[Gap]) -> Option<Leaf> {
    let entries = node::leaf(bytes).ok()?;
    let (first, last) = (&*entries.first()?.0, &*entries.last()?.0);
    let wanted = gaps.iter().any(|gap| gap.meets(first, last));
    // Where a leaf is destroyed, no other one can be current.
    let current = gaps.iter().any(|gap| !gap.is_leaf && gap.meets(first, last));
    let state = if current { state } else { PageState::GivenUp };
    let Described { ptr, pages, version, .. } = run;
    wanted.then(|| Leaf { ptr, pages, version, first: first.to_vec(), last: last.to_vec(), state })
}
