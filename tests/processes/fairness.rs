//! Sixteen processes that commit as fast as they can: all are served alike, and share the flushes.

use crate::common::{Child, Role, TestStore, listen, measured, setting, tell};
use memstone::Store;
use std::time::{Duration, Instant};

const PROCESSES: usize = 16;
const LONGEST: Duration = Duration::from_millis(100);

pub const ROLES: &[Role] = &[("commit_rows", commit_rows)];

fn commit_rows(words: &[String]) {
    let store = Store::open(&words[0]).unwrap();
    let time = Duration::from_millis(words[1].parse().unwrap());
    tell("ready");
    listen();
    let (started, mut longest, mut count) = (Instant::now(), Duration::ZERO, 0_u64);
    while started.elapsed() < time {
        let key = (u64::from(std::process::id()) << 32 | count).to_be_bytes();
        let before = Instant::now();
        store.write(|tx| tx.raw("rows")?.put(&key, &[7; 150])).unwrap();
        longest = longest.max(before.elapsed());
        count += 1;
    }
    tell(format!("{count} {}", longest.as_micros()));
    listen();
}

/// Commits of each process, and the longest that any took.
fn run(test: &TestStore, processes: usize, time: Duration) -> (Vec<u64>, Duration) {
    let mut children: Vec<_> =
        (0..processes).map(|_| Child::start("commit_rows", &[&test.path.display(), &time.as_millis()])).collect();
    children.iter().for_each(|child| assert_eq!(child.hear(), "ready"));
    children.iter_mut().for_each(|child| child.say("go"));
    let (mut counts, mut longest) = (Vec::new(), 0);
    for child in &children {
        let line = child.hear();
        let (count, micros) = line.split_once(' ').unwrap();
        counts.push(count.parse().unwrap());
        longest = longest.max(micros.parse().unwrap());
    }
    let stats = test.open().stats().unwrap().locks;
    println!("{processes} processes: {} commits in {} flushes", stats.commits, stats.flushes);
    // Nobody is told of a commit before a flush: each flush serves each process once at most.
    assert!(stats.commits <= (stats.flushes + 2) * processes as u64, "{stats:?}");
    children.into_iter().for_each(|child| drop(child.finish()));
    (counts, Duration::from_micros(longest))
}

#[test]
fn sixteen_processes_are_served_alike() {
    let test = TestStore::alone();
    let time = Duration::from_secs(setting("MEMSTONE_FAIRNESS_SECONDS", 2));
    let mut rows = 0;
    measured(5, || {
        let (alone, _) = run(&test, 1, time / 2);
        let (counts, longest) = run(&test, PROCESSES, time);
        let (least, best) = (*counts.iter().min().unwrap(), *counts.iter().max().unwrap());
        let total: u64 = counts.iter().sum();
        rows += alone[0] + total;
        let (rate, rate_alone) = (total as f64 / time.as_secs_f64(), alone[0] as f64 / (time / 2).as_secs_f64());
        let figures = format!(
            "{rate:.0} commits/s of {PROCESSES} processes, {rate_alone:.0}/s of one ({:.1} times); \
            fewest {least}, most {best} of a process; longest commit {:.1} ms",
            rate / rate_alone,
            longest.as_secs_f64() * 1000.0
        );
        println!("{figures}");
        let good = least * 2 >= best && rate >= 3.0 * rate_alone && longest <= LONGEST;
        if good { Ok(()) } else { Err(figures) }
    });
    assert_eq!(test.open().read().unwrap().raw("rows").unwrap().len().unwrap(), rows);
}
