//! What the user may set when opening a store, and within which bounds.

use crate::engine::archive::Archive;
use std::sync::Arc;
use std::time::Duration;

/// What the user may set when opening.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// How long to wait for any lock.
    pub(crate) timeout: Duration,
    /// How long a commit that is in the log already waits for a lock without which its fate cannot be decided.
    pub(crate) patience: Duration,
    /// The log never grows beyond this.
    pub(crate) log_cap: u64,
    /// Whether page reads go through a map of the file.
    pub(crate) memory_map: bool,
    /// Whether helper threads may be started; without them their work is done in line.
    pub(crate) threads: bool,
    /// Which application the store must be of; 0: any.
    pub(crate) application: u32,
    /// Archives the transactions of a store that has an archive.
    pub(crate) archive: Option<Arc<dyn Archive>>,
}

/// Default for [`Settings::patience`].
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Default for [`Settings::log_cap`].
pub(crate) const DEFAULT_LOG_CAP: u64 = 32 << 20;
/// Largest [`Settings::log_cap`] that may be asked for: a quarter of it is the largest frame.
pub(crate) const MAX_LOG_CAP: u64 = 4 << 30;
/// Smallest [`Settings::log_cap`] that may be asked for.
pub(crate) const MIN_LOG: u64 = 64 << 10;
/// Pages of the log of a new, or an idle, store: each batch takes one at least.
pub(crate) const MIN_LOG_PAGES: u32 = 16;
