//! Verifying that indexes and counters agree with the jobs.

use super::error::Result;
use super::parts::JobCounts;
use super::rows::{CLASSES, Head, Lane, Queue, Row, Slot, Stage, held_key, lane_name, last_number, parse, read};
use super::snapshot::JobsSnapshot;
use crate::memory::check::CheckReport;
use crate::memory::error::MemoryError;
use crate::memory::job_counts;
use crate::memory::namespace::Namespace;
use crate::memory::tables::{Reader, Table};
use crate::memory::time::Timestamp;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// What the jobs of a lane lead one to expect of its row.
#[derive(Debug, Default, PartialEq)]
struct Expected {
    counts: JobCounts,
    first: [Option<u64>; CLASSES],
    due: Option<(Timestamp, u64)>,
    lease: Option<Timestamp>,
}

struct Check<'r> {
    reader: Reader<'r>,
    head: Head,
    report: CheckReport,
    queues: BTreeMap<String, Queue>,
    lanes: BTreeMap<u64, Lane>,
    expected: BTreeMap<u64, Expected>,
    /// Rows of each index.
    rows: BTreeMap<Table, u64>,
}

pub(super) fn check(snapshot: &JobsSnapshot) -> Result<CheckReport> {
    let reader = snapshot.reader();
    let head = Head::read(&reader)?;
    let (queues, lanes, expected) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let report = CheckReport::default();
    let mut check = Check { reader, head, report, queues, lanes, expected, rows: BTreeMap::new() };
    for (key, queue) in check.table(Table::JobQueues)? {
        check.queues.insert(String::from_utf8_lossy(&key).into_owned(), queue);
    }
    for (key, lane) in check.table(Table::JobLanes)? {
        check.lanes.insert(last_number(&key), lane);
    }
    check.jobs()?;
    check.lanes()?;
    check.queues();
    check.namespaces()?;
    check.sizes()?;
    Ok(check.report)
}

