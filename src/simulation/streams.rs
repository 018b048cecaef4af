//! Values that are written to their pages while the transaction runs. (The workloads of [`super::model`] stream long
//! values, too, so crashes, faults and schedules meet them at every step.)

use super::{after_power_losses, check, new_store, open_store, settings};
use crate::disk::platform::Disk;
use crate::disk::sim::{Call, Conductor, Free, Verdict};
use crate::engine::Settings;
use crate::tree::node::LeafValue;
use crate::{Error, RawTableMut, Result, Store};
use std::io::{BufRead, Read, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const CAP: u64 = 1 << 20;

fn value(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|n| (n % 249) as u8 ^ seed).collect()
}

fn stream(table: &RawTableMut<'_>, key: &[u8], len: usize, seed: u8) -> Result<()> {
    let mut writer = table.writer(key, len as u64)?;
    for part in value(len, seed).chunks(70_001) {
        writer.write_all(part).map_err(|error| error.downcast::<Error>().unwrap())?;
    }
    writer.finish()
}

fn has(store: &Store, key: &[u8], expected: Option<(usize, u8)>) {
    let snapshot = store.read().unwrap();
    let found = snapshot.raw("t").unwrap().get(key).unwrap();
    let expected = expected.map(|(len, seed)| value(len, seed));
    assert!(found.as_deref() == expected.as_deref(), "{key:?}");
}

/// Free pages and all pages, if nothing is pinned.
fn free_pages(store: &Store) -> (u64, u64) {
    let engine = store.engine();
    engine.relax_view(0);
    engine.free_and_all_pages(&engine.lock_checkpoint(None).unwrap()).unwrap()
}

#[test]
fn streamed_values_are_read_in_the_transaction_and_after_it() {
    let (world, _disk, store) = new_store(Arc::new(Free), CAP);
    store
        .write(|tx| {
            let table = tx.raw("t")?;
            table.put(b"a", b"old")?;
            let mut writer = table.writer(b"a", 500_000)?;
            writer.write_all(&value(500_000, 1)[..200_000]).unwrap();
            assert_eq!(table.get(b"a")?.unwrap(), b"old", "it is not put yet");
            // Two at the same time, and one that lies in memory.
            stream(&table, b"b", 300_000, 2)?;
            stream(&table, b"short", 10_000, 3)?;
            table.put(b"c", &value(100_000, 4))?;
            writer.write_all(&value(500_000, 1)[200_000..]).unwrap();
            writer.finish()?;
            assert!(table.get(b"a")?.unwrap() == value(500_000, 1)[..]);
            assert!(table.get_slice(b"b", 70_000..70_005)?.unwrap() == value(300_000, 2)[70_000..70_005]);
            Ok::<_, Error>(())
        })
        .unwrap();
    let all = |store: &Store| {
        let expected = [(&b"a"[..], 500_000, 1), (b"b", 300_000, 2), (b"short", 10_000, 3), (b"c", 100_000, 4)];
        expected.into_iter().for_each(|(key, len, seed)| has(store, key, Some((len, seed))));
        check::structure(store).unwrap();
    };
    all(&store);
    all(&open_store(&world, 1, CAP).1.unwrap());
    after_power_losses(&world, CAP, all);
    store.checkpoint().unwrap();
    all(&store);
}

