//! What the demo's processes acknowledged, against what is in the store.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use memstone::{CheckOptions, Stats, Store};
use serde_json::{Value, json};

use super::team::Member;
use super::worker::{ALL_NOTES, COUNTS, DOCUMENTS, NOTES, NoteId, Role};
use crate::failure::Failure;
use crate::output::{Output, columns};

pub(super) struct Verdict {
    members: Vec<Member>,
    time: Duration,
    found: u64,
    /// Committed, but its writer was killed before it could say so.
    unreported: u64,
    lost: Vec<NoteId>,
    doubled: Vec<NoteId>,
    /// Whatever else must not be.
    wrong: Vec<String>,
    commits_per_flush: Option<f64>,
}

impl Verdict {
    /// Opens the store anew, looks for every note, and checks the file in full.
    pub(super) fn reach(
        file: &Path,
        members: Vec<Member>,
        time: Duration,
        stats: Option<Stats>,
    ) -> Result<Verdict, Failure> {
        let mut wrong: Vec<String> = Vec::new();
        for member in &members {
            wrong.extend(member.told.broken.iter().map(|what| format!("{}: {what}", member.name())));
        }
        let store = Store::options().create(false).read_only(true).open(file)?;
        let snapshot = store.read()?;
        // How often each note is in the documents.
        let mut listed: HashMap<NoteId, u64> = HashMap::new();
        for notes in snapshot.table(DOCUMENTS)?.values()? {
            notes?.into_iter().for_each(|id| *listed.entry(id).or_default() += 1);
        }
        let (mut found, mut unreported, mut lost) = (0, 0, Vec::new());
        for member in members.iter().filter(|member| member.role == Role::Writer) {
            let acknowledged = member.told.acknowledged;
            let mut next = 0;
            for key in snapshot.table(NOTES)?.prefix((member.id,))?.keys() {
                let (id, number) = key?;
                lost.extend((next..number).filter(|gap| *gap < acknowledged).map(|gap| (id, gap)));
                next = number + 1;
                found += 1;
                if !listed.contains_key(&(id, number)) {
                    wrong.push(format!("note {number} of writer {id} is there, but in no document"));
                }
            }
            lost.extend((next..acknowledged).map(|gap| (member.id, gap)));
            let beyond = next.saturating_sub(acknowledged);
            unreported += beyond;
            if beyond > u64::from(member.killed) {
                wrong.push(format!("{} made {beyond} commits that it did not report", member.name()));
            }
        }
        let notes = snapshot.table(NOTES)?;
        for id in listed.keys() {
            if !notes.contains(id)? {
                wrong.push(format!("note {} of writer {} is in a document, but not there", id.1, id.0));
            }
        }
        let counted = snapshot.table(COUNTS)?.get(ALL_NOTES)?.unwrap_or(0);
        if counted != found || notes.len()? != found {
            wrong.push(format!("{found} notes found, {counted} counted, {} by the table's length", notes.len()?));
        }
        drop(snapshot);
        store.close()?;
        let report = memstone::check(file, &CheckOptions::default())?;
        wrong.extend(report.findings.iter().map(|found| format!("check: byte {}: {}", found.offset, found.message)));

        let counted = stats.map(|stats| stats.locks).filter(|locks| locks.flushes > 0);
        let commits_per_flush = counted.map(|locks| ratio(locks.commits, locks.flushes));
        let doubled = listed.into_iter().filter(|(_, times)| *times > 1).map(|(id, _)| id).collect();
        Ok(Verdict { members, time, found, unreported, lost, doubled, wrong, commits_per_flush })
    }

    /// Whether nothing is lost, doubled or damaged.
    pub(super) fn is_good(&self) -> bool {
        self.lost.is_empty() && self.doubled.is_empty() && self.wrong.is_empty()
    }

    pub(super) fn print(&self, out: &mut Output) -> Result<(), Failure> {
        if out.json() { out.line(self.json()) } else { self.text(out) }
    }

    fn acknowledged(&self) -> u64 {
        self.members.iter().map(|member| member.told.acknowledged).sum()
    }

    fn json(&self) -> Value {
        let member = |member: &Member| {
            json!({
                "role": member.name(), "pid": member.pid, "killed": member.killed,
                "commits": member.told.acknowledged, "seen": member.told.seen,
                "waited_seconds": member.told.waited.as_secs_f64(),
                "longest_wait_seconds": member.told.longest_wait.as_secs_f64(),
                "longest_commit_seconds": member.told.longest_commit.as_secs_f64(),
            })
        };
        json!({
            "acknowledged": self.acknowledged(), "found": self.found, "unreported": self.unreported,
            "lost": self.lost, "doubled": self.doubled, "wrong": self.wrong, "good": self.is_good(),
            "seconds": self.time.as_secs_f64(), "commits_per_flush": self.commits_per_flush,
            "processes": self.members.iter().map(member).collect::<Vec<_>>(),
        })
    }

    fn text(&self, out: &mut Output) -> Result<(), Failure> {
        let head = ["PROCESS", "PID", "COMMITS", "MEAN WAIT", "LONGEST WAIT", "LONGEST COMMIT", ""];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for member in &self.members {
            let told = &member.told;
            let milliseconds = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1000.0);
            let note = match member.role {
                Role::Writer if member.killed => "killed half way".to_owned(),
                Role::Writer => String::new(),
                Role::Reader => format!("read {} snapshots", told.seen),
                Role::Watcher => format!("woken {} times", told.seen),
            };
            let mut row = vec![member.name(), member.pid.to_string()];
            if member.role == Role::Writer {
                let mean = told.waited.div_f64(ratio(told.acknowledged.max(1), 1));
                row.push(told.acknowledged.to_string());
                row.extend([mean, told.longest_wait, told.longest_commit].map(milliseconds));
            } else {
                row.extend(std::iter::repeat_n(String::new(), 4));
            }
            row.push(note);
            rows.push(row);
        }
        columns(&rows).into_iter().try_for_each(|line| out.line(line))?;

        let acknowledged = self.acknowledged();
        let extra = match self.unreported {
            0 => String::new(),
            more => format!("  ({more} by the killed writer, which had no time to report it)"),
        };
        out.line("")?;
        out.line(format_args!("acknowledged       {acknowledged}"))?;
        out.line(format_args!("found              {}{extra}", self.found))?;
        out.line(format_args!("lost               {}", self.lost.len()))?;
        out.line(format_args!("doubled            {}", self.doubled.len()))?;
        let rate = ratio(acknowledged, 1) / self.time.as_secs_f64().max(0.001);
        out.line(format_args!("commits a second   {rate:.0}"))?;
        if let Some(commits) = self.commits_per_flush {
            out.line(format_args!("commits per flush  {commits:.1}"))?;
        }
        let wrong = |what: &String| out.line(format_args!("WRONG: {what}"));
        self.wrong.iter().try_for_each(wrong)?;
        out.line(if self.is_good() {
            "Every acknowledged commit is there, once; the file is sound."
        } else {
            "This must not be."
        })
    }
}

impl Member {
    fn name(&self) -> String {
        match self.role {
            Role::Writer => format!("writer {}", self.id),
            Role::Reader => "reader".to_owned(),
            Role::Watcher => "watcher".to_owned(),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}
