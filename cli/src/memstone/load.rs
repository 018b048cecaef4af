//! `memstone load`: what `dump` has printed comes into a store, wholly or not at all.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;
use memstone::{Error, RawTableMut, Store, WriteOptions, WriteTxn};
use serde_json::{Map, Value, json};

use crate::access::Types;
use crate::dump::{FORMAT, VERSION};
use crate::failure::Failure;
use crate::new_store::{BATCH, Duplicates, Incoming, NewStore};
use crate::output::Output;
use crate::values::{self, Given};

/// Load what `dump` has printed
///
/// A store that is not there yet gets its name when it is whole. Into one that is there all goes in one transaction,
/// which is held in memory until it is committed. If a line is wrong, nothing is loaded.
#[derive(Args)]
pub(crate) struct Load {
    /// The store's file
    file: PathBuf,
    /// The dump; without it, or with `-`, standard input
    dump: Option<PathBuf>,
    /// Only this table; may be given several times
    #[arg(long, value_name = "NAME")]
    table: Vec<String>,
    /// What becomes of a row whose key is there already
    #[arg(long, value_enum, default_value = "replace")]
    duplicates: Duplicates,
    /// Leave out lines that are wrong, tell of each by its number, and load the others
    #[arg(long)]
    skip_bad: bool,
}

/// What was done.
pub(crate) struct Account {
    pub(crate) incoming: Incoming,
    pub(crate) skipped: u64,
}

/// A line of a dump.
enum Line {
    /// With the user's version of the store.
    Start(u64),
    /// With its schema.
    Table((String, String, String), Option<(String, u64)>),
    Row(Map<String, Value>),
    End(u64),
}

impl Load {
    pub(crate) fn run(self, timeout: Duration, out: &mut Output) -> Result<(), Failure> {
        let input: Box<dyn BufRead> = match self.dump.as_deref().filter(|dump| *dump != Path::new("-")) {
            Some(dump) => Box::new(BufReader::with_capacity(1 << 16, open_dump(dump)?)),
            None => Box::new(io::stdin().lock()),
        };
        let tell = |number, message: &str| eprintln!("memstone: line {number} is left out: {message}");
        let account = self.load(input, timeout, &tell)?;
        let Account { incoming: Incoming { rows, replaced, kept, .. }, skipped } = account;
        match out.json() {
            true => out.line(json!({ "rows": rows, "replaced": replaced, "kept": kept, "skipped": skipped })),
            false => out.line(format_args!("{rows} rows, {replaced} replaced, {kept} kept, {skipped} skipped")),
        }
    }

    /// Loads lines; each that is left out is told of, by its number.
    pub(crate) fn load(
        &self,
        input: Box<dyn BufRead>,
        timeout: Duration,
        left_out: &dyn Fn(u64, &str),
    ) -> Result<Account, Failure> {
        let mut loading = Loading::new(self, Lines::new(input), left_out);
        if !self.file.exists() {
            return self.make(loading);
        }
        let store = Store::options().create(false).timeout(timeout).open(&self.file)?;
        let txn = store.begin_write_with(WriteOptions::new().timeout(timeout))?;
        loading.fill(&txn, usize::MAX)?;
        let account = loading.finished()?;
        txn.commit()?;
        Ok(account)
    }

    /// A new store, beside where it is to be, that gets its name when it is whole.
    fn make(&self, mut loading: Loading<'_>) -> Result<Account, Failure> {
        let new = NewStore::beside(&self.file, "load")?;
        loop {
            let txn = new.begin()?;
            let more = loading.fill(&txn, BATCH)?;
            txn.commit()?;
            if !more {
                break;
            }
        }
        if loading.user_version != 0 {
            let txn = new.begin()?;
            txn.set_user_version(loading.user_version)?;
            txn.commit()?;
        }
        let account = loading.finished()?;
        new.give_name()?;
        Ok(account)
    }
}

fn open_dump(dump: &Path) -> Result<File, Failure> {
    File::open(dump).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Failure::NotFound(format!("{}: no such file", dump.display())),
        _ => Failure::Other(format!("{}: {error}", dump.display())),
    })
}

/// The lines of a dump, with their numbers.
struct Lines {
    input: Box<dyn BufRead>,
    bytes: Vec<u8>,
    number: u64,
}

