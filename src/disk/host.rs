//! The clocks of the system, its random numbers, and the identity of this process.

use crate::error::{Error, Holder, Result};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Longest command line that is published, in bytes.
const MAX_COMMAND: usize = 200;

/// Milliseconds of a monotonic clock that all processes of this boot share (on Linux: all of one time namespace).
/// Coarse by a few milliseconds, and read without a system call.
pub(crate) fn now_ms() -> u64 {
    #[cfg(target_os = "linux")]
    let clock = libc::CLOCK_MONOTONIC_COARSE;
    #[cfg(not(target_os = "linux"))]
    let clock = libc::CLOCK_UPTIME_RAW;
    nanoseconds(clock) / 1_000_000
}

/// Microseconds of such a clock, to the microsecond; also without a system call.
pub(crate) fn now_us() -> u64 {
    #[cfg(target_os = "linux")]
    let clock = libc::CLOCK_MONOTONIC;
    #[cfg(not(target_os = "linux"))]
    let clock = libc::CLOCK_UPTIME_RAW;
    nanoseconds(clock) / 1000
}

fn nanoseconds(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the result. The clocks asked for always exist.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// Microseconds since 1970, by the clock of the system, which may be set.
pub(crate) fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(0)
}

/// The time that a file gives in microseconds since 1970, which may be damaged: one in some thousand years at the latest.
pub(crate) fn time_of(unix_us: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(unix_us.min(1 << 55))
}

/// Random bytes of the system, for what concerns the file at `path`.
pub(crate) fn random<const N: usize>(path: &Path) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| Error::io("get random bytes", path, io::Error::other(e.to_string())))?;
    Ok(bytes)
}

/// The identity of this process: process id, host name, and the start of its command line.
pub(crate) fn process_identity() -> (u32, String, String) {
    let words: Vec<_> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    (std::process::id(), host_name(), cut(&words.join(" ")))
}

/// This process as the holder of a lock, since an unknown time.
pub(crate) fn this_process() -> Holder {
    let (pid, host, command) = process_identity();
    Holder { pid, host, command, since: None, stopped: false }
}

/// A number that no other opening of a store has, on any machine: a process id may also be that of an earlier
/// process, and in containers it always is.
pub(crate) fn incarnation() -> u64 {
    // Without randomness the time will do: it need not be hard to guess.
    getrandom::u64().unwrap_or_else(|_| now_us()).max(1)
}

pub(super) fn host_name() -> String {
    let mut name = [0_u8; 256];
    // SAFETY: writes at most the length given; the last byte stays zero.
    let result = unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) };
    if result != 0 {
        return String::new();
    }
    cut(&String::from_utf8_lossy(name.split(|b| *b == 0).next().unwrap_or_default()))
}

/// One line of at most [`MAX_COMMAND`] bytes, in whole characters.
pub(super) fn cut(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if out.len() + character.len_utf8() > MAX_COMMAND {
            break;
        }
        out.push(character);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::fork::tests::{in_child, wait_for};
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_clock_goes_on_and_is_shared() {
        let start = now_ms();
        std::thread::sleep(Duration::from_millis(50));
        let child = in_child(|| i32::from(!(start + 30..start + 20_000).contains(&now_ms())));
        assert_eq!(wait_for(child), 0);
        assert!((start + 30..start + 20_000).contains(&now_ms()));
    }

    #[test]
    fn the_process_has_a_name() {
        let (pid, host, command) = process_identity();
        assert_eq!(pid, std::process::id());
        assert!(!host.is_empty() && !command.is_empty() && command.len() <= MAX_COMMAND);
    }

    #[test]
    fn names_are_cut_at_characters_and_hold_no_control_codes() {
        assert_eq!(cut("a\nb\u{1b}[1m"), "a b [1m");
        let long = cut(&"ä".repeat(150));
        assert_eq!(long, "ä".repeat(100));
        assert_eq!(cut(&format!("x{}", "ä".repeat(150))).len(), 199);
    }
}
