//! One wait for changes of the store, for all clients of this process that want to hear of them.

use crate::failure::Failure;
use crate::memory::Memory;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch::{Receiver, Sender};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

/// How long one wait for a change lasts: the last listener leaves, and the task ends within that.
const WAIT: Duration = Duration::from_secs(1);

/// Says which transaction is the newest, as long as anything listens.
pub(crate) struct Ticker {
    memory: Arc<Memory>,
    newest: Sender<u64>,
    /// Whether the task that waits is there.
    is_running: Mutex<bool>,
}

impl Ticker {
    pub(crate) fn new(memory: Arc<Memory>) -> Ticker {
        Ticker { memory, newest: Sender::new(0), is_running: Mutex::new(false) }
    }

    /// The newest transaction.
    pub(crate) async fn newest(&self) -> Result<u64, Failure> {
        self.next(None).await
    }

    /// The newest transaction, newer than `after` or when the wait for that is over.
    async fn next(&self, after: Option<u64>) -> Result<u64, Failure> {
        let memory = Arc::clone(&self.memory);
        let newest = spawn_blocking(move || memory.newest(after, WAIT)).await;
        newest.map_err(|broken| Failure::Internal(broken.to_string()))?
    }

    /// Hears of each transaction from now on, or of a later one; and perhaps of one that was there before.
    pub(crate) fn listen(self: &Arc<Self>) -> Receiver<u64> {
        let mut is_running = self.is_running.lock().unwrap_or_else(PoisonError::into_inner);
        let receiver = self.newest.subscribe();
        if !*is_running {
            *is_running = true;
            tokio::spawn(Arc::clone(self).run());
        }
        receiver
    }

    async fn run(self: Arc<Self>) {
        // It begins with what is there: the first listener may have looked before this.
        let mut seen = 0;
        loop {
            match self.next(Some(seen)).await {
                Ok(newest) if newest == seen => {}
                Ok(newest) => {
                    // Lower numbers are those of another file that has taken the store's place.
                    seen = newest;
                    self.newest.send_replace(newest);
                }
                Err(_) => sleep(WAIT).await,
            }
            let mut is_running = self.is_running.lock().unwrap_or_else(PoisonError::into_inner);
            *is_running = self.newest.receiver_count() > 0;
            if !*is_running {
                return;
            }
        }
    }
}
