//! What a forked child inherits, and how it is kept from doing harm with it.
//!
//! A child shares its parent's open file descriptions. So it would keep the parent's kernel locks alive after the
//! parent's death, and could write to a store of which it has only a stale in-memory state. Therefore a handler
//! in the child replaces each data file's descriptor by a dead one, and increments the generation, by which every
//! handle of the parent is recognized as stale.
//!
//! Opening a data file must not race a fork in another thread: the child would inherit a description that the
//! handler does not know. So forks are counted when they start and when they end, and an opening that a fork
//! overlapped is repeated. A fork never waits for an opening.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering::SeqCst};
use std::time::Duration;

/// Data files that one process can have open at once.
const CAPACITY: usize = 4096;
/// Openings that a fork disturbed are repeated this often. A fork that never ended (one made inside a signal
/// handler that jumped away) must not keep the store closed for ever.
const ATTEMPTS: u32 = 1000;

static GENERATION: AtomicU32 = AtomicU32::new(0);
static STARTED: AtomicU32 = AtomicU32::new(0);
static FINISHED: AtomicU32 = AtomicU32::new(0);
/// The descriptor that replaces a data file's in a child.
static DEAD: AtomicI32 = AtomicI32::new(-1);
/// Descriptor + 1 of each open data file; 0 is an empty slot.
static SLOTS: [AtomicI32; CAPACITY] = [const { AtomicI32::new(0) }; CAPACITY];

/// Initialization that a process runs once, however many threads ask for it.
///
/// The standard library's `Once` hangs in a child that was forked while another thread ran it: the thread that
/// would finish does not exist there. Here the child runs it once more.
pub(super) struct Once(AtomicU32);

impl Once {
    const DONE: u32 = u32::MAX;

    pub(super) const fn new() -> Once {
        Once(AtomicU32::new(0))
    }

    /// After an error the next caller tries again.
    pub(super) fn run(&self, body: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut seen = self.0.load(SeqCst);
        if seen == Once::DONE {
            return Ok(());
        }
        // The id of the process that runs it; no process has id 0.
        let own = std::process::id();
        loop {
            match seen {
                Once::DONE => return Ok(()),
                busy if busy == own => std::thread::sleep(Duration::from_micros(50)),
                idle => {
                    if self.0.compare_exchange(idle, own, SeqCst, SeqCst).is_ok() {
                        break;
                    }
                }
            }
            seen = self.0.load(SeqCst);
        }
        let done = body();
        self.0.store(if done.is_ok() { Once::DONE } else { 0 }, SeqCst);
        done
    }
}

/// How many forks lie between the first process and this one. A handle made in another
/// generation belongs to a parent.
#[inline]
pub(crate) fn fork_generation() -> u32 {
    GENERATION.load(SeqCst)
}

/// The entry of one data file in the table of descriptors that a child must not keep. It must be dropped before
/// the descriptor is closed, and the locks released before both.
pub(super) struct Registration {
    slot: &'static AtomicI32,
    entry: i32,
}

impl Drop for Registration {
    fn drop(&mut self) {
        // In a child the slot was emptied, and may hold a file of the child's own by now.
        let _ = self.slot.compare_exchange(self.entry, 0, SeqCst, SeqCst);
    }
}

/// Opens a data file so that no child ever keeps its description.
pub(super) fn open_registered(open: impl Fn() -> io::Result<File>) -> io::Result<(Registration, File)> {
    install()?;
    let mut attempt = 0;
    loop {
        attempt += 1;
        let before = STARTED.load(SeqCst);
        if FINISHED.load(SeqCst) != before && attempt < ATTEMPTS {
            std::thread::sleep(Duration::from_micros(200));
            continue;
        }
        let file = open()?;
        let registration = register(&file)?;
        if STARTED.load(SeqCst) == before || attempt >= ATTEMPTS {
            return Ok((registration, file));
        }
    }
}

