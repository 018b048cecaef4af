use super::*;
use io::ErrorKind::{Interrupted, NotFound, StorageFull};

/// One error of each variant, whether the same call may succeed later, and whether it may have taken effect.
fn variants() -> Vec<(Error, bool, bool)> {
    let (path, text) = (PathBuf::new, || "why".to_owned());
    let (no, later, unknown) = ((false, false), (true, false), (false, true));
    let kind = CorruptionKind::Leaf;
    let errors = [
        (Error::io("read", path(), NotFound.into()), no),
        (Error::io("read", path(), Interrupted.into()), later),
        (Error::corrupt(kind, 0, None, "one", "another"), no),
        (Error::Busy { path: path(), lock: LockKind::Writer, waited: Duration::ZERO, holder: None }, later),
        (Error::io("write", path(), StorageFull.into()), later),
        (Error::TooLarge { what: LimitKind::Key, size: 2, limit: 1 }, no),
        (Error::NotAStore { path: path(), found: text() }, no),
        (Error::newer(path(), "one", "none"), no),
        (Error::OtherApplication { path: path(), expected: 1, found: 2 }, no),
        (Error::UnsupportedFilesystem { path: path(), kind: text() }, no),
        (Error::ReadOnly { path: path() }, no),
        (Error::NotFound { path: path() }, no),
        (Error::Unconfirmed { path: path(), reason: text() }, unknown),
        (Error::Poisoned { path: path(), reason: text() }, later),
        (Error::TypeMismatch { table: text(), expected: text(), found: text() }, no),
        (Error::NoTable { table: text() }, no),
        (Error::TableExists { table: text() }, no),
        (Error::NoSnapshot { name: text() }, no),
        (Error::SnapshotExists { name: text() }, no),
        (Error::Codec { table: text(), op: CodecOp::Decode, type_name: "u8", reason: text() }, no),
        (Error::Unsorted { table: text(), position: 1 }, no),
        (Error::Savepoint, no),
        (Error::Forked { path: path() }, no),
        (Error::NotShared { path: path(), reason: text(), holder: None }, no),
        (Error::Moved { path: path(), found: text() }, no),
        (Error::Exists { path: path() }, no),
        (Error::InUse { path: path(), holders: Vec::new() }, no),
        (Error::Backup { path: path(), reason: text() }, no),
        (Error::Internal(text()), no),
        (Error::Nested { path: path() }, no),
        (Error::Cancelled { path: path() }, no),
        (Error::Invalid(text()), no),
        (Error::abort("why"), no),
    ];
    errors.into_iter().map(|(error, (retryable, unknown))| (error, retryable, unknown)).collect()
}

#[test]
fn what_may_have_taken_effect_is_not_to_be_done_again_without_a_look() {
    let mut seen = std::collections::HashSet::new();
    for (error, retryable, unknown) in variants() {
        assert_eq!((error.is_retryable(), error.is_outcome_unknown()), (retryable, unknown), "{error:?}");
        assert_eq!(error.is_corrupt(), matches!(error, Error::Corrupt(_)));
        seen.insert(std::mem::discriminant(&error));
    }
    // A new variant has its row above.
    assert_eq!(seen.len(), include_str!("../error.rs").matches("\n    #[error(").count());
}

#[test]
fn a_report_of_the_whole_chain_says_nothing_twice() {
    #[derive(Debug, thiserror::Error)]
    #[error("the outer one")]
    struct Outer(#[source] io::Error);

    let cause = || io::Error::other("the disk is on fire");
    let full = io::Error::new(StorageFull, "not a byte is left");
    for (error, once) in [
        (Error::io("read", "file", cause()), "the disk is on fire"),
        (Error::io("write", "file", full), "not a byte is left"),
        (Error::abort(Outer(cause())), "the disk is on fire"),
        (Error::abort(Outer(cause())), "the outer one"),
    ] {
        let links = std::iter::successors(Some(&error as &dyn std::error::Error), |link| link.source());
        let report = links.map(ToString::to_string).collect::<Vec<_>>().join(": ");
        assert_eq!(report.matches(once).count(), 1, "{report}");
    }
    for (error, ..) in variants() {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        assert!(source.is_none_or(|source| !error.to_string().contains(&source)), "{error:?}");
    }
}

#[test]
fn the_callers_error_comes_back_as_it_was() {
    let aborted = Error::abort(io::Error::other("mine"));
    assert_eq!(aborted.into_abort::<io::Error>().unwrap().to_string(), "mine");
    let other = Error::abort(io::Error::other("mine")).into_abort::<fmt::Error>().unwrap_err();
    assert!(matches!(&other, Error::Aborted(_)) && other.to_string() == "mine");
    assert!(matches!(Error::Savepoint.into_abort::<io::Error>(), Err(Error::Savepoint)));
}

#[test]
fn a_holder_whose_clock_is_off_by_years_is_named_without_a_time() {
    let since = |since| Holder { pid: 7, host: "h".into(), command: "c".into(), since, stopped: false };
    let year = Duration::from_secs(366 * 86_400);
    let now = SystemTime::now();
    for since in [None, Some(now + year), Some(now - 10 * year), Some(SystemTime::UNIX_EPOCH)].map(since) {
        assert_eq!(since.to_string(), "process 7 on h (c), since when is unknown");
    }
    let text = Holder { stopped: true, ..since(Some(now - year)) }.to_string();
    assert!(text.starts_with("process 7 on h (c), for 316224") && text.ends_with(" s; it is stopped"), "{text}");
}
