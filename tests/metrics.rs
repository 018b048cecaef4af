//! Metrics as Prometheus reads them, held against a strict parser of the text format; rates; and the spans of `tracing`.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation)]

use memstone::{Durability, Store, WriteOptions};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// A family: its type, and its samples by their labels.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    samples: BTreeMap<BTreeMap<String, String>, f64>,
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Reads labels up to the closing brace; gives what is left.
fn labels(mut rest: &str) -> (BTreeMap<String, String>, &str) {
    let mut labels = BTreeMap::new();
    loop {
        let (name, after) = rest.split_once("=\"").expect("a label");
        assert!(is_name(name), "{name}");
        let (mut value, mut chars) = (String::new(), after.char_indices());
        let end = loop {
            match chars.next().expect("an open label") {
                (at, '"') => break at + 1,
                (_, '\\') => value.push(match chars.next().unwrap().1 {
                    'n' => '\n',
                    c @ ('\\' | '"') => c,
                    other => panic!("the escape {other:?}"),
                }),
                (_, c) => value.push(c),
            }
        };
        assert!(labels.insert(name.to_owned(), value).is_none(), "{name} twice");
        match after[end..].chars().next() {
            Some(',') => rest = &after[end + 1..],
            Some('}') => return (labels, &after[end + 1..]),
            other => panic!("{other:?} after a label"),
        }
    }
}

/// The exposition format 0.0.4, as it must be: each family once, HELP, then TYPE, then its samples, none twice.
fn parse(text: &str) -> BTreeMap<String, Family> {
    assert!(text.ends_with('\n'));
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let (mut helped, mut current) = (None::<&str>, String::new());
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').expect("words of help");
            assert!(is_name(name) && !words.is_empty() && !families.contains_key(name) && helped.is_none(), "{line}");
            helped = Some(name);
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(helped.take(), Some(name), "{line}");
            assert!(["gauge", "counter"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            current = name.to_owned();
            families.insert(current.clone(), Family { kind: kind.to_owned(), ..Family::default() });
        } else {
            let (name, rest) = line.split_once('{').expect("labels");
            assert_eq!(name, current, "a sample of another family");
            let (labels, rest) = labels(rest);
            let value: f64 = rest.strip_prefix(' ').expect("a value").parse().unwrap();
            assert!(value.is_finite() && families.get_mut(name).unwrap().samples.insert(labels, value).is_none());
        }
    }
    assert_eq!(helped, None);
    families
}

#[test]
fn the_text_is_valid_whatever_the_names() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a \"store\"\\\n.mst");
    let store = Store::open(&path).unwrap();
    let odd = "a \"table\" \\ with\nlines";
    store.write(|tx| tx.raw(odd)?.put(b"k", b"v")).unwrap();
    store.create_snapshot("s").unwrap();
    let families = parse(&store.sample().unwrap().to_prometheus(&path));
    let shown = path.to_str().unwrap();
    for (name, family) in &families {
        assert!(name.starts_with("memstone_"));
        assert!(family.samples.keys().all(|labels| labels["store"] == shown), "{name}");
        // Units stand in the names.
        let unitless = ["lsn", "sequence", "versions", "held", "running", "waiting", "failed", "stopped", "entries"];
        let units = ["bytes", "seconds", "total"];
        assert!(units.iter().chain(&unitless).any(|unit| name.ends_with(unit)), "{name}");
    }
    let value = |name: &str| *families[name].samples.values().next().unwrap();
    assert_eq!(value("memstone_file_size_bytes"), std::fs::metadata(&path).unwrap().len() as f64);
    assert_eq!(value("memstone_process_commits_total"), 1.0, "a snapshot's name is none");
    let (labels, entries) = families["memstone_table_entries"].samples.iter().next().unwrap();
    assert_eq!((labels["table"].as_str(), *entries), (odd, 1.0));
    assert_eq!(families["memstone_process_commits_total"].kind, "counter");
    let process = families["memstone_process_commits_total"].samples.keys().next().unwrap();
    assert_eq!(process["pid"], std::process::id().to_string());
}

#[test]
fn rates_are_those_between_two_looks() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("memory.mst")).unwrap();
    let put = || store.write(|tx| tx.raw("t")?.put(b"k", b"v")).unwrap();
    (0..5).for_each(|_| put());
    let before = store.sample().unwrap();
    (0..10).for_each(|_| put());
    let after = store.sample().unwrap();
    let rates = after.rates_since(&before);
    let count = |rate: f64| (rate * rates.interval.as_secs_f64()).round();
    assert_eq!((count(rates.commits), count(rates.turns), count(rates.failures)), (10.0, 10.0, 0.0));
    // A checkpoint may have come in between, which has an LSN, too.
    assert!(count(rates.lsns) >= 10.0);
    assert_eq!(count(rates.log_bytes), (after.stats.log.position - before.stats.log.position) as f64);
    assert!(count(rates.log_bytes) > 640.0 && rates.average_wait.is_some());
    let flushes = count(rates.flushes);
    assert!(flushes >= 1.0 && rates.commits_per_flush == Some(10.0 / flushes), "{rates:?}");
    let nothing = after.rates_since(&after);
    assert_eq!((nothing.commits, nothing.commits_per_flush, nothing.average_wait), (0.0, None, None));
}

