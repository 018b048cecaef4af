//! Declaring spaces, fields and the language. An index that did not exist is made of the items that are there.

use crate::memory::change;
use crate::memory::error::Result;
use crate::memory::field;
use crate::memory::language::Language;
use crate::memory::load;
use crate::memory::namespace::Namespace;
use crate::memory::rows::{NamespaceRow, Row};
use crate::memory::tables::{Place, Table};
use crate::memory::txn::MemoryTxn;
use crate::memory::vector::Space;
use std::collections::BTreeMap;

impl MemoryTxn<'_> {
    /// See [`Memory::declare_space`](super::Memory::declare_space).
    ///
    /// ```
    /// # let memory = memstone::memory::Memory::new(memstone::Store::in_memory()?);
    /// use memstone::memory::{MemoryError, Space};
    /// memory.write(|tx| tx.declare_space("small", Space::new(3)))?;
    /// assert_eq!(memory.snapshot()?.spaces()[0].0, "small");
    /// assert_eq!(memory.snapshot()?.spaces()[0].1.dimension(), 3);
    /// # Ok::<(), memstone::memory::MemoryError>(())
    /// ```
    ///
    /// # Errors
    /// As there.
    pub fn declare_space(&self, name: &str, space: Space) -> Result<()> {
        let mut settings = self.settings().clone();
        if settings.add_space(name, space)? {
            settings.write(&self.writer)?;
            self.settings.replace(settings);
        }
        Ok(())
    }

    /// See [`Memory::declare_field`](super::Memory::declare_field).
    ///
    /// ```
    /// # let memory = memstone::memory::Memory::new(memstone::Store::in_memory()?);
    /// use memstone::memory::{Draft, Language, MemoryError, Query};
    /// memory.write(|tx| {
    ///     tx.declare_field("source")?;
    ///     tx.set_language(Language::German)?;
    ///     tx.add("ada", Draft::new("malt Häuser").metadata("source", "chat"))?;
    ///     assert_eq!(tx.find(&Query::new().field("source", "chat").words("Haus"))?.hits.len(), 1);
    ///     assert!(tx.drop_field("source")?);
    ///     Ok::<_, MemoryError>(())
    /// })?;
    /// # Ok::<(), memstone::memory::MemoryError>(())
    /// ```
    ///
    /// # Errors
    /// As there.
    pub fn declare_field(&self, name: &str) -> Result<()> {
        let mut settings = self.settings().clone();
        let Some(number) = settings.add_field(name)? else { return Ok(()) };
        for place in self.places()? {
            self.index_field(place, number, name, |key| self.writer.put(Table::Fields, key, b""))?;
        }
        settings.write(&self.writer)?;
        self.settings.replace(settings);
        Ok(())
    }

    /// See [`Memory::drop_field`](super::Memory::drop_field).
    ///
    /// # Errors
    /// As there.
    pub fn drop_field(&self, name: &str) -> Result<bool> {
        let mut settings = self.settings().clone();
        let Some(number) = settings.remove_field(name) else { return Ok(false) };
        for place in self.places()? {
            self.index_field(place, number, name, |key| self.writer.delete(Table::Fields, key))?;
        }
        settings.write(&self.writer)?;
        self.settings.replace(settings);
        Ok(true)
    }

    /// See [`Memory::set_language`](super::Memory::set_language).
    ///
    /// # Errors
    /// As there.
    pub fn set_language(&self, language: Language) -> Result<()> {
        let mut settings = self.settings().clone();
        settings.language = language;
        self.writer.clear(Table::Words)?;
        self.writer.clear(Table::Texts)?;
        let mut lengths: BTreeMap<u32, u64> = BTreeMap::new();
        for place in self.places()? {
            *lengths.entry(place.namespace).or_default() +=
                change::rewrite_text(&self.writer, &settings, place)? as u64;
        }
        for (number, words) in lengths {
            let key = load::path(&self.writer.reader, number)?.key();
            if let Some(row) = self.writer.reader.get(Table::Namespaces, &key)? {
                let row = NamespaceRow { words, ..NamespaceRow::parse(&key, &row)? };
                self.writer.put(Table::Namespaces, &key, &row.encode())?;
            }
        }
        settings.write(&self.writer)?;
        self.settings.replace(settings);
        Ok(())
    }

    /// Where all items are.
    fn places(&self) -> Result<Vec<Place>> {
        let rows = self.writer.reader.prefix(Table::Items, b"")?;
        let place = |key: &[u8]| Place::at_end(key).ok_or_else(|| Table::Items.damaged(key, "not a place"));
        rows.map(|row| place(&row?.0)).collect()
    }

    /// Calls `change` with each entry that the index of a field has of an item.
    fn index_field(&self, place: Place, number: u16, name: &str, change: impl Fn(&[u8]) -> Result<()>) -> Result<()> {
        let Some(row) = self.writer.reader.get(Table::Items, &place.key())? else { return Ok(()) };
        let item = Row::parse(place, &row)?.item(place, Namespace::root(), &self.settings())?;
        for value in field::keys(&item.metadata, name) {
            let prefix = load::field_key(place.namespace, number, &value);
            change(&[&prefix[..], &place.number.to_be_bytes()].concat())?;
        }
        Ok(())
    }
}
