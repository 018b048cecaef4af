//! The model of `model/`, in short: the fuzz target `operations` goes on from here.

use crate::model::operations;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use std::cell::Cell;

/// So many sequences, the same ones each time; `MEMSTONE_HANDLES` says more.
const CASES: u32 = 300;

#[test]
fn handles_that_are_kept_agree_with_the_model() {
    let cases = std::env::var("MEMSTONE_HANDLES").ok().and_then(|n| n.parse().ok()).unwrap_or(CASES);
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let path = dir.path().join("model.mst");
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 2000, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let (tried, failed) = (Cell::new(0_u32), Cell::new(None));
    let sequences = proptest::collection::vec(any::<u8>(), 0..600);
    let result = runner.run(&sequences, |data| {
        tried.set(tried.get() + 1);
        std::panic::catch_unwind(|| operations(&data, &path)).map_err(|reason| {
            failed.set(failed.get().or(Some(tried.get())));
            let text = reason.downcast_ref::<String>().cloned();
            TestCaseError::fail(text.unwrap_or_else(|| "the store and the model do not agree".to_owned()))
        })
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, data)) => panic!("case {}: {reason}: {data:?}", failed.get().unwrap_or(0)),
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}
