//! The tools for figures: how processes share the memory, how long calls take, and what has reached its threshold.

use crate::care::Care;
use crate::failure::Failure;
use crate::moment;
use crate::shape::{Field, Shape};
use crate::tool::{Answer, Effect, Tool, Work};
use memstone::memory::{Memory, OperationStatistics, Statistics, Thresholds, Timestamp};
use memstone::{Holder, LockStats};
use serde_json::{Map, Value, json};
use std::time::Duration;

const NOTHING: Shape = Shape::Object(&[]);
const WARNINGS: Field =
    Field::new("warnings", Shape::List(&Shape::Text), "Which figures have reached their thresholds, and what to do");
const UNDER_WAY: Field = Field::new("calls_under_way", Shape::Count, "Calls of this server now, with this one");
const PROCESS: &[Field] = &[
    Field::new("pid", Shape::Count, ""),
    Field::new("command", Shape::Text, ""),
    Field::optional("since", Shape::Time, "Since when it has that"),
];
const FIGURES: &[Field] = &[
    Field::new("acquisitions", Shape::Count, "How often it was taken"),
    Field::new("failures", Shape::Count, "How often a writer gave up"),
    Field::new("average_wait", Shape::Number, "Seconds"),
    Field::new("longest_wait", Shape::Number, "Seconds"),
    Field::new("p99_wait", Shape::Number, "Seconds: 99 of 100 waits were shorter"),
    Field::optional("last_acquired", Shape::Time, ""),
    Field::new("commits", Shape::Count, "Transactions"),
    Field::new("flushes", Shape::Count, "Flushes that they shared"),
    Field::new("checkpoints", Shape::Count, ""),
];

/// The tools.
pub(crate) const TOOLS: &[Tool] = &[
    Tool {
        name: "get_concurrent_access_stats",
        title: "Get Concurrent Access Stats",
        about: "How all processes that have the memory open share the right to write: acquisitions, failures, waits, who \
                has it now, and warnings",
        input: NOTHING,
        output: Shape::Object(&[
            Field::new(
                "all_processes",
                Shape::Object(FIGURES),
                "The writer lock, as all processes that have the memory open now have counted it since they opened it",
            ),
            Field::new("active", Shape::Count, "How many processes have it or wait for it now"),
            Field::optional("holder", Shape::Object(PROCESS), "The process that has it now"),
            Field::new("waiting", Shape::List(&Shape::Object(PROCESS)), "Those that wait, in the order of their turns"),
            Field::optional("this_process", Shape::Joined(&[PROCESS, FIGURES]), "What this server has of all that"),
            Field::new("processes", Shape::List(&Shape::Joined(&[PROCESS, FIGURES])), "What each process has of it"),
            UNDER_WAY,
            WARNINGS,
        ]),
        effect: Effect::Reads,
        work: Work::Care(get_concurrent_access_stats),
    },
    Tool {
        name: "get_performance_metrics",
        title: "Get Performance Metrics",
        about: "How many calls this server has answered, and how long they took, by tool and namespace; with the thresholds \
                and warnings",
        input: NOTHING,
        output: Shape::Object(&[
            Field::new(
                "since",
                Shape::Time,
                "Since when this server measures; figures of other servers are not in here",
            ),
            UNDER_WAY,
            Field::new(
                "operations",
                Shape::List(&Shape::Object(&[
                    Field::new("operation", Shape::Text, "The tool"),
                    Field::optional("namespace", Shape::Text, "Of the call; not given: all that are not told apart"),
                    Field::new("count", Shape::Count, "Calls, with those that were refused or failed"),
                    Field::new("refused", Shape::Count, "By a limit of a namespace"),
                    Field::new("failed", Shape::Count, "For another reason"),
                    Field::new("total", Shape::Number, "Seconds of all of them, from arrival to answer"),
                    Field::new("average", Shape::Number, "Seconds"),
                    Field::new("p50", Shape::Number, "Seconds: half of them took no longer"),
                    Field::new("p95", Shape::Number, "Seconds: 95 of 100 took no longer"),
                    Field::new("p99", Shape::Number, "Seconds: 99 of 100 took no longer"),
                    Field::new("longest", Shape::Number, "Seconds"),
                ])),
                "By namespace and tool",
            ),
            Field::new("rows_read", Shape::Count, "By this server, for memories and jobs"),
            Field::new("rows_written", Shape::Count, ""),
            Field::new("thresholds", Shape::Map(&Shape::Number), "From which figures on there are warnings"),
            WARNINGS,
        ]),
        effect: Effect::Reads,
        work: Work::Care(get_performance_metrics),
    },
    Tool {
        name: "cleanup_metrics",
        title: "Cleanup Metrics",
        about: "Forget how long calls took, and measure anew. What all processes count stays: it ends with each of them",
        input: NOTHING,
        output: Shape::Object(&[
            Field::new("forgotten", Shape::Count, "Calls that were measured"),
            Field::new("since", Shape::Time, "Since when this server measures now"),
        ]),
        effect: Effect::Keeps,
        work: Work::Care(cleanup_metrics),
    },
];

