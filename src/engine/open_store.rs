//! An open store, for as long as a handle, snapshot or transaction uses it.

use crate::engine::Engine;
use crate::error::Result;
use std::sync::Arc;

/// What keeps a store open: shared by its handles, snapshots and write transactions. Dropping the last of them
/// leaves the store.
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

    /// Gives up one share. The last one leaves the store here, where an error can be returned.
    pub(crate) fn close(self: Arc<Self>) -> Result<()> {
        // Of shares given up at the same time, exactly one is the last.
        Arc::into_inner(self).map_or(Ok(()), |last| last.engine.leave())
    }
}

impl Drop for OpenStore {
    fn drop(&mut self) {
        if let Err(error) = self.engine.leave() {
            // Nothing is lost: what was acknowledged is durable, and the next process checkpoints the log.
            crate::trace::warn!(%error, "closing the store");
        }
    }
}
