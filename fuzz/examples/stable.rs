//! The fuzz targets without libFuzzer: replays the corpus, then feeds mutations of it, blindly, for
//! the given time. Finds less than coverage-guided fuzzing, but runs on any compiler.
//!
//! `stable TARGET|all SECONDS [FILE…]`; with files, only those are run. What fails is left in
//! `artifacts/TARGET/`.

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z ^ (z >> 29)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

fn corpus(root: &Path, target: &str) -> Vec<Vec<u8>> {
    let mut folders = vec![root.join("corpus").join(target)];
    if target == "open_bytes" {
        folders.push(root.join("../tests/fixtures/v2"));
    }
    let files = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten();
    let mut paths: Vec<PathBuf> = files.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths.iter().filter_map(|path| std::fs::read(path).ok()).collect()
}

/// An input from others: bytes changed, parts cut, joined and repeated.
fn mutate(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut data = corpus.get(random.below(corpus.len() + 1)).cloned().unwrap_or_default();
    for _ in 0..1 + random.below(8) {
        let at = random.below(data.len() + 1);
        match random.below(6) {
            0 => data.truncate(at),
            1 => {
                let n = 1 + random.below(24);
                data.splice(at..at, (0..n).map(|_| random.next() as u8));
            }
            2 => {
                let other = &corpus.get(random.below(corpus.len())).cloned().unwrap_or_default();
                let (from, n) = (random.below(other.len()), random.below(200));
                let part: Vec<u8> = other.iter().skip(from).take(n).copied().collect();
                data.splice(at..at, part);
            }
            _ => {
                let value = random.next() as u8;
                if let Some(byte) = data.get_mut(at) {
                    *byte = value;
                }
            }
        }
    }
    data
}

fn run(root: &Path, name: &str, target: fn(&[u8]), time: Duration) -> bool {
    let corpus = corpus(root, name);
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| d.as_nanos() as u64);
    let mut random = Random(seed);
    let (started, mut runs) = (Instant::now(), 0_u64);
    let mut replay = corpus.iter().cloned();
    loop {
        let data = match replay.next() {
            Some(data) => data,
            None if started.elapsed() >= time => break,
            None => mutate(&corpus, &mut random),
        };
        if catch_unwind(|| target(&data)).is_err() {
            let place = root.join("artifacts").join(name);
            let file = place.join(format!("stable-{seed:x}-{runs}"));
            let kept = std::fs::create_dir_all(&place).and_then(|()| std::fs::write(&file, &data));
            eprintln!("{name}: failed; the input is {}: {kept:?}", file.display());
            return false;
        }
        runs += 1;
    }
    println!("{name}: {} files of corpus, {runs} runs in {:.1} s", corpus.len(), started.elapsed().as_secs_f64());
    true
}

fn main() -> ExitCode {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut args = std::env::args().skip(1);
    let wanted = args.next().unwrap_or_else(|| "all".to_owned());
    let seconds = args.next().and_then(|s| s.parse().ok()).unwrap_or(20);
    let files: Vec<String> = args.collect();
    let mut good = true;
    let mut any = false;
    for (name, target) in memstone_fuzz::TARGETS.iter().filter(|(name, _)| wanted == "all" || wanted == *name) {
        any = true;
        for file in &files {
            target(&std::fs::read(file).expect("the file is readable"));
            println!("{name}: {file} is fine");
        }
        good &= !files.is_empty() || run(&root, name, *target, Duration::from_secs(seconds));
    }
    if !any {
        eprintln!("no target {wanted}");
    }
    if good && any { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
