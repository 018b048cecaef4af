//! What another process may do between any two calls of one, or after its death at any of them.
//!
//! Schedules sample; here the places are gone through one by one. A process does one thing: it reads,
//! commits, checkpoints the log, opens, leaves. At its n-th call of the platform it stands still while
//! another does something whole, and then goes on; or it dies there, and the other goes on without
//! it. The oracle looks at everything that either of them reads and commits, then and afterwards,
//! and power losses must leave what was acknowledged and shown.

use super::check;
use super::model::Change;
use super::oracle::{Attempt, Oracle, forgive};
use crate::disk::sim::{Call, Conductor, Free, Image, Killed, Rng, SimDisk, Verdict, World};
use crate::engine::checkpoint::CheckpointOptions;
use crate::engine::commit::Durability::{Relaxed, Sync};
use crate::engine::{Settings, open};
use crate::txn::snapshot::Snapshot;
use crate::txn::write::WriteOptions;
use crate::{Error, Store};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The log may grow once, and shrink.
pub(super) const LOG_CAP: u64 = 128 << 10;
const NEVER: usize = usize::MAX;

/// The process that is disturbed, and the one that disturbs it.
const ACTOR: usize = 0;
const VISITOR: usize = 1;

/// An entry that always is the same: table, key, value.
const FIXED: (&str, &[u8], &[u8]) = ("fixed", b"key", &[1; 900]);

/// What the actor does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Read,
    Commit,
    CommitRelaxed,
    CommitLong,
    CommitLarge,
    DropTable,
    Checkpoint,
    /// Checkpoints the log, gives its space back, and moves pages down.
    Shrink,
    Leave,
    /// Leaves as the last one.
    LeaveLast,
    Open,
    /// Opens a store that was left by a death, with no other process there.
    OpenFirst,
}

const ACTS: [Act; 12] = [
    Act::Read,
    Act::Commit,
    Act::CommitRelaxed,
    Act::CommitLong,
    Act::CommitLarge,
    Act::DropTable,
    Act::Checkpoint,
    Act::Shrink,
    Act::Leave,
    Act::LeaveLast,
    Act::Open,
    Act::OpenFirst,
];

/// What the visitor does meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Visit {
    Read,
    /// Another yet opens the store, and reads.
    Join,
    /// One that was there, and has not read yet, reads.
    Late,
    Commit,
    CommitRelaxed,
    /// Writes without reading anything first.
    CommitBlindly,
    Checkpoint,
    Shrink,
    /// Makes two roots, the second of which may use what the first one set free.
    TwoRoots,
    CommitLarge,
    /// Commits until the log is full, or thrice around it.
    FillLog,
    LoseSidecar,
}

const VISITS: [Visit; 12] = [
    Visit::Read,
    Visit::Join,
    Visit::Late,
    Visit::Commit,
    Visit::CommitRelaxed,
    Visit::CommitBlindly,
    Visit::Checkpoint,
    Visit::Shrink,
    Visit::TwoRoots,
    Visit::CommitLarge,
    Visit::FillLog,
    Visit::LoseSidecar,
];

/// Lets the visitor in before one call of the actor.
struct Door {
    calls: AtomicUsize,
    at: AtomicUsize,
    /// Whether that call changes the file, or takes a lock.
    changes: AtomicBool,
    visit: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    /// Set if the actor dies there instead.
    actor: Mutex<Option<Arc<SimDisk>>>,
    dead: AtomicBool,
    now: AtomicU64,
}

impl Conductor for Door {
    fn before(&self, process: usize, call: Call) -> Verdict {
        self.now.fetch_add(1, SeqCst);
        if process != ACTOR {
            return Verdict::Go;
        }
        if self.dead.load(SeqCst) {
            return Verdict::Fail(libc::EIO);
        }
        let n = self.calls.fetch_add(1, SeqCst);
        if n != self.at.load(SeqCst) {
            return Verdict::Go;
        }
        self.changes
            .store(matches!(call, Call::Write | Call::Flush | Call::SetLen | Call::Allocate | Call::Lock), SeqCst);
        if let Some(actor) = self.actor.lock().unwrap().take() {
            self.dead.store(true, SeqCst);
            if call == Call::Write {
                // Some of it, or nothing: that shows as a write that was lost.
                return Verdict::Part([0, 40_000][n % 2], 0);
            }
            actor.kill();
            resume_unwind(Box::new(Killed));
        }
        let visit = self.visit.lock().unwrap().take();
        if let Some(visit) = visit {
            visit();
        }
        Verdict::Go
    }

