//! Accessing a page of a map that has no file behind it raises SIGBUS, which would kill the process. This happens
//! when the file is truncated, or when the disk cannot read. The guard puts a page of zeros there instead, so
//! that the page's checksum reports the damage.
//!
//! Only faults inside guarded maps are handled; any other one is passed to the previous handler of SIGBUS, or
//! kills the process as it would have without the guard.

use std::ffi::{c_int, c_void};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicUsize, Ordering::SeqCst};

use super::fork::Once;

/// Maps guarded by one chunk of the table, and the number of chunks: together more maps than the kernel gives a
/// process by default. A map beyond that is refused, and its user reads into private memory.
const CHUNK: usize = 1024;
const CHUNKS: usize = 64;
const EMPTY: usize = 0;
/// A slot that is being filled. No map starts at address 0 or 1.
const CLAIMED: usize = 1;

/// One guarded map. The handler may read a slot at any instant, so `start` makes it valid: it is written last and
/// cleared first.
struct Slot {
    start: AtomicUsize,
    len: AtomicUsize,
    writable: AtomicBool,
    torn: AtomicBool,
}

impl Slot {
    const fn new() -> Slot {
        Slot {
            start: AtomicUsize::new(EMPTY),
            len: AtomicUsize::new(0),
            writable: AtomicBool::new(false),
            torn: AtomicBool::new(false),
        }
    }

    /// The map's end, if `address` lies in this slot's map.
    fn end_if_holding(&self, address: usize) -> Option<usize> {
        let start = self.start.load(SeqCst);
        let len = self.len.load(SeqCst);
        let holds = start > CLAIMED && address.checked_sub(start).is_some_and(|at| at < len);
        // The slot may have been reused between the two loads.
        (holds && self.start.load(SeqCst) == start).then(|| start.saturating_add(len))
    }
}

type Chunk = [Slot; CHUNK];

/// The table, which grows by a chunk when all chunks are full. A chunk is never freed: the handler may be reading
/// it at any instant.
static TABLE: [AtomicPtr<Chunk>; CHUNKS] = [const { AtomicPtr::new(std::ptr::null_mut()) }; CHUNKS];

fn chunk_at(place: &AtomicPtr<Chunk>) -> Option<&'static Chunk> {
    // SAFETY: null, or a chunk that was leaked below, and so lives as long as the program.
    unsafe { place.load(SeqCst).as_ref() }
}

/// The chunk at this place, created if there is none yet.
fn chunk_made_at(place: &AtomicPtr<Chunk>) -> Option<&'static Chunk> {
    chunk_at(place).or_else(|| {
        let made: *mut Chunk = Box::into_raw(Box::new([const { Slot::new() }; CHUNK]));
        if place.compare_exchange(std::ptr::null_mut(), made, SeqCst, SeqCst).is_err() {
            // SAFETY: another thread was quicker, and no other has seen this one.
            drop(unsafe { Box::from_raw(made) });
        }
        chunk_at(place)
    })
}

/// Keeps one map guarded. It must be dropped before the map is unmapped.
pub(super) struct Guard {
    slot: &'static Slot,
}

impl Guard {
    /// Whether a page of the map was lost and replaced by zeros.
    pub(super) fn torn(&self) -> bool {
        self.slot.torn.load(SeqCst)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.slot.start.store(EMPTY, SeqCst);
    }
}

/// Guards a map of `len` bytes at `start`. `None` if the table is full, or the handler cannot be
/// installed.
pub(super) fn guard(start: *const u8, len: usize, writable: bool) -> Option<Guard> {
    page_size()?;
    let mut chunks = TABLE.iter().filter_map(chunk_made_at);
    chunks.find_map(|chunk| claim(chunk, start.addr(), len, writable)).map(|slot| Guard { slot })
}

