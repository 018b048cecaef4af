//! Runs a command, and everything that it starts, and holds its threads back at system calls.
//!
//! A thread that is held back keeps what it has taken, and has not yet given back what it is giving
//! back, while all others go on: a window of microseconds becomes one of milliseconds. Calls on
//! files can be interrupted, too (`EINTR`), and do less than they were asked to.

use super::random::Random;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::fmt;
use std::io::{Error, Result};
use std::mem::MaybeUninit;
use std::process::Command;
use std::ptr::null_mut;
use std::time::{Duration, Instant};

/// Calls by which processes and threads meet. A thread that is held back at another one proves little.
const MEETINGS: &[libc::c_long] = &[
    libc::SYS_close,
    libc::SYS_fallocate,
    libc::SYS_fcntl,
    libc::SYS_fdatasync,
    libc::SYS_fstat,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_futex,
    libc::SYS_linkat,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_openat,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_statx,
    libc::SYS_unlinkat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_link,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
];

/// Of these, calls on files that a signal may interrupt on some file system, beside those on locks.
const ON_FILES: &[libc::c_long] =
    &[libc::SYS_fallocate, libc::SYS_fdatasync, libc::SYS_ftruncate, libc::SYS_pread64, libc::SYS_pwrite64];

const OPTIONS: libc::c_int = libc::PTRACE_O_TRACESYSGOOD
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_EXITKILL;

// Not every C library names them.
const GET_SYSCALL_INFO: u32 = 0x420e;
const ENTRY: u8 = 1;

/// How slow it is to be.
#[derive(Clone, Debug)]
pub struct Slowness {
    pub seed: u64,
    /// One in so many entries and exits of calls is held back: mostly for microseconds, seldom for long.
    pub one_in: u64,
    /// After one in so many exits it is held back once more: between two calls, some instructions further on.
    pub step_one_in: u64,
    /// At one in so many, the thread becomes the victim: for a while, each of its calls takes long.
    pub victim_one_in: u64,
    /// One in so many calls on files is interrupted, and as many reads and writes do a part only. 0: none.
    /// For x86-64 alone.
    pub interrupt_one_in: u64,
    /// No thread is held back for longer at one entry or exit.
    pub most: Duration,
}

impl Default for Slowness {
    fn default() -> Slowness {
        Slowness {
            seed: 1,
            one_in: 4,
            step_one_in: 100,
            victim_one_in: 400,
            interrupt_one_in: 0,
            most: Duration::from_millis(5),
        }
    }
}

/// The account of a run.
#[derive(Default)]
pub struct Account {
    /// The exit code of the command; 128 and the signal, if a signal ended it.
    pub code: i32,
    threads: u64,
    meetings: u64,
    held: u64,
    victims: u64,
    interrupted: u64,
    shortened: u64,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Account { threads, meetings, held, victims, interrupted, shortened, .. } = self;
        write!(
            f,
            "{threads} threads, held back {held} times at {meetings} entries and exits of calls, {victims} victims; \
             {interrupted} calls interrupted, {shortened} made short"
        )
    }
}

/// Starts the command, and returns when it and all that it started have ended.
///
/// The calling process needs to have no other threads: it waits for a signal to the process.
pub fn run(command: &Command, slowness: &Slowness) -> Result<Account> {
    if slowness.interrupt_one_in > 0 && cfg!(not(target_arch = "x86_64")) {
        return Err(Error::new(std::io::ErrorKind::Unsupported, "calls are interrupted on x86-64 alone"));
    }
    // It stops before it is the command, so that it is traced from the command's first step on.
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", r#"kill -STOP $$ && exec "$0" "$@""#]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    let mut child = shell.spawn()?;
    let id = i32::try_from(child.id()).map_err(Error::other)?;
    let seized = wait(id, libc::WUNTRACED)
        .and_then(|_| ptrace(libc::PTRACE_SEIZE, id, OPTIONS as usize))
        .map_err(|e| Error::new(e.kind(), format!("this system lets no process trace its child (ptrace): {e}")));
    if seized.is_err() {
        let _ = child.kill();
        child.wait()?;
    }
    seized?;
    let mut tracer = Tracer {
        child: id,
        slowness: slowness.clone(),
        random: Random(slowness.seed),
        threads: HashMap::new(),
        steps: HashMap::new(),
        loading: HashSet::new(),
        interrupted: HashSet::new(),
        queue: BinaryHeap::new(),
        victim: None,
        account: Account::default(),
    };
    let children = only_waited_for(libc::SIGCHLD);
    // SAFETY: the child was not waited for to its end, so the number is its own.
    unsafe { libc::kill(id, libc::SIGCONT) };
    tracer.trace(&children)?;
    Ok(tracer.account)
}