#[test]
fn what_is_not_put_leaves_no_trace() {
    let (_world, _disk, store) = new_store(Arc::new(Free), CAP);
    store.write(|tx| stream(&tx.raw("t")?, b"stays", 300_000, 1)).unwrap();
    store.checkpoint().unwrap();
    store.checkpoint().unwrap();
    let (free, count) = free_pages(&store);
    let used = count - free;
    let unchanged = |what: &str, store: &Store| {
        has(store, b"stays", Some((300_000, 1)));
        has(store, b"gone", None);
        check::structure(store).unwrap();
        let (free, count) = free_pages(store);
        assert_eq!(count - free, used, "{what}");
    };
    // Given up.
    let tx = store.begin_write().unwrap();
    stream(&tx.raw("t").unwrap(), b"gone", 2_000_000, 2).unwrap();
    tx.rollback();
    unchanged("rolled back", &store);
    // Not finished, too short, too long: the transaction goes on.
    store
        .write(|tx| {
            let table = tx.raw("t")?;
            table.writer(b"gone", 100_000)?.write_all(&[7; 99_999]).unwrap();
            let mut short = table.writer(b"gone", 100_000)?;
            short.write_all(&[7; 99_999]).unwrap();
            assert!(matches!(short.finish(), Err(Error::Invalid(_))));
            for len in [10, 100_000] {
                let mut long = table.writer(b"gone", len)?;
                let error = long.write_all(&vec![7; len as usize + 1]).unwrap_err();
                assert!(matches!(error.downcast::<Error>(), Ok(Error::TooLarge { .. })));
                assert!(matches!(long.finish(), Err(Error::Invalid(_))));
            }
            assert!(table.get(b"gone")?.is_none());
            table.put(b"stays", &value(300_000, 1))
        })
        .unwrap();
    (0..2).for_each(|_| store.checkpoint().unwrap());
    unchanged("not finished", &store);
    // Undone, overwritten, deleted, in a table that is cleared or dropped.
    store
        .write(|tx| {
            let table = tx.raw("t")?;
            let savepoint = tx.savepoint();
            stream(&table, b"gone", 200_000, 3)?;
            tx.rollback_to(&savepoint)?;
            stream(&table, b"gone", 200_000, 4)?;
            table.put(b"gone", b"short")?;
            stream(&table, b"gone", 200_000, 5)?;
            table.delete(b"gone")?;
            let other = tx.raw("other")?;
            stream(&other, b"gone", 200_000, 6)?;
            let mut across = other.writer(b"across", 100_000)?;
            other.clear()?;
            across.write_all(&value(100_000, 9)).unwrap();
            across.finish()?;
            assert!(other.get(b"across")?.unwrap() == value(100_000, 9)[..]);
            tx.drop_table("other")?;
            stream(&table, b"stays", 300_000, 1)
        })
        .unwrap();
    check::structure(&store).unwrap();
    // The next long value may use what was streamed in vain.
    store.write(|tx| tx.raw("t")?.put(b"gone", &value(150_000, 7))).unwrap();
    check::structure(&store).unwrap();
    store.write(|tx| tx.raw("t")?.delete(b"gone")).unwrap();
    (0..2).for_each(|_| store.checkpoint().unwrap());
    unchanged("undone", &store);
}

/// Counts writes, and refuses one kind of call.
#[derive(Default)]
struct Writes(AtomicUsize, Mutex<Option<Call>>);

impl Conductor for Writes {
    fn before(&self, _: usize, call: Call) -> Verdict {
        self.0.fetch_add(usize::from(call == Call::Write), Ordering::Relaxed);
        let refused = self.1.lock().unwrap().is_some_and(|refused| refused == call);
        if refused { Verdict::Fail(libc::ENOSPC) } else { Verdict::Go }
    }
}