fn claim(table: &'static [Slot], start: usize, len: usize, writable: bool) -> Option<&'static Slot> {
    let is_free = |slot: &&Slot| {
        slot.start.load(SeqCst) == EMPTY && slot.start.compare_exchange(EMPTY, CLAIMED, SeqCst, SeqCst).is_ok()
    };
    let slot = table.iter().find(is_free)?;
    slot.len.store(len, SeqCst);
    slot.writable.store(writable, SeqCst);
    slot.torn.store(false, SeqCst);
    slot.start.store(start, SeqCst);
    Some(slot)
}

/// The previous handler of SIGBUS, and how it is to be called.
static PREVIOUS: AtomicUsize = AtomicUsize::new(libc::SIG_DFL);
static PREVIOUS_FLAGS: AtomicI32 = AtomicI32::new(0);
static PAGE_SIZE: AtomicUsize = AtomicUsize::new(0);

/// Installs the handler, once. Returns the host's page size if that worked.
fn page_size() -> Option<usize> {
    static INSTALLED: Once = Once::new();
    INSTALLED.run(install).ok().map(|()| PAGE_SIZE.load(SeqCst))
}

fn install() -> io::Result<()> {
    // SAFETY: asks for a number.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    PAGE_SIZE.store(usize::try_from(size).map_err(io::Error::other)?, SeqCst);
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_sigbus;
    let ours = handler as *const () as usize;
    let remember = |action: &libc::sigaction| {
        // (A child that was forked meanwhile may find it installed.)
        if action.sa_sigaction != ours {
            PREVIOUS_FLAGS.store(action.sa_flags, SeqCst);
            PREVIOUS.store(action.sa_sigaction, SeqCst);
        }
    };
    // SAFETY: `sigaction` is plain data, for which zeros are valid; the calls are given valid
    // places. The previous handler is known before ours can run and look for it, and
    // once more afterwards: another thread may have installed one in between.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(libc::SIGBUS, std::ptr::null(), &raw mut action) != 0 {
            return Err(io::Error::last_os_error());
        }
        remember(&action);
        let mut new: libc::sigaction = std::mem::zeroed();
        new.sa_sigaction = ours;
        // Hosts with small stacks (Go, for one) demand handlers on the alternate stack. No
        // SA_NODEFER: a fault inside the handler must end the process, not recurse.
        new.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        libc::sigemptyset(&raw mut new.sa_mask);
        if libc::sigaction(libc::SIGBUS, &raw const new, &raw mut action) != 0 {
            return Err(io::Error::last_os_error());
        }
        remember(&action);
    }
    Ok(())
}

extern "C" fn on_sigbus(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel hands a valid `siginfo_t` to a handler with SA_SIGINFO.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr().addr()) };
    // BUS_ADRALN, BUS_ADRERR, BUS_OBJERR, BUS_MCEERR_AR: an access failed. Otherwise a process sent
    // the signal, and the address means nothing.
    let access = (1..=4).contains(&code);
    if access && zero_page(address) {
        return;
    }
    pass_on(signal, info, context, access);
}

/// Replaces the page of `address` by zeros, if it lies in a guarded map.
fn zero_page(address: usize) -> bool {
    let page_size = PAGE_SIZE.load(SeqCst);
    let page = address & !page_size.wrapping_sub(1);
    let mut slots = TABLE.iter().map_while(chunk_at).flatten();
    let Some((slot, end)) = slots.find_map(|slot| slot.end_if_holding(address).map(|end| (slot, end))) else {
        return false;
    };
    let writable = slot.writable.load(SeqCst);
    slot.torn.store(true, SeqCst);
    // Many single pages would split the map into more areas than the kernel allows; one big area does not.
    zero(page, page_size, writable) || zero(page, end.saturating_sub(page), writable)
}

fn zero(page: usize, len: usize, writable: bool) -> bool {
    let protection = if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
    let flags = libc::MAP_FIXED | libc::MAP_ANON | libc::MAP_PRIVATE;
    let errno = errno();
    // SAFETY: the pages belong to a map that its owner keeps mapped while it is read, and
    // the thread that faulted reads it. They are unreadable, so nothing is lost. A plain system call, which
    // is safe in a signal handler; `errno` is put back for the code that was interrupted.
    unsafe {
        let saved = *errno;
        let done =
            libc::mmap(std::ptr::without_provenance_mut(page), len, protection, flags, -1, 0) != libc::MAP_FAILED;
        *errno = saved;
        done
    }
}

fn errno() -> *mut c_int {
    #[cfg(target_os = "linux")]
    // SAFETY: has no preconditions.
    return unsafe { libc::__errno_location() };
    #[cfg(not(target_os = "linux"))]
    // SAFETY: has no preconditions.
    return unsafe { libc::__error() };
}

