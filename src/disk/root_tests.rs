//! Roots and their slots, whole and damaged, of this version and of others.

use super::*;

fn root(sequence: u64, page_size: u32) -> Root {
    let new = NewStore { page_size, store_id: *b"0123456789abcdef", application: 8, created: 9 };
    Root {
        sequence,
        features: Features { incompatible: 0, read_only: 0, ignorable: 5 },
        checkpoint_lsn: 7,
        log_position: 3 * u64::from(page_size),
        log_crc: 5,
        log_offset: u64::from(page_size),
        catalog: TreeRoot { ptr: Ptr { page: 20, crc: 9 }, count: 3, pages: 1, bytes: 108, end: 21 },
        free_directory: Ptr { page: 21, crc: 1 },
        page_count: 30,
        last_commit: 7,
        ..Root::first(&new, 16)
    }
}

fn file(roots: &[Root]) -> Vec<u8> {
    let mut bytes = vec![0; MAX_SLOTS];
    for root in roots {
        put_bytes(&mut bytes, root.offset() as usize, &root.encode());
    }
    bytes
}

/// The newest root's slot with another preamble and with other fields, and right checksums.
fn changed(roots: &[Root], preamble: &dyn Fn(&mut [u8]), fields: &dyn Fn(&mut [u8])) -> Vec<u8> {
    let (mut bytes, newest) = (file(roots), roots.last().unwrap());
    let at = newest.offset() as usize;
    for at in [at, at + newest.page_size as usize / 2] {
        let copy = &mut bytes[at..at + ROOT_COPY];
        preamble(copy);
        fields(copy);
        let crc = crc32fast::hash(&copy[..PREAMBLE_CRC]);
        put_u32(copy, PREAMBLE_CRC, crc);
        let crc = crc32fast::hash(&copy[ROOT_FIELDS..]);
        put_u32(copy, ROOT_CHECKSUM, crc);
    }
    bytes
}

fn read(bytes: &[u8]) -> Result<Slots> {
    read_slots(bytes, Path::new("x"))
}

#[test]
fn the_highest_valid_sequence_wins_at_any_page_size() {
    for page_size in page_sizes() {
        let (older, newest) = (root(4, page_size), root(5, page_size));
        let slots = read(&file(&[older.clone(), newest.clone()])).unwrap();
        assert_eq!((slots.newest, slots.older), (newest, Some(older)));
    }
}

#[test]
fn any_one_flipped_byte_still_gives_the_newest_root() {
    let bytes = file(&[root(4, 4096), root(5, 4096)]);
    for at in 0..8192 {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        assert_eq!(read(&damaged).unwrap().newest, root(5, 4096), "byte {at}");
    }
}

#[test]
fn each_copy_alone_is_found_wherever_its_page_size_puts_it() {
    for page_size in page_sizes() {
        let bytes = file(&[root(4, page_size), root(5, page_size)]);
        for (slot, at) in places(page_size) {
            let mut alone = vec![0xa5; MAX_SLOTS + 9];
            alone[at..at + ROOT_COPY].copy_from_slice(&bytes[at..at + ROOT_COPY]);
            assert_eq!(read(&alone).unwrap().newest, root(4 + slot, page_size), "{page_size}, {at}");
        }
    }
}

/// A torn write of a slot leaves the old root in one copy, the new one in the other.
#[test]
fn of_two_roots_in_a_slot_the_newer_one_counts() {
    for page_size in page_sizes() {
        let (old, new) =
            (file(&[root(4, page_size), root(5, page_size)]), file(&[root(4, page_size), root(7, page_size)]));
        for (_, at) in places(page_size).into_iter().skip(2) {
            let mut torn = old.clone();
            torn[at..at + ROOT_COPY].copy_from_slice(&new[at..at + ROOT_COPY]);
            assert_eq!(read(&torn).unwrap().newest, root(7, page_size), "{page_size}, {at}");
        }
    }
}

