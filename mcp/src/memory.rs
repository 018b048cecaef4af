//! The memory: the store, opened when it is first needed, and the work of tools on it. All of this blocks.

use crate::care::{Care, Watch};
use crate::failure::Failure;
use crate::items::{Recall, Record};
use crate::origin::import_once;
use crate::pace::Pace;
use crate::place::Place;
use crate::scope::Scope;
use crate::tool::{Answer, Tool, Work};
use memstone::memory::graph::{GraphMut, GraphView};
use memstone::memory::jobs::Jobs;
use memstone::memory::{Memory as Items, MemoryOptions, Meter};
use memstone::{Changed, Cursor, Feed, Options, Store};
use serde_json::Value;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many expired items at most are removed by each change of items.
const SWEPT: usize = 16;
/// The tables of the graph begin with this.
const GRAPH: &str = "graph.";

/// The memory.
pub(crate) struct Memory {
    place: Place,
    /// What this process measures, whichever file it has open.
    pub(crate) meter: Meter,
    open: Mutex<Option<Open>>,
}

/// Whose call it is.
#[derive(Clone, Copy)]
pub(crate) struct Client<'c> {
    pub(crate) scope: &'c Scope,
    pub(crate) pace: &'c Pace,
    /// Whether the call is a bulk one.
    pub(crate) is_bulk: bool,
}

/// The open store, and which file it is.
struct Open {
    items: Items,
    file: (u64, u64),
}

impl Memory {
    /// A memory that is not opened yet.
    pub(crate) fn new(place: Place) -> Memory {
        Memory { place, meter: Meter::new(), open: Mutex::new(None) }
    }

    /// Does what a tool does for a client. `begun` is called when the order of this call among the changes is decided,
    /// at the latest when the call ends. The store's locks are waited for until `deadline`.
    pub(crate) fn run(
        &self,
        (tool, arguments): (&Tool, &Value),
        client: Client<'_>,
        begun: impl FnOnce(),
        watch: &Watch,
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        let Client { scope, pace, is_bulk } = client;
        let items = self.items(deadline)?;
        match tool.work {
            Work::Read(work) => {
                let snapshot = items.store().read()?;
                work(&GraphView::new(&snapshot)?, arguments)
            }
            Work::Edit(work) => pace.change(items.store(), is_bulk, left(deadline), |tx| {
                begun();
                work(&GraphMut::new(tx)?, arguments)
            }),
            Work::Recall(work) => work(&Recall::new(&items, &Jobs::of(&items), scope)?, arguments),
            Work::Record(work) => {
                let jobs = Jobs::of(&items);
                pace.change(items.store(), is_bulk, left(deadline), |tx| {
                    begun();
                    let record = Record::new(tx, &items, &jobs, scope)?;
                    // What has expired makes room, a little with each change.
                    record.tx.sweep(SWEPT)?;
                    work(&record, arguments)
                })
            }
            Work::Care(work) => {
                let (store, meter) = (items.store(), &self.meter);
                work(&Care { store, items: &items, meter, scope, pace, watch, deadline }, arguments)
            }
        }
    }

    /// The items in the store, which is opened if it is not yet, or if the file is no longer the one that was opened: a backup may have
    /// been restored in its place.
    fn items(&self, deadline: Instant) -> Result<Items, Failure> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let file = std::fs::metadata(&self.place.store).ok().map(|file| identity(&file));
        if let Some(Open { items, file: opened }) = &*open {
            if file == Some(*opened) {
                return Ok(items.clone());
            }
            tracing::warn!(file = %self.place.store.display(), "is another file than before; opening it");
        }
        *open = None;
        let store = Options::new().timeout(left(deadline)).open(&self.place.store)?;
        if let Some(source) = &self.place.source {
            import_once(&store, source, left(deadline))?;
        }
        let opened = std::fs::metadata(&self.place.store)
            .map_err(|error| Failure::Place(format!("{}: cannot be looked at: {error}", self.place.store.display())))?;
        tracing::info!(file = %self.place.store.display(), "open");
        let items = Items::with(store, MemoryOptions::new().meter(self.meter.clone()));
        *open = Some(Open { items: items.clone(), file: identity(&opened) });
        Ok(items)
    }

    /// Waits until there is a transaction that is newer than this one, or the time is over.
    pub(crate) fn wait(&self, after: u64, wait: Duration) -> Result<(), Failure> {
        self.items(Instant::now() + wait)?.store().wait_for_change(after, wait)?;
        Ok(())
    }

    /// Where the history ends, and whether the graph was changed since a cursor: if that is unknown, it was.
    pub(crate) fn graph_since(&self, cursor: Option<Cursor>, wait: Duration) -> Result<(Cursor, bool), Failure> {
        let now = self.items(Instant::now() + wait)?.store().read()?;
        let end = now.end()?;
        let Some(Feed::Changes(commits)) = cursor.map(|cursor| now.changes(cursor)).transpose()? else {
            return Ok((end, true));
        };
        for commit in commits {
            if commit?.changes().any(|changed: Changed<'_>| changed.table().starts_with(GRAPH)) {
                return Ok((end, true));
            }
        }
        Ok((end, false))
    }

    /// Opens the store, so that the first call finds it open.
    pub(crate) fn warm_up(&self, deadline: Instant) -> Result<(), Failure> {
        self.items(deadline).map(drop)
    }

    /// Leaves the store. What was acknowledged is safe without this.
    pub(crate) fn close(&self) -> Result<(), Failure> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        let store = open.map(|open| open.items.store().clone());
        Ok(store.map_or(Ok(()), Store::close)?)
    }
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}
