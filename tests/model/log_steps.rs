//! The processes and the log, step by step, under the names of the engine's functions: which step may come next. The
//! state that follows is made in `log_moves` and `log_engine`.

use crate::explore::{NAMES, Step};
use crate::log::{
    APPEND, Actor, At, CHECKPOINT, Log, Point, Process, RESERVE, Role, SILENT, SYNC, State, Then, WRITER, Why, bit,
    next_block, rise,
};
use crate::rules::Broken;

type Next<'n> = crate::explore::Next<'n, State>;

impl At {
    /// Whether an actor makes a flush here: it begins, and ends or fails.
    fn flushes(self) -> bool {
        matches!(
            self,
            At::Confirming(_)
                | At::Flushing(_)
                | At::FlushingAlone(_)
                | At::Repairing
                | At::Settling
                | At::FlushRoot
                | At::Adopting
                | At::Finding
        )
    }
}

impl Log {
    /// The steps that an actor can take.
    pub fn act(&self, s: &State, a: usize, out: &mut Vec<Step<State>>) {
        let Actor { at, flushing, .. } = s.actors[a];
        if flushing || !at.flushes() {
            let next = &mut Next { from: s, actor: a, process: self.process(a), steps: out };
            match at {
                At::Idle => self.begin(next),
                At::Begin | At::LockAppend(_) | At::Confirming(_) | At::Append | At::Publish => self.commit(next),
                At::Wait(then) => self.wait(next, then),
                At::Flushing(_) | At::FlushingAlone(_) | At::PublishDurable(_) | At::TellDurable(_) => {
                    self.durability(next);
                }
                At::Poison | At::StillPoisoned | At::RepairCheckpoint | At::RepairFlush | At::Repairing => {
                    self.failure(next)
                }
                At::LockCheckpoint | At::Settle | At::Settling | At::PublishMark => self.checkpoint(next),
                At::WriteRoot | At::FlushRoot | At::TellRoot => self.new_root(next),
                At::Adopt | At::Adopting | At::ReadOn | At::Look | At::Found | At::Finding => self.snapshot(next),
            }
        }
        if at.flushes() {
            self.flush(s, a, out);
        }
    }

