//! What went wrong, as an exit code and a message.

use std::io::{self, Write};
use std::process::ExitCode;

use memstone::Error;

#[derive(Debug)]
pub(crate) enum Failure {
    /// No such key, table or store.
    NotFound(String),
    /// The caller's mistake.
    Usage(String),
    /// Whatever else has no `Error` of the store.
    Other(String),
    Store(Error),
    /// The reader of the output has had enough. That is no failure.
    ClosedPipe,
}

impl Failure {
    fn kind(&self) -> (&'static str, u8) {
        match self {
            Failure::NotFound(_)
            | Failure::Store(Error::NotFound { .. } | Error::NoTable { .. } | Error::NoSnapshot { .. }) => {
                ("not_found", 1)
            }
            Failure::Usage(_)
            | Failure::Store(Error::Invalid(_) | Error::TooLarge { .. } | Error::TypeMismatch { .. }) => ("usage", 2),
            Failure::Store(Error::Exists { .. } | Error::TableExists { .. } | Error::SnapshotExists { .. }) => {
                ("exists", 2)
            }
            Failure::Store(Error::Busy { .. } | Error::InUse { .. }) => ("busy", 3),
            Failure::Store(Error::Backup { .. }) => ("backup", 5),
            Failure::Store(Error::Corrupt(_)) => ("corrupt", 4),
            Failure::Store(Error::NotShared { .. }) => ("not_shared", 5),
            Failure::Store(Error::Moved { .. }) => ("moved", 5),
            Failure::Store(Error::Unconfirmed { .. }) => ("unknown_outcome", 5),
            Failure::Store(Error::Internal(_)) => ("internal", 5),
            Failure::Store(Error::Cancelled { .. }) => ("cancelled", 5),
            Failure::Store(_) | Failure::Other(_) => ("other", 5),
            Failure::ClosedPipe => ("closed_pipe", 0),
        }
    }

    /// Tells it on standard error, and gives the exit code.
    pub(crate) fn report(&self, json: bool) -> ExitCode {
        let (kind, code) = self.kind();
        let message = match self {
            Failure::NotFound(message) | Failure::Usage(message) | Failure::Other(message) => message.clone(),
            Failure::Store(error) => error.to_string(),
            Failure::ClosedPipe => return ExitCode::SUCCESS,
        };
        let line = match json {
            true => serde_json::json!({ "error": { "kind": kind, "code": code, "message": message } }).to_string(),
            false => format!("memstone: {message}"),
        };
        // Nobody may be listening; the exit code still tells.
        let _ = writeln!(io::stderr(), "{line}");
        ExitCode::from(code)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Store(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Other(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_its_kind_and_code() {
        let path = std::path::PathBuf::new;
        let dir = tempfile::tempdir().unwrap();
        let store = memstone::Store::open(dir.path().join("memory.mst")).unwrap();
        let too_large = store.write(|txn| txn.raw(&"n".repeat(2000)).map(drop)).unwrap_err();
        assert!(matches!(too_large, Error::TooLarge { .. }));
        for (error, kind) in [
            (Error::NotFound { path: path() }, ("not_found", 1)),
            (Error::NoTable { table: String::new() }, ("not_found", 1)),
            (Error::NoSnapshot { name: String::new() }, ("not_found", 1)),
            (Error::SnapshotExists { name: String::new() }, ("exists", 2)),
            (Error::Invalid(String::new()), ("usage", 2)),
            (too_large, ("usage", 2)),
            (Error::abort("enough"), ("other", 5)),
            (Error::NotShared { path: path(), reason: String::new(), holder: None }, ("not_shared", 5)),
            (Error::Moved { path: path(), found: String::new() }, ("moved", 5)),
            (Error::Unconfirmed { path: path(), reason: String::new() }, ("unknown_outcome", 5)),
            (Error::Exists { path: path() }, ("exists", 2)),
            (Error::TableExists { table: String::new() }, ("exists", 2)),
            (Error::InUse { path: path(), holders: Vec::new() }, ("busy", 3)),
            (Error::Backup { path: path(), reason: String::new() }, ("backup", 5)),
            (Error::Internal(String::new()), ("internal", 5)),
            (Error::Cancelled { path: path() }, ("cancelled", 5)),
            (Error::ReadOnly { path: path() }, ("other", 5)),
            (Error::Poisoned { path: path(), reason: String::new() }, ("other", 5)),
        ] {
            let text = error.to_string();
            assert_eq!(Failure::from(error).kind(), kind, "{text}");
        }
    }
}
