//! Copying what holds into the new store: trees, what their gaps are filled with, then the log.

use std::collections::{BTreeMap, BTreeSet};

use super::bits::Bits;
use super::leaves::fill;
use super::log::Mark;
use super::plan::{Plan, TablePlan};
use super::report::{BeyondFrame, LostRange, LostValue, RepairedTable};
use super::survey::Survey;
use super::tree::{Gap, Met, TreeWalk, long_value, value_of};
use crate::error::Result;
use crate::maintain::format::frames::Op;
use crate::maintain::format::node::Value;
use crate::maintain::watch::Watch;

/// What takes the result's rows: a value of a table of the plan, or none.
pub(super) trait Sink {
    fn set(&mut self, table: usize, key: &[u8], value: Option<Vec<u8>>) -> Result<()>;
}

/// A table on its way into the result.
struct Copied {
    report: RepairedTable,
    lost: Vec<Gap>,
    /// Keys whose value is destroyed.
    without_value: BTreeMap<Vec<u8>, (u32, String)>,
    /// Keys of lost ranges that the log has set or deleted.
    rewritten: BTreeSet<Vec<u8>>,
}

/// Copies everything; gives what is to be told of the tables, in the order of the plan.
pub(super) fn copy(
    survey: &Survey<'_>,
    plan: &mut Plan,
    target: &mut dyn Sink,
    unproven: bool,
    watch: &mut Watch<'_>,
) -> Result<Vec<RepairedTable>> {
    let mut copied = Vec::new();
    for (index, table) in plan.tables.iter_mut().enumerate() {
        copied.push(copy_table(survey, index, table, target, unproven, watch)?);
    }
    let ids: BTreeMap<u32, usize> =
        plan.tables.iter().enumerate().map(|(index, table)| (table.row.id, index)).collect();
    for mark in &plan.frames {
        watch.more(0)?;
        replay(survey, mark, &ids, target, &mut copied)?;
    }
    Ok(copied.into_iter().map(Copied::report).collect())
}

fn copy_table(
    survey: &Survey<'_>,
    index: usize,
    table: &mut TablePlan,
    target: &mut dyn Sink,
    unproven: bool,
    watch: &mut Watch<'_>,
) -> Result<Copied> {
    let id = table.row.id;
    let mut without_value = BTreeMap::new();
    let mut take = |key: &[u8], value: &Value<'_>, target: &mut dyn Sink| match value_of(&survey.all, id, value) {
        Ok(value) => {
            watch.more((key.len() + value.len()) as u64)?;
            target.set(index, key, Some(value))
        }
        Err(why) => {
            without_value.insert(key.to_vec(), why);
            Ok(())
        }
    };
    let mut used = Bits::default();
    let mut walk = TreeWalk { file: survey.file, table: id, used: &mut used };
    walk.walk(table.tree.root.ptr, &mut |met| match met {
        Met::Leaf(entries) => entries.iter().try_for_each(|(key, value)| take(key, value, target)),
        Met::Gap(_) => Ok(()),
    })?;
    let tree = &table.tree;
    let missing = tree.expected.map(|expected| expected.saturating_sub(tree.rows));
    let mut report = RepairedTable {
        name: table.row.name.clone(),
        id,
        key_type: table.row.key_type.clone(),
        value_type: table.row.value_type.clone(),
        named_by: table.named_by.clone(),
        expected: tree.expected,
        lost_rows: missing,
        ..RepairedTable::default()
    };
    let mut lost = Vec::new();
    if tree.gaps.is_empty() {
        // Each page is whole: if the noted number is another one, the number is wrong.
        report.lost_rows = missing.map(|_| 0);
        let why = "the row of the catalog is destroyed: whether this is all of the table cannot be told";
        lost.extend(missing.is_none().then(|| Gap::all(tree.root.ptr.page, why)));
    } else {
        let (file, leaves) = (&survey.all, &mut table.leaves);
        let filling =
            fill(file, id, &tree.gaps, leaves, missing, unproven, &mut |key, value| take(key, value, target))?;
        (report.lost_rows, report.salvaged, lost) = (filling.missing, filling.salvaged, filling.left);
    }
    Ok(Copied { report, lost, without_value, rewritten: BTreeSet::new() })
}

/// Applies one frame to the tables that are still there.
fn replay(
    survey: &Survey<'_>,
    mark: &Mark,
    ids: &BTreeMap<u32, usize>,
    target: &mut dyn Sink,
    copied: &mut [Copied],
) -> Result<()> {
    survey.log.replay(&survey.file, mark, &mut |id, op| {
        let Some((index, table)) = ids.get(&id).and_then(|index| Some((*index, copied.get_mut(*index)?))) else {
            return Ok(());
        };
        let (key, value) = match op {
            Op::Put { key, value } => (key, Some(Ok(value.to_vec()))),
            Op::PutLong { key, value } => (key, Some(long_value(&survey.all, id, value))),
            Op::Delete { key } => (key, None),
            Op::Drop => return Ok(()),
        };
        table.without_value.remove(key);
        if table.lost.iter().any(|gap| gap.holds(key)) {
            table.rewritten.insert(key.to_vec());
        }
        match value.transpose() {
            Ok(value) => target.set(index, key, value),
            Err(why) => {
                // The value before it is outdated: better none than that one.
                table.without_value.insert(key.to_vec(), why);
                target.set(index, key, None)
            }
        }
    })
}

impl Copied {
    fn report(self) -> RepairedTable {
        let text = |key: &[u8]| key.escape_ascii().to_string();
        let mut report = self.report;
        let range = |gap: Gap| LostRange {
            from: gap.low.as_deref().map(text),
            to: gap.high.as_deref().map(text),
            page: u64::from(gap.page),
            why: gap.why,
        };
        report.lost_ranges = self.lost.into_iter().map(range).collect();
        report.rewritten = self.rewritten.len() as u64;
        let value =
            |(key, (page, why)): (Vec<u8>, (u32, String))| LostValue { key: text(&key), page: u64::from(page), why };
        report.lost_values = self.without_value.into_iter().map(value).collect();
        report
    }
}

/// What is to be told of frames behind a damaged one.
pub(super) fn beyond(survey: &Survey<'_>, taken: bool) -> Vec<BeyondFrame> {
    let frame = |mark: &Mark| BeyondFrame { lsn: mark.lsn, offset: mark.offset, operations: mark.operations, taken };
    survey.log.beyond.iter().map(frame).collect()
}