/// What a subscriber hears of one span.
#[derive(Debug, Clone, Default)]
struct Span {
    name: &'static str,
    parent: Option<u64>,
    fields: BTreeMap<&'static str, String>,
}

#[derive(Default)]
struct Heard {
    spans: Vec<Span>,
    open: Vec<u64>,
}

#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Heard>>);

struct Fields<'s>(&'s mut Span);

impl tracing::field::Visit for Fields<'_> {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.0.fields.insert(field.name(), format!("{value:?}"));
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span()
    }
    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        assert_eq!(*attributes.metadata().level(), Level::DEBUG);
        let mut heard = self.0.lock().unwrap();
        let mut span =
            Span { name: attributes.metadata().name(), parent: heard.open.last().copied(), ..Span::default() };
        attributes.record(&mut Fields(&mut span));
        heard.spans.push(span);
        Id::from_u64(heard.spans.len() as u64)
    }
    fn record(&self, id: &Id, values: &Record<'_>) {
        values.record(&mut Fields(&mut self.0.lock().unwrap().spans[usize::try_from(id.into_u64()).unwrap() - 1]));
    }
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, id: &Id) {
        self.0.lock().unwrap().open.push(id.into_u64());
    }
    fn exit(&self, id: &Id) {
        assert_eq!(self.0.lock().unwrap().open.pop(), Some(id.into_u64()), "spans end in order");
    }
}

#[test]
fn commits_flushes_and_checkpoints_are_spans() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("memory.mst")).unwrap();
    store.write(|tx| tx.raw("t").map(drop)).unwrap();
    let heard = |act: &dyn Fn()| {
        let recorder = Recorder::default();
        tracing::subscriber::with_default(recorder.clone(), act);
        let heard = std::mem::take(&mut *recorder.0.lock().unwrap());
        assert!(heard.open.is_empty());
        heard.spans
    };
    let names = |span: &Span| span.fields.keys().copied().collect::<BTreeSet<_>>();
    let put = |durability| {
        let options = WriteOptions::new().durability(durability);
        let two = |tx: &memstone::WriteTxn| tx.raw("t")?.put(b"a", b"1").and_then(|()| tx.raw("t")?.put(b"b", b"2"));
        store.write_with(options, two).unwrap();
    };
    // A flush belongs to the commit that makes it.
    let spans = heard(&|| put(Durability::Sync));
    let [commit, flush] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!((commit.name, commit.parent, flush.name, flush.parent), ("commit", None, "flush", Some(1)));
    assert_eq!(names(commit), ["durability", "bytes", "operations", "lsn", "waited_us"].into());
    let lsn = store.last_commit().unwrap().to_string();
    let field = |span: &Span, name| span.fields.get(name).unwrap_or_else(|| panic!("{name}: {span:?}")).clone();
    assert_eq!((field(commit, "durability"), field(commit, "operations")), ("Sync".to_owned(), "2".to_owned()));
    assert_eq!(
        (field(commit, "lsn"), field(flush, "lsn"), field(flush, "covered")),
        (lsn.clone(), lsn, "1".to_owned())
    );
    // A relaxed one makes none; the thread that does tells of it where it was told to.
    let spans = heard(&|| put(Durability::Relaxed));
    assert_eq!((spans.len(), field(&spans[0], "durability")), (1, "Relaxed".to_owned()), "{spans:?}");
    store.flush().unwrap();
    let spans = heard(&|| store.checkpoint().unwrap());
    let checkpoint = &spans[0];
    assert_eq!((checkpoint.name, field(checkpoint, "direct")), ("checkpoint", "false".to_owned()), "{spans:?}");
    assert_eq!(names(checkpoint), ["direct", "lsn", "pages"].into());
    // What is too large for the log goes straight to the tree: by a checkpoint.
    let large =
        || store.write(|tx| (0..2000_u32).try_for_each(|n| tx.raw("t")?.put(&n.to_be_bytes(), &[1; 5000]))).unwrap();
    let spans = heard(&large);
    let direct = spans.iter().find(|span| span.name == "checkpoint").unwrap();
    // A first one may find that the table is to be looked up again, and commit nothing.
    let commit = spans.iter().rfind(|span| span.name == "commit").unwrap();
    assert_eq!((field(commit, "operations"), field(direct, "direct")), ("2000".to_owned(), "true".to_owned()));
    assert_eq!(field(direct, "lsn"), field(commit, "lsn"));
}
