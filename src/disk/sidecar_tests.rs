//! Words of the sidecar: what they say, when they are silent, and that they only rise.

use super::*;
use crate::disk::private_memory::PrivateMemory;
use crate::disk::words::LEAST;

const FILE: FileId = FileId { device: 1, inode: 2 };

fn garbage(memory: &dyn SharedMemory) {
    for word in memory.words() {
        word.store(0x1234_5678_9abc_def0, Ordering::Relaxed);
    }
}

#[test]
fn garbage_is_told_from_a_message() {
    let memory: Arc<dyn SharedMemory> = Arc::new(PrivateMemory::new());
    let sidecar = Sidecar::new(Arc::clone(&memory), b"0123456789abcdef", FILE);
    assert_eq!(sidecar.epoch(), None);
    sidecar.set_up(3);
    assert_eq!(sidecar.epoch(), Some(3));
    assert_eq!(sidecar.tail(), None);
    let tail = TailHint { end: 9, start: 8, lsn: 7, crc: 6, open: true };
    sidecar.set_tail(tail);
    sidecar.publish_all(&sidecar.words_before(), 1, 4, 0);
    sidecar.rise_durable(5);
    assert_eq!((sidecar.tail(), sidecar.durable(), sidecar.visible()), (Some(tail), Some(5), Some(0)));
    garbage(&*memory);
    assert_eq!((sidecar.tail(), sidecar.durable(), sidecar.epoch()), (None, None, None));
    assert!(!sidecar.poisoned());
    let _ = (sidecar.first_waiter(), sidecar.slot(3).holder(None));
    // It may have said more: only a process that has looked at the file lets it speak again.
    sidecar.rise_durable(3);
    assert_eq!(sidecar.durable(), None);
    sidecar.publish_all(&sidecar.words_before(), 1, 3, 4);
    assert_eq!((sidecar.root(), sidecar.durable(), sidecar.visible()), (Some(1), Some(3), Some(4)));
}

#[test]
fn a_sidecar_of_another_store_or_file_says_nothing() {
    let memory: Arc<dyn SharedMemory> = Arc::new(PrivateMemory::new());
    let sidecar = Sidecar::new(Arc::clone(&memory), &[7; 16], FILE);
    sidecar.set_up(0);
    sidecar.publish_all(&sidecar.words_before(), 1, 5, 5);
    for (id, file) in [([8; 16], FILE), ([7; 16], FileId { inode: 3, ..FILE }), ([7; 16], FileId { device: 3, ..FILE })]
    {
        let other = Sidecar::new(Arc::clone(&memory), &id, file);
        assert_eq!((other.epoch(), other.durable(), other.root()), (None, None, None));
    }
}

#[test]
fn rising_words_never_fall() {
    let sidecar = Sidecar::new(Arc::new(PrivateMemory::new()), &[1; 16], FILE);
    sidecar.publish_all(&sidecar.words_before(), 1, 0, 0);
    let before = sidecar.words_before();
    for (lsn, says) in [(3, 3), (9, 9), (4, 9), (LEAST, 9), (10, 10)] {
        sidecar.rise_durable(lsn);
        assert_eq!(sidecar.durable(), Some(says));
    }
    // One that speaks is not lowered by a process that looked at the file earlier.
    sidecar.publish_all(&sidecar.words_before(), 1, 7, 7);
    assert_eq!((sidecar.durable(), sidecar.visible()), (Some(10), Some(7)));
    // A word that has spoken since is not put back, even if it is silent again.
    garbage(&**sidecar.memory());
    sidecar.publish_all(&before, 1, 7, 7);
    assert_eq!((sidecar.durable(), sidecar.visible()), (None, None));
    sidecar.rise_durable(6);
    sidecar.publish_all(&before, 1, 7, 7);
    assert_eq!(sidecar.durable(), None);
    sidecar.publish_all(&sidecar.words_before(), 1, 10, 10);
    // What goes beyond the told end of the log can only be garbage.
    sidecar.set_tail(TailHint { end: 9, start: 8, lsn: 9, crc: 6, open: true });
    assert_eq!(sidecar.durable(), None);
}

#[test]
fn a_word_that_was_given_a_value_meanwhile_is_only_raised() {
    let sidecar = Sidecar::new(Arc::new(PrivateMemory::new()), &[1; 16], FILE);
    let silent = sidecar.words_before();
    sidecar.publish_all(&silent, 1, 10, 10);
    // A process that looked at the file before that, and found less.
    sidecar.publish_all(&silent, 1, 7, 7);
    assert_eq!((sidecar.durable(), sidecar.visible()), (Some(10), Some(10)));
}

#[test]
fn a_silent_word_that_was_raised_is_not_put_below() {
    let sidecar = Sidecar::new(Arc::new(PrivateMemory::new()), &[1; 16], FILE);
    // A process looks at the file, and finds 7. Before it tells, others commit and flush 8.
    let silent = sidecar.words_before();
    sidecar.rise_durable(8);
    assert_eq!(sidecar.durable(), None);
    sidecar.publish_all(&silent, 1, 7, 7);
    assert_eq!((sidecar.durable(), sidecar.visible()), (None, Some(7)));
    // The next one finds all.
    sidecar.publish_all(&sidecar.words_before(), 1, 8, 8);
    assert_eq!((sidecar.durable(), sidecar.visible()), (Some(8), Some(8)));
}

#[test]
fn a_process_that_raises_a_silent_word_itself_gives_it_a_value() {
    let sidecar = Sidecar::new(Arc::new(PrivateMemory::new()), &[1; 16], FILE);
    let silent = sidecar.words_before();
    sidecar.rise_durable(7);
    sidecar.publish_all(&silent, 1, 7, 7);
    assert_eq!(sidecar.durable(), Some(7));
}

#[test]
fn a_waiter_that_was_killed_is_not_waited_for_for_ever() {
    let sidecar = Sidecar::new(Arc::new(PrivateMemory::new()), &[1; 16], FILE);
    sidecar.words.word(FLUSHED + WAITERS).unwrap().store(1, Ordering::SeqCst);
    sidecar.words.word(FLUSHED + WAITING_UNTIL).unwrap().store(now_ms() + 100_000, Ordering::SeqCst);
    assert!(sidecar.is_busy());
    sidecar.words.word(FLUSHED + WAITING_UNTIL).unwrap().store(now_ms() - 1, Ordering::SeqCst);
    assert!(!sidecar.is_busy());
    assert_eq!(sidecar.words.load(FLUSHED + WAITERS), 0);
}

#[test]
fn the_lowest_ticket_is_first() {
    let sidecar = Sidecar::new(Arc::new(PrivateMemory::new()), &[1; 16], FILE);
    sidecar.raise_slot_bound(4);
    assert_eq!(sidecar.first_waiter(), None);
    sidecar.slot(3).set_ticket(sidecar.draw_ticket());
    sidecar.slot(1).set_ticket(sidecar.draw_ticket());
    assert_eq!(sidecar.first_waiter(), Some((3, 1)));
    sidecar.slot(3).clear_ticket(1);
    assert_eq!(sidecar.first_waiter(), Some((1, 2)));
}