    fn now_ms(&self) -> u64 {
        self.now.load(SeqCst)
    }
}

fn settings() -> Settings {
    // The actor that stands still may hold a lock: none can wait for it here.
    Settings {
        timeout: Duration::from_millis(1),
        patience: Duration::ZERO,
        log_cap: LOG_CAP,
        memory_map: false,
        threads: false,
        application: 0,
        archive: None,
    }
}

/// While the other one stands still it may hold a lock, or a flush.
fn kept_waiting(error: &Error) -> bool {
    matches!(error, Error::Busy { .. } | Error::Poisoned { .. } | Error::Unconfirmed { .. })
}

fn never(_: &Error) -> bool {
    false
}

pub(super) fn put(table: &str, key: u8, len: usize, rng: &mut Rng) -> Change {
    let value: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| rng.next().to_le_bytes()).take(len).collect();
    Change::Put(table.into(), vec![key], value.into())
}

/// All that the two of them know, and what they have in hand.
struct Play {
    world: Arc<World>,
    actor: Arc<SimDisk>,
    oracle: Oracle,
    rng: Mutex<Rng>,
    visitor: Mutex<Option<Store>>,
    late: Mutex<Option<Store>>,
    kept: Mutex<Vec<(Snapshot, usize)>>,
}

impl Play {
    fn changes(&self, act: Act) -> Vec<Change> {
        let mut rng = self.rng.lock().unwrap();
        let rng = &mut *rng;
        let key = u8::try_from(rng.below(4)).unwrap();
        match act {
            Act::CommitLong => vec![put("a", key, 40_000, rng)],
            Act::CommitLarge => (0..36).map(|key| put("b", key, 1000, rng)).collect(),
            Act::DropTable => vec![Change::Drop("b".into()), put("c", key, 10, rng)],
            _ => vec![put("a", key, 900, rng)],
        }
    }

    fn read(&self, store: &Store, forgiven: fn(&Error) -> bool) -> Result<(), String> {
        let least = self.oracle.known().seen;
        match store.read() {
            Ok(snapshot) => {
                let (number, id) = self.oracle.look(&snapshot, least)?;
                self.oracle.note_seen(number);
                self.oracle.note_shown(id);
                self.kept.lock().unwrap().push((snapshot, id));
                Ok(())
            }
            Err(e) if forgiven(&e) => Ok(()),
            Err(e) => Err(format!("read: {e}")),
        }
    }

    /// Checkpoints whatever there is, into a new root.
    fn checkpoint(&self, store: &Store, forgiven: fn(&Error) -> bool) -> Result<(), String> {
        forgive(store.checkpoint(), forgiven, "checkpoint")
    }

    fn shrink(&self, store: &Store, forgiven: fn(&Error) -> bool) -> Result<(), String> {
        let (engine, plan) =
            (store.engine(), CheckpointOptions { shrink: true, compact: 100, ..CheckpointOptions::default() });
        forgive(engine.checkpoint(&plan, engine.deadline()).map(drop), forgiven, "shrink")
    }

    /// Puts what is there already, into a table that the process knows from before.
    fn commit_blindly(&self, store: &Store, forgiven: fn(&Error) -> bool) -> Result<(), String> {
        let options = WriteOptions::new().durability(Relaxed);
        let done = store.write_with(options, |tx| tx.raw(FIXED.0)?.put(FIXED.1, FIXED.2));
        self.oracle.note_relaxed();
        forgive(done, forgiven, "a blind commit")
    }

