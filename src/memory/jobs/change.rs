//! Every change of a job goes through here: what it was, what it is to be, and all rows that follow from that.

use super::error::Result;
use super::parts::JobCounts;
use super::rows::{
    AGAIN, Head, Lane, Queue, Row, Slot, Stage, lane_name, last_number, next_key, next_number, number_before, write,
};
use crate::memory::job_counts;
use crate::memory::namespace::Namespace;
use crate::memory::tables::{Table, Writer, key};
use crate::memory::time::Timestamp;

/// Changes a job whose lane is known to have it.
pub(super) fn change(writer: &Writer<'_>, id: u64, before: &Row, after: Option<&Row>) -> Result<()> {
    let lane = Lane::read(&writer.reader, before.lane)?;
    replace(writer, before.lane, lane, id, Some(before), after)
}

/// The lane of a namespace in a queue, and its number. It is written with the job that it gets.
pub(super) fn lane(writer: &Writer<'_>, name: &str, namespace: &Namespace) -> Result<(u64, Lane)> {
    let known = Queue::read(&writer.reader, name)?;
    if let Some(queue) = known
        && let Some(number) = Lane::number(&writer.reader, &queue, namespace)?
    {
        return Ok((number, Lane::read(&writer.reader, number)?));
    }
    let mut queue = known.map_or_else(|| next_number(writer).map(Queue::new), Ok)?;
    let number = next_number(writer)?;
    queue.lanes += 1;
    queue.write(writer, name)?;
    write(writer, Table::JobLaneNumbers, &lane_name(queue.number, namespace), &number)?;
    Ok((number, Lane::new(queue.number, name.to_owned(), namespace.clone())))
}

/// Adds, changes or removes a job.
pub(super) fn replace(
    writer: &Writer<'_>,
    number: u64,
    mut lane: Lane,
    id: u64,
    before: Option<&Row>,
    after: Option<&Row>,
) -> Result<()> {
    let (old, new) = (before.map(|row| row.stage), after.map(|row| row.stage));
    let (counted, counts) = (old.is_some_and(Stage::counts), new.is_some_and(Stage::counts));
    if counted != counts {
        job_counts::change(writer, &lane.namespace, counts)?;
    }
    if old != new {
        old.map_or(Ok(()), |stage| leave(writer, number, &mut lane, id, stage))?;
        new.map_or(Ok(()), |stage| enter(writer, number, &mut lane, id, stage))?;
        // A claim has a new token; a worker whose lease had ended may go on with an old one.
        let claim = after.filter(|after| before.is_some_and(|before| after.token > before.token));
        settle(writer, number, lane, claim.map(|claim| claim.token))?;
    }
    write_key(writer, id, before, after)?;
    match after {
        Some(after) => write(writer, Table::Jobs, &id.to_be_bytes(), after),
        None => {
            writer.delete(Table::JobPayloads, &id.to_be_bytes())?;
            Ok(writer.delete(Table::Jobs, &id.to_be_bytes())?)
        }
    }
}

/// Takes a job out of the index that has it.
fn leave(writer: &Writer<'_>, number: u64, lane: &mut Lane, id: u64, stage: Stage) -> Result<()> {
    let (table, entry) = stage.entry(lane.queue, number, id);
    writer.delete(table, &entry)?;
    let count = stage.count(&mut lane.counts);
    *count = count.saturating_sub(1);
    let (reader, prefix) = (&writer.reader, number.to_be_bytes());
    match stage {
        Stage::Waiting(class, place) => {
            let others = lane.counts.waiting > 0;
            if let Some(head) = lane.first.get_mut(usize::from(class)).filter(|head| **head == Some(place)) {
                let prefix = key(&[&prefix, &[class]]);
                let next = if others { next_key(reader, table, &prefix, &entry)? } else { None };
                *head = next.as_deref().map(last_number);
            }
        }
        Stage::Delayed(until) if lane.due == Some((until, id)) => {
            let others = lane.counts.delayed > 0;
            let next = if others { next_key(reader, table, &prefix, &entry)? } else { None };
            lane.due = next.map(|key| (Timestamp::from_micros(number_before(&key)), last_number(&key)));
        }
        _ => {}
    }
    Ok(())
}