/// A page that cannot be read keeps no store from being opened, nor does a copy, while there is another one.
#[test]
fn what_is_no_copy_need_not_be_read() {
    for page_size in page_sizes() {
        let bytes = file(&[root(4, page_size), root(5, page_size)]);
        for (_, bad) in places(page_size) {
            let read = |buf: &mut [u8], at: u64| {
                let at = at as usize;
                if at == bad || at >= 2 * page_size as usize {
                    return Err(io::Error::other("a bad sector"));
                }
                buf.copy_from_slice(&bytes[at..at + buf.len()]);
                Ok(buf.len())
            };
            let newest = read_slots(&read_head(read).unwrap(), Path::new("x")).unwrap().newest;
            assert_eq!(newest, root(5, page_size), "{page_size}, {bad}");
        }
    }
    assert!(read_head(|_, _| Err(io::Error::other("a bad sector"))).is_err());
}

#[test]
fn a_copy_elsewhere_than_its_page_size_puts_it_does_not_count() {
    let mut bytes = file(&[]);
    let other = root(5, 8192).encode();
    bytes[4096..4096 + ROOT_COPY].copy_from_slice(&other[..ROOT_COPY]);
    assert!(read(&bytes).unwrap_err().is_corrupt());
}

#[test]
fn a_torn_new_slot_leaves_the_old_root() {
    let mut bytes = file(&[root(4, 4096), root(5, 4096)]);
    bytes[4096 + 100] ^= 1;
    bytes[4096 + 2048 + 100] ^= 1;
    assert_eq!(read(&bytes).unwrap().newest, root(4, 4096));
}

#[test]
fn what_is_not_a_store_is_named() {
    let error = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
    assert!(error(b"").contains("empty"));
    assert!(error(b"hello, world\n").contains("text"));
    assert!(error(b"SQLite format 3\0xxx").contains("SQLite"));
    assert!(error(&[0xff; 9000]).contains("ff"));
    let mut damaged = file(&[root(5, 4096)]);
    damaged[4096 + 60] ^= 1;
    damaged[4096 + 2048 + 60] ^= 1;
    assert!(read(&damaged).unwrap_err().is_corrupt());
}

/// Whatever follows the preamble of a newer version, it is no damage; without a good preamble it is.
#[test]
fn a_good_preamble_tells_a_newer_version_from_damage() {
    let roots = [root(4, 4096), root(5, 4096)];
    let newer = |copy: &mut [u8]| put_u32(copy, PREAMBLE_VERSION, FORMAT_VERSION + 1);
    let junk = |copy: &mut [u8]| copy[ROOT_FIELDS..].fill(7);
    let mut bytes = changed(&roots, &newer, &junk);
    for at in [4096 + ROOT_CHECKSUM, 4096 + 2048 + ROOT_CHECKSUM] {
        bytes[at] ^= 1;
    }
    let error = read(&bytes).unwrap_err();
    assert!(matches!(&error, Error::Format { .. }) && error.to_string().contains("newer"), "{error}");
    for at in [4096 + PREAMBLE_CRC, 4096 + 2048 + PREAMBLE_CRC] {
        bytes[at] ^= 1;
    }
    assert_eq!(read(&bytes).unwrap().newest, root(4, 4096));
    for at in [PREAMBLE_LENGTH, PREAMBLE_KIND, PREAMBLE_SIZE] {
        let bytes = changed(&roots, &|copy| copy[at] += 1, &|_| {});
        assert!(matches!(read(&bytes), Err(Error::Format { .. })), "byte {at}");
    }
}

#[test]
fn unknown_features_and_another_protocol_are_refused() {
    let roots = [root(4, 4096), root(5, 4096)];
    let with = |at, value| read(&changed(&roots, &|_| {}, &|copy| put_u64(copy, at, value)));
    assert!(matches!(with(56, 1 << 63), Err(Error::Format { .. })));
    let slots = with(64, 2).unwrap();
    assert_eq!(slots.newest.features, Features { incompatible: 0, read_only: 2, ignorable: 5 });
    assert!(matches!(slots.newest.check_writable(Path::new("x")), Err(Error::Format { .. })));
    let slots = with(72, u64::MAX).unwrap();
    assert_eq!(slots.newest.features.ignorable, u64::MAX);
    slots.newest.check_writable(Path::new("x")).unwrap();
    let protocol = u64::from(PROTOCOL_VERSION + 1) << 32;
    assert!(matches!(with(184, protocol), Err(Error::Format { .. })));
}
