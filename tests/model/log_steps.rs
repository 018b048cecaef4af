//! What the processes do with the log, step by step, under the names of the engine's functions.

use crate::explore::Step;
use crate::log::{
    APPEND, Actor, At, CHECKPOINT, Frame, Log, NEW_SIDECAR, Point, Process, RESERVE, Role, Root, SILENT, SYNC, Sidecar,
    State, Then, WRITER, Why, bit, next_block, place, rise,
};
use crate::rules::Broken;

const NAMES: [&str; 3] = ["first", "second", "third"];

impl State {
    pub fn sidecar(&mut self, process: usize) -> &mut Sidecar {
        &mut self.sidecars[usize::from(self.processes[process].sidecar)]
    }

    pub fn is_poisoned(&self, process: usize) -> bool {
        let process = &self.processes[process];
        process.poisoned || self.sidecars[usize::from(process.sidecar)].poison == 1
    }

    /// `Engine::poison`.
    fn poison(&mut self, process: usize) {
        self.processes[process].poisoned = true;
        self.sidecar(process).poison = 1;
    }

    /// `Engine::learn`.
    pub fn learn(&mut self, process: usize) -> bool {
        let Sidecar { durable, visible, root, .. } = *self.sidecar(process);
        let process = &mut self.processes[process];
        let mut told = true;
        for (known, word) in
            [(&mut process.durable, durable), (&mut process.visible, visible), (&mut process.known_root, root)]
        {
            told &= word != SILENT;
            if word != SILENT {
                *known = (*known).max(word);
            }
        }
        told
    }

    /// `Engine::create_sidecar`.
    pub fn create_sidecar(&mut self, process: usize) {
        let old = self.named.unwrap_or(self.processes[process].sidecar);
        self.named = Some(1 - old);
        self.sidecars[usize::from(1 - old)] = NEW_SIDECAR;
        self.processes[process].sidecar = 1 - old;
    }

    /// `Engine::join_sidecar(true)`.
    pub fn join_sidecar(&mut self, process: usize) {
        match self.named {
            Some(named) => self.processes[process].sidecar = named,
            None => self.create_sidecar(process),
        }
    }

    fn newest(&self) -> u8 {
        self.slots(&self.disk.shown()).0
    }

    /// `Appender::adopt`.
    fn adopt(&mut self, process: usize, index: u8) {
        let root = *self.root(index);
        let process = &mut self.processes[process];
        if root.point.lsn > process.tail.lsn {
            process.tail = root.point;
            process.open = false;
        }
        process.root = index;
    }

    /// `AppendGuard::find_tail`, from the hint on.
    fn find_tail(&mut self, process: usize, broken: Broken) {
        let image = self.disk.shown();
        let root = *self.root(self.processes[process].root);
        let hint = self.sidecar(process).tail;
        let known = self.processes[process].tail;
        let mut tail = known;
        let mut open = false;
        match hint {
            Some((hint, hint_open)) if hint.lsn > known.lsn => {
                let within = hint.end > root.point.end && hint.end <= root.end();
                let confirmed = within && {
                    let (block, cell) = place(hint.end - 1);
                    let id = image[block][cell];
                    id == hint.id && self.frame(id).lsn == hint.lsn && self.frame(id).position == hint.end - 1
                };
                if confirmed {
                    (tail, open) = (hint, hint_open);
                }
            }
            Some((hint, hint_open)) if hint.lsn == known.lsn && hint.id == known.id => open = hint_open,
            _ => {}
        }
        let (end, seen) = self.walk(&image, &root, tail, broken);
        if seen != 0 {
            open = broken == Broken::OpenAfterDeath;
        }
        if broken == Broken::TailRefresh {
            (tail, open) = (known, self.processes[process].open);
        } else {
            tail = end;
        }
        // A flush may have covered the block, whatever the hint says.
        let flushed = self.processes[process].durable.max(self.sidecar(process).unsealed);
        self.processes[process].tail = tail;
        self.processes[process].open = open && (flushed < tail.lsn || broken == Broken::Seal);
    }

