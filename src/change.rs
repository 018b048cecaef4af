//! What becomes of a key.

use crate::bytes::Bytes;
use crate::disk::format::Overflow;

/// What a transaction, the log, or a checkpoint does to a key.
#[derive(Debug, Clone)]
pub(crate) enum Change<V> {
    /// Sets the value.
    Put(V),
    /// Sets a long value whose pages are written already.
    PutOverflow(Box<Overflow>),
    /// Removes the key if it is there.
    Delete,
}

/// A change that outlives what it was read from.
pub(crate) type OwnedChange = Change<Bytes<'static>>;

impl<V: AsRef<[u8]>> Change<V> {
    pub(crate) fn as_slice(&self) -> Change<&[u8]> {
        match self {
            Change::Put(value) => Change::Put(value.as_ref()),
            Change::PutOverflow(overflow) => Change::PutOverflow(overflow.clone()),
            Change::Delete => Change::Delete,
        }
    }
}
