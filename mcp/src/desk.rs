//! Where calls arrive: each gets a thread to block on, a deadline, and its place in the order of changes.
//!
//! A desk serves all clients of this process, and each client has a seat at it. The calls of one client wait for each other at its seat, so it
//! has at most one change in the queue of all clients, and a few reads under way: one that sends a thousand calls at once delays its own.

use crate::care::Watch;
use crate::failure::Failure;
use crate::memory::Memory;
use crate::scope::Scope;
use crate::tool::{Answer, Tool};
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::timeout_at;

/// How much longer a call may take than it may wait for locks: it ends late only if the system does not answer.
const GRACE: Duration = Duration::from_secs(10);
/// So many calls of one client, that change nothing, are under way at once.
const AT_ONCE: usize = 8;

/// Takes calls.
pub(crate) struct Desk {
    pub(crate) memory: Arc<Memory>,
    /// The right to begin the next write transaction of this process. It is fair, and given on as soon as the transaction
    /// has begun: changes share flushes. One of them at most blocks a thread while another process writes, so reading
    /// goes on.
    turn: Arc<Mutex<()>>,
    /// How long a call may wait for locks and for other calls.
    pub(crate) patience: Duration,
}

/// A client's place at the desk.
pub(crate) struct Seat {
    desk: Arc<Desk>,
    /// What the client sees of the memory.
    pub(crate) scope: Arc<Scope>,
    /// The right to be the client's next change: changes happen in the order of their calls.
    order: Arc<Mutex<()>>,
    /// Places for calls that change nothing.
    reads: Arc<Semaphore>,
}

impl Desk {
    pub(crate) fn new(memory: Arc<Memory>, patience: Duration) -> Desk {
        Desk { memory, turn: Arc::default(), patience }
    }
}

impl Seat {
    pub(crate) fn new(desk: Arc<Desk>, scope: Arc<Scope>) -> Seat {
        Seat { desk, scope, order: Arc::default(), reads: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Does a call of `tool`. One that is cancelled before it begins is not done; once begun, a change is not broken off.
    pub(crate) async fn call(&self, tool: &'static Tool, arguments: Value, watch: Watch) -> Result<Answer, Failure> {
        tool.check(&arguments)?;
        let begun = Instant::now();
        let deadline = begun + self.desk.patience;
        let in_time = |at: Instant| tokio::time::Instant::from_std(at);
        let wait = timeout_at(in_time(deadline), self.turn(tool));
        let turn = wait.await.map_err(|_| Failure::NotBegun(self.desk.patience))??;
        let (memory, scope) = (Arc::clone(&self.desk.memory), Arc::clone(&self.scope));
        let work = spawn_blocking(move || {
            if watch.is_cancelled() {
                return Err(Failure::Cancelled);
            }
            memory.run((tool, &arguments), &scope, move || drop(turn), &watch, deadline)
        });
        match timeout_at(in_time(deadline + GRACE), work).await {
            Ok(Ok(Err(Failure::Store(memstone::Error::Cancelled { .. })))) => {
                Err(Failure::BrokenOff(self.desk.patience))
            }
            Ok(Ok(outcome)) => outcome,
            Ok(Err(broken)) => Err(Failure::Internal(broken.to_string())),
            Err(_) => Err(Failure::Late { after: begun.elapsed(), changes: tool.changes() }),
        }
    }

    /// Waits until a call may begin.
    async fn turn(&self, tool: &Tool) -> Result<Turn, Failure> {
        if !tool.changes() {
            let place = Arc::clone(&self.reads).acquire_owned().await;
            return place.map(Turn::Read).map_err(|error| Failure::Internal(error.to_string()));
        }
        let order = Arc::clone(&self.order).lock_owned().await;
        if !tool.is_transaction() {
            return Ok(Turn::Care(order));
        }
        Ok(Turn::Transaction(order, Arc::clone(&self.desk.turn).lock_owned().await))
    }
}

/// What a call holds until it has begun: the next one takes it over.
#[expect(dead_code, reason = "they are held")]
enum Turn {
    Read(OwnedSemaphorePermit),
    /// Several transactions, which take their turns at the store.
    Care(OwnedMutexGuard<()>),
    Transaction(OwnedMutexGuard<()>, OwnedMutexGuard<()>),
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::graph_tools;
    use crate::place::Place;
    use std::pin::Pin;
    use std::task::Poll;

    /// Whether a call may begin now.
    async fn begins<F: Future>(call: &mut Pin<Box<F>>) -> bool {
        std::future::poll_fn(|context| Poll::Ready(call.as_mut().poll(context).is_ready())).await
    }

    fn tool(name: &str) -> &'static Tool {
        graph_tools::TOOLS.iter().find(|tool| tool.name == name).unwrap()
    }

    #[test]
    fn many_calls_of_one_client_let_others_through() {
        let place = Place { store: "unused".into(), source: None };
        let desk = Arc::new(Desk::new(Arc::new(Memory::new(place)), Duration::from_secs(1)));
        let seat = || Seat::new(Arc::clone(&desk), Arc::default());
        let (greedy, quiet) = (seat(), seat());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let change = tool("create_entities");
            let first = greedy.turn(change).await.unwrap();
            let mut more: Vec<_> = (0..3).map(|_| Box::pin(greedy.turn(change))).collect();
            for call in &mut more {
                assert!(!begins(call).await);
            }
            let mut other = Box::pin(quiet.turn(change));
            assert!(!begins(&mut other).await);
            drop(first);
            // In whichever order they are looked at.
            assert!(!begins(&mut more[0]).await, "it was not its turn");
            assert!(begins(&mut other).await);

            let read = tool("read_graph");
            let mut held = Vec::new();
            for _ in 0..AT_ONCE {
                held.push(greedy.turn(read).await.unwrap());
            }
            assert!(!begins(&mut Box::pin(greedy.turn(read))).await);
            quiet.turn(read).await.unwrap();
        });
    }
}