    /// `AppendGuard::append`, where there is room: gives the frame's id.
    fn append(&mut self, process: usize, mark: bool) -> Option<u8> {
        let Some(slot) = self.frames.get_mut(usize::from(self.frame_count)) else {
            self.wrong = Some("the model has too few frames for these bounds");
            return None;
        };
        let Point { end, id: previous, lsn } = self.processes[process].tail;
        let position = if self.processes[process].open { end } else { next_block(end) };
        let root_sequence = self.roots[usize::from(self.processes[process].root) - 1].sequence;
        let durable_lsn = self.processes[process].durable;
        *slot = Frame { lsn: lsn + 1, previous, position, mark, durable_lsn, root_sequence };
        self.frame_count += 1;
        let id = self.frame_count;
        let (block, cell) = place(position);
        self.disk.write(block, cell, id);
        self.processes[process].tail = Point { end: position + 1, id, lsn: lsn + 1 };
        self.processes[process].open = true;
        Some(id)
    }

    /// `AppendGuard::publish`.
    fn publish(&mut self, process: usize) {
        let Process { tail, open, root, .. } = self.processes[process];
        let sequence = self.root(root).sequence;
        self.sidecar(process).tail = Some((tail, open));
        rise(&mut self.sidecar(process).root, sequence);
    }

    /// `AppendGuard::seal`.
    fn seal(&mut self, process: usize, broken: Broken) {
        if broken != Broken::Seal {
            self.processes[process].open = false;
        }
        self.publish(process);
    }

    /// `Engine::write_frames_anew`: the blocks of frames after `durable`, as they are.
    pub fn write_frames_anew(&mut self, root: &Root, durable: u8, broken: Broken) -> Point {
        let image = self.disk.shown();
        let mut point = root.point;
        while let Some(next) = self.next(&image, root, point, broken) {
            point = next;
            if point.lsn > durable && broken != Broken::HealWithoutWriting {
                self.disk.rewrite(place(point.end - 1).0);
            }
        }
        point
    }
}

