//! Among which items a search looks: namespaces, and in each of them the items that meet the conditions.

use crate::memory::Namespace;
use crate::memory::error::{MemoryError, Result};
use crate::memory::field;
use crate::memory::load::{self, CREATED, UPDATED};
use crate::memory::query::{FieldRange, Query};
use crate::memory::rows::NamespaceRow;
use crate::memory::settings::Settings;
use crate::memory::tables::{Number, Reader, Table, last_number};
use crate::memory::time::Timestamp;
use serde_json::Value;
use std::ops::Bound;

/// The items of a namespace that meet the conditions, by ascending numbers; `None`: all.
pub(super) type Selection = Option<Vec<u32>>;

/// A namespace in which is searched.
pub(super) struct Area {
    pub(super) namespace: Namespace,
    pub(super) row: NamespaceRow,
    pub(super) selection: Selection,
}

/// Which condition on times the caller applies itself, because it walks that index anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Walked {
    Nothing,
    Created,
    Updated,
}

/// The namespaces of a query that have items, and what is selected in each.
pub(super) fn areas(reader: &Reader<'_>, settings: &Settings, query: &Query, walked: Walked) -> Result<Vec<Area>> {
    let conditions = Conditions::new(settings, query, walked)?;
    let mut areas = Vec::new();
    for (namespace, row) in namespaces(reader, query.namespace()?, query.below)? {
        if row.own.items > 0 {
            let selection = conditions.select(reader, row.number)?;
            areas.push(Area { namespace, row, selection });
        }
    }
    areas.retain(|area| area.selection.as_ref().is_none_or(|selected| !selected.is_empty()));
    Ok(areas)
}

/// The namespaces that hold anything: one, or it and those below it.
pub(super) fn namespaces(
    reader: &Reader<'_>,
    namespace: &Namespace,
    below: bool,
) -> Result<Vec<(Namespace, NamespaceRow)>> {
    if !below {
        let row = load::namespace_row(reader, namespace)?;
        return Ok(row.map(|row| (namespace.clone(), row)).into_iter().collect());
    }
    let mut found = Vec::new();
    for row in reader.prefix(Table::Namespaces, &namespace.key())? {
        let (key, row) = row?;
        let path = Namespace::from_key(&key).ok_or_else(|| Table::Namespaces.damaged(&key, "not a path"))?;
        found.push((path, NamespaceRow::parse(&key, &row)?));
    }
    Ok(found)
}

/// A range of keys, behind the number of the namespace.
struct Condition {
    table: Table,
    from: Bound<Vec<u8>>,
    to: Bound<Vec<u8>>,
}

struct Conditions(Vec<Condition>);

impl Conditions {
    fn new(settings: &Settings, query: &Query, walked: Walked) -> Result<Conditions> {
        let mut conditions = Vec::new();
        for tag in &query.tags {
            // The prefix, without the namespace.
            let prefix = load::tag_key(0, tag).split_off(size_of::<Number>());
            conditions.push(Condition::prefix(Table::Tags, prefix));
        }
        for (name, range) in &query.fields {
            let number = settings.field(name).ok_or_else(|| MemoryError::NoField { name: name.clone() })?;
            conditions.push(Condition::field(number, range)?);
        }
        let times = [(CREATED, &query.created, Walked::Created), (UPDATED, &query.updated, Walked::Updated)];
        for (order, range, walk) in times {
            if walk != walked && *range != (Bound::Unbounded, Bound::Unbounded) {
                conditions.push(Condition::times(order, range));
            }
        }
        Ok(Conditions(conditions))
    }

    /// What all conditions select in a namespace.
    fn select(&self, reader: &Reader<'_>, namespace: Number) -> Result<Selection> {
        let mut selection: Selection = None;
        for condition in &self.0 {
            let mut found = condition.select(reader, namespace)?;
            found.sort_unstable();
            found.dedup();
            if let Some(others) = selection {
                found.retain(|number| others.binary_search(number).is_ok());
            }
            let is_empty = found.is_empty();
            selection = Some(found);
            if is_empty {
                break;
            }
        }
        Ok(selection)
    }
}

