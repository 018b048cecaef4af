//! Which table a handle of a write transaction stands for: the one that had the name when the handle was opened,
//! even if the name is changed or given to another table.

use crate::bytes::Bytes;
use crate::change::Change;
use crate::disk::format::{MAX_VALUE_SIZE, TABLE_NAMES};
use crate::engine::buffer::Buffer;
use crate::engine::file::{check_key, check_name_size};
use crate::engine::known_tables::KnownTable;
use crate::engine::merge::TableSource;
use crate::engine::table_row::TableEntry;
use crate::error::{Error, LimitKind, Result};
use crate::txn::catalog::{check_schema, check_types};
use crate::txn::txn_table::{ExpectedTable, TxnTable};
use crate::txn::undo::Undo;
use crate::txn::write::WriteTxn;
use std::rc::Rc;

impl WriteTxn {
    // Finding tables.

    /// What a name stands for in this transaction.
    pub(super) fn look_up(&self, name: &str) -> Result<Option<TableEntry>> {
        let view = self.base()?;
        let row = match self.buffer.buffered(TABLE_NAMES, name.as_bytes()) {
            None => return view.table(name),
            Some(Change::Delete) => return Ok(None),
            Some(Change::Put(row)) => TableEntry::decode(&row),
            Some(Change::PutOverflow(_)) => None,
        };
        let mut entry = row.ok_or_else(|| Error::Internal(format!("no row of the names table for {name:?}")))?;
        entry.root = view.tree_root(entry.id)?;
        Ok(Some(entry))
    }

    /// The table that has this name, whatever its types.
    pub(super) fn find_table(&self, name: &str) -> Result<Option<Rc<TxnTable>>> {
        let entry = self.look_up(name)?;
        Ok(entry.map(|entry| self.tables.of(name, entry.id, (&entry.key_type, &entry.value_type))))
    }

    /// The table that has this name and these types. A table that this process knows is not looked up: a
    /// transaction that only writes to such tables need not read what other processes have committed, unless one
    /// of them changed the set of tables.
    pub(super) fn open_known(&self, name: &str, types: (&str, &str)) -> Result<Option<Rc<TxnTable>>> {
        self.engine().check_process()?;
        check_name_size(LimitKind::TableName, name)?;
        let table = match self.tables.named(name) {
            Some(table) => Some(table),
            None => match self.assume(name) {
                Some(table) => Some(table),
                None => self.find_and_remember(name)?,
            },
        };
        table.as_ref().map_or(Ok(()), |table| table.check_types(types))?;
        Ok(table)
    }

    fn assume(&self, name: &str) -> Option<Rc<TxnTable>> {
        if self.has_base() {
            return None;
        }
        let (known, as_of) = self.engine().known_table(name)?;
        let catalog_lsn = &mut self.buffer.changes.borrow_mut().catalog_lsn;
        if catalog_lsn.is_some_and(|lsn| lsn != as_of) {
            return None;
        }
        *catalog_lsn = Some(as_of);
        Some(self.tables.of(name, known.id, (&known.key_type, &known.value_type)))
    }

    /// Only committed tables are remembered: before anything was read, this transaction cannot have created one.
    fn find_and_remember(&self, name: &str) -> Result<Option<Rc<TxnTable>>> {
        let is_committed = !self.has_base();
        let entry = self.look_up(name)?;
        if is_committed && let Some(entry) = &entry {
            let (key_type, value_type) = (entry.key_type.clone(), entry.value_type.clone());
            self.engine().remember_table(name, &KnownTable { id: entry.id, key_type, value_type });
        }
        Ok(entry.map(|entry| self.tables.of(name, entry.id, (&entry.key_type, &entry.value_type))))
    }

    // What handles of a table ask.