fn get_concurrent_access_stats(care: &Care<'_>, _: &Value) -> Result<Answer, Failure> {
    let statistics = care.items.statistics()?;
    let locks = &statistics.locks;
    let each = locks.processes.iter().map(|of| joined(process(&of.process), figures(&of.locks)));
    let each: Vec<Value> = each.collect();
    let own = each.iter().find(|of| of.get("pid") == Some(&json!(std::process::id())));
    Answer::of(without_nulls(json!({
        "all_processes": figures(&statistics.writer),
        "active": statistics.active,
        "holder": locks.writer.as_ref().map(process),
        "waiting": locks.waiting.iter().map(process).collect::<Vec<_>>(),
        "this_process": own,
        "processes": each,
        "calls_under_way": statistics.running,
        "warnings": warnings(&statistics),
    })))
}

fn get_performance_metrics(care: &Care<'_>, _: &Value) -> Result<Answer, Failure> {
    let statistics = care.items.statistics()?;
    Answer::of(json!({
        "since": moment::text(statistics.since),
        "calls_under_way": statistics.running,
        "operations": statistics.operations.iter().map(operation).collect::<Vec<_>>(),
        "rows_read": statistics.rows_read,
        "rows_written": statistics.rows_written,
        "thresholds": thresholds(&statistics.thresholds),
        "warnings": warnings(&statistics),
    }))
}

fn cleanup_metrics(care: &Care<'_>, _: &Value) -> Result<Answer, Failure> {
    let forgotten = care.meter.reset();
    Answer::of(json!({ "forgotten": forgotten, "since": moment::text(care.items.statistics()?.since) }))
}

/// What has reached its threshold, as text.
pub(crate) fn warnings_of(items: &Memory) -> Result<Vec<String>, Failure> {
    Ok(warnings(&items.statistics()?))
}

fn warnings(statistics: &Statistics) -> Vec<String> {
    statistics.warnings.iter().map(ToString::to_string).collect()
}

fn process(holder: &Holder) -> Value {
    let since = holder.since.map(|since| moment::text(Timestamp::from(since)));
    without_nulls(json!({ "pid": holder.pid, "command": holder.command, "since": since }))
}

fn figures(locks: &LockStats) -> Value {
    without_nulls(json!({
        "acquisitions": locks.acquisitions,
        "failures": locks.failures,
        "average_wait": seconds(locks.average_wait),
        "longest_wait": seconds(locks.longest_wait),
        "p99_wait": seconds(locks.p99_wait),
        "last_acquired": locks.last_acquired.map(|last| moment::text(Timestamp::from(last))),
        "commits": locks.commits,
        "flushes": locks.flushes,
        "checkpoints": locks.checkpoints,
    }))
}

fn operation(of: &OperationStatistics) -> Value {
    without_nulls(json!({
        "operation": of.operation,
        "namespace": of.namespace,
        "count": of.count,
        "refused": of.refused,
        "failed": of.failed,
        "total": seconds(of.total),
        "average": seconds(of.average),
        "p50": seconds(of.p50),
        "p95": seconds(of.p95),
        "p99": seconds(of.p99),
        "longest": seconds(of.longest),
    }))
}

/// In seconds, shares, and numbers of processes.
fn thresholds(of: &Thresholds) -> Value {
    json!({
        "average_wait": seconds(of.average_wait),
        "p99_wait": seconds(of.p99_wait),
        "writer_held": seconds(of.writer_held),
        "waiting": of.waiting,
        "failed_share": of.failed_share,
        "read_p99": seconds(of.read_p99),
        "write_p99": seconds(of.write_p99),
        "unswept": seconds(of.unswept),
        "quota_share": of.quota_share,
    })
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

/// An object without the members that are null.
pub(crate) fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => Value::Object(members.into_iter().filter(|(_, value)| !value.is_null()).collect()),
        value => value,
    }
}

fn joined(one: Value, other: Value) -> Value {
    let members = |value| if let Value::Object(members) = value { members } else { Map::new() };
    Value::Object(members(one).into_iter().chain(members(other)).collect())
}
