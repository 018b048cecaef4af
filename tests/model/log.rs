//! The log: appending, sealing, flushing, what follows a failed flush, recovery; roots as far as the log's space goes.
//!
//! Abstracted: a frame is half a block long, the ring has [`RING`] blocks and one segment; trees and their pages are
//! what `pins` is about. A transaction is its frame's id, and a frame's CRC is its id, too.

use crate::disk::{Disk, Image};
use crate::explore::{Model, Step};
use crate::rules::Broken;

/// Blocks of the log; the two root slots follow.
pub const RING: usize = 4;
const SLOT: usize = RING;
const FRAMES: usize = 7;
const ROOTS: usize = 4;
const ACTORS: usize = 3;
const PROCESSES: usize = 3;
/// `append::RESERVE`: two blocks, in halves.
pub const RESERVE: u8 = 4;
/// A word of the sidecar that says nothing.
pub const SILENT: u8 = 255;

type Blocks = Image<{ RING + 2 }>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Frame {
    pub lsn: u8,
    pub previous: u8,
    pub position: u8,
    pub mark: bool,
    pub durable_lsn: u8,
    pub root_sequence: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Root {
    pub sequence: u8,
    pub point: Point,
    /// The frames in its tree.
    pub checkpointed: u8,
}

/// `walk::Point`; positions count halves of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Point {
    pub end: u8,
    pub id: u8,
    pub lsn: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sidecar {
    pub tail: Option<(Point, bool)>,
    // Rising words.
    pub durable: u8,
    pub visible: u8,
    pub root: u8,
    /// FLUSHED_UNSEALED.
    pub unsealed: u8,
    pub poison: u8,
}

pub const NEW_SIDECAR: Sidecar =
    Sidecar { tail: None, durable: SILENT, visible: SILENT, root: SILENT, unsealed: 0, poison: 0 };

/// `Sidecar::rise`: silence is left alone.
pub fn rise(word: &mut u8, value: u8) {
    if *word != SILENT {
        *word = (*word).max(value);
    }
}

impl Sidecar {
    /// `Sidecar::publish_all`: what is silent speaks again.
    pub fn publish_all(&mut self, root: u8, durable: u8, visible: u8) {
        for (word, value) in [(&mut self.root, root), (&mut self.durable, durable), (&mut self.visible, visible)] {
            *word = if *word == SILENT { value } else { (*word).max(value) };
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Process {
    pub alive: bool,
    pub durable: u8,
    /// Known to be visible, durable or not.
    pub visible: u8,
    pub known_root: u8,
    pub poisoned: bool,
    /// A flush of this process proves what others wrote before it came.
    pub proven: bool,
    /// Which of the two sidecars it has mapped.
    pub sidecar: u8,
    // `Appender`.
    pub root: u8,
    pub tail: Point,
    pub open: bool,
}

pub const WRITER: u8 = 1;
pub const CHECKPOINT: u8 = 2;
pub const SYNC: u8 = 4;
pub const APPEND: u8 = 8;

/// The purpose for which an actor waits for durability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Then {
    Acknowledge,
    Checkpoint,
}

/// Why APPEND is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    Commit,
    Seal(Then),
    SealAlone(Then),
    Mark,
    Repair,
}

/// The next thing that an actor does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum At {
    Idle,
    Begin,
    LockAppend(Why),
    Confirming(Why),
    Append,
    Publish,
    PublishMark,
    Wait(Then),
    Flushing(Then),
    PublishDurable(Then),
    TellDurable(Then),
    FlushingAlone(Then),
    Poison,
    StillPoisoned,
    RepairCheckpoint,
    RepairFlush,
    Repairing,
    LockCheckpoint,
    Settle,
    Settling,
    WriteRoot,
    FlushRoot,
    TellRoot,
    ReadOn,
    Look,
    Adopt,
    Adopting,
    Found,
    Finding,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Actor {
    pub at: At,
    /// Its flush has begun.
    pub flushing: bool,
    pub locks: u8,
    /// How often it still begins.
    pub left: u8,
    /// The LSN that is waited for, or visible.
    pub lsn: u8,
    /// The frame that is committed.
    pub id: u8,
    /// The root that is written, or flushed.
    pub root: u8,
    /// The view of a reader: a root, the place in the chain, and the frames in it. A writer's frames are those that
    /// its transaction builds on, and a checkpoint's place is its mark.
    pub view: Point,
    pub view_root: u8,
    pub view_frames: u8,
    /// The LSN that a reader must see at least; the LSN up to which a flush reaches.
    pub floor: u8,
    /// The newest root that a frame read was written for.
    pub stamp: u8,
}

/// How often each thing may still happen to the processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Budget {
    pub kills: u8,
    pub opens: u8,
    pub power_losses: u8,
    pub failed_flushes: u8,
    pub lost_sidecars: u8,
    pub garbage: u8,
    /// Flushes that take longer than `STOPPED`, so that others flush for themselves.
    pub stalls: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    pub disk: Disk<{ RING + 2 }, ACTORS>,
    pub frames: [Frame; FRAMES],
    pub frame_count: u8,
    pub roots: [Root; ROOTS],
    pub root_count: u8,
    pub sidecars: [Sidecar; 2],
    /// The sidecar that the name leads to.
    pub named: Option<u8>,
    pub processes: [Process; PROCESSES],
    pub actors: [Actor; ACTORS],
    pub budget: Budget,
    /// Frames acknowledged as durable, and as relaxed.
    pub acknowledged: u8,
    pub relaxed: u8,
    /// Something happened that lets readers see the newest commits later.
    pub late: bool,
    pub wrong: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Writer,
    Relaxed,
    Checkpointer,
    Reader,
}

/// The processes that take part, the bounds, and the rule that is left out.
#[derive(Debug, Clone, Copy)]
pub struct Log {
    /// Role, process, and how often.
    pub actors: &'static [(Role, usize, u8)],
    pub budget: Budget,
    pub broken: Broken,
}

pub fn bit(id: u8) -> u8 {
    1 << id
}

pub fn next_block(position: u8) -> u8 {
    position.next_multiple_of(2)
}

pub fn place(position: u8) -> (usize, usize) {
    (usize::from(position) / 2 % RING, usize::from(position) % 2)
}

impl Root {
    pub fn end(&self) -> u8 {
        self.point.end + 2 * RING as u8
    }
}

impl State {
    pub fn frame(&self, id: u8) -> &Frame {
        &self.frames[usize::from(id) - 1]
    }

    pub fn root(&self, index: u8) -> &Root {
        &self.roots[usize::from(index) - 1]
    }

    /// `read_slots`: the newest root, and the one before; 0 where there is none.
    pub fn slots(&self, image: &Blocks) -> (u8, u8) {
        let [a, b] = [image[SLOT][0], image[SLOT + 1][0]];
        let sequence = |index: u8| if index == 0 { 0 } else { self.root(index).sequence };
        if sequence(a) > sequence(b) { (a, b) } else { (b, a) }
    }

    pub fn slot_block(sequence: u8) -> usize {
        SLOT + usize::from(sequence) % 2
    }

    /// `Walker::next`.
    pub fn next(&self, image: &Blocks, root: &Root, point: Point, broken: Broken) -> Option<Point> {
        let places = [point.end, next_block(point.end)];
        let places = &places[..if places[0] == places[1] { 1 } else { 2 }];
        places.iter().find_map(|&position| {
            if position < root.point.end || position >= root.end() {
                return None;
            }
            let (block, cell) = place(position);
            let id = image[block][cell];
            let frame = (id != 0).then(|| self.frame(id))?;
            let follows = frame.lsn == point.lsn + 1 && frame.position == position && frame.previous == point.id;
            let counts = match broken {
                Broken::Chain => frame.lsn == point.lsn + 1 && frame.position == position,
                Broken::OldLap => id != point.id,
                _ => follows,
            };
            counts.then_some(Point { end: position + 1, id, lsn: point.lsn + 1 })
        })
    }

    /// Walks to the end of the chain, and gives the frames seen.
    pub fn walk(&self, image: &Blocks, root: &Root, mut point: Point, broken: Broken) -> (Point, u8) {
        let mut seen = 0;
        while let Some(next) = self.next(image, root, point, broken) {
            point = next;
            seen |= bit(point.id);
        }
        (point, seen)
    }

    /// `Walker::verify_end`: whether the log goes on behind damage.
    pub fn is_damaged(&self, image: &Blocks, root: &Root, point: Point) -> bool {
        (next_block(point.end)..root.end()).step_by(2).any(|position| {
            let id = image[place(position).0][0];
            id != 0 && {
                let frame = self.frame(id);
                frame.position == position
                    && frame.lsn > point.lsn
                    && (frame.durable_lsn > point.lsn || frame.root_sequence > root.sequence + 1)
            }
        })
    }

    /// Recovery: the end of the log, and the transactions up to there.
    pub fn recover(&self, image: &Blocks, broken: Broken) -> Result<(u8, Point, u8), &'static str> {
        let (newest, _) = self.slots(image);
        if newest == 0 {
            return Err("no root is left");
        }
        let root = self.root(newest);
        let (point, seen) = self.walk(image, root, root.point, broken);
        if self.is_damaged(image, root, point) {
            return Err("a log that is whole is called damaged");
        }
        Ok((newest, point, root.checkpointed | seen))
    }

    /// All frames up to this one, by their chain.
    pub fn history(&self, mut id: u8) -> u8 {
        let mut history = 0;
        while id != 0 && history & bit(id) == 0 {
            history |= bit(id);
            id = self.frame(id).previous;
        }
        history
    }

    pub fn is_free(&self, lock: u8) -> bool {
        self.actors.iter().all(|actor| actor.locks & lock == 0)
    }

    pub fn alive(&self) -> impl Iterator<Item = usize> + '_ {
        (0..PROCESSES).filter(|p| self.processes[*p].alive)
    }

    /// The newest LSN that was acknowledged to a caller.
    pub fn promised(&self) -> u8 {
        let all = self.acknowledged | self.relaxed;
        (1..=self.frame_count).filter(|id| all & bit(*id) != 0).map(|id| self.frame(id).lsn).max().unwrap_or(0)
    }
}

