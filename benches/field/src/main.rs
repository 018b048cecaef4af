//! memstone beside the stores that do the same job today: the same rows, the same machine, the same hour.

mod child;
mod data;
mod disk;
mod engine;
mod engines;
mod many;
mod report;
mod shape;
mod shapes;
mod single;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};

use crate::child::{Child, Job, Task};
use crate::engines::Kind;
use crate::many::Commits;
use crate::report::{cells, header, median, number, row, spread};
use crate::shape::Shape;

/// Measures memstone, LMDB, redb, SQLite and fjall side by side and prints markdown tables.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// What to measure.
    #[arg(value_enum, default_value_t = What::All)]
    what: What,
    /// The stores, by name [default: all].
    #[arg(long, value_enum, value_delimiter = ',')]
    engines: Vec<Kind>,
    /// The size of the first table; the stores of the other tables start with a fifth of it.
    #[arg(long, default_value_t = 500_000)]
    rows: usize,
    /// How often each is run, interleaved; the tables show medians.
    #[arg(long, default_value_t = 3)]
    repeats: usize,
    /// How many processes commit at once, for the second table; 64 only for memstone.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 4, 16, 64])]
    processes: Vec<usize>,
    /// How long the processes of the second and third table run.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// The shapes of the fourth table [default: all].
    #[arg(long, value_enum, value_delimiter = ',')]
    shape: Vec<Shape>,
    /// The rows of the fourth table are divided by this.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Where the stores are put while they are measured; must be on a disk [default: the target directory].
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Used by the harness itself for the processes it starts.
    #[arg(long, hide = true)]
    job: Option<String>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum What {
    /// One process alone.
    Single,
    /// Many processes committing at once.
    Many,
    /// One process reading while another commits.
    Reads,
    /// What other shapes of data take of the disk.
    Shapes,
    /// All four.
    All,
}

fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    if let Some(job) = &arguments.job {
        return child::work(job);
    }
    if arguments.engines.is_empty() {
        arguments.engines = Kind::all().to_vec();
    }
    if arguments.shape.is_empty() {
        arguments.shape = Shape::value_variants().to_vec();
    }
    let parent = match &arguments.dir {
        Some(dir) => dir.clone(),
        None => std::env::current_exe()?.ancestors().nth(2).context("no target directory")?.to_owned(),
    };
    disk::require_disk(&parent)?;
    let run = Run { directory: tempfile::Builder::new().prefix("field-").tempdir_in(parent)?, arguments };
    let what = run.arguments.what;
    if matches!(what, What::Single | What::All) {
        run.single()?;
    }
    if matches!(what, What::Many | What::All) {
        run.many()?;
    }
    if matches!(what, What::Reads | What::All) {
        run.reads()?;
    }
    if matches!(what, What::Shapes | What::All) {
        run.shapes()?;
    }
    Ok(())
}

struct Run {
    arguments: Arguments,
    directory: tempfile::TempDir,
}

impl Run {
    fn engines(&self) -> &[Kind] {
        &self.arguments.engines
    }

    fn time(&self) -> Duration {
        Duration::from_secs_f64(self.arguments.seconds)
    }

    /// A new directory for one run, on a disk that has come to rest.
    fn fresh(&self) -> Result<tempfile::TempDir> {
        disk::settle(self.directory.path())?;
        Ok(tempfile::tempdir_in(self.directory.path())?)
    }

    fn raw(&self) -> Result<f64> {
        disk::raw_flushes(self.directory.path(), Duration::from_millis(500))
    }

    /// The stores of the second and third table start with these rows.
    fn loaded(&self) -> usize {
        (self.arguments.rows / 5).max(1)
    }

    fn job(&self, engine: Kind, dir: &Path, task: Task) -> Job {
        Job { engine, dir: dir.to_owned(), rows: self.loaded(), task }
    }

    fn single(&self) -> Result<()> {
        let rows = self.arguments.rows;
        let mut runs = vec![Vec::new(); self.engines().len()];
        let mut raw = Vec::new();
        for repeat in 1..=self.arguments.repeats {
            for (engine, runs) in self.engines().iter().zip(&mut runs) {
                eprintln!("one process, run {repeat}: {}", engine.title());
                let dir = self.fresh()?;
                raw.push(self.raw()?);
                let job = Job { engine: *engine, dir: dir.path().to_owned(), rows, task: Task::Single };
                let figures: Vec<f64> = Child::start(&job)?.outcome().with_context(|| engine.title())?;
                runs.push(figures);
            }
        }
        let titles = self.engines().iter().map(|engine| engine.title().to_owned());
        header(&std::iter::once(format!("one process, {rows} rows (ms)")).chain(titles).collect::<Vec<_>>());
        for (number, label) in single::Plan::new(rows).labels().iter().enumerate() {
            let middle = |runs: &Vec<Vec<f64>>| median(runs.iter().map(|figures| figures[number]).collect());
            let figures: Vec<f64> = runs.iter().map(middle).collect();
            row(std::iter::once(label.clone()).chain(cells(&figures, true)));
        }
        self.footer(&raw);
        Ok(())
    }

