//! `memstone completions` and `memstone man`: what shells and `man` want to know, from the same declaration as the
//! command line itself.

use std::fs;
use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::Cli;
use crate::failure::Failure;
use crate::output::Output;

/// Print completions for a shell
///
/// For bash: memstone completions bash > /etc/bash_completion.d/memstone
#[derive(Args)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self, out: &mut Output) -> Result<(), Failure> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "memstone", &mut text);
        out.bytes(&text)
    }
}

/// Write the manual's pages, one for each verb, into a directory
#[derive(Args)]
pub(crate) struct Man {
    /// The directory, which is made if it is not there
    directory: PathBuf,
}

impl Man {
    pub(crate) fn run(self) -> Result<(), Failure> {
        fs::create_dir_all(&self.directory)?;
        Ok(clap_mangen::generate_to(Cli::command().disable_help_subcommand(true), &self.directory)?)
    }
}
