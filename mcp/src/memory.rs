//! The memory: the store, opened when it is first needed, and the work of tools on it. All of this blocks.

use crate::care::{Care, Watch};
use crate::failure::Failure;
use crate::items::{Recall, Record};
use crate::origin::import_once;
use crate::pace::Pace;
use crate::place::Place;
use crate::scope::Scope;
use crate::tool::{Answer, Tool, Work};
use memstone::memory::Memory as Items;
use memstone::memory::graph::{GraphMut, GraphView};
use memstone::{Options, Store};
use serde_json::Value;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many expired items at most are removed by each change of items.
const SWEPT: usize = 16;

/// The memory.
pub(crate) struct Memory {
    place: Place,
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
    store: Store,
    file: (u64, u64),
}

impl Memory {
    /// A memory that is not opened yet.
    pub(crate) fn new(place: Place) -> Memory {
        Memory { place, open: Mutex::new(None) }
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
        match tool.work {
            Work::Read(work) => {
                let snapshot = self.store(deadline)?.read()?;
                work(&GraphView::new(&snapshot)?, arguments)
            }
            Work::Edit(work) => {
                let store = self.store(deadline)?;
                pace.change(&store, is_bulk, left(deadline), |tx| {
                    begun();
                    work(&GraphMut::new(tx)?, arguments)
                })
            }
            Work::Recall(work) => {
                let state = Items::new(self.store(deadline)?).snapshot()?;
                work(&Recall { state, scope }, arguments)
            }
            Work::Record(work) => {
                let items = Items::new(self.store(deadline)?);
                pace.change(items.store(), is_bulk, left(deadline), |tx| {
                    begun();
                    let tx = items.on(tx)?;
                    // What has expired makes room, a little with each change.
                    tx.sweep(SWEPT)?;
                    work(&Record { tx, scope }, arguments)
                })
            }
            Work::Care(work) => work(&Care { store: &self.store(deadline)?, scope, pace, watch, deadline }, arguments),
        }
    }

    /// The store, opened if it is not yet, or if the file is no longer the one that was opened: a backup may have
    /// been restored in its place.
    fn store(&self, deadline: Instant) -> Result<Store, Failure> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let file = std::fs::metadata(&self.place.store).ok().map(|file| identity(&file));
        if let Some(Open { store, file: opened }) = &*open {
            if file == Some(*opened) {
                return Ok(store.clone());
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
        *open = Some(Open { store: store.clone(), file: identity(&opened) });
        Ok(store)
    }

    /// The number of the newest transaction: at once, or as soon as one is newer than `after`, or when `wait` is over.
    pub(crate) fn newest(&self, after: Option<u64>, wait: Duration) -> Result<u64, Failure> {
        let store = self.store(Instant::now() + wait)?;
        Ok(after.map_or_else(|| store.last_commit(), |after| store.wait_for_change(after, wait))?)
    }

    /// Opens the store, so that the first call finds it open.
    pub(crate) fn warm_up(&self, deadline: Instant) -> Result<(), Failure> {
        self.store(deadline).map(drop)
    }

    /// Leaves the store. What was acknowledged is safe without this.
    pub(crate) fn close(&self) -> Result<(), Failure> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(open.map_or(Ok(()), |open| open.store.close())?)
    }
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}
