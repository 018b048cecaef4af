//! The processes and root slots, pages and pins, step by step; kills, lost words and power losses.

use crate::disk::Disk;
use crate::explore::{NAMES, Step};
use crate::pins::{
    ACTORS, Actor, At, PAGES, PENDING, PROCESSES, Page, Pending, Pins, Process, ROOTS, Role, Root, SILENT, State,
    content,
};
use crate::rules::Broken;

const PLACES: [&str; 3] = ["process 1", "process 2", "process 3"];

type Next<'n> = crate::explore::Next<'n, State>;

impl Pins {
    /// The steps that an actor can take.
    pub fn act(&self, s: &State, a: usize, out: &mut Vec<Step<State>>) {
        let Actor { at, flushing, .. } = s.actors[a];
        let flushes = [At::Settling, At::Flushing, At::FlushRoot, At::Repairing, At::Adopting].contains(&at);
        if flushes && !flushing {
            self.begin_flush(s, a, out);
            return;
        }
        let next = &mut Next { from: s, actor: a, process: self.process(a), steps: out };
        match at {
            At::Idle => self.begin(next),
            At::Settle | At::Settling | At::Repairing | At::LookForPins | At::WritePages => self.checkpoint(next),
            At::Flushing | At::WriteRoot | At::FlushRoot | At::Tell | At::Poison => self.new_root(next),
            At::Adopting | At::Pin | At::LookAgain | At::Reading => self.snapshot(next),
        }
        if flushes && s.budget.failed_flushes > 0 {
            self.fail_flush(s, a, out);
        }
    }

    /// The first step of an idle actor.
    fn begin(&self, next: &mut Next<'_>) {
        let (a, p, s) = (next.actor, next.process, next.from);
        if s.actors[a].left == 0 {
            return;
        }
        if !self.actors[a].0.checkpoints() {
            next.step("adopt: read the slots", |to| {
                to.learn(p);
                to.actors[a].left -= 1;
                self.read_slots(to, a);
            });
            return;
        }
        let checkpointing =
            |actor: &Actor| !matches!(actor.at, At::Idle | At::Adopting | At::Pin | At::LookAgain | At::Reading);
        let locked = (0..ACTORS)
            .any(|b| self.actors.get(b).is_some_and(|(role, ..)| role.checkpoints()) && checkpointing(&s.actors[b]));
        if !locked || self.broken == Broken::CheckpointLock {
            next.step("lock_checkpoint", |to| {
                to.actors[a].left -= 1;
                to.actors[a].at = At::Settle;
            });
        }
    }

    /// A checkpoint, up to its pages.
    fn checkpoint(&self, next: &mut Next<'_>) {
        let (a, p) = (next.actor, next.process);
        match next.from.actors[a].at {
            At::Settle => next.step("settle_root", |to| self.settle_root(to, a)),
            At::Settling => next.step("settle_root: flushed", |to| {
                if self.flushed(to, a) {
                    let sequence = to.root(to.actors[a].root).sequence;
                    to.raise_root(p, sequence);
                    to.root_word = sequence;
                    to.actors[a].at = At::LookForPins;
                }
            }),
            At::Repairing => next.step("repair: flushed", |to| {
                if self.flushed(to, a) {
                    let sequence = to.root(to.actors[a].root).sequence;
                    to.raise_root(p, sequence);
                    to.root_word = sequence;
                    to.processes[p].poisoned = false;
                    to.poison_word = false;
                    to.actors[a].at = At::Settle;
                }
            }),
            At::LookForPins => next.step("PageWriter::new: look for pins, reclaim", |to| {
                to.actors[a].root = to.newest();
                to.actors[a].free = self.reclaim(to, a);
                to.actors[a].at = At::WritePages;
            }),
            At::WritePages => {
                for (what, sides) in [("write the left page", 1..2), ("write both pages", 0..0)] {
                    next.step(what, |to| self.write_pages(to, a, sides.clone()));
                }
            }
            _ => {}
        }
    }

    /// The root to build on is durable, or is written once more and flushed.
    fn settle_root(&self, to: &mut State, a: usize) {
        let p = self.process(a);
        to.learn(p);
        let newest = to.newest();
        let sequence = to.root(newest).sequence;
        to.actors[a].root = newest;
        if to.is_poisoned(p) {
            if sequence > to.processes[p].known_root {
                to.disk.rewrite(self.slot_of(sequence));
            }
            to.actors[a].at = At::Repairing;
            return;
        }
        let doubtful = sequence > to.processes[p].known_root && self.broken != Broken::SettleRoot;
        if doubtful || to.are_copies() && self.broken != Broken::CopyRewrite {
            to.disk.rewrite(self.slot_of(sequence));
        }
        to.actors[a].at = if doubtful { At::Settling } else { At::LookForPins };
        if !doubtful {
            to.root_word = sequence;
        }
    }

