//! Looking inside: roots, a page, the log, free pages.

use std::path::Path;

use memstone::Error;
use serde::Serialize;

use crate::{Args, Outcome, print};

/// Prints what was asked for.
pub(crate) fn run(path: &Path, args: &Args) -> Outcome {
    match look(path, args) {
        Ok(text) => {
            print(&text);
            Outcome::Clean
        }
        Err(error) => Outcome::failed(path, &error, args.json),
    }
}

fn look(path: &Path, args: &Args) -> Result<String, Error> {
    let mut text = String::new();
    if args.roots {
        memstone::root_copies(path)?.iter().for_each(|copy| line(&mut text, args, "root", copy));
    }
    if let Some(page) = args.dump_page {
        line(&mut text, args, "page", &memstone::page_view(path, page)?);
    }
    if args.dump_log {
        memstone::log_frames(path)?.iter().for_each(|frame| line(&mut text, args, "frame", frame));
    }
    if args.free {
        line(&mut text, args, "free", &memstone::free_pages(path)?);
    }
    Ok(text)
}

/// One object a line for machines; for people, one field a line, and one entry a line.
fn line(text: &mut String, args: &Args, what: &str, object: &impl Serialize) {
    let json = serde_json::to_value(object).unwrap_or_default();
    if args.json {
        text.push_str(&format!("{json}\n"));
        return;
    }
    text.push_str(&format!("{what}\n"));
    for (field, value) in json.as_object().into_iter().flatten() {
        match value {
            serde_json::Value::Null => {}
            serde_json::Value::Array(items) => {
                items.iter().for_each(|item| text.push_str(&format!("  {field}: {item}\n")));
            }
            serde_json::Value::String(value) => text.push_str(&format!("  {field}: {value}\n")),
            value => text.push_str(&format!("  {field}: {value}\n")),
        }
    }
}
