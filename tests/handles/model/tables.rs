//! The content that the tables of a transaction, or of a snapshot, must have, and the table that a handle stands for.

use memstone::Error;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::Bound;

/// The types that a table was created with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Bytes to bytes.
    Raw,
    /// Text to bytes.
    Typed,
}

pub type Rows = BTreeMap<Vec<u8>, Vec<u8>>;
pub type Bounds = [Bound<Vec<u8>>; 2];
pub type Row = (Vec<u8>, Vec<u8>);

pub fn slices(bounds: &Bounds) -> (Bound<&[u8]>, Bound<&[u8]>) {
    let [from, to] = bounds;
    (from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice))
}

pub fn within([from, to]: &Bounds, key: &[u8]) -> bool {
    let above = match from {
        Bound::Included(from) => key >= from.as_slice(),
        Bound::Excluded(from) => key > from.as_slice(),
        Bound::Unbounded => true,
    };
    let below = match to {
        Bound::Included(to) => key <= to.as_slice(),
        Bound::Excluded(to) => key < to.as_slice(),
        Bound::Unbounded => true,
    };
    above && below
}

#[derive(Debug, Clone)]
pub struct Table {
    pub name: &'static str,
    pub kind: Kind,
    pub rows: Rows,
}

/// Which table, of all that there ever were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(usize);

#[derive(Debug, Clone, Copy)]
pub enum Stands {
    For(Id),
    /// For whatever table has the name, if it has these types.
    ForName(&'static str, Kind),
}

/// Why something is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    Gone,
    OtherTypes,
    NameTaken,
    NotASavepoint,
}

/// The tables that there are.
#[derive(Debug, Clone, Default)]
pub struct Tables {
    tables: BTreeMap<Id, Table>,
}

impl Tables {
    pub fn named(&self, name: &str) -> Option<Id> {
        self.tables.iter().find(|(_, table)| table.name == name).map(|(id, _)| *id)
    }

    pub fn get(&self, id: Id) -> Result<&Table, Refusal> {
        self.tables.get(&id).ok_or(Refusal::Gone)
    }

    pub fn get_mut(&mut self, id: Id) -> Result<&mut Table, Refusal> {
        self.tables.get_mut(&id).ok_or(Refusal::Gone)
    }

    pub fn by_name(&self) -> BTreeMap<&'static str, &Table> {
        self.tables.values().map(|table| (table.name, table)).collect()
    }

    /// The rows that a handle reads; `None`: nothing, since there is no such table.
    pub fn rows(&self, stands: Stands) -> Result<Option<&Rows>, Refusal> {
        match stands {
            Stands::For(id) => self.get(id).map(|table| Some(&table.rows)),
            Stands::ForName(name, kind) => match self.named(name).map(|id| &self.tables[&id]) {
                Some(table) if table.kind != kind => Err(Refusal::OtherTypes),
                table => Ok(table.map(|table| &table.rows)),
            },
        }
    }

    /// The table of this name and kind.
    pub fn open(&self, name: &str, kind: Kind) -> Result<Option<Id>, Refusal> {
        match self.named(name) {
            Some(id) if self.tables[&id].kind != kind => Err(Refusal::OtherTypes),
            found => Ok(found),
        }
    }

    pub fn create(&mut self, name: &'static str, kind: Kind, made: &mut usize) -> Id {
        *made += 1;
        let id = Id(*made);
        self.tables.insert(id, Table { name, kind, rows: Rows::new() });
        id
    }

    pub fn remove(&mut self, name: &str) -> bool {
        self.named(name).and_then(|id| self.tables.remove(&id)).is_some()
    }

    pub fn rename(&mut self, from: &str, to: &'static str) -> Result<(), Refusal> {
        let id = self.named(from).ok_or(Refusal::Gone)?;
        if from != to && self.named(to).is_some() {
            return Err(Refusal::NameTaken);
        }
        self.get_mut(id)?.name = to;
        Ok(())
    }
}

/// The result of a call is the one that it must have.
pub fn agree<T: PartialEq + Debug>(found: Result<T, Error>, expected: Result<T, Refusal>, what: &str) {
    let found = found.map_err(|error| match error {
        Error::NoTable { .. } => Refusal::Gone,
        Error::TypeMismatch { .. } => Refusal::OtherTypes,
        Error::TableExists { .. } => Refusal::NameTaken,
        Error::Savepoint => Refusal::NotASavepoint,
        error => panic!("{what}: {error:?}"),
    });
    assert!(found == expected, "{what}: {}, not {}", shortly(&found), shortly(&expected));
}

fn shortly(what: &impl Debug) -> String {
    format!("{what:?}").chars().take(300).collect()
}