impl Lines {
    fn new(input: Box<dyn BufRead>) -> Lines {
        Lines { input, bytes: Vec::new(), number: 0 }
    }

    /// The next line, without its end.
    fn next(&mut self) -> Result<Option<&[u8]>, Failure> {
        self.bytes.clear();
        self.number += 1;
        let read = self.input.read_until(b'\n', &mut self.bytes)?;
        Ok((read > 0).then(|| self.bytes.trim_ascii()))
    }
}

/// Loading in progress.
struct Loading<'l> {
    load: &'l Load,
    lines: Lines,
    left_out: &'l dyn Fn(u64, &str),
    account: Account,
    table: Option<(String, String, String)>,
    /// Rows that the dump has, skipped ones and those of other tables included.
    seen: u64,
    started: bool,
    ended: bool,
    /// A store that was there keeps its own.
    user_version: u64,
}

impl<'l> Loading<'l> {
    fn new(load: &'l Load, lines: Lines, left_out: &'l dyn Fn(u64, &str)) -> Loading<'l> {
        let account = Account { incoming: Incoming::new(load.duplicates), skipped: 0 };
        Loading { load, lines, left_out, account, table: None, seen: 0, started: false, ended: false, user_version: 0 }
    }

    /// Loads about so many bytes; `false` if the dump is at its end.
    fn fill(&mut self, txn: &WriteTxn, bytes: usize) -> Result<bool, Failure> {
        let mut done = 0;
        let mut place = self.place(txn)?;
        while done < bytes {
            let Some(line) = self.lines.next()? else { return Ok(false) };
            if line.is_empty() {
                continue;
            }
            done += line.len();
            let parsed = parse(line);
            let may_name_table = match &parsed {
                Ok(line) => matches!(line, Line::Table(..)),
                Err(_) => !begins_as_row(line),
            };
            let loaded = match parsed {
                Ok(Line::Table(table, schema)) => {
                    self.table = Some(table);
                    self.account.incoming.next_table();
                    self.place(txn).map(|found| place = found).and_then(|()| self.describe(txn, schema))
                }
                Ok(other) => self.take(&other, place.as_ref()),
                Err(failure) => Err(failure),
            };
            if loaded.is_err() && may_name_table {
                // What follows is not to go to the one before.
                (self.table, place) = (None, None);
            }
            self.judge(loaded)?;
        }
        Ok(true)
    }

    /// A wrong line ends it, or is left out.
    fn judge(&mut self, loaded: Result<(), Failure>) -> Result<(), Failure> {
        let number = self.lines.number;
        let Err(Failure::Usage(message)) = loaded else { return loaded };
        if !self.load.skip_bad || !self.started {
            return Err(Failure::Usage(format!("line {number}: {message}; nothing was loaded")));
        }
        self.account.skipped += 1;
        (self.left_out)(number, &message);
        Ok(())
    }

    /// The table that rows go to now, unless they are left out.
    fn place<'t>(&self, txn: &'t WriteTxn) -> Result<Option<(RawTableMut<'t>, Types)>, Failure> {
        let Some((name, keys, values)) = &self.table else { return Ok(None) };
        if !self.is_wanted(name) {
            return Ok(None);
        }
        let table = txn.untyped_as(name, keys, values).map_err(of_the_line)?;
        Ok(Some((table, Types::named(keys, values))))
    }

    /// Gives the table that rows go to now its schema, unless it is left out.
    fn describe(&self, txn: &WriteTxn, schema: Option<(String, u64)>) -> Result<(), Failure> {
        match (&self.table, schema) {
            (Some((name, ..)), Some((schema, version))) if self.is_wanted(name) => {
                txn.set_schema(name, &schema, version).map_err(of_the_line)
            }
            _ => Ok(()),
        }
    }

    fn is_wanted(&self, table: &String) -> bool {
        self.load.table.is_empty() || self.load.table.contains(table)
    }

    fn take(&mut self, line: &Line, place: Option<&(RawTableMut<'_>, Types)>) -> Result<(), Failure> {
        let wrong = |what: &str| Failure::Usage(what.to_owned());
        if !self.started && !matches!(line, Line::Start(_)) {
            return Err(wrong("this is no dump: its first line is not there"));
        }
        match line {
            Line::Start(version) => (self.started, self.user_version) = (true, *version),
            Line::End(rows) if *rows != self.seen => {
                return Err(Failure::Usage(format!("the dump has {} rows instead of {rows}", self.seen)));
            }
            Line::End(_) => self.ended = true,
            Line::Table(..) => {}
            Line::Row(row) => {
                self.seen += 1;
                if self.table.is_none() {
                    return Err(wrong("a row of no table"));
                }
                if let Some((table, types)) = place {
                    let (key, value) = entry(types, row)?;
                    self.account.incoming.put(table, &key, &value).map_err(|failure| match failure {
                        Failure::Store(error) => of_the_line(error),
                        failure => failure,
                    })?;
                }
            }
        }
        Ok(())
    }

    fn finished(self) -> Result<Account, Failure> {
        if self.ended || self.load.skip_bad && self.started {
            return Ok(self.account);
        }
        let last = self.lines.number - 1;
        let message = format!("the dump is cut off after line {last}: its last line is not there; nothing was loaded");
        Err(Failure::Usage(message))
    }
}