struct Tracer {
    child: libc::pid_t,
    slowness: Slowness,
    random: Random,
    /// The call that each thread is in.
    threads: HashMap<libc::pid_t, libc::c_long>,
    /// Threads that go on by single instructions, and how many these still are.
    steps: HashMap<libc::pid_t, u64>,
    /// Processes that began a program and have taken no lock yet: the loader of programs bears no interruption.
    loading: HashSet<libc::pid_t>,
    /// Whose call was replaced by none.
    interrupted: HashSet<libc::pid_t>,
    /// Threads that are held back, and until when.
    queue: BinaryHeap<Reverse<(Instant, libc::pid_t)>>,
    victim: Option<(libc::pid_t, Instant)>,
    account: Account,
}

impl Tracer {
    fn trace(&mut self, children: &libc::sigset_t) -> Result<()> {
        loop {
            let now = Instant::now();
            while let Some(Reverse((due, thread))) = self.queue.peek().copied()
                && due <= now
            {
                self.queue.pop();
                self.next(thread)?;
            }
            match wait(-1, libc::__WALL | libc::__WNOTHREAD | libc::WNOHANG) {
                Ok((0, _)) => {
                    // The bound is for a signal that another thread of this process has swallowed.
                    let next = self.queue.peek().map_or(now + self.slowness.most, |Reverse((due, _))| *due);
                    sleep(children, next.saturating_duration_since(now).min(Duration::from_millis(5)));
                }
                Ok((thread, status)) => self.met(thread, status, now)?,
                Err(e) if e.raw_os_error() == Some(libc::ECHILD) => return Ok(()),
                Err(e) => return Err(e),
            }
        }
    }

    fn met(&mut self, thread: libc::pid_t, status: libc::c_int, now: Instant) -> Result<()> {
        if !libc::WIFSTOPPED(status) {
            self.threads.remove(&thread);
            self.steps.remove(&thread);
            self.interrupted.remove(&thread);
            self.loading.remove(&thread);
            if thread == self.child {
                let signal = 128 + libc::WTERMSIG(status);
                self.account.code = if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { signal };
            }
            return Ok(());
        }
        match (status >> 16, libc::WSTOPSIG(status)) {
            // The whole process is stopped. It stays so until SIGCONT, or the end.
            (libc::PTRACE_EVENT_STOP, libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU) => {
                lives(ptrace(libc::PTRACE_LISTEN, thread, 0))
            }
            (0, signal) if signal == libc::SIGTRAP | 0x80 => {
                let delay = self.delay(thread, now)?;
                self.hold(thread, now, delay)
            }
            (0, libc::SIGTRAP) if self.steps.contains_key(&thread) => {
                let last = self.steps.remove(&thread).filter(|left| *left > 0);
                self.steps.extend(last.map(|left| (thread, left - 1)));
                let delay = last.is_none().then(|| self.some());
                self.hold(thread, now, delay)
            }
            (0, signal) => go_on(thread, signal),
            (libc::PTRACE_EVENT_EXEC, _) => {
                self.loading.insert(thread);
                go_on(thread, 0)
            }
            // A new thread or process, the end of a stop.
            _ => go_on(thread, 0),
        }
    }

