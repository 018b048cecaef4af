//! Root slots, pages and pins: checkpoints use pages again that no durable root and no reader needs.
//!
//! Abstracted: a tree is two pages, of which a checkpoint writes one or both to other places; a root holds its free map and pending
//! list itself, and the one name by which a state may be kept. What the log adds is what `log` is about. A transaction that went straight to the tree is a root.

use crate::disk::{Disk, Image};
use crate::explore::{Model, Step};
use crate::rules::Broken;

/// Pages of the file; the two root slots follow.
pub const PAGES: usize = 5;
const SLOT: usize = PAGES;
pub const ROOTS: usize = 6;
pub const ACTORS: usize = 3;
pub const PROCESSES: usize = 3;
pub const PENDING: usize = 4;
pub const SILENT: u8 = 255;

type Blocks = Image<{ PAGES + 2 }>;

/// A page in a tree: where it is, and for which root it was written; it holds what `State::content` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Page {
    pub at: u8,
    pub written: u8,
    pub birth: u8,
}

/// A page that the roots from `freed` on do not use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Pending {
    pub at: u8,
    pub birth: u8,
    pub freed: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Root {
    pub sequence: u8,
    pub tree: [Page; 2],
    pub pending: [Option<Pending>; PENDING],
    /// This root and all that it was built upon, by bit.
    pub line: u8,
    /// The root whose copy it is; 0 if it is none.
    pub elder: u8,
    /// The root that the name stands for; 0 if there is no name.
    pub named: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Process {
    pub alive: bool,
    pub known_root: u8,
    pub poisoned: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum At {
    Idle,
    // A checkpoint.
    Settle,
    Settling,
    LookForPins,
    WritePages,
    Flushing,
    WriteRoot,
    FlushRoot,
    Tell,
    Repairing,
    Poison,
    // A snapshot.
    Adopting,
    Pin,
    LookAgain,
    Reading,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Actor {
    pub at: At,
    pub flushing: bool,
    pub left: u8,
    /// The root that is made, or looked at.
    pub root: u8,
    /// Pages that may be used, by bit.
    pub free: u8,
    /// The version pinned; 0 if none.
    pub pin: u8,
    /// The root that the name stood for at the first look.
    pub named: u8,
}

const IDLE: Actor = Actor { at: At::Idle, flushing: false, left: 0, root: 0, free: 0, pin: 0, named: 0 };

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Budget {
    pub kills: u8,
    pub opens: u8,
    pub power_losses: u8,
    pub failed_flushes: u8,
    pub lost_words: u8,
    /// Processes that leave when they have done all they wanted.
    pub leaves: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    pub disk: Disk<{ PAGES + 2 }, ACTORS>,
    pub roots: [Root; ROOTS],
    pub root_count: u8,
    pub processes: [Process; PROCESSES],
    pub actors: [Actor; ACTORS],
    /// The sidecar's ROOT and POISON.
    pub root_word: u8,
    pub poison_word: bool,
    pub budget: Budget,
    pub wrong: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Checkpointer,
    Reader,
    /// Makes a checkpoint, and gives the base the name, or takes it away.
    Namer,
    /// Reads what the name stands for.
    Opener,
}

impl Role {
    pub fn checkpoints(self) -> bool {
        matches!(self, Role::Checkpointer | Role::Namer)
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Pins {
    /// Role, process, and how often.
    pub actors: &'static [(Role, usize, u8)],
    pub budget: Budget,
    pub broken: Broken,
}

/// The content of the page on this side of the tree that was made for a root.
pub fn content(root: u8, side: usize) -> u8 {
    2 * root - 1 + side as u8
}

impl State {
    pub fn root(&self, index: u8) -> &Root {
        &self.roots[usize::from(index) - 1]
    }

    /// `read_slots`: the newest root, and the one before; 0 where there is none.
    pub fn slots(&self, image: &Blocks) -> (u8, u8) {
        let [a, b] = [image[SLOT][0], image[SLOT + 1][0]];
        let sequence = |index: u8| if index == 0 { 0 } else { self.root(index).sequence };
        if sequence(a) > sequence(b) { (a, b) } else { (b, a) }
    }

    pub fn newest(&self) -> u8 {
        self.slots(&self.disk.shown()).0
    }

    /// `Slots::are_copies`.
    pub fn are_copies(&self) -> bool {
        let (newest, older) = self.slots(&self.disk.shown());
        older != 0 && self.root(newest).elder == older
    }

    /// Whether all pages of a root hold what they held when it was made.
    pub fn is_whole(&self, image: &Blocks, root: u8) -> bool {
        let tree = &self.root(root).tree;
        (0..2).all(|side| image[usize::from(tree[side].at)][0] == content(tree[side].written, side))
    }

    pub fn is_poisoned(&self, process: usize) -> bool {
        self.processes[process].poisoned || self.poison_word
    }

    pub fn raise_root(&mut self, process: usize, sequence: u8) {
        let known = &mut self.processes[process].known_root;
        *known = sequence.max(*known);
    }

    pub fn learn(&mut self, process: usize) {
        if self.root_word != SILENT {
            self.raise_root(process, self.root_word);
        }
    }

    pub fn reset(&mut self, actor: usize) {
        self.actors[actor] = Actor { left: self.actors[actor].left, ..IDLE };
    }

    pub fn slot_block(sequence: u8) -> usize {
        SLOT + usize::from(sequence) % 2
    }
}

impl Pins {
    pub fn process(&self, actor: usize) -> usize {
        self.actors[actor].1
    }

    pub fn actors_of(&self, process: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.actors.len()).filter(move |a| self.process(*a) == process)
    }

    pub fn slot_of(&self, sequence: u8) -> usize {
        if self.broken == Broken::TwoSlots { SLOT } else { State::slot_block(sequence) }
    }

    /// The property that what a power loss leaves violates.
    pub fn left_wrong(&self, state: &State, image: &Blocks) -> Option<&'static str> {
        let (newest, _) = state.slots(image);
        if newest == 0 {
            return Some("no root is left");
        }
        if !state.is_whole(image, newest) {
            return Some("the newest root has pages that hold something else");
        }
        let named = state.root(newest).named;
        if named != 0 && !state.is_whole(image, named) {
            return Some("a page of a named state was used again");
        }
        let told = if state.root_word == SILENT { 0 } else { state.root_word };
        let known = state.processes.iter().filter(|p| p.alive).map(|p| p.known_root);
        let believed = known.chain([told]).max().unwrap_or(0);
        // The root believed durable, or the one whose copy it is, must be this one or lie before it.
        let line = state.root(newest).line;
        let kept = (1..=state.root_count).any(|index| {
            let root = state.root(index);
            let same = line & 1 << index != 0 || root.elder != 0 && line & 1 << root.elder != 0;
            root.sequence == believed && same
        });
        (!kept && believed != 0).then_some("a root believed durable is lost")
    }
}

impl Model for Pins {
    type State = State;

    fn start(&self) -> State {
        let mut roots = [Root::default(); ROOTS];
        let tree = [Page { at: 0, written: 1, birth: 1 }, Page { at: 1, written: 1, birth: 1 }];
        roots[0] = Root { sequence: 1, tree, line: 1 << 1, ..Root::default() };
        let mut image = Blocks::default();
        (image[0][0], image[1][0]) = (content(1, 0), content(1, 1));
        image[self.slot_of(1)][0] = 1;
        let mut state = State {
            disk: Disk::holding(&image),
            roots,
            root_count: 1,
            processes: [Process::default(); PROCESSES],
            actors: [IDLE; ACTORS],
            root_word: 1,
            poison_word: false,
            budget: self.budget,
            wrong: None,
        };
        for (actor, (_, process, left)) in self.actors.iter().enumerate() {
            state.actors[actor].left = *left;
            state.processes[*process] = Process { alive: true, known_root: 1, poisoned: false };
        }
        state
    }

    fn steps(&self, from: &State, to: &mut Vec<Step<State>>) {
        if from.wrong.is_none() {
            for actor in 0..self.actors.len() {
                if from.processes[self.process(actor)].alive {
                    self.act(from, actor, to);
                }
            }
            self.world(from, to);
        }
    }

    fn wrong(&self, state: &State) -> Option<String> {
        if let Some(wrong) = state.wrong {
            return Some(wrong.to_owned());
        }
        let shown = state.disk.shown();
        for actor in &state.actors {
            if actor.at == At::Reading && !state.is_whole(&shown, actor.root) {
                return Some("a page of a snapshot was used again".to_owned());
            }
        }
        if let Some(wrong) = self.left_wrong(state, &shown) {
            return Some(format!("in the file now: {wrong}"));
        }
        state.disk.images(&mut |image| {
            let wrong = self.left_wrong(state, image)?;
            Some(format!("after a power loss that leaves {image:?}: {wrong}"))
        })
    }

    fn finished(&self, state: &State) -> bool {
        (0..self.actors.len()).all(|actor| {
            let Actor { at, left, .. } = state.actors[actor];
            at == At::Idle && (left == 0 || !state.processes[self.process(actor)].alive)
        })
    }

    fn show(&self, state: &State) -> String {
        let roots = &state.roots[..usize::from(state.root_count)];
        let State { disk, processes, actors, root_word, .. } = state;
        format!("disk {:?}\nroots {roots:?}\nprocesses {processes:?}\nactors {actors:?}\nROOT {root_word}", disk.blocks)
    }
}
