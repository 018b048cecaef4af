//! The data file as this process has it open: the base of every other layer of the engine.

use crate::disk::fork::fork_generation;
use crate::disk::format::{MAX_KEY_SIZE, MAX_NAME_SIZE};
use crate::disk::locks::{Deadline, PLACES, WRITERS, lock};
use crate::disk::pins::Pins;
use crate::disk::platform::{Disk, Mapping};
use crate::disk::root::Root;
use crate::engine::settings::{MIN_LOG_PAGES, Settings};
use crate::error::{Error, LimitKind, LockKind, Result};
use crate::tree::pages::Verified;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The smallest map, in bytes of address space: a growing store is not mapped again at every step.
const MIN_MAP: u64 = 1 << 30;
/// Pauses of 1, 2, 4 ms, and so on: two seconds in all.
const MOMENT_PAUSES: u32 = 11;
/// The sum of these pauses.
pub(crate) const MOMENT: Duration = Duration::from_millis((1 << MOMENT_PAUSES) - 1);

/// The data file, the store's identity, and what is known of its pages.
pub(crate) struct OpenFile {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) settings: Settings,
    pub(crate) page_size: u32,
    pub(crate) store_id: [u8; 16],
    pub(crate) store_tag: u32,
    pub(crate) pins: Arc<Pins>,
    pub(crate) verified: Arc<Verified>,
    map: Mutex<Option<Arc<dyn Mapping>>>,
    fork_generation: u32,
}

impl OpenFile {
    pub(crate) fn new(disk: &Arc<dyn Disk>, settings: Settings, root: &Root) -> OpenFile {
        OpenFile {
            disk: Arc::clone(disk),
            settings: Settings { log_cap: settings.log_cap.max(u64::from(MIN_LOG_PAGES * root.page_size)), ..settings },
            page_size: root.page_size,
            store_id: root.store_id,
            store_tag: root.store_tag(),
            pins: Pins::new(Arc::clone(disk)),
            verified: Arc::new(Verified::new()),
            map: Mutex::new(None),
            fork_generation: fork_generation(),
        }
    }

    /// Size of the log of an idle store.
    pub(crate) fn min_log(&self) -> u64 {
        u64::from(MIN_LOG_PAGES * self.page_size)
    }

    pub(crate) fn path(&self) -> &Path {
        self.disk.path()
    }

    pub(crate) fn deadline(&self) -> Deadline {
        Instant::now().checked_add(self.settings.timeout)
    }

    /// The deadline for a lock that decides the fate of a commit that is in the log already.
    pub(crate) fn patient_deadline(&self) -> Deadline {
        Instant::now().checked_add(self.settings.patience.max(self.settings.timeout))
    }

    pub(super) fn io(&self, op: &'static str) -> impl FnOnce(std::io::Error) -> Error + '_ {
        move |source| Error::io(op, self.path(), source)
    }

    /// Refuses to work in a forked child, whose locks would be its parent's.
    #[inline]
    pub(crate) fn check_process(&self) -> Result<()> {
        if fork_generation() == self.fork_generation {
            return Ok(());
        }
        Err(self.forked())
    }

    #[cold]
    fn forked(&self) -> Error {
        Error::Forked { path: self.path().to_path_buf() }
    }

    /// Refuses to write to a file that its name no longer leads to: a commit to it would be lost to every process
    /// that opens the store by that name.
    pub(crate) fn check_name(&self) -> Result<()> {
        let Some(found) = self.disk.lost_name() else { return Ok(()) };
        Err(Error::Moved { path: self.path().to_path_buf(), found: found.to_owned() })
    }

    pub(crate) fn check_writable(&self) -> Result<()> {
        self.check_process()?;
        if self.disk.writable() {
            return Ok(());
        }
        Err(Error::ReadOnly { path: self.path().to_path_buf() })
    }

    /// Whether another process may write, from whatever place.
    pub(crate) fn has_writers(&self) -> Result<bool> {
        Ok(self.disk.probe(WRITERS, PLACES).map_err(self.io("look for others"))?.is_some())
    }

    /// Retries for as long as the loss of a sidecar may go unnoticed.
    pub(crate) fn for_a_moment<T>(&self, attempt: impl Fn() -> Result<Option<T>>) -> Result<Option<T>> {
        for pause in (0..MOMENT_PAUSES).map(|n| Duration::from_millis(1 << n)) {
            if let Some(done) = attempt()? {
                return Ok(Some(done));
            }
            self.disk.sleep(pause);
        }
        attempt()
    }

    /// Another thread or process is joining, or starting, a sidecar.
    pub(crate) fn busy_opening(&self) -> Error {
        Error::Busy { path: self.path().to_path_buf(), lock: LockKind::Open, waited: Duration::ZERO, holder: None }
    }

    pub(crate) fn poisoned_error(&self, reason: impl Into<String>) -> Error {
        Error::Poisoned { path: self.path().to_path_buf(), reason: reason.into() }
    }

    /// Converts an error after which the commit may still be found in the log.
    pub(crate) fn unconfirmed(&self, error: Error) -> Error {
        let reason = if let Error::Poisoned { reason, .. } = error { reason } else { error.to_string() };
        Error::Unconfirmed { path: self.path().to_path_buf(), reason }
    }

    /// A map of at least this many pages, with room to grow.
    pub(crate) fn mapping(&self, pages: u64) -> Result<Option<Arc<dyn Mapping>>> {
        let need = pages * u64::from(self.page_size);
        let mut map = lock(&self.map);
        if let Some(map) = &*map
            && map.bytes().len() as u64 >= need
        {
            return Ok(Some(Arc::clone(map)));
        }
        let roomy = (need * 2).next_power_of_two().max(MIN_MAP);
        // An address space limit may refuse the room to grow.
        let found = match self.disk.map(roomy) {
            Ok(Some(map)) => Some(map),
            Ok(None) | Err(_) => self.disk.map(need).map_err(self.io("map"))?,
        };
        map.clone_from(&found);
        Ok(found)
    }
}

#[inline]
pub(crate) fn check_key(key: &[u8]) -> Result<()> {
    if key.len() <= MAX_KEY_SIZE {
        return Ok(());
    }
    Err(Error::TooLarge { what: LimitKind::Key, size: key.len() as u64, limit: MAX_KEY_SIZE as u64 })
}

/// Checks that a name has room in the row or the key that it is to stand in.
pub(crate) fn check_name_size(what: LimitKind, name: &str) -> Result<()> {
    if name.len() <= MAX_NAME_SIZE {
        return Ok(());
    }
    Err(Error::TooLarge { what, size: name.len() as u64, limit: MAX_NAME_SIZE as u64 })
}
