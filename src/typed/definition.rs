//! The definition of a table in a program: its name, and the types of its keys and values.

use super::key::{CodecError, Key};
use super::value::Value;
use crate::TableName;
use crate::bytes::Bytes;
use crate::error::{CodecOp, Error, Result};
use std::any::type_name;
use std::fmt;
use std::marker::PhantomData;

/// The name of a table, and the types of its keys and values.
///
/// It costs nothing and names no store, so it is best a constant. The types' recorded names (see
/// [`Key::type_name`] and [`Value::type_name`]) are stored with the table when it is created;
/// opening it with other types gives [`Error::TypeMismatch`].
///
/// ```
/// use memstone::{Store, Table};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, Debug, PartialEq)]
/// struct Note {
///     text: String,
///     #[serde(default)] // notes that were written before this field was there can still be read
///     stars: u8,
/// }
///
/// const NOTES: Table<&str, Note> = Table::new("notes");
/// const BY_DAY: Table<(u32, &str), ()> = Table::new("notes by day");
///
/// # fn main() -> memstone::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// let store = Store::open(dir.path().join("memory.mst"))?;
/// store.write(|tx| {
///     tx.table(NOTES)?.put("a", Note { text: "first".into(), stars: 3 })?;
///     tx.table(BY_DAY)?.put((20_260, "a"), ())
/// })?;
///
/// let snap = store.read()?;
/// for key in snap.table(BY_DAY)?.prefix((20_260,))?.keys() {
///     let (_, id) = key?;
///     let note = snap.table(NOTES)?.get(&id)?;
///     assert_eq!(note, Some(Note { text: "first".into(), stars: 3 }));
/// }
/// # Ok(())
/// # }
/// ```
pub struct Table<'n, K: ?Sized, V> {
    name: &'n str,
    types: PhantomData<fn(&K) -> V>,
}

impl<'n, K: ?Sized, V> Table<'n, K, V> {
    /// The table called `name`. It is created when a write transaction first opens it.
    pub const fn new(name: &'n str) -> Table<'n, K, V> {
        Table { name, types: PhantomData }
    }

    /// The table's name.
    pub const fn name(&self) -> &'n str {
        self.name
    }
}

impl<K: ?Sized, V> Clone for Table<'_, K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K: ?Sized, V> Copy for Table<'_, K, V> {}

impl<K: ?Sized, V> TableName for Table<'_, K, V> {
    fn table_name(&self) -> &str {
        self.name
    }
}

impl<K: Key + ?Sized, V: Value> fmt::Debug for Table<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {} → {}", self.name, K::type_name(), V::type_name())
    }
}

/// Decoding the table's content. The errors name the table.
impl<K: Key + ?Sized, V: Value> Table<'_, K, V> {
    pub(super) fn decode_key(self, bytes: &[u8]) -> Result<K::Owned> {
        K::from_key(bytes).map_err(|error| self.error(CodecOp::Decode, type_name::<K>(), &error))
    }

    pub(super) fn decode_value(self, bytes: &[u8]) -> Result<V> {
        V::decode(bytes).map_err(|error| self.error(CodecOp::Decode, type_name::<V>(), &error))
    }

    pub(super) fn decode_entry(self, key: &[u8], value: &[u8]) -> Result<(K::Owned, V)> {
        Ok((self.decode_key(key)?, self.decode_value(value)?))
    }

    pub(super) fn decode_optional_value(self, bytes: Option<Bytes<'_>>) -> Result<Option<V>> {
        bytes.map(|bytes| self.decode_value(&bytes)).transpose()
    }

    pub(super) fn decode_optional_entry(self, entry: Option<(Bytes<'_>, Bytes<'_>)>) -> Result<Option<(K::Owned, V)>> {
        entry.map(|(key, value)| self.decode_entry(&key, &value)).transpose()
    }

    pub(super) fn encode_error(self, error: &CodecError) -> Error {
        self.error(CodecOp::Encode, type_name::<V>(), error)
    }

    fn error(self, op: CodecOp, type_name: &'static str, error: &CodecError) -> Error {
        Error::Codec { table: self.name.to_owned(), op, type_name, reason: error.to_string() }
    }
}