impl Condition {
    fn prefix(table: Table, prefix: Vec<u8>) -> Condition {
        let to = after(&prefix);
        Condition { table, from: Bound::Included(prefix), to }
    }

    fn times(order: u8, range: &(Bound<Timestamp>, Bound<Timestamp>)) -> Condition {
        let (from, to) = time_bounds(*range);
        let part = |time| load::time_key(0, order, time).split_off(size_of::<Number>());
        let to = after(&part(to));
        Condition { table: Table::Times, from: Bound::Included(part(from)), to }
    }

    /// A bound includes or excludes all rows whose values are alike, so an end lies before or after all of them.
    fn field(number: u16, range: &FieldRange) -> Result<Condition> {
        let key = |value: &Value| {
            let wrong = || MemoryError::invalid("query", format!("a field cannot be searched for {value}"));
            let key = field::key(value).ok_or_else(wrong)?;
            Ok::<_, MemoryError>([&number.to_be_bytes()[..], &key].concat())
        };
        // Without a bound, one end is that of all values of the other's kind, or of the field.
        let kind = |bound: &Bound<Value>| match bound {
            Bound::Included(value) | Bound::Excluded(value) => key(value).map(|key| key.get(..3).map(<[u8]>::to_vec)),
            Bound::Unbounded => Ok(None),
        };
        let kind = kind(&range.0)?.or(kind(&range.1)?).unwrap_or_else(|| number.to_be_bytes().to_vec());
        let from = match &range.0 {
            Bound::Included(value) => Bound::Included(key(value)?),
            Bound::Excluded(value) => included(after(&key(value)?)),
            Bound::Unbounded => Bound::Included(kind.clone()),
        };
        let to = match &range.1 {
            Bound::Included(value) => after(&key(value)?),
            Bound::Excluded(value) => Bound::Excluded(key(value)?),
            Bound::Unbounded => after(&kind),
        };
        Ok(Condition { table: Table::Fields, from, to })
    }

    fn select(&self, reader: &Reader<'_>, namespace: Number) -> Result<Vec<u32>> {
        let prefix = namespace.to_be_bytes();
        let with_prefix = |bound: &Bound<Vec<u8>>| bound.as_ref().map(|key| [&prefix[..], key].concat());
        let from = with_prefix(&self.from);
        let to = match with_prefix(&self.to) {
            Bound::Unbounded => after(&prefix),
            to => to,
        };
        let rows = reader.range(self.table, from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice))?;
        rows.map(|row| Ok(last_number(&row?.0))).collect()
    }
}

/// The first and the last time of a range.
pub(super) fn time_bounds(range: (Bound<Timestamp>, Bound<Timestamp>)) -> (Timestamp, Timestamp) {
    let from = match range.0 {
        Bound::Included(time) => time,
        Bound::Excluded(time) => Timestamp::from_micros(time.as_micros().saturating_add(1)),
        Bound::Unbounded => Timestamp::MIN,
    };
    let to = match range.1 {
        Bound::Included(time) => time,
        Bound::Excluded(time) => Timestamp::from_micros(time.as_micros().saturating_sub(1)),
        Bound::Unbounded => Timestamp::MAX,
    };
    (from, to)
}

/// The end of all keys with a prefix.
pub(super) fn after(prefix: &[u8]) -> Bound<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return Bound::Excluded(end);
        }
    }
    Bound::Unbounded
}

/// The same key as a beginning.
fn included(bound: Bound<Vec<u8>>) -> Bound<Vec<u8>> {
    match bound {
        Bound::Excluded(key) | Bound::Included(key) => Bound::Included(key),
        // No key is above all keys of a field: field numbers are small.
        Bound::Unbounded => Bound::Included(vec![u8::MAX; 3]),
    }
}
