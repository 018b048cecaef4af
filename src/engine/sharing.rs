//! Which processes share the store with this one, and through which sidecar.
//!
//! Hints are right only if every writer publishes to the same sidecar. A process finds the sidecar by the path
//! through which it opened the file. Two processes that came by different directory entries (a hard link, a file
//! mounted alone into a container, a name given after the first process had opened it) would find different
//! sidecars. So each process holds a lock byte on the data file, visible to all, that stands for its *place*: a
//! process that finds another place taken is refused.
//!
//! The file records the *epoch* of the sidecar that was started last. A process that starts a sidecar while
//! another process has the store open begins a new epoch first. Processes that still use the previous sidecar,
//! whose hints are incomplete from then on, find that out by reading one word of the file.
//!
//! A sidecar is valid for the processes that have used it without a break: each writer holds a lock byte that
//! stands for it. A sidecar that no other process uses (a copy put back, one left by dead processes, a planted
//! one) is not joined but set up afresh. A process that cannot have a sidecar must be the only writer; readers
//! beside it see what the file itself proves to be durable.

use crate::disk::format::PROTOCOL_VERSION;
use crate::disk::holders::holder_of;
use crate::disk::host::{incarnation, process_identity};
use crate::disk::locks::{ByteLock, Deadline, MEMBERS, OPEN, PLACES, READERS, WRITERS, lock, try_lock};
use crate::disk::platform::{Disk, LockMode, SITES};
use crate::disk::root::{peek_epoch, write_epoch};
use crate::disk::sidecar::{SIDECAR_SIZE, Sidecar};
use crate::engine::board::Board;
use crate::error::{Error, LockKind, Result};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

/// How often a process checks that its sidecar's name still leads to it.
const SIDECAR_CHECK_MS: u64 = 1000;