    fn footer(&self, raw: &[f64]) {
        println!(
            "\nMedian of {} runs. Raw pwrite of 4 KiB + fdatasync in the same run: {} per second.\n",
            self.arguments.repeats,
            spread(raw)
        );
    }

    fn many(&self) -> Result<()> {
        let counts = &self.arguments.processes;
        let mut results: Vec<Vec<Vec<Outcome>>> = vec![vec![Vec::new(); counts.len()]; self.engines().len()];
        let mut raw = Vec::new();
        for repeat in 1..=self.arguments.repeats {
            for (column, &count) in counts.iter().enumerate() {
                for (&engine, results) in self.engines().iter().zip(&mut results) {
                    if count > 16 && engine.title() != "memstone" {
                        continue;
                    }
                    eprintln!("processes: {count}, run {repeat}: {}", engine.shared_title());
                    let dir = self.fresh()?;
                    raw.push(self.raw()?);
                    let outcome = self.commit_together(engine, dir.path(), count);
                    results[column].push(outcome.with_context(|| engine.shared_title())?);
                }
            }
        }
        let rates = counts.iter().map(|count| format!("{count} process{}", if *count == 1 { "" } else { "es" }));
        let details = [
            "fewest / most commits of a process, at 16",
            "longest commit, at 16",
            "KB accounted per commit, at 1 / 16",
            "KB on the device per commit, at 1 / 16",
        ];
        let mut titles = vec!["durable one-row commits per second".to_owned()];
        titles.extend(rates.chain(details.map(str::to_owned)));
        header(&titles);
        for (engine, results) in self.engines().iter().zip(&results) {
            let mut line = vec![engine.shared_title().to_owned()];
            let middles: Vec<Option<&Outcome>> = results.iter().map(|outcomes| middle(outcomes)).collect();
            line.extend(middles.iter().map(|outcome| outcome.map_or("–".to_owned(), Outcome::rate_cell)));
            let at = |count| middles[counts.iter().position(|&other| other == count)?]?.figures();
            let (alone, crowd) = (at(1), at(16));
            line.push(crowd.map_or("–".to_owned(), Figures::shares));
            line.push(crowd.map_or("–".to_owned(), |figures| format!("{} ms", number(figures.worst_ms))));
            let bytes = |figure: fn(&Figures) -> f64| {
                let kilobytes = |at: Option<&Figures>| number(at.map_or(f64::NAN, figure) / 1e3);
                format!("{} / {}", kilobytes(alone), kilobytes(crowd))
            };
            line.push(bytes(|figures| figures.bytes));
            line.push(bytes(|figures| figures.device));
            row(line);
        }
        println!();
        for (engine, results) in self.engines().iter().zip(&results) {
            for (count, outcomes) in counts.iter().zip(results).filter(|(count, _)| **count > 16) {
                if let Some(figures) = middle(outcomes).and_then(Outcome::figures) {
                    let (shares, worst) = (figures.shares(), number(figures.worst_ms));
                    println!(
                        "{} at {count}: {shares} commits of a process, longest {worst} ms, {} KB on the device per commit.",
                        engine.shared_title(),
                        number(figures.device / 1e3)
                    );
                }
            }
        }
        println!("{} s each on a store of {} rows.", self.arguments.seconds, self.loaded());
        self.footer(&raw);
        Ok(())
    }

    fn commit_together(&self, engine: Kind, dir: &Path, count: usize) -> Result<Outcome> {
        Child::start(&self.job(engine, dir, Task::Load))?.outcome::<()>()?;
        disk::settle(dir)?;
        let written = disk::device_written(dir);
        let mut children = Vec::new();
        for process in 0..count as u64 {
            let mut child = Child::start(&self.job(engine, dir, Task::Commits { process, time: self.time() }))?;
            match child.wait_ready() {
                Ok(()) => children.push(child),
                Err(error) if process > 0 => {
                    eprintln!("  refused: {error:#}");
                    return Ok(Outcome::Refused);
                }
                Err(error) => return Err(error),
            }
        }
        children.iter_mut().try_for_each(Child::go)?;
        let done: Vec<Commits> = children.into_iter().map(Child::outcome).collect::<Result<_>>()?;
        let acknowledged: Vec<u64> = done.iter().map(|commits| commits.acknowledged).collect();
        let total = acknowledged.iter().sum::<u64>().max(1) as f64;
        disk::settle(dir)?;
        let device = written.zip(disk::device_written(dir)).map(|(before, after)| (after - before) as f64 / total);
        Child::start(&self.job(engine, dir, Task::Verify { acknowledged }))?.outcome::<()>()?;
        let in_time = |commits: &Commits| commits.in_time;
        Ok(Outcome::Done(Figures {
            rate: done.iter().map(in_time).sum::<u64>() as f64 / self.arguments.seconds,
            fewest: done.iter().map(in_time).min().unwrap_or(0),
            most: done.iter().map(in_time).max().unwrap_or(0),
            worst_ms: done.iter().map(|commits| commits.worst_ms).fold(0.0, f64::max),
            bytes: done.iter().map(|commits| commits.bytes).sum::<u64>() as f64 / total,
            device: device.unwrap_or(f64::NAN),
            failed: done.iter().map(|commits| commits.failed).sum(),
        }))
    }

