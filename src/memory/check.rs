//! Verifying that indexes and counters agree with the items.

use crate::memory::error::{MemoryError, Result};
use crate::memory::load;
use crate::memory::namespace::Namespace;
use crate::memory::permits;
use crate::memory::postings;
use crate::memory::rows::{Counts, NamespaceRow, Row};
use crate::memory::scope;
use crate::memory::settings::has_bit;
use crate::memory::snapshot::MemorySnapshot;
use crate::memory::tables::{Number, Place, Reader, Table};
use crate::memory::text::Text;
use crate::memory::vector_rows;
use std::collections::BTreeMap;

/// No more problems are listed.
const MOST: usize = 1000;

/// Something that does not agree.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Problem {
    /// The table.
    pub table: &'static str,
    /// The key, with bytes beyond ASCII escaped; empty for a table as a whole.
    pub key: String,
    /// What was expected, and found.
    pub reason: String,
}

/// What [`Memory::check`](super::Memory::check) and [`Jobs::check`](super::jobs::Jobs::check) have found.
///
/// ```
/// # let memory = memstone::memory::Memory::new(memstone::Store::in_memory()?);
/// memory.add("ada", "likes tea")?;
/// let report = memory.check()?;
/// assert!(report.is_clean(), "{:?}", report.problems);
/// assert_eq!(report.items, 1);
/// # Ok::<(), memstone::memory::MemoryError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct CheckReport {
    /// Items, expired ones too.
    pub items: u64,
    /// Jobs, those that have ended too.
    pub jobs: u64,
    /// Items whose texts this version of the library would take apart into other words: they are found by the words of the
    /// version that wrote them. [`Memory::set_language`](super::Memory::set_language) makes them anew.
    pub stale_texts: u64,
    /// The first 1,000 of what does not agree.
    pub problems: Vec<Problem>,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Problem { table, key, reason } = self;
        write!(f, "table {table:?}, {}: {reason}", if key.is_empty() { "as a whole" } else { key })
    }
}

impl CheckReport {
    /// Whether everything agrees.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    pub(super) fn note(&mut self, table: Table, key: &[u8], reason: impl Into<String>) {
        let (table, key) = (table.name(), key.escape_ascii().to_string());
        self.push(Problem { table, key, reason: reason.into() });
    }

    pub(super) fn expect(&mut self, agrees: bool, table: Table, key: &[u8], reason: impl FnOnce() -> String) {
        if !agrees {
            self.note(table, key, reason());
        }
    }

    /// Rows that cannot be read are problems; only the store's errors end the check.
    pub(super) fn take<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(MemoryError::Damaged { table, key, reason }) => {
                self.push(Problem { table, key, reason });
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Adds what another check of the same state has found.
    pub(super) fn add(&mut self, other: CheckReport) {
        let CheckReport { items, jobs, stale_texts, problems } = other;
        self.items += items;
        self.jobs += jobs;
        self.stale_texts += stale_texts;
        problems.into_iter().for_each(|problem| self.push(problem));
    }

    fn push(&mut self, problem: Problem) {
        if self.problems.len() < MOST {
            self.problems.push(problem);
        }
    }
}

/// What the items lead one to expect.
#[derive(Default)]
struct Expected {
    /// Rows of each index.
    rows: BTreeMap<Table, u64>,
    /// Items in the index of words, each once for each of its terms.
    postings: u64,
    namespaces: BTreeMap<Number, NamespaceRow>,
}

pub(super) fn check(snapshot: &MemorySnapshot) -> Result<CheckReport> {
    let (reader, mut report, mut expected) = (snapshot.reader(), CheckReport::default(), Expected::default());
    for row in reader.prefix(Table::Items, b"")? {
        let (key, row) = row?;
        report.items += 1;
        let Some(place) = Place::at_end(&key).filter(|_| key.len() == 8) else {
            report.note(Table::Items, &key, "not a place");
            continue;
        };
        let found = check_item(snapshot, &reader, place, &row, &mut expected, &mut report);
        report.take(found)?;
    }
    let namespaces = check_namespaces(&reader, &expected, &mut report);
    report.take(namespaces)?;
    check_sizes(&reader, &expected, &mut report)?;
    let permits = check_permits(&reader, &mut report);
    report.take(permits)?;
    Ok(report)
}

/// One item is in all indexes where it should be.
fn check_item(
    snapshot: &MemorySnapshot,
    reader: &Reader<'_>,
    place: Place,
    bytes: &[u8],
    expected: &mut Expected,
    report: &mut CheckReport,
) -> Result<()> {
    let settings = snapshot.settings();
    let row = Row::parse(place, bytes)?;
    let item = row.item(place, Namespace::root(), settings)?;
    if reader.get(Table::Ids, row.id.as_bytes())?.is_none_or(|found| *found != place.key()) {
        report.note(Table::Ids, row.id.as_bytes(), format!("does not lead to {place:?}"));
    }
    *expected.rows.entry(Table::Ids).or_default() += 1;
    for (table, key) in load::entries(settings, place, &item) {
        if !reader.contains(table, &key)? {
            report.note(table, &key, format!("missing, for item {}", row.id));
        }
        *expected.rows.entry(table).or_default() += 1;
    }
    for space in settings.spaces_of(row.spaces) {
        if space.get(reader, place)?.is_none_or(|vector| vector.len() != space.space.row_size()) {
            report.note(Table::Vectors, &place.key(), format!("not a vector of {}, for item {}", space.space, row.id));
        }
        *expected.rows.entry(Table::Vectors).or_default() += 1;
    }
    if let Some(number) = (0..64).find(|n| has_bit(row.spaces, *n) && settings.spaces().all(|(known, ..)| known != *n))
    {
        report.note(Table::Items, &place.key(), format!("a vector in space {number}, which is not declared"));
    }
    let counts = expected.namespaces.entry(place.namespace).or_default();
    counts.own.items += 1;
    counts.own.bytes += bytes.len() as u64 + load::vector_bytes(settings, row.spaces);
    counts.next = counts.next.max(place.number.saturating_add(1));
    check_text(snapshot, reader, place, &row, expected, report)
}

