//! The tree versions that snapshots of any process need, one lock byte for each.

use crate::disk::fork::fork_generation;
use crate::disk::locks::{PIN, lock};
use crate::disk::platform::{Disk, LockMode};
use crate::disk::sidecar::Sidecar;
use crate::disk::slot::unix_ms;
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock};

/// The tree versions that this process holds snapshots of, each with one kernel lock.
pub(crate) struct Pins {
    disk: Arc<dyn Disk>,
    held: Mutex<Held>,
    generation: u32,
    on_release: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

#[derive(Default)]
struct Held {
    versions: BTreeMap<u64, Uses>,
    /// The sidecar and the slot that show the oldest one to other processes.
    published: Option<(Sidecar, usize)>,
}

/// The uses of a pinned version: how many, and since when there is one, in milliseconds since 1970.
struct Uses {
    count: usize,
    since_ms: u64,
}

impl Held {
    /// Since when the oldest version is pinned; 0 without one.
    fn oldest(&self) -> u64 {
        self.versions.first_key_value().map_or(0, |(_, uses)| uses.since_ms)
    }

    /// For users who want to know why the file grows.
    fn publish(&self) {
        if let Some((sidecar, slot)) = &self.published {
            sidecar.slot(*slot).set_pinned(self.oldest());
        }
    }
}

/// One use of a pinned version.
pub(crate) struct Pin {
    pins: Arc<Pins>,
    version: u64,
}

impl Pins {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Arc<Pins> {
        Arc::new(Pins { disk, held: Mutex::default(), generation: fork_generation(), on_release: OnceLock::new() })
    }

    /// Has this called whenever the last use of a version ends. Only the first call of this function counts.
    pub(crate) fn on_release(&self, call: impl Fn() + Send + Sync + 'static) {
        let _ = self.on_release.set(Box::new(call));
    }

    /// From now on shows in this slot of this sidecar since when the oldest version is pinned.
    pub(crate) fn tell_in(&self, sidecar: &Sidecar, slot: usize) {
        let mut held = lock(&self.held);
        held.published = Some((sidecar.clone(), slot));
        held.publish();
    }

    /// Pins a version. Afterwards the caller checks whether it could still be pinned in time, and drops the pin
    /// if not.
    pub(crate) fn pin(self: &Arc<Self>, version: u64) -> Result<Pin> {
        let mut held = lock(&self.held);
        if !held.versions.contains_key(&version) {
            // A pin is only ever shared, so only a failing system refuses it.
            let taken = self.disk.try_lock(PIN + version, LockMode::Shared);
            match taken.map_err(|e| Error::io("pin", self.disk.path(), e)) {
                Ok(true) => {
                    let before = held.oldest();
                    held.versions.insert(version, Uses { count: 0, since_ms: unix_ms() });
                    if held.oldest() != before {
                        held.publish();
                    }
                }
                Ok(false) => {
                    let source = std::io::Error::new(std::io::ErrorKind::WouldBlock, "a snapshot's lock was refused");
                    return Err(Error::io("pin", self.disk.path(), source));
                }
                Err(e) => return Err(e),
            }
        }
        if let Some(uses) = held.versions.get_mut(&version) {
            uses.count += 1;
        }
        Ok(Pin { pins: Arc::clone(self), version })
    }

