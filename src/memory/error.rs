//! The error type of the memory layer.

use crate::Error;
use crate::memory::id::ItemId;
use crate::memory::namespace::Namespace;
use std::time::Duration;

/// The result of an operation of the memory layer.
pub type Result<T, E = MemoryError> = std::result::Result<T, E>;

/// What a quota counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Resource {
    /// Items.
    Items,
    /// Bytes of items: content, metadata, tags and vectors, as they are stored.
    Bytes,
    /// Jobs that have not ended, and dead letters.
    Jobs,
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Resource::Items => "items",
            Resource::Bytes => "bytes",
            Resource::Jobs => "jobs that have not ended",
        })
    }
}

/// Everything that can go wrong in the memory layer. An operation that returns an error has changed nothing.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// use memstone::memory::{Limits, Memory, MemoryError};
/// let memory = Memory::open(dir.path().join("memory.mst"))?;
/// memory.set_limits("ada", Limits::new().items(1))?;
/// memory.add("ada", "likes tea")?;
/// let refused = memory.add("ada", "likes walks").unwrap_err();
/// assert!(matches!(refused, MemoryError::Quota { limit: 1, used: 1, .. }));
/// # Ok::<(), MemoryError>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] Error),
    /// There is no such item, or it has expired.
    #[error("there is no item {id}")]
    NotFound {
        /// The id asked for.
        id: ItemId,
    },
    /// There is an item with this id already.
    #[error("there is an item {id} already")]
    Exists {
        /// The id.
        id: ItemId,
    },
    /// The item was changed, or removed, since it was read: read it again, and repeat the edit.
    #[error("item {id} was changed meanwhile: expected version {expected}, found {}",
        found.map_or_else(|| "no item".to_owned(), |version| version.to_string()))]
    Conflict {
        /// The item.
        id: ItemId,
        /// The version that the caller read.
        expected: u64,
        /// The version that the store has; `None`: the item is gone.
        found: Option<u64>,
    },
    /// An argument cannot be used.
    #[error("invalid {what}: {reason}")]
    Invalid {
        /// Which argument.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// No vector space has this name: declare it with [`Memory::declare_space`](super::Memory::declare_space).
    #[error("there is no vector space {name:?}; declare it first")]
    NoSpace {
        /// The name.
        name: String,
    },
    /// The metadata field has no index: declare it with [`Memory::declare_field`](super::Memory::declare_field).
    #[error("the metadata field {name:?} has no index; declare it first")]
    NoField {
        /// The name.
        name: String,
    },
    /// The space exists with another dimension, format or metric.
    #[error("the vector space {name:?} is {found}, not {asked}")]
    SpaceDiffers {
        /// Its name.
        name: String,
        /// What the store has.
        found: String,
        /// What was asked for.
        asked: String,
    },
    /// A quota would be exceeded. Room comes when items of the namespace are removed, or swept after they expired; for
    /// jobs, when one of them has ended, or a dead letter is removed.
    #[error("namespace {namespace:?} may hold {limit} {resource}: it holds {used}, and {asked} more were to be added{}",
        if *resource == Resource::Jobs { "; again when one of them has ended" } else { "" })]
    Quota {
        /// The namespace that has the quota: the item's own, or one above it.
        namespace: Namespace,
        /// What is limited.
        resource: Resource,
        /// The limit.
        limit: u64,
        /// How much the namespace holds, with all namespaces below it.
        used: u64,
        /// How much the operation would have added.
        asked: u64,
    },
    /// The rate limit was reached. The same call can succeed after `retry_after`.
    #[error("namespace {namespace:?} allows {limit} operations within {:.3} s; {}", per.as_secs_f64(), again(*retry_after))]
    Rate {
        /// The namespace that has the limit: the item's own, or one above it.
        namespace: Namespace,
        /// How many operations it allows.
        limit: u64,
        /// In which time.
        per: Duration,
        /// When there is room for this operation; [`Duration::MAX`]: never.
        retry_after: Duration,
    },
    /// As many operations run at once as the namespace allows. The same call can succeed after `retry_after`, or sooner:
    /// whenever one of them ends.
    #[error("namespace {namespace:?} allows {limit} operations at once, and {running} are running; {}",
        at_latest(*retry_after))]
    AtOnce {
        /// The namespace that has the limit: the one asked for, or one above it.
        namespace: Namespace,
        /// How many operations it allows.
        limit: u64,
        /// How many have entered and not left, in all processes.
        running: u64,
        /// When so many leases have ended that there is room, if none is renewed; [`Duration::MAX`]: never.
        retry_after: Duration,
    },
    /// A row of the layer's tables is not what the layer writes: another program has written to them.
    /// [`Memory::check`](super::Memory::check) lists all that disagrees.
    #[error("table {table:?}, key {key}: {reason}")]
    Damaged {
        /// The table.
        table: &'static str,
        /// The key, with bytes beyond ASCII escaped.
        key: String,
        /// What was expected, and found.
        reason: String,
    },
    /// A newer program has written the layer's tables. Nothing was changed.
    #[error("the memory tables have layout {found}; this program supports {supported}")]
    Layout {
        /// The layout that the store has.
        found: u32,
        /// The layout that this program reads and writes.
        supported: u32,
    },
    /// A limit of the layer that is not configurable: the number of spaces, fields, namespaces or items of one
    /// namespace.
    #[error("no more than {limit} {what}")]
    Exhausted {
        /// What there are too many of.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
}

/// When a rate has room again.
fn again(wait: Duration) -> String {
    if wait == Duration::MAX { "so many never".to_owned() } else { format!("again in {:.3} s", wait.as_secs_f64()) }
}

/// When there is room again, if nothing ends before.
fn at_latest(wait: Duration) -> String {
    if wait == Duration::MAX {
        "again never".to_owned()
    } else {
        format!("again in {:.3} s, if none of them ends before or is renewed", wait.as_secs_f64())
    }
}

impl MemoryError {
    pub(super) fn invalid(what: &'static str, reason: impl Into<String>) -> MemoryError {
        MemoryError::Invalid { what, reason: reason.into() }
    }

    /// Whether the same call may succeed later without any other change: as [`Error::is_retryable`], and for limits of
    /// rates, of operations at once, and of jobs. After a [`MemoryError::Conflict`] the item has to be read again.
    ///
    /// ```
    /// # use memstone::memory::{ItemId, MemoryError};
    /// let id = "01890a5d-ac96-774b-bcce-b302099a8057".parse::<ItemId>()?;
    /// assert!(!MemoryError::NotFound { id }.is_retryable());
    /// # Ok::<(), MemoryError>(())
    /// ```
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            MemoryError::Store(error) => error.is_retryable(),
            MemoryError::Rate { retry_after, .. } | MemoryError::AtOnce { retry_after, .. } => {
                *retry_after < Duration::MAX
            }
            MemoryError::Quota { resource: Resource::Jobs, limit, .. } => *limit > 0,
            _ => false,
        }
    }
}

/// For arguments whose conversion cannot fail.
impl From<std::convert::Infallible> for MemoryError {
    fn from(never: std::convert::Infallible) -> MemoryError {
        match never {}
    }
}
