//! `memstone with-lock`: runs a command while nobody else can write.

use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus};

use clap::Args;
use memstone::{Store, WriteOptions};

use crate::Common;
use crate::failure::Failure;

/// Run a command while this process holds the store's writer lock
///
/// The command must not write to the same store: it would wait for the lock that is held for it.
/// Reading is free. The exit code is the command's. Signals that ask this process to end are
/// passed on to the command, and the lock is held until it has ended. The store is created if it
/// is not there.
#[derive(Args)]
pub(crate) struct WithLock {
    /// The store's file
    file: PathBuf,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl WithLock {
    pub(crate) fn run(self, common: &Common) -> Result<ExitCode, Failure> {
        let [program, arguments @ ..] = self.command.as_slice() else {
            return Err(Failure::Usage("there is no command to run".to_owned()));
        };
        let store = Store::options().timeout(common.timeout).open(&self.file)?;
        let lock = store.begin_write_with(WriteOptions::new().timeout(common.timeout))?;
        let status = run(Command::new(program).args(arguments))
            .map_err(|error| Failure::Other(format!("{program}: cannot be run: {error}")))?;
        lock.rollback();
        Ok(exit_code(status))
    }
}

fn exit_code(status: ExitStatus) -> ExitCode {
    #[cfg(unix)]
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    #[cfg(not(unix))]
    let signal: Option<i32> = None;
    let code = status.code().or(signal.map(|signal| 128 + signal)).unwrap_or(1);
    // What a shell would make of it.
    ExitCode::from(u8::try_from(code & 0xFF).unwrap_or(1))
}

#[cfg(not(unix))]
fn run(command: &mut Command) -> std::io::Result<ExitStatus> {
    command.spawn()?.wait()
}

/// Waits for the command, and passes on the signals that would have ended this process.
///
/// The end of the command is itself a signal (SIGCHLD), so that one loop sees all in their order:
/// nothing is ever sent to a process id whose process has been waited for.
#[cfg(unix)]
fn run(command: &mut Command) -> std::io::Result<ExitStatus> {
    use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM};
    // Before the command starts, so that its end cannot be missed.
    let mut signals = signal_hook::iterator::Signals::new([SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM])?;
    let mut child = command.spawn()?;
    for signal in signals.forever() {
        match signal {
            SIGCHLD => {
                if let Some(status) = child.try_wait()? {
                    return Ok(status);
                }
            }
            // The keys of a terminal reach the command by themselves.
            SIGINT | SIGQUIT => {}
            other => pass_on(&child, other),
        }
    }
    child.wait()
}

#[cfg(unix)]
fn pass_on(child: &std::process::Child, signal: i32) {
    let Ok(pid) = libc::pid_t::try_from(child.id()) else { return };
    // SAFETY: `kill` takes no memory, and the process has not been waited for, so the id is its own.
    unsafe { libc::kill(pid, signal) };
}
