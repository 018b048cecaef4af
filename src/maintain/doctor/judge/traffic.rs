//! How processes affect each other: locks held for long, turns that did not come, states that are kept.

use std::time::Duration;

use super::super::Found;
use super::super::diagnosis::{Diagnosis, OpenProcess, PinnedVersion, Role, Subject, Urgency};
use super::{Judge, bytes, time};

/// A wait for the writer lock that is longer than this is reported.
const LONG_WAIT: Duration = Duration::from_secs(5);
/// A state that is kept for longer than this is reported.
const OLD: Duration = Duration::from_secs(3600);
/// Of this many requests for a turn, one may have given up.
const TURNS: u64 = 20;

impl Judge {
    /// Stopped processes, and the locks for which other processes wait.
    pub(super) fn stopped(&mut self, told: &Diagnosis) {
        for open in told.processes.iter().filter(|open| open.process.stopped) {
            let (pid, process) = (open.process.pid, named(open));
            let holds = match held(&open.roles) {
                Some(lock) => format!("and holds {lock}, which others wait for"),
                None if open.roles.contains(&Role::Pinning) => {
                    "and keeps a state, so that pages are not used again".to_owned()
                }
                None => "while it has the store open".to_owned(),
            };
            self.add(
                Urgency::Attention,
                Subject::StoppedProcess,
                format!("{process} is stopped {holds}"),
                "Let it go on (a debugger or Ctrl-Z may have stopped it); or end it: that frees its locks at once and damages nothing",
                &[format!("kill -CONT {pid}"), format!("kill -KILL {pid}")],
            );
        }
    }

    /// Locks of processes that cannot be seen from here.
    pub(super) fn unseen(&mut self, found: &Found) {
        let nameless = &found.holders.nameless;
        let named = |role: &Role| {
            let locks = found.told.as_ref().ok().map(|told| &told.locks);
            locks.is_some_and(|locks| match role {
                Role::Writer => locks.writer.is_some(),
                Role::Checkpoint => locks.checkpoint.is_some(),
                Role::Writing => !locks.processes.is_empty(),
                _ => false,
            })
        };
        let roles: Vec<Role> = nameless.iter().copied().filter(|role| !named(role)).collect();
        let holds = held(&roles).map(|lock| format!("; it holds {lock}")).unwrap_or_default();
        if !roles.is_empty() {
            self.add(
                Urgency::Note,
                Subject::LongWait,
                format!("a process that cannot be seen from here has the store open{holds}"),
                "It is another user's, or in another container. Look as the superuser, outside containers",
                &[format!("sudo memstone doctor {}", self.file)],
            );
        }
    }

    /// Waits under way, and the counters of earlier ones.
    pub(super) fn waits(&mut self, told: &Diagnosis) {
        let for_long = |open: &&OpenProcess| open.waiting_or_writing > Some(LONG_WAIT);
        let waiting = told.processes.iter().filter(|open| open.roles.contains(&Role::Waiting)).filter(for_long);
        if let Some(longest) = waiting.max_by_key(|open| open.waiting_or_writing) {
            let writer = told.processes.iter().find(|open| open.roles.contains(&Role::Writer));
            let holder = writer.map_or("a process that left no name".to_owned(), named);
            let what = format!(
                "{} has waited for its turn to write for {}; the writer lock is held by {holder}",
                named(longest),
                time(longest.waiting_or_writing.unwrap_or_default()),
            );
            let remedy = "See what the holder does: a long transaction, `with-lock`. Ending it frees the lock at once, and undoes its \
                          transaction";
            let kill = writer.map(|open| format!("kill {}", open.process.pid));
            let commands: Vec<_> = [format!("memstone locks {}", self.file)].into_iter().chain(kill).collect();
            self.add(Urgency::Attention, Subject::LongWait, what, remedy, &commands);
        }
        let Some(locks) = &told.locks else { return };
        let attempts = locks.acquisitions.saturating_add(locks.failures);
        if locks.failures > attempts / TURNS {
            let what = format!("{} of {attempts} turns to write did not come in time", locks.failures);
            let remedy = "Writers hold the lock for long, or wait too briefly. Make transactions short, or give them a longer timeout \
                          (`--timeout`, `Options::timeout`)";
            self.add(
                Urgency::Attention,
                Subject::FailedTurns,
                what,
                remedy,
                &[format!("memstone top {}", self.file), format!("memstone locks {}", self.file)],
            );
        }
        if locks.longest_wait > LONG_WAIT {
            let what = format!("a writer has waited for its turn for {}", time(locks.longest_wait));
            let remedy = "A transaction was slow, or a process stood still. See who holds the lock, and for how long:";
            self.add(Urgency::Attention, Subject::LongWait, what, remedy, &[format!("memstone top {}", self.file)]);
        }
    }

    /// States that are kept for long while other processes write.
    pub(super) fn pins(&mut self, told: &Diagnosis) {
        let kept = told.space.filter(|space| space.pending > 0).map(|space| bytes(space.pending));
        let kept = kept.map(|kept| format!("; {kept} wait for snapshots to end")).unwrap_or_default();
        for pin in told.pins.iter().filter(|pin| pin.outdated) {
            let Some(age) = pin.age.max(pin.at_least) else { continue };
            let holder = pin.process.as_ref();
            let who = holder.map_or("a process that cannot be seen from here".to_owned(), |holder| {
                format!("process {} ({})", holder.pid, holder.command)
            });
            if age <= OLD {
                self.unknown_age(told, pin, &who);
                continue;
            }
            let at_least = if pin.age >= Some(age) { "" } else { "at least " };
            let what = format!("{who} has kept a snapshot for {at_least}{}{kept}", time(age));
            let remedy = "The file grows by what is written meanwhile. Let the program drop its snapshot, or end it";
            let commands: Vec<_> = holder.map(|holder| format!("kill {}", holder.pid)).into_iter().collect();
            self.add(Urgency::Attention, Subject::OldSnapshot, what, remedy, &commands);
        }
    }

    /// A read-only process does not publish since when it keeps a state: it may be as old as the process.
    fn unknown_age(&mut self, told: &Diagnosis, pin: &PinnedVersion, who: &str) {
        let of_pin = |open: &&OpenProcess| pin.process.as_ref().is_some_and(|holder| holder.pid == open.process.pid);
        let since = told.processes.iter().find(of_pin).and_then(|open| open.running_since);
        let age = since.and_then(|since| told.time.duration_since(since).ok());
        if let (None, Some(age)) = (pin.age, age.filter(|age| *age > OLD)) {
            let what =
                format!("{who}, which has run for {}, keeps an old state, and does not say since when", time(age));
            let remedy = "If the file grows, let that program drop its snapshot";
            self.add(Urgency::Note, Subject::OldSnapshot, what, remedy, &[]);
        }
    }
}

fn named(open: &OpenProcess) -> String {
    format!("process {} on {} ({})", open.process.pid, open.process.host, open.process.command)
}

/// Of the locks held, the one that blocks other processes most.
fn held(roles: &[Role]) -> Option<&'static str> {
    let locks = [
        (Role::Writer, "the writer lock"),
        (Role::Opening, "the lock under which the store is opened"),
        (Role::Appending, "the log's end"),
        (Role::Checkpoint, "the right to run a checkpoint"),
        (Role::Flushing, "the right to flush"),
    ];
    locks.iter().find(|(role, _)| roles.contains(role)).map(|(_, lock)| *lock)
}
