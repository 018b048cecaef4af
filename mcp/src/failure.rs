//! Why a call failed, in words for the assistant that made it.

use memstone::memory::graph::GraphError;
use memstone::memory::jobs::JobError;
use memstone::memory::{MemoryError, Outcome, Resource};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// A failed call. It changed nothing, unless it says that this is unknown.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No tool has this name.
    NoTool(String),
    /// The arguments are not of the tool's shape.
    Input { tool: &'static str, mistakes: String },
    /// The graph refused.
    Graph(GraphError),
    /// The layer of items refused. Errors of the store are not among these.
    Items(MemoryError),
    /// The layer of jobs refused. Errors of the store and of the layer of items are not among these.
    Jobs(JobError),
    /// Something is refused here, for a reason that says what to do.
    Refused(String),
    /// The store refused.
    Store(memstone::Error),
    /// The client took the call back before it began.
    Cancelled,
    /// The call was broken off: it was cancelled, or its time was up.
    BrokenOff(Duration),
    /// The call's turn did not come.
    NotBegun(Duration),
    /// The call did not end in time, and continues.
    Late { after: Duration, changes: bool },
    /// A file that is to be imported cannot be.
    Import { path: PathBuf, line: Option<usize>, reason: String },
    /// The place of the memory cannot be used.
    Place(String),
    /// A mistake of this program.
    Internal(String),
}

impl Failure {
    /// Whether the call was wrong or taken back, and nothing else is.
    pub(crate) fn is_of_the_call(&self) -> bool {
        use Failure::{Cancelled, Graph, Input, Items, Jobs, NoTool, Refused};
        match self {
            NoTool(_) | Input { .. } | Graph(GraphError::NoEntity { .. }) | Refused(_) | Jobs(_) | Cancelled => true,
            Items(error) => !matches!(error, MemoryError::Damaged { .. } | MemoryError::Layout { .. }),
            _ => false,
        }
    }

    /// How a call ended that ends with this.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Failure::Items(error) => Outcome::of_error(error),
            _ => Outcome::Failed,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::NoTool(name) => write!(f, "MCP error -32602: Tool {name} not found"),
            Failure::Input { tool, mistakes } => {
                write!(f, "MCP error -32602: Input validation error: Invalid arguments for tool {tool}: {mistakes}")
            }
            Failure::Graph(GraphError::Store(error)) | Failure::Store(error) => {
                write!(f, "{error}")?;
                if error.is_retryable() { f.write_str(". The same call may succeed later.") } else { Ok(()) }
            }
            Failure::Graph(error) => write!(f, "{error}"),
            Failure::Items(error) => write!(f, "{error}. {}", what_to_do(error)),
            Failure::Jobs(error @ JobError::NotFound { .. }) => {
                write!(f, "{error}. Nothing was changed: list_jobs has those that are there.")
            }
            Failure::Jobs(error) => write!(f, "{error}. Nothing was changed."),
            Failure::Refused(why) => f.write_str(why),
            Failure::Cancelled => f.write_str("The call was cancelled before it began. Nothing was changed."),
            Failure::BrokenOff(after) => write!(
                f,
                "The call was broken off: it was cancelled, or did not end within {:.1} s. Nothing was changed.",
                after.as_secs_f64()
            ),
            Failure::NotBegun(after) => write!(
                f,
                "Earlier calls did not end within {:.1} s, so this one was not begun. Nothing was changed; the same \
                 call may succeed later.",
                after.as_secs_f64()
            ),
            Failure::Late { after, changes: false } => {
                write!(f, "The call did not end within {:.1} s. It changes nothing.", after.as_secs_f64())
            }
            Failure::Late { after, changes: true } => write!(
                f,
                "The call did not end within {:.1} s, and may still take effect, in full or not at all. Read the \
                 memory before you repeat it.",
                after.as_secs_f64()
            ),
            Failure::Import { path, line, reason } => {
                write!(f, "{}", path.display())?;
                line.map_or(Ok(()), |line| write!(f, ", line {line}"))?;
                write!(
                    f,
                    ": {reason}. The file is to be imported into the memory, as a whole or not at all; it was not \
                     changed. Correct it, or move it away to begin with an empty memory, and call again."
                )
            }
            Failure::Place(reason) => f.write_str(reason),
            Failure::Internal(what) => write!(f, "internal error, please report it: {what}"),
        }
    }
}

/// What the client can do after a refusal of the layer of items. Nothing was changed.
fn what_to_do(error: &MemoryError) -> &'static str {
    match error {
        MemoryError::NotFound { .. } => "It was deleted, has expired, or was never here: search again.",
        MemoryError::Conflict { .. } => "Nothing was changed: read it with get_memories, and repeat the change.",
        MemoryError::Quota { resource: Resource::Jobs, .. } => {
            "Nothing was changed: the same call may succeed then, or when a dead one was removed with remove_job."
        }
        MemoryError::Quota { .. } => "Nothing was changed: delete what is no longer needed, or ask for a higher limit.",
        MemoryError::Rate { retry_after, .. } if *retry_after < Duration::MAX => {
            "Nothing was changed: the same call may succeed then."
        }
        MemoryError::Rate { .. } => "Nothing was changed: send less in one call.",
        MemoryError::NoSpace { .. } | MemoryError::NoField { .. } => {
            "Nothing was changed: it is declared with declare_vector_space or declare_metadata_field, by a client \
             that sees all of the memory."
        }
        MemoryError::Damaged { .. } => "check_integrity lists all that disagrees.",
        _ => "Nothing was changed.",
    }
}

impl From<MemoryError> for Failure {
    fn from(error: MemoryError) -> Failure {
        match error {
            MemoryError::Store(error) => Failure::Store(error),
            error => Failure::Items(error),
        }
    }
}

impl From<JobError> for Failure {
    fn from(error: JobError) -> Failure {
        match error {
            JobError::Store(error) => Failure::Store(error),
            JobError::Memory(error) => error.into(),
            error => Failure::Jobs(error),
        }
    }
}

impl From<GraphError> for Failure {
    fn from(error: GraphError) -> Failure {
        Failure::Graph(error)
    }
}

impl From<memstone::Error> for Failure {
    fn from(error: memstone::Error) -> Failure {
        Failure::Store(error)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Failure {
        Failure::Internal(error.to_string())
    }
}
