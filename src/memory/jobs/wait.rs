//! Waiting for jobs.

use crate::Store;
use crate::memory::error::Result;
use std::time::Duration;

/// No wait is longer: the clock that says when a job is due may be set meanwhile.
pub(super) const LONGEST: Duration = Duration::from_secs(60);

/// Waits until any process has committed something after the state that the caller has seen, but no longer than
/// `most`.
pub(super) fn for_commit(store: &Store, seen: u64, most: Duration) -> Result<()> {
    store.wait_for_change(seen, most.min(LONGEST))?;
    Ok(())
}
