//! A run: a storm over the workers, then the verdict on what they wrote down.

pub mod clock;
pub mod history;
#[cfg(test)]
mod judge_tests;
pub mod kinds;
pub mod lists;
pub mod order;
pub mod peek;
pub mod replaced;
pub mod sidecar;
pub mod small_disk;
pub mod storm;
pub mod verdict;
pub mod worker;

use kinds::Kind;
use std::path::{Path, PathBuf};
use verdict::Verdict;

/// The settings of a run.
#[derive(Clone)]
pub struct Settings {
    pub seconds: u64,
    pub processes: u64,
    pub kills: u64,
    pub seed: u64,
    /// Where the store and the histories lie; a temporary directory if not given.
    pub dir: Option<PathBuf>,
    /// The arguments that make the program a worker.
    pub worker_args: Vec<String>,
    /// Whether small disks are made and filled.
    pub disks: bool,
    /// By what ways and with what rights workers come to the store, one after the other. If not all in the same way,
    /// they may be refused, and the file is moved, too.
    pub kinds: &'static [Kind],
    /// Whether the sidecar is damaged.
    pub damages: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            seconds: 20,
            processes: 10,
            kills: 100,
            seed: 1,
            dir: None,
            worker_args: Vec::new(),
            disks: true,
            kinds: kinds::ALL,
            damages: true,
        }
    }
}

impl Settings {
    pub fn mixed(&self) -> bool {
        self.kinds != [Kind::Plain]
    }
}

/// The storm in a directory, others of few kinds, the file replaced; then one on each kind of small disk that can be made here.
pub fn everything(settings: &Settings) -> bool {
    let temporary = tempfile::tempdir().unwrap();
    let dir = settings.dir.clone().unwrap_or_else(|| temporary.path().to_path_buf());
    std::fs::create_dir_all(&dir).unwrap();
    let mut good = once("directory", settings, &dir, None);
    if settings.mixed() {
        let few =
            [("two names", kinds::TWO_NAMES), ("no sidecar", kinds::NO_SIDECAR), ("one by one", kinds::ONE_BY_ONE)];
        for (name, kinds) in few {
            let (seconds, kills) = (settings.seconds.div_ceil(4), settings.kills.div_ceil(8));
            let part = Settings { seconds, kills, processes: 3, kinds, ..settings.clone() };
            good &= once(name, &part, &dir.join(name.replace(' ', "-")), None);
        }
        let wrong = replaced::violations(settings, &dir);
        wrong.iter().for_each(|violation| println!("VIOLATION: {violation}"));
        good &= wrong.is_empty();
    }
    if settings.disks {
        for kind in small_disk::KINDS {
            match small_disk::SmallDisk::make(kind, &dir) {
                Ok(disk) => {
                    let part = Settings {
                        seconds: settings.seconds.div_ceil(5),
                        kills: settings.kills / 10,
                        kinds: &[Kind::Plain],
                        ..settings.clone()
                    };
                    good &= once(kind, &part, &dir.join(kind), Some(&disk));
                }
                Err(why) => println!("{kind}: skipped, {why}"),
            }
        }
    }
    if !good {
        // The files that a violation left are worth more than a tidy directory.
        let temporary = temporary.keep();
        println!("everything is left in {}", settings.dir.as_ref().unwrap_or(&temporary).display());
    }
    good
}

fn once(name: &str, settings: &Settings, dir: &Path, disk: Option<&small_disk::SmallDisk>) -> bool {
    std::fs::create_dir_all(dir).unwrap();
    let storm = storm::Storm::new(settings, dir, disk).run();
    let mut verdict = Verdict::default();
    verdict.violations.extend(storm.violations.iter().cloned());
    verdict.judge(&storm.path, &storm.histories);
    println!("{name}: {storm}; {verdict}");
    for violation in verdict.shown() {
        println!("{name}: VIOLATION: {violation}");
    }
    if !verdict.violations.is_empty() {
        println!("{name}: seed {}", settings.seed);
    }
    verdict.violations.is_empty()
}
