//! Data that leaves and comes back: `dump` and `load`.
//!
//! The first byte chooses: a store of any tables, which comes back from its dump as it was; or any text, or a dump with
//! changes, which is loaded wholly, or in part where that was asked for, or not at all.

use crate::dump::Dump;
use crate::failure::Failure;
use crate::load::{Account, Load};
use crate::output::Output;
use crate::rows::{Bytes, Table};
use crate::scratch;
use clap::{Args, FromArgMatches};
use memstone::Store;
use std::cell::RefCell;
use std::fs::{self, File};
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

/// Where stores are made: empty before, but for what a test puts there.
fn place() -> PathBuf {
    let dir = scratch().join(format!("moves-{}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir(&dir).expect("a directory");
    dir
}

/// A verb as the command line would make it.
fn verb<V: Args + FromArgMatches>(words: &[&str]) -> V {
    let command = V::augment_args(clap::Command::new("verb").no_binary_name(true));
    V::from_arg_matches(&command.get_matches_from(words)).expect("the arguments fit")
}

fn dump(store: &Path) -> Vec<u8> {
    let to = store.with_extension("dump");
    let mut out = Output::to(Box::new(File::create(&to).expect("a file")), true);
    verb::<Dump>(&[store.to_str().expect("UTF-8")]).run(&mut out).expect("a sound store is dumped");
    out.flush().expect("room");
    let text = fs::read(&to).expect("the dump");
    fs::remove_file(to).expect("the dump");
    text
}

/// What was done, and the lines that were left out, by their numbers.
fn load(store: &Path, text: &[u8], words: &[&str]) -> (Result<Account, Failure>, Vec<u64>) {
    let left_out = RefCell::new(Vec::new());
    let words: Vec<&str> = words.iter().copied().chain([store.to_str().expect("UTF-8")]).collect();
    let input = Box::new(Cursor::new(text.to_vec()));
    let tell = |number, _: &str| left_out.borrow_mut().push(number);
    let done = verb::<Load>(&words).load(input, Duration::from_secs(60), &tell);
    (done, left_out.into_inner())
}

fn make(path: &Path, tables: &[Table]) {
    let store = Store::options().single_process(true).open(path).expect("a new store");
    for table in tables {
        // (A name that is taken, or too long a key, is another matter.)
        let _ = store.write(|tx| {
            let rows = tx.untyped_as(&table.name, &table.keys, &table.values)?;
            table.rows.iter().try_for_each(|(key, value)| rows.put(key, value))
        });
    }
    store.close().expect("closed");
}

type Content = Vec<(String, String, String, Vec<(Vec<u8>, Vec<u8>)>)>;

/// The content by the library, which has no part in a dump.
fn content(path: &Path) -> Content {
    let snapshot = Store::options().read_only(true).open(path).and_then(|store| store.read()).expect("a sound store");
    let rows = |name: &str| {
        let rows = snapshot.untyped(name).and_then(|table| table.prefix(b"")).expect("a table");
        rows.map(|row| row.map(|(key, value)| (key.to_vec(), value.to_vec())).expect("a row")).collect()
    };
    let tables = snapshot.tables().expect("tables").into_iter();
    tables.map(|table| (table.name.clone(), table.key_type, table.value_type, rows(&table.name))).collect()
}

/// What `load` and `dump` get to see of it is told by `data`.
pub fn dump_load(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    if kind & 1 == 0 { round_trip(&mut Bytes(rest)) } else { any_text(kind >> 1, rest) }
}

fn round_trip(bytes: &mut Bytes<'_>) {
    let dir = place();
    let (first, second) = (dir.join("first"), dir.join("second"));
    make(&first, &bytes.tables());
    let text = dump(&first);
    let (done, _) = load(&second, &text, &[]);
    let text_of = || String::from_utf8_lossy(&text);
    assert!(done.is_ok(), "{:?} of\n{}", done.err(), text_of());
    assert!(content(&first) == content(&second), "another content by\n{}", text_of());
    let again = dump(&second);
    assert!(again == text, "{}\nbecame\n{}", text_of(), String::from_utf8_lossy(&again));
}

/// A dump with something of everything.
static SAMPLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let path = place().join("sample");
    let table = |name: &str, keys: &str, values: &str, rows: &[(&[u8], &[u8])]| Table {
        name: name.to_owned(),
        keys: keys.to_owned(),
        values: values.to_owned(),
        rows: rows.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect(),
    };
    make(
        &path,
        &[
            table(
                "notes",
                "str",
                "msgpack",
                &[(b"a", b"\x81\xa1n\x01"), (b"b", b"\xca\0\0\0\0"), (b"c", b"\xc4\x01x")],
            ),
            table("numbers", "u16", "bytes", &[(b"\0\x01", b"text"), (b"\0\x02", b"\xff")]),
            table(
                "pairs",
                "(str,option<bool>)",
                "msgpack",
                &[(b"a\0\0\x01\x01", b"\x93\x01\x02\x03"), (b"odd", b"\x05")],
            ),
        ],
    );
    dump(&path)
});