impl Check<'_> {
    /// The rows of a table that can be read; the others are problems.
    fn table<T: DeserializeOwned>(&mut self, table: Table) -> Result<Vec<(Vec<u8>, T)>> {
        let mut rows = Vec::new();
        for row in self.reader.prefix(table, b"")? {
            let (key, row) = row?;
            match parse(table, &key, &row) {
                Ok(row) => rows.push((key.to_vec(), row)),
                Err(error) => self.report.note(table, &key, error.to_string()),
            }
        }
        Ok(rows)
    }

    fn jobs(&mut self) -> Result<()> {
        let mut after = Some(Vec::new());
        // In batches: their rows may be many, and long.
        while let Some(last) = after {
            let from = std::ops::Bound::Excluded(last.as_slice());
            let rows = self.reader.range(Table::Jobs, from, std::ops::Bound::Unbounded)?.take(1000);
            let rows = rows.collect::<Result<Vec<_>, MemoryError>>()?;
            for (key, row) in &rows {
                self.report.jobs += 1;
                match parse::<Row>(Table::Jobs, key, row) {
                    Ok(row) if key.len() == 8 => self.job(last_number(key), &row)?,
                    Ok(_) => self.report.note(Table::Jobs, key, "not the number of a job"),
                    Err(error) => self.report.note(Table::Jobs, key, error.to_string()),
                }
            }
            after = rows.last().map(|(key, _)| key.to_vec());
        }
        Ok(())
    }

    /// One job is in the index where it should be, and its lane counts it.
    fn job(&mut self, id: u64, row: &Row) -> Result<()> {
        let (key, next) = (id.to_be_bytes(), self.head.next);
        let Some(lane) = self.lanes.get(&row.lane) else {
            self.report.note(Table::Jobs, &key, format!("in lane {}, which has no row", row.lane));
            return Ok(());
        };
        let (table, entry) = row.stage.entry(lane.queue, row.lane, id);
        let found = self.reader.get(table, &entry)?;
        let wanted = if matches!(row.stage, Stage::Waiting(..)) { key.to_vec() } else { Vec::new() };
        self.report.expect(found.is_some_and(|found| *found == *wanted), table, &entry, || {
            format!("it does not lead to job {id}, which is {}", row.stage.name())
        });
        *self.rows.entry(table).or_default() += 1;
        let paid = self.reader.contains(Table::JobPayloads, &key)?;
        self.report.expect(paid, Table::JobPayloads, &key, || "missing".to_owned());
        *self.rows.entry(Table::JobPayloads).or_default() += 1;
        if let Some(key) = row.key.as_ref().filter(|_| row.stage.is_open()) {
            let held = held_key(row.lane, &key.text);
            let found = self.reader.get(Table::JobKeys, &held)?;
            let leads = found.is_some_and(|found| *found == id.to_be_bytes());
            self.report.expect(leads, Table::JobKeys, &held, || format!("it does not lead to job {id}"));
            *self.rows.entry(Table::JobKeys).or_default() += 1;
        }
        let place = if let Stage::Waiting(_, place) = row.stage { place } else { 0 };
        let known = id.max(place).max(row.token).max(row.lane) < next;
        self.report.expect(known, Table::JobHead, b"", || format!("the next number is {next}, and job {id} has it"));
        if let Stage::Done(until) | Stage::Cancelled(until) = row.stage {
            let looks = self.head.ended <= until;
            self.report.expect(looks, Table::JobHead, b"", || format!("job {id} has ended before, and is kept"));
        }
        self.expected.entry(row.lane).or_default().add(id, row.stage);
        Ok(())
    }

    /// The lanes count what they have, and are found by their queues.
    fn lanes(&mut self) -> Result<()> {
        let none = Expected::default();
        for (number, lane) in &self.lanes {
            let (key, found) = (number.to_be_bytes(), self.expected.get(number).unwrap_or(&none));
            let agrees = (lane.counts, lane.first, lane.due) == (found.counts, found.first, found.due);
            let report = &mut self.report;
            report.expect(agrees && found.counts != none.counts, Table::JobLanes, &key, || {
                format!("{lane:?}, and its jobs give {found:?}")
            });
            let slot = match (lane.slot, found.first.iter().any(Option::is_some)) {
                (Some(Slot::Turn(turn)), true) => turn < self.head.next,
                (Some(Slot::Wake(time)), false) => found.due.is_some_and(|(due, _)| due == time),
                (slot, _) => slot.is_none() && found.first == none.first && found.due.is_none(),
            };
            report.expect(slot, Table::JobLanes, &key, || format!("{:?}, and its jobs give {found:?}", lane.slot));
            if let Some(slot) = lane.slot {
                let entry = slot.key(lane.queue, *number);
                let there = self.reader.contains(Table::JobAgenda, &entry)?;
                report.expect(there, Table::JobAgenda, &entry, || format!("missing, for lane {number}"));
                *self.rows.entry(Table::JobAgenda).or_default() += 1;
            }
            let name = lane_name(lane.queue, &lane.namespace);
            let leads = read::<u64>(&self.reader, Table::JobLaneNumbers, &name);
            let leads = matches!(leads, Ok(Some(leads)) if leads == *number);
            report.expect(leads, Table::JobLaneNumbers, &name, || format!("it does not lead to lane {number}"));
            *self.rows.entry(Table::JobLaneNumbers).or_default() += 1;
        }
        Ok(())
    }

    /// The queues count their lanes, and begin to look before anything that they have.
    fn queues(&mut self) {
        let mut lanes: BTreeMap<&str, u64> = BTreeMap::new();
        for (number, lane) in &self.lanes {
            *lanes.entry(lane.name.as_str()).or_default() += 1;
            let lease = self.expected.get(number).and_then(|found| found.lease);
            let sees = |queue: &Queue| {
                let slot = match lane.slot {
                    Some(Slot::Turn(turn)) => queue.turns <= turn,
                    Some(Slot::Wake(time)) => queue.wakes <= time,
                    None => true,
                };
                slot && queue.number == lane.queue && lease.is_none_or(|lease| queue.leases <= lease)
            };
            let queue = self.queues.get(&lane.name);
            self.report.expect(queue.is_some_and(sees), Table::JobQueues, lane.name.as_bytes(), || {
                format!("{queue:?}, and lane {number} has {:?} and the lease {lease:?}", lane.slot)
            });
        }
        for (name, queue) in &self.queues {
            let found = lanes.get(name.as_str()).copied().unwrap_or(0);
            self.report.expect(found == queue.lanes && found > 0, Table::JobQueues, name.as_bytes(), || {
                format!("{} lanes, and {found} have it", queue.lanes)
            });
        }
    }

    /// Namespaces count the jobs of their lanes, and of those below.
    fn namespaces(&mut self) -> Result<()> {
        let mut wanted: BTreeMap<Namespace, u64> = BTreeMap::new();
        for (number, lane) in &self.lanes {
            let counts = self.expected.get(number).map(|found| found.counts).unwrap_or_default();
            let jobs = counts.waiting + counts.delayed + counts.running + counts.dead;
            for namespace in lane.namespace.lineage().filter(|_| jobs > 0) {
                *wanted.entry(namespace).or_default() += jobs;
            }
        }
        for (namespace, wanted) in &wanted {
            let found = job_counts::read(&self.reader, namespace);
            let agrees = found.as_ref().is_ok_and(|found| found == wanted);
            self.report.expect(agrees, Table::JobCounts, &namespace.key(), || {
                format!("{found:?}, and its jobs give {wanted}")
            });
        }
        *self.rows.entry(Table::JobCounts).or_default() = wanted.len() as u64;
        Ok(())
    }

    /// Each index has as many rows as the jobs give it: with all of them found, none is left over.
    fn sizes(&mut self) -> Result<()> {
        const INDEXES: [Table; 10] = [
            Table::JobPayloads,
            Table::JobsWaiting,
            Table::JobsDelayed,
            Table::JobLeases,
            Table::JobsEnded,
            Table::JobsDead,
            Table::JobKeys,
            Table::JobAgenda,
            Table::JobLaneNumbers,
            Table::JobCounts,
        ];
        for table in INDEXES {
            let (wanted, found) = (self.rows.get(&table).copied().unwrap_or(0), self.reader.len(table)?);
            self.report.expect(found == wanted, table, b"", || format!("{found} rows, and the jobs give {wanted}"));
        }
        Ok(())
    }
}

impl Expected {
    fn add(&mut self, id: u64, stage: Stage) {
        *stage.count(&mut self.counts) += 1;
        match stage {
            Stage::Waiting(class, place) => {
                if let Some(first) = self.first.get_mut(usize::from(class)) {
                    *first = Some(first.map_or(place, |first| first.min(place)));
                }
            }
            Stage::Delayed(until) => self.due = Some(self.due.map_or((until, id), |due| due.min((until, id)))),
            Stage::Running(until) => self.lease = Some(self.lease.map_or(until, |lease| lease.min(until))),
            _ => {}
        }
    }
}
