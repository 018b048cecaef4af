//! One write transaction: handles, ranges and savepoints that are kept over everything that is done.

use super::World;
use super::handle::{OpenRange, Reads, Writes, read, typed, write};
use super::input::Input;
use super::tables::{Kind, Refusal, Stands, Tables, agree};
use memstone::{Error, Savepoint, WriteTxn};

/// As many handles, and as many ranges, are kept at most.
const KEPT: usize = 8;

enum Handle<'t> {
    Writing(Box<dyn Writes<'t> + 't>),
    Reading(Box<dyn Reads<'t> + 't>),
}

impl<'t> Handle<'t> {
    fn reads(&self) -> &(dyn Reads<'t> + 't) {
        match self {
            Handle::Writing(table) => &**table,
            Handle::Reading(table) => &**table,
        }
    }
}

struct Held<'t> {
    handle: Handle<'t>,
    stands: Stands,
    kind: Kind,
}

pub struct Txn<'t> {
    tx: &'t WriteTxn,
    tables: Tables,
    held: Vec<Held<'t>>,
    ranges: Vec<OpenRange<'t>>,
    savepoints: Vec<(Savepoint, Tables)>,
    given_up: Vec<Savepoint>,
}

impl<'t> Txn<'t> {
    pub fn new(tx: &'t WriteTxn, tables: Tables) -> Txn<'t> {
        Txn { tx, tables, held: Vec::new(), ranges: Vec::new(), savepoints: Vec::new(), given_up: Vec::new() }
    }

    /// The content of the tables if it is committed.
    pub fn end(self) -> Tables {
        self.tables
    }

    pub fn step(&mut self, world: &mut World, input: &mut Input<'_>) {
        match input.byte() % 32 {
            0 => {
                let name = input.name();
                agree(self.tx.drop_table(name), Ok(self.tables.remove(name)), "drop_table");
            }
            1 | 2 => {
                let (from, to) = (input.name(), input.name());
                agree(self.tx.rename_table(from, to), self.tables.rename(from, to), "rename_table");
            }
            3 => {
                let name = input.name();
                agree(self.tx.clear_table(name), Ok(()), "clear_table");
                if let Some(id) = self.tables.named(name) {
                    self.tables.get_mut(id).expect("it has a name").rows.clear();
                }
            }
            4 => self.savepoint(input),
            5 | 6 => self.go_back(input),
            7 => self.compare(input),
            8..11 => self.open(world, input),
            11 | 12 => self.open_range(input),
            13 => drop(input.place(self.held.len()).map(|at| self.held.swap_remove(at))),
            14..18 => self.step_range(input),
            18..20 => self.read(input),
            20..30 => self.write(input),
            _ => world.beside(input),
        }
    }

    fn savepoint(&mut self, input: &mut Input<'_>) {
        if self.savepoints.len() == 6 {
            let at = input.below(6);
            self.savepoints.remove(at);
        }
        self.savepoints.push((self.tx.savepoint(), self.tables.clone()));
    }

    fn go_back(&mut self, input: &mut Input<'_>) {
        let byte = input.byte();
        if byte >= 0xe0
            && let Some(at) = input.place(self.given_up.len())
        {
            return agree(self.tx.rollback_to(&self.given_up[at]), Err(Refusal::NotASavepoint), "rollback_to");
        }
        let Some(at) = input.place(self.savepoints.len()) else { return };
        agree(self.tx.rollback_to(&self.savepoints[at].0), Ok(()), "rollback_to");
        self.tables = self.savepoints[at].1.clone();
        self.given_up.extend(self.savepoints.drain(at + 1..).map(|(savepoint, _)| savepoint));
        self.given_up.truncate(4);
    }

    /// Everything, as it is now.
    fn compare(&mut self, input: &mut Input<'_>) {
        let found = self.tx.tables().expect("tables").into_iter().map(|table| (table.name, table.entries));
        let tables = self.tables.by_name();
        let expected = tables.iter().map(|(name, table)| ((*name).to_owned(), table.rows.len() as u64));
        assert!(found.eq(expected), "tables");
        let name = input.name();
        match (tables.get(name), self.tx.untyped(name)) {
            (Some(table), Ok(found)) => {
                let rows = memstone::RawTable::range(&found, ..).expect("a range");
                let rows = rows.map(|row| row.expect("a row")).map(|(key, value)| (key.to_vec(), value.to_vec()));
                assert!(rows.eq(table.rows.clone()), "the rows of {name:?}");
            }
            (None, found) => agree(found.map(drop), Err(Refusal::Gone), "untyped"),
            (Some(_), Err(error)) => panic!("{error:?}"),
        }
    }

    fn open(&mut self, world: &mut World, input: &mut Input<'_>) {
        let (way, name, kind) = (input.byte() % 4, input.name(), input.kind());
        let known = self.tables.open(name, kind);
        let reading = way == 0;
        let opened = match (reading, kind) {
            (false, Kind::Raw) => self.tx.raw(name).map(|table| Handle::Writing(Box::new(table))),
            (false, Kind::Typed) => self.tx.table(typed(name)).map(|table| Handle::Writing(Box::new(table))),
            (true, Kind::Raw) => self.tx.read_raw(name).map(|table| Handle::Reading(Box::new(table))),
            (true, Kind::Typed) => self.tx.read_table(typed(name)).map(|table| Handle::Reading(Box::new(table))),
        };
        match (opened, known) {
            (Ok(handle), Ok(known)) => {
                let stands = match known {
                    Some(id) => Stands::For(id),
                    None if reading => Stands::ForName(name, kind),
                    None => Stands::For(self.tables.create(name, kind, &mut world.made)),
                };
                if self.held.len() == KEPT {
                    self.held.swap_remove(input.below(KEPT));
                }
                self.held.push(Held { handle, stands, kind });
            }
            (opened, known) => agree(opened.map(drop), known.map(drop), "opening a table"),
        }
    }

    fn open_range(&mut self, input: &mut Input<'_>) {
        let Some(at) = input.place(self.held.len()) else { return };
        let held = &self.held[at];
        if self.ranges.len() == KEPT {
            self.ranges.swap_remove(input.below(KEPT));
        }
        self.ranges.push(OpenRange::of(held.handle.reads(), held.stands, input.bounds(held.kind)));
    }

    fn step_range(&mut self, input: &mut Input<'_>) {
        let Some(at) = input.place(self.ranges.len()) else { return };
        let back = input.byte() & 1 == 1;
        self.ranges[at].step(&self.tables, back);
    }

    fn read(&mut self, input: &mut Input<'_>) {
        let Some(at) = input.place(self.held.len()) else { return };
        let held = &self.held[at];
        read(held.handle.reads(), held.stands, held.kind, &self.tables, input);
    }

    fn write(&mut self, input: &mut Input<'_>) {
        let Some(at) = input.place(self.held.len()) else { return };
        let held = &self.held[at];
        match (&held.handle, held.stands) {
            (Handle::Writing(table), Stands::For(id)) => {
                let rows = self.tables.get_mut(id).map(|table| &mut table.rows);
                write(&**table, rows, held.kind, input);
            }
            _ => read(held.handle.reads(), held.stands, held.kind, &self.tables, input),
        }
    }
}

/// A second transaction of the same thread is refused, by whatever way it comes to the store.
pub fn is_refused(begun: Result<WriteTxn, Error>) {
    assert!(matches!(begun, Err(Error::Nested { .. })), "{:?}", begun.err());
}
