//! Standard output, for people or for machines.

use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, Write};

use serde_json::Value;

use crate::failure::Failure;
use crate::text::is_control;

pub(crate) struct Output {
    out: BufWriter<Box<dyn Write>>,
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Output {
        Output::to(Box::new(io::stdout()), json)
    }

    /// The same, to another place than standard output.
    pub(crate) fn to(writer: Box<dyn Write>, json: bool) -> Output {
        Output { out: BufWriter::new(writer), json }
    }

    /// Whether `--json` was given.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// A line. What JSON leaves in it that ends a line elsewhere, or steers a terminal, is escaped as
    /// JSON does; whatever else is printed has no such thing.
    pub(crate) fn line(&mut self, line: impl Display) -> Result<(), Failure> {
        let line = line.to_string();
        let harmless = |letter| !is_control(letter) || matches!(letter, '\n' | '\t');
        if line.chars().all(harmless) {
            return writeln!(self.out, "{line}").map_err(unwritable);
        }
        let escape =
            |letter| if harmless(letter) { letter.to_string() } else { format!("\\u{:04x}", u32::from(letter)) };
        writeln!(self.out, "{}", line.chars().map(escape).collect::<String>()).map_err(unwritable)
    }

    /// Bytes as they are, with no line end.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.write_all(bytes).map_err(unwritable)
    }

    /// A value over several lines on a terminal, in one line for a pipe.
    pub(crate) fn value(&mut self, value: &Value) -> Result<(), Failure> {
        if io::stdout().is_terminal() { self.line(format_args!("{value:#}")) } else { self.line(value) }
    }

    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(unwritable)
    }
}

fn unwritable(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::ClosedPipe,
        _ => Failure::Other(format!("cannot write to standard output: {error}")),
    }
}

/// Rows as columns of equal width, for people.
pub(crate) fn columns(rows: &[Vec<String>]) -> Vec<String> {
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let line = |row: &Vec<String>| {
        let cells = row.iter().enumerate().map(|(column, cell)| format!("{cell:<0$}", width(column).unwrap_or(0)));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// A nested object as lines of `name: value`, names joined by dots.
pub(crate) fn flat(value: &Value) -> Vec<Vec<String>> {
    fn walk(name: &str, value: &Value, rows: &mut Vec<Vec<String>>) {
        let inside = |part: &str| if name.is_empty() { part.to_owned() } else { format!("{name}.{part}") };
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                fields.iter().for_each(|(part, value)| walk(&inside(part), value, rows));
            }
            Value::Array(items) if items.iter().any(Value::is_object) => {
                items.iter().enumerate().for_each(|(index, value)| walk(&inside(&index.to_string()), value, rows));
            }
            Value::String(text) => rows.push(vec![name.to_owned(), text.clone()]),
            other => rows.push(vec![name.to_owned(), other.to_string()]),
        }
    }
    let mut rows = Vec::new();
    walk("", value, &mut rows);
    rows
}
