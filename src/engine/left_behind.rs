//! The file and the sidecar as earlier processes left them.

use crate::disk::platform::SITES;
use crate::disk::root::Root;
use crate::disk::sidecar::{SIDECAR_SIZE, Sidecar, TailHint};
use crate::engine::roots::Roots;
use crate::error::Result;
use crate::log::reader::Point;
use crate::log::ring::Ring;

/// What a sidecar says about the file.
#[derive(Clone, Copy, Default)]
pub(crate) struct LeftBehind {
    pub(crate) durable: u64,
    pub(crate) root: u64,
    /// The newest root of which a slot may be on disk.
    pub(crate) making: u64,
    /// Where the log ended.
    pub(crate) tail: Option<TailHint>,
    pub(crate) poisoned: bool,
}

impl LeftBehind {
    /// Whether the disk may hold another slot than the system shows: a flush of that slot failed, or its writer
    /// died before it could learn that.
    pub(crate) fn distrusts_slots(&self, newest: &Root) -> bool {
        self.poisoned || self.making > newest.sequence
    }
}

impl Roots {
    /// The last hints of processes that did not leave cleanly: up to where the log is durable, and which root is.
    /// Their flush may have failed even if none of them lived to publish it. The system then still shows the data
    /// that it dropped, and has forgotten that it did. A later flush by a process that opened the file afterwards
    /// would succeed and prove nothing, so what is not known to be durable is rewritten first. (Without a
    /// sidecar, or with one that says nothing, all of it is in doubt.)
    pub(crate) fn left_behind(&self) -> Option<LeftBehind> {
        if !self.disk.writable() {
            return None;
        }
        (0..SITES).find_map(|site| {
            let memory = self.disk.sidecar(site, SIDECAR_SIZE, false).ok()?;
            let sidecar = Sidecar::new(memory, &self.store_id, self.disk.identity());
            let left = self.was_left(&sidecar).unwrap_or(true);
            Some(LeftBehind {
                durable: sidecar.durable().unwrap_or(0),
                root: sidecar.root().unwrap_or(0),
                making: sidecar.making().unwrap_or(u64::MAX),
                tail: sidecar.tail().filter(|_| !left),
                poisoned: left || sidecar.poisoned(),
            })
        })
    }

    /// For the first writer that opens: rewrites what the left sidecar does not call durable.
    pub(crate) fn rewrite_left_behind(&self, root: &Root, left: LeftBehind, certain: bool, end: u64) -> Result<()> {
        if root.sequence > left.root && !certain || left.distrusts_slots(root) {
            self.rewrite_slots(root)?;
        }
        if end > left.durable || left.poisoned {
            self.rewrite_frames(&Ring::new(root), Point::start_of(root), left.durable)?;
        }
        Ok(())
    }
}