/// OPEN, held: alone by a process that opens the store for writing, leaves it, or starts a sidecar.
pub(crate) struct OpenGuard(#[expect(dead_code, reason = "held")] ByteLock);

impl OpenGuard {
    pub(crate) fn take(disk: &Arc<dyn Disk>, mode: LockMode, deadline: Deadline) -> Result<OpenGuard> {
        ByteLock::take(disk, OPEN, mode, LockKind::Open, deadline).map(OpenGuard)
    }
}

/// The other processes that have the store open.
#[derive(Clone, Copy)]
pub(crate) struct Others {
    /// Whether any writers, any readers, have it open.
    pub(crate) writers: bool,
    pub(crate) readers: bool,
    /// The same for those that came by another place.
    writers_elsewhere: bool,
    readers_elsewhere: bool,
}

impl Others {
    pub(crate) fn look(disk: &dyn Disk) -> Result<Others> {
        let place = disk.place();
        let held = |first, len| {
            let found = disk.probe(first, len).map_err(|e| Error::io("look for others", disk.path(), e))?;
            Ok::<_, Error>(found.is_some())
        };
        let elsewhere = |base| Ok::<_, Error>(held(base, place)? || held(base + place + 1, PLACES - place - 1)?);
        let (writers_elsewhere, readers_elsewhere) = (elsewhere(WRITERS)?, elsewhere(READERS)?);
        Ok(Others {
            writers: writers_elsewhere || held(WRITERS + place, 1)?,
            readers: readers_elsewhere || held(READERS + place, 1)?,
            writers_elsewhere,
            readers_elsewhere,
        })
    }

    pub(crate) fn nobody(self) -> bool {
        !self.writers && !self.readers
    }

    /// Refuses to share the store with processes that look for its sidecar elsewhere. (Readers alone need no
    /// sidecar.)
    pub(crate) fn must_be_here(self, disk: &dyn Disk) -> Result<()> {
        if self.writers_elsewhere || self.readers_elsewhere && disk.writable() {
            let reason = "it came by another path or name of the file, so the two would not find one sidecar; \
                open the store by the same path (mount its directory, not the file alone), or close it there first";
            return Err(not_shared(disk, reason.to_owned()));
        }
        Ok(())
    }
}

fn not_shared(disk: &dyn Disk, reason: String) -> Error {
    let holder = holder_of(disk, WRITERS, PLACES).or_else(|| holder_of(disk, READERS, PLACES));
    Error::NotShared { path: disk.path().to_path_buf(), reason, holder }
}

impl Board {
    /// The error for a process that has no sidecar and is not the only one.
    pub(crate) fn without_sidecar(&self, why: &io::Error) -> Error {
        let reason = format!(
            "the sidecar ({}-shm) cannot be made or opened ({why}), and only the one process that writes can do without; \
            allow this user to write the directory, or close the store there first",
            self.path().display()
        );
        not_shared(&*self.disk, reason)
    }

    /// Whether another sidecar was started since this one, or this one's identity is invalid. Makes no system
    /// call.
    pub(crate) fn was_left(&self, sidecar: &Sidecar) -> Result<bool> {
        let epoch = peek_epoch(&*self.disk, self.page_size).map_err(self.io("look at the file"))?;
        Ok(sidecar.epoch() != Some(epoch))
    }

    /// Whether a process that opens the store now finds this sidecar, too.
    pub(crate) fn is_found(&self, sidecar: &Sidecar) -> Result<bool> {
        Ok(sidecar.is_current() && !self.was_left(sidecar)?)
    }

    /// The sidecar that a process finds when it opens the store now. If there is none: the last one known, and
    /// the reason.
    pub(crate) fn current_sidecar(&self) -> (Arc<Sidecar>, Result<()>) {
        self.sidecar_that(Self::is_found)
    }

    /// The sidecar that was started last. If it cannot be joined: the last one known, and the reason. A process
    /// that publishes calls this first, so that it never publishes to a sidecar that the other processes have
    /// left.
    pub(crate) fn newest_sidecar(&self) -> (Arc<Sidecar>, Result<()>) {
        self.sidecar_that(|engine, sidecar| engine.was_left(sidecar).map(|left| !left))
    }

    fn sidecar_that(&self, is_right: impl FnOnce(&Self, &Sidecar) -> Result<bool>) -> (Arc<Sidecar>, Result<()>) {
        let sidecar = self.known_sidecar();
        match is_right(self, &sidecar) {
            Ok(true) => (sidecar, Ok(())),
            Ok(false) => {
                let joined = self.rejoin_sidecar(true);
                (self.known_sidecar(), joined)
            }
            Err(why) => (sidecar, Err(why)),
        }
    }

    /// Publishes through this sidecar, and also through the one that the name leads to by now if that is another:
    /// it may have been started since this call looked, and the processes that joined it rely on its hints.
    /// Returns that one.
    pub(crate) fn publish_through(
        &self,
        sidecar: &Arc<Sidecar>,
        wait: bool,
        publish: impl Fn(&Sidecar),
    ) -> Option<Arc<Sidecar>> {
        publish(sidecar);
        if !self.is_found(&self.known_sidecar()).unwrap_or(false) {
            // If it has no hints yet, or cannot be joined, its readers find in the file what it does not say.
            let _ = self.rejoin_sidecar(wait);
        }
        let next = self.known_sidecar();
        (!Arc::ptr_eq(sidecar, &next)).then(|| {
            publish(&next);
            next
        })
    }

    /// Whether the process may continue without a current sidecar: there is no other writer, or its file has lost
    /// its name, so that every process that shares the file has lost the sidecar's name, too.
    pub(crate) fn may_do_without_sidecar(&self) -> Result<bool> {
        Ok(self.disk.lost_name().is_some() || !self.has_writers()?)
    }

    /// Joins the sidecar that other writers use. `false` if no sidecar can be found and trusted.
    pub(crate) fn join_sidecar(&self) -> Result<bool> {
        for site in 0..SITES {
            let Ok(memory) = self.disk.sidecar(site, SIDECAR_SIZE, false) else { continue };
            let sidecar = Sidecar::new(memory, &self.store_id, self.disk.identity());
            self.must_be_understood(&sidecar)?;
            // A writer that cannot publish would look like a stopped one.
            let of_use = sidecar.memory().is_writable() || !self.disk.writable();
            if of_use && self.is_found(&sidecar)? && self.is_in_use(&sidecar)? {
                self.use_sidecar(sidecar)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Refuses to share the store with writers whose sidecar has another version. One that nobody uses is none.
    fn must_be_understood(&self, sidecar: &Sidecar) -> Result<()> {
        match sidecar.other_protocol() {
            Some(version) if self.is_in_use(sidecar)? => {
                let found = format!("a sidecar of protocol {version}, which is in use");
                Err(Error::newer(self.path(), found, format!("protocol {PROTOCOL_VERSION}")))
            }
            _ => Ok(()),
        }
    }

    /// Whether a writer uses this sidecar, without a break until now.
    pub(crate) fn is_in_use(&self, sidecar: &Sidecar) -> Result<bool> {
        let id = sidecar.memory().id();
        if lock(&self.member).as_ref().is_some_and(|(own, _)| *own == id) {
            return Ok(true);
        }
        Ok(self.disk.probe(MEMBERS + id, 1).map_err(self.io("look for others"))?.is_some())
    }

    /// Starts a sidecar without hints. With `reuse`, which requires that there is no other
    /// writer, an existing sidecar is cleared in place, so that readers which have it mapped keep using it.
    pub(crate) fn start_sidecar(&self, open: &OpenGuard, reuse: bool) -> Result<io::Result<()>> {
        let epoch = self.begin_epoch(open)?;
        let mut refused = io::Error::from(io::ErrorKind::NotFound);
        for site in 0..SITES {
            let there = self.disk.sidecar(site, SIDECAR_SIZE, false).ok();
            let made = match there.filter(|memory| reuse && memory.is_writable()) {
                Some(memory) => Ok(memory),
                None if reuse => self.disk.sidecar(site, SIDECAR_SIZE, true),
                None => self.no_other_site_is_in_use(site).and_then(|()| self.disk.sidecar(site, SIDECAR_SIZE, true)),
            };
            match made {
                Ok(memory) => {
                    let sidecar = Sidecar::new(memory, &self.store_id, self.disk.identity());
                    sidecar.set_up(epoch);
                    if self.is_poisoned(&self.known_sidecar()) {
                        sidecar.poison();
                    }
                    self.use_sidecar(sidecar)?;
                    return Ok(Ok(()));
                }
                // The reason at the first site is the one that the user can act upon.
                Err(e) if site == 0 => refused = e,
                Err(_) => {}
            }
        }
        crate::trace::debug!(error = %refused, "no sidecar can be made");
        Ok(Err(refused))
    }

    /// The epoch of the sidecar that is about to be started. If no other process has the store open, none can use
    /// a sidecar of the previous epoch, and the file stays as it is. Otherwise the new epoch is written first, so
    /// that those processes notice it.
    ///
    /// No flush is needed: the new sidecar gives no hints before a flush that covers this word, too. If that
    /// flush fails, and the system shows the previous epoch again, nothing was published here that the processes
    /// with the old sidecar do not find. (The epoch is random because one that counts on from the previous one
    /// could then be given to two sidecars.)
    fn begin_epoch(&self, _open: &OpenGuard) -> Result<u64> {
        let epoch = peek_epoch(&*self.disk, self.page_size).map_err(self.io("look at the file"))?;
        if Others::look(&*self.disk)?.nobody() {
            return Ok(epoch);
        }
        let next = incarnation();
        write_epoch(&*self.disk, self.page_size, next).map_err(self.io("write the epoch"))?;
        Ok(next)
    }

    /// A process that uses a sidecar at another site would not hear of one started here. A sidecar that cannot be
    /// opened may be in use.
    fn no_other_site_is_in_use(&self, site: usize) -> io::Result<()> {
        for other in (0..SITES).filter(|other| *other != site) {
            match self.disk.sidecar(other, SIDECAR_SIZE, false) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
                Ok(memory) => {
                    let sidecar = Sidecar::new(memory, &self.store_id, self.disk.identity());
                    if self.is_in_use(&sidecar).map_err(|e| io::Error::other(e.to_string()))? {
                        return Err(io::Error::other("the others use one elsewhere"));
                    }
                }
            }
        }
        Ok(())
    }

    fn use_sidecar(&self, sidecar: Sidecar) -> Result<()> {
        if self.disk.writable() {
            let id = sidecar.memory().id();
            let mut member = lock(&self.member);
            if member.as_ref().is_none_or(|(own, _)| *own != id) {
                let byte =
                    ByteLock::take(&self.disk, MEMBERS + id, LockMode::Shared, LockKind::Sidecar, self.deadline())?;
                *member = Some((id, byte));
            }
        }
        if let Some((index, _)) = &self.slot {
            let (pid, host, command) = process_identity();
            let slot = sidecar.slot(*index);
            if !slot.is_introduced_as(self.incarnation) {
                slot.introduce(self.incarnation, pid, &host, &command);
            }
            self.pins.tell_in(&sidecar, *index);
            sidecar.raise_slot_bound(index + 1);
        }
        // The LSNs that were published through the previous sidecar stay given.
        self.raise_given(self.known_sidecar().tail().map_or(0, |tail| tail.lsn));
        *self.sidecar.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(sidecar);
        // The processes that use it may have lost, and passed over, frames that this process has read before.
        self.forget_log();
        self.sidecar_seen_ms.store(self.disk.now_ms(), Ordering::Relaxed);
        Ok(())
    }

    /// The sidecar was deleted, cut, or overwritten: joins the one that another process started, or starts one.
    /// Readers (`wait` = false) do not wait for a process that is doing the same. The error gives the reason for
    /// having none.
    pub(crate) fn rejoin_sidecar(&self, wait: bool) -> Result<()> {
        let _one = match try_lock(&self.rejoining) {
            Some(one) => one,
            None if wait => lock(&self.rejoining),
            None => return Err(self.busy_opening()),
        };
        if self.join_sidecar()? {
            return Ok(());
        }
        // If the file has lost its name, it must not take the sidecar away from the file that has the name now.
        self.check_name()?;
        let lost = || self.without_sidecar(&io::ErrorKind::NotFound.into());
        if !self.disk.writable() || self.is_alone.load(Ordering::Acquire) && !self.has_writers()? {
            return Err(lost());
        }
        let deadline = if wait { self.deadline() } else { Some(Instant::now()) };
        let open = OpenGuard::take(&self.disk, LockMode::Exclusive, deadline)?;
        if !self.join_sidecar()? {
            self.start_sidecar(&open, false)?.map_err(|why| self.without_sidecar(&why))?;
            crate::trace::info!("the sidecar was lost; started a new one");
        }
        self.is_alone.store(false, Ordering::Release);
        Ok(())
    }

    /// Shows that this process has the store open.
    pub(super) fn appear(&self) -> Result<()> {
        let base = if self.disk.writable() { WRITERS } else { READERS };
        let byte = base + self.disk.place();
        *lock(&self.presence) = Some(ByteLock::take(&self.disk, byte, LockMode::Shared, LockKind::Presence, None)?);
        Ok(())
    }

    /// The sidecar, checked at most once a second. For readers: waits for nothing.
    pub(crate) fn sidecar(&self) -> Arc<Sidecar> {
        let now = self.disk.now_ms();
        if now.wrapping_sub(self.sidecar_seen_ms.load(Ordering::Relaxed)) >= SIDECAR_CHECK_MS {
            self.sidecar_seen_ms.store(now, Ordering::Relaxed);
            let sidecar = self.known_sidecar();
            if !self.is_found(&sidecar).unwrap_or(false) {
                // Without a sidecar the file itself is read.
                let _ = self.rejoin_sidecar(false);
            }
        }
        self.known_sidecar()
    }

    /// Publishes how far the log is durable, and only then acknowledges it here: what a thread of this process
    /// returns with, or shows, must be in every later snapshot of any process.
    pub(crate) fn publish_durable(&self, sidecar: &Arc<Sidecar>, lsn: u64) {
        let next = self.publish_through(sidecar, true, |sidecar| sidecar.rise_durable(lsn));
        self.raise_durable(lsn);
        for joined in [Some(sidecar), next.as_ref()].into_iter().flatten() {
            joined.wake_flushed();
            joined.wake_changed();
        }
    }

    /// Whether there is a sidecar with valid hints.
    #[cfg(test)]
    pub(crate) fn has_hints(&self) -> bool {
        let sidecar = self.known_sidecar();
        self.is_found(&sidecar).unwrap() && self.load_hints(&sidecar) && self.is_in_use(&sidecar).unwrap()
    }
}