    /// How long the thread is held back at the entry or the exit of a call.
    fn delay(&mut self, thread: libc::pid_t, now: Instant) -> Result<Option<Duration>> {
        let entered = call(thread)?;
        let known = self.threads.len();
        let within = self.threads.entry(thread).or_insert(-1);
        *within = entered.map_or(*within, |(number, _)| number);
        let within = *within;
        self.account.threads += u64::from(self.threads.len() > known);
        if !MEETINGS.contains(&within) {
            return Ok(None);
        }
        self.account.meetings += 1;
        self.meddle(thread, entered)?;
        if entered.is_none() && self.one_in(self.slowness.step_one_in) {
            let most = 1 << self.random.below(11);
            let steps = self.random.below(most);
            self.steps.insert(thread, steps);
        }
        let most = u64::try_from(self.slowness.most.as_nanos()).map_err(Error::other)?;
        self.victim = self.victim.filter(|(_, until)| now < *until);
        if self.victim.is_none() && self.one_in(self.slowness.victim_one_in) {
            self.account.victims += 1;
            self.victim = Some((thread, now + self.slowness.most * 10));
        }
        if self.victim.is_some_and(|(victim, _)| victim == thread) {
            return Ok(Some(Duration::from_nanos(most / 4 + self.random.below(most - most / 4))));
        }
        if !self.one_in(self.slowness.one_in) {
            return Ok(None);
        }
        Ok(Some(self.some()))
    }

    /// Interrupts the call that is entered, or makes it a shorter one; tells of the interruption at its exit.
    fn meddle(&mut self, thread: libc::pid_t, entered: Option<(libc::c_long, [u64; 6])>) -> Result<()> {
        let Some((number, arguments)) = entered else {
            let was_interrupted = self.interrupted.remove(&thread);
            return if was_interrupted { lives(registers::answer(thread, -libc::EINTR)) } else { Ok(()) };
        };
        if self.slowness.interrupt_one_in == 0 {
            return Ok(());
        }
        let on_locks = [libc::F_OFD_SETLK, libc::F_OFD_GETLK].map(|command| command as u64);
        let interruptible = match number {
            libc::SYS_fcntl => on_locks.contains(&arguments[1]),
            _ => ON_FILES.contains(&number) && !self.loading.contains(&thread),
        };
        if number == libc::SYS_fcntl && interruptible {
            self.loading.remove(&thread);
        }
        let short = matches!(number, libc::SYS_pread64 | libc::SYS_pwrite64) && interruptible && arguments[2] > 1;
        if interruptible && self.one_in(self.slowness.interrupt_one_in) {
            self.account.interrupted += 1;
            self.interrupted.insert(thread);
            lives(registers::skip(thread))
        } else if short && self.one_in(self.slowness.interrupt_one_in) {
            self.account.shortened += 1;
            let part = 1 + self.random.below(arguments[2] - 1);
            lives(registers::shorten(thread, part))
        } else {
            Ok(())
        }
    }

    fn hold(&mut self, thread: libc::pid_t, now: Instant, delay: Option<Duration>) -> Result<()> {
        let Some(delay) = delay else { return self.next(thread) };
        self.account.held += 1;
        self.queue.push(Reverse((now + delay, thread)));
        Ok(())
    }

    /// Lets it go on, to its next call or by an instruction.
    fn next(&mut self, thread: libc::pid_t) -> Result<()> {
        let request = if self.steps.contains_key(&thread) { libc::PTRACE_SINGLESTEP } else { libc::PTRACE_SYSCALL };
        lives(ptrace(request, thread, 0))
    }

    /// Every order of magnitude is as likely as every other.
    fn some(&mut self) -> Duration {
        let most = self.slowness.most / (1 << self.random.below(13));
        most.mul_f64(self.random.below(1 << 20) as f64 / f64::from(1 << 20))
    }

    fn one_in(&mut self, count: u64) -> bool {
        count > 0 && self.random.one_in(count)
    }
}

/// Lets a stopped thread go on to its next call, with the signal that it was about to get.
fn go_on(thread: libc::pid_t, signal: libc::c_int) -> Result<()> {
    lives(ptrace(libc::PTRACE_SYSCALL, thread, signal as usize))
}

/// A thread that was killed meanwhile is no failure: its end is met later.
fn lives(result: Result<()>) -> Result<()> {
    result.or_else(|e| if e.raw_os_error() == Some(libc::ESRCH) { Ok(()) } else { Err(e) })
}

fn ptrace(request: libc::c_uint, thread: libc::pid_t, data: usize) -> Result<()> {
    // SAFETY: these requests take numbers alone, and concern processes that were started for it.
    let result = unsafe { libc::ptrace(request as _, thread, null_mut::<libc::c_void>(), data) };
    if result == -1 { Err(Error::last_os_error()) } else { Ok(()) }
}

