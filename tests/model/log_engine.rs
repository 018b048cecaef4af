//! The engine's functions on one process' part of the state, under their names.

use crate::log::{Frame, NEW_SIDECAR, Point, Process, Root, SILENT, Sidecar, State, next_block, place, rise};
use crate::rules::Broken;

impl State {
    pub fn sidecar(&mut self, process: usize) -> &mut Sidecar {
        &mut self.sidecars[usize::from(self.processes[process].sidecar)]
    }

    pub fn is_poisoned(&self, process: usize) -> bool {
        let process = &self.processes[process];
        process.poisoned || self.sidecars[usize::from(process.sidecar)].poison == 1
    }

    /// `Engine::poison`.
    pub fn poison(&mut self, process: usize) {
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

    pub fn newest(&self) -> u8 {
        self.slots(&self.disk.shown()).0
    }

    /// `Appender::adopt`.
    pub fn adopt(&mut self, process: usize, index: u8) {
        let root = *self.root(index);
        let process = &mut self.processes[process];
        if root.point.lsn > process.tail.lsn {
            process.tail = root.point;
            process.open = false;
        }
        process.root = index;
    }

    /// `AppendGuard::find_tail`, from the hint on.
    pub fn find_tail(&mut self, process: usize, broken: Broken) {
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
    pub fn append(&mut self, process: usize, mark: bool) -> Option<u8> {
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
    pub fn publish(&mut self, process: usize) {
        let Process { tail, open, root, .. } = self.processes[process];
        let sequence = self.root(root).sequence;
        self.sidecar(process).tail = Some((tail, open));
        rise(&mut self.sidecar(process).root, sequence);
    }

    /// `AppendGuard::seal`.
    pub fn seal(&mut self, process: usize, broken: Broken) {
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
            if point.lsn > durable && broken != Broken::RepairWithoutWriting {
                self.disk.rewrite(place(point.end - 1).0);
            }
        }
        point
    }
}
