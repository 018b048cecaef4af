//! Where calls arrive: each gets a thread to block on, a deadline, and its place in the order of calls.
//!
//! A desk serves all clients of this process, and each client has a seat at it. The calls of one client wait for each other at its seat, so
//! it has at most one change and one quick call in the queues of all clients, and no second turn before each other client that waits has
//! had one. A client that sends a thousand calls at once delays its own.

use crate::care::Watch;
use crate::failure::Failure;
use crate::memory::{Client, Memory};
use crate::pace::{Pace, is_bulk};
use crate::scope::Scope;
use crate::tool::{Answer, Tool, Work};
use memstone::memory::Outcome;
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{AcquireError, Mutex, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::{sleep_until, timeout_at};

/// How much longer a call may take than it may wait for locks: it ends late only if the system does not answer.
const GRACE: Duration = Duration::from_secs(10);
/// So many calls that only read are under way at once for each processor: while one waits for the disk, another computes.
const EACH: usize = 2;
/// And so many at most.
const QUICK: usize = 16;
/// So many calls that take long are under way at once, and so many of one client.
const LONG: usize = 8;
const LONG_EACH: usize = 4;

/// Takes calls.
pub(crate) struct Desk {
    pub(crate) memory: Arc<Memory>,
    /// The right to begin the next write transaction of this process. It is fair, and given on as soon as the transaction
    /// has begun: changes share flushes. One of them at most blocks a thread while another process writes, so reading
    /// goes on.
    turn: Arc<Mutex<()>>,
    /// Places for calls that only read, hardly more than there are processors: with more of them none would be done sooner, and
    /// the one change that is being written, for which all others wait, would have less of a processor.
    quick: Arc<Semaphore>,
    /// Places for calls that take long: checks, backups, passes over everything.
    long: Arc<Semaphore>,
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
    /// When that may begin.
    pace: Arc<Pace>,
    /// The right to be its next call that waits for a place to read.
    quick: Mutex<()>,
    /// Places for its calls that take long.
    long: Arc<Semaphore>,
}

impl Desk {
    pub(crate) fn new(memory: Arc<Memory>, patience: Duration) -> Desk {
        let processors = std::thread::available_parallelism().map_or(QUICK, usize::from);
        let quick = Arc::new(Semaphore::new(QUICK.min(processors * EACH)));
        Desk { memory, turn: Arc::default(), quick, long: Arc::new(Semaphore::new(LONG)), patience }
    }
}

impl Seat {
    pub(crate) fn new(desk: Arc<Desk>, scope: Arc<Scope>) -> Seat {
        let (pace, long) = (Arc::new(Pace::new()), Arc::new(Semaphore::new(LONG_EACH)));
        Seat { desk, scope, order: Arc::default(), pace, quick: Mutex::default(), long }
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
        let is_bulk = is_bulk(&arguments);
        let wait = timeout_at(in_time(deadline), self.turn(tool, is_bulk));
        let Turn { until_begun, until_ended } = wait.await.map_err(|_| Failure::NotBegun(self.desk.patience))??;
        let (memory, scope, pace) = (Arc::clone(&self.desk.memory), Arc::clone(&self.scope), Arc::clone(&self.pace));
        let work = spawn_blocking(move || {
            let _held = until_ended;
            if watch.is_cancelled() {
                return Err(Failure::Cancelled);
            }
            let client = Client { scope: &scope, pace: &pace, is_bulk };
            memory.run((tool, &arguments), client, move || drop(until_begun), &watch, deadline)
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
    async fn turn(&self, tool: &Tool, is_bulk: bool) -> Result<Turn, Failure> {
        if tool.is_transaction() {
            return Ok(self.turn_to_change(is_bulk).await);
        }
        let closed = |error: AcquireError| Failure::Internal(error.to_string());
        if !matches!(tool.work, Work::Care(_)) {
            let _next = self.quick.lock().await;
            let place = Arc::clone(&self.desk.quick).acquire_owned().await.map_err(closed)?;
            return Ok(Turn { until_begun: Box::new(()), until_ended: Box::new(place) });
        }
        let order = if tool.changes() { Some(Arc::clone(&self.order).lock_owned().await) } else { None };
        let own = Arc::clone(&self.long).acquire_owned().await.map_err(closed)?;
        let place = Arc::clone(&self.desk.long).acquire_owned().await.map_err(closed)?;
        Ok(Turn { until_begun: Box::new(()), until_ended: Box::new((order, own, place)) })
    }

    /// The client's next change begins when the one before has begun, or, behind a bulk change, after its pause.
    async fn turn_to_change(&self, is_bulk: bool) -> Turn {
        let order = Arc::clone(&self.order).lock_owned().await;
        let due = self.pace.due();
        if due > Instant::now() {
            sleep_until(due.into()).await;
        }
        let turn = Arc::clone(&self.desk.turn).lock_owned().await;
        match is_bulk {
            true => Turn { until_begun: Box::new(turn), until_ended: Box::new(order) },
            false => Turn { until_begun: Box::new((order, turn)), until_ended: Box::new(()) },
        }
    }
}

/// What a call holds: the next one takes it over.
struct Turn {
    /// Until its order among the changes is decided.
    until_begun: Box<dyn Send>,
    until_ended: Box<dyn Send>,
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
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work);
    }

    /// A call of one client that waits for its turn.
    type Waiting<'s> = (usize, Pin<Box<dyn Future<Output = Result<Turn, Failure>> + 's>>);

    /// The calls that begin when all are looked at, in whichever order: who calls, and what they hold.
    async fn begun(waiting: &mut Vec<Waiting<'_>>) -> Vec<(usize, Turn)> {
        let mut turns = Vec::new();
        for at in (0..waiting.len()).rev() {
            let (client, call) = &mut waiting[at];
            let client = *client;
            let turn = std::future::poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await;
            if let Poll::Ready(turn) = turn {
                drop(waiting.remove(at));
                turns.push((client, turn.unwrap()));
            }
        }
        turns
    }

    #[test]
    fn at_a_busy_desk_no_client_has_a_second_turn_before_the_others_had_their_first() {
        const CLIENTS: usize = 5;
        const CALLS: usize = 4;
        for tool in [tool("read_graph"), tool("create_entities")] {
            let desk = desk();
            let seats: Vec<Seat> = (0..=CLIENTS).map(|_| Seat::new(Arc::clone(&desk), Arc::default())).collect();
            wait_for(async {
                let mut held = Vec::new();
                loop {
                    let mut call: Vec<Waiting<'_>> = vec![(CLIENTS, Box::pin(seats[CLIENTS].turn(tool, false)))];
                    let turns = begun(&mut call).await;
                    if turns.is_empty() {
                        break;
                    }
                    held.extend(turns);
                    // The order of a client's changes is its own matter: here it waits for others.
                    if tool.changes() {
                        break;
                    }
                }
                let mut waiting: Vec<Waiting<'_>> = Vec::new();
                // The first client sends all of its calls before any other one calls.
                for (client, seat) in seats.iter().take(CLIENTS).enumerate() {
                    for _ in 0..CALLS {
                        waiting.insert(0, (client, Box::pin(seat.turn(tool, false))));
                    }
                    assert!(begun(&mut waiting).await.is_empty());
                }
                let mut order = Vec::new();
                while !waiting.is_empty() {
                    drop(held.remove(0));
                    for (client, turn) in begun(&mut waiting).await {
                        order.push(client);
                        held.push((client, turn));
                    }
                }
                for round in order.chunks(CLIENTS) {
                    let mut round = round.to_vec();
                    round.sort_unstable();
                    assert_eq!(round, (0..CLIENTS).collect::<Vec<_>>(), "{order:?}");
                }
            });
        }
    }

    #[test]
    fn a_change_waits_for_no_reads_and_reads_for_no_long_calls() {
        let desk = desk();
        let seats: Vec<Seat> = (0..=QUICK).map(|_| Seat::new(Arc::clone(&desk), Arc::default())).collect();
        let (read, change, long) = (tool("read_graph"), tool("create_entities"), &crate::care_tools::TOOLS[0]);
        wait_for(async {
            let mut held = Vec::new();
            for seat in seats.iter().take(LONG / LONG_EACH) {
                for _ in 0..LONG_EACH {
                    held.push(seat.turn(long, false).await.unwrap());
                }
                assert!(!begins(&mut Box::pin(seat.turn(long, false))).await);
            }
            assert!(!begins(&mut Box::pin(seats[LONG].turn(long, false))).await);
            for seat in seats.iter().take(desk.quick.available_permits()) {
                held.push(seat.turn(read, false).await.unwrap());
            }
            assert!(!begins(&mut Box::pin(seats[0].turn(read, false))).await);
            assert!(begins(&mut Box::pin(seats[0].turn(change, false))).await);
        });
        const { assert!(QUICK + LONG < crate::THREADS, "the others are for changes") };
    }

    #[test]
    fn behind_a_bulk_change_its_client_waits_and_no_other_one_does() {
        let desk = desk();
        let (bulky, other) = (Seat::new(Arc::clone(&desk), Arc::default()), Seat::new(desk, Arc::default()));
        let change = tool("create_entities");
        wait_for(async {
            let bulk = bulky.turn(change, true).await.unwrap();
            let mut next = Box::pin(bulky.turn(change, false));
            assert!(!begins(&mut next).await);
            drop(bulk.until_begun);
            // Others may change something as soon as it has begun, its own client when it has ended.
            other.turn(change, false).await.unwrap();
            assert!(!begins(&mut next).await);
            let now = Instant::now();
            bulky.pace.note(1, None, now);
            bulky.pace.note(9, Some(Duration::from_secs(3600)), now + Duration::from_secs(3600));
            drop(bulk.until_ended);
            assert!(!begins(&mut next).await, "it pauses");
            assert!(begins(&mut Box::pin(bulky.turn(tool("read_graph"), false))).await);
            other.turn(change, true).await.unwrap();
        });
    }
}