fn register(file: &File) -> io::Result<Registration> {
    let entry = file.as_raw_fd().saturating_add(1);
    SLOTS
        .iter()
        .find(|slot| slot.compare_exchange(0, entry, SeqCst, SeqCst).is_ok())
        .map(|slot| Registration { slot, entry })
        .ok_or_else(|| io::Error::other(format!("this process has {CAPACITY} stores open already")))
}

fn install() -> io::Result<()> {
    static INSTALLED: Once = Once::new();
    INSTALLED.run(|| {
        // The reading end of a pipe without a writer: every use of it as a data file fails, and unlike the null
        // device it exists in any sandbox.
        let (reader, _) = io::pipe()?;
        DEAD.store(std::os::fd::OwnedFd::from(reader).into_raw_fd(), SeqCst);
        // SAFETY: the handlers are functions of this program, which is never unloaded in part. They
        // only use atomics and async-signal-safe calls, as a child of a process with threads must, and never unwind.
        match unsafe { libc::pthread_atfork(Some(before_fork), Some(after_in_parent), Some(after_in_child)) } {
            0 => Ok(()),
            code => Err(io::Error::from_raw_os_error(code)),
        }
    })
}

/// [`fork_generation`], once the handlers are installed so that every fork counts.
pub(crate) fn watched_fork_generation() -> io::Result<u32> {
    install().map(|()| fork_generation())
}

extern "C" fn before_fork() {
    STARTED.fetch_add(1, SeqCst);
}

extern "C" fn after_in_parent() {
    FINISHED.fetch_add(1, SeqCst);
}

/// Runs in the child before `fork` returns, while it has one thread only.
extern "C" fn after_in_child() {
    FINISHED.store(STARTED.load(SeqCst), SeqCst);
    GENERATION.fetch_add(1, SeqCst);
    let dead = DEAD.load(SeqCst);
    for slot in &SLOTS {
        let entry = slot.swap(0, SeqCst);
        if entry != 0 {
            replace(dead, entry - 1);
        }
    }
}