/// What a line asks for and no store can hold is the line's fault.
fn of_the_line(error: Error) -> Failure {
    match error {
        Error::TypeMismatch { .. } | Error::TooLarge { .. } | Error::Invalid(_) => Failure::Usage(error.to_string()),
        error => error.into(),
    }
}

/// Whether a line that cannot be read begins as rows, or the end, do.
fn begins_as_row(line: &[u8]) -> bool {
    let inside = line.strip_prefix(b"{").unwrap_or_default().trim_ascii_start();
    ["\"k\"", "\"k64\"", "\"v\"", "\"v64\"", "\"end\""].iter().any(|name| inside.starts_with(name.as_bytes()))
}

fn parse(line: &[u8]) -> Result<Line, Failure> {
    let text = str::from_utf8(line).map_err(|_| Failure::Usage("not UTF-8".to_owned()))?;
    let Value::Object(fields) = values::json(text)? else { return Err(Failure::Usage("no object".to_owned())) };
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let number = |name: &str| fields.get(name).and_then(Value::as_u64).unwrap_or(0);
    if let Some(format) = text("format") {
        if (format, fields.get("version").and_then(Value::as_u64)) != (FORMAT, Some(VERSION)) {
            return Err(Failure::Usage(format!("not a {FORMAT} of version {VERSION}")));
        }
        return Ok(Line::Start(number("user_version")));
    }
    if let (Some(name), Some(keys), Some(values)) = (text("table"), text("keys"), text("values")) {
        let schema = text("schema").map(|schema| (schema.to_owned(), number("schema_version")));
        return Ok(Line::Table((name.to_owned(), keys.to_owned(), values.to_owned()), schema));
    }
    match fields.get("end") {
        Some(_) => {
            let rows = fields.get("rows").and_then(Value::as_u64);
            rows.map(Line::End).ok_or_else(|| Failure::Usage("the last line without its rows".to_owned()))
        }
        None if fields.contains_key("k") || fields.contains_key("k64") => Ok(Line::Row(fields)),
        None => {
            Err(Failure::Usage("no table with its types, and a row without \"k\", or \"k64\" in base64".to_owned()))
        }
    }
}

fn entry(types: &Types, row: &Map<String, Value>) -> Result<(Vec<u8>, Vec<u8>), Failure> {
    let wrong = |what: &str| Failure::Usage(what.to_owned());
    let base64 = |name: &str| {
        let text = row.get(name).and_then(Value::as_str);
        text.and_then(|text| BASE64.decode(text).ok())
    };
    let key = match row.get("k") {
        Some(key) => types.keys.bytes_of(key).ok_or_else(|| wrong("\"k\" is no key of the table's type"))?,
        None => base64("k64").ok_or_else(|| wrong("\"k64\" is no base64"))?,
    };
    let value = match row.get("v") {
        Some(value) => types.values.encode(Given::Json(value.clone()))?,
        None => base64("v64").ok_or_else(|| wrong("a row without \"v\", or \"v64\" in base64"))?,
    };
    Ok((key, value))
}
