//! Any bytes as a store: opened and read in full, and, where that goes well, written to.

use crate::repair::Image;
use crate::scratch;
use memstone::{Error, Options, Snapshot, Store};
use std::ops::Bound;
use std::time::{Duration, Instant};

/// Even a hostile store of this size must be answered in this time, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Errors that bytes alone may bring about.
fn fair(error: &Error) {
    let fair = matches!(
        error,
        Error::Corrupt(_)
            | Error::NotAStore { .. }
            | Error::Format { .. }
            | Error::TypeMismatch { .. }
            | Error::NoTable { .. }
            | Error::Invalid(_)
            | Error::Full { .. }
            | Error::TooLarge { .. }
    );
    assert!(fair, "{error:?}");
}

fn note<T>(result: Result<T, Error>) -> Option<T> {
    result.inspect_err(fair).ok()
}

fn read(snapshot: &Snapshot) -> Vec<String> {
    let mut names = Vec::new();
    for table in note(snapshot.tables()).unwrap_or_default().into_iter().take(64) {
        let Some(raw) = note(snapshot.untyped(&table.name)) else { continue };
        let mut forward = 0_u64;
        if let Some(range) = note(raw.range(..)) {
            for item in range {
                let Some((key, _)) = note(item) else { break };
                if forward.is_multiple_of(7) {
                    note(raw.get(&key));
                    note(raw.contains(&key));
                }
                forward += 1;
                // No forged store gives more entries than its bytes can hold.
                assert!(forward < 1 << 20, "a scan without end");
            }
        }
        if let Some(range) = note(raw.range((Bound::Excluded("a"), Bound::Included("zzzz")))) {
            range.rev().take_while(|item| item.as_ref().inspect_err(|e| fair(e)).is_ok()).for_each(drop);
        }
        note(raw.len());
        note(raw.first());
        note(raw.last());
        names.push(table.name);
    }
    names
}

fn write(store: &Store, names: &[String]) {
    for name in names {
        note(store.write(|tx| {
            let table = tx.raw(name)?;
            table.put(b"note/0070", &[1; 700])?;
            table.put(b"long", &[2; 9000])?;
            table.delete(b"note/001")?;
            table.pop_last().map(drop)
        }));
    }
    note(store.checkpoint());
    for (n, name) in names.iter().enumerate() {
        note(store.write(|tx| if n % 2 == 0 { tx.drop_table(name).map(drop) } else { tx.clear_table(name) }));
    }
    note(store.checkpoint());
    note(store.write(|tx| tx.raw("another")?.put(b"k", &[3; 40_000])));
    note(store.checkpoint());
}

fn open(bytes: &[u8], way: u8) {
    let started = Instant::now();
    let path = scratch().join(format!("{}.mst", std::process::id()));
    // The sidecar of a store that was here before would speak of that one.
    let _ = std::fs::remove_file(path.with_extension("mst-shm"));
    std::fs::write(&path, bytes).expect("room for the file");
    let reading = Options::new().create(false).memory_map(way & 1 == 0).timeout(Duration::from_secs(5));
    note(memstone::check(&path, &memstone::CheckOptions::new()));
    let options = reading.clone().read_only(way & 2 == 0);
    if let Some(store) = note(options.open(&path)) {
        let names = note(store.read()).map(|snapshot| read(&snapshot)).unwrap_or_default();
        note(store.stats());
        assert!(std::fs::read(&path).is_ok_and(|now| now == bytes), "opening and reading changed the file");
        if way & 6 == 6 {
            write(&store, &names);
        }
        let closed = store.close();
        note(closed);
        if way & 6 == 6
            && let Some(store) = note(options.open(&path))
        {
            note(store.read()).map(|snapshot| read(&snapshot));
        }
    }
    let _ = std::fs::remove_file(&path);
    assert!(started.elapsed() < PATIENCE, "took {:?}", started.elapsed());
}

/// The last byte says how to open it; the rest is the file.
pub fn open_bytes(data: &[u8]) {
    let Some((way, file)) = data.split_last() else { return };
    open(file, *way);
}

/// One byte for the way to open, one for the store, then changes of six bytes each: which run or
/// block, where in it, what. All checksums are repaired afterwards.
pub fn open_mutated(data: &[u8]) {
    let Some(([way, which], rest)) = data.split_first_chunk::<2>() else { return };
    let mut image = Image::of(*which);
    for change in rest.chunks_exact(6).take(40) {
        image.change(change);
    }
    image.repair();
    open(&image.bytes, *way);
}
