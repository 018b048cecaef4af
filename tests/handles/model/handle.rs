//! Handles of tables, raw and typed ones by one face, and ranges that are kept open.

use super::input::Input;
use super::tables::{Bounds, Kind, Refusal, Row, Rows, Stands, Tables, agree, slices, within};
use memstone::{
    Bytes, Error, Raw, RawRange, RawTable, RawTableMut, Table, TypedRange, TypedTable, TypedTableMut, WriteTxn,
};
use std::ops::Bound;

type Found<T> = Result<T, Error>;

/// A typed table of this name.
pub const fn typed(name: &str) -> Table<'_, &'static str, [u8], Raw> {
    Table::new(name)
}

fn text(key: &[u8]) -> &str {
    std::str::from_utf8(key).expect("keys of typed tables are text")
}

fn texts((from, to): (Bound<&[u8]>, Bound<&[u8]>)) -> (Bound<String>, Bound<String>) {
    (from.map(|key| text(key).to_owned()), to.map(|key| text(key).to_owned()))
}

fn raw_row((key, value): (Bytes<'_>, Bytes<'_>)) -> Row {
    (key.to_vec(), value.to_vec())
}

fn typed_row((key, value): (String, Bytes<'_>)) -> Row {
    (key.into_bytes(), value.to_vec())
}

/// The reads of any handle.
pub trait Reads<'s> {
    fn get(&self, key: &[u8]) -> Found<Option<Vec<u8>>>;
    fn contains(&self, key: &[u8]) -> Found<bool>;
    fn len(&self) -> Found<u64>;
    fn first(&self) -> Found<Option<Row>>;
    fn last(&self) -> Found<Option<Row>>;
    fn range(&self, bounds: &Bounds) -> Found<Range<'s>>;
}

/// The writes of a handle that may write.
pub trait Writes<'s>: Reads<'s> {
    fn put(&self, key: &[u8], value: &[u8]) -> Found<()>;
    fn insert(&self, key: &[u8], value: &[u8]) -> Found<Option<Vec<u8>>>;
    fn delete(&self, key: &[u8]) -> Found<()>;
    fn remove(&self, key: &[u8]) -> Found<Option<Vec<u8>>>;
    /// Appends a byte to the value, or takes it out.
    fn update(&self, key: &[u8], byte: Option<u8>) -> Found<()>;
    fn pop_first(&self) -> Found<Option<Row>>;
    fn pop_last(&self) -> Found<Option<Row>>;
    fn retain(&self, keep: &dyn Fn(&[u8], &[u8]) -> bool) -> Found<u64>;
    fn delete_range(&self, bounds: &Bounds) -> Found<u64>;
    fn bulk_load(&self, rows: &[Row]) -> Found<u64>;
    fn clear(&self) -> Found<()>;
}

macro_rules! raw_reads {
    ($($table:ty => $range:ident),+) => {
        $(impl<'s> Reads<'s> for $table {
            fn get(&self, key: &[u8]) -> Found<Option<Vec<u8>>> {
                Ok(RawTable::get(self, key)?.map(|value| value.to_vec()))
            }
            fn contains(&self, key: &[u8]) -> Found<bool> {
                RawTable::contains(self, key)
            }
            fn len(&self) -> Found<u64> {
                RawTable::len(self)
            }
            fn first(&self) -> Found<Option<Row>> {
                Ok(RawTable::first(self)?.map(raw_row))
            }
            fn last(&self) -> Found<Option<Row>> {
                Ok(RawTable::last(self)?.map(raw_row))
            }
            fn range(&self, bounds: &Bounds) -> Found<Range<'s>> {
                RawTable::range(self, slices(bounds)).map(Range::$range)
            }
        })+
    };
}

macro_rules! typed_reads {
    ($($table:ty),+) => {
        $(impl<'s> Reads<'s> for $table {
            fn get(&self, key: &[u8]) -> Found<Option<Vec<u8>>> {
                Ok(TypedTable::get(self, text(key))?.map(|value| value.to_vec()))
            }
            fn contains(&self, key: &[u8]) -> Found<bool> {
                TypedTable::contains(self, text(key))
            }
            fn len(&self) -> Found<u64> {
                TypedTable::len(self)
            }
            fn first(&self) -> Found<Option<Row>> {
                Ok(TypedTable::first(self)?.map(typed_row))
            }
            fn last(&self) -> Found<Option<Row>> {
                Ok(TypedTable::last(self)?.map(typed_row))
            }
            fn range(&self, bounds: &Bounds) -> Found<Range<'s>> {
                TypedTable::range(self, texts(slices(bounds))).map(Range::Typed)
            }
        })+
    };
}

