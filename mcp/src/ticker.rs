//! One look at the change feed, for all clients of this process that want to hear of the graph.

use crate::failure::Failure;
use crate::memory::Memory;
use memstone::Cursor;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch::{Receiver, Sender};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

/// How long one wait for a change lasts: the last listener leaves, and the task ends within that.
const WAIT: Duration = Duration::from_secs(1);

/// Counts the changes of the graph that were seen, whichever process made them. Transactions that leave it alone do not count.
pub(crate) struct Ticker {
    memory: Arc<Memory>,
    /// How often a change was seen.
    changes: Sender<u64>,
    /// Up to where the feed was looked through; `None`: nothing is known.
    seen: tokio::sync::Mutex<Option<Cursor>>,
    /// Whether the task that waits is there.
    is_running: Mutex<bool>,
}

impl Ticker {
    pub(crate) fn new(memory: Arc<Memory>) -> Ticker {
        Ticker { memory, changes: Sender::new(0), seen: tokio::sync::Mutex::default(), is_running: Mutex::new(false) }
    }

    /// Looks through what was committed since the last look, and gives how often a change was seen. What is unknown
    /// counts as one: the feed does not reach back, the store cannot be read, or another file has taken its place.
    pub(crate) async fn look(&self) -> u64 {
        let mut seen = self.seen.lock().await;
        let since = *seen;
        let found = self.blocking(move |memory| memory.graph_since(since, WAIT)).await;
        let is_changed = found.as_ref().is_ok_and(|(_, is_changed)| *is_changed);
        *seen = found.ok().map(|(end, _)| end);
        if is_changed {
            self.changes.send_modify(|changes| *changes += 1);
        }
        *self.changes.borrow()
    }

    /// Hears of each change from now on; and perhaps of one that was there before.
    pub(crate) fn listen(self: &Arc<Self>) -> Receiver<u64> {
        let mut is_running = self.is_running.lock().unwrap_or_else(PoisonError::into_inner);
        let receiver = self.changes.subscribe();
        if !*is_running {
            *is_running = true;
            tokio::spawn(Arc::clone(self).run());
        }
        receiver
    }

    async fn run(self: Arc<Self>) {
        loop {
            self.look().await;
            let seen = *self.seen.lock().await;
            let waited = match seen {
                Some(cursor) => self.blocking(move |memory| memory.wait(cursor.lsn(), WAIT)).await.is_ok(),
                None => false,
            };
            if !waited {
                sleep(WAIT).await;
            }
            let mut is_running = self.is_running.lock().unwrap_or_else(PoisonError::into_inner);
            *is_running = self.changes.receiver_count() > 0;
            if !*is_running {
                return;
            }
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Memory) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let memory = Arc::clone(&self.memory);
        let done = spawn_blocking(move || work(&memory)).await;
        done.map_err(|broken| Failure::Internal(broken.to_string()))?
    }
}
