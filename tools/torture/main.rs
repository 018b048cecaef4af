//! Many processes on one store, under everything that may happen to a process: killed and stopped
//! at any instant, the sidecar damaged, checkpoints forced, snapshots held for long, the disk full.
//! Each writes down what it did and saw; in the end all of it must fit one order of commits.
//!
//! `cargo run --release --bin torture -- --seconds 60 --processes 8 --kills 200 --seed 1`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation)]

#[cfg(unix)]
#[path = "../../tests/common/random.rs"]
mod random;
#[cfg(unix)]
mod run;

#[cfg(unix)]
fn main() {
    if run::worker::play() {
        return;
    }
    let mut settings = run::Settings::default();
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        match name.as_str() {
            "--plain" => settings.kinds = &[run::kinds::Kind::Plain],
            "--undamaged" => settings.damages = false,
            _ => set(&mut settings, &name, &args.next().unwrap_or_else(|| usage(&name))),
        }
    }
    let good = run::everything(&settings);
    std::process::exit(i32::from(!good));
}

#[cfg(unix)]
fn set(settings: &mut run::Settings, name: &str, value: &str) {
    let number = || value.parse().unwrap_or_else(|_| usage(name));
    match name {
        "--seconds" => settings.seconds = number(),
        "--processes" => settings.processes = number(),
        "--kills" => settings.kills = number(),
        "--seed" => settings.seed = number(),
        "--dir" => settings.dir = Some(value.into()),
        _ => usage(name),
    }
}

#[cfg(unix)]
fn usage(problem: &str) -> ! {
    eprintln!(
        "{problem}?\ntorture [--seconds N] [--processes N] [--kills N] [--seed S] [--dir DIR] [--plain] [--undamaged]"
    );
    std::process::exit(2)
}

#[cfg(not(unix))]
fn main() {
    println!("this program needs signals: nothing was done");
}