impl Log {
    /// The steps that an actor can take.
    pub fn act(&self, s: &State, a: usize, out: &mut Vec<Step<State>>) {
        let actor = s.actors[a];
        let p = self.process(a);
        let role = self.actors[a].0;
        let free = |lock: u8| s.is_free(lock);
        let mut step = |what: &'static str, change: &dyn Fn(&mut State)| {
            let mut to = *s;
            change(&mut to);
            out.push(Step { who: NAMES[a], what, to, honest: true });
        };
        let flushes = matches!(
            actor.at,
            At::Confirming(_)
                | At::Flushing(_)
                | At::FlushingAlone(_)
                | At::Healing
                | At::Settling
                | At::FlushRoot
                | At::Adopting
                | At::Finding
        );
        match actor.at {
            _ if flushes && !actor.flushing => {}
            At::Idle if actor.left == 0 => {}
            At::Idle => match role {
                Role::Writer | Role::Relaxed if free(WRITER) || self.broken == Broken::WriterLock => {
                    step("take_writer", &|to| {
                        to.actors[a].left -= 1;
                        to.actors[a].locks = WRITER;
                        let poisoned = to.is_poisoned(p) && self.broken != Broken::FailedFlush;
                        to.actors[a].at = if poisoned { At::HealFold } else { At::Begin };
                    })
                }
                Role::Folder if free(CHECKPOINT) => step("lock_checkpoint", &|to| {
                    to.actors[a].left -= 1;
                    to.actors[a].locks = CHECKPOINT;
                    to.actors[a].at = At::Settle;
                }),
                Role::Reader => step("snapshot: learn", &|to| {
                    to.actors[a].left -= 1;
                    let told = to.learn(p);
                    to.actors[a].floor = to.promised();
                    to.actors[a].lsn = to.processes[p].durable.max(to.processes[p].visible);
                    if !told {
                        to.actors[a].lsn = SILENT;
                    }
                    let stale = to.actors[a].view_root == 0
                        || to.root(to.actors[a].view_root).sequence < to.processes[p].known_root;
                    to.actors[a].at = if stale { At::Adopt } else { At::ReadOn };
                }),
                _ => {}
            },

            // A commit.
            At::Begin => step("newest_view", &|to| {
                let image = to.disk.shown();
                let (newest, _) = to.slots(&image);
                let root = *to.root(newest);
                to.actors[a].view_frames = root.folded | to.walk(&image, &root, root.point, self.broken).1;
                to.actors[a].at = At::LockAppend(Why::Commit);
            }),
            At::LockAppend(why) if free(APPEND) || self.broken == Broken::AppendLock => {
                step("lock_append", &|to| self.lock_append(to, a, why));
            }
            At::Confirming(why) => {
                step("confirm_root: flushed", &|to| {
                    if self.flushed(to, a) {
                        let sequence = to.root(to.actors[a].root).sequence;
                        to.processes[p].known_root = to.processes[p].known_root.max(sequence);
                        let newest = to.actors[a].root;
                        if to.root(newest).sequence > to.root(to.processes[p].root).sequence {
                            to.adopt(p, newest);
                        }
                        self.show_all(to, a, why);
                    }
                });
            }
            At::Append => step("append", &|to| {
                let all = to.acknowledged | to.relaxed;
                if all & !to.history(to.processes[p].tail.id) != 0 {
                    to.wrong = Some("a transaction builds on a state without an acknowledged one");
                    return;
                }
                let Point { end, id, .. } = to.processes[p].tail;
                let unseen = to.history(id) & !to.actors[a].view_frames;
                if (1..=to.frame_count).any(|id| unseen & bit(id) != 0 && !to.frame(id).mark) {
                    to.wrong = Some("two transactions build on the same state");
                    return;
                }
                let position = if to.processes[p].open { end } else { next_block(end) };
                let reserve = if self.broken == Broken::Reserve { 0 } else { RESERVE };
                if position + 1 + reserve > to.root(to.processes[p].root).end() {
                    to.actors[a].locks &= !APPEND;
                    to.actors[a].at = At::LockCheckpoint;
                } else if let Some(id) = to.append(p, false) {
                    to.actors[a].id = id;
                    to.actors[a].lsn = to.frame(id).lsn;
                    to.actors[a].at = At::Publish;
                }
            }),
            At::Publish => {
                let publish = |to: &mut State| {
                    if role == Role::Relaxed {
                        let lsn = to.actors[a].lsn;
                        to.processes[p].visible = to.processes[p].visible.max(lsn);
                        rise(&mut to.sidecar(p).visible, lsn);
                    }
                    to.publish(p);
                    to.actors[a].locks &= !(APPEND | WRITER);
                };
                step("publish", &|to| {
                    publish(to);
                    let id = to.actors[a].id;
                    if role == Role::Relaxed || self.broken == Broken::AckBeforeFlush {
                        let to_whom = if role == Role::Relaxed { &mut to.relaxed } else { &mut to.acknowledged };
                        *to_whom |= bit(id);
                        to.reset(a);
                    } else {
                        to.actors[a].at = At::Wait(Then::Acknowledge);
                    }
                });
                if role == Role::Writer && free(SYNC) && s.processes[p].proven {
                    step("publish, lock_sync, seal", &|to| {
                        to.actors[a].locks |= SYNC;
                        publish(to);
                        to.seal(p, self.broken);
                        to.actors[a].floor = to.actors[a].lsn;
                        to.actors[a].at = At::Flushing(Then::Acknowledge);
                    });
                }
            }

            // Durability.
            At::Wait(then) => {
                let mut known = *s;
                known.learn(p);
                if known.processes[p].durable >= actor.lsn {
                    step("wait_durable: it is", &|to| {
                        to.learn(p);
                        if then == Then::Fold {
                            to.actors[a].at = At::WriteRoot;
                            return;
                        }
                        let frame = *to.frame(to.actors[a].id);
                        let twice = (1..=to.frame_count)
                            .any(|id| to.acknowledged & bit(id) != 0 && to.frame(id).lsn == frame.lsn);
                        if twice {
                            to.wrong = Some("a number is acknowledged twice");
                        }
                        to.acknowledged |= bit(to.actors[a].id);
                        to.reset(a);
                    });
                } else if s.is_poisoned(p) && self.broken != Broken::FailedFlush {
                    step("wait_durable: poisoned", &|to| {
                        to.learn(p);
                        to.reset(a);
                    });
                } else if free(SYNC) {
                    step("try_flush: lock_sync", &|to| {
                        to.actors[a].locks |= SYNC;
                        to.actors[a].at = At::LockAppend(Why::Seal(then));
                    });
                } else if s.budget.stalls > 0 {
                    step("wait_durable: the flusher seems stopped", &|to| {
                        to.budget.stalls -= 1;
                        to.actors[a].at = At::LockAppend(Why::SealAlone(then));
                    });
                }
            }
            At::Flushing(then) | At::FlushingAlone(then) => step("flush ends", &|to| {
                if self.flushed(to, a) {
                    if self.broken == Broken::SealAfterFlush {
                        to.actors[a].floor = to.processes[p].tail.lsn;
                    }
                    to.actors[a].at = At::PublishDurable(then);
                }
            }),
            At::PublishDurable(then) => step("publish_durable", &|to| {
                let sealed = to.actors[a].floor;
                if self.broken == Broken::ShowBeforeTelling {
                    to.processes[p].durable = to.processes[p].durable.max(sealed);
                    to.actors[a].at = At::TellDurable(then);
                    return;
                }
                to.join_sidecar(p);
                rise(&mut to.sidecar(p).durable, sealed);
                to.actors[a].at = At::TellDurable(then);
            }),
            At::TellDurable(then) => step("raise_durable", &|to| {
                let sealed = to.actors[a].floor;
                rise(&mut to.sidecar(p).durable, sealed);
                to.processes[p].durable = to.processes[p].durable.max(sealed);
                to.actors[a].locks &= !SYNC;
                to.actors[a].at = At::Wait(then);
            }),
            At::Poison => step("poison", &|to| {
                to.poison(p);
                to.reset(a);
            }),
            At::StillPoisoned => step("heal: the disk still refuses", &|to| {
                to.reset(a);
            }),

            // Mending.
            At::HealFold if free(CHECKPOINT) => step("begin: lock_checkpoint", &|to| {
                to.actors[a].locks |= CHECKPOINT;
                to.actors[a].at = At::HealSync;
            }),
            At::HealSync if free(SYNC) => step("heal: lock_sync", &|to| {
                to.actors[a].locks |= SYNC;
                to.actors[a].at = At::LockAppend(Why::Heal);
            }),
            At::Healing => step("heal: flushed", &|to| {
                if self.flushed(to, a) {
                    self.healed(to, a);
                }
            }),

            // A checkpoint.
            At::LockCheckpoint if free(CHECKPOINT) => step("lock_checkpoint", &|to| {
                to.actors[a].locks |= CHECKPOINT;
                to.actors[a].at = At::Settle;
            }),
            At::Settle => step("settle_root", &|to| {
                to.join_sidecar(p);
                to.learn(p);
                let newest = to.newest();
                let sequence = to.root(newest).sequence;
                if sequence > to.processes[p].known_root && self.broken != Broken::ReuseBeforeRoot {
                    to.disk.rewrite(State::slot_block(sequence));
                    to.actors[a].root = newest;
                    to.actors[a].at = At::Settling;
                } else {
                    to.processes[p].known_root = to.processes[p].known_root.max(sequence);
                    rise(&mut to.sidecar(p).root, sequence);
                    to.actors[a].at = At::LockAppend(Why::Mark);
                }
            }),
            At::Settling => step("settle_root: flushed", &|to| {
                if self.flushed(to, a) {
                    let sequence = to.root(to.actors[a].root).sequence;
                    to.processes[p].known_root = to.processes[p].known_root.max(sequence);
                    rise(&mut to.sidecar(p).root, sequence);
                    to.actors[a].at = At::LockAppend(Why::Mark);
                }
            }),
            At::PublishMark => step("rotate: publish", &|to| {
                to.publish(p);
                to.actors[a].locks &= !APPEND;
                to.actors[a].at = At::Wait(Then::Fold);
            }),
            At::WriteRoot => step("fold: write the root slot", &|to| self.write_root(to, a)),
            At::FlushRoot => step("fold: flushed", &|to| {
                if self.flushed(to, a) {
                    let sequence = to.root(to.actors[a].root).sequence;
                    to.processes[p].known_root = to.processes[p].known_root.max(sequence);
                    to.actors[a].at = At::TellRoot;
                }
            }),
            At::TellRoot => step("fold: set_root", &|to| {
                to.join_sidecar(p);
                let sequence = to.root(to.actors[a].root).sequence;
                rise(&mut to.sidecar(p).root, sequence);
                self.folded(to, a);
            }),

            // A snapshot.
            At::Adopt => step("adopt", &|to| self.adopt_view(to, a)),
            At::Adopting => step("adopt: flushed", &|to| {
                if self.flushed(to, a) {
                    let sequence = to.root(to.actors[a].root).sequence;
                    to.processes[p].known_root = to.processes[p].known_root.max(sequence);
                    rise(&mut to.sidecar(p).root, sequence);
                    to.actors[a].at = At::Adopt;
                }
            }),
            At::ReadOn => step("read_on", &|to| {
                let (image, root) = (to.disk.shown(), *to.root(to.actors[a].view_root));
                to.actors[a].stamp = 0;
                while to.actors[a].view.lsn != to.actors[a].lsn {
                    let Some(next) = to.next(&image, &root, to.actors[a].view, self.broken) else { break };
                    to.actors[a].view = next;
                    to.actors[a].view_frames |= bit(next.id);
                    let stamp = to.frame(next.id).root_sequence;
                    to.actors[a].stamp = to.actors[a].stamp.max(stamp);
                }
                to.actors[a].at = At::Look;
            }),
            At::Look => step("refresh: look again", &|to| self.look_again(to, a)),
            At::Found if s.is_poisoned(p) => step("snapshot_without_hints: poisoned", &|to| {
                to.actors[a].floor = 0;
                self.show_view(to, a);
            }),
            At::Found => step("snapshot_without_hints: flush_found", &|to| to.actors[a].at = At::Finding),
            At::Finding => step("snapshot_without_hints: flushed", &|to| {
                if self.flushed(to, a) {
                    let found = to.actors[a].view.lsn;
                    to.processes[p].visible = to.processes[p].visible.max(found);
                    let Process { known_root, durable, .. } = to.processes[p];
                    let board = to.sidecar(p);
                    board.unsealed = board.unsealed.max(found);
                    board.tell_all(known_root, durable, found);
                    self.show_view(to, a);
                }
            }),
            At::LockAppend(_) | At::HealFold | At::HealSync | At::LockCheckpoint => {}
        }
        if flushes {
            self.flush(s, a, out);
        }
    }

    /// The beginning of a flush, or its failure.
    fn flush(&self, s: &State, a: usize, out: &mut Vec<Step<State>>) {
        let (p, at) = (self.process(a), s.actors[a].at);
        let mut to = *s;
        if s.actors[a].flushing {
            if s.budget.failed_flushes > 0 {
                to.budget.failed_flushes -= 1;
                let others = s.alive().fold(0, |mask, process| mask | 1 << process);
                to.disk.fail_flush(a, p, others);
                to.actors[a].at = if at == At::Healing { At::StillPoisoned } else { At::Poison };
                out.push(Step { who: NAMES[a], what: "the flush fails", to, honest: false });
            }
            return;
        }
        let another = (0..self.actors.len()).any(|other| self.process(other) == p && s.actors[other].flushing);
        if another && self.broken != Broken::FlushTogether {
            return;
        }
        if s.is_poisoned(p) && at != At::Healing && self.broken != Broken::FailedFlush {
            to.reset(a);
            out.push(Step { who: NAMES[a], what: "does not flush: poisoned", to, honest: true });
            return;
        }
        to.actors[a].flushing = true;
        to.disk.begin_flush(a);
        if let (At::Flushing(_), Broken::PublishBeforeFlush) = (at, self.broken) {
            to.processes[p].durable = to.processes[p].durable.max(to.actors[a].floor);
            let durable = to.processes[p].durable;
            rise(&mut to.sidecar(p).durable, durable);
        }
        out.push(Step { who: NAMES[a], what: "flush begins", to, honest: true });
    }

    /// The end of a flush: `false` if it tells of a failure, which is dealt with.
    fn flushed(&self, to: &mut State, a: usize) -> bool {
        let p = self.process(a);
        let good = to.disk.end_flush(a, p);
        if good {
            to.actors[a].flushing = false;
        }
        if !good && self.broken != Broken::FailedFlush {
            to.actors[a].at = At::Poison;
            return false;
        }
        true
    }

    fn lock_append(&self, to: &mut State, a: usize, why: Why) {
        let p = self.process(a);
        to.actors[a].locks |= APPEND;
        to.join_sidecar(p);
        let told = to.learn(p);
        let known = to.root(to.processes[p].root).sequence;
        let newest = to.newest();
        let doubtful = to.root(newest).sequence > to.processes[p].known_root;
        if !to.is_poisoned(p) {
            if doubtful && self.broken != Broken::ReuseBeforeRoot || !told {
                // `settle_doubtful`, and the flush of `show_all`.
                if doubtful && self.broken != Broken::OpenWithoutWriting {
                    to.disk.rewrite(State::slot_block(to.root(newest).sequence));
                }
                to.actors[a].root = newest;
                to.actors[a].at = At::Confirming(why);
                return;
            }
            if to.root(newest).sequence > known {
                to.adopt(p, newest);
            }
        }
        self.found_tail(to, a, why);
    }

    /// `AppendGuard::show_all`, after its flush: what is here may be seen, and its last block has been flushed.
    fn show_all(&self, to: &mut State, a: usize, why: Why) {
        let p = self.process(a);
        let board = *to.sidecar(p);
        if [board.durable, board.visible, board.root].contains(&SILENT) {
            to.find_tail(p, self.broken);
            to.processes[p].open = false;
            to.publish(p);
            let Process { known_root, durable, tail, .. } = to.processes[p];
            to.sidecar(p).tell_all(known_root, durable, tail.lsn);
        }
        self.found_tail(to, a, why);
    }

    fn found_tail(&self, to: &mut State, a: usize, why: Why) {
        let p = self.process(a);
        to.find_tail(p, self.broken);
        let tail = to.processes[p].tail;
        if matches!(why, Why::Seal(_) | Why::SealAlone(_)) && !to.processes[p].proven {
            // `lock_append_to_seal`.
            let Process { root, durable, .. } = to.processes[p];
            let root = *to.root(root);
            if self.broken != Broken::OpenWithoutWriting {
                to.write_frames_anew(&root, durable, self.broken);
            }
            to.processes[p].proven = true;
        }
        match why {
            Why::Commit => to.actors[a].at = At::Append,
            Why::Seal(then) => {
                to.seal(p, self.broken);
                to.actors[a].floor = tail.lsn;
                to.actors[a].locks &= !APPEND;
                if tail.lsn > to.processes[p].durable || to.sidecar(p).durable == SILENT {
                    to.actors[a].at = At::Flushing(then);
                } else {
                    to.actors[a].locks &= !SYNC;
                    to.actors[a].at = At::Wait(then);
                }
            }
            Why::SealAlone(then) => {
                to.seal(p, self.broken);
                to.actors[a].floor = tail.lsn;
                to.actors[a].locks &= !APPEND;
                to.actors[a].at = At::FlushingAlone(then);
            }
            Why::Mark => self.rotate(to, a),
            Why::Heal => self.heal(to, a),
        }
    }

    /// `CheckpointTurn::rotate`.
    fn rotate(&self, to: &mut State, a: usize) {
        let p = self.process(a);
        let tail = to.processes[p].tail;
        let root = *to.root(to.processes[p].root);
        if to.is_poisoned(p) {
            to.reset(a);
        } else if tail.lsn == root.point.lsn {
            to.actors[a].locks &= !APPEND;
            self.folded(to, a);
        } else if to.frame(tail.id).mark {
            to.actors[a].lsn = tail.lsn;
            to.actors[a].view = tail;
            to.actors[a].locks &= !APPEND;
            to.actors[a].at = At::Wait(Then::Fold);
        } else {
            let position = if to.processes[p].open { tail.end } else { next_block(tail.end) };
            if position + 1 > root.end() {
                to.wrong = Some("the log has no room for a checkpoint's mark");
            } else if to.append(p, true).is_some() {
                to.actors[a].lsn = to.processes[p].tail.lsn;
                to.actors[a].view = to.processes[p].tail;
                to.actors[a].at = At::PublishMark;
            }
        }
    }

    fn write_root(&self, to: &mut State, a: usize) {
        let p = self.process(a);
        let image = to.disk.shown();
        let (base, _) = to.slots(&image);
        let base_root = *to.root(base);
        let mark = to.actors[a].view;
        let (_, seen) = to.walk(&image, &base_root, base_root.point, self.broken);
        let history = to.history(mark.id);
        if base_root.sequence != to.processes[p].known_root && self.broken != Broken::ReuseBeforeRoot {
            to.wrong = Some("the root to build on is not the newest");
        } else if history & !(seen | base_root.folded) != 0 {
            to.wrong = Some("a checkpoint does not find what it is to fold");
        } else if usize::from(to.root_count) == to.roots.len() {
            to.wrong = Some("the model has too few roots for these bounds");
        } else {
            let sequence = base_root.sequence + 1;
            to.roots[usize::from(to.root_count)] = Root { sequence, point: mark, folded: history };
            to.root_count += 1;
            to.actors[a].root = to.root_count;
            to.disk.write(State::slot_block(sequence), 0, to.root_count);
            let skip = self.broken == Broken::ReuseBeforeRoot;
            to.actors[a].at = if skip { At::TellRoot } else { At::FlushRoot };
        }
    }

    /// The checkpoint is done: back to the commit that wanted room, if one did.
    fn folded(&self, to: &mut State, a: usize) {
        if to.actors[a].locks & WRITER == 0 {
            to.reset(a);
        } else {
            to.actors[a].locks = WRITER;
            to.actors[a].at = At::LockAppend(Why::Commit);
        }
    }

    /// `Engine::heal`, up to its flush.
    fn heal(&self, to: &mut State, a: usize) {
        let p = self.process(a);
        if !to.is_poisoned(p) {
            to.actors[a].locks = WRITER;
            to.actors[a].at = At::Begin;
            return;
        }
        let (newest, older) = to.slots(&to.disk.shown());
        let doubtful = to.root(newest).sequence > to.processes[p].known_root;
        if doubtful && self.broken != Broken::HealWithoutWriting {
            to.disk.rewrite(State::slot_block(to.root(newest).sequence));
        }
        let root = *to.root(if doubtful && older != 0 { older } else { newest });
        let durable = to.processes[p].durable;
        to.actors[a].view = to.write_frames_anew(&root, durable, self.broken);
        to.actors[a].root = if doubtful { newest } else { 0 };
        to.actors[a].at = At::Healing;
    }

    /// `Engine::heal`, after its flush.
    fn healed(&self, to: &mut State, a: usize) {
        let p = self.process(a);
        let Actor { root: doubtful, mut view, .. } = to.actors[a];
        if doubtful != 0 {
            let root = *to.root(doubtful);
            if root.point.lsn > view.lsn {
                view = root.point;
            }
            to.processes[p].known_root = to.processes[p].known_root.max(root.sequence);
            rise(&mut to.sidecar(p).root, root.sequence);
            to.adopt(p, doubtful);
        }
        if to.processes[p].tail.lsn > view.lsn {
            to.wrong = Some("mending calls the log damaged");
            return;
        }
        to.processes[p].tail = view;
        to.seal(p, self.broken);
        to.processes[p].durable = to.processes[p].durable.max(view.lsn);
        to.processes[p].poisoned = false;
        to.sidecar(p).poison = 0;
        to.processes[p].proven = true;
        let durable = to.processes[p].durable;
        rise(&mut to.sidecar(p).durable, durable);
        to.actors[a].locks = WRITER;
        to.actors[a].at = At::Begin;
    }

    /// `Engine::adopt` of a view.
    fn adopt_view(&self, to: &mut State, a: usize) {
        let p = self.process(a);
        let newest = to.newest();
        let root = *to.root(newest);
        if root.sequence > to.processes[p].known_root {
            if to.is_poisoned(p) {
                to.reset(a);
                return;
            }
            // `confirm_root`: with CHECKPOINT, if it is free, the slot is written once more.
            if to.is_free(CHECKPOINT) && self.broken != Broken::OpenWithoutWriting {
                to.disk.rewrite(State::slot_block(root.sequence));
            }
            to.actors[a].root = newest;
            to.actors[a].at = At::Adopting;
            return;
        }
        if root.point.lsn > to.actors[a].view.lsn || to.actors[a].view_root == 0 {
            to.actors[a].view = root.point;
            to.actors[a].view_frames = root.folded;
        }
        to.actors[a].view_root = newest;
        to.processes[p].durable = to.processes[p].durable.max(root.point.lsn);
        to.actors[a].at = At::ReadOn;
    }

    /// `Engine::refresh`, after it has read on.
    fn look_again(&self, to: &mut State, a: usize) {
        let p = self.process(a);
        let Actor { view, lsn: visible, view_root, stamp, .. } = to.actors[a];
        let image = to.disk.shown();
        let pinned = to.root(view_root).sequence;
        let reached = visible != SILENT && view.lsn >= visible;
        let newer = to.root(to.newest()).sequence > pinned;
        if newer && !(reached && stamp <= pinned) && !to.is_poisoned(p) && self.broken != Broken::ReaderRelook {
            to.actors[a].at = At::Adopt;
            return;
        }
        if !reached && visible != SILENT && to.is_damaged(&image, to.root(view_root), view) {
            to.wrong = Some("a reader calls a whole log damaged");
            return;
        }
        if visible == SILENT && view.lsn > to.processes[p].durable.max(to.processes[p].visible) {
            to.actors[a].at = At::Found;
            return;
        }
        self.show_view(to, a);
    }

    fn show_view(&self, to: &mut State, a: usize) {
        let Actor { view, view_frames, floor, view_root, left, .. } = to.actors[a];
        if view_frames != to.history(view.id) {
            to.wrong = Some("a snapshot is no committed state");
        } else if view.lsn < floor && !to.late {
            to.wrong = Some("a snapshot misses what was acknowledged before it began");
        }
        to.reset(a);
        to.actors[a] = Actor { view, view_frames, view_root, left, ..to.actors[a] };
    }
}
