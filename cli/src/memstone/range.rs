//! Which keys of a table a verb works on.

use std::ops::Bound;

use clap::Args;
use memstone::{RawRange, RawTable, RawTableMut, Snapshot};

use crate::access::{Place, Types};
use crate::failure::Failure;
use crate::keys::KeyType;

#[derive(Args)]
pub(crate) struct Keys {
    /// Only keys that begin so; for tuples, a JSON array of leading parts
    #[arg(long, conflicts_with_all = ["from", "to"])]
    prefix: Option<String>,
    /// Only keys from this one on
    #[arg(long, value_name = "KEY", allow_negative_numbers = true)]
    from: Option<String>,
    /// Only keys before this one
    #[arg(long, value_name = "KEY", allow_negative_numbers = true)]
    to: Option<String>,
}

/// Rows of a table, in one state of the store.
#[derive(Args)]
pub(crate) struct Rows {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) keys: Keys,
    /// Read the named snapshot instead of the newest state
    #[arg(long, value_name = "NAME")]
    at: Option<String>,
}

impl Rows {
    /// The state that they are in, and the types of the table.
    pub(crate) fn open(&self) -> Result<(Snapshot, Types), Failure> {
        let snapshot = self.place.read_at(self.at.as_deref())?;
        let types = self.place.types_in(&snapshot)?;
        Ok((snapshot, types))
    }
}

/// Keys of a range, as bytes.
pub(crate) enum Span {
    Prefix(Vec<u8>),
    Between(Option<Vec<u8>>, Option<Vec<u8>>),
}

impl Keys {
    /// Whether all keys are meant.
    pub(crate) fn is_all(&self) -> bool {
        self.prefix.is_none() && self.from.is_none() && self.to.is_none()
    }

    pub(crate) fn span(&self, keys: &KeyType) -> Result<Span, Failure> {
        let key = |text: &Option<String>| text.as_deref().map(|text| keys.key(text)).transpose();
        Ok(match &self.prefix {
            Some(prefix) => Span::Prefix(keys.prefix(prefix)?),
            None => Span::Between(key(&self.from)?, key(&self.to)?),
        })
    }
}

impl Span {
    /// The first key, and the one after the last.
    fn ends(&self) -> (Option<&[u8]>, Option<Vec<u8>>) {
        match self {
            Span::Prefix(prefix) => (Some(prefix), after_prefix(prefix)),
            Span::Between(from, to) => (from.as_deref(), to.clone()),
        }
    }

    pub(crate) fn of<'s>(&self, table: &RawTable<'s>) -> Result<RawRange<'s>, Failure> {
        let (from, to) = self.ends();
        Ok(table.range(bounds(from, to.as_deref()))?)
    }

    /// The number of entries.
    pub(crate) fn count_in(&self, table: &RawTable<'_>) -> Result<u64, Failure> {
        let (from, to) = self.ends();
        Ok(table.count(bounds(from, to.as_deref()))?)
    }

    /// Takes the entries out, and gives how many there were.
    pub(crate) fn delete_from(&self, table: &RawTableMut<'_>) -> Result<u64, Failure> {
        let (from, to) = self.ends();
        Ok(table.delete_range(bounds(from, to.as_deref()))?)
    }
}

fn bounds<'b>(from: Option<&'b [u8]>, to: Option<&'b [u8]>) -> (Bound<&'b [u8]>, Bound<&'b [u8]>) {
    (from.map_or(Bound::Unbounded, Bound::Included), to.map_or(Bound::Unbounded, Bound::Excluded))
}

/// The first key after all that begin so; none if there is none.
fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut after = prefix.get(..=last)?.to_vec();
    if let Some(byte) = after.last_mut() {
        *byte += 1;
    }
    Some(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_after_a_prefix() {
        for (prefix, after) in [
            (&b"a"[..], Some(&b"b"[..])),
            (b"a\xFF", Some(b"b")),
            (b"a\xFE\xFF", Some(b"a\xFF")),
            (b"\xFF\xFF", None),
            (b"", None),
        ] {
            assert_eq!(after_prefix(prefix).as_deref(), after, "{prefix:02x?}");
        }
    }
}