impl Log {
    pub fn process(&self, actor: usize) -> usize {
        self.actors[actor].1
    }

    /// A machine just started, with what the disk holds: nobody there, and no sidecar.
    pub fn after_power_loss(&self, state: &State, image: &Blocks) -> State {
        let mut to = *state;
        to.disk = Disk::holding(image);
        to.named = None;
        to.sidecars = [NEW_SIDECAR; 2];
        for process in &mut to.processes {
            *process = Process::default();
        }
        for actor in 0..self.actors.len() {
            to.reset(actor);
        }
        if let Ok((_, _, kept)) = to.recover(image, self.broken) {
            to.relaxed &= kept;
        }
        to.budget.power_losses -= 1;
        to
    }
}

impl State {
    /// An actor's thread is done, gone, or gives up what it was about.
    pub fn reset(&mut self, actor: usize) {
        self.actors[actor] = Actor { left: self.actors[actor].left, ..IDLE };
    }
}

const IDLE: Actor = Actor {
    at: At::Idle,
    flushing: false,
    locks: 0,
    left: 0,
    lsn: 0,
    id: 0,
    root: 0,
    view: Point { end: 0, id: 0, lsn: 0 },
    view_root: 0,
    view_frames: 0,
    floor: 0,
    stamp: 0,
};