    /// All versions below `end` that any process has pinned, as ascending ranges with gaps between them.
    ///
    /// The kernel joins adjacent locks of one owner, and a foreign lock may cover anything: each range stays one
    /// range, however many versions it covers.
    pub(crate) fn all(&self, end: u64) -> Result<Vec<Range<u64>>> {
        let own: Vec<_> = lock(&self.held).versions.keys().filter(|v| **v < end).map(|v| *v..*v + 1).collect();
        let mut found = own;
        let mut ranges = vec![(PIN, end)];
        while let Some((first, len)) = ranges.pop() {
            if len == 0 {
                continue;
            }
            let probe = self.disk.probe(first, len).map_err(|e| Error::io("look for pins", self.disk.path(), e))?;
            let Some((at, count)) = probe else { continue };
            let at = at.clamp(first, first + len - 1);
            let stop = at.saturating_add(count.max(1)).min(first + len);
            found.push(at - PIN..stop - PIN);
            ranges.push((first, at - first));
            ranges.push((stop, first + len - stop));
        }
        Ok(joined(found))
    }
}

/// The same numbers as ascending ranges with gaps between them.
pub(crate) fn joined(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.dedup_by(|next, before| {
        let joins = next.start <= before.end;
        if joins {
            before.end = before.end.max(next.end);
        }
        joins
    });
    ranges
}

impl Drop for Pin {
    fn drop(&mut self) {
        // In a forked child the kernel's lock belongs to the parent, and the mutex may be held for ever.
        if self.pins.generation != fork_generation() {
            return;
        }
        let mut held = lock(&self.pins.held);
        let before = held.oldest();
        if let Some(uses) = held.versions.get_mut(&self.version) {
            uses.count -= 1;
            if uses.count == 0 {
                held.versions.remove(&self.version);
                if held.oldest() != before {
                    held.publish();
                }
                let _ = self.pins.disk.unlock(PIN + self.version);
                drop(held);
                if let Some(call) = self.pins.on_release.get() {
                    call();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::{Free, Image, World};
    use crate::disk::unix::{OpenMode, UnixDisk};

    type Both = (Arc<Pins>, Arc<Pins>);

    fn simulated() -> Both {
        let world = World::new(Image::default(), Arc::new(Free));
        (Pins::new(world.disk(0)), Pins::new(world.disk(1)))
    }

    fn real() -> (tempfile::NamedTempFile, Both) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || Pins::new(Arc::new(UnixDisk::open(file.path(), OpenMode::default()).unwrap()));
        let both = (open(), open());
        (file, both)
    }

    #[test]
    fn a_version_is_pinned_until_its_last_user_is_gone() {
        let (pins, others) = simulated();
        let both = || (pins.all(9).unwrap(), others.all(9).unwrap());
        let (first, second, newer) = (pins.pin(5).unwrap(), pins.pin(5).unwrap(), pins.pin(7).unwrap());
        drop(first);
        assert_eq!(both(), (vec![5..6, 7..8], vec![5..6, 7..8]));
        drop(newer);
        assert_eq!(both(), (vec![5..6; 1], vec![5..6; 1]));
        drop(second);
        assert_eq!(both(), (vec![], vec![]));
    }

    #[test]
    fn the_age_of_the_oldest_pin_is_known() {
        use crate::disk::platform::FileId;
        use crate::disk::private_memory::PrivateMemory;
        let (pins, _) = simulated();
        let sidecar = Sidecar::new(Arc::new(PrivateMemory::new()), &[7; 16], FileId { device: 1, inode: 2 });
        let published = || sidecar.slot(3).pinned();
        let first = pins.pin(5).unwrap();
        assert_eq!(published(), None);
        pins.tell_in(&sidecar, 3);
        let since = published().unwrap();
        while unix_ms() == pins.held.lock().unwrap().oldest() {
            std::thread::yield_now();
        }
        let (again, newer) = (pins.pin(5).unwrap(), pins.pin(7).unwrap());
        drop(first);
        assert_eq!(published(), Some(since), "that of the oldest one, whatever came later");
        drop(again);
        assert!(published().unwrap() > since, "now the newer one is the oldest");
        drop(newer);
        assert_eq!(published(), None);
    }

    #[test]
    fn any_number_of_pins_is_found_by_their_owner_and_by_others() {
        let (_file, kernel) = real();
        for (pins, others) in [simulated(), kernel] {
            let mut held: Vec<_> = (3..9003).map(|version| pins.pin(version).unwrap()).collect();
            let foreign = others.pin(9005).unwrap();
            let found = || (pins.all(10_000).unwrap(), others.all(10_000).unwrap());
            assert_eq!(found(), (vec![3..9003, 9005..9006], vec![3..9003, 9005..9006]));
            assert_eq!(others.all(4000).unwrap(), [3..4000; 1], "cut to the question");
            held.drain(4000..4001).for_each(drop);
            held.drain(..10).for_each(drop);
            drop(foreign);
            assert_eq!(found(), (vec![13..4003, 4004..9003], vec![13..4003, 4004..9003]));
        }
    }

    #[test]
    fn a_foreign_lock_of_any_length_is_one_range() {
        let (file, (pins, others)) = real();
        let _own = others.pin(7).unwrap();
        let foreign = std::fs::File::open(file.path()).unwrap();
        crate::disk::file_lock::share_range(&foreign, 1 << 61, 0).unwrap();
        assert_eq!(pins.all(1 << 60).unwrap(), [0..1 << 60; 1]);
    }
}
