//! Death, lost power and a lost sidecar, as they happen to the processes; and how these open the store again.

use crate::explore::Step;
use crate::log::{APPEND, At, Log, Point, SILENT, State, place};
use crate::rules::Broken;

const PLACES: [&str; 3] = ["process 1", "process 2", "process 3"];

impl Log {
    fn processes(&self) -> usize {
        self.actors.iter().map(|(_, process, _)| process + 1).max().unwrap_or(0)
    }

    fn actors_of(&self, process: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.actors.len()).filter(move |a| self.process(*a) == process)
    }

    fn kill(&self, to: &mut State, process: usize) {
        to.processes[process].alive = false;
        to.processes[process].poisoned = false;
        for actor in self.actors_of(process) {
            to.reset(actor);
        }
        to.disk.forget(self.actors_of(process), process);
    }

    pub fn world(&self, s: &State, out: &mut Vec<Step<State>>) {
        let mut step = |who: &'static str, what: &'static str, honest: bool, change: &dyn Fn(&mut State)| {
            let mut to = *s;
            change(&mut to);
            out.push(Step { who, what, to, honest });
        };
        for (process, place_of) in PLACES.into_iter().enumerate().take(self.processes()) {
            if !s.processes[process].alive {
                if s.budget.opens > 0 {
                    self.open(s, process, &mut step);
                }
                continue;
            }
            if s.named.is_some_and(|named| named != s.processes[process].sidecar) || s.named.is_none() {
                step(place_of, "notices that its sidecar is gone", true, &|to| to.join_sidecar(process));
            }
            if s.budget.kills > 0 {
                step(place_of, "is killed", false, &|to| {
                    to.budget.kills -= 1;
                    self.kill(to, process);
                });
                if self.actors_of(process).any(|a| s.actors[a].at == At::Append) {
                    step(place_of, "is killed in the middle of appending", false, &|to| {
                        to.budget.kills -= 1;
                        let next = to.processes[process].tail.end;
                        let next = if to.processes[process].open { next } else { next.next_multiple_of(2) };
                        to.disk.tear(place(next).0);
                        self.kill(to, process);
                    });
                }
            }
        }
        if s.named.is_some() && s.budget.lost_sidecars > 0 {
            step("the world", "deletes the sidecar", false, &|to| {
                to.budget.lost_sidecars -= 1;
                to.late = true;
                to.named = None;
            });
        }
        if let Some(named) = s.named
            && s.budget.garbage > 0
        {
            let spoil = |to: &mut State| {
                to.budget.garbage -= 1;
                to.late = true;
            };
            let n = usize::from(named);
            step("the world", "spoils TAIL", false, &|to| {
                spoil(to);
                to.sidecars[n].tail = None;
            });
            step("the world", "spoils DURABLE", false, &|to| {
                spoil(to);
                to.sidecars[n].durable = SILENT;
            });
            step("the world", "spoils ROOT", false, &|to| {
                spoil(to);
                to.sidecars[n].root = SILENT;
            });
            step("the world", "spoils VISIBLE", false, &|to| {
                spoil(to);
                to.sidecars[n].visible = SILENT;
            });
        }
        if s.budget.power_losses > 0 {
            let mut seen = Vec::new();
            s.disk.images::<()>(&mut |image| {
                if !seen.contains(image) {
                    seen.push(*image);
                }
                None
            });
            for image in &seen {
                out.push(Step { who: "the power", what: "fails", to: self.after_power_loss(s, image), honest: false });
            }
        }
    }

    /// `Engine::open`: OPEN is held all the while, and nothing that others see happens before its end.
    fn open(
        &self,
        s: &State,
        process: usize,
        step: &mut impl FnMut(&'static str, &'static str, bool, &dyn Fn(&mut State)),
    ) {
        let place_of = PLACES[process];
        let Some(actor) = self.actors_of(process).next() else { return };
        if s.alive().next().is_some() {
            // The system does not tell this process of a flush that failed before it opened the file.
            if s.is_free(APPEND) {
                step(place_of, "opens the store: joins", true, &|to| {
                    to.budget.opens -= 1;
                    to.processes[process].alive = true;
                    to.join_sidecar(process);
                    to.join(process);
                });
            }
            return;
        }
        let begin = |to: &mut State| -> Option<(u8, Point)> {
            to.budget.opens -= 1;
            let found = to.recover(&to.disk.shown(), self.broken);
            let Ok((newest, tail, _)) = found else {
                to.wrong = Some("a store that is whole cannot be opened");
                return None;
            };
            let root = *to.root(newest);
            let board = to.named.map(|named| to.sidecars[usize::from(named)]);
            // Without a sidecar all of it is in doubt.
            let word = |word: Option<u8>| word.filter(|word| *word != SILENT).unwrap_or(0);
            let (told_root, told_durable) = (word(board.map(|b| b.root)), word(board.map(|b| b.durable)));
            if self.broken != Broken::OpenWithoutWriting {
                if root.sequence > told_root || board.is_some_and(|board| board.poison == 1) {
                    to.disk.rewrite(State::slot_block(root.sequence));
                }
                to.write_frames_anew(&root, told_durable, self.broken);
            }
            to.disk.begin_flush(actor);
            // It says this only if the flush fails.
            to.create_sidecar(process);
            let durable = if board.is_some() { told_durable } else { root.point.lsn };
            let board = &mut to.sidecars[usize::from(to.processes[process].sidecar)];
            board.publish_all(told_root, durable, 0);
            board.poison = 1;
            Some((newest, tail))
        };
        step(place_of, "opens the store: recovers", true, &|to| {
            let Some((newest, tail)) = begin(to) else { return };
            to.disk.end_flush(actor, process);
            to.create_sidecar(process);
            let sequence = to.root(newest).sequence;
            let mine = &mut to.processes[process];
            (mine.alive, mine.known_root, mine.durable, mine.visible) = (true, sequence, tail.lsn, 0);
            (mine.root, mine.tail, mine.open, mine.poisoned, mine.proven) = (newest, tail, false, false, true);
            let board = &mut to.sidecars[usize::from(to.processes[process].sidecar)];
            board.tail = Some((tail, false));
            board.publish_all(sequence, tail.lsn, tail.lsn);
        });
        if s.budget.failed_flushes > 0 {
            step(place_of, "opens the store: the flush fails", false, &|to| {
                to.budget.failed_flushes -= 1;
                if begin(to).is_some() {
                    to.disk.fail_flush(actor, process, 0);
                }
            });
        }
    }
}

impl State {
    /// `Engine::open` of one who is not the first.
    fn join(&mut self, process: usize) {
        let mine = &mut self.processes[process];
        (mine.durable, mine.visible, mine.known_root) = (0, 0, 0);
        (mine.poisoned, mine.open, mine.proven) = (false, false, false);
        self.learn(process);
        let (newest, older) = self.slots(&self.disk.shown());
        let certain = self.root(newest).sequence <= self.processes[process].known_root;
        // (`confirm_root` where there is no older one: a store that still has its first root is flushed already.)
        let root = if certain || older == 0 { newest } else { older };
        self.processes[process].root = root;
        self.processes[process].tail = self.root(root).point;
    }
}
