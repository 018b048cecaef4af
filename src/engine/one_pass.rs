//! Reading a whole state once.

use crate::engine::Engine;
use crate::engine::view::{TreeVersion, View};
use crate::error::Result;
use crate::tree::pages::{Pages, Verified};
use std::sync::Arc;

impl Engine {
    /// The same state, for a pass over all of it: each page is verified when it is read, even if it was verified
    /// before, and nothing is remembered, so that memory does not grow with the store. It must be dropped before
    /// `view`, which alone keeps the pages from being reused.
    pub(crate) fn for_one_pass(&self, view: &View) -> Result<View> {
        let root = Arc::clone(&view.tree.root);
        let map = if self.settings.memory_map { self.mapping(root.page_count)? } else { None };
        let pages = Pages::new(
            Arc::clone(&self.disk),
            map,
            Arc::new(Verified::forgetting()),
            self.page_size,
            self.store_tag,
            root.page_count,
        );
        let tree = TreeVersion { root, pages: Arc::new(pages), _pin: None };
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
