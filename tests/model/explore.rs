//! Every state that a model can reach, breadth first: so the trace to a violation is a shortest one.
//!
//! States are compared whole, not by fingerprint: what was not seen does not exist.

use std::fmt::Write as _;
use std::hash::{Hash, Hasher};

/// A step that a process, or the world around it, can take.
pub struct Step<S> {
    pub who: &'static str,
    pub what: &'static str,
    pub to: S,
    /// A step of the protocol, not of the world around it (deaths, failures, lost power).
    pub honest: bool,
}

/// What actors are called.
pub const NAMES: [&str; 3] = ["first", "second", "third"];

/// Where the steps of one actor are collected.
pub struct Next<'n, S> {
    pub from: &'n S,
    pub actor: usize,
    pub process: usize,
    pub steps: &'n mut Vec<Step<S>>,
}

impl<S: Copy> Next<'_, S> {
    pub fn step(&mut self, what: &'static str, change: impl FnOnce(&mut S)) {
        let mut to = *self.from;
        change(&mut to);
        self.steps.push(Step { who: NAMES[self.actor], what, to, honest: true });
    }
}

pub trait Model {
    type State: Copy + Eq + Hash;

    fn start(&self) -> Self::State;
    fn steps(&self, from: &Self::State, to: &mut Vec<Step<Self::State>>);
    /// The property that a state violates.
    fn wrong(&self, state: &Self::State) -> Option<String>;
    /// Whether every process that is alive has done all that it was to do.
    fn finished(&self, state: &Self::State) -> bool;
    /// The state, as a trace shows it.
    fn show(&self, state: &Self::State) -> String;
}

pub struct Report {
    pub states: usize,
    pub transitions: usize,
    pub depth: usize,
    pub violation: Option<Violation>,
}

pub struct Violation {
    pub reason: String,
    pub steps: usize,
    pub trace: String,
}

/// Small and quick; states need no defence against an adversary who chooses them.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_u8(&mut self, n: u8) {
        self.write_u64(u64::from(n));
    }

    fn write_u16(&mut self, n: u16) {
        self.write_u64(u64::from(n));
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }
}

/// All states seen, in the order in which they were found, and where to find them again.
struct Seen<S> {
    states: Vec<S>,
    /// Indices into `states` plus 1, by hash; 0 is free. Its length is a power of two.
    table: Vec<u32>,
}

impl<S: Copy + Eq + Hash> Seen<S> {
    /// The state's index, and whether it is new.
    fn add(&mut self, state: S) -> (u32, bool) {
        if (self.states.len() + 1) * 2 > self.table.len() {
            self.table = vec![0; (self.table.len() * 2).max(1 << 16)];
            for (index, state) in (1..).zip(&self.states) {
                let mut at = self.place(state);
                while self.table[at] != 0 {
                    at = (at + 1) % self.table.len();
                }
                self.table[at] = index;
            }
        }
        let mut at = self.place(&state);
        while self.table[at] != 0 {
            if self.states[self.table[at] as usize - 1] == state {
                return (self.table[at] - 1, false);
            }
            at = (at + 1) % self.table.len();
        }
        self.states.push(state);
        self.table[at] = u32::try_from(self.states.len()).unwrap();
        (self.table[at] - 1, true)
    }

    fn place(&self, state: &S) -> usize {
        let mut hasher = Mix::default();
        state.hash(&mut hasher);
        hasher.finish() as usize & (self.table.len() - 1)
    }
}

/// Visits all states, at most `most`, and stops at the first violation.
///
/// Beyond what the model calls wrong: from each state the honest steps alone must lead on to one where
/// all is done. So nobody waits for ever for what nobody will do.
pub fn explore<M: Model>(model: &M, most: usize) -> Report {
    let mut seen = Seen { states: Vec::new(), table: Vec::new() };
    seen.add(model.start());
    let mut parents = vec![0_u32];
    // The honest steps: from state i to `targets[starts[i]..starts[i + 1]]`.
    let (mut starts, mut targets) = (vec![0_usize], Vec::new());
    let (mut transitions, mut depth, mut level_end) = (0, 0, 1);
    let mut steps = Vec::new();
    let mut at = 0;
    let mut found = None;
    while at < seen.states.len() {
        if at == level_end {
            depth += 1;
            level_end = seen.states.len();
        }
        let state = seen.states[at];
        if let Some(reason) = model.wrong(&state) {
            found = Some((at, reason));
            break;
        }
        steps.clear();
        model.steps(&state, &mut steps);
        transitions += steps.len();
        for step in &steps {
            let (index, new) = seen.add(step.to);
            if new {
                parents.push(u32::try_from(at).unwrap());
            }
            if step.honest {
                targets.push(index);
            }
        }
        starts.push(targets.len());
        at += 1;
        assert!(seen.states.len() <= most, "more than {most} states: the bounds are too wide");
    }
    let found = found.or_else(|| {
        let stuck = first_stuck(&starts, &targets, |i| model.finished(&seen.states[i]))?;
        Some((stuck, "nobody can ever go on to where all is done".to_owned()))
    });
    let violation = found.map(|(at, reason)| retrace(model, &seen.states, &parents, at, reason));
    Report { states: seen.states.len(), transitions, depth, violation }
}

/// The first state from which no finished one can be reached.
fn first_stuck(starts: &[usize], targets: &[u32], finished: impl Fn(usize) -> bool) -> Option<usize> {
    let count = starts.len() - 1;
    // The same steps, backwards.
    let mut ends = vec![0_usize; count + 1];
    for target in targets {
        ends[*target as usize + 1] += 1;
    }
    for i in 0..count {
        ends[i + 1] += ends[i];
    }
    let mut sources = vec![0_u32; targets.len()];
    let mut next = ends.clone();
    for from in 0..count {
        for target in &targets[starts[from]..starts[from + 1]] {
            sources[next[*target as usize]] = u32::try_from(from).unwrap();
            next[*target as usize] += 1;
        }
    }
    let mut good: Vec<bool> = (0..count).map(&finished).collect();
    let mut open: Vec<usize> = (0..count).filter(|i| good[*i]).collect();
    while let Some(state) = open.pop() {
        for source in &sources[ends[state]..ends[state + 1]] {
            if !std::mem::replace(&mut good[*source as usize], true) {
                open.push(*source as usize);
            }
        }
    }
    good.iter().position(|good| !good)
}

fn retrace<M: Model>(model: &M, states: &[M::State], parents: &[u32], at: usize, reason: String) -> Violation {
    let mut path = vec![at];
    while path[path.len() - 1] != 0 {
        path.push(parents[path[path.len() - 1]] as usize);
    }
    path.reverse();
    let mut trace = String::new();
    for (n, pair) in (1..).zip(path.windows(2)) {
        let mut steps = Vec::new();
        model.steps(&states[pair[0]], &mut steps);
        let step = steps.iter().find(|step| step.to == states[pair[1]]).unwrap();
        let _ = writeln!(trace, "{n:3}. {:10} {}", step.who, step.what);
    }
    let _ = writeln!(trace, "     {reason}\n{}", model.show(&states[at]));
    Violation { reason, steps: path.len() - 1, trace }
}
