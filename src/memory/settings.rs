//! What is declared: the language, vector spaces, and metadata fields with an index. It lies in the store, so that all
//! processes agree.

use crate::memory::error::{MemoryError, Result};
use crate::memory::language::Language;
use crate::memory::tables::{Reader, Table, Writer};
use crate::memory::vector::Space;
use crate::memory::vector_rows::Numbered;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The layout of the tables.
const LAYOUT: u32 = 1;
/// A bit each in the rows of items.
pub(super) const MAX_SPACES: usize = 64;
pub(super) const MAX_FIELDS: usize = 256;

/// The row of the settings, as MessagePack with names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Settings {
    layout: u32,
    pub(super) language: Language,
    /// By number.
    spaces: Vec<(String, Space)>,
    /// By number; the numbers of dropped ones are free.
    fields: Vec<Option<String>>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { layout: LAYOUT, language: Language::default(), spaces: Vec::new(), fields: Vec::new() }
    }
}

impl Settings {
    pub(super) fn read(reader: &Reader<'_>) -> Result<Settings> {
        let Some(row) = reader.get(Table::Settings, b"")? else { return Ok(Settings::default()) };
        let damaged = |error| Table::Settings.damaged(b"", format!("{error}"));
        let settings: Settings = rmp_serde::from_slice(&row).map_err(damaged)?;
        if settings.layout != LAYOUT {
            return Err(MemoryError::Layout { found: settings.layout, supported: LAYOUT });
        }
        Ok(settings)
    }

    pub(super) fn write(&self, writer: &Writer<'_>) -> Result<()> {
        let row = rmp_serde::to_vec_named(self).map_err(|error| Table::Settings.damaged(b"", error.to_string()))?;
        writer.put(Table::Settings, b"", &row)
    }

    /// A space by its name.
    pub(super) fn space(&self, name: &str) -> Result<Numbered> {
        let found = self.find_space(name).map(|(number, space)| Numbered { number, space });
        found.ok_or_else(|| MemoryError::NoSpace { name: name.to_owned() })
    }

    /// The spaces whose bits are set.
    pub(super) fn spaces_of(&self, bits: u64) -> impl Iterator<Item = Numbered> {
        let all = self.spaces().map(|(number, _, space)| Numbered { number, space });
        all.filter(move |numbered| has_bit(bits, numbered.number))
    }

    fn find_space(&self, name: &str) -> Option<(u8, Space)> {
        let (number, (_, space)) = (0..).zip(&self.spaces).find(|(_, (known, _))| known == name)?;
        Some((number, *space))
    }

    /// All of them, by number.
    pub(super) fn spaces(&self) -> impl Iterator<Item = (u8, &str, Space)> {
        (0..).zip(&self.spaces).map(|(number, (name, space))| (number, name.as_str(), *space))
    }

    /// Adds a space; `false` if it is there already.
    pub(super) fn add_space(&mut self, name: &str, space: Space) -> Result<bool> {
        space.check()?;
        check_name("space", name)?;
        match self.find_space(name) {
            Some((_, known)) if known == space => Ok(false),
            Some((_, known)) => {
                let (found, asked) = (known.to_string(), space.to_string());
                Err(MemoryError::SpaceDiffers { name: name.to_owned(), found, asked })
            }
            None if self.spaces.len() == MAX_SPACES => {
                Err(MemoryError::Exhausted { what: "vector spaces", limit: MAX_SPACES as u64 })
            }
            None => {
                self.spaces.push((name.to_owned(), space));
                Ok(true)
            }
        }
    }

    /// The names of the spaces whose bits are set.
    pub(super) fn space_names(&self, bits: u64) -> BTreeSet<String> {
        let set = self.spaces().filter(|(number, ..)| has_bit(bits, *number));
        set.map(|(_, name, _)| name.to_owned()).collect()
    }

    /// The number of a field.
    pub(super) fn field(&self, name: &str) -> Option<u16> {
        self.fields().find(|(_, known)| *known == name).map(|(number, _)| number)
    }

    pub(super) fn fields(&self) -> impl Iterator<Item = (u16, &str)> {
        (0..).zip(&self.fields).filter_map(|(number, name)| Some((number, name.as_deref()?)))
    }

    /// Adds a field, and gives its number; `None` if it is there already.
    pub(super) fn add_field(&mut self, name: &str) -> Result<Option<u16>> {
        check_name("field", name)?;
        if self.field(name).is_some() {
            return Ok(None);
        }
        let free = self.fields.iter().position(Option::is_none).unwrap_or(self.fields.len());
        if free == MAX_FIELDS {
            return Err(MemoryError::Exhausted { what: "fields with an index", limit: MAX_FIELDS as u64 });
        }
        match self.fields.get_mut(free) {
            Some(place) => *place = Some(name.to_owned()),
            None => self.fields.push(Some(name.to_owned())),
        }
        Ok(u16::try_from(free).ok())
    }

    /// Removes a field, and gives its number.
    pub(super) fn remove_field(&mut self, name: &str) -> Option<u16> {
        let number = self.field(name)?;
        *self.fields.get_mut(usize::from(number))? = None;
        Some(number)
    }
}

pub(super) fn has_bit(bits: u64, number: u8) -> bool {
    bits.checked_shr(u32::from(number)).is_some_and(|bits| bits & 1 == 1)
}

fn check_name(what: &'static str, name: &str) -> Result<()> {
    if (1..=200).contains(&name.len()) && !name.chars().any(char::is_control) {
        return Ok(());
    }
    Err(MemoryError::invalid(what, format!("the name {name:?} is empty, longer than 200 bytes, or not printable")))
}