/// Does what would have been done without this handler.
fn pass_on(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void, access: bool) {
    let (handler, flags) = (PREVIOUS.load(SeqCst), PREVIOUS_FLAGS.load(SeqCst));
    let function = std::ptr::with_exposed_provenance::<()>(handler);
    if handler == libc::SIG_IGN && !access {
        return;
    }
    // SAFETY: a handler that is neither default nor ignore is a function of the type that its flags
    // tell. The default action is put back so that the access, tried again on return, ends
    // the process; a sent signal has to be sent again.
    unsafe {
        if handler == libc::SIG_DFL || handler == libc::SIG_IGN {
            let mut default: libc::sigaction = std::mem::zeroed();
            default.sa_sigaction = libc::SIG_DFL;
            libc::sigaction(signal, &raw const default, std::ptr::null_mut());
            if !access {
                libc::raise(signal);
            }
        } else if flags & libc::SA_SIGINFO != 0 {
            type WithInfo = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
            std::mem::transmute::<*const (), WithInfo>(function)(signal, info, context);
        } else {
            std::mem::transmute::<*const (), extern "C" fn(c_int)>(function)(signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fork::tests::{in_child, wait_for};
    use super::*;

    #[test]
    fn a_full_table_claims_no_more_until_a_slot_is_free() {
        static SMALL: [Slot; 2] = [const { Slot::new() }; 2];
        let first = claim(&SMALL, 4096, 8192, false).unwrap();
        assert!(claim(&SMALL, 65536, 4096, true).is_some());
        assert!(claim(&SMALL, 1 << 20, 4096, true).is_none());
        drop(Guard { slot: first });
        assert!(claim(&SMALL, 1 << 20, 4096, true).is_some());
    }

    #[test]
    fn thousands_of_maps_are_guarded_at_once_and_the_last_as_well_as_the_first() {
        const MAPS: usize = 9000;
        let page = page_size().unwrap();
        let file = tempfile::tempfile().unwrap();
        // Of an empty file: every access to it faults.
        let map = memmap2::MmapOptions::new().len(MAPS * page).map_raw_read_only(&file).unwrap();
        let at = |n: usize| map.as_ptr().wrapping_add(n * page);
        let guards: Vec<_> = (0..MAPS).map(|n| guard(at(n), page, false).expect("room for one more")).collect();
        for n in [0, 1, 1023, 1024, 1100, MAPS - 1] {
            // SAFETY: the address is mapped, and guarded: the access gives zero.
            assert_eq!(unsafe { at(n).read_volatile() }, 0);
            assert!(guards[n].torn() && !guards[n ^ 2].torn());
        }
        drop(guards);
        let again = guard(at(7), page, false).unwrap();
        assert!(!again.torn());
    }

    #[test]
    fn only_addresses_inside_a_guarded_map_are_ours() {
        static SMALL: [Slot; 1] = [Slot::new()];
        assert_eq!(SMALL[0].end_if_holding(0), None);
        assert_eq!(SMALL[0].end_if_holding(1), None);
        let slot = claim(&SMALL, 4096, 8192, false).unwrap();
        assert_eq!(slot.end_if_holding(4095), None);
        assert_eq!(slot.end_if_holding(4096), Some(12288));
        assert_eq!(slot.end_if_holding(12287), Some(12288));
        assert_eq!(slot.end_if_holding(12288), None);
        drop(Guard { slot });
        assert_eq!(slot.end_if_holding(4096), None);
    }

    /// Maps one page of an empty file without a guard and reads it.
    fn unguarded_fault() -> i32 {
        let file = tempfile::tempfile().unwrap();
        let map = memmap2::MmapOptions::new().len(4096).map_raw_read_only(&file).unwrap();
        // SAFETY: the address is mapped; the access faults, as the test wants.
        i32::from(unsafe { map.as_ptr().read_volatile() })
    }

    fn without_core_file() {
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: given a valid limit.
        unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) };
    }

    /// Lets a child believe that this handled SIGBUS before.
    fn handled_before_by(handler: usize) {
        PREVIOUS_FLAGS.store(0, SeqCst);
        PREVIOUS.store(handler, SeqCst);
    }

    #[test]
    fn a_foreign_fault_or_signal_still_kills() {
        assert!(page_size().is_some());
        let faulting = in_child(|| {
            without_core_file();
            unguarded_fault()
        });
        assert_eq!(wait_for(faulting), -libc::SIGBUS);
        let signalled = in_child(|| {
            without_core_file();
            handled_before_by(libc::SIG_DFL);
            // SAFETY: sends this process a signal.
            unsafe { libc::raise(libc::SIGBUS) };
            0
        });
        assert_eq!(wait_for(signalled), -libc::SIGBUS);
    }

    #[test]
    fn a_foreign_fault_goes_to_the_handler_that_was_there_before() {
        assert!(page_size().is_some());
        extern "C" fn earlier(_: c_int) {
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(77) };
        }
        let child = in_child(|| {
            let handler: extern "C" fn(c_int) = earlier;
            handled_before_by(handler as *const () as usize);
            unguarded_fault()
        });
        assert_eq!(wait_for(child), 77);
    }
}
