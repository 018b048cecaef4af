//! Runs a command with system calls that take as long as they like: a finder of faults that need
//! a process to be slow in the wrong moment.
//!
//! `cargo run --release --bin slowly -- --seed 1 target/release/torture --seconds 30`
#![allow(clippy::cast_possible_truncation)]

#[cfg(target_os = "linux")]
#[path = "../../tests/common/random.rs"]
mod random;
#[cfg(target_os = "linux")]
mod tracer;

#[cfg(target_os = "linux")]
fn main() {
    use std::time::Duration;
    let mut slowness = tracer::Slowness::default();
    let mut args = std::env::args_os().skip(1);
    let program = loop {
        let Some(word) = args.next() else { usage("a command") };
        let Some(name) = word.to_str().filter(|word| word.starts_with("--")) else { break word };
        let number = args.next().and_then(|value| value.to_str()?.parse().ok());
        let number: u64 = number.unwrap_or_else(|| usage(name));
        match name {
            "--seed" => slowness.seed = number,
            "--one-in" => slowness.one_in = number,
            "--step-one-in" => slowness.step_one_in = number,
            "--victim-one-in" => slowness.victim_one_in = number,
            "--interrupt-one-in" => slowness.interrupt_one_in = number,
            "--most-ms" => slowness.most = Duration::from_millis(number),
            _ => usage(name),
        }
    };
    let mut command = std::process::Command::new(program);
    match tracer::run(command.args(args), &slowness) {
        Ok(account) => {
            eprintln!("slowly: {account}");
            std::process::exit(account.code);
        }
        Err(error) => {
            eprintln!("slowly: {error}");
            std::process::exit(125);
        }
    }
}

#[cfg(target_os = "linux")]
fn usage(problem: &str) -> ! {
    eprintln!(
        "{problem}?\nslowly [--seed N] [--one-in N] [--step-one-in N] [--victim-one-in N] \
         [--interrupt-one-in N] [--most-ms N] COMMAND ARGS…"
    );
    std::process::exit(2)
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("this program needs Linux: nothing was run");
    std::process::exit(2);
}