#[test]
fn a_streamed_value_is_in_its_pages_before_the_commit() {
    let writes = Arc::new(Writes::default());
    let (_world, _disk, store) = new_store(Arc::clone(&writes) as _, CAP);
    let count = || writes.0.swap(0, Ordering::Relaxed);
    let tx = store.begin_write().unwrap();
    let table = tx.raw("t").unwrap();
    let mut writer = table.writer(b"a", 100 << 16).unwrap();
    count();
    for n in 0..100_usize {
        writer.write_all(&[7; 1 << 16]).unwrap();
        // What shares a chunk with the head, and the chunk that is being filled, are in memory.
        assert_eq!(count(), usize::from(n > 0), "chunk {n}");
    }
    writer.finish().unwrap();
    assert_eq!(count(), 2, "the last chunk, and the first");
    tx.commit().unwrap();
    has(&store, b"absent", None);
    assert_eq!(store.read().unwrap().raw("t").unwrap().value_len(b"a").unwrap(), Some(100 << 16));
    // A disk that is full ends the stream, not the transaction.
    let tx = store.begin_write().unwrap();
    let table = tx.raw("t").unwrap();
    let mut writer = table.writer(b"b", 100 << 16).unwrap();
    *writes.1.lock().unwrap() = Some(Call::Write);
    let error = writer.write_all(&[7; 1 << 20]).unwrap_err();
    *writes.1.lock().unwrap() = None;
    assert!(matches!(error.downcast::<Error>(), Ok(Error::Full { .. })));
    assert!(matches!(writer.finish(), Err(Error::Invalid(_))));
    table.put(b"c", b"there").unwrap();
    tx.commit().unwrap();
    assert_eq!(store.read().unwrap().raw("t").unwrap().value_len(b"b").unwrap(), None);
    check::structure(&store).unwrap();
}

/// No other process may allocate pages meanwhile: it does not know of these.
#[test]
fn no_checkpoint_of_another_process_runs_beside_a_stream() {
    let (world, disk, first) = new_store(Arc::new(Free), CAP);
    let impatient = Settings { timeout: Duration::ZERO, ..settings(CAP) };
    let second = Store::on_disk(world.disk(1) as _, impatient).unwrap();
    first.write(|tx| tx.raw("t")?.put(b"k", b"v")).unwrap();
    let tx = first.begin_write().unwrap();
    let table = tx.raw("t").unwrap();
    table.put(b"other", b"v").unwrap();
    second.checkpoint().unwrap();
    stream(&table, b"a", 300_000, 1).unwrap();
    assert!(matches!(second.checkpoint(), Err(Error::Busy { lock: crate::LockKind::Checkpoint, .. })));
    assert!(matches!(first.checkpoint(), Err(Error::Nested { .. })));
    assert!(first.locks().unwrap().checkpoint.is_some(), "lists show who holds CHECKPOINT");
    tx.commit().unwrap();
    second.checkpoint().unwrap();
    has(&second, b"a", Some((300_000, 1)));
    // A process that dies while it streams leaves nothing.
    let tx = first.begin_write().unwrap();
    stream(&tx.raw("t").unwrap(), b"b", 300_000, 2).unwrap();
    disk.kill();
    second.write(|tx| tx.raw("t")?.put(b"c", &value(400_000, 3))).unwrap();
    second.checkpoint().unwrap();
    has(&second, b"b", None);
    has(&second, b"c", Some((400_000, 3)));
    check::structure(&second).unwrap();
    disk.silence();
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(tx)));
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(first)));
}

/// The log is full, so the commit needs a checkpoint, or is too large for the log: the pages that were streamed to are
/// neither given out nor lost.
#[test]
fn a_checkpoint_for_the_commit_keeps_streamed_pages_apart() {
    for small in [100, 3000] {
        let (world, _disk, store) = new_store(Arc::new(Free), 256 << 10);
        for n in 0..60_u8 {
            store.write(|tx| tx.raw("t")?.put(&[n], &value(3000, n))).unwrap();
        }
        // With this one, what the log points at would be more than its cap.
        store.write(|tx| tx.raw("t")?.put(b"first", &value(100_000, 5))).unwrap();
        let root = || store.engine().slots().unwrap().newest.sequence;
        let before = root();
        store
            .write(|tx| {
                let table = tx.raw("t")?;
                stream(&table, b"a", 150_000, 1)?;
                assert_eq!(root(), before);
                stream(&table, b"gone", 150_000, 2)?;
                table.delete(b"gone")?;
                (0..60_u8).try_for_each(|n| table.put(&[n, n], &value(small, n)))?;
                table.put(b"b", &value(200_000, 3))
            })
            .unwrap();
        assert!(root() > before, "no checkpoint was needed");
        // To a backup, a value of an older version than its base is one of that base.
        let view = store.engine().view_at_end().unwrap();
        let entry = view.table("t").unwrap().unwrap();
        let Some(LeafValue::Overflow(long)) = view.leaf_value(entry.id, entry.root, b"a").unwrap() else { panic!() };
        assert!(long.pages.version > before, "version {} over root {before}", long.pages.version);
        let all = |store: &Store| {
            has(store, b"a", Some((150_000, 1)));
            has(store, b"b", Some((200_000, 3)));
            has(store, b"gone", None);
            has(store, b"first", Some((100_000, 5)));
            (0..60_u8).for_each(|n| has(store, &[n], Some((3000, n))));
            (0..60_u8).for_each(|n| has(store, &[n, n], Some((small, n))));
            check::structure(store).unwrap();
        };
        all(&store);
        after_power_losses(&world, 256 << 10, all);
        (0..3).for_each(|_| store.checkpoint().unwrap());
        all(&store);
    }
}

