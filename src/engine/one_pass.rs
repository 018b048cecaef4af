//! Reading a whole state once.

use crate::engine::view::{View, Views};
use crate::error::Result;
use crate::tree::pages::Verified;
use std::sync::Arc;

impl Views {
    /// The same state, for a pass over all of it: each page is verified when it is read, even if it was verified
    /// before, and nothing is remembered, so that memory does not grow with the store. It must be dropped before
    /// `view`, which alone keeps the pages from being reused.
    pub(crate) fn for_one_pass(&self, view: &View) -> Result<View> {
        let tree = self.tree_version(Arc::clone(&view.tree.root), None, Arc::new(Verified::forgetting()))?;
        Ok(View {
            tree: Arc::new(tree),
            ring: Arc::clone(&view.ring),
            memtables: view.memtables.clone(),
            lsn: view.lsn,
            last_commit: view.last_commit,
            tables: Default::default(),
            known: view.known.again(),
        })
    }
}
