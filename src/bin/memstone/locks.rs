//! `memstone locks`: who holds a lock, and who waits.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::access::open_to_read;
use crate::clock::readable_times;
use crate::failure::Failure;
use crate::output::{Output, columns, flat};

/// Show who holds the store's locks and who waits for them, and since when
#[derive(Args)]
pub(crate) struct Locks {
    /// The store's file
    file: PathBuf,
}

impl Locks {
    pub(crate) fn run(self, out: &mut Output) -> Result<(), Failure> {
        let locks = readable_times(json!(open_to_read(&self.file)?.locks()?));
        if out.json() {
            return out.line(locks);
        }
        columns(&flat(&locks)).into_iter().try_for_each(|line| out.line(line))
    }
}