    /// Where the table is read.
    pub(super) fn ground_of_table(&self, table: &TxnTable) -> Result<TableSource<'_, Buffer>> {
        // First, because it may show that the name stands for another table than was assumed.
        let view = self.base()?;
        let id = table.id()?;
        let root = match table.root.get() {
            Some(root) => root,
            None => view.tree_root(id)?,
        };
        table.root.set(Some(root));
        Ok(TableSource { view, buffer: Some(&self.buffer), table: id, root })
    }

    /// Where the table is read that has the expected name now; `None` if there is none.
    pub(super) fn ground_of_name(&self, expected: &ExpectedTable) -> Result<Option<TableSource<'_, Buffer>>> {
        let ExpectedTable { name, types, schema } = expected;
        let Some(found) = self.look_up(name)? else { return Ok(None) };
        check_types(name, (&types.0, &types.1), (&found.key_type, &found.value_type))?;
        if let Some((schema, version)) = schema {
            check_schema(name, (schema, *version), &found)?;
        }
        Ok(Some(TableSource { view: self.base()?, buffer: Some(&self.buffer), table: found.id, root: found.root }))
    }

    /// Where the table is written.
    pub(super) fn id_of(&self, table: &TxnTable) -> Result<u32> {
        self.engine().check_process()?;
        table.id()
    }

    // Changing the set of tables. Whatever may fail comes before the first change.

    pub(super) fn create_table(&self, name: &str, types: (&str, &str)) -> Result<Rc<TxnTable>> {
        check_name_size(LimitKind::TableName, name)?;
        [types.0, types.1].into_iter().try_for_each(|name| check_name_size(LimitKind::TypeName, name))?;
        let id = self.next_id(self.base()?)?;
        let table = self.tables.of(name, id, types);
        self.undo.note(|| Undo::Table { table: Rc::clone(&table), name: table.name(), id: None });
        self.set_name(name, &TableEntry::new(id, types.0, types.1));
        Ok(table)
    }

    pub(super) fn remove_table(&self, table: &Rc<TxnTable>) -> Result<()> {
        let id = self.id_of(table)?;
        self.change_row(TABLE_NAMES, table.name().as_bytes(), Some(Change::Delete));
        self.drop_content(id);
        self.change_table(table, table.name(), None);
        Ok(())
    }

    pub(super) fn empty_table(&self, table: &Rc<TxnTable>) -> Result<()> {
        let view = self.base()?;
        let (old, new) = (self.id_of(table)?, self.next_id(view)?);
        let row = self.row_of(table)?;
        self.set_name(&table.name(), &TableEntry { id: new, ..row });
        self.drop_content(old);
        self.change_table(table, table.name(), Some(new));
        self.tables.by_id.borrow_mut().insert(new, Rc::clone(table));
        Ok(())
    }

    /// The new name is free.
    pub(super) fn rename_to(&self, table: &Rc<TxnTable>, to: &str) -> Result<()> {
        check_name_size(LimitKind::TableName, to)?;
        let (id, row) = (self.id_of(table)?, self.row_of(table)?);
        self.change_row(TABLE_NAMES, table.name().as_bytes(), Some(Change::Delete));
        self.set_name(to, &row);
        self.change_table(table, to.into(), Some(id));
        Ok(())
    }

    pub(super) fn describe_schema(&self, table: &TxnTable, schema: &str, version: u64) -> Result<()> {
        check_name_size(LimitKind::SchemaName, schema)?;
        let row = self.row_of(table)?;
        self.set_name(&table.name(), &TableEntry { schema: schema.into(), schema_version: version, ..row });
        Ok(())
    }

    /// What the names table says of a table that exists.
    fn row_of(&self, table: &TxnTable) -> Result<TableEntry> {
        let name = table.name();
        self.look_up(&name)?.ok_or_else(|| Error::NoTable { table: name.to_string() })
    }

    fn change_table(&self, table: &Rc<TxnTable>, name: Rc<str>, id: Option<u32>) {
        let (name, id) = table.replace(name, id);
        self.undo.note(|| Undo::Table { table: Rc::clone(table), name, id });
    }

    fn drop_content(&self, id: u32) {
        if self.buffer.changes.borrow_mut().dropped.insert(id) {
            self.undo.note(|| Undo::Content(id));
        }
    }

    pub(crate) fn put_bytes(&self, table: &TxnTable, key: &[u8], value: &[u8]) -> Result<()> {
        check_key(key)?;
        if value.len() as u64 > MAX_VALUE_SIZE {
            return Err(Error::TooLarge { what: LimitKind::Value, size: value.len() as u64, limit: MAX_VALUE_SIZE });
        }
        let id = self.id_of(table)?;
        self.change_row(id, key, Some(Change::Put(Bytes::copied(value))));
        Ok(())
    }
}
