//! The demo's processes: writers, a reader, a watcher. Each tells its parent on standard output,
//! line by line, what it has done.

use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use memstone::{Store, Table};
use serde::{Deserialize, Serialize};

use super::notes::{self, Source};
use crate::failure::Failure;

/// A note, found by its writer and number.
#[derive(Serialize, Deserialize)]
pub(super) struct Note {
    source: String,
    text: String,
}

/// A writer's number, and its own count of notes from 0.
pub(super) type NoteId = (u32, u64);

pub(super) const NOTES: Table<NoteId, Note> = Table::new("notes");
/// The documents that all writers share: by source and chapter, the notes in the order they came.
pub(super) const DOCUMENTS: Table<(&str, u32), Vec<NoteId>> = Table::new("documents");
/// How many notes there are, counted by the writers.
pub(super) const COUNTS: Table<&str, u64> = Table::new("counts");
pub(super) const ALL_NOTES: &str = "notes";

/// Long documents are cut into chapters, since every change writes the whole of one.
const CHAPTER_NOTES: usize = 32;

#[derive(Args)]
pub(crate) struct Worker {
    #[arg(long)]
    file: PathBuf,
    #[arg(long, value_enum)]
    role: Role,
    #[arg(long)]
    id: u32,
    #[arg(long)]
    seconds: f64,
    #[arg(long)]
    docs: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Role {
    Writer,
    Reader,
    Watcher,
}

/// A worker's line to its parent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// The store is open.
    Ready,
    /// The commit of this note has returned; how long the turn to write and the whole took.
    Committed { number: u64, waited: Duration, took: Duration },
    /// So many snapshots read, or commits seen, so far.
    Seen(u64),
    /// Something that must never be.
    Broken(String),
}

impl Message {
    /// Tells the parent at once: what it has not read when this process is killed was not done.
    fn send(&self) -> Result<(), Failure> {
        let line = match self {
            Message::Ready => "ready\n".to_owned(),
            Message::Committed { number, waited, took } => {
                format!("committed {number} {} {}\n", waited.as_micros(), took.as_micros())
            }
            Message::Seen(count) => format!("seen {count}\n"),
            Message::Broken(what) => format!("broken {}\n", what.replace('\n', " ")),
        };
        let mut out = io::stdout().lock();
        out.write_all(line.as_bytes())?;
        Ok(out.flush()?)
    }

    pub(super) fn parse(line: &str) -> Option<Message> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "ready" => Some(Message::Ready),
            "committed" => {
                let mut numbers = rest.split(' ').map(str::parse::<u64>);
                let mut next = || numbers.next()?.ok();
                Some(Message::Committed {
                    number: next()?,
                    waited: Duration::from_micros(next()?),
                    took: Duration::from_micros(next()?),
                })
            }
            "seen" => rest.parse().ok().map(Message::Seen),
            "broken" => Some(Message::Broken(rest.to_owned())),
            _ => None,
        }
    }
}

impl Worker {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let sources = notes::collect(self.docs.as_deref())?;
        let store = Store::open(&self.file)?;
        Message::Ready.send()?;
        // All start together. An end of input instead of a line means that the parent is gone.
        if io::stdin().lock().read_line(&mut String::new())? == 0 {
            return Ok(());
        }
        let seconds = Duration::try_from_secs_f64(self.seconds).unwrap_or_default();
        let end = Instant::now() + seconds;
        match self.role {
            Role::Writer => write(&store, self.id, &sources, end),
            Role::Reader => read(&store, &sources, end),
            Role::Watcher => watch(&store, end),
        }
    }
}

fn write(store: &Store, id: u32, sources: &[Source], end: Instant) -> Result<(), Failure> {
    let notes = sources.iter().flat_map(|source| source.paragraphs.iter().map(move |text| (&source.name, text)));
    // Each begins elsewhere in the text, and they meet in the same documents.
    let start = usize::try_from(id).unwrap_or_default();
    for (number, (source, text)) in (0..).zip(notes.cycle().skip(start * 7)) {
        let begun = Instant::now();
        // Each writes at least once, however slow the machine is.
        if number > 0 && begun >= end {
            break;
        }
        let txn = store.begin_write()?;
        let waited = begun.elapsed();
        txn.table(NOTES)?.put((id, number), Note { source: source.clone(), text: text.clone() })?;
        let documents = txn.table(DOCUMENTS)?;
        let (chapter, mut notes) = match documents.prefix((source,))?.next_back().transpose()? {
            Some(((_, chapter), notes)) if notes.len() < CHAPTER_NOTES => (chapter, notes),
            Some(((_, chapter), _)) => (chapter.saturating_add(1), Vec::new()),
            None => (0, Vec::new()),
        };
        notes.push((id, number));
        documents.put((source, chapter), notes)?;
        txn.table(COUNTS)?.update(ALL_NOTES, |count| Some(count.unwrap_or(0) + 1))?;
        txn.commit()?;
        Message::Committed { number, waited, took: begun.elapsed() }.send()?;
    }
    Ok(())
}

/// Reads snapshots, each of which must be of one piece.
fn read(store: &Store, sources: &[Source], end: Instant) -> Result<(), Failure> {
    let mut pace = Pace::new();
    for (round, source) in (1..).zip(sources.iter().cycle()) {
        let snapshot = store.read()?;
        let notes = snapshot.table(NOTES)?;
        let counted = snapshot.table(COUNTS)?.get(ALL_NOTES)?.unwrap_or(0);
        let there = notes.len()?;
        if counted != there {
            Message::Broken(format!("a snapshot has {there} notes, of which {counted} are counted")).send()?;
        }
        if let Some(chapter) = snapshot.table(DOCUMENTS)?.prefix((&source.name,))?.values().next_back().transpose()? {
            for id in chapter {
                if notes.get(id)?.is_none_or(|note| note.source != source.name) {
                    Message::Broken(format!("{} names note {id:?}, which is not there", source.name)).send()?;
                }
            }
        }
        pace.tell(round)?;
        if Instant::now() >= end {
            return Message::Seen(round).send();
        }
    }
    Ok(())
}

/// Waits for the others' commits.
fn watch(store: &Store, end: Instant) -> Result<(), Failure> {
    let mut pace = Pace::new();
    let mut last = store.last_commit()?;
    let mut seen = 0;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Message::Seen(seen).send();
        }
        let newest = store.wait_for_change(last, left.min(Duration::from_millis(100)))?;
        if newest < last {
            Message::Broken(format!("the newest commit went from {last} back to {newest}")).send()?;
        }
        seen += u64::from(newest > last);
        last = newest;
        pace.tell(seen)?;
    }
}

/// Tells the parent a count a few times a second.
struct Pace(Instant);

impl Pace {
    fn new() -> Pace {
        Pace(Instant::now())
    }

    fn tell(&mut self, count: u64) -> Result<(), Failure> {
        if self.0.elapsed() < Duration::from_millis(100) {
            return Ok(());
        }
        self.0 = Instant::now();
        Message::Seen(count).send()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        let committed =
            Message::Committed { number: 7, waited: Duration::from_micros(12), took: Duration::from_micros(1500) };
        assert_eq!(Message::parse("committed 7 12 1500"), Some(committed));
        assert_eq!(Message::parse("ready"), Some(Message::Ready));
        assert_eq!(Message::parse("seen 3"), Some(Message::Seen(3)));
        assert_eq!(Message::parse("broken a b"), Some(Message::Broken("a b".to_owned())));
        // Cut off by a kill.
        assert_eq!(Message::parse("committed 7 12"), None);
    }
}