    /// A checkpoint, from its pages on.
    fn new_root(&self, next: &mut Next<'_>) {
        let (a, p) = (next.actor, next.process);
        let root = next.from.actors[a].root;
        match next.from.actors[a].at {
            At::Flushing => next.step("checkpoint: pages flushed", |to| {
                if self.flushed(to, a) {
                    to.actors[a].at = At::WriteRoot;
                }
            }),
            At::WriteRoot => next.step("checkpoint: write the root slot", |to| {
                let sequence = to.root(to.actors[a].root).sequence;
                to.disk.write(self.slot_of(sequence), 0, root);
                if self.broken == Broken::TellBeforeFlush {
                    to.root_word = sequence;
                }
                to.actors[a].at = At::FlushRoot;
            }),
            At::FlushRoot => next.step("checkpoint: root flushed", |to| {
                if self.flushed(to, a) {
                    let sequence = to.root(to.actors[a].root).sequence;
                    to.raise_root(p, sequence);
                    to.actors[a].at = At::Tell;
                }
            }),
            At::Tell => next.step("checkpoint: set_root", |to| {
                to.root_word = to.root(to.actors[a].root).sequence;
                to.reset(a);
            }),
            At::Poison => next.step("poison", |to| {
                to.processes[p].poisoned = true;
                to.poison_word = true;
                to.reset(a);
            }),
            _ => {}
        }
    }

    /// A snapshot.
    fn snapshot(&self, next: &mut Next<'_>) {
        let (a, p) = (next.actor, next.process);
        let root = next.from.actors[a].root;
        match next.from.actors[a].at {
            At::Adopting => next.step("adopt: flushed", |to| {
                if self.flushed(to, a) {
                    let sequence = to.root(to.actors[a].root).sequence;
                    to.raise_root(p, sequence);
                    to.actors[a].at = At::Pin;
                }
            }),
            At::Pin if self.actors[a].0 == Role::Opener => {
                next.step("named_view: look for the name", |to| self.look_for_name(to, a));
            }
            At::Pin => next.step("adopt: pin", |to| {
                to.actors[a].pin = to.root(root).sequence;
                to.actors[a].at = if self.broken == Broken::Relook { At::Reading } else { At::LookAgain };
            }),
            At::LookAgain => next.step("adopt: look again", |to| {
                if to.newest() == root {
                    to.actors[a].at = At::Reading;
                } else {
                    to.actors[a].pin = 0;
                    self.read_slots(to, a);
                }
            }),
            At::Reading => next.step("the snapshot ends", |to| to.reset(a)),
            _ => {}
        }
    }

    fn fail_flush(&self, s: &State, a: usize, out: &mut Vec<Step<State>>) {
        let mut to = *s;
        to.budget.failed_flushes -= 1;
        let others = (0..PROCESSES).filter(|p| s.processes[*p].alive).fold(0, |mask, p| mask | 1 << p);
        to.disk.fail_flush(a, self.process(a), others);
        to.actors[a].at = At::Poison;
        out.push(Step { who: NAMES[a], what: "the flush fails", to, honest: false });
    }

    fn begin_flush(&self, s: &State, a: usize, out: &mut Vec<Step<State>>) {
        let (p, mut to) = (self.process(a), *s);
        if self.actors_of(p).any(|other| s.actors[other].flushing) && self.broken != Broken::FlushTogether {
            return;
        }
        if s.is_poisoned(p) && s.actors[a].at != At::Repairing {
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
        // Pages that were reclaimed are pending no more.
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

    pub fn world(&self, s: &State, out: &mut Vec<Step<State>>) {
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
                    step(place, "leaves, and writes the copy", true, &|to| {
                        to.budget.leaves -= 1;
                        self.write_copy(to, process);
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
                        let (sequence, certain) = (to.root(newest).sequence, to.are_copies());
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
            step("a foreign process", "spoils ROOT", false, &|to| {
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

    /// `CheckpointGuard::write_copy`.
    fn write_copy(&self, to: &mut State, process: usize) {
        let newest = to.newest();
        let elder = *to.root(newest);
        let doubtful = elder.sequence > to.processes[process].known_root && self.broken != Broken::CopyOfUnconfirmed;
        if doubtful || to.are_copies() {
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
}