/// Makes `fd` refer to what `dead` refers to, with close-on-exec as before.
fn replace(dead: RawFd, fd: RawFd) {
    #[cfg(target_os = "linux")]
    // SAFETY: async-signal-safe; `fd` is a registered data file's, which only its dead handle uses.
    unsafe {
        libc::dup3(dead, fd, libc::O_CLOEXEC);
    }
    #[cfg(not(target_os = "linux"))]
    // SAFETY: as above.
    unsafe {
        libc::dup2(dead, fd);
        libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    /// Runs `body` in a forked child, which ends with the code it returns. What `body` owns is
    /// never dropped in the parent.
    pub(crate) fn in_child(body: impl FnOnce() -> i32) -> libc::pid_t {
        // SAFETY: the child runs `body` and leaves with `_exit`, so nothing of the test harness runs twice.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork: {}", io::Error::last_os_error());
        if pid > 0 {
            std::mem::forget(body);
            return pid;
        }
        let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(101);
        // SAFETY: ends the process at once.
        unsafe { libc::_exit(code) }
    }

    /// Stops a child, and waits until it stands still.
    pub(crate) fn stop(pid: libc::pid_t) {
        let mut status = 0;
        // SAFETY: the child is ours and not yet waited for; `status` is a valid place for the result.
        let stopped = unsafe {
            assert_eq!(libc::kill(pid, libc::SIGSTOP), 0);
            libc::waitpid(pid, &raw mut status, libc::WUNTRACED)
        };
        assert!(stopped == pid && libc::WIFSTOPPED(status));
    }

    /// SIGKILL.
    pub(crate) fn kill(pid: libc::pid_t) {
        // SAFETY: the child is ours and not yet waited for.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
    }

    /// Waits for a child's end: its exit code, or minus the signal that killed it.
    pub(crate) fn wait_for(pid: libc::pid_t) -> i32 {
        let mut status = 0;
        // SAFETY: `status` is a valid place for the result.
        while unsafe { libc::waitpid(pid, &raw mut status, 0) } != pid {}
        if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -libc::WTERMSIG(status) }
    }

    #[test]
    fn work_of_another_thread_during_a_fork_is_repeated_in_the_child() {
        let once = Once::new();
        let (entered, entering) = std::sync::mpsc::channel();
        let (finish, finishing) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let once = &once;
            scope.spawn(move || {
                let slow = || {
                    entered.send(()).unwrap();
                    finishing.recv().map_err(io::Error::other)
                };
                once.run(slow).unwrap();
            });
            entering.recv().unwrap();
            let child = in_child(|| {
                let mut done = 0;
                once.run(|| Err(io::ErrorKind::Other.into())).unwrap_err();
                for _ in 0..3 {
                    let count = || {
                        done += 1;
                        Ok(())
                    };
                    once.run(count).unwrap();
                }
                done
            });
            assert_eq!(wait_for(child), 1);
            finish.send(()).unwrap();
            once.run(|| panic!("it is done by the other thread")).unwrap();
        });
    }

    #[test]
    fn a_child_is_another_generation_and_its_own_child_a_third() {
        install().unwrap();
        let mine = fork_generation();
        let child = in_child(|| {
            let second = fork_generation();
            let grandchild = in_child(move || i32::from(fork_generation() != second + 1));
            i32::from(second != mine + 1) + 2 * wait_for(grandchild)
        });
        assert_eq!(wait_for(child), 0);
        assert_eq!(fork_generation(), mine);
    }

    #[test]
    fn the_child_holds_a_dead_descriptor_and_the_parent_the_live_one() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"data").unwrap();
        let path = file.path();
        let handle = open_registered(|| File::open(path)).unwrap();
        let fd = handle.1.as_raw_fd();
        let live = handle.1.try_clone().unwrap();
        let child = in_child(move || {
            // Owned whole, so that in the parent the number stays as long as its entry does.
            let (registration, open) = handle;
            let dead = open.read_at(&mut [0; 4], 0).is_err();
            // SAFETY: only asks for the descriptor's flags.
            let closes = unsafe { libc::fcntl(fd, libc::F_GETFD) } & libc::FD_CLOEXEC != 0;
            // A slot that the child took for itself must survive the end of the parent's handle.
            let (own, _file) = open_registered(|| File::open(path)).unwrap();
            let taken = own.entry;
            drop(registration);
            i32::from(!(dead && closes && own.slot.load(SeqCst) == taken))
        });
        assert_eq!(wait_for(child), 0);
        let mut text = [0; 4];
        live.read_exact_at(&mut text, 0).unwrap();
        assert_eq!(&text, b"data");
    }

    #[test]
    fn a_fork_during_an_opening_keeps_no_lock_alive() {
        use super::super::file_lock::try_lock;
        use super::super::platform::LockMode::Exclusive;
        use std::sync::atomic::AtomicBool;
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || File::options().read(true).write(true).open(file.path());
        let other = open().unwrap();
        let stop = AtomicBool::new(false);
        install().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut children = Vec::new();
                for _ in 0..200 {
                    children.push(in_child(|| {
                        std::thread::sleep(Duration::from_millis(20));
                        0
                    }));
                }
                children.into_iter().for_each(|child| assert_eq!(wait_for(child), 0));
                stop.store(true, SeqCst);
            });
            while !stop.load(SeqCst) {
                let (registration, mine) = open_registered(|| {
                    let file = open();
                    std::thread::sleep(Duration::from_micros(100));
                    file
                })
                .unwrap();
                assert!(try_lock(&mine, 1, Exclusive).unwrap());
                // The end of the only description drops its lock, unless a living child has it too.
                // The number stays taken while it is registered, or a child of another test would
                // lose whatever had got it.
                replace(DEAD.load(SeqCst), mine.as_raw_fd());
                drop((registration, mine));
                assert!(try_lock(&other, 1, Exclusive).unwrap());
                super::super::file_lock::unlock(&other, 1).unwrap();
            }
        });
    }
}