/// The call that the thread enters, and its arguments; `None` at the exit of one, and of a thread that was
/// killed meanwhile.
fn call(thread: libc::pid_t) -> Result<Option<(libc::c_long, [u64; 6])>> {
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        stop: u8,
        machine: u32,
        places: [u64; 2],
        number: u64,
        arguments: [u64; 6],
        more: [u64; 2],
    }
    let mut info = Info::default();
    // SAFETY: the kernel writes at most as many bytes as it is told, into plain data.
    let result = unsafe {
        libc::ptrace(GET_SYSCALL_INFO as _, thread, size_of::<Info>(), (&raw mut info).cast::<libc::c_void>())
    };
    lives(if result == -1 { Err(Error::last_os_error()) } else { Ok(()) })?;
    Ok((info.stop == ENTRY).then_some((info.number as libc::c_long, info.arguments)))
}

/// The arguments and the result of a call.
#[cfg(target_arch = "x86_64")]
mod registers {
    use super::{Error, MaybeUninit, Result, null_mut};

    /// The call is not made.
    pub(super) fn skip(thread: libc::pid_t) -> Result<()> {
        change(thread, |registers| registers.orig_rax = u64::MAX)
    }

    pub(super) fn answer(thread: libc::pid_t, answer: i32) -> Result<()> {
        change(thread, |registers| registers.rax = i64::from(answer).cast_unsigned())
    }

    /// The third argument, a length, becomes this one.
    pub(super) fn shorten(thread: libc::pid_t, len: u64) -> Result<()> {
        change(thread, |registers| registers.rdx = len)
    }

    fn change(thread: libc::pid_t, how: impl FnOnce(&mut libc::user_regs_struct)) -> Result<()> {
        let mut registers = MaybeUninit::<libc::user_regs_struct>::zeroed();
        let place = registers.as_mut_ptr();
        // SAFETY: the kernel fills the registers, which are plain numbers; they outlive the call.
        let got = unsafe { libc::ptrace(libc::PTRACE_GETREGS, thread, null_mut::<libc::c_void>(), place) };
        if got == -1 {
            return Err(Error::last_os_error());
        }
        // SAFETY: filled, above, and of integers in any case.
        let mut registers = unsafe { registers.assume_init() };
        how(&mut registers);
        let place = &raw const registers;
        // SAFETY: the kernel reads the registers, which outlive the call.
        let set = unsafe { libc::ptrace(libc::PTRACE_SETREGS, thread, null_mut::<libc::c_void>(), place) };
        if set == -1 { Err(Error::last_os_error()) } else { Ok(()) }
    }
}

/// It is never called: see `run`.
#[cfg(not(target_arch = "x86_64"))]
mod registers {
    use super::Result;

    pub(super) fn skip(_: libc::pid_t) -> Result<()> {
        Ok(())
    }

    pub(super) fn answer(_: libc::pid_t, _: i32) -> Result<()> {
        Ok(())
    }

    pub(super) fn shorten(_: libc::pid_t, _: u64) -> Result<()> {
        Ok(())
    }
}

fn wait(whom: libc::pid_t, flags: libc::c_int) -> Result<(libc::pid_t, libc::c_int)> {
    let mut status = 0;
    // SAFETY: the place outlives the call.
    let who = unsafe { libc::waitpid(whom, &raw mut status, flags) };
    if who == -1 { Err(Error::last_os_error()) } else { Ok((who, status)) }
}

/// Makes a signal one that is only ever waited for.
fn only_waited_for(signal: libc::c_int) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the set is made empty before it is used, and outlives the calls.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), signal);
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), null_mut());
        set.assume_init()
    }
}

/// Sleeps until one of the signals comes, or the time is over.
fn sleep(until: &libc::sigset_t, most: Duration) {
    let time = libc::timespec { tv_sec: 0, tv_nsec: most.subsec_nanos() as _ };
    // SAFETY: both outlive the call, and nothing is written.
    unsafe { libc::sigtimedwait(until, null_mut(), &raw const time) };
}