    fn reads(&self) -> Result<()> {
        let mut results: Vec<Vec<(f64, f64)>> = vec![Vec::new(); self.engines().len()];
        for repeat in 1..=self.arguments.repeats {
            for (&engine, results) in self.engines().iter().zip(&mut results) {
                eprintln!("reads beside a writer, run {repeat}: {}", engine.shared_title());
                let dir = self.fresh()?;
                let outcome = self.read_beside_writer(engine, dir.path());
                results.extend(outcome.with_context(|| engine.shared_title())?);
            }
        }
        let header_cells = ["one process reads while another commits", "reads per second", "commits per second"];
        header(&header_cells.map(str::to_owned));
        let column = |figure: fn(&(f64, f64)) -> f64| -> Vec<f64> {
            results.iter().map(|runs| median(runs.iter().map(figure).collect())).collect()
        };
        let (reads, commits) = (cells(&column(|run| run.0), false), cells(&column(|run| run.1), false));
        for ((engine, reads), commits) in self.engines().iter().zip(reads).zip(commits) {
            let refused = if reads == "–" { ": one process only" } else { "" };
            row([format!("{}{refused}", engine.shared_title()), reads, commits]);
        }
        println!(
            "\nRandom reads, a snapshot each, on a store of {} rows. Median of {} runs.",
            self.loaded(),
            self.arguments.repeats
        );
        Ok(())
    }

    /// Reads and commits per second, or nothing if the store refuses the second process.
    fn read_beside_writer(&self, engine: Kind, dir: &Path) -> Result<Option<(f64, f64)>> {
        Child::start(&self.job(engine, dir, Task::Load))?.outcome::<()>()?;
        disk::settle(dir)?;
        let mut writer = Child::start(&self.job(engine, dir, Task::Commits { process: 0, time: self.time() }))?;
        writer.wait_ready()?;
        let mut reader = Child::start(&self.job(engine, dir, Task::Reads { time: self.time() }))?;
        if let Err(error) = reader.wait_ready() {
            eprintln!("  refused: {error:#}");
            return Ok(None);
        }
        writer.go()?;
        reader.go()?;
        let reads: u64 = reader.outcome()?;
        let commits: Commits = writer.outcome()?;
        ensure!(commits.failed == 0, "{} commits failed beside a reader", commits.failed);
        let seconds = self.arguments.seconds;
        Ok(Some((reads as f64 / seconds, commits.in_time as f64 / seconds)))
    }
}

/// What one run of several processes came to.
#[derive(Clone)]
enum Outcome {
    Refused,
    Done(Figures),
}

#[derive(Clone)]
struct Figures {
    rate: f64,
    fewest: u64,
    most: u64,
    worst_ms: f64,
    /// Bytes per commit as the kernel accounts them to the processes.
    bytes: f64,
    /// Bytes per commit that reached the device, the filesystem's own and the closing of the stores included.
    device: f64,
    failed: u64,
}

impl Figures {
    /// The fewest and the most commits of a process: how fair the store is.
    fn shares(&self) -> String {
        format!("{} / {}", self.fewest, self.most)
    }
}

impl Outcome {
    fn figures(&self) -> Option<&Figures> {
        match self {
            Outcome::Refused => None,
            Outcome::Done(figures) => Some(figures),
        }
    }

    fn rate_cell(&self) -> String {
        match self {
            Outcome::Refused => "one process only".to_owned(),
            Outcome::Done(Figures { rate, failed: 0, .. }) => number(*rate),
            Outcome::Done(Figures { rate, failed, .. }) => format!("{} ({failed} failed)", number(*rate)),
        }
    }
}

/// The run with the middle rate: its figures belong together.
fn middle(outcomes: &[Outcome]) -> Option<&Outcome> {
    let rate = |outcome: &Outcome| outcome.figures().map_or(0.0, |figures| figures.rate);
    let mut sorted: Vec<&Outcome> = outcomes.iter().collect();
    sorted.sort_by(|a, b| rate(a).total_cmp(&rate(b)));
    sorted.get(sorted.len() / 2).copied()
}
