//! The tools for jobs: submitting them, and seeing what becomes of them.

use crate::failure::Failure;
use crate::items::{Moment, Recall, Record};
use crate::metrics_tools::without_nulls;
use crate::moment;
use crate::scope::Scope;
use crate::shape::{Field, Shape};
use crate::tool::{Answer, Effect, Tool, Work};
use memstone::memory::jobs::{Job, JobCounts, JobError, JobId, JobInfo, JobState, Priority};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// The most jobs that one call lists.
const MOST: u64 = 100;
/// So many jobs are looked at by one call that lists some.
const LOOKED_AT: usize = 1000;
/// How long a job is kept after its end, unless the call says otherwise, in seconds.
const KEPT: u64 = 3600;

const NAMESPACE: Field = Field::optional("namespace", Shape::Text, "Only in this namespace and below it");
/// The id of a job, in arguments.
pub(crate) const ID: Field = Field::new("id", Shape::Count, "The id of a job");
/// What the job is about.
pub(crate) const PAYLOAD: Field = Field::optional("payload", Shape::Any, "What is to be done, as it was submitted");
const STATES: Shape = Shape::Choice(&["waiting", "delayed", "running", "done", "cancelled", "dead"]);
const JOB: &[Field] = &[
    Field::new("id", Shape::Count, "For get_job_status, cancel_job, retry_job and remove_job"),
    Field::new("queue", Shape::Text, ""),
    Field::new("namespace", Shape::Text, "Whose job it is"),
    Field::new(
        "state",
        STATES,
        "dead: no attempt is left, or a worker has given it up; it stays until it is retried or removed",
    ),
    Field::optional("until", Shape::Time, "Delayed: when a worker may get it; running: when the worker's lease ends"),
    Field::new("created", Shape::Time, ""),
    Field::new("priority", Shape::Choice(&["high", "normal", "low"]), ""),
    Field::new("attempts", Shape::Count, "How often a worker got it"),
    Field::new("max_attempts", Shape::Count, ""),
    Field::optional("key", Shape::Text, ""),
    Field::optional("worker", Shape::Text, "The one that got it last"),
    Field::optional("progress", Shape::Any, "What workers have said last: how far they are, or the result"),
    Field::optional("error", Shape::Text, "Why the last attempt failed"),
];
const COUNTS: &[Field] = &[
    Field::new("queue", Shape::Text, ""),
    Field::new("namespace", Shape::Text, ""),
    Field::new("waiting", Shape::Count, ""),
    Field::new("delayed", Shape::Count, ""),
    Field::new("running", Shape::Count, ""),
    Field::new("done", Shape::Count, "And kept to be seen"),
    Field::new("cancelled", Shape::Count, "And kept to be seen"),
    Field::new("dead", Shape::Count, ""),
];