    /// The first step of an idle actor.
    fn begin(&self, next: &mut Next<'_>) {
        let (a, p) = (next.actor, next.process);
        if next.from.actors[a].left == 0 {
            return;
        }
        match self.actors[a].0 {
            Role::Writer | Role::Relaxed if next.from.is_free(WRITER) || self.broken == Broken::WriterLock => next
                .step("take_writer", |to| {
                    to.actors[a].left -= 1;
                    to.actors[a].locks = WRITER;
                    let poisoned = to.is_poisoned(p) && self.broken != Broken::FailedFlush;
                    to.actors[a].at = if poisoned { At::RepairCheckpoint } else { At::Begin };
                }),
            Role::Checkpointer if next.from.is_free(CHECKPOINT) => next.step("lock_checkpoint", |to| {
                to.actors[a].left -= 1;
                to.actors[a].locks = CHECKPOINT;
                to.actors[a].at = At::Settle;
            }),
            Role::Reader => next.step("snapshot: learn", |to| {
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
        }
    }

    /// A commit, up to its frame.
    fn commit(&self, next: &mut Next<'_>) {
        let (a, p) = (next.actor, next.process);
        match next.from.actors[a].at {
            At::Begin => next.step("newest_view", |to| {
                let image = to.disk.shown();
                let (newest, _) = to.slots(&image);
                let root = *to.root(newest);
                to.actors[a].view_frames = root.checkpointed | to.walk(&image, &root, root.point, self.broken).1;
                to.actors[a].at = At::LockAppend(Why::Commit);
            }),
            At::LockAppend(why) if next.from.is_free(APPEND) || self.broken == Broken::AppendLock => {
                next.step("lock_append", |to| self.lock_append(to, a, why));
            }
            At::Confirming(why) => {
                next.step("confirm_root: flushed", |to| {
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
            At::Append => next.step("append", |to| self.append_commit(to, a)),
            At::Publish => self.publish_commit(next),
            _ => {}
        }
    }

    /// Appends the transaction's frame, if the log has room; else a checkpoint makes some.
    fn append_commit(&self, to: &mut State, a: usize) {
        let p = self.process(a);
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
    }

    /// Publishes the frame; a durable commit goes on to wait, or to flush at once if the SYNC lock is free.
    fn publish_commit(&self, next: &mut Next<'_>) {
        let (a, p, role) = (next.actor, next.process, self.actors[next.actor].0);
        let publish = |to: &mut State| {
            if role == Role::Relaxed {
                let lsn = to.actors[a].lsn;
                to.processes[p].visible = to.processes[p].visible.max(lsn);
                rise(&mut to.sidecar(p).visible, lsn);
            }
            to.publish(p);
            to.actors[a].locks &= !(APPEND | WRITER);
        };
        next.step("publish", |to| {
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
        if role == Role::Writer && next.from.is_free(SYNC) && next.from.processes[p].proven {
            next.step("publish, lock_sync, seal", |to| {
                to.actors[a].locks |= SYNC;
                publish(to);
                to.seal(p, self.broken);
                to.actors[a].floor = to.actors[a].lsn;
                to.actors[a].at = At::Flushing(Then::Acknowledge);
            });
        }
    }

    /// Waits until a flush has covered `lsn`, or makes that flush.
    fn wait(&self, next: &mut Next<'_>, then: Then) {
        let (a, p, lsn) = (next.actor, next.process, next.from.actors[next.actor].lsn);
        let mut known = *next.from;
        known.learn(p);
        if known.processes[p].durable >= lsn {
            next.step("wait_durable: it is", |to| {
                to.learn(p);
                if then == Then::Checkpoint {
                    to.actors[a].at = At::WriteRoot;
                    return;
                }
                let frame = *to.frame(to.actors[a].id);
                let twice =
                    (1..=to.frame_count).any(|id| to.acknowledged & bit(id) != 0 && to.frame(id).lsn == frame.lsn);
                if twice {
                    to.wrong = Some("a number is acknowledged twice");
                }
                to.acknowledged |= bit(to.actors[a].id);
                to.reset(a);
            });
        } else if next.from.is_poisoned(p) && self.broken != Broken::FailedFlush {
            next.step("wait_durable: poisoned", |to| {
                to.learn(p);
                to.reset(a);
            });
        } else if next.from.is_free(SYNC) {
            next.step("try_flush: lock_sync", |to| {
                to.actors[a].locks |= SYNC;
                to.actors[a].at = At::LockAppend(Why::Seal(then));
            });
        } else if next.from.budget.stalls > 0 {
            next.step("wait_durable: the flusher seems stopped", |to| {
                to.budget.stalls -= 1;
                to.actors[a].at = At::LockAppend(Why::SealAlone(then));
            });
        }
    }

    /// A flush, and what tells of it.
    fn durability(&self, next: &mut Next<'_>) {
        let (a, p) = (next.actor, next.process);
        match next.from.actors[a].at {
            At::Flushing(then) | At::FlushingAlone(then) => next.step("flush ends", |to| {
                if self.flushed(to, a) {
                    if self.broken == Broken::SealAfterFlush {
                        to.actors[a].floor = to.processes[p].tail.lsn;
                    }
                    to.actors[a].at = At::PublishDurable(then);
                }
            }),
            At::PublishDurable(then) => next.step("publish_durable", |to| {
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
            At::TellDurable(then) => next.step("raise_durable", |to| {
                let sealed = to.actors[a].floor;
                rise(&mut to.sidecar(p).durable, sealed);
                to.processes[p].durable = to.processes[p].durable.max(sealed);
                to.actors[a].locks &= !SYNC;
                to.actors[a].at = At::Wait(then);
            }),
            _ => {}
        }
    }

    /// After a failed flush: the next writer writes the frames once more.
    fn failure(&self, next: &mut Next<'_>) {
        let (a, p) = (next.actor, next.process);
        match next.from.actors[a].at {
            At::Poison => next.step("poison", |to| {
                to.poison(p);
                to.reset(a);
            }),
            At::StillPoisoned => next.step("repair: the disk still refuses", |to| {
                to.reset(a);
            }),
            At::RepairCheckpoint if next.from.is_free(CHECKPOINT) => next.step("begin: lock_checkpoint", |to| {
                to.actors[a].locks |= CHECKPOINT;
                to.actors[a].at = At::RepairFlush;
            }),
            At::RepairFlush if next.from.is_free(SYNC) => next.step("repair: lock_sync", |to| {
                to.actors[a].locks |= SYNC;
                to.actors[a].at = At::LockAppend(Why::Repair);
            }),
            At::Repairing => next.step("repair: flushed", |to| {
                if self.flushed(to, a) {
                    self.repaired(to, a);
                }
            }),
            _ => {}
        }
    }

    /// A checkpoint, up to its mark.
    fn checkpoint(&self, next: &mut Next<'_>) {
        let (a, p) = (next.actor, next.process);
        match next.from.actors[a].at {
            At::LockCheckpoint if next.from.is_free(CHECKPOINT) => next.step("lock_checkpoint", |to| {
                to.actors[a].locks |= CHECKPOINT;
                to.actors[a].at = At::Settle;
            }),
            At::Settle => next.step("settle_root", |to| {
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
            At::Settling => next.step("settle_root: flushed", |to| {
                if self.flushed(to, a) {
                    let sequence = to.root(to.actors[a].root).sequence;
                    to.processes[p].known_root = to.processes[p].known_root.max(sequence);
                    rise(&mut to.sidecar(p).root, sequence);
                    to.actors[a].at = At::LockAppend(Why::Mark);
                }
            }),
            At::PublishMark => next.step("rotate: publish", |to| {
                to.publish(p);
                to.actors[a].locks &= !APPEND;
                to.actors[a].at = At::Wait(Then::Checkpoint);
            }),
            _ => {}
        }
    }

    /// A checkpoint, from its mark on.
    fn new_root(&self, next: &mut Next<'_>) {
        let (a, p) = (next.actor, next.process);
        match next.from.actors[a].at {
            At::WriteRoot => next.step("checkpoint: write the root slot", |to| self.write_root(to, a)),
            At::FlushRoot => next.step("checkpoint: flushed", |to| {
                if self.flushed(to, a) {
                    let sequence = to.root(to.actors[a].root).sequence;
                    to.processes[p].known_root = to.processes[p].known_root.max(sequence);
                    to.actors[a].at = At::TellRoot;
                }
            }),
            At::TellRoot => next.step("checkpoint: set_root", |to| {
                to.join_sidecar(p);
                let sequence = to.root(to.actors[a].root).sequence;
                rise(&mut to.sidecar(p).root, sequence);
                self.checkpointed(to, a);
            }),
            _ => {}
        }
    }

    /// A snapshot.
    fn snapshot(&self, next: &mut Next<'_>) {
        let (a, p) = (next.actor, next.process);
        match next.from.actors[a].at {
            At::Adopt => next.step("adopt", |to| self.adopt_view(to, a)),
            At::Adopting => next.step("adopt: flushed", |to| {
                if self.flushed(to, a) {
                    let sequence = to.root(to.actors[a].root).sequence;
                    to.processes[p].known_root = to.processes[p].known_root.max(sequence);
                    rise(&mut to.sidecar(p).root, sequence);
                    to.actors[a].at = At::Adopt;
                }
            }),
            At::ReadOn => next.step("read_on", |to| {
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
            At::Look => next.step("refresh: look again", |to| self.look_again(to, a)),
            At::Found if next.from.is_poisoned(p) => next.step("snapshot_without_hints: poisoned", |to| {
                to.actors[a].floor = 0;
                self.show_view(to, a);
            }),
            At::Found => next.step("snapshot_without_hints: flush_found", |to| to.actors[a].at = At::Finding),
            At::Finding => next.step("snapshot_without_hints: flushed", |to| {
                if self.flushed(to, a) {
                    let found = to.actors[a].view.lsn;
                    to.processes[p].visible = to.processes[p].visible.max(found);
                    let Process { known_root, durable, .. } = to.processes[p];
                    let board = to.sidecar(p);
                    board.unsealed = board.unsealed.max(found);
                    board.publish_all(known_root, durable, found);
                    self.show_view(to, a);
                }
            }),
            _ => {}
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
                to.actors[a].at = if at == At::Repairing { At::StillPoisoned } else { At::Poison };
                out.push(Step { who: NAMES[a], what: "the flush fails", to, honest: false });
            }
            return;
        }
        let another = (0..self.actors.len()).any(|other| self.process(other) == p && s.actors[other].flushing);
        if another && self.broken != Broken::FlushTogether {
            return;
        }
        if s.is_poisoned(p) && at != At::Repairing && self.broken != Broken::FailedFlush {
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
    pub fn flushed(&self, to: &mut State, a: usize) -> bool {
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
}
