//! `memstone demo`: many processes write, read and watch one store; one of them is killed; then
//! everything that was acknowledged is looked for.

mod notes;
mod team;
mod verdict;
pub(crate) mod worker;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use memstone::Store;

use self::team::Team;
use self::verdict::Verdict;
use crate::failure::Failure;
use crate::output::Output;

/// Show that nothing is lost: many processes, one file, one of them killed
///
/// Starts several processes that store real text (the Markdown files below docs/, if there are
/// any) as notes in one fresh store. Each note is one transaction that also adds it to a document
/// that all writers share, and counts it. Another process reads and compares, another one watches. Half
/// way one writer is killed with SIGKILL. In the end every commit that was acknowledged is looked
/// for, and the file is checked in full. Exits with 0 only if nothing is lost, doubled or damaged.
#[derive(Args)]
pub(crate) struct Demo {
    /// Keep the store in this folder, not in a temporary one
    #[arg(long)]
    dir: Option<PathBuf>,
    /// How long the processes work
    #[arg(long, value_name = "N", default_value = "5", value_parser = crate::seconds)]
    seconds: Duration,
    /// How many processes write; one that reads and one that watches come on top
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(2..=1000))]
    processes: u32,
    /// Store the Markdown files of this folder
    #[arg(long, value_name = "DIR")]
    docs: Option<PathBuf>,
}

impl Demo {
    pub(crate) fn run(self, out: &mut Output) -> Result<(), Failure> {
        let sources = notes::collect(self.docs.as_deref())?;
        let unique = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_nanos();
        let name = format!("memstone-demo-{}-{unique}", std::process::id());
        let folder = self.dir.clone().unwrap_or_else(|| std::env::temp_dir().join(&name));
        match &self.dir {
            Some(folder) => fs::create_dir_all(folder)?,
            // Never one that another program has put there.
            None => fs::create_dir(&folder)?,
        }
        let file = folder.join(format!("{name}.mst"));
        if !out.json() {
            let paragraphs: usize = sources.iter().map(|source| source.paragraphs.len()).sum();
            out.line(format_args!(
                "{} writers, 1 reader and 1 watcher for {} s on {}: {paragraphs} paragraphs from {} texts",
                self.processes,
                self.seconds.as_secs_f64(),
                file.display(),
                sources.len()
            ))?;
            out.flush()?;
        }
        let verdict = self.work(&file)?;
        verdict.print(out)?;
        if !verdict.is_good() {
            return Err(Failure::Other(format!("the demo failed; its store is left in {}", file.display())));
        }
        if self.dir.is_none() {
            fs::remove_dir_all(&folder)?;
        }
        Ok(())
    }

    fn work(&self, file: &Path) -> Result<Verdict, Failure> {
        let store = Store::open(file)?;
        let mut team = Team::start(file, self.processes, self.seconds, self.docs.as_deref())?;
        let bar = ProgressBar::new(u64::try_from(self.seconds.as_millis()).unwrap_or(u64::MAX));
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent:>3} %  {msg}") {
            bar.set_style(style);
        }
        let start = Instant::now();
        let (mut killed, mut stats) = (None, None);
        while start.elapsed() < self.seconds {
            std::thread::sleep(Duration::from_millis(50));
            if killed.is_none() && start.elapsed() >= self.seconds / 2 {
                team.kill_first()?;
                killed = Some(start.elapsed());
            }
            // Each process keeps its own counters, so they are read while the processes are there.
            if stats.is_none() && start.elapsed() >= self.seconds.mul_f64(0.9) {
                stats = Some(store.stats()?);
            }
            bar.set_position(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX));
            let kill = killed.map_or("", |_| ", one writer killed");
            bar.set_message(format!("{} commits acknowledged{kill}", team.acknowledged()));
        }
        let members = team.finish();
        bar.finish_and_clear();
        store.close()?;
        Verdict::reach(file, members, self.seconds, stats)
    }
}