/// Changes of the sample: each of six bytes says what, where, and with what.
fn changed(changes: &[u8]) -> Vec<u8> {
    let mut text = SAMPLE.clone();
    for change in changes.chunks_exact(6).take(12) {
        let at = usize::from(u16::from_le_bytes([change[1], change[2]])) % text.len().max(1);
        let mut lines: Vec<Vec<u8>> = text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        let (one, other) = (at % lines.len().max(1), usize::from(change[3]) % lines.len().max(1));
        match change[0] % 8 {
            0 => lines.truncate(one),
            1 if !lines.is_empty() => drop(lines.remove(one)),
            2 if !lines.is_empty() => lines.insert(other, lines[one].clone()),
            3 if !lines.is_empty() => lines.swap(one, other),
            4 => {
                text.truncate(at);
                continue;
            }
            5 => {
                text.splice(at..(at + usize::from(change[3] % 8)).min(text.len()), change[4..].iter().copied());
                continue;
            }
            _ => {
                text.get_mut(at).into_iter().for_each(|byte| *byte = change[4]);
                continue;
            }
        }
        text = lines.concat();
    }
    text
}

/// Bits of `way`: whether lines may be left out, whether the store is there already, what becomes of rows whose key is
/// there, whether the text is the sample with changes.
fn any_text(way: u8, rest: &[u8]) {
    let text = if way & 4 == 0 { rest.to_vec() } else { changed(rest) };
    let dir = place();
    let target = dir.join("target");
    if way & 2 != 0 {
        make(&target, &Bytes(b"\x01\x05notes\x04\x02\x02\x02\x01a\x01\x02").tables());
    }
    let before = target.exists().then(|| content(&target));
    let duplicates = ["replace", "keep", "fail"][usize::from(way >> 3) % 3];
    let words = ["--duplicates", duplicates, "--skip-bad"];
    let (done, left_out) = load(&target, &text, &words[..2 + usize::from(way & 1)]);
    match done {
        Err(Failure::Usage(message)) => {
            let number =
                message.split_once("line ").and_then(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next());
            let lines = text.split(|byte| *byte == b'\n').count();
            assert!(number.and_then(|n| n.parse::<usize>().ok()).is_some_and(|n| n <= lines), "which line? {message}");
            assert_eq!(before, target.exists().then(|| content(&target)), "{message}");
        }
        Err(failure) => panic!("text alone brought about {failure:?}"),
        Ok(account) => {
            assert_eq!(account.skipped, left_out.len() as u64);
            assert!(left_out.is_empty() || way & 1 == 1, "left out unasked");
            without_the_left_out(&dir, &text, way, &left_out, &account, duplicates);
        }
    }
    let stray = fs::read_dir(&dir).expect("a directory").map(|entry| entry.expect("an entry").file_name());
    let stray: Vec<_> = stray.filter(|name| name != "target" && name != "twin").collect();
    assert!(stray.is_empty(), "left behind: {stray:?}");
}

/// The lines that were not left out load by themselves, and to the same store.
fn without_the_left_out(dir: &Path, text: &[u8], way: u8, left_out: &[u64], account: &Account, duplicates: &str) {
    let twin = dir.join("twin");
    if way & 2 != 0 {
        make(&twin, &Bytes(b"\x01\x05notes\x04\x02\x02\x02\x01a\x01\x02").tables());
    }
    let is_end =
        |line: &[u8]| serde_json::from_slice::<serde_json::Value>(line).is_ok_and(|line| line.get("end").is_some());
    let lines = (1_u64..).zip(text.split(|byte| *byte == b'\n'));
    let kept = lines.filter(|(number, line)| !left_out.contains(number) && !is_end(line)).map(|(_, line)| line);
    let mut good = kept.collect::<Vec<_>>().join(&b'\n');
    let rows = account.incoming.rows + account.incoming.kept;
    good.extend(format!("\n{{\"end\":true,\"rows\":{rows}}}\n").bytes());
    let (done, none) = load(&twin, &good, &["--duplicates", duplicates]);
    assert!(done.is_ok() && none.is_empty(), "{:?} of\n{}", done.err(), String::from_utf8_lossy(&good));
    assert!(content(&dir.join("target")) == content(&twin), "another content by\n{}", String::from_utf8_lossy(&good));
    assert!(dump(&dir.join("target")) == dump(&twin));
}