    fn commit(&self, store: &Store, act: Act, forgiven: fn(&Error) -> bool) -> Result<usize, String> {
        let durability = if act == Act::CommitRelaxed { Relaxed } else { Sync };
        self.oracle.write(store, self.changes(act), durability, forgiven)
    }

    fn act(&self, act: Act, store: &mut Option<Store>) -> Result<(), String> {
        // What the visitor does may take as long as the actor would have waited.
        let open = || store.as_ref().unwrap();
        match act {
            Act::Read => self.read(open(), kept_waiting),
            Act::Checkpoint => self.checkpoint(open(), kept_waiting),
            Act::Shrink => self.shrink(open(), kept_waiting),
            Act::Leave | Act::LeaveLast => forgive(store.take().unwrap().close(), kept_waiting, "close"),
            Act::Open | Act::OpenFirst => match Store::on_disk(Arc::clone(&self.actor) as _, settings()) {
                Ok(opened) => self.read(store.insert(opened), kept_waiting),
                Err(e) => forgive(Err(e), kept_waiting, "open"),
            },
            act => self.commit(open(), act, kept_waiting).map(drop),
        }
    }

    fn visit(&self, visit: Visit, forgiven: fn(&Error) -> bool) -> Result<(), String> {
        let mut visitor = self.visitor.lock().unwrap();
        if visitor.is_none() {
            match Store::on_disk(self.world.disk(VISITOR), settings()) {
                Ok(opened) => *visitor = Some(opened),
                Err(e) => return forgive(Err(e), forgiven, "open"),
            }
        }
        let store = visitor.as_ref().unwrap();
        match visit {
            Visit::Read => {}
            Visit::Join => match Store::on_disk(self.world.disk(2), settings()) {
                Ok(third) => self.read(&third, forgiven)?,
                Err(e) => return forgive(Err(e), forgiven, "join"),
            },
            Visit::Late => {
                let late = self.late.lock().unwrap();
                late.as_ref().map_or(Ok(()), |late| self.read(late, forgiven))?;
            }
            Visit::CommitRelaxed => drop(self.commit(store, Act::CommitRelaxed, forgiven)?),
            Visit::CommitBlindly => self.commit_blindly(store, forgiven)?,
            Visit::Checkpoint => self.checkpoint(store, forgiven)?,
            Visit::Shrink => self.shrink(store, forgiven)?,
            Visit::Commit => drop(self.commit(store, Act::Commit, forgiven)?),
            Visit::TwoRoots => {
                for _ in 0..2 {
                    self.commit(store, Act::Commit, forgiven)?;
                    self.checkpoint(store, forgiven)?;
                }
            }
            Visit::CommitLarge => drop(self.commit(store, Act::CommitLarge, forgiven)?),
            Visit::FillLog => {
                for _ in 0..24 {
                    let len = 7000;
                    let change = vec![put("a", 9, len, &mut self.rng.lock().unwrap())];
                    if self.oracle.write(store, change, Sync, forgiven)? == 0 {
                        break;
                    }
                }
            }
            Visit::LoseSidecar => {
                self.oracle.known().hints_lost = true;
                self.world.remove_sidecar();
                self.commit(store, Act::CommitRelaxed, forgiven)?;
            }
        }
        self.read(store, forgiven)
    }
}

