//! Root slots, pages and pins: checkpoints use pages again that no durable root and no reader needs.
//!
//! Abstracted: a tree is two pages, of which a checkpoint writes one or both anew; a root holds its free map and pending
//! list itself, and the one name by which a state may be kept. What the log adds is what `log` is about. A transaction that went straight to the tree is a root.

use crate::disk::{Disk, Image};
use crate::explore::{Model, Step};
use crate::rules::Broken;

/// Pages of the file; the two root slots follow.
const PAGES: usize = 5;
const SLOT: usize = PAGES;
const ROOTS: usize = 6;
const ACTORS: usize = 3;
const PROCESSES: usize = 3;
const PENDING: usize = 4;
const SILENT: u8 = 255;
const NAMES: [&str; 3] = ["first", "second", "third"];
const PLACES: [&str; 3] = ["process 1", "process 2", "process 3"];

type Blocks = Image<{ PAGES + 2 }>;

/// A page in a tree: where it is, and for which root it was written; it holds what `State::content` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Page {
    at: u8,
    written: u8,
    birth: u8,
}

/// A page that the roots from `freed` on do not use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Pending {
    at: u8,
    birth: u8,
    freed: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Root {
    sequence: u8,
    tree: [Page; 2],
    pending: [Option<Pending>; PENDING],
    /// This root and all that it was built upon, by bit.
    line: u8,
    /// The root whose twin it is; 0 if it is none.
    elder: u8,
    /// The root that the name stands for; 0 if there is no name.
    named: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Process {
    alive: bool,
    known_root: u8,
    poisoned: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum At {
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
    Healing,
    Poison,
    // A snapshot.
    Adopting,
    Pin,
    LookAgain,
    Reading,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Actor {
    at: At,
    flushing: bool,
    left: u8,
    /// The root that is made, or looked at.
    root: u8,
    /// Pages that may be used, by bit.
    free: u8,
    /// The version pinned; 0 if none.
    pin: u8,
    /// The root that the name stood for at the first look.
    named: u8,
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
    disk: Disk<{ PAGES + 2 }, ACTORS>,
    roots: [Root; ROOTS],
    root_count: u8,
    processes: [Process; PROCESSES],
    actors: [Actor; ACTORS],
    /// The sidecar's ROOT and POISON.
    root_word: u8,
    poison_word: bool,
    budget: Budget,
    wrong: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Folder,
    Reader,
    /// Folds, and gives the base the name, or takes it away.
    Namer,
    /// Reads what the name stands for.
    Opener,
}

impl Role {
    fn folds(self) -> bool {
        matches!(self, Role::Folder | Role::Namer)
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Pins {
    /// Role, process, and how often.
    pub actors: &'static [(Role, usize, u8)],
    pub budget: Budget,
    pub broken: Broken,
}

/// What the page on this side of the tree made for a root holds.
fn content(root: u8, side: usize) -> u8 {
    2 * root - 1 + side as u8
}

impl State {
    fn root(&self, index: u8) -> &Root {
        &self.roots[usize::from(index) - 1]
    }

    /// `read_slots`: the newest root, and the one before; 0 where there is none.
    fn slots(&self, image: &Blocks) -> (u8, u8) {
        let [a, b] = [image[SLOT][0], image[SLOT + 1][0]];
        let sequence = |index: u8| if index == 0 { 0 } else { self.root(index).sequence };
        if sequence(a) > sequence(b) { (a, b) } else { (b, a) }
    }

    fn newest(&self) -> u8 {
        self.slots(&self.disk.shown()).0
    }

    /// `Slots::are_twins`.
    fn are_twins(&self) -> bool {
        let (newest, older) = self.slots(&self.disk.shown());
        older != 0 && self.root(newest).elder == older
    }

    /// Whether all pages of a root hold what they held when it was made.
    fn is_whole(&self, image: &Blocks, root: u8) -> bool {
        let tree = &self.root(root).tree;
        (0..2).all(|side| image[usize::from(tree[side].at)][0] == content(tree[side].written, side))
    }

    fn is_poisoned(&self, process: usize) -> bool {
        self.processes[process].poisoned || self.poison_word
    }

    fn raise_root(&mut self, process: usize, sequence: u8) {
        let known = &mut self.processes[process].known_root;
        *known = sequence.max(*known);
    }

    fn learn(&mut self, process: usize) {
        if self.root_word != SILENT {
            self.raise_root(process, self.root_word);
        }
    }

    fn reset(&mut self, actor: usize) {
        self.actors[actor] = Actor { left: self.actors[actor].left, ..IDLE };
    }

    fn slot_block(sequence: u8) -> usize {
        SLOT + usize::from(sequence) % 2
    }
}

impl Pins {
    fn process(&self, actor: usize) -> usize {
        self.actors[actor].1
    }

    fn actors_of(&self, process: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.actors.len()).filter(move |a| self.process(*a) == process)
    }

    fn slot_of(&self, sequence: u8) -> usize {
        if self.broken == Broken::TwoSlots { SLOT } else { State::slot_block(sequence) }
    }

    fn act(&self, s: &State, a: usize, out: &mut Vec<Step<State>>) {
        let actor = s.actors[a];
        let p = self.process(a);
        let flushes = [At::Settling, At::Flushing, At::FlushRoot, At::Healing, At::Adopting].contains(&actor.at);
        if flushes && !actor.flushing {
            self.begin_flush(s, a, out);
            return;
        }
        let mut step = |what: &'static str, change: &dyn Fn(&mut State)| {
            let mut to = *s;
            change(&mut to);
            out.push(Step { who: NAMES[a], what, to, honest: true });
        };
        let folding =
            |actor: &Actor| !matches!(actor.at, At::Idle | At::Adopting | At::Pin | At::LookAgain | At::Reading);
        let locked =
            (0..ACTORS).any(|b| self.actors.get(b).is_some_and(|(role, ..)| role.folds()) && folding(&s.actors[b]));
        match actor.at {
            At::Idle if actor.left == 0 => {}
            At::Idle if self.actors[a].0.folds() => {
                if !locked || self.broken == Broken::CheckpointLock {
                    step("lock_checkpoint", &|to| {
                        to.actors[a].left -= 1;
                        to.actors[a].at = At::Settle;
                    });
                }
            }
            At::Idle => step("adopt: read the slots", &|to| {
                to.learn(p);
                to.actors[a].left -= 1;
                self.read_slots(to, a);
            }),

            At::Settle => step("settle_root", &|to| {
                to.learn(p);
                let newest = to.newest();
                let sequence = to.root(newest).sequence;
                to.actors[a].root = newest;
                if to.is_poisoned(p) {
                    if sequence > to.processes[p].known_root {
                        to.disk.rewrite(self.slot_of(sequence));
                    }
                    to.actors[a].at = At::Healing;
                    return;
                }
                let doubtful = sequence > to.processes[p].known_root && self.broken != Broken::SettleRoot;
                if doubtful || to.are_twins() && self.broken != Broken::TwinRewrite {
                    to.disk.rewrite(self.slot_of(sequence));
                }
                to.actors[a].at = if doubtful { At::Settling } else { At::LookForPins };
                if !doubtful {
                    to.root_word = sequence;
                }
            }),
            At::Settling => step("settle_root: flushed", &|to| {
                if self.flushed(to, a) {
                    let sequence = to.root(to.actors[a].root).sequence;
                    to.raise_root(p, sequence);
                    to.root_word = sequence;
                    to.actors[a].at = At::LookForPins;
                }
            }),
            At::Healing => step("heal: flushed", &|to| {
                if self.flushed(to, a) {
                    let sequence = to.root(to.actors[a].root).sequence;
                    to.raise_root(p, sequence);
                    to.root_word = sequence;
                    to.processes[p].poisoned = false;
                    to.poison_word = false;
                    to.actors[a].at = At::Settle;
                }
            }),
            At::LookForPins => step("Folding::new: look for pins, reclaim", &|to| {
                to.actors[a].root = to.newest();
                to.actors[a].free = self.reclaim(to, a);
                to.actors[a].at = At::WritePages;
            }),
            At::WritePages => {
                for (what, sides) in [("write the left page", 1..2), ("write both pages", 0..0)] {
                    step(what, &|to| self.write_pages(to, a, sides.clone()));
                }
            }
            At::Flushing => step("fold: pages flushed", &|to| {
                if self.flushed(to, a) {
                    to.actors[a].at = At::WriteRoot;
                }
            }),
            At::WriteRoot => step("fold: write the root slot", &|to| {
                let sequence = to.root(to.actors[a].root).sequence;
                to.disk.write(self.slot_of(sequence), 0, actor.root);
                if self.broken == Broken::TellBeforeFlush {
                    to.root_word = sequence;
                }
                to.actors[a].at = At::FlushRoot;
            }),
            At::FlushRoot => step("fold: root flushed", &|to| {
                if self.flushed(to, a) {
                    let sequence = to.root(to.actors[a].root).sequence;
                    to.raise_root(p, sequence);
                    to.actors[a].at = At::Tell;
                }
            }),
            At::Tell => step("fold: set_root", &|to| {
                to.root_word = to.root(to.actors[a].root).sequence;
                to.reset(a);
            }),
            At::Poison => step("poison", &|to| {
                to.processes[p].poisoned = true;
                to.poison_word = true;
                to.reset(a);
            }),

            At::Adopting => step("adopt: flushed", &|to| {
                if self.flushed(to, a) {
                    let sequence = to.root(to.actors[a].root).sequence;
                    to.raise_root(p, sequence);
                    to.actors[a].at = At::Pin;
                }
            }),
            At::Pin if self.actors[a].0 == Role::Opener => {
                step("named_view: look for the name", &|to| self.look_for_name(to, a));
            }
            At::Pin => step("adopt: pin", &|to| {
                to.actors[a].pin = to.root(actor.root).sequence;
                to.actors[a].at = if self.broken == Broken::Relook { At::Reading } else { At::LookAgain };
            }),
            At::LookAgain => step("adopt: look again", &|to| {
                if to.newest() == actor.root {
                    to.actors[a].at = At::Reading;
                } else {
                    to.actors[a].pin = 0;
                    self.read_slots(to, a);
                }
            }),
            At::Reading => step("the snapshot ends", &|to| to.reset(a)),
        }
        if flushes && s.budget.failed_flushes > 0 {
            let mut to = *s;
            to.budget.failed_flushes -= 1;
            let others = (0..PROCESSES).filter(|p| s.processes[*p].alive).fold(0, |mask, p| mask | 1 << p);
            to.disk.fail_flush(a, p, others);
            to.actors[a].at = At::Poison;
            out.push(Step { who: NAMES[a], what: "the flush fails", to, honest: false });
        }
    }

    fn begin_flush(&self, s: &State, a: usize, out: &mut Vec<Step<State>>) {
        let (p, mut to) = (self.process(a), *s);
        if self.actors_of(p).any(|other| s.actors[other].flushing) && self.broken != Broken::FlushTogether {
            return;
        }
        if s.is_poisoned(p) && s.actors[a].at != At::Healing {
            to.reset(a);
            out.push(Step { who: NAMES[a], what: "does not flush: poisoned", to, honest: true });
            return;
        }
        to.actors[a].flushing = true;
        to.disk.begin_flush(a);
        out.push(Step { who: NAMES[a], what: "flush begins", to, honest: true });
    }

    fn flushed(&self, to: &mut State, a: usize) -> bool {
        let good = to.disk.end_flush(a, self.process(a));
        if good {
            to.actors[a].flushing = false;
        } else {
            to.actors[a].at = At::Poison;
        }
        good
    }

    /// `Engine::adopt`: a root that nobody called durable is flushed before it is used.
    fn read_slots(&self, to: &mut State, a: usize) {
        let newest = to.newest();
        let doubtful = to.root(newest).sequence > to.processes[self.process(a)].known_root;
        to.actors[a].root = newest;
        to.actors[a].at = if doubtful { At::Adopting } else { At::Pin };
    }

    /// `Engine::named_view`, with the newest root, which is durable: pins what the name stands for, and looks once more.
    fn look_for_name(&self, to: &mut State, a: usize) {
        let Actor { root, named: before, .. } = to.actors[a];
        let named = to.root(root).named;
        if named == 0 {
            return to.reset(a);
        }
        let pinned = named == before || self.broken == Broken::NamedRelook;
        to.actors[a].pin = to.root(named).sequence;
        to.actors[a].named = named;
        if pinned {
            (to.actors[a].root, to.actors[a].at) = (named, At::Reading);
        } else {
            to.learn(self.process(a));
            self.read_slots(to, a);
        }
    }

    /// `Space::reclaim`, on top of what is free: the pages that may be written.
    fn reclaim(&self, to: &State, a: usize) -> u8 {
        let root = to.root(to.actors[a].root);
        let mut free = (1 << PAGES) - 1_u8;
        for page in &root.tree {
            free &= !(1 << page.at);
        }
        for Pending { at, birth, freed } in root.pending.iter().flatten() {
            let pinned = (0..self.actors.len()).any(|b| {
                let own = self.process(b) == self.process(a);
                let pin = to.actors[b].pin;
                pin != 0 && *birth <= pin && pin < *freed && !(own && self.broken == Broken::OwnPins)
            });
            let takes = self.actors[a].0 == Role::Namer && self.broken == Broken::NamedAtOnce;
            let named = root.named != 0 && self.broken != Broken::NamedPins && !takes;
            let kept = named && (*birth..*freed).contains(&to.root(root.named).sequence);
            if *freed > root.sequence || kept || pinned && self.broken != Broken::Pins {
                free &= !(1 << at);
            }
        }
        free
    }

    /// Makes the next root: the sides in `kept` stay the pages that they are.
    fn write_pages(&self, to: &mut State, a: usize, kept: std::ops::Range<usize>) {
        let base = *to.root(to.actors[a].root);
        if usize::from(to.root_count) == ROOTS {
            to.wrong = Some("the model has too few roots for these bounds");
            return;
        }
        let index = to.root_count + 1;
        let mut free = to.actors[a].free;
        let sequence = base.sequence + 1;
        let mut root = Root { sequence, line: base.line | 1 << index, elder: 0, ..base };
        // What was reclaimed is pending no more.
        let mut pending: Vec<Pending> = base.pending.into_iter().flatten().filter(|p| free & 1 << p.at == 0).collect();
        for side in (0..2).filter(|side| !kept.contains(side)) {
            let old = root.tree[side];
            if self.broken == Broken::Pending {
                free |= 1 << old.at;
            } else {
                pending.push(Pending { at: old.at, birth: old.birth, freed: sequence });
            }
            if free == 0 {
                // A real file would grow.
                to.reset(a);
                return;
            }
            let at = free.trailing_zeros() as u8;
            free &= !(1 << at);
            root.tree[side] = Page { at, written: index, birth: sequence };
            to.disk.write(usize::from(at), 0, content(index, side));
        }
        if self.actors[a].0 == Role::Namer {
            root.named = if base.named == 0 { to.actors[a].root } else { 0 };
        }
        root.pending = [None; PENDING];
        for (place, pending) in root.pending.iter_mut().zip(&pending) {
            *place = Some(*pending);
        }
        assert!(pending.len() <= PENDING, "the model has too few pending entries");
        to.roots[usize::from(index) - 1] = root;
        to.root_count = index;
        to.actors[a].root = index;
        to.actors[a].at = if self.broken == Broken::PagesBeforeRoot { At::WriteRoot } else { At::Flushing };
    }

    fn world(&self, s: &State, out: &mut Vec<Step<State>>) {
        let mut step = |who: &'static str, what: &'static str, honest: bool, change: &dyn Fn(&mut State)| {
            let mut to = *s;
            change(&mut to);
            out.push(Step { who, what, to, honest });
        };
        let processes = self.actors.iter().map(|(_, process, _)| process + 1).max().unwrap_or(0);
        let go = |to: &mut State, process: usize| {
            to.processes[process] = Process::default();
            self.actors_of(process).for_each(|actor| to.reset(actor));
            to.disk.forget(self.actors_of(process), process);
        };
        let alone = |process: usize| (0..processes).all(|p| p == process || !s.processes[p].alive);
        for (process, place) in PLACES.into_iter().enumerate().take(processes) {
            if s.processes[process].alive {
                if s.budget.kills > 0 {
                    step(place, "is killed", false, &|to| {
                        to.budget.kills -= 1;
                        go(to, process);
                    });
                }
                let idle = self.actors_of(process).all(|a| s.actors[a].at == At::Idle);
                if idle && alone(process) && s.budget.leaves > 0 && !s.is_poisoned(process) {
                    step(place, "leaves, and writes the twin", true, &|to| {
                        to.budget.leaves -= 1;
                        self.write_twin(to, process);
                        go(to, process);
                        (to.root_word, to.poison_word) = (SILENT, false);
                    });
                }
            } else if s.budget.opens > 0 {
                let what = if alone(process) { "opens the store: recovers" } else { "opens the store: joins" };
                step(place, what, true, &|to| {
                    to.budget.opens -= 1;
                    to.processes[process].alive = true;
                    if alone(process) {
                        let newest = to.newest();
                        let (sequence, certain) = (to.root(newest).sequence, to.are_twins());
                        if to.poison_word {
                            to.disk.rewrite(self.slot_of(sequence));
                        }
                        if !certain || to.poison_word {
                            let Some(actor) = self.actors_of(process).next() else { return };
                            to.disk.begin_flush(actor);
                            to.disk.end_flush(actor, process);
                        }
                        to.raise_root(process, sequence);
                        (to.root_word, to.poison_word) = (sequence, false);
                    } else {
                        to.learn(process);
                    }
                });
            }
        }
        if s.budget.lost_words > 0 && s.root_word != SILENT {
            step("somebody", "spoils ROOT", false, &|to| {
                to.budget.lost_words -= 1;
                to.root_word = SILENT;
            });
        }
        if s.budget.power_losses > 0 {
            s.disk.images::<()>(&mut |image| {
                let mut to = *s;
                to.budget.power_losses -= 1;
                to.disk = Disk::holding(image);
                (0..processes).for_each(|process| go(&mut to, process));
                (to.root_word, to.poison_word) = (SILENT, false);
                out.push(Step { who: "the power", what: "fails", to, honest: false });
                None
            });
        }
    }

    /// `CheckpointTurn::write_twin`.
    fn write_twin(&self, to: &mut State, process: usize) {
        let newest = to.newest();
        let elder = *to.root(newest);
        let doubtful = elder.sequence > to.processes[process].known_root && self.broken != Broken::TwinOfDoubtful;
        if doubtful || to.are_twins() {
            return;
        }
        if usize::from(to.root_count) == ROOTS {
            to.wrong = Some("the model has too few roots for these bounds");
            return;
        }
        let index = to.root_count + 1;
        let sequence = elder.sequence + 1;
        to.roots[usize::from(index) - 1] = Root { sequence, line: elder.line | 1 << index, elder: newest, ..elder };
        to.root_count = index;
        to.disk.write(self.slot_of(sequence), 0, index);
    }

    /// The property that what a power loss leaves violates.
    fn left_wrong(&self, state: &State, image: &Blocks) -> Option<&'static str> {
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
        // The root believed durable, or the one whose twin it is, must be this one or lie before it.
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
