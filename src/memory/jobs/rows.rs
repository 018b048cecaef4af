//! The rows of the tables of jobs. All numbers (of jobs, queues, lanes, places and turns, and fencing tokens) come from
//! one sequence, so that none is given twice.

use super::error::Result;
use super::job::{Backoff, Key, Priority};
use super::parts::{JobCounts, JobId, JobInfo, JobState};
use crate::memory::error::MemoryError;
use crate::memory::namespace::Namespace;
use crate::memory::tables::{Reader, Table, Writer, key};
use crate::memory::time::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::ops::Bound;

/// The layout of the tables.
const LAYOUT: u32 = 1;
/// The first class of waiting jobs: those that workers have lost, or given back. The others are the priorities.
pub(super) const AGAIN: u8 = 0;
/// So many there are.
pub(super) const CLASSES: usize = 4;

/// The row of the store's jobs as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) layout: u32,
    /// The next number.
    pub(super) next: u64,
    /// No job that is kept to be seen is kept until before this time.
    pub(super) ended: Timestamp,
}

impl Head {
    pub(super) fn read(reader: &Reader<'_>) -> Result<Head> {
        let none = Head { layout: LAYOUT, next: 1, ended: Timestamp::MAX };
        let head = read(reader, Table::JobHead, b"")?.unwrap_or(none);
        if head.layout != LAYOUT {
            return Err(MemoryError::Layout { found: head.layout, supported: LAYOUT }.into());
        }
        Ok(head)
    }

    pub(super) fn write(&self, writer: &Writer<'_>) -> Result<()> {
        write(writer, Table::JobHead, b"", self)
    }
}

/// A number that nothing has had.
pub(super) fn next_number(writer: &Writer<'_>) -> Result<u64> {
    let head = Head::read(&writer.reader)?;
    Head { next: head.next.saturating_add(1), ..head }.write(writer)?;
    Ok(head.next)
}

/// The row of a queue, by its name. The last three say where to begin to look: nothing lies before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Queue {
    pub(super) number: u64,
    pub(super) lanes: u64,
    pub(super) turns: u64,
    pub(super) wakes: Timestamp,
    pub(super) leases: Timestamp,
}

impl Queue {
    pub(super) fn new(number: u64) -> Queue {
        Queue { number, lanes: 0, turns: 0, wakes: Timestamp::MAX, leases: Timestamp::MAX }
    }

    pub(super) fn read(reader: &Reader<'_>, name: &str) -> Result<Option<Queue>> {
        read(reader, Table::JobQueues, name.as_bytes())
    }

    /// One that has jobs.
    pub(super) fn known(reader: &Reader<'_>, name: &str) -> Result<Queue> {
        let queue = Queue::read(reader, name)?;
        Ok(queue.ok_or_else(|| Table::JobQueues.damaged(name.as_bytes(), "missing, and the queue has jobs"))?)
    }

    pub(super) fn write(&self, writer: &Writer<'_>, name: &str) -> Result<()> {
        write(writer, Table::JobQueues, name.as_bytes(), self)
    }
}

/// What the workers of a queue find a lane by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Slot {
    /// It has jobs to claim; the lowest number is next.
    Turn(u64),
    /// It has none before this time.
    Wake(Timestamp),
}

impl Slot {
    pub(super) fn key(self, queue: u64, lane: u64) -> Vec<u8> {
        let (tag, at) = match self {
            Slot::Turn(turn) => (0, turn),
            Slot::Wake(time) => (1, time.as_micros()),
        };
        key(&[&queue.to_be_bytes(), &[tag], &at.to_be_bytes(), &lane.to_be_bytes()])
    }
}

/// The row of a lane, by its number: the jobs of a namespace in a queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Lane {
    pub(super) queue: u64,
    pub(super) name: String,
    pub(super) namespace: Namespace,
    pub(super) counts: JobCounts,
    /// The first place of each class of waiting jobs.
    pub(super) first: [Option<u64>; CLASSES],
    /// When the first delayed job is due, and its number.
    pub(super) due: Option<(Timestamp, u64)>,
    pub(super) slot: Option<Slot>,
}

