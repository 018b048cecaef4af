//! Which job is next: the lanes of a queue take turns, and a lane that begins to have jobs to claim takes the last one.

use super::change::{change, take_back, wait};
use super::error::Result;
use super::rows::{
    Head, Lane, Queue, Row, Slot, Stage, keys_between, lane_name, last_number, next_number, number_before, parse,
};
use crate::memory::namespace::Namespace;
use crate::memory::tables::{Reader, Table, Writer, key};
use crate::memory::time::Timestamp;
use std::ops::Bound;

/// So many leases that have ended, lanes that have slept, and jobs of a lane that are due, are looked at by one claim at
/// most: as each claim takes one job, none is left behind.
pub(super) const BATCH: usize = 16;

const TURNS: u8 = 0;
const WAKES: u8 = 1;

/// A lane that has jobs to claim, its turn, and its queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Next {
    pub(super) turn: u64,
    lane: u64,
    /// The queue, as the claim is to leave it.
    queue: Queue,
}

/// Lets jobs of a queue wait whose leases have ended, and those whose time has come. Gives the queue as the next claim is
/// to leave it, and whether there may be more of them. If there are none, nothing is written: a claim that finds nothing
/// changes nothing.
pub(super) fn advance(writer: &Writer<'_>, name: &str, now: Timestamp) -> Result<Option<(Queue, bool)>> {
    let Some(queue) = Queue::read(&writer.reader, name)? else { return Ok(None) };
    let ended = ended_leases(&writer.reader, &queue, now)?;
    for key in &ended {
        let id = last_number(key);
        let row = listed(&writer.reader, Table::JobLeases, key, |stage| matches!(stage, Stage::Running(_)))?;
        take_back(writer, id, &row)?;
    }
    let woken = sleepers(&writer.reader, &queue, now)?;
    for key in &woken {
        if !wake(writer, last_number(key), now)? {
            return Err(Table::JobAgenda.damaged(key, "the lane has no job that is due").into());
        }
    }
    // The last of its jobs may have gone with them.
    let Some(mut queue) = Queue::read(&writer.reader, name)? else { return Ok(None) };
    queue.leases = queue.leases.max(looked_at(&ended, now));
    queue.wakes = queue.wakes.max(looked_at(&woken, now));
    if !ended.is_empty() || !woken.is_empty() {
        queue.write(writer, name)?;
    }
    Ok(Some((queue, ended.len() == BATCH || woken.len() == BATCH)))
}

/// Up to when everything was looked at.
fn looked_at(keys: &[Vec<u8>], now: Timestamp) -> Timestamp {
    let last = keys.last().filter(|_| keys.len() == BATCH);
    last.map_or(now, |key| Timestamp::from_micros(number_before(key)))
}

/// The job that an index leads to, if it belongs there.
fn listed(reader: &Reader<'_>, table: Table, key: &[u8], belongs: impl Fn(Stage) -> bool) -> Result<Row> {
    let row = Row::known(reader, last_number(key))?;
    if belongs(row.stage) {
        return Ok(row);
    }
    Err(table.damaged(key, format!("the job is {}", row.stage.name())).into())
}

fn ended_leases(reader: &Reader<'_>, queue: &Queue, now: Timestamp) -> Result<Vec<Vec<u8>>> {
    let prefix = queue.number.to_be_bytes();
    let keys = keys_between(reader, Table::JobLeases, &prefix, queue.leases.as_micros(), now.as_micros())?;
    Ok(keys.take(BATCH).collect::<Result<_, _>>()?)
}

fn sleepers(reader: &Reader<'_>, queue: &Queue, now: Timestamp) -> Result<Vec<Vec<u8>>> {
    let prefix = key(&[&queue.number.to_be_bytes(), &[WAKES]]);
    let keys = keys_between(reader, Table::JobAgenda, &prefix, queue.wakes.as_micros(), now.as_micros())?;
    Ok(keys.take(BATCH).collect::<Result<_, _>>()?)
}

/// Lets jobs of a lane wait whose time has come; `false` if there are none.
fn wake(writer: &Writer<'_>, lane: u64, now: Timestamp) -> Result<bool> {
    let due = Lane::read(&writer.reader, lane)?.due.filter(|(due, _)| *due <= now);
    let Some((first, _)) = due else { return Ok(false) };
    let (reader, prefix) = (&writer.reader, lane.to_be_bytes());
    let due = keys_between(reader, Table::JobsDelayed, &prefix, first.as_micros(), now.as_micros())?;
    let due = due.take(BATCH).collect::<Result<Vec<_>, _>>()?;
    for key in &due {
        let row = listed(reader, Table::JobsDelayed, key, |stage| matches!(stage, Stage::Delayed(_)))?;
        wait(writer, last_number(key), &row, row.class(), row.clone())?;
    }
    Ok(!due.is_empty())
}

/// The lane of a queue whose turn it is, of those under a namespace.
pub(super) fn next(reader: &Reader<'_>, queue: &Queue, under: &Namespace) -> Result<Option<Next>> {
    if !under.parts().is_empty() {
        return next_under(reader, queue, under);
    }
    let prefix = key(&[&queue.number.to_be_bytes(), &[TURNS]]);
    let first = keys_between(reader, Table::JobAgenda, &prefix, queue.turns, u64::MAX)?.next().transpose()?;
    let next = |turn, lane| Next { turn, lane, queue: Queue { turns: turn, ..*queue } };
    Ok(first.map(|key| next(number_before(&key), last_number(&key))))
}

