//! The stores that this process has open, so that opening one again shares it.
//!
//! Openings of one file happen one at a time; openings of different files never wait for each other. A child
//! ignores what another thread was opening at the moment of the fork: it has a registry of its own.

use crate::disk::fork::watched_fork_generation;
use crate::disk::host::this_process;
use crate::disk::locks::{FairGuard, FairLock, Waited, lock};
use crate::disk::platform::FileId;
use crate::engine::open_store::OpenStore;
use crate::error::{Error, LockKind, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

/// What openings are serialized by.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// A file, for reading only or not.
    File(FileId, bool),
    /// A path without a store yet.
    Path(PathBuf),
}

#[derive(Default)]
struct Place {
    turn: Arc<FairLock>,
    store: Mutex<Weak<OpenStore>>,
}

type Registry = Mutex<BTreeMap<(u32, Subject), Arc<Place>>>;

/// One registry for each generation of forks, in rotation: a mutex that a thread held during a fork stays locked
/// in the child for ever, and only a child of the eighth generation would use it again.
static REGISTRIES: [Registry; 8] = [const { Mutex::new(BTreeMap::new()) }; 8];

/// The right to open a subject, for which other threads wait.
pub(super) struct Turn {
    place: Arc<Place>,
    _turn: FairGuard,
}

impl Turn {
    pub(super) fn take(subject: Subject, path: &Path, timeout: Duration) -> Result<Turn> {
        let started = Instant::now();
        let generation = watched_fork_generation().map_err(|e| Error::io("watch for forks", path, e))?;
        let place = {
            let [first, ..] = &REGISTRIES;
            let mut places = lock(REGISTRIES.get(generation as usize % REGISTRIES.len()).unwrap_or(first));
            // Remove places that no thread is opening, of stores that are closed or belong to a parent.
            places.retain(|(made, _), place| {
                *made == generation && (Arc::strong_count(place) > 1 || lock(&place.store).strong_count() > 0)
            });
            Arc::clone(places.entry((generation, subject)).or_default())
        };
        match place.turn.take(started.checked_add(timeout)) {
            Waited::Held(turn) => Ok(Turn { place, _turn: turn }),
            Waited::TooLate | Waited::Nested => {
                let waited = started.elapsed();
                let holder = Some(Box::new(this_process()));
                Err(Error::Busy { path: path.to_path_buf(), lock: LockKind::Open, waited, holder })
            }
        }
    }

    /// The store, if it is open.
    pub(super) fn store(&self) -> Option<Arc<OpenStore>> {
        lock(&self.place.store).upgrade()
    }

    pub(super) fn opened(&self, store: &Arc<OpenStore>) {
        *lock(&self.place.store) = Arc::downgrade(store);
    }
}

#[cfg(test)]
mod tests {
    use crate::disk::fork::tests::{in_child, wait_for};
    use crate::disk::locks::OPEN;
    use crate::disk::platform::{Disk, LockMode};
    use crate::disk::unix::{OpenMode, UnixDisk};
    use crate::{Error, LockKind, Options, Store};
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    /// Two stores, the first of which cannot be opened as long as the disk holds its OPEN lock.
    fn slow_and_quick() -> (tempfile::TempDir, PathBuf, PathBuf, UnixDisk) {
        let dir = tempfile::tempdir().unwrap();
        let (slow, quick) = (dir.path().join("slow.mst"), dir.path().join("quick.mst"));
        [&slow, &quick].into_iter().for_each(|path| Store::open(path).unwrap().close().unwrap());
        let disk = UnixDisk::open(&slow, OpenMode::default()).unwrap();
        assert!(disk.try_lock(OPEN, LockMode::Exclusive).unwrap());
        (dir, slow, quick, disk)
    }

    /// The quick one is opened and written (waiting for the slow one would be refused after the default timeout), the
    /// slow one refused after its own timeout.
    fn quick_goes_on_and_slow_is_busy(slow: &Path, quick: &Path) {
        Store::open(quick).unwrap().write(|tx| tx.raw("t")?.put(b"k", b"v")).unwrap();
        let refused = Options::new().timeout(Duration::from_millis(100)).open(slow);
        assert!(matches!(refused, Err(Error::Busy { lock: LockKind::Open, .. })));
    }

    #[test]
    fn a_slow_opening_holds_up_nobody_but_those_of_the_same_file() {
        let (_dir, slow, quick, disk) = slow_and_quick();
        std::thread::scope(|scope| {
            let opening = scope.spawn(|| Store::open(&slow).unwrap());
            std::thread::sleep(Duration::from_millis(100));
            Store::open(quick.with_extension("new")).unwrap();
            quick_goes_on_and_slow_is_busy(&slow, &quick);
            assert!(!opening.is_finished());
            disk.unlock(OPEN).unwrap();
            let shared = Store::open(&slow).unwrap();
            assert!(std::sync::Arc::ptr_eq(shared.engine(), opening.join().unwrap().engine()));
        });
    }

    #[test]
    fn a_child_forked_during_an_opening_opens_as_it_likes() {
        let (_dir, slow, quick, disk) = slow_and_quick();
        std::thread::scope(|scope| {
            let opening = scope.spawn(|| Store::open(&slow).unwrap());
            std::thread::sleep(Duration::from_millis(100));
            let child = in_child(|| {
                quick_goes_on_and_slow_is_busy(&slow, &quick);
                0
            });
            assert_eq!(wait_for(child), 0);
            assert!(!opening.is_finished());
            disk.unlock(OPEN).unwrap();
            opening.join().unwrap();
        });
    }
}