impl Lane {
    pub(super) fn new(queue: u64, name: String, namespace: Namespace) -> Lane {
        let (counts, first) = (JobCounts::default(), [None; CLASSES]);
        Lane { queue, name, namespace, counts, first, due: None, slot: None }
    }

    pub(super) fn read(reader: &Reader<'_>, number: u64) -> Result<Lane> {
        let lane = read(reader, Table::JobLanes, &number.to_be_bytes())?;
        Ok(lane.ok_or_else(|| Table::JobLanes.damaged(&number.to_be_bytes(), "missing, and the lane has jobs"))?)
    }

    /// The number of a lane, if it has jobs.
    pub(super) fn number(reader: &Reader<'_>, queue: &Queue, namespace: &Namespace) -> Result<Option<u64>> {
        read(reader, Table::JobLaneNumbers, &lane_name(queue.number, namespace))
    }
}

pub(super) fn lane_name(queue: u64, namespace: &Namespace) -> Vec<u8> {
    key(&[&queue.to_be_bytes(), &namespace.key()])
}

/// Where a job is, which says in which index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stage {
    /// In its lane, by class and place.
    Waiting(u8, u64),
    /// Until this time.
    Delayed(Timestamp),
    /// With a lease until this time.
    Running(Timestamp),
    /// Kept until this time.
    Done(Timestamp),
    /// Kept until this time.
    Cancelled(Timestamp),
    Dead,
}

impl Stage {
    /// The table that has it besides that of the jobs, and the key there.
    pub(super) fn entry(self, queue: u64, lane: u64, id: u64) -> (Table, Vec<u8>) {
        let (queue, lane, id) = (queue.to_be_bytes(), lane.to_be_bytes(), id.to_be_bytes());
        let time = |time: Timestamp| time.as_micros().to_be_bytes();
        match self {
            Stage::Waiting(class, place) => (Table::JobsWaiting, key(&[&lane, &[class], &place.to_be_bytes()])),
            Stage::Delayed(until) => (Table::JobsDelayed, key(&[&lane, &time(until), &id])),
            Stage::Running(until) => (Table::JobLeases, key(&[&queue, &time(until), &id])),
            Stage::Done(until) | Stage::Cancelled(until) => (Table::JobsEnded, key(&[&time(until), &id])),
            Stage::Dead => (Table::JobsDead, key(&[&lane, &id])),
        }
    }

    pub(super) fn count(self, counts: &mut JobCounts) -> &mut u64 {
        match self {
            Stage::Waiting(..) => &mut counts.waiting,
            Stage::Delayed(_) => &mut counts.delayed,
            Stage::Running(_) => &mut counts.running,
            Stage::Done(_) => &mut counts.done,
            Stage::Cancelled(_) => &mut counts.cancelled,
            Stage::Dead => &mut counts.dead,
        }
    }

    /// Whether a worker may yet finish it.
    pub(super) fn is_open(self) -> bool {
        matches!(self, Stage::Waiting(..) | Stage::Delayed(_) | Stage::Running(_))
    }

    /// Whether it counts for the quota of its namespace.
    pub(super) fn counts(self) -> bool {
        self.is_open() || self == Stage::Dead
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Stage::Waiting(..) => "waiting",
            Stage::Delayed(_) => "delayed",
            Stage::Running(_) => "running",
            Stage::Done(_) => "done",
            Stage::Cancelled(_) => "cancelled",
            Stage::Dead => "dead",
        }
    }

    fn state(self) -> JobState {
        match self {
            Stage::Waiting(..) => JobState::Waiting,
            Stage::Delayed(until) => JobState::Delayed { until },
            Stage::Running(until) => JobState::Running { until },
            Stage::Done(_) => JobState::Done,
            Stage::Cancelled(_) => JobState::Cancelled,
            Stage::Dead => JobState::Dead,
        }
    }
}

/// The row of a job, by its number. Its payload has a row of its own, which is written once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) lane: u64,
    pub(super) stage: Stage,
    pub(super) created: Timestamp,
    pub(super) priority: Priority,
    pub(super) attempts: u32,
    pub(super) most: u32,
    pub(super) backoff: Backoff,
    /// In microseconds.
    pub(super) keep: u64,
    pub(super) key: Option<Key>,
    /// Of the last claim; 0 if that is worth nothing any more.
    pub(super) token: u64,
    pub(super) worker: Option<String>,
    pub(super) progress: Value,
    pub(super) error: Option<String>,
}

