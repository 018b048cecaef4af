//! The spans of `tracing`, as a subscriber of the whole process hears them: so this test is alone in its program.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use memstone::{Durability, Store, WriteOptions};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

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

thread_local! {
    /// Whether the spans of this thread are heard. The store's own thread has none that are.
    static HEARD: Cell<bool> = const { Cell::new(false) };
}

#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Heard>>);

impl Recorder {
    /// What is heard of a span; nothing if it is one of another thread.
    fn heard(&self) -> Option<MutexGuard<'_, Heard>> {
        HEARD.get().then(|| self.0.lock().unwrap())
    }
}

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
        let Some(mut heard) = self.heard() else { return Id::from_u64(u64::MAX) };
        let mut span =
            Span { name: attributes.metadata().name(), parent: heard.open.last().copied(), ..Span::default() };
        attributes.record(&mut Fields(&mut span));
        heard.spans.push(span);
        Id::from_u64(heard.spans.len() as u64)
    }
    fn record(&self, id: &Id, values: &Record<'_>) {
        if let Some(mut heard) = self.heard() {
            values.record(&mut Fields(&mut heard.spans[usize::try_from(id.into_u64()).unwrap() - 1]));
        }
    }
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, id: &Id) {
        if let Some(mut heard) = self.heard() {
            heard.open.push(id.into_u64());
        }
    }
    fn exit(&self, id: &Id) {
        if let Some(mut heard) = self.heard() {
            assert_eq!(heard.open.pop(), Some(id.into_u64()), "spans end in order");
        }
    }
}

#[test]
fn commits_flushes_and_checkpoints_are_spans() {
    // For all threads: which thread comes by a place first decides whether spans of that place are heard at all.
    let recorder = Recorder::default();
    tracing::subscriber::set_global_default(recorder.clone()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("memory.mst")).unwrap();
    store.write(|tx| tx.raw("t").map(drop)).unwrap();
    let heard = |act: &dyn Fn()| {
        HEARD.set(true);
        act();
        HEARD.set(false);
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
    assert_eq!(checkpoint.name, "checkpoint", "{spans:?}");
    assert_eq!(names(checkpoint), ["lsn", "pages"].into());
    // What is too large for the log makes a root of its own, after a checkpoint of the log.
    let large =
        || store.write(|tx| (0..2000_u32).try_for_each(|n| tx.raw("t")?.put(&n.to_be_bytes(), &[1; 5000]))).unwrap();
    let spans = heard(&large);
    assert!(spans.iter().any(|span| span.name == "checkpoint"), "{spans:?}");
    // A first one may find that the table is to be looked up again, and commit nothing.
    let commit = spans.iter().rfind(|span| span.name == "commit").unwrap();
    let lsn = store.last_commit().unwrap().to_string();
    assert_eq!((field(commit, "operations"), field(commit, "lsn")), ("2000".to_owned(), lsn));
}
