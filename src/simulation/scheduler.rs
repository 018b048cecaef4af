//! Runs simulated processes and their threads one at a time, and chooses who goes on at each call.
//!
//! Calls of the platform count, reads and writes of shared memory among them, and where one of several
//! threads takes a lock within its process. Time is simulated: it passes with each call, and leaps when all sleep.

use crate::disk::sim::threads;
use crate::disk::sim::{Call, Conductor, Killed, Rng, SimDisk, Verdict, is_traced, trace};
use std::panic::resume_unwind;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A run that takes more calls than this goes round in circles.
const MOST_CALLS: usize = 300_000;
/// If all would sleep so long, in µs, they wait for each other: none sleeps so long on purpose.
const FOR_EVER: u64 = 10_000_000_000;
/// Longer, in µs, than any waits for one that stands still.
const STALL: u64 = 3_000_000;
/// One in so many: never.
pub(super) const NEVER: usize = usize::MAX;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    Ready,
    /// Until that time, or until the word is woken.
    Asleep(u64, Option<(usize, usize)>),
    Gone,
}

/// A thread, and the only one of its process, or the first, or a later one.
struct Player {
    status: Status,
    /// Its process was killed.
    dead: bool,
    /// Of the first thread of a process.
    disk: Option<Arc<SimDisk>>,
    turn: Arc<Condvar>,
}

/// Who goes on.
pub(super) enum Policy {
    /// Any of them, and one call in so many lets another go on.
    Walk(usize),
    /// The first in this order that can; one call in so many puts its maker last.
    ///
    /// Burckhardt, Kothari, Musuvathi, Nagarakatte: A randomized scheduler with probabilistic guarantees of
    /// finding bugs, 2010.
    Order(Vec<usize>, usize),
    /// The one that goes on already, and after it the next in turn, but for some deviations.
    Script(Script),
}

/// Something else than that the one which runs goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    To(usize),
    /// Stands still for longer than others wait for him.
    Stall,
    Kill,
}

/// The deviations, by the number of the choice that they replace, and what could be chosen from.
///
/// Emmi, Qadeer, Rakamarić: Delay-bounded scheduling, 2011.
#[derive(Default)]
pub(super) struct Script {
    deviations: Vec<(usize, Turn)>,
    choices: Vec<Choice>,
}

#[derive(Clone, Copy)]
pub(super) struct Choice {
    /// Who could go on, a bit for each.
    pub(super) ready: u32,
    pub(super) chosen: usize,
    /// Before which call this was; `None` when a thread began to wait, or left.
    pub(super) call: Option<Call>,
}

impl Script {
    pub(super) fn new(deviations: &[(usize, Turn)]) -> Script {
        Script { deviations: deviations.to_vec(), choices: Vec::new() }
    }

    fn deviation(&self) -> Option<Turn> {
        self.deviations.iter().find(|(at, _)| *at == self.choices.len()).map(|(_, turn)| *turn)
    }

    fn choose(&mut self, candidates: &[usize], running: Option<usize>, call: Option<Call>) -> usize {
        let usual = candidates.iter().copied().find(|player| running.is_none_or(|running| *player >= running));
        let usual = usual.unwrap_or(candidates[0]);
        let chosen = match self.deviation() {
            Some(Turn::To(player)) if candidates.contains(&player) => player,
            _ => usual,
        };
        let ready = candidates.iter().fold(0, |ready, player| ready | 1 << player);
        self.choices.push(Choice { ready, chosen, call });
        chosen
    }
}

/// What is to happen, one in so many.
pub(super) struct Odds {
    /// A call puts its maker to sleep, or kills it.
    pub(super) stall: usize,
    pub(super) kill: usize,
    /// A flush, or a write, fails.
    pub(super) fault: usize,
}

impl Odds {
    pub(super) const NONE: Odds = Odds { stall: NEVER, kill: NEVER, fault: NEVER };
}

pub(super) struct State {
    rng: Rng,
    policy: Policy,
    odds: Odds,
    now_us: u64,
    running: Option<usize>,
    /// The first threads of all processes, then the second ones, and so on.
    players: Vec<Player>,
    pub(super) processes: usize,
    calls: usize,
    kills: usize,
    pub(super) failure: Option<String>,
}

pub(super) struct Scheduler {
    state: Mutex<State>,
}