/// The same by the lanes of that namespace and below: turns of others may lie before theirs, so that the queue is looked
/// through from where it was.
fn next_under(reader: &Reader<'_>, queue: &Queue, under: &Namespace) -> Result<Option<Next>> {
    let mut first: Option<Next> = None;
    for row in reader.prefix(Table::JobLaneNumbers, &lane_name(queue.number, under))? {
        let (key, row) = row?;
        let lane = parse(Table::JobLaneNumbers, &key, &row)?;
        if let Some(Slot::Turn(turn)) = Lane::read(reader, lane)?.slot {
            first = first.into_iter().chain([Next { turn, lane, queue: *queue }]).min_by_key(|next| next.turn);
        }
    }
    Ok(first)
}

/// Gives the first job of a lane to a worker: its number, and its row as it is then.
pub(super) fn serve(
    writer: &Writer<'_>,
    next: Next,
    now: Timestamp,
    until: Timestamp,
    worker: &str,
) -> Result<(u64, Row)> {
    wake(writer, next.lane, now)?;
    let lane = Lane::read(&writer.reader, next.lane)?;
    let first = (0_u8..).zip(lane.first).find_map(|(class, place)| Some((class, place?)));
    let wrong = || Table::JobLanes.damaged(&next.lane.to_be_bytes(), "it has a turn, and no job to claim");
    let (class, place) = first.ok_or_else(wrong)?;
    let (table, entry) = Stage::Waiting(class, place).entry(lane.queue, next.lane, 0);
    let id = writer.reader.get(table, &entry)?;
    let id = id.map(|id| last_number(&id)).ok_or_else(|| table.damaged(&entry, "missing, and first in its lane"))?;
    let before = Row::known(&writer.reader, id)?;
    if before.stage != Stage::Waiting(class, place) {
        return Err(table.damaged(&entry, format!("job {id} is {}", before.stage.name())).into());
    }
    // Before the change, which may have to look from an earlier time on.
    next.queue.write(writer, &lane.name)?;
    let after = Row {
        stage: Stage::Running(until),
        attempts: before.attempts.saturating_add(1),
        token: next_number(writer)?,
        worker: Some(worker.to_owned()),
        key: before.key.clone().filter(|key| !key.until_claimed),
        ..before.clone()
    };
    change(writer, id, &before, Some(&after))?;
    Ok((id, after))
}

/// When a claim of a queue will, or may, find a job: the first time if it does now.
pub(super) fn due(reader: &Reader<'_>, name: &str, under: &Namespace) -> Result<Option<Timestamp>> {
    let Some(queue) = Queue::read(reader, name)? else { return Ok(None) };
    if next(reader, &queue, under)?.is_some() {
        return Ok(Some(Timestamp::MIN));
    }
    let (queue_key, wakes) = (queue.number.to_be_bytes(), key(&[&queue.number.to_be_bytes(), &[WAKES]]));
    let first = |table, prefix: &[u8], from: Timestamp| -> Result<Option<Timestamp>> {
        let key = keys_between(reader, table, prefix, from.as_micros(), u64::MAX)?.next().transpose()?;
        Ok(key.map(|key| Timestamp::from_micros(number_before(&key))))
    };
    let wake = first(Table::JobAgenda, &wakes, queue.wakes)?;
    let lease = first(Table::JobLeases, &queue_key, queue.leases)?;
    Ok(wake.into_iter().chain(lease).min())
}

/// Removes jobs that were kept long enough, two at most: as each call makes one job, none is left behind.
pub(super) fn forget(writer: &Writer<'_>, now: Timestamp) -> Result<()> {
    let head = Head::read(&writer.reader)?;
    let keys = keys_between(&writer.reader, Table::JobsEnded, b"", head.ended.as_micros(), now.as_micros())?;
    let ended = keys.take(2).collect::<Result<Vec<_>, _>>()?;
    for key in &ended {
        let id = last_number(key);
        change(writer, id, &Row::known(&writer.reader, id)?, None)?;
    }
    if let Some(last) = ended.last() {
        let ended = if ended.len() < 2 { now } else { Timestamp::from_micros(number_before(last)) };
        Head { ended, ..Head::read(&writer.reader)? }.write(writer)?;
    }
    Ok(())
}

/// The numbers at the ends of the keys that begin with `prefix`, behind that of a number.
pub(super) fn after(
    reader: &Reader<'_>,
    table: Table,
    prefix: &[u8],
    number: Option<u64>,
    limit: usize,
) -> Result<Vec<u64>> {
    let start = number.map(|number| key(&[prefix, &number.to_be_bytes()]));
    let end = key(&[prefix, &[0xff; 17]]);
    let from = start.as_deref().map_or(Bound::Included(prefix), Bound::Excluded);
    let rows = reader.range(table, from, Bound::Excluded(&end))?;
    rows.take(limit).map(|row| Ok(last_number(&row?.0))).collect()
}
