//! The work of the background thread, which must keep no caller waiting.

use crate::common::{Child, Role, TestStore, give_up_after, tell};
use memstone::{Store, WriteOptions};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tracing::{Event, Metadata, Subscriber, span};

pub const ROLES: &[Role] = &[("panicking_subscriber", panicking_subscriber)];

static PANICKED: AtomicBool = AtomicBool::new(false);

/// Panics when the store's own thread tells of anything.
struct Panicking;

impl Subscriber for Panicking {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, _: &Event<'_>) {
        if std::thread::current().name() == Some("memstone") {
            PANICKED.store(true, Ordering::Release);
            panic!("a subscriber that panics");
        }
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// Closes a store whose thread has panicked.
fn panicking_subscriber(words: &[String]) {
    // The panic is meant.
    std::panic::set_hook(Box::new(|_| {}));
    tracing::subscriber::set_global_default(Panicking).unwrap();
    let store = Store::open(&words[0]).unwrap();
    let relaxed = || {
        let options = WriteOptions::new().durability(memstone::Durability::Relaxed);
        store.write_with(options, |tx| tx.raw("t")?.put(b"k", b"v")).unwrap();
    };
    relaxed();
    while !PANICKED.load(Ordering::Acquire) {
        std::thread::sleep(Duration::from_millis(1));
    }
    store.close().unwrap();
    tell("closed");
}

/// Waits until the file of a store that nobody uses is smaller than this.
fn wait_until_below(store: &Store, bytes: u64) {
    let started = Instant::now();
    let mut last = 0;
    loop {
        // (Not by way of `stats`, which reads.)
        let size = store.path().metadata().unwrap().len();
        if size != last {
            println!("{size} bytes after {:?}", started.elapsed());
            last = size;
        }
        if size < bytes {
            return;
        }
        give_up_after(started, &format!("{size} bytes stay"));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_a_deleted_value_took_is_given_back_when_nobody_reads_it_any_more() {
    const SIZE: usize = 32 << 20;
    let test = TestStore::new_in(Path::new("/dev/shm"));
    let store = test.open();
    let put = || store.write(|tx| tx.raw("t")?.put(b"long", &vec![7; SIZE])).unwrap();
    let remove = || store.write(|tx| tx.raw("t")?.remove(b"long").map(drop)).unwrap();
    put();
    remove();
    wait_until_below(&store, SIZE as u64 / 8);
    put();
    let snap = store.read().unwrap();
    remove();
    // Longer than the store is looked after when it is idle.
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(snap.raw("t").unwrap().get(b"long").unwrap().unwrap().len(), SIZE);
    drop(snap);
    wait_until_below(&store, SIZE as u64 / 8);
}

#[test]
fn a_store_whose_thread_has_panicked_can_be_closed() {
    let test = TestStore::new();
    let child = Child::start("panicking_subscriber", &[&test.path.display()]);
    assert_eq!(child.hear(), "closed");
    child.finish();
    assert_eq!(test.open().read().unwrap().raw("t").unwrap().get(b"k").unwrap().unwrap(), b"v");
}