impl Scheduler {
    /// For so many processes with so many threads each, the later ones of which begin when they are started.
    pub(super) fn new(processes: usize, threads: usize, rng: Rng, policy: Policy, odds: Odds) -> Arc<Scheduler> {
        let player = |number| {
            let status = if number < processes { Status::Ready } else { Status::Gone };
            Player { status, dead: false, disk: None, turn: Arc::new(Condvar::new()) }
        };
        let state = State {
            rng,
            policy,
            odds,
            now_us: 5_000_000,
            running: None,
            players: (0..processes * threads).map(player).collect(),
            processes,
            calls: 0,
            kills: 0,
            failure: None,
        };
        Arc::new(Scheduler { state: Mutex::new(state) })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Chooses who goes on, and waits until it is this one's turn again. Gives whether it is dead by then.
    fn pause(&self, mut state: MutexGuard<'_, State>, player: usize, call: Option<Call>) -> bool {
        state.choose(call);
        let turn = Arc::clone(&state.players[player].turn);
        while state.running != Some(player) {
            state = turn.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.players[player].status = Status::Ready;
        state.players[player].dead
    }

    fn give_way(&self, state: MutexGuard<'_, State>, player: usize, call: Option<Call>) {
        if self.pause(state, player, call) && !std::thread::panicking() {
            resume_unwind(Box::new(Killed));
        }
    }

    /// All that were started may go on.
    pub(super) fn begin(&self) {
        self.state().choose(None);
    }

    /// Another thread of a process begins.
    pub(super) fn start(&self, player: usize, first: usize) {
        let mut state = self.state();
        state.players[player].dead = state.players[first].dead;
        state.players[player].status = Status::Ready;
    }

    /// Waits until these have left.
    pub(super) fn see_off(&self, player: usize, others: &[usize]) {
        for times in 0.. {
            let mut state = self.state();
            if others.iter().all(|other| state.players[*other].status == Status::Gone) {
                return;
            }
            state.players[player].status = Status::Asleep(state.now_us + (1 << times.min(12)), None);
            self.pause(state, player, None);
        }
    }

    /// The first turn of a thread.
    pub(super) fn enter(&self, player: usize) {
        let mut state = self.state();
        let turn = Arc::clone(&state.players[player].turn);
        while state.running != Some(player) {
            state = turn.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A thread ends.
    pub(super) fn leave(&self, player: usize) {
        let mut state = self.state();
        state.players[player].status = Status::Gone;
        // The other threads of the process can still be killed.
        let first = player % state.processes;
        if state.threads_of(first).all(|thread| thread.status == Status::Gone) {
            state.players[first].disk = None;
        }
        state.choose(None);
    }

    /// A process has opened the file, once more.
    pub(super) fn live(&self, process: usize, disk: &Arc<SimDisk>) {
        self.state().players[process].disk = Some(Arc::clone(disk));
    }

    pub(super) fn revive(&self, process: usize) {
        self.state().players[process].dead = false;
    }

    /// A thread's errors and panics are failures, unless its process was killed.
    pub(super) fn judge(&self, player: usize, outcome: std::thread::Result<Result<(), String>>) {
        let mut state = self.state();
        let (process, thread) = (player % state.processes, player / state.processes);
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(message)) => {
                // A process that was killed at the very end of a call may still get an answer.
                if !state.players[player].dead {
                    state.fail(format!("process {process}, thread {thread}: {message}"));
                }
            }
            Err(payload) if payload.is::<Killed>() => {}
            Err(payload) => {
                let text = payload.downcast_ref::<String>().cloned();
                let text = text.or_else(|| payload.downcast_ref::<&str>().map(|s| (*s).to_owned()));
                state.fail(format!("process {process}, thread {thread}: panic: {text:?}"));
            }
        }
    }

    /// Whether calls may fail.
    pub(super) fn has_faults(&self) -> bool {
        self.state().odds.fault < NEVER
    }

    /// What the script had to choose from.
    pub(super) fn choices(&self) -> Vec<Choice> {
        match &self.state().policy {
            Policy::Script(script) => script.choices.clone(),
            _ => Vec::new(),
        }
    }

    /// A thread that calls from now on goes on at once. Gives the number of kills and calls, or what went wrong.
    pub(super) fn end(&self) -> Result<(usize, usize), String> {
        let mut state = self.state();
        state.players.clear();
        state.failure.take().map_or(Ok((state.kills, state.calls)), Err)
    }

    fn round_in_circles(&self, player: usize) {
        let place = if is_traced() { std::backtrace::Backtrace::force_capture().to_string() } else { String::new() };
        self.state().fail(format!("no end in sight for process {player} {place}"));
        if !std::thread::panicking() {
            resume_unwind(Box::new(Killed));
        }
    }
}

impl State {
    /// Something is wrong: all stop.
    fn fail(&mut self, message: String) {
        self.failure.get_or_insert(message);
        for player in &mut self.players {
            player.dead = true;
        }
    }

    fn ready(&self) -> Vec<usize> {
        let awake = |status| match status {
            Status::Ready => true,
            Status::Asleep(until, _) => until <= self.now_us,
            Status::Gone => false,
        };
        (0..self.players.len()).filter(|i| awake(self.players[*i].status)).collect()
    }

    fn choose(&mut self, call: Option<Call>) {
        let mut candidates = self.ready();
        if candidates.is_empty() {
            let next = self.players.iter().filter_map(|p| match p.status {
                Status::Asleep(until, _) => Some(until),
                _ => None,
            });
            let Some(next) = next.min() else {
                self.running = None;
                return;
            };
            if next > self.now_us + FOR_EVER {
                self.fail("all wait for each other".to_owned());
            }
            self.now_us = self.now_us.max(next);
            candidates = self.ready();
        }
        let next = match &mut self.policy {
            Policy::Walk(_) => candidates[self.rng.below(candidates.len())],
            Policy::Order(order, _) => {
                *order.iter().find(|player| candidates.contains(player)).unwrap_or(&candidates[0])
            }
            Policy::Script(script) => script.choose(&candidates, self.running, call),
        };
        self.running = Some(next);
        self.players[next].turn.notify_one();
    }

    /// What the script has in store for the next call's maker.
    fn deviation(&self) -> Option<Turn> {
        match &self.policy {
            Policy::Script(script) => script.deviation(),
            _ => None,
        }
    }

    /// Whether another one than this one may go on.
    fn interrupts(&mut self, player: usize) -> bool {
        match &mut self.policy {
            Policy::Walk(often) => self.rng.one_in(*often),
            Policy::Order(order, often) => {
                if self.rng.one_in(*often) {
                    order.retain(|other| *other != player);
                    order.push(player);
                }
                true
            }
            Policy::Script(_) => true,
        }
    }

    fn threads_of(&mut self, first: usize) -> impl Iterator<Item = &mut Player> {
        let step = self.processes;
        self.players.iter_mut().skip(first).step_by(step)
    }

    fn kill(&mut self, first: usize) {
        self.kills += 1;
        for player in self.threads_of(first) {
            player.dead = true;
            if let Status::Asleep(..) = player.status {
                player.status = Status::Ready;
            }
        }
    }
}

impl Conductor for Scheduler {
    fn before(&self, process: usize, call: Call) -> Verdict {
        let player = threads::number().unwrap_or(process);
        let mut state = self.state();
        if player >= state.players.len() {
            return Verdict::Go;
        }
        if state.players[player].dead {
            drop(state);
            if !std::thread::panicking() {
                resume_unwind(Box::new(Killed));
            }
            return Verdict::Fail(libc::EIO);
        }
        state.calls += 1;
        state.now_us += 1;
        if state.calls > MOST_CALLS {
            drop(state);
            self.round_in_circles(player);
            return Verdict::Fail(libc::EIO);
        }
        let deviation = state.deviation();
        let Odds { stall, kill, fault } = state.odds;
        let killed = state.rng.one_in(kill) && state.kills < 6 || deviation == Some(Turn::Kill);
        if killed && !std::thread::panicking() {
            trace!("call {}: process {player} is killed at {call:?}", state.calls);
            let first = player % state.processes;
            state.kill(first);
            if call == Call::Write {
                let part = state.rng.below(65537);
                return Verdict::Part(part, 0);
            }
            let disk = state.players[first].disk.clone();
            drop(state);
            if let Some(disk) = disk {
                disk.kill();
            }
            resume_unwind(Box::new(Killed));
        }
        if deviation == Some(Turn::Stall) {
            state.players[player].status = Status::Asleep(state.now_us + STALL, None);
            self.give_way(state, player, Some(call));
        } else if state.rng.one_in(stall) {
            let most = if state.rng.one_in(30) { 2_000_000 } else { [300, 20_000][state.rng.below(2)] };
            let until = state.now_us + state.rng.below(most) as u64;
            state.players[player].status = Status::Asleep(until, None);
            self.give_way(state, player, Some(call));
        } else if state.interrupts(player) {
            self.give_way(state, player, Some(call));
        } else {
            drop(state);
        }
        let mut state = self.state();
        let fine = state.players.get(player).is_none_or(|p| p.dead);
        if fine || !matches!(call, Call::Flush | Call::Write) || !state.rng.one_in(fault) {
            return Verdict::Go;
        }
        trace!("call {}: process {player}: {call:?} fails", state.calls);
        match call {
            Call::Flush => Verdict::Fail(libc::EIO),
            _ if state.rng.one_in(2) => Verdict::Fail(libc::ENOSPC),
            _ => Verdict::Part(state.rng.below(65536), libc::ENOSPC),
        }
    }

    fn sleep(&self, process: usize, time: Duration) {
        self.wait(process, (usize::MAX, 0), time);
    }

    fn wait(&self, process: usize, word: (usize, usize), time: Duration) {
        let player = threads::number().unwrap_or(process);
        let mut state = self.state();
        if player >= state.players.len() || state.players[player].dead {
            return;
        }
        state.calls += 1;
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).min(1 << 40);
        state.players[player].status = Status::Asleep(state.now_us + 1 + micros, Some(word));
        self.give_way(state, player, None);
    }

    fn wake(&self, process: usize, word: (usize, usize)) {
        let player = threads::number().unwrap_or(process);
        let mut state = self.state();
        if player < state.players.len() && state.players[player].dead {
            return;
        }
        for player in &mut state.players {
            if matches!(player.status, Status::Asleep(_, Some(on)) if on == word) {
                player.status = Status::Ready;
            }
        }
        drop(state);
        let _ = self.before(player, Call::Memory);
    }

    fn contend(&self, player: usize, times: u32) {
        let mut state = self.state();
        state.calls += 1;
        if state.calls > MOST_CALLS {
            drop(state);
            self.round_in_circles(player);
            state = self.state();
        }
        state.players[player].status = Status::Asleep(state.now_us + (1 << times.min(12)), None);
        self.give_way(state, player, None);
    }

    fn now_ms(&self) -> u64 {
        self.state().now_us / 1000
    }
}