impl Model for Log {
    type State = State;

    fn start(&self) -> State {
        let mut image = Blocks::default();
        image[State::slot_block(1)][0] = 1;
        let mut roots = [Root::default(); ROOTS];
        roots[0].sequence = 1;
        let board = Sidecar { tail: Some((Point::default(), false)), durable: 0, visible: 0, root: 1, ..NEW_SIDECAR };
        let mut state = State {
            disk: Disk::holding(&image),
            frames: [Frame::default(); FRAMES],
            frame_count: 0,
            roots,
            root_count: 1,
            sidecars: [board, NEW_SIDECAR],
            named: Some(0),
            processes: [Process::default(); PROCESSES],
            actors: [IDLE; ACTORS],
            budget: self.budget,
            acknowledged: 0,
            relaxed: 0,
            late: false,
            wrong: None,
        };
        for (actor, (_, process, left)) in self.actors.iter().enumerate() {
            state.actors[actor].left = *left;
            state.processes[*process] =
                Process { alive: true, known_root: 1, root: 1, proven: true, ..Process::default() };
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
        // The death of processes loses nothing.
        match state.recover(&state.disk.shown(), self.broken) {
            Err(wrong) => return Some(wrong.to_owned()),
            Ok((_, _, found)) if (state.acknowledged | state.relaxed) & !found != 0 => {
                return Some("a process that opens the file now misses what was acknowledged".to_owned());
            }
            Ok(_) => {}
        }
        let believed = state.alive().map(|p| state.processes[p].durable).max().unwrap_or(0);
        let believed_root = state.alive().map(|p| state.processes[p].known_root).max().unwrap_or(0);
        state.disk.images(&mut |image| {
            let wrong = match state.recover(image, self.broken) {
                Err(wrong) => wrong,
                Ok((_, point, found)) if found != state.history(point.id) => "the frames found are not one history",
                Ok((_, _, found)) if state.acknowledged & !found != 0 => "an acknowledged commit is lost",
                Ok((_, point, _)) if point.lsn < believed => "a process believes durable what is not",
                Ok((root, _, _)) if state.root(root).sequence < believed_root => "a root believed durable is not",
                Ok(_) => return None,
            };
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
        let frames = &state.frames[..usize::from(state.frame_count)];
        let roots = &state.roots[..usize::from(state.root_count)];
        format!(
            "disk {:?}\nframes {frames:?}\nroots {roots:?}\nacknowledged {:b}, relaxed {:b}\nprocesses {:?}\nsidecars {:?}, named {:?}",
            state.disk.blocks, state.acknowledged, state.relaxed, state.processes, state.sidecars, state.named
        )
    }
}