/// The tools.
pub(crate) const TOOLS: &[Tool] = &[
    Tool {
        name: "submit_job",
        title: "Submit Job",
        about: "Submit a job to a queue. A worker gets it (claim_job, or another program), again if it fails, until it is done",
        input: Shape::Object(&[
            Field::new("queue", Shape::Text, "The kind of work, e.g. summarise"),
            Field::new("payload", Shape::Any, "What is to be done, for the worker to understand"),
            Field::optional("namespace", Shape::Text, "Whose job it is; namespaces are served in turns"),
            Field::optional("key", Shape::Text, "While a job with this key has not ended, no other is made"),
            Field::optional("priority", Shape::Choice(&["high", "normal", "low"]), "Among those of the namespace"),
            Field::optional("delay_seconds", Shape::Count, "No worker gets it before"),
            Field::optional("not_before", Shape::Time, "The same, as a time"),
            Field::optional("attempts", Shape::Count, "How often it is tried at most; 10 if it is not given"),
            Field::optional("keep_seconds", Shape::Count, "How long its end can be seen; 3600 if it is not given"),
        ]),
        output: Shape::Object(&[
            Field::new("id", Shape::Count, "For get_job_status and cancel_job"),
            Field::new("duplicate", Shape::Flag, "Whether there was one with the key, which has this id"),
        ]),
        effect: Effect::Adds,
        work: Work::Record(submit),
    },
    Tool {
        name: "get_job_status",
        title: "Get Job Status",
        about: "What has become of a job: its state, its progress or result, and why it failed",
        input: Shape::Object(&[ID]),
        output: Shape::Joined(&[JOB, &[PAYLOAD]]),
        effect: Effect::Reads,
        work: Work::Recall(status),
    },
    Tool {
        name: "list_jobs",
        title: "List Jobs",
        about: "List jobs in the order in which they were submitted, page by page",
        input: Shape::Object(&[
            NAMESPACE,
            Field::optional("queue", Shape::Text, "Only of this queue"),
            Field::optional("state", STATES, "Only in this state"),
            Field::optional("after", Shape::Count, "Where to go on: what the page before answered as next"),
            Field::optional("limit", Shape::Count, "How many at most: 10 if it is not given, 100 at most"),
        ]),
        output: Shape::Object(&[
            Field::new("jobs", Shape::List(&Shape::Object(JOB)), ""),
            Field::optional("next", Shape::Count, "If there may be more; a page may be empty and have one"),
        ]),
        effect: Effect::Reads,
        work: Work::Recall(list),
    },
    Tool {
        name: "list_queues",
        title: "List Queues",
        about: "List the queues with the namespaces that have jobs there, and how many in each state",
        input: Shape::Object(&[NAMESPACE]),
        output: Shape::Object(&[Field::new("queues", Shape::List(&Shape::Object(COUNTS)), "")]),
        effect: Effect::Reads,
        work: Work::Recall(queues),
    },
    Tool {
        name: "cancel_job",
        title: "Cancel Job",
        about: "Cancel a job, whether a worker has it or not. The worker is told at its next call, and cannot finish it",
        input: Shape::Object(&[ID]),
        output: Shape::Object(&[Field::new("cancelled", Shape::Flag, "Not, if it had ended before")]),
        effect: Effect::Removes,
        work: Work::Record(cancel),
    },
    Tool {
        name: "retry_job",
        title: "Retry Job",
        about: "Let a dead job be tried again, with all of its attempts",
        input: Shape::Object(&[ID]),
        output: Shape::Object(JOB),
        effect: Effect::Adds,
        work: Work::Record(retry),
    },
    Tool {
        name: "remove_job",
        title: "Remove Job",
        about: "Remove a job that has ended: a dead one, or one that is kept to be seen",
        input: Shape::Object(&[ID]),
        output: Shape::Object(&[Field::new("removed", Shape::Count, "Its id")]),
        effect: Effect::Removes,
        work: Work::Record(remove),
    },
];

#[derive(Deserialize)]
struct One {
    id: u64,
}

/// The id in the arguments.
fn id_of(arguments: &Value) -> Result<JobId, Failure> {
    Ok(JobId::from_u64(One::deserialize(arguments)?.id))
}

/// A job that the client may see; others do not exist for it.
pub(crate) fn visible(scope: &Scope, id: JobId, found: Option<JobInfo>) -> Result<JobInfo, Failure> {
    let found = found.filter(|job| scope.sees(&job.namespace));
    found.ok_or_else(|| JobError::NotFound { id }.into())
}

/// The same of a write transaction.
pub(crate) fn known(record: &Record<'_>, id: JobId) -> Result<JobInfo, Failure> {
    visible(record.scope, id, record.jobs().get(id)?)
}

fn submit(record: &Record<'_>, arguments: &Value) -> Result<Answer, Failure> {
    #[derive(Deserialize)]
    struct Arguments {
        queue: String,
        payload: Value,
        namespace: Option<String>,
        key: Option<String>,
        priority: Option<Priority>,
        delay_seconds: Option<u64>,
        not_before: Option<Moment>,
        attempts: Option<u64>,
        keep_seconds: Option<u64>,
    }
    let wanted = Arguments::deserialize(arguments)?;
    let attempts = u32::try_from(wanted.attempts.unwrap_or(10)).unwrap_or(u32::MAX);
    let mut job = Job::json(wanted.queue, &wanted.payload)?
        .priority(wanted.priority.unwrap_or_default())
        .attempts(attempts)
        .keep(Duration::from_secs(wanted.keep_seconds.unwrap_or(KEPT)));
    if let Some(key) = wanted.key {
        job = job.key(key);
    }
    job = match (wanted.not_before, wanted.delay_seconds) {
        (Some(Moment(time)), _) => job.at(time),
        (None, Some(seconds)) => job.delay(Duration::from_secs(seconds)),
        (None, None) => job,
    };
    let namespace = record.scope.namespace(wanted.namespace.as_deref())?;
    let submitted = record.jobs().enqueue(namespace, job)?;
    Answer::of(json!({ "id": submitted.id, "duplicate": submitted.duplicate }))
}

fn status(recall: &Recall<'_>, arguments: &Value) -> Result<Answer, Failure> {
    let (id, jobs) = (id_of(arguments)?, recall.jobs()?);
    let mut answer = shown(&visible(recall.scope, id, jobs.get(id)?)?, recall.scope);
    if let (Some(payload), Some(members)) = (jobs.payload(id)?, answer.as_object_mut()) {
        members.insert("payload".to_owned(), payload_of(&payload));
    }
    Answer::of(answer)
}

