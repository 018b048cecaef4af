//! Where calls arrive: each gets a thread to block on, a deadline, and its place in the order of changes.

use crate::care::Watch;
use crate::failure::Failure;
use crate::memory::Memory;
use crate::tool::{Answer, Tool};
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// How much longer a call may take than it may wait for locks: it ends late only if the system does not answer.
const GRACE: Duration = Duration::from_secs(10);

/// Takes calls.
pub(crate) struct Desk {
    memory: Arc<Memory>,
    /// The right to be the next change. It is fair, and given on as soon as the transaction has begun: changes
    /// happen in the order of their calls, and still share flushes. One of them at most blocks a thread while another
    /// process writes, so reading goes on.
    turn: Arc<Mutex<()>>,
    /// How long a call may wait for locks and for other calls.
    patience: Duration,
}

impl Desk {
    pub(crate) fn new(memory: Arc<Memory>, patience: Duration) -> Desk {
        Desk { memory, turn: Arc::default(), patience }
    }

    /// Does a call of `tool`. One that is cancelled before it begins is not done; once begun, a change of the graph
    /// is not broken off.
    pub(crate) async fn call(&self, tool: &'static Tool, arguments: Value, watch: Watch) -> Result<Answer, Failure> {
        tool.check(&arguments)?;
        let begun = Instant::now();
        let turn = if tool.changes() { Some(self.take_turn().await?) } else { None };
        let deadline = begun + self.patience;
        let memory = Arc::clone(&self.memory);
        let work = spawn_blocking(move || {
            if watch.is_cancelled() {
                return Err(Failure::Cancelled);
            }
            memory.run(tool, &arguments, move || drop(turn), &watch, deadline)
        });
        match timeout(deadline.saturating_duration_since(Instant::now()) + GRACE, work).await {
            Ok(Ok(Err(Failure::Store(memstone::Error::Cancelled { .. })))) => Err(Failure::BrokenOff(self.patience)),
            Ok(Ok(outcome)) => outcome,
            Ok(Err(broken)) => Err(Failure::Internal(broken.to_string())),
            Err(_) => Err(Failure::Late { after: begun.elapsed(), changes: tool.changes() }),
        }
    }

    async fn take_turn(&self) -> Result<OwnedMutexGuard<()>, Failure> {
        let turn = Arc::clone(&self.turn).lock_owned();
        timeout(self.patience, turn).await.map_err(|_| Failure::NotBegun(self.patience))
    }
}
