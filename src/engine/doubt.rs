//! What was written before this process opened the file, and nobody called durable: it is written once
//! more before a flush of this process is believed.

use crate::disk::format::SLOT_SIZE;
use crate::disk::locks::Deadline;
use crate::disk::platform::SITES;
use crate::disk::root::{Root, Slots, read_slots};
use crate::disk::sidecar::{SIDECAR_SIZE, Sidecar, TailHint};
use crate::engine::Engine;
use crate::engine::append::AppendGuard;
use crate::engine::checkpoint::CheckpointTurn;
use crate::error::Result;
use crate::log::ring::Ring;
use crate::log::walk::{Point, Walker, goes_on_elsewhere};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a sidecar says of the file.
#[derive(Clone, Copy, Default)]
pub(crate) struct Told {
    pub(crate) durable: u64,
    pub(crate) root: u64,
    /// The newest root of which a slot may be on disk.
    pub(crate) making: u64,
    /// Where the log ended.
    pub(crate) tail: Option<TailHint>,
    pub(crate) poisoned: bool,
}

impl Told {
    /// Whether the disk may hold another slot than the system shows: a flush of it failed, or its writer died before it
    /// could hear of that.
    pub(crate) fn doubts_slots(&self, newest: &Root) -> bool {
        self.poisoned || self.making > newest.sequence
    }
}

impl Engine {
    /// What those who went away without leaving tidily told last: how far the log, and which root, is
    /// durable. A flush may have failed that only they heard of, even if they did not live to say so:
    /// the system then still shows what it dropped, and has forgotten that it did. A flush by a process
    /// that opened the file later would succeed and prove nothing, so what is not known durable is
    /// written once more first. (No sidecar, and one that says nothing, leave all of it in doubt.)
    pub(crate) fn left_behind(&self) -> Option<Told> {
        if !self.disk.writable() {
            return None;
        }
        (0..SITES).find_map(|site| {
            let memory = self.disk.sidecar(site, SIDECAR_SIZE, false).ok()?;
            let sidecar = Sidecar::new(memory, &self.store_id, self.disk.identity());
            let left = self.was_left(&sidecar).unwrap_or(true);
            Some(Told {
                durable: sidecar.durable().unwrap_or(0),
                root: sidecar.root().unwrap_or(0),
                making: sidecar.making().unwrap_or(u64::MAX),
                tail: sidecar.tail().filter(|_| !left),
                poisoned: left || sidecar.poisoned(),
            })
        })
    }

    /// For the first to open: writes once more what those who left did not call durable.
    pub(crate) fn write_what_was_left(&self, root: &Root, told: Told, certain: bool, end: u64) -> Result<()> {
        if root.sequence > told.root && !certain || told.doubts_slots(root) {
            self.write_slots_once_more(root)?;
        }
        if end > told.durable || told.poisoned {
            self.write_frames_once_more(&Ring::new(root), Point::start_of(root), told.durable)?;
        }
        Ok(())
    }

    /// Writes a root's slot once more, so that the next flush covers it. The caller holds CHECKPOINT or
    /// APPEND, or is alone: so the root after the next, which takes this slot, cannot be written meanwhile.
    /// (What the file shows at this moment may be the root before it again, after a flush that failed.)
    pub(crate) fn write_slot_once_more(&self, root: &Root) -> Result<()> {
        let mut prefix = [0; 2 * SLOT_SIZE];
        self.disk.read_at(&mut prefix, 0).map_err(self.io("read the root slots"))?;
        let found = read_slots(&prefix, self.path()).is_ok_and(|Slots { newest, older }| {
            newest.sequence == root.sequence || older.is_some_and(|older| older.sequence == root.sequence)
        });
        let offset = Root::slot_offset(root.sequence);
        // The bytes that were looked at, not those of another look: they may be the older ones by then.
        let at = usize::try_from(offset).unwrap_or(0);
        let as_found = prefix.get(at..at + SLOT_SIZE).filter(|_| found);
        let anyway = root.encode();
        self.disk.write_at(as_found.unwrap_or(&anyway), offset).map_err(self.io("write a root slot"))
    }

    /// The same with the other slot, too. A root whose flush failed may be gone from the system's cache and be on
    /// disk all the same: after a power loss it would be the newest, and its pages have been used again by then.
    pub(crate) fn write_slots_once_more(&self, newest: &Root) -> Result<()> {
        self.write_back_slot(newest.sequence + 1)?;
        self.write_slot_once_more(newest)
    }

