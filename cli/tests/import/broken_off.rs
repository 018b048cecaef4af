//! An import that ends early leaves nothing under the final name.

use std::io::Write;
use std::process::{Command, Stdio};

use super::names;
use super::support::{Bench, json};

fn line(n: u64) -> String {
    format!("{{\"id\":{n},\"text\":\"{}\"}}\n", "x".repeat(200))
}

fn import_from_a_pipe(bench: &Bench) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_memstone"));
    command.args(["import", "--from", "jsonl", "-"]).arg(&bench.file).args(["--key", "id", "--json"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Killed with all lines but the end of the pipe read, or some of them, or none: at each of these moments.
#[test]
fn killed_while_it_reads() {
    for lines in [0, 1, 10_000, 100_000] {
        let bench = Bench::new();
        let mut child = import_from_a_pipe(&bench).spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        // What fits the pipe's buffer may still be unread; all before it has been taken.
        (0..lines).for_each(|n| pipe.write_all(line(n).as_bytes()).unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!bench.file.exists(), "{lines} lines");
        // What the dead left does not stand in the way of the next.
        let mut child = import_from_a_pipe(&bench).spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        (0..3).for_each(|n| pipe.write_all(line(n).as_bytes()).unwrap());
        drop(pipe);
        let done = child.wait_with_output().unwrap();
        assert!(done.status.success(), "{done:?}");
        assert_eq!(bench.ok("count", &[]), "3\n");
    }
}

/// Killed at any moment of the end, too: by then the store has its name and is whole, or it has none.
#[test]
fn killed_when_it_is_almost_done() {
    const ROWS: u64 = 2_000;
    for round in 0..40_u32 {
        let bench = Bench::new();
        let mut child = import_from_a_pipe(&bench).spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        (0..ROWS).for_each(|n| pipe.write_all(line(n).as_bytes()).unwrap());
        drop(pipe);
        std::thread::sleep(std::time::Duration::from_micros(u64::from(round) * 400));
        child.kill().unwrap();
        child.wait().unwrap();
        if bench.file.exists() {
            assert_eq!(bench.ok("count", &[]), format!("{ROWS}\n"));
            bench.ok("check", &[]);
        }
    }
}

#[test]
fn ended_by_a_signal_it_leaves_nothing() {
    let bench = Bench::new();
    let mut child = import_from_a_pipe(&bench).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    (0..10_000).for_each(|n| pipe.write_all(line(n).as_bytes()).unwrap());
    let pid = i32::try_from(child.id()).unwrap();
    // SAFETY: it only sends a signal, to a child that has not been waited for.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGTERM) }, 0);
    drop(pipe);
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(5), "{done:?}");
    assert_eq!(json(str::from_utf8(&done.stderr).unwrap())["error"]["kind"], "cancelled");
    assert!(names(bench.dir.path()).is_empty(), "{:?}", names(bench.dir.path()));
}

/// No file may grow beyond a limit: what a full disk is to a program, on every machine.
#[test]
fn without_room_it_leaves_nothing() {
    use std::os::unix::process::CommandExt;
    for limit in [1 << 20, 6 << 20, 20 << 20] {
        let bench = Bench::new();
        let mut command = import_from_a_pipe(&bench);
        // SAFETY: between fork and exec only this call is made, which takes no lock.
        unsafe {
            command.pre_exec(move || {
                let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
                if libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) == 0 {
                    Ok(())
                } else {
                    Err(std::io::Error::last_os_error())
                }
            })
        };
        let mut child = command.spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        // It may end before it has read all.
        let _ = (0..150_000).try_for_each(|n| pipe.write_all(line(n).as_bytes()));
        drop(pipe);
        let done = child.wait_with_output().unwrap();
        assert_eq!(done.status.code(), Some(5), "{limit}: {done:?}");
        assert!(String::from_utf8_lossy(&done.stderr).contains("no space left"), "{limit}: {done:?}");
        assert!(names(bench.dir.path()).is_empty(), "{:?}", names(bench.dir.path()));
    }
}
