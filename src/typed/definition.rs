//! The definition of a table in a program: its name, the types of its keys and values, and how values are encoded.

use super::codec::{Codec, MessagePack};
use super::key::{CodecError, Key};
use super::raw::Raw;
use crate::bytes::Bytes;
use crate::error::{CodecOp, Error, LimitKind, Result};
use crate::{MAX_NAME_SIZE, TableName};
use std::any::type_name;
use std::fmt;
use std::marker::PhantomData;

/// The name of a table, the types of its keys and values, and the codec of the values.
///
/// It costs nothing and names no store, so it is best a constant. The types' recorded names (see
/// [`Key::type_name`] and [`Codec::name`]) are stored with the table when it is created; opening it with other keys or
/// another codec gives [`Error::TypeMismatch`].
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
///
/// Values are MessagePack unless the third parameter names another [`Codec`]:
///
/// ```
/// use memstone::{BytesTable, Raw, Table};
///
/// const FILES: Table<&str, [u8], Raw> = Table::new("files");
/// const SAME: BytesTable<&str> = BytesTable::new("files");
/// assert_eq!(FILES.name(), SAME.name());
/// ```
pub struct Table<'n, K: ?Sized, V: ?Sized, C = MessagePack> {
    name: &'n str,
    schema: Option<(&'n str, u64)>,
    types: PhantomData<fn(&K, C) -> *const V>,
}

/// A table of bytes as they are; reading does not copy them where possible. See [`Raw`].
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
/// use memstone::BytesTable;
/// const FILES: BytesTable<&str> = BytesTable::new("files");
///
/// store.write(|tx| tx.table(FILES)?.put("a", b"content"))?;
/// assert_eq!(store.read()?.table(FILES)?.get("a")?.unwrap(), b"content");
/// # Ok::<(), memstone::Error>(())
/// ```
pub type BytesTable<'n, K> = Table<'n, K, [u8], Raw>;

impl<'n, K: ?Sized, V: ?Sized, C> Table<'n, K, V, C> {
    /// The table called `name`. It is created when a write transaction first opens it.
    pub const fn new(name: &'n str) -> Table<'n, K, V, C> {
        Table { name, schema: None, types: PhantomData }
    }

    /// With a schema: a name and a version of your choice, recorded when the table is created. Opening a table that is
    /// recorded with another schema, or with none, gives [`Error::TypeMismatch`], which names both. Without this, the
    /// schema of a table is not looked at.
    ///
    /// It guards changes that serde cannot bridge. To migrate, one transaction opens the table by its old definition,
    /// rewrites the rows, and sets the new version; a program that still has the old definition is refused from then
    /// on, instead of misreading:
    ///
    /// ```
    /// use memstone::{Store, Table};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct OldNote {
    ///     words: Vec<String>,
    /// }
    /// #[derive(Serialize, Deserialize)]
    /// struct Note {
    ///     text: String,
    /// }
    /// const OLD_NOTES: Table<&str, OldNote> = Table::new("notes").schema("note", 1);
    /// const NOTES: Table<&str, Note> = Table::new("notes").schema("note", 2);
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = Store::open(dir.path().join("memory.mst"))?;
    /// # store.write(|tx| tx.table(OLD_NOTES)?.put("a", OldNote { words: vec!["one".into(), "two".into()] }))?;
    /// assert!(matches!(store.read()?.table(NOTES), Err(memstone::Error::TypeMismatch { .. })));
    /// store.write(|tx| {
    ///     if tx.table_schema("notes")?.is_some_and(|(_, version)| version == 1) {
    ///         let old = tx.table(OLD_NOTES)?;
    ///         tx.set_schema("notes", "note", 2)?;
    ///         let new = tx.table(NOTES)?;
    ///         for row in old.range(..)? {
    ///             let (key, note) = row?;
    ///             new.put(key, Note { text: note.words.join(" ") })?;
    ///         }
    ///     }
    ///     Ok::<_, memstone::Error>(())
    /// })?;
    /// assert_eq!(store.read()?.table(NOTES)?.get("a")?.unwrap().text, "one two");
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// The types of a table are recorded for good: for other keys or another codec, rewrite the rows into a new table,
    /// drop the old one, and rename the new one ([`WriteTxn::rename_table`](crate::WriteTxn::rename_table)).
    #[must_use]
    pub const fn schema(mut self, name: &'n str, version: u64) -> Table<'n, K, V, C> {
        self.schema = Some((name, version));
        self
    }

    /// The table's name.
    pub const fn name(&self) -> &'n str {
        self.name
    }

    /// The schema that the table must have, if one was given.
    pub(super) fn wanted_schema(self) -> Result<Option<(&'n str, u64)>> {
        match self.schema {
            Some((name, _)) if name.len() > MAX_NAME_SIZE => Err(Error::TooLarge {
                what: LimitKind::SchemaName,
                size: name.len() as u64,
                limit: MAX_NAME_SIZE as u64,
            }),
            schema => Ok(schema),
        }
    }
}

impl<K: ?Sized, V: ?Sized, C> Clone for Table<'_, K, V, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K: ?Sized, V: ?Sized, C> Copy for Table<'_, K, V, C> {}

impl<K: ?Sized, V: ?Sized, C> TableName for Table<'_, K, V, C> {
    fn table_name(&self) -> &str {
        self.name
    }
}

impl<K: Key + ?Sized, V: ?Sized, C: Codec<V>> fmt::Debug for Table<'_, K, V, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {} → {}", self.name, K::type_name(), C::name())
    }
}

/// Decoding the table's content. The errors name the table.
impl<K: Key + ?Sized, V: ?Sized, C: Codec<V>> Table<'_, K, V, C> {
    pub(super) fn decode_key(self, bytes: &[u8]) -> Result<K::Owned> {
        K::from_key(bytes).map_err(|error| self.error(CodecOp::Decode, type_name::<K>(), &error))
    }

    pub(super) fn decode_value<'b>(self, bytes: Bytes<'b>) -> Result<C::Value<'b>> {
        C::decode(bytes).map_err(|error| self.error(CodecOp::Decode, type_name::<V>(), &error))
    }

    pub(super) fn decode_entry<'b>(self, key: &[u8], value: Bytes<'b>) -> Result<Entry<'b, K, V, C>> {
        Ok((self.decode_key(key)?, self.decode_value(value)?))
    }

    pub(super) fn decode_optional_value<'b>(self, bytes: Option<Bytes<'b>>) -> Result<Option<C::Value<'b>>> {
        bytes.map(|bytes| self.decode_value(bytes)).transpose()
    }

    pub(super) fn decode_optional_entry<'b>(
        self,
        entry: Option<(Bytes<'b>, Bytes<'b>)>,
    ) -> Result<Option<Entry<'b, K, V, C>>> {
        entry.map(|(key, value)| self.decode_entry(&key, value)).transpose()
    }

    pub(super) fn encode_error(self, error: &CodecError) -> Error {
        self.error(CodecOp::Encode, type_name::<V>(), error)
    }

    fn error(self, op: CodecOp, type_name: &'static str, error: &CodecError) -> Error {
        Error::Codec { table: self.name.to_owned(), op, type_name, reason: error.to_string() }
    }
}

/// A key and a value, as reading returns them.
pub(super) type Entry<'s, K, V, C> = (<K as Key>::Owned, <C as Codec<V>>::Value<'s>);
