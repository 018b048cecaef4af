//! Each store runs in processes of its own: the harness starts itself again with a job to do.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::engines::{Kind, with_engine};
use crate::many::{commits, load, reads, verify};
use crate::shape::Shape;
use crate::shapes::measure;
use crate::single::run;

const READY: &str = "ready";

#[derive(Serialize, Deserialize)]
pub struct Job {
    pub engine: Kind,
    pub dir: PathBuf,
    pub rows: usize,
    pub task: Task,
}

#[derive(Serialize, Deserialize)]
pub enum Task {
    Single,
    Shape { shape: Shape },
    Load,
    Commits { process: u64, time: Duration },
    Reads { time: Duration },
    Verify { acknowledged: Vec<u64> },
}

/// The child's side: does the job and prints the outcome as one line of JSON.
pub fn work(job: &str) -> Result<()> {
    let Job { engine, dir, rows, task } = serde_json::from_str(job)?;
    let dir = dir.as_path();
    let outcome = match task {
        Task::Single => {
            let figures = with_engine!(engine, run(dir, rows))?;
            serde_json::to_string(&figures)
        }
        Task::Shape { shape } => {
            let sizes = with_engine!(engine, measure(dir, shape, rows))?;
            serde_json::to_string(&sizes)
        }
        Task::Load => {
            with_engine!(engine, load(dir, rows as u64))?;
            serde_json::to_string(&())
        }
        Task::Commits { process, time } => {
            let done = with_engine!(engine, commits(dir, process, time))?;
            serde_json::to_string(&done)
        }
        Task::Reads { time } => {
            let count = with_engine!(engine, reads(dir, rows as u64, time))?;
            serde_json::to_string(&count)
        }
        Task::Verify { acknowledged } => {
            with_engine!(engine, verify(dir, rows as u64, &acknowledged))?;
            serde_json::to_string(&())
        }
    };
    println!("{}", outcome?);
    Ok(())
}

/// Called by a child that has opened its store: waits until all the others have, too.
pub fn ready() -> Result<()> {
    println!("{READY}");
    let mut line = String::new();
    if std::io::stdin().read_line(&mut line)? == 0 {
        bail!("the parent is gone");
    }
    Ok(())
}

/// The parent's side.
pub struct Child {
    process: std::process::Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Child {
    pub fn start(job: &Job) -> Result<Child> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg("--job")
            .arg(serde_json::to_string(job)?)
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let output = BufReader::new(process.stdout.take().context("no output")?);
        Ok(Child { process, output })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            let mut text = String::new();
            if let Some(errors) = &mut self.process.stderr {
                std::io::Read::read_to_string(errors, &mut text)?;
            }
            bail!("{}", text.trim());
        }
        Ok(line)
    }

    /// Waits until the child has opened its store; an error says why it could not.
    pub fn wait_ready(&mut self) -> Result<()> {
        let line = self.line()?;
        if line.trim() != READY {
            bail!("the child said {line:?}");
        }
        Ok(())
    }

    pub fn go(&mut self) -> Result<()> {
        Ok(self.process.stdin.as_mut().context("no input")?.write_all(b"go\n")?)
    }

    /// Waits for the outcome and the end of the child.
    pub fn outcome<T: DeserializeOwned>(mut self) -> Result<T> {
        let line = self.line()?;
        let outcome = serde_json::from_str(&line)?;
        if !self.process.wait()?.success() {
            bail!("the child failed after its outcome");
        }
        Ok(outcome)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // A child that waits for the start sees the end of its input and leaves by itself.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}
