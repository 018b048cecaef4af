//! The longer steps of `log_steps`: the state that follows each of them.

use crate::log::{
    APPEND, Actor, At, CHECKPOINT, Log, Process, Root, SILENT, SYNC, State, Then, WRITER, Why, next_block, rise,
};
use crate::rules::Broken;

impl Log {
    pub fn lock_append(&self, to: &mut State, a: usize, why: Why) {
        let p = self.process(a);
        to.actors[a].locks |= APPEND;
        to.join_sidecar(p);
        let told = to.learn(p);
        let known = to.root(to.processes[p].root).sequence;
        let newest = to.newest();
        let doubtful = to.root(newest).sequence > to.processes[p].known_root;
        if !to.is_poisoned(p) {
            if doubtful && self.broken != Broken::ReuseBeforeRoot || !told {
                // `settle_newer_root`, and the flush of `show_all`.
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
    pub fn show_all(&self, to: &mut State, a: usize, why: Why) {
        let p = self.process(a);
        let board = *to.sidecar(p);
        if [board.durable, board.visible, board.root].contains(&SILENT) {
            to.find_tail(p, self.broken);
            to.processes[p].open = false;
            to.publish(p);
            let Process { known_root, durable, tail, .. } = to.processes[p];
            to.sidecar(p).publish_all(known_root, durable, tail.lsn);
        }
        self.found_tail(to, a, why);
    }

    pub fn found_tail(&self, to: &mut State, a: usize, why: Why) {
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
            Why::Repair => self.repair(to, a),
        }
    }

    /// `CheckpointGuard::rotate`.
    pub fn rotate(&self, to: &mut State, a: usize) {
        let p = self.process(a);
        let tail = to.processes[p].tail;
        let root = *to.root(to.processes[p].root);
        if to.is_poisoned(p) {
            to.reset(a);
        } else if tail.lsn == root.point.lsn {
            to.actors[a].locks &= !APPEND;
            self.checkpointed(to, a);
        } else if to.frame(tail.id).mark {
            to.actors[a].lsn = tail.lsn;
            to.actors[a].view = tail;
            to.actors[a].locks &= !APPEND;
            to.actors[a].at = At::Wait(Then::Checkpoint);
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

    pub fn write_root(&self, to: &mut State, a: usize) {
        let p = self.process(a);
        let image = to.disk.shown();
        let (base, _) = to.slots(&image);
        let base_root = *to.root(base);
        let mark = to.actors[a].view;
        let (_, seen) = to.walk(&image, &base_root, base_root.point, self.broken);
        let history = to.history(mark.id);
        if base_root.sequence != to.processes[p].known_root && self.broken != Broken::ReuseBeforeRoot {
            to.wrong = Some("the root to build on is not the newest");
        } else if history & !(seen | base_root.checkpointed) != 0 {
            to.wrong = Some("a checkpoint does not find what it is to checkpoint");
        } else if usize::from(to.root_count) == to.roots.len() {
            to.wrong = Some("the model has too few roots for these bounds");
        } else {
            let sequence = base_root.sequence + 1;
            to.roots[usize::from(to.root_count)] = Root { sequence, point: mark, checkpointed: history };
            to.root_count += 1;
            to.actors[a].root = to.root_count;
            to.disk.write(State::slot_block(sequence), 0, to.root_count);
            let skip = self.broken == Broken::ReuseBeforeRoot;
            to.actors[a].at = if skip { At::TellRoot } else { At::FlushRoot };
        }
    }

    /// The checkpoint is done: back to the commit that wanted room, if one did.
    pub fn checkpointed(&self, to: &mut State, a: usize) {
        if to.actors[a].locks & WRITER == 0 {
            to.reset(a);
        } else {
            to.actors[a].locks = WRITER;
            to.actors[a].at = At::LockAppend(Why::Commit);
        }
    }

    /// `Engine::repair_failed_flush`, up to its flush.
    pub fn repair(&self, to: &mut State, a: usize) {
        let p = self.process(a);
        if !to.is_poisoned(p) {
            to.actors[a].locks = WRITER;
            to.actors[a].at = At::Begin;
            return;
        }
        let (newest, older) = to.slots(&to.disk.shown());
        let doubtful = to.root(newest).sequence > to.processes[p].known_root;
        if doubtful && self.broken != Broken::RepairWithoutWriting {
            to.disk.rewrite(State::slot_block(to.root(newest).sequence));
        }
        let root = *to.root(if doubtful && older != 0 { older } else { newest });
        let durable = to.processes[p].durable;
        to.actors[a].view = to.write_frames_anew(&root, durable, self.broken);
        to.actors[a].root = if doubtful { newest } else { 0 };
        to.actors[a].at = At::Repairing;
    }

    /// `Engine::repair_failed_flush`, after its flush.
    pub fn repaired(&self, to: &mut State, a: usize) {
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
            to.wrong = Some("writing the frames once more finds the log damaged");
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
    pub fn adopt_view(&self, to: &mut State, a: usize) {
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
            to.actors[a].view_frames = root.checkpointed;
        }
        to.actors[a].view_root = newest;
        to.processes[p].durable = to.processes[p].durable.max(root.point.lsn);
        to.actors[a].at = At::ReadOn;
    }

    /// `Engine::refresh`, after it has read on.
    pub fn look_again(&self, to: &mut State, a: usize) {
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

    pub fn show_view(&self, to: &mut State, a: usize) {
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