    /// Writes the slot of a sequence as it is found.
    fn write_back_slot(&self, sequence: u64) -> Result<()> {
        let (offset, mut slot) = (Root::slot_offset(sequence), [0; SLOT_SIZE]);
        self.disk.read_at(&mut slot, offset).map_err(self.io("read the root slots"))?;
        self.disk.write_at(&slot, offset).map_err(self.io("write a root slot"))
    }

    /// Takes APPEND to seal a batch that this process is to flush. The first time, what others wrote and
    /// nobody called durable is written once more: none of them need have heard of a flush that failed
    /// before this process opened the file, if the one who did was killed before telling. From then on this
    /// process hears for itself.
    pub(crate) fn lock_append_to_seal(&self, deadline: Deadline) -> Result<AppendGuard<'_>> {
        if self.proven.load(Ordering::Acquire) {
            return self.lock_append(deadline);
        }
        let known = self.last_durable_point()?;
        let append = self.lock_append(deadline)?;
        let durable = self.durable_lsn();
        if append.state.tail.lsn > durable {
            let (root, ring) = (&append.state.root, &append.state.ring);
            let from = if known.lsn > root.checkpoint_lsn { known } else { Point::start_of(root) };
            self.write_frames_once_more(ring, from, durable)?;
        }
        self.proven.store(true, Ordering::Release);
        Ok(append)
    }

    /// A place in the chain up to which everything is durable. Most of the log is: it is passed over before
    /// others are kept from appending.
    fn last_durable_point(&self) -> Result<Point> {
        let durable = self.durable_lsn();
        let root = Arc::clone(&self.appender().root);
        let ring = Ring::new(&root);
        let mut walker = Walker::new(&*self.disk, &ring, self.store_tag, Point::start_of(&root));
        let mut known = walker.point();
        while known.lsn < durable && walker.next()?.is_some() {
            if walker.point().lsn > durable {
                break;
            }
            known = walker.point();
        }
        Ok(known)
    }
}

impl CheckpointTurn<'_> {
    /// Makes sure that the newest root slot is durable: its writer may have died before its flush,
    /// or that flush may have failed. Written again it is, once a flush succeeds.
    pub(crate) fn settle_root(&self) -> Result<()> {
        let engine = self.engine;
        let (sidecar, _) = engine.current_sidecar();
        engine.learn(&sidecar);
        let slots = engine.slots()?;
        let (twins, newest) = (slots.are_twins(), &slots.newest);
        // Once in each process, as with the log: see `lock_append_to_seal`.
        let proven = engine.proven_roots.load(Ordering::Acquire);
        // The slot of a newer root was written, and its maker has died before it could tell whether its flush failed: the
        // disk may hold that root, with pages that are free by this one.
        let unheard = sidecar.making().is_none_or(|making| making > newest.sequence);
        if newest.sequence > engine.known_root() || !proven || unheard {
            engine.write_slots_once_more(newest)?;
            self.flush()?;
            engine.raise_root(newest.sequence);
            engine.proven_roots.store(true, Ordering::Release);
            sidecar.settle_making(newest.sequence);
        } else if twins {
            engine.write_slot_once_more(newest)?;
        }
        // A twin needs no flush of its own: the next root, which takes its elder's slot, is written after one.
        sidecar.rise_root(newest.sequence);
        Ok(())
    }
}

impl AppendGuard<'_> {
    /// A root may have been written and never told of, and it may lay the ring out otherwise, hold a
    /// transaction of its own, or let the log go on beyond the older root's ring. What is appended must fit it. Its writer held APPEND until it could tell, so
    /// it is gone, or told of it through a sidecar that is gone: the root is made durable, and told. So is any root
    /// where the sidecar tells of none: one that was told elsewhere may be built upon, and the pages of the one before
    /// be used again. Gives whether the log goes on from it.
    pub(crate) fn settle_doubtful(&mut self, newest: Root, told: bool) -> Result<bool> {
        let engine = self.engine;
        let known = &self.state.root;
        if newest.sequence <= known.sequence {
            return Ok(false);
        }
        let elsewhere = goes_on_elsewhere(&*engine.disk, known, &newest, self.state.tail);
        if told && !elsewhere.map_err(engine.io("read the log"))? {
            return Ok(false);
        }
        self.in_doubt = engine.is_poisoned(&self.sidecar);
        if self.in_doubt {
            // Nothing can be confirmed; the process that mends the failed flush sees to the root.
            return Ok(false);
        }
        engine.write_slot_once_more(&newest)?;
        engine.flush_found()?;
        let sequence = newest.sequence;
        self.state.adopt(Arc::new(newest));
        self.tell_of_root();
        engine.raise_root(sequence);
        Ok(true)
    }
}
