//! `memstone top`: what happens in a store, second by second.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use memstone::{Holder, Rates, Sample};
use serde_json::json;

use crate::access::open_to_read;
use crate::clock::{readable, rfc3339};
use crate::doctor::span;
use crate::failure::Failure;
use crate::output::{Output, columns};
use crate::text::{escaped, size};

/// Show what happens in a store, second by second: rates, who holds locks, who waits, what is kept
///
/// On a terminal the screen is drawn again each time; elsewhere a block follows the other, with an empty line between them. Ctrl-C ends it.
#[derive(Args)]
pub(crate) struct Top {
    /// The store's file
    file: PathBuf,
    /// How long to wait between two looks, in seconds; fractions are allowed
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    interval: Duration,
    /// End after so many looks
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

/// Time between two looks whether it was interrupted.
const STEP: Duration = Duration::from_millis(50);

fn interval(text: &str) -> Result<Duration, String> {
    let interval = crate::seconds(text)?;
    if interval < STEP { Err(format!("at least {} seconds", STEP.as_secs_f64())) } else { Ok(interval) }
}

impl Top {
    pub(crate) fn run(self, out: &mut Output) -> Result<(), Failure> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
        }
        let is_over = || interrupted.load(Ordering::Relaxed);
        let store = open_to_read(&self.file)?;
        let mut before = store.sample()?;
        let mut shown = 0;
        while self.count.is_none_or(|count| shown < count) {
            if !wait(self.interval, is_over) {
                break;
            }
            let now = store.sample()?;
            show(out, shown, &now, &now.rates_since(&before))?;
            out.flush()?;
            before = now;
            shown += 1;
        }
        Ok(())
    }
}

/// `false`: it was interrupted.
fn wait(time: Duration, is_over: impl Fn() -> bool) -> bool {
    let started = Instant::now();
    while !is_over() {
        let left = time.saturating_sub(started.elapsed());
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(left.min(STEP));
    }
    false
}

fn show(out: &mut Output, shown: u64, now: &Sample, rates: &Rates) -> Result<(), Failure> {
    if out.json() {
        let mut look = readable(json!(now));
        if let Some(fields) = look.as_object_mut() {
            fields.insert("rates".to_owned(), readable(json!(rates)));
        }
        return out.line(look);
    }
    if io::stdout().is_terminal() {
        // To the upper left corner; all below is cleared.
        out.bytes(b"\x1b[H\x1b[J")?;
    } else if shown > 0 {
        out.line("")?;
    }
    lines(now, rates).into_iter().try_for_each(|line| out.line(line))
}

fn lines(now: &Sample, rates: &Rates) -> Vec<String> {
    let (stats, locks) = (&now.stats, &now.locks);
    let log = &stats.log;
    let each = rates.commits_per_flush.map_or("-".to_owned(), |commits| format!("{commits:.1}"));
    let waited = rates.average_wait.map_or("-".to_owned(), |wait| format!("{:.2} ms", wait.as_secs_f64() * 1000.0));
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is not negative, and is shown to a digit or two"
    )]
    let log_bytes = size(rates.log_bytes as u64);
    let mut lines = vec![
        format!("{}  commit {}  durable {}", rfc3339(now.time), stats.last_commit, stats.durable),
        format!(
            "commits {:.1}/s (LSNs {:.1}/s)  flushes {:.1}/s  commits per flush {each}  log {log_bytes}/s",
            rates.commits, rates.lsns, rates.flushes
        ),
        format!(
            "turns {:.1}/s  waited {waited}  given up {:.1}/s  checkpoints {:.1}/s",
            rates.turns, rates.failures, rates.checkpoints
        ),
        format!(
            "log {} of {}, cap {}  file {}",
            size(log.used),
            size(log.capacity),
            size(log.cap),
            size(stats.file_size)
        ),
        format!("newest root {}  kept versions {}", stats.root_sequence, kept(now)),
    ];
    let mut rows = vec![["DOES", "PID", "HOST", "FOR", "COMMITS", "KEEPS FOR", "COMMAND"].map(str::to_owned).to_vec()];
    for (what, holder, held) in
        [("writer", &locks.writer, locks.writer_held), ("checkpoint", &locks.checkpoint, locks.checkpoint_held)]
    {
        match holder {
            Some(holder) => rows.push(row(what, holder, None, None)),
            None if held => {
                rows.push([what, "?", "?", "?", "", "", "a process that left no name"].map(str::to_owned).to_vec())
            }
            None => {}
        }
    }
    rows.extend(locks.waiting.iter().map(|holder| row("waiting", holder, None, None)));
    for process in &locks.processes {
        let kept = process.oldest_state.and_then(|since| now.time.duration_since(since).ok());
        rows.push(row("open", &process.process, Some(process.locks.commits), kept));
    }
    if rows.len() > 1 {
        lines.extend(columns(&rows));
    }
    lines
}

fn kept(now: &Sample) -> String {
    let range = |range: &std::ops::RangeInclusive<u64>| match range.start() == range.end() {
        true => range.start().to_string(),
        false => format!("{} to {}", range.start(), range.end()),
    };
    let kept: Vec<_> = now.stats.pins.iter().map(range).collect();
    if kept.is_empty() { "none".to_owned() } else { kept.join(", ") }
}

fn row(what: &str, holder: &Holder, commits: Option<u64>, kept: Option<Duration>) -> Vec<String> {
    let what = if holder.stopped { format!("{what}, STOPPED") } else { what.to_owned() };
    let time = holder.held_for().map_or("?".to_owned(), span);
    let (commits, kept) = (commits.map(|count| count.to_string()), kept.map(span));
    let (host, command) = (escaped(holder.host.as_bytes()), escaped(holder.command.as_bytes()));
    vec![what, holder.pid.to_string(), host, time, commits.unwrap_or_default(), kept.unwrap_or_default(), command]
}