/// Puts a job into the index that is to have it.
fn enter(writer: &Writer<'_>, number: u64, lane: &mut Lane, id: u64, stage: Stage) -> Result<()> {
    let (table, entry) = stage.entry(lane.queue, number, id);
    let leads: &[u8] = if matches!(stage, Stage::Waiting(..)) { &id.to_be_bytes() } else { b"" };
    writer.put(table, &entry, leads)?;
    *stage.count(&mut lane.counts) += 1;
    match stage {
        Stage::Waiting(class, place) => {
            if let Some(head) = lane.first.get_mut(usize::from(class)) {
                *head = Some(head.map_or(place, |head| head.min(place)));
            }
        }
        Stage::Delayed(until) => lane.due = Some(lane.due.map_or((until, id), |due| due.min((until, id)))),
        Stage::Running(until) => lower(writer, lane, |queue| &mut queue.leases, until)?,
        Stage::Done(until) | Stage::Cancelled(until) => {
            let head = Head::read(&writer.reader)?;
            if until < head.ended {
                Head { ended: until, ..head }.write(writer)?;
            }
        }
        Stage::Dead => {}
    }
    Ok(())
}

/// Begins to look for what a queue has at this time, if it would begin later.
fn lower(
    writer: &Writer<'_>,
    lane: &Lane,
    field: impl Fn(&mut Queue) -> &mut Timestamp,
    time: Timestamp,
) -> Result<()> {
    let mut queue = Queue::known(&writer.reader, &lane.name)?;
    let floor = field(&mut queue);
    if time < *floor {
        *floor = time;
        queue.write(writer, &lane.name)?;
    }
    Ok(())
}

/// Writes a lane, and gives it the slot that its jobs call for: a turn, the same while it has jobs to claim, and the
/// last one after it was served; or the time at which its first delayed job is due. A lane without jobs goes.
fn settle(writer: &Writer<'_>, number: u64, mut lane: Lane, served: Option<u64>) -> Result<()> {
    let old = lane.slot;
    let has_jobs = lane.first.iter().any(Option::is_some);
    lane.slot = match (served, old) {
        (Some(turn), _) if has_jobs => Some(Slot::Turn(turn)),
        (None, Some(Slot::Turn(turn))) if has_jobs => Some(Slot::Turn(turn)),
        _ if has_jobs => Some(Slot::Turn(next_number(writer)?)),
        _ => lane.due.map(|(time, _)| Slot::Wake(time)),
    };
    if lane.slot != old {
        if let Some(slot) = old {
            writer.delete(Table::JobAgenda, &slot.key(lane.queue, number))?;
        }
        if let Some(slot) = lane.slot {
            writer.put(Table::JobAgenda, &slot.key(lane.queue, number), b"")?;
        }
        if let Some(Slot::Wake(time)) = lane.slot {
            lower(writer, &lane, |queue| &mut queue.wakes, time)?;
        }
    }
    if lane.counts != JobCounts::default() {
        return write(writer, Table::JobLanes, &number.to_be_bytes(), &lane);
    }
    writer.delete(Table::JobLanes, &number.to_be_bytes())?;
    writer.delete(Table::JobLaneNumbers, &lane_name(lane.queue, &lane.namespace))?;
    let mut queue = Queue::known(&writer.reader, &lane.name)?;
    queue.lanes = queue.lanes.saturating_sub(1);
    if queue.lanes == 0 {
        return Ok(writer.delete(Table::JobQueues, lane.name.as_bytes())?);
    }
    queue.write(writer, &lane.name)
}

fn write_key(writer: &Writer<'_>, id: u64, before: Option<&Row>, after: Option<&Row>) -> Result<()> {
    let (old, new) = (before.and_then(Row::held_key), after.and_then(Row::held_key));
    if old == new {
        return Ok(());
    }
    if let Some(old) = old {
        writer.delete(Table::JobKeys, &old)?;
    }
    new.map_or(Ok(()), |new| Ok(writer.put(Table::JobKeys, &new, &id.to_be_bytes())?))
}

/// Puts a job to the end of those that wait.
pub(super) fn wait(writer: &Writer<'_>, id: u64, before: &Row, class: u8, after: Row) -> Result<()> {
    let place = next_number(writer)?;
    change(writer, id, before, Some(&Row { stage: Stage::Waiting(class, place), ..after }))
}

/// Gives a job that has no worker any more to others, or makes it a dead letter.
pub(super) fn take_back(writer: &Writer<'_>, id: u64, row: &Row) -> Result<()> {
    let worker = row.worker.as_deref().unwrap_or_default();
    let error = Some(format!("attempt {}: the lease of worker {worker:?} ended", row.attempts));
    if row.attempts >= row.most {
        return change(writer, id, row, Some(&Row { stage: Stage::Dead, token: 0, error, ..row.clone() }));
    }
    // The token stays good until another worker claims the job.
    wait(writer, id, row, AGAIN, Row { error, ..row.clone() })
}