/// A store with some history, made once: two tables, a long value, pages that wait, a log.
pub(super) fn beginning() -> (Image, Vec<Attempt>) {
    let world = World::new(Image::default(), Arc::new(Free));
    open::create(&*world.disk(0), 4096, *b"simulated store!").unwrap();
    let store = Store::on_disk(world.disk(0), super::settings(LOG_CAP)).unwrap();
    world.record();
    let play = Play {
        world: Arc::clone(&world),
        actor: world.disk(0),
        oracle: Oracle::new(&world),
        rng: Mutex::new(Rng(7)),
        visitor: Mutex::default(),
        late: Mutex::default(),
        kept: Mutex::default(),
    };
    for act in [Act::CommitLong, Act::CommitLarge, Act::Commit, Act::Checkpoint, Act::CommitLarge, Act::Commit] {
        play.act(act, &mut Some(store.clone())).unwrap();
    }
    // Under load the log grows.
    while store.engine().slots().unwrap().newest.log_capacity() < LOG_CAP {
        let change = vec![put("a", 9, 7000, &mut play.rng.lock().unwrap())];
        play.oracle.write(&store, change, Sync, never).unwrap();
    }
    let fixed = Change::Put(FIXED.0.into(), FIXED.1.to_vec(), FIXED.2.into());
    play.oracle.write(&store, vec![fixed], Sync, never).unwrap();
    // On to where, after another commit and a checkpoint, the log's end comes round to the segment that a log
    // made smaller keeps: what is live there would be written over.
    loop {
        let root = store.engine().slots().unwrap().newest;
        let (in_last, block) = (root.segments[0].page > root.segments[1].page, root.log_offset / 4096);
        if in_last && block == 13 {
            break;
        }
        let len = if in_last && block.is_multiple_of(2) { 5000 } else { 900 };
        let change = vec![put("a", 9, len, &mut play.rng.lock().unwrap())];
        play.oracle.write(&store, change, Sync, never).unwrap();
        play.checkpoint(&store, never).unwrap();
    }
    let attempts = play.oracle.known().attempts.clone();
    // No process has left: a store that is in use.
    (world.image(), attempts)
}

/// One run. Gives whether that call changes the file, or takes a lock; `None`: the act has no such call.
fn run(start: &(Image, Vec<Attempt>), act: Act, visit: Visit, at: usize, dies: bool) -> Result<Option<bool>, String> {
    let door = Arc::new(Door {
        calls: AtomicUsize::new(0),
        at: AtomicUsize::new(NEVER),
        changes: AtomicBool::new(false),
        visit: Mutex::new(None),
        actor: Mutex::new(None),
        dead: AtomicBool::new(false),
        now: AtomicU64::new(1),
    });
    let world = World::new(start.0.clone(), Arc::clone(&door) as _);
    world.record();
    let play = Arc::new(Play {
        world: Arc::clone(&world),
        actor: world.disk(ACTOR),
        oracle: Oracle::after(&world, start.1.clone()),
        rng: Mutex::new(Rng(at as u64)),
        visitor: Mutex::default(),
        late: Mutex::default(),
        kept: Mutex::default(),
    });
    let text = |e: Error| format!("before: {e}");
    // The actor has read an older root than there is now; a relaxed commit lies at the log's end.
    let opens = matches!(act, Act::Open | Act::OpenFirst);
    let mut actor = None;
    if !opens {
        play.act(Act::Open, &mut actor)?;
        play.kept.lock().unwrap().clear();
    }
    let disk = world.disk(VISITOR);
    let visitor = Store::on_disk(Arc::clone(&disk) as _, settings()).map_err(text)?;
    play.commit(&visitor, Act::Commit, never)?;
    play.checkpoint(&visitor, never)?;
    play.commit(&visitor, Act::Commit, never)?;
    play.commit(&visitor, Act::CommitRelaxed, never)?;
    play.commit_blindly(&visitor, never)?;
    if visit == Visit::Late && !matches!(act, Act::LeaveLast | Act::OpenFirst) {
        *play.late.lock().unwrap() = Some(Store::on_disk(world.disk(3), settings()).map_err(text)?);
    }
    match act {
        Act::LeaveLast => visitor.close().map_err(text)?,
        Act::OpenFirst => {
            disk.kill();
            disk.silence();
            drop(catch_unwind(AssertUnwindSafe(|| drop(visitor))));
        }
        _ => *play.visitor.lock().unwrap() = Some(visitor),
    }
    let first = world.history().1.len();
    // Where the visit lies in the record.
    let visited = Arc::new(Mutex::new(first..first));
    let outcome: Arc<Mutex<Result<(), String>>> = Arc::new(Mutex::new(Ok(())));
    if dies {
        *door.actor.lock().unwrap() = Some(Arc::clone(&play.actor));
    } else {
        let (play, outcome, visited) = (Arc::clone(&play), Arc::clone(&outcome), Arc::clone(&visited));
        let visit = move || {
            let from = play.world.history().1.len();
            *outcome.lock().unwrap() = play.visit(visit, kept_waiting);
            *visited.lock().unwrap() = from..play.world.history().1.len();
        };
        *door.visit.lock().unwrap() = Some(Box::new(visit));
    }
    door.at.store(door.calls.load(SeqCst) + at, SeqCst);
    let acted = catch_unwind(AssertUnwindSafe(|| play.act(act, &mut actor)));
    let reached = door.calls.load(SeqCst) > door.at.swap(NEVER, SeqCst);
    match acted {
        Ok(acted) => acted.map_err(|e| format!("the actor: {e}"))?,
        Err(payload) if payload.is::<Killed>() => {}
        Err(payload) => resume_unwind(payload),
    }
    outcome.lock().unwrap().clone().map_err(|e| format!("the visitor: {e}"))?;
    if dies && reached {
        play.actor.kill();
        let actor = actor.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(actor)));
        let from = world.history().1.len();
        play.visit(visit, never).map_err(|e| format!("the visitor, after a death: {e}"))?;
        *visited.lock().unwrap() = from..world.history().1.len();
    }
    // Both go on. Nothing keeps them waiting now.
    let after = |e: String| format!("afterwards: {e}");
    for round in 0..2 {
        if let Some(actor) = &actor {
            play.commit(actor, Act::CommitRelaxed, never).map_err(after)?;
            play.read(actor, never).map_err(after)?;
        }
        play.visit(if round == 0 { Visit::TwoRoots } else { Visit::Commit }, never).map_err(after)?;
    }
    for (snapshot, id) in &*play.kept.lock().unwrap() {
        play.oracle.is_still(snapshot, *id).map_err(after)?;
    }
    play.kept.lock().unwrap().clear();
    let visitor = play.visitor.lock().unwrap().take().unwrap();
    check::structure(&visitor).map_err(after)?;
    drop((actor, visitor, play.late.lock().unwrap().take()));
    play.oracle.at_the_end(LOG_CAP)?;
    // Power losses during the visit, and at some points before and after it.
    let visited = visited.lock().unwrap().clone();
    let (dense, sparse) = (1 + visited.len() / 8, 1 + (world.history().1.len() - first) / 4);
    play.oracle.power_losses(&mut Rng(at as u64), LOG_CAP, |rng, event| {
        event >= first && rng.one_in(if visited.contains(&event) { dense } else { sparse })
    })?;
    Ok(reached.then(|| door.changes.load(SeqCst)))
}

