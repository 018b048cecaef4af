//! `memstone shell`: verbs on one store, line by line.

use std::ffi::OsString;
use std::io::{self, BufRead, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{Context, Editor, Helper};

use crate::failure::Failure;
use crate::output::Output;
use crate::{Cli, Common, given_file, run};

/// Run verbs on one store, line by line: `get KEY`, `scan --prefix a`, …
///
/// A line is a verb with its arguments, without the store's file; quotes group words as in a shell. `help` lists the verbs, `help VERB`
/// says more of one, `exit` or the end of the input ends. On a terminal lines can be edited, and are kept in ~/.memstone_history. Otherwise the
/// lines are a script: the first one that fails ends it, with its exit code; a line that begins with # is left out.
#[derive(Args)]
pub(crate) struct Shell {
    /// The store's file
    file: PathBuf,
}

impl Shell {
    pub(crate) fn run(self, common: &Common) -> Result<ExitCode, Failure> {
        if io::stdin().is_terminal() { self.talk(common) } else { self.follow(common) }
    }

    /// Runs the lines of a script.
    fn follow(&self, common: &Common) -> Result<ExitCode, Failure> {
        for line in io::stdin().lock().lines() {
            match self.line(&line?, common) {
                Some(code) if code == ExitCode::SUCCESS => {}
                Some(code) => return Ok(code),
                None => break,
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Runs what a person types. What fails is told, and the next line is asked for.
    fn talk(&self, common: &Common) -> Result<ExitCode, Failure> {
        let unusable = |error: ReadlineError| Failure::Other(format!("the terminal: {error}"));
        let mut editor: Editor<Verbs, DefaultHistory> = Editor::new().map_err(unusable)?;
        editor.set_helper(Some(Verbs::new()));
        let history = std::env::home_dir().map(|home| home.join(".memstone_history"));
        // There is none the first time; and lines that cannot be kept are no reason not to run them.
        history.iter().for_each(|path| drop(editor.load_history(path)));
        loop {
            match editor.readline("memstone> ") {
                Ok(line) => {
                    let _ = editor.add_history_entry(&line);
                    if self.line(&line, common).is_none() {
                        break;
                    }
                }
                Err(ReadlineError::Interrupted) => {}
                Err(ReadlineError::Eof) => break,
                Err(error) => return Err(unusable(error)),
            }
        }
        history.iter().for_each(|path| drop(editor.save_history(path)));
        Ok(ExitCode::SUCCESS)
    }

    /// Runs a line; `None` if it ends the shell.
    fn line(&self, line: &str, common: &Common) -> Option<ExitCode> {
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            return Some(ExitCode::SUCCESS);
        }
        let Some(words) = shlex::split(line) else {
            return Some(Failure::Usage("a quote has no end".to_owned()).report(common.json));
        };
        if matches!(words.first().map(String::as_str), Some("exit" | "quit")) {
            return None;
        }
        Some(self.verb(words, common))
    }

    fn verb(&self, words: Vec<String>, common: &Common) -> ExitCode {
        let mut all =
            vec![OsString::from("memstone"), "--timeout".into(), common.timeout.as_secs_f64().to_string().into()];
        all.extend(common.json.then(|| "--json".into()));
        all.extend(words.into_iter().map(OsString::from));
        let all = given_file::insert(&all, self.file.as_os_str()).unwrap_or(all);
        let Cli { common, verb } = match Cli::try_parse_from(all) {
            Ok(cli) => cli,
            Err(error) => {
                let _ = error.print();
                return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
            }
        };
        let mut out = Output::new(common.json);
        let done = run(&common, verb, &mut out).and_then(|code| out.flush().map(|()| code));
        done.unwrap_or_else(|failure| failure.report(common.json))
    }
}

/// Completes the first word of a line.
struct Verbs(Vec<String>);

impl Verbs {
    fn new() -> Verbs {
        let command = Cli::command();
        let shown = command.get_subcommands().filter(|verb| !verb.is_hide_set());
        let names = shown.map(|verb| verb.get_name().to_owned());
        Verbs(names.chain(["exit".to_owned(), "help".to_owned()]).collect())
    }
}

impl Completer for Verbs {
    type Candidate = String;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let begun = line.get(..pos).unwrap_or_default();
        Ok((0, self.0.iter().filter(|verb| verb.starts_with(begun)).map(|verb| format!("{verb} ")).collect()))
    }
}

impl Hinter for Verbs {
    type Hint = String;
}

impl Highlighter for Verbs {}
impl Validator for Verbs {}
impl Helper for Verbs {}