raw_reads!(RawTable<'s> => Old, RawTable<'s, WriteTxn> => Plain, RawTableMut<'s> => Plain);
typed_reads!(TypedTable<'s, &'static str, [u8], Raw, WriteTxn>, TypedTableMut<'s, &'static str, [u8], Raw>);

impl<'s> Writes<'s> for RawTableMut<'s> {
    fn put(&self, key: &[u8], value: &[u8]) -> Found<()> {
        self.put(key, value)
    }
    fn insert(&self, key: &[u8], value: &[u8]) -> Found<Option<Vec<u8>>> {
        Ok(self.insert(key, value)?.map(|value| value.to_vec()))
    }
    fn delete(&self, key: &[u8]) -> Found<()> {
        self.delete(key)
    }
    fn remove(&self, key: &[u8]) -> Found<Option<Vec<u8>>> {
        Ok(self.remove(key)?.map(|value| value.to_vec()))
    }
    fn update(&self, key: &[u8], byte: Option<u8>) -> Found<()> {
        self.update(key, |old| appended(old.map(<[u8]>::to_vec), byte)).map(drop)
    }
    fn pop_first(&self) -> Found<Option<Row>> {
        Ok(self.pop_first()?.map(raw_row))
    }
    fn pop_last(&self) -> Found<Option<Row>> {
        Ok(self.pop_last()?.map(raw_row))
    }
    fn retain(&self, keep: &dyn Fn(&[u8], &[u8]) -> bool) -> Found<u64> {
        self.retain(keep)
    }
    fn delete_range(&self, bounds: &Bounds) -> Found<u64> {
        self.delete_range(slices(bounds))
    }
    fn bulk_load(&self, rows: &[Row]) -> Found<u64> {
        self.bulk_load(rows.iter().map(|(key, value)| (key, value)))
    }
    fn clear(&self) -> Found<()> {
        self.clear()
    }
}

impl<'s> Writes<'s> for TypedTableMut<'s, &'static str, [u8], Raw> {
    fn put(&self, key: &[u8], value: &[u8]) -> Found<()> {
        self.put(text(key), value)
    }
    fn insert(&self, key: &[u8], value: &[u8]) -> Found<Option<Vec<u8>>> {
        Ok(self.insert(text(key), value)?.map(|value| value.to_vec()))
    }
    fn delete(&self, key: &[u8]) -> Found<()> {
        self.delete(text(key))
    }
    fn remove(&self, key: &[u8]) -> Found<Option<Vec<u8>>> {
        Ok(self.remove(text(key))?.map(|value| value.to_vec()))
    }
    fn update(&self, key: &[u8], byte: Option<u8>) -> Found<()> {
        self.update(text(key), |old| appended(old.map(|value| value.to_vec()), byte)).map(drop)
    }
    fn pop_first(&self) -> Found<Option<Row>> {
        Ok(self.pop_first()?.map(typed_row))
    }
    fn pop_last(&self) -> Found<Option<Row>> {
        Ok(self.pop_last()?.map(typed_row))
    }
    fn retain(&self, keep: &dyn Fn(&[u8], &[u8]) -> bool) -> Found<u64> {
        self.retain(|key, value| keep(key.as_bytes(), value))
    }
    fn delete_range(&self, bounds: &Bounds) -> Found<u64> {
        self.delete_range(texts(slices(bounds)))
    }
    fn bulk_load(&self, rows: &[Row]) -> Found<u64> {
        self.bulk_load(rows.iter().map(|(key, value)| (text(key), value)))
    }
    fn clear(&self) -> Found<()> {
        self.clear()
    }
}

fn appended(old: Option<Vec<u8>>, byte: Option<u8>) -> Option<Vec<u8>> {
    byte.map(|byte| {
        let mut new = old.unwrap_or_default();
        new.push(byte);
        new
    })
}

/// A range of a table.
pub enum Range<'s> {
    Old(RawRange<'s>),
    Plain(RawRange<'s, WriteTxn>),
    Typed(TypedRange<'s, &'static str, [u8], Raw, WriteTxn>),
}

impl Range<'_> {
    fn take(&mut self, back: bool) -> Option<Found<Row>> {
        match (self, back) {
            (Range::Old(range), false) => range.next().map(|row| row.map(raw_row)),
            (Range::Old(range), true) => range.next_back().map(|row| row.map(raw_row)),
            (Range::Plain(range), false) => range.next().map(|row| row.map(raw_row)),
            (Range::Plain(range), true) => range.next_back().map(|row| row.map(raw_row)),
            (Range::Typed(range), false) => range.next().map(|row| row.map(typed_row)),
            (Range::Typed(range), true) => range.next_back().map(|row| row.map(typed_row)),
        }
    }
}

/// A range that is kept open while its table changes, and how far each end has come.
pub struct OpenRange<'s> {
    range: Range<'s>,
    stands: Stands,
    /// The bounds of what it has still to give.
    left: Bounds,
    done: bool,
}

impl<'s> OpenRange<'s> {
    pub fn of(table: &dyn Reads<'s>, stands: Stands, bounds: Bounds) -> OpenRange<'s> {
        let range = table.range(&bounds).expect("a range is opened without a look at the table");
        // One that ends before it starts is empty, whatever becomes of the table.
        let done = match &bounds {
            [Bound::Included(from), Bound::Included(to)] => from > to,
            [Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)] => from >= to,
            _ => false,
        };
        OpenRange { range, stands, left: bounds, done }
    }

