//! The tools that set up the memory for all of its clients: limits, vector spaces, and fields for conditions.

use crate::care::Care;
use crate::failure::Failure;
use crate::shape::{Field, Shape};
use crate::tool::{Answer, Effect, Tool, Work};
use memstone::memory::{Format, Limits, MemoryTxn, Metric, Space};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

const DECLARED: Shape = Shape::Object(&[Field::new("declared", Shape::Text, "Its name")]);

/// The tools.
pub(crate) const TOOLS: &[Tool] = &[
    Tool {
        name: "set_memory_limits",
        title: "Set Memory Limits",
        about: "Set what a namespace may hold, together with those below it, and how often it may be changed. What is \
                not given is not limited",
        input: Shape::Object(&[
            Field::new("namespace", Shape::Text, "Its path; empty: all of the memory"),
            Field::optional("items", Shape::Count, "How many memories it may hold"),
            Field::optional("bytes", Shape::Count, "How many bytes it may hold"),
            Field::optional("jobs", Shape::Count, "How many jobs it may have that have not ended"),
            Field::optional("operations", Shape::Count, "How many changes are allowed in that time"),
            Field::optional("seconds", Shape::Count, "In how many seconds; 60 if it is not given"),
        ]),
        output: Shape::Object(&[Field::new("namespace", Shape::Text, "")]),
        effect: Effect::Removes,
        work: Work::Care(set_limits),
    },
    Tool {
        name: "declare_vector_space",
        title: "Declare Vector Space",
        about: "Declare a kind of vectors, so that each memory may have one of that kind",
        input: Shape::Object(&[
            Field::new("name", Shape::Text, ""),
            Field::new("dimension", Shape::Count, "How many numbers a vector has"),
            Field::optional(
                "format",
                Shape::Choice(&["f32", "f16", "i8"]),
                "How they are kept; f32 if it is not given",
            ),
            Field::optional(
                "metric",
                Shape::Choice(&["cosine", "dot", "l2"]),
                "How vectors are compared; cosine if it is not given",
            ),
        ]),
        output: DECLARED,
        effect: Effect::Adds,
        work: Work::Care(declare_space),
    },
    Tool {
        name: "declare_metadata_field",
        title: "Declare Metadata Field",
        about: "Make an index of a field of the metadata, so that searches may have conditions on it",
        input: Shape::Object(&[Field::new("name", Shape::Text, "A member, or a JSON pointer such as /source/author")]),
        output: DECLARED,
        effect: Effect::Adds,
        work: Work::Care(declare_field),
    },
];

fn change(care: &Care<'_>, body: impl FnOnce(&MemoryTxn<'_>) -> Result<(), Failure>) -> Result<(), Failure> {
    care.write(|tx| body(&care.items.on(tx)?))
}

fn set_limits(care: &Care<'_>, arguments: &Value) -> Result<Answer, Failure> {
    #[derive(Deserialize)]
    struct Arguments {
        namespace: String,
        items: Option<u64>,
        bytes: Option<u64>,
        jobs: Option<u64>,
        operations: Option<u64>,
        seconds: Option<u64>,
    }
    let Arguments { namespace, items, bytes, jobs, operations, seconds } = Arguments::deserialize(arguments)?;
    let mut limits = Limits::new();
    if let Some(items) = items {
        limits = limits.items(items);
    }
    if let Some(bytes) = bytes {
        limits = limits.bytes(bytes);
    }
    if let Some(jobs) = jobs {
        limits = limits.jobs(jobs);
    }
    if let Some(operations) = operations {
        limits = limits.rate(operations, Duration::from_secs(seconds.unwrap_or(60)));
    }
    change(care, |tx| Ok(tx.set_limits(care.scope.namespace(Some(&namespace))?, limits)?))?;
    Answer::of(json!({ "namespace": namespace }))
}

fn declare_space(care: &Care<'_>, arguments: &Value) -> Result<Answer, Failure> {
    #[derive(Deserialize)]
    struct Arguments {
        name: String,
        dimension: u64,
        format: Option<String>,
        metric: Option<String>,
    }
    let Arguments { name, dimension, format, metric } = Arguments::deserialize(arguments)?;
    let space = Space::new(u32::try_from(dimension).unwrap_or(u32::MAX))
        .format(match format.as_deref() {
            Some("f16") => Format::F16,
            Some("i8") => Format::I8,
            _ => Format::F32,
        })
        .metric(match metric.as_deref() {
            Some("dot") => Metric::Dot,
            Some("l2") => Metric::L2,
            _ => Metric::Cosine,
        });
    change(care, |tx| Ok(tx.declare_space(&name, space)?))?;
    Answer::of(json!({ "declared": name }))
}

fn declare_field(care: &Care<'_>, arguments: &Value) -> Result<Answer, Failure> {
    #[derive(Deserialize)]
    struct Arguments {
        name: String,
    }
    let Arguments { name } = Arguments::deserialize(arguments)?;
    change(care, |tx| Ok(tx.declare_field(&name)?))?;
    Answer::of(json!({ "declared": name }))
}