impl Row {
    pub(super) fn read(reader: &Reader<'_>, id: u64) -> Result<Option<Row>> {
        read(reader, Table::Jobs, &id.to_be_bytes())
    }

    /// One that an index leads to.
    pub(super) fn known(reader: &Reader<'_>, id: u64) -> Result<Row> {
        let row = Row::read(reader, id)?;
        Ok(row.ok_or_else(|| Table::Jobs.damaged(&id.to_be_bytes(), "missing, and an index leads to it"))?)
    }

    /// The key that it holds, so that no other job has it.
    pub(super) fn held_key(&self) -> Option<Vec<u8>> {
        let key = self.key.as_ref().filter(|_| self.stage.is_open())?;
        Some(held_key(self.lane, &key.text))
    }

    /// The class of its lane in which it waits.
    pub(super) fn class(&self) -> u8 {
        match self.priority {
            Priority::High => 1,
            Priority::Normal => 2,
            Priority::Low => 3,
        }
    }

    pub(super) fn info(self, reader: &Reader<'_>, id: u64) -> Result<JobInfo> {
        let lane = Lane::read(reader, self.lane)?;
        Ok(JobInfo {
            id: JobId::from_u64(id),
            queue: lane.name,
            namespace: lane.namespace,
            state: self.stage.state(),
            created: self.created,
            priority: self.priority,
            attempts: self.attempts,
            max_attempts: self.most,
            key: self.key.map(|key| key.text),
            worker: self.worker,
            progress: self.progress,
            error: self.error,
        })
    }
}

pub(super) fn held_key(lane: u64, text: &str) -> Vec<u8> {
    key(&[&lane.to_be_bytes(), text.as_bytes()])
}

/// The number that a key has at its end.
pub(super) fn last_number(key: &[u8]) -> u64 {
    key.last_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// The number, or time, that a key has in front of the last one.
pub(super) fn number_before(key: &[u8]) -> u64 {
    key.get(..key.len().saturating_sub(8)).map_or(0, last_number)
}

/// The key after `entry` among those that begin with `prefix`.
pub(super) fn next_key(reader: &Reader<'_>, table: Table, prefix: &[u8], entry: &[u8]) -> Result<Option<Vec<u8>>> {
    // No key of these tables has more behind its prefix.
    let end = key(&[prefix, &[0xff; 17]]);
    let next = reader.range(table, Bound::Excluded(entry), Bound::Excluded(&end))?.next().transpose()?;
    Ok(next.map(|(key, _)| key.to_vec()))
}

/// The keys that begin with `prefix`, and go on with a number from `from` to `to`.
pub(super) fn keys_between(
    reader: &Reader<'_>,
    table: Table,
    prefix: &[u8],
    from: u64,
    to: u64,
) -> Result<impl Iterator<Item = Result<Vec<u8>, MemoryError>>> {
    let start = key(&[prefix, &from.to_be_bytes()]);
    // Nothing that follows the second number reaches as far as this.
    let end = key(&[prefix, &to.to_be_bytes(), &[0xff; 9]]);
    let rows = reader.range(table, Bound::Included(&start), Bound::Excluded(&end))?;
    Ok(rows.map(|row| Ok(row?.0.to_vec())))
}

pub(super) fn read<T: DeserializeOwned>(reader: &Reader<'_>, table: Table, key: &[u8]) -> Result<Option<T>> {
    let Some(row) = reader.get(table, key)? else { return Ok(None) };
    Ok(Some(parse(table, key, &row)?))
}

pub(super) fn parse<T: DeserializeOwned>(table: Table, key: &[u8], row: &[u8]) -> Result<T, MemoryError> {
    rmp_serde::from_slice(row).map_err(|error| table.damaged(key, error.to_string()))
}

pub(super) fn write(writer: &Writer<'_>, table: Table, key: &[u8], row: &impl Serialize) -> Result<()> {
    let row = rmp_serde::to_vec(row).map_err(|error| table.damaged(key, error.to_string()))?;
    Ok(writer.put(table, key, &row)?)
}
