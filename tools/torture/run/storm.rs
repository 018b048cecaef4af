//! Kills, stops, moves and damages, which the workers do not expect.

use super::Settings;
use super::kinds::{self, Kind};
use super::sidecar::Sidecar;
use super::small_disk::SmallDisk;
use super::worker::{self, Task};
use crate::random::Random;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

/// All workers together may be without progress for no longer.
const STUCK: Duration = Duration::from_secs(90);

pub struct Storm<'s> {
    settings: &'s Settings,
    disk: Option<&'s SmallDisk>,
    dir: PathBuf,
    random: Random,
    /// Each with its number, and its place among them, which the next one takes.
    workers: Vec<(Child, u64, u64)>,
    pub path: PathBuf,
    pub histories: Vec<PathBuf>,
    pub violations: Vec<String>,
    kills: u64,
    stops: u64,
    sidecar: Sidecar,
    damages: BTreeMap<&'static str, u64>,
    moves: u64,
    floods: u64,
    took: Duration,
}

impl fmt::Display for Storm<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Storm { kills, stops, damages, moves, floods, .. } = self;
        let (seconds, processes) = (self.took.as_secs_f64(), self.settings.processes);
        write!(
            f,
            "{processes} processes for {seconds:.0} s, {kills} kills survived, {stops} stops, \
            sidecar damaged: {damages:?}, file moved {moves} times, disk filled {floods} times"
        )
    }
}

impl<'s> Storm<'s> {
    pub fn new(settings: &'s Settings, dir: &Path, disk: Option<&'s SmallDisk>) -> Storm<'s> {
        let path = disk.map_or(dir, SmallDisk::path).join("torture.mst");
        Storm {
            settings,
            disk,
            dir: dir.join("told"),
            random: Random(settings.seed),
            workers: Vec::new(),
            sidecar: Sidecar::new(&path),
            path,
            histories: Vec::new(),
            violations: Vec::new(),
            kills: 0,
            stops: 0,
            damages: BTreeMap::new(),
            moves: 0,
            floods: 0,
            took: Duration::ZERO,
        }
    }

    fn start(&mut self, place: u64) {
        let number = self.histories.len() as u64 + 1;
        let history = self.dir.join(format!("history-{number}"));
        let kinds = self.settings.kinds;
        // If there are more kinds than workers, those that are started later are of other kinds.
        let turn = if kinds.len() as u64 > self.settings.processes { number } else { place + 1 };
        let task = Task {
            kind: Kind::of(turn, kinds),
            path: self.path.clone(),
            history: history.clone(),
            number,
            seed: self.settings.seed,
            small_disk: self.disk.is_some(),
            mixed: self.settings.mixed(),
        };
        let child = worker::start_worker(&self.settings.worker_args, &task);
        self.histories.push(history);
        self.workers.push((child, number, place));
    }

    pub fn run(mut self) -> Storm<'s> {
        std::fs::create_dir_all(&self.dir).unwrap();
        if self.settings.mixed() {
            kinds::prepare(&self.path, &self.dir).unwrap();
        }
        let started = Instant::now();
        let time = Duration::from_secs(self.settings.seconds);
        for place in 0..self.settings.processes {
            self.start(place);
        }
        let mut progress = (0, Instant::now());
        while started.elapsed() < time && self.violations.is_empty() {
            std::thread::sleep(Duration::from_micros(self.random.below(8000)));
            // Kills are spread over the time, so that they fall into every phase.
            let due = self.settings.kills as f64 * started.elapsed().as_secs_f64() / time.as_secs_f64();
            if (self.kills as f64) < due {
                self.kill();
            }
            match self.random.below(120) {
                0..2 => self.stop_some(),
                2..4 if self.settings.damages => {
                    let how = self.sidecar.damage(&mut self.random, self.settings.mixed());
                    *self.damages.entry(how).or_default() += 1;
                }
                4 if self.disk.is_some() => self.flood(),
                5 if self.settings.mixed() => self.move_away(),
                6..8 => self.sidecar.copy(&mut self.random),
                _ => {}
            }
            let written: u64 =
                self.histories.iter().map(|path| std::fs::metadata(path).map_or(0, |meta| meta.len())).sum();
            if written > progress.0 {
                progress = (written, Instant::now());
            } else if progress.1.elapsed() > STUCK {
                self.violations.push(format!("nobody did anything for {STUCK:?}"));
            }
        }
        if let Some(disk) = self.disk {
            disk.drain();
        }
        self.end();
        self.took = started.elapsed();
        self
    }

    fn victim(&mut self) -> usize {
        self.random.below(self.workers.len() as u64) as usize
    }

    fn signal(&self, victim: usize, signal: i32) {
        let (child, ..) = &self.workers[victim];
        // SAFETY: the child was not waited for, so its id is its own.
        unsafe { libc::kill(child.id() as i32, signal) };
    }

    fn kill(&mut self) {
        let victim = self.victim();
        let (mut child, number, place) = self.workers.swap_remove(victim);
        let ended = child.try_wait().unwrap();
        let _ = child.kill();
        let _ = child.wait();
        self.judge_end(number, ended.map(|status| format!("ended by itself: {status}")));
        self.kills += 1;
        self.start(place);
    }

    fn judge_end(&mut self, number: u64, problem: Option<String>) {
        let failed = self.dir.join(format!("history-{number}.failed"));
        if let Ok(message) = std::fs::read_to_string(failed) {
            self.violations.push(format!("worker {number}: {message}"));
        } else if let Some(problem) = problem {
            self.violations.push(format!("worker {number} {problem}"));
        }
    }

    fn stop_some(&mut self) {
        let some: Vec<_> = (0..1 + self.random.below(3)).map(|_| self.victim()).collect();
        some.iter().for_each(|victim| self.signal(*victim, libc::SIGSTOP));
        std::thread::sleep(Duration::from_millis(self.random.below(200)));
        some.iter().for_each(|victim| self.signal(*victim, libc::SIGCONT));
        self.stops += some.len() as u64;
    }

    /// The data file loses its name for a moment.
    fn move_away(&mut self) {
        let away = self.path.with_extension("away");
        if self.random.below(4) == 0 && std::fs::rename(&self.path, &away).is_ok() {
            std::thread::sleep(Duration::from_micros(self.random.below(20_000)));
            std::fs::rename(&away, &self.path).unwrap();
            self.moves += 1;
        }
    }

    fn flood(&mut self) {
        if let Some(disk) = self.disk {
            disk.flood();
            std::thread::sleep(Duration::from_millis(self.random.below(300)));
            disk.drain();
            self.floods += 1;
        }
    }

    fn end(&mut self) {
        for (child, ..) in &mut self.workers {
            drop(child.stdin.take());
        }
        let started = Instant::now();
        for (mut child, number, _) in std::mem::take(&mut self.workers) {
            let status = loop {
                if let Some(status) = child.try_wait().unwrap() {
                    break Some(status);
                }
                if started.elapsed() > STUCK {
                    let _ = child.kill();
                    let _ = child.wait();
                    break None;
                }
                std::thread::sleep(Duration::from_millis(2));
            };
            let problem = match status {
                Some(status) if status.success() => None,
                Some(status) => Some(format!("failed: {status}")),
                None => Some("did not stop".to_owned()),
            };
            self.judge_end(number, problem);
        }
    }
}
