//! Where calls arrive: each gets a thread to block on, a deadline, and its place in the order of changes.
//!
//! A desk serves all clients of this process, and each client has a seat at it. The calls of one client wait for each other at its seat, so it
//! has at most one change in the queue of all clients, and a few reads under way: one that sends a thousand calls at once delays its own.

use crate::care::Watch;
use crate::failure::Failure;
use crate::memory::Memory;
use crate::scope::Scope;
use crate::tool::{Answer, Tool};
use memstone::memory::Outcome;
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{AcquireError, Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::timeout_at;

/// How much longer a call may take than it may wait for locks: it ends late only if the system does not answer.
const GRACE: Duration = Duration::from_secs(10);
/// So many calls of one client, that change nothing, are under way at once.
const AT_ONCE: usize = 8;
/// So many calls of all clients that are not one write transaction are under way at once: fewer than there are threads, so
/// that a change whose turn it is finds one.
const PLACES: usize = 16;

/// Takes calls.
pub(crate) struct Desk {
    pub(crate) memory: Arc<Memory>,
    /// The right to begin the next write transaction of this process. It is fair, and given on as soon as the transaction
    /// has begun: changes share flushes. One of them at most blocks a thread while another process writes, so reading
    /// goes on.
    turn: Arc<Mutex<()>>,
    /// Places for all other calls.
    places: Arc<Semaphore>,
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
        Desk { memory, turn: Arc::default(), places: Arc::new(Semaphore::new(PLACES)), patience }
    }
}

impl Seat {
    pub(crate) fn new(desk: Arc<Desk>, scope: Arc<Scope>) -> Seat {
        Seat { desk, scope, order: Arc::default(), reads: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Does a call of `tool`, and measures it from its arrival to its answer.
    pub(crate) async fn call(&self, tool: &'static Tool, arguments: Value, watch: Watch) -> Result<Answer, Failure> {
        let measuring = self.desk.memory.meter.begin();
        let namespace = self.scope.of_call(&arguments);
        let answer = self.answer(tool, arguments, watch).await;
        let outcome = answer.as_ref().map_or_else(Failure::outcome, |_| Outcome::Done);
        measuring.end(tool.operation(), &namespace, outcome);
        answer
    }

    /// Does it. One that is cancelled before it begins is not done; once begun, a change is not broken off.
    async fn answer(&self, tool: &'static Tool, arguments: Value, watch: Watch) -> Result<Answer, Failure> {
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

    /// Waits until a call may begin: first at the seat, then at the desk.
    async fn turn(&self, tool: &Tool) -> Result<Turn, Failure> {
        let closed = |error: AcquireError| Failure::Internal(error.to_string());
        if !tool.changes() {
            let own = Arc::clone(&self.reads).acquire_owned().await.map_err(closed)?;
            let place = Arc::clone(&self.desk.places).acquire_owned().await.map_err(closed)?;
            return Ok(Turn::Read(own, place));
        }
        let order = Arc::clone(&self.order).lock_owned().await;
        if tool.is_transaction() {
            return Ok(Turn::Transaction(order, Arc::clone(&self.desk.turn).lock_owned().await));
        }
        let place = Arc::clone(&self.desk.places).acquire_owned().await.map_err(closed)?;
        Ok(Turn::Care(order, place))
    }
}

/// What a call holds until it has begun, or until it ends if it is not one write transaction: the next one takes it over.
#[expect(dead_code, reason = "they are held")]
enum Turn {
    Read(OwnedSemaphorePermit, OwnedSemaphorePermit),
    /// Several transactions, which take their turns at the store.
    Care(OwnedMutexGuard<()>, OwnedSemaphorePermit),
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

    fn desk() -> Arc<Desk> {
        let place = Place { store: "unused".into(), source: None };
        Arc::new(Desk::new(Arc::new(Memory::new(place)), Duration::from_secs(1)))
    }

    fn wait_for(work: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work);
    }

    #[test]
    fn many_calls_of_one_client_let_others_through() {
        let desk = desk();
        let seat = || Seat::new(Arc::clone(&desk), Arc::default());
        let (greedy, quiet) = (seat(), seat());
        wait_for(async {
            let change = tool("create_entities");
            let first = greedy.turn(change).await.unwrap();
            let mut second = Box::pin(greedy.turn(change));
            assert!(!begins(&mut second).await);
            let mut other = Box::pin(quiet.turn(change));
            assert!(!begins(&mut other).await);
            drop(first);
            // In whichever order they are looked at.
            assert!(!begins(&mut second).await, "it was not its turn");
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

    #[test]
    fn a_change_waits_for_no_reads_of_others() {
        let desk = desk();
        let seats: Vec<Seat> = (0..=PLACES).map(|_| Seat::new(Arc::clone(&desk), Arc::default())).collect();
        wait_for(async {
            let mut held = Vec::new();
            for seat in &seats[1..] {
                held.push(seat.turn(tool("read_graph")).await.unwrap());
            }
            assert!(!begins(&mut Box::pin(seats[0].turn(tool("read_graph")))).await);
            assert!(begins(&mut Box::pin(seats[0].turn(tool("create_entities")))).await);
        });
        const { assert!(PLACES < crate::THREADS, "the others are for changes") };
    }
}