/// Every call of every act: one visit at each in turn, and every visit at those that change the file or take a lock, or at all.
fn between(every: bool) {
    let start = beginning();
    let (mut runs, mut failures) = (0, Vec::new());
    for (act, dies) in ACTS.into_iter().flat_map(|act| [(act, false), (act, true)]) {
        for at in 0.. {
            let mut turns = 1;
            let mut reached = false;
            let mut turn = 0;
            while turn < turns && failures.len() < 3 {
                let visit = VISITS[(at + turn) % VISITS.len()];
                runs += 1;
                turn += 1;
                match run(&start, act, visit, at, dies) {
                    Ok(None) => {}
                    Ok(Some(changes)) => {
                        reached = true;
                        turns = if every || changes { VISITS.len() } else { 1 };
                    }
                    Err(e) => {
                        reached = true;
                        let fate = if dies { "dies" } else { "stands still" };
                        failures.push(format!("{act:?} {fate} at call {at}, {visit:?}: {e}"));
                    }
                }
            }
            if !reached || failures.len() >= 3 {
                break;
            }
        }
    }
    println!("{runs} runs");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn whatever_another_does_between_two_calls_both_agree() {
    between(false);
}

/// The long run: `cargo test --release --lib simulation::interleaving -- --ignored --nocapture`.
#[test]
#[ignore = "takes minutes"]
fn every_visit_at_every_call() {
    between(true);
}