#[test]
fn a_value_is_read_from_any_position() {
    let (world, disk, store) = new_store(Arc::new(Free), CAP);
    let lengths = [0_usize, 100, 4033, 6150, 20_000, 32_767, 32_768, 65_472, 65_473, 300_000];
    let read = |store: &Store| {
        let snapshot = store.read().unwrap();
        let table = snapshot.raw("t").unwrap();
        for len in lengths {
            let (key, whole) = (len.to_be_bytes(), value(len, 7));
            let mut reader = table.reader(&key).unwrap().unwrap();
            assert_eq!((reader.len(), reader.is_empty()), (len as u64, len == 0));
            assert_eq!(table.value_len(&key).unwrap(), Some(len as u64));
            let mut found = Vec::new();
            reader.read_to_end(&mut found).unwrap();
            assert!(found == whole, "{len} bytes");
            for at in [0, 1, len / 2, 4031, 4032, 4033, len.saturating_sub(1), len, len + 10] {
                assert_eq!(reader.seek(SeekFrom::Start(at as u64)).unwrap(), at as u64);
                found.clear();
                Read::by_ref(&mut reader).take(70_000).read_to_end(&mut found).unwrap();
                let rest = whole.get(at..).unwrap_or_default();
                assert!(found == rest[..rest.len().min(70_000)], "{len} bytes from {at} on");
            }
            assert_eq!(reader.seek(SeekFrom::End(0)).unwrap(), len as u64);
            assert!(reader.fill_buf().unwrap().is_empty());
            let error = reader.seek(SeekFrom::Current(-1 - len as i64)).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        }
        assert!(table.reader(b"absent").unwrap().is_none() && table.get_slice(b"absent", 0..1).unwrap().is_none());
    };
    store.write(|tx| lengths.iter().try_for_each(|len| tx.raw("t")?.put(&len.to_be_bytes(), &value(*len, 7)))).unwrap();
    read(&store);
    store.checkpoint().unwrap();
    read(&store);

    // Damage is the source of the error, and stops no reader of another part.
    let key = 300_000_usize.to_be_bytes();
    let view = store.engine().view_at_end().unwrap();
    let entry = view.table("t").unwrap().unwrap();
    let Some(LeafValue::Overflow(long)) = view.leaf_value(entry.id, entry.root, &key).unwrap() else { panic!() };
    disk.write_at(&[0xee; 8], u64::from(long.pages.ptr.page) * 4096 + (2 << 16) + 10).unwrap();
    let other = open_store(&world, 1, CAP).1.unwrap();
    let snapshot = other.read().unwrap();
    let mut reader = snapshot.raw("t").unwrap().reader(&key).unwrap().unwrap();
    let mut start = vec![0; 131_000];
    reader.read_exact(&mut start).unwrap();
    assert!(start == value(300_000, 7)[..131_000]);
    let error = reader.read_to_end(&mut start).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    assert!(error.downcast::<Error>().unwrap().is_corrupt());
    reader.seek(SeekFrom::Start(250_000)).unwrap();
    assert_eq!(reader.read_to_end(&mut start).unwrap(), 50_000);
}
