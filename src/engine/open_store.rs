//! A store that is open, as long as anything of it is in use.

use crate::engine::Engine;
use crate::error::Result;
use std::sync::Arc;

/// What keeps a store open: shared by the handles of the store, its snapshots and its write transactions.
/// The drop of the last one leaves it.
pub(crate) struct OpenStore {
    engine: Arc<Engine>,
}

impl OpenStore {
    pub(crate) fn new(engine: Arc<Engine>) -> Arc<OpenStore> {
        Arc::new(OpenStore { engine })
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Gives one share back. The last one leaves the store here, where an error can be told.
    pub(crate) fn close(self: Arc<Self>) -> Result<()> {
        // Of shares that are given back at the same time exactly one is the last.
        Arc::into_inner(self).map_or(Ok(()), |last| last.engine.leave())
    }
}

impl Drop for OpenStore {
    fn drop(&mut self) {
        if let Err(error) = self.engine.leave() {
            // Nothing is lost: what was acknowledged is durable, and the log is folded by the next one.
            tracing::warn!(%error, "closing the store");
        }
    }
}
