//! What a store of another make is to an import.

use std::path::Path;

#[cfg(any(feature = "import-redb", test))]
use memstone::{Codec, MessagePack};

use crate::failure::Failure;

use super::intake::Intake;

/// A table of the source, and what becomes of it.
pub(super) struct Found {
    pub(super) name: String,
    /// The types of keys and values, by the names that a store records; or why the table cannot be taken over.
    pub(super) types: Result<(String, String), String>,
}

/// A source, opened to read one state of it.
pub(super) trait Source {
    /// All tables that it has.
    fn tables(&mut self) -> Result<Vec<Found>, Failure>;

    /// Hands every row of a table to the intake, one at a time. A source whose tables lie mixed in one stream hands all rows
    /// over when it is asked for its first table.
    fn read(&mut self, table: &str, intake: &mut Intake) -> Result<(), Failure>;

    /// How many rows the source itself says the table has, asked after it was read.
    fn count(&mut self, table: &str) -> Result<u64, Failure>;
}

/// The failure to read a source, with its name.
pub(super) fn unreadable(path: &Path, error: impl std::fmt::Display) -> Failure {
    Failure::Other(format!("{}: {error}; nothing was imported", path.display()))
}

/// A value as MessagePack, as programs that use the library store it.
#[cfg(any(feature = "import-redb", test))]
#[allow(dead_code, reason = "a build of JSON lines alone has no rows to pack")]
pub(super) fn packed<V>(value: &V) -> Result<Vec<u8>, String>
where
    MessagePack: Codec<V>,
{
    MessagePack::encode(value).map(std::borrow::Cow::into_owned).map_err(|error| error.to_string())
}
