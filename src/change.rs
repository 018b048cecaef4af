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

impl<V> Change<V> {
    /// The same change, with its value in another form.
    pub(crate) fn map<'c, W>(&'c self, value: impl FnOnce(&'c V) -> W) -> Change<W> {
        match self {
            Change::Put(put) => Change::Put(value(put)),
            Change::PutOverflow(overflow) => Change::PutOverflow(overflow.clone()),
            Change::Delete => Change::Delete,
        }
    }

    /// Whether the key is there after it.
    pub(crate) fn is_put(&self) -> bool {
        !matches!(self, Change::Delete)
    }
}

impl<V: AsRef<[u8]>> Change<V> {
    pub(crate) fn as_slice(&self) -> Change<&[u8]> {
        self.map(AsRef::as_ref)
    }
}
