//! The tools for workers: getting jobs, and saying what has become of them. A worker has a job for the time of a lease, and
//! shows its fencing token with each call: when the lease has ended and another worker has the job, the token is worth nothing.

use crate::care::Care;
use crate::failure::Failure;
use crate::items::Record;
use crate::job_tools::{ID, PAYLOAD, known, payload_of};
use crate::metrics_tools::without_nulls;
use crate::moment;
use crate::record_tools::{NEW, New, STORED, store_all};
use crate::scope::Scope;
use crate::shape::{Field, Shape};
use crate::tool::{Answer, Effect, Tool, Work};
use memstone::memory::Timestamp;
use memstone::memory::jobs::{Claim, Failed, JobError, JobId, Jobs};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// How long a lease is unless the call says otherwise, in seconds: an assistant thinks for a while.
const LEASE: u64 = 300;
/// No lease is longer.
const LONGEST: u64 = 86_400;
/// The most queues that one call names.
const MOST_QUEUES: usize = 64;

const TOKEN: Field = Field::new("token", Shape::Count, "The fencing token, from claim_job");
const SECONDS: Field =
    Field::optional("lease_seconds", Shape::Count, "For how long no other worker gets it: 300 if it is not given");
const PROGRESS: Field = Field::optional("progress", Shape::Any, "How far it is, for those who ask; null: nothing new");

/// The tools.
pub(crate) const TOOLS: &[Tool] = &[
    Tool {
        name: "claim_job",
        title: "Claim Job",
        about: "Get a job of these queues, as a worker. No other worker gets it before the lease ends: renew it, and finish, \
                fail or release the job with its id and token",
        input: Shape::Object(&[
            Field::new("queues", Shape::List(&Shape::Text), "The kinds of work"),
            Field::new("worker", Shape::Text, "A name, for those who look"),
            SECONDS,
            Field::optional("namespace", Shape::Text, "Only jobs of this namespace and below it"),
        ]),
        output: Shape::Object(&[
            Field::optional(
                "job",
                Shape::Object(&[
                    Field::new("id", Shape::Count, ""),
                    Field::new("token", Shape::Count, "The fencing token, which rises with each claim"),
                    Field::new("queue", Shape::Text, ""),
                    Field::new("namespace", Shape::Text, "Whose job it is"),
                    PAYLOAD,
                    Field::new("attempt", Shape::Count, "Which attempt this is, from 1 on"),
                    Field::new("max_attempts", Shape::Count, ""),
                    Field::new("until", Shape::Time, "When the lease ends"),
                    Field::optional("progress", Shape::Any, "What the last worker has said"),
                ]),
                "Not given: there is none",
            ),
            Field::optional("due", Shape::Time, "When there may be one, if none is submitted before"),
        ]),
        effect: Effect::Adds,
        work: Work::Care(claim),
    },
    Tool {
        name: "renew_job",
        title: "Renew Job",
        about: "Begin the lease of a job anew, and say how far the work is",
        input: Shape::Object(&[ID, TOKEN, SECONDS, PROGRESS]),
        output: Shape::Object(&[Field::new("until", Shape::Time, "When the lease ends now")]),
        effect: Effect::Removes,
        work: Work::Record(renew),
    },
    Tool {
        name: "finish_job",
        title: "Finish Job",
        about: "End a job that is done. Memories that come of it are stored in the same transaction: both, or neither, and once",
        input: Shape::Object(&[
            ID,
            TOKEN,
            Field::optional("progress", Shape::Any, "The result, for those who ask"),
            Field::optional("memories", NEW, "What to store, as store_memories takes it; 64 at most"),
        ]),
        output: Shape::Object(&[
            Field::new("finished", Shape::Count, "The id of the job"),
            Field::new("memories", STORED, "In the same order"),
        ]),
        effect: Effect::Removes,
        work: Work::Record(finish),
    },
    Tool {
        name: "fail_job",
        title: "Fail Job",
        about: "Say that an attempt failed, and why: it is tried again after a wait, or is dead if no attempt is left",
        input: Shape::Object(&[
            ID,
            TOKEN,
            Field::new("error", Shape::Text, "Why"),
            Field::optional("never", Shape::Flag, "No attempt can succeed: it is dead at once"),
        ]),
        output: Shape::Object(&[
            Field::new("dead", Shape::Flag, "Whether no attempt is left"),
            Field::optional("again", Shape::Time, "From when on it is tried again"),
        ]),
        effect: Effect::Removes,
        work: Work::Record(fail),
    },
    Tool {
        name: "release_job",
        title: "Release Job",
        about: "Give a job back that was not done, as if it had not been claimed",
        input: Shape::Object(&[ID, TOKEN]),
        output: Shape::Object(&[Field::new("released", Shape::Count, "Its id")]),
        effect: Effect::Removes,
        work: Work::Record(release),
    },
];

/// By what a worker shows that it has a job.
#[derive(Deserialize)]
struct Held {
    id: u64,
    token: u64,
}