    /// Takes the next entry from one end: what lies ahead by now.
    pub fn step(&mut self, tables: &Tables, back: bool) {
        let expected = if self.done { Ok(None) } else { self.ahead(tables, back) };
        if let Ok(Some((key, _))) = &expected {
            self.left[usize::from(back)] = Bound::Excluded(key.clone());
        } else {
            self.done = true;
        }
        agree(self.range.take(back).transpose(), expected, "a range");
    }

    fn ahead(&self, tables: &Tables, back: bool) -> Result<Option<Row>, Refusal> {
        let Some(rows) = tables.rows(self.stands)? else { return Ok(None) };
        let mut rows = rows.iter().filter(|(key, _)| within(&self.left, key));
        let next = if back { rows.next_back() } else { rows.next() };
        Ok(next.map(|(key, value)| (key.clone(), value.clone())))
    }
}

/// Reads through a handle, in one way or in all.
pub fn read<'s>(table: &dyn Reads<'s>, stands: Stands, kind: Kind, tables: &Tables, input: &mut Input<'_>) {
    let (rows, none) = (tables.rows(stands), Rows::new());
    let rows = rows.map(|rows| rows.unwrap_or(&none));
    let key = input.key(kind);
    let owned = |row: Option<(&Vec<u8>, &Vec<u8>)>| row.map(|(key, value)| (key.clone(), value.clone()));
    match input.byte() % 8 {
        0 => agree(table.contains(&key), rows.map(|rows| rows.contains_key(&key)), "contains"),
        1 => agree(table.len(), rows.map(|rows| rows.len() as u64), "len"),
        2 => agree(table.first(), rows.map(|rows| owned(rows.first_key_value())), "first"),
        3 => agree(table.last(), rows.map(|rows| owned(rows.last_key_value())), "last"),
        4 => {
            let mut range = OpenRange::of(table, stands, input.bounds(kind));
            let back = input.byte();
            (0..8).for_each(|bit| range.step(tables, back >> bit & 1 == 1));
        }
        _ => agree(table.get(&key), rows.map(|rows| rows.get(&key).cloned()), "get"),
    }
}

/// Writes through a handle.
pub fn write<'s>(table: &dyn Writes<'s>, rows: Result<&mut Rows, Refusal>, kind: Kind, input: &mut Input<'_>) {
    let key = input.key(kind);
    match input.byte() % 16 {
        0..5 => {
            let value = input.value();
            agree(table.put(&key, &value), rows.map(|rows| drop(rows.insert(key.clone(), value.clone()))), "put");
        }
        5 => {
            let value = input.value();
            agree(table.insert(&key, &value), rows.map(|rows| rows.insert(key.clone(), value.clone())), "insert");
        }
        6 => {
            let byte = input.byte();
            let byte = (byte & 3 != 0).then_some(byte);
            let changed = |rows: &mut Rows| {
                let new = appended(rows.remove(&key), byte);
                rows.extend(new.map(|value| (key.clone(), value)));
            };
            agree(table.update(&key, byte), rows.map(changed), "update");
        }
        7 | 8 => agree(table.delete(&key), rows.map(|rows| drop(rows.remove(&key))), "delete"),
        9 => agree(table.remove(&key), rows.map(|rows| rows.remove(&key)), "remove"),
        10 => agree(table.pop_first(), rows.map(Rows::pop_first), "pop_first"),
        11 => agree(table.pop_last(), rows.map(Rows::pop_last), "pop_last"),
        12 => {
            let bounds = input.bounds(kind);
            agree(table.delete_range(&bounds), rows.map(|rows| retain(rows, |key, _| !within(&bounds, key))), "range");
        }
        13 => {
            let bit = input.byte() % 8;
            let keep = |key: &[u8], value: &[u8]| (key.len() + value.len()) >> bit & 1 == 0;
            agree(table.retain(&keep), rows.map(|rows| retain(rows, keep)), "retain");
        }
        14 => {
            let (n, fill) = (u32::from(input.byte()), input.byte());
            let row = |i: u32| ([b"bulk/".as_slice(), format!("{i:04}").as_bytes()].concat(), vec![fill; 30]);
            let items: Vec<Row> = (0..n).map(row).collect();
            let loaded = rows.map(|rows| rows.extend(items.clone())).map(|()| items.len() as u64);
            agree(table.bulk_load(&items), loaded, "bulk_load");
        }
        _ => agree(table.clear(), rows.map(Rows::clear), "clear"),
    }
}

fn retain(rows: &mut Rows, keep: impl Fn(&[u8], &[u8]) -> bool) -> u64 {
    let before = rows.len();
    rows.retain(|key, value| keep(key, value));
    (before - rows.len()) as u64
}