/// The index of words has the terms of an item's text.
fn check_text(
    snapshot: &MemorySnapshot,
    reader: &Reader<'_>,
    place: Place,
    row: &Row<'_>,
    expected: &mut Expected,
    report: &mut CheckReport,
) -> Result<()> {
    *expected.rows.entry(Table::Texts).or_default() += 1;
    let text = load::text(reader, place)?;
    expected.namespaces.entry(place.namespace).or_default().words += text.len() as u64;
    report.stale_texts += u64::from(text != Text::new(snapshot.settings().language, row.content));
    let counts = text.counts();
    expected.postings += counts.len() as u64;
    for (term, count) in counts {
        let wanted = postings::expected(place, &text, count);
        let found = postings::find(reader, place, term)?;
        if found != Some(wanted) {
            report.note(Table::Words, term.as_bytes(), format!("{found:?}, not {wanted:?}, for item {}", row.id));
        }
    }
    Ok(())
}

/// The counters are those of the items, and each namespace is found by its number.
fn check_namespaces(reader: &Reader<'_>, expected: &Expected, report: &mut CheckReport) -> Result<()> {
    let rows = scope::namespaces(reader, &Namespace::root(), true)?;
    let mut totals: BTreeMap<&Namespace, Counts> = BTreeMap::new();
    let paths: BTreeMap<&Namespace, NamespaceRow> = rows.iter().map(|(path, row)| (path, *row)).collect();
    for (path, row) in &rows {
        let found = expected.namespaces.get(&row.number).copied().unwrap_or_default();
        if (row.own, row.words) != (found.own, found.words) || row.next < found.next {
            report.note(Table::Namespaces, &path.key(), format!("{row:?}, and its items give {found:?}"));
        }
        if reader.get(Table::Numbers, &row.number.to_be_bytes())?.is_none_or(|known| *known != path.key()) {
            report.note(Table::Numbers, &row.number.to_be_bytes(), format!("does not lead to {path:?}"));
        }
        for above in path.lineage() {
            match paths.get_key_value(&above) {
                Some((known, _)) => {
                    let total = totals.entry(known).or_default();
                    total.items += found.own.items;
                    total.bytes += found.own.bytes;
                }
                None => report.note(Table::Namespaces, &above.key(), format!("missing, above {path:?}")),
            }
        }
    }
    for (path, row) in &paths {
        let total = totals.get(path).copied().unwrap_or_default();
        if row.total != total || row.total.items == 0 {
            report.note(
                Table::Namespaces,
                &path.key(),
                format!("{:?} in all, and its items give {total:?}", row.total),
            );
        }
    }
    let known = |number: &Number| rows.iter().any(|(_, row)| row.number == *number);
    for number in expected.namespaces.keys().filter(|number| !known(number)) {
        report.note(Table::Numbers, &number.to_be_bytes(), "a namespace of items has no row");
    }
    let numbers = reader.len(Table::Numbers)?;
    if numbers != rows.len() as u64 {
        report.note(Table::Numbers, b"", format!("{numbers} rows for {} namespaces", rows.len()));
    }
    Ok(())
}

/// The numbers of permits are those of their rows.
fn check_permits(reader: &Reader<'_>, report: &mut CheckReport) -> Result<()> {
    for (prefix, counted, found) in permits::counts(reader)? {
        if counted != found {
            report.note(Table::Permits, &prefix, format!("{counted} permits are counted, and {found} are there"));
        }
    }
    Ok(())
}

/// Each index has as many rows as the items give it: with all of them found, none is left over.
fn check_sizes(reader: &Reader<'_>, expected: &Expected, report: &mut CheckReport) -> Result<()> {
    const INDEXES: [Table; 8] = [
        Table::Ids,
        Table::Hashes,
        Table::Times,
        Table::Tags,
        Table::Fields,
        Table::Expiries,
        Table::Texts,
        Table::Vectors,
    ];
    for table in INDEXES {
        let wanted = expected.rows.get(&table).copied().unwrap_or(0);
        let found = if table == Table::Vectors { vector_rows::count(reader)? } else { reader.len(table)? };
        if found != wanted {
            report.note(table, b"", format!("{found} rows, and the items give {wanted}"));
        }
    }
    let mut found = 0;
    for row in reader.prefix(Table::Words, b"")? {
        let (key, row) = row?;
        found += postings::row_len(&row) as u64;
        if row.is_empty() || row.len() % 3 != 0 {
            report.note(Table::Words, &key, "not a row of items");
        }
    }
    if found != expected.postings {
        report.note(Table::Words, b"", format!("{found} entries, and the items give {}", expected.postings));
    }
    Ok(())
}