impl Held {
    /// The claim, if it is still good, and of a job that the client may see.
    fn claim(&self, record: &Record<'_>) -> Result<Claim, Failure> {
        let id = JobId::from_u64(self.id);
        match known(record, id) {
            // The claim of a job that has ended and is not kept is worth nothing.
            Err(Failure::Jobs(JobError::NotFound { .. })) => {
                Err(JobError::Lost { id, token: self.token, found: None }.into())
            }
            found => Ok(found.map(|job| record.jobs().resume(job.id, self.token))??),
        }
    }
}

fn lease(seconds: Option<u64>) -> Result<Duration, Failure> {
    let seconds = seconds.unwrap_or(LEASE);
    if (1..=LONGEST).contains(&seconds) {
        return Ok(Duration::from_secs(seconds));
    }
    Err(Failure::Refused(format!("lease_seconds is {seconds}, not 1 to {LONGEST}. Nothing was changed.")))
}

/// In a transaction only if there may be a job: a worker that asks now and then is in nobody's way.
fn claim(care: &Care<'_>, arguments: &Value) -> Result<Answer, Failure> {
    #[derive(Deserialize)]
    struct Arguments {
        queues: Vec<String>,
        worker: String,
        lease_seconds: Option<u64>,
        namespace: Option<String>,
    }
    let Arguments { queues, worker, lease_seconds, namespace } = Arguments::deserialize(arguments)?;
    if queues.len() > MOST_QUEUES {
        return Err(Failure::Refused(format!("{} queues in one call, and {MOST_QUEUES} are the limit", queues.len())));
    }
    let (lease, namespace) = (lease(lease_seconds)?, care.scope.namespace(namespace.as_deref())?);
    let jobs = Jobs::of(care.items);
    let due = |now: Timestamp| Ok::<_, Failure>((now, jobs.snapshot()?.due_under(&namespace, &queues)?));
    let (now, first) = due(Timestamp::now())?;
    let claimed = match first {
        Some(due) if due <= now => {
            care.write(|tx| Ok(jobs.on(tx)?.claim_under(&namespace, &worker, &queues, lease)?))?
        }
        _ => None,
    };
    let Some(claimed) = claimed else {
        let later = first.filter(|due| *due > now).map(moment::text);
        return Answer::of(without_nulls(json!({ "due": later })));
    };
    Answer::of(json!({ "job": shown(&claimed, care.scope) }))
}

fn shown(claim: &Claim, scope: &Scope) -> Value {
    let mut shown = without_nulls(json!({
        "id": claim.id,
        "token": claim.token,
        "queue": claim.queue,
        "namespace": scope.shown(&claim.namespace),
        "attempt": claim.attempt,
        "max_attempts": claim.max_attempts,
        "until": moment::text(claim.until),
        "progress": claim.progress,
    }));
    if let Some(members) = shown.as_object_mut() {
        members.insert("payload".to_owned(), payload_of(&claim.payload));
    }
    shown
}

fn renew(record: &Record<'_>, arguments: &Value) -> Result<Answer, Failure> {
    #[derive(Deserialize)]
    struct Arguments {
        #[serde(flatten)]
        held: Held,
        lease_seconds: Option<u64>,
        progress: Option<Value>,
    }
    let Arguments { held, lease_seconds, progress } = Arguments::deserialize(arguments)?;
    let (lease, claim) = (lease(lease_seconds)?, held.claim(record)?);
    let until = record.jobs().heartbeat(&claim, lease)?;
    if let Some(progress) = progress {
        record.jobs().progress(&claim, progress)?;
    }
    Answer::of(json!({ "until": moment::text(until) }))
}

fn finish(record: &Record<'_>, arguments: &Value) -> Result<Answer, Failure> {
    #[derive(Deserialize)]
    struct Arguments {
        #[serde(flatten)]
        held: Held,
        progress: Option<Value>,
        memories: Option<Vec<New>>,
    }
    let Arguments { held, progress, memories } = Arguments::deserialize(arguments)?;
    let claim = held.claim(record)?;
    if let Some(progress) = progress {
        record.jobs().progress(&claim, progress)?;
    }
    record.jobs().finish(&claim)?;
    let stored = store_all(record, memories.unwrap_or_default())?;
    Answer::of(json!({ "finished": claim.id, "memories": stored }))
}

fn fail(record: &Record<'_>, arguments: &Value) -> Result<Answer, Failure> {
    #[derive(Deserialize)]
    struct Arguments {
        #[serde(flatten)]
        held: Held,
        error: String,
        never: Option<bool>,
    }
    let Arguments { held, error, never } = Arguments::deserialize(arguments)?;
    let claim = held.claim(record)?;
    if never == Some(true) {
        record.jobs().give_up(&claim, &error)?;
        return Answer::of(json!({ "dead": true }));
    }
    Answer::of(match record.jobs().fail(&claim, &error)? {
        Failed::Again(time) => json!({ "dead": false, "again": moment::text(time) }),
        Failed::Dead => json!({ "dead": true }),
    })
}

fn release(record: &Record<'_>, arguments: &Value) -> Result<Answer, Failure> {
    let claim = Held::deserialize(arguments)?.claim(record)?;
    record.jobs().release(&claim)?;
    Answer::of(json!({ "released": claim.id }))
}