/// A payload as JSON; one that is none, as text.
pub(crate) fn payload_of(payload: &[u8]) -> Value {
    serde_json::from_slice(payload).unwrap_or_else(|_| json!(String::from_utf8_lossy(payload)))
}

fn list(recall: &Recall<'_>, arguments: &Value) -> Result<Answer, Failure> {
    #[derive(Deserialize)]
    struct Arguments {
        namespace: Option<String>,
        queue: Option<String>,
        state: Option<String>,
        after: Option<u64>,
        limit: Option<u64>,
    }
    let Arguments { namespace, queue, state, after, limit } = Arguments::deserialize(arguments)?;
    let namespace = recall.scope.namespace(namespace.as_deref())?;
    let is_wanted = |job: &JobInfo| {
        job.namespace.is_within(&namespace)
            && queue.as_ref().is_none_or(|queue| *queue == job.queue)
            && state.as_ref().is_none_or(|state| *state == state_of(job.state).0)
    };
    let limit = usize::try_from(limit.unwrap_or(10).min(MOST)).unwrap_or(usize::MAX);
    let looked_at = recall.jobs()?.list(after.map(JobId::from_u64), LOOKED_AT)?;
    let (mut jobs, mut last) = (Vec::new(), None);
    for job in &looked_at {
        if jobs.len() == limit {
            break;
        }
        last = Some(job.id);
        if is_wanted(job) {
            jobs.push(shown(job, recall.scope));
        }
    }
    // Nothing follows the last one that there is.
    let is_end = looked_at.len() < LOOKED_AT && last == looked_at.last().map(|job| job.id);
    let next = last.or(after.map(JobId::from_u64)).filter(|_| !is_end);
    Answer::of(without_nulls(json!({ "jobs": jobs, "next": next })))
}

fn queues(recall: &Recall<'_>, arguments: &Value) -> Result<Answer, Failure> {
    #[derive(Deserialize)]
    struct Arguments {
        namespace: Option<String>,
    }
    let Arguments { namespace } = Arguments::deserialize(arguments)?;
    let namespace = recall.scope.namespace(namespace.as_deref())?;
    let lanes = recall.jobs()?.lanes()?;
    let lanes = lanes.iter().filter(|lane| lane.namespace.is_within(&namespace)).map(|lane| {
        let JobCounts { waiting, delayed, running, done, cancelled, dead, .. } = lane.counts;
        json!({
            "queue": lane.queue,
            "namespace": recall.scope.shown(&lane.namespace),
            "waiting": waiting,
            "delayed": delayed,
            "running": running,
            "done": done,
            "cancelled": cancelled,
            "dead": dead,
        })
    });
    Answer::of(json!({ "queues": lanes.collect::<Vec<_>>() }))
}

fn cancel(record: &Record<'_>, arguments: &Value) -> Result<Answer, Failure> {
    let job = known(record, id_of(arguments)?)?;
    Answer::of(json!({ "cancelled": record.jobs().cancel(job.id)? }))
}

fn retry(record: &Record<'_>, arguments: &Value) -> Result<Answer, Failure> {
    let job = known(record, id_of(arguments)?)?;
    record.jobs().retry(job.id)?;
    Answer::of(shown(&known(record, job.id)?, record.scope))
}

fn remove(record: &Record<'_>, arguments: &Value) -> Result<Answer, Failure> {
    let job = known(record, id_of(arguments)?)?;
    record.jobs().remove(job.id)?;
    Answer::of(json!({ "removed": job.id }))
}

/// A job, as answers have it.
fn shown(job: &JobInfo, scope: &Scope) -> Value {
    let (state, until) = state_of(job.state);
    without_nulls(json!({
        "id": job.id,
        "queue": job.queue,
        "namespace": scope.shown(&job.namespace),
        "state": state,
        "until": until,
        "created": moment::text(job.created),
        "priority": job.priority,
        "attempts": job.attempts,
        "max_attempts": job.max_attempts,
        "key": job.key,
        "worker": job.worker,
        "progress": job.progress,
        "error": job.error,
    }))
}

fn state_of(state: JobState) -> (&'static str, Option<String>) {
    match state {
        JobState::Waiting => ("waiting", None),
        JobState::Delayed { until } => ("delayed", Some(moment::text(until))),
        JobState::Running { until } => ("running", Some(moment::text(until))),
        JobState::Done => ("done", None),
        JobState::Cancelled => ("cancelled", None),
        _ => ("dead", None),
    }
}
