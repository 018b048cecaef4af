//! Both layouts of leaves: what was put in comes out, the one that must be chosen is, and damage is told.

use super::*;
use crate::bytes::Bytes;
use crate::disk::format::{KIND_LEAF, get_u16, get_u32, put_bytes};
use crate::tree::build::Level;
use crate::tree::node::{Header, LeafValue, Node};
use proptest::prelude::*;
use std::collections::BTreeMap;

const TABLE: u32 = 17;
type Rows = BTreeMap<Vec<u8>, (Vec<u8>, bool)>;

fn items(rows: &Rows) -> impl ExactSizeIterator<Item = NodeItem<'_>> + Clone {
    rows.iter().map(|(key, (payload, long))| NodeItem { key, payload, long: *long })
}

/// The bytes of a leaf.
fn leaf(rows: &Rows) -> Vec<u8> {
    let (mut out, last) = (Vec::new(), rows.last_key_value().unwrap().0);
    let run = encode(KIND_LEAF, items(rows), last, 4096, &mut out).unwrap();
    Header { page: 3, store_tag: 1, kind: KIND_LEAF, level: 0, version: 1, table: TABLE, run }.seal(&mut out);
    out
}

fn parse(bytes: &[u8]) -> Result<Node<'_>> {
    Node::parse(Bytes::borrowed(bytes), TABLE, Some(0)).expect("a leaf of this table")
}

/// Everything that a leaf has.
fn read(bytes: &[u8]) -> Result<Rows> {
    let node = parse(bytes)?;
    let mut rows = Rows::new();
    for index in 0..node.count() {
        let (key, value) = node.read(index)?;
        let value = match value {
            LeafValue::Inline(value) => (value.to_vec(), false),
            LeafValue::Overflow(long) => (long.encode().to_vec(), true),
        };
        rows.insert(key.to_vec(), value);
    }
    Ok(rows)
}

fn pairs(count: u64) -> Rows {
    (0..count).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes().to_vec(), (vec![7; 8], false))).collect()
}

#[test]
fn alike_entries_note_their_lengths_once() {
    let rows = pairs(250);
    let bytes = leaf(&rows);
    assert_eq!((get_u16(&bytes, PAGE_LAYOUT), get_u32(&bytes, NODE_END)), (LAYOUT_UNIFORM, 40 + 6 + 250 * 16));
    assert_eq!(read(&bytes).unwrap(), rows);
    // One that differs in the length of its value, of its key, or in the kind of its value.
    let long = Overflow::whole(crate::disk::format::Ptr { page: 9, crc: 1 }, 9000, 1).encode().to_vec();
    let first = rows.first_key_value().unwrap().0;
    for (key, value) in [(first.clone(), (vec![7; 9], false)), (vec![0; 9], (vec![7; 8], false))] {
        let mut rows = pairs(100);
        rows.insert(key, value);
        assert_eq!(get_u16(&leaf(&rows), PAGE_LAYOUT), 0);
        assert_eq!(read(&leaf(&rows)).unwrap(), rows);
    }
    for (kind, layout) in [(true, LAYOUT_UNIFORM), (false, 0)] {
        let rows: Rows = [(vec![1], (long.clone(), true)), (vec![2], (long.clone(), kind))].into();
        assert_eq!(get_u16(&leaf(&rows), PAGE_LAYOUT), layout);
        assert_eq!(read(&leaf(&rows)).unwrap(), rows);
    }
}

#[test]
fn a_damaged_uniform_leaf_is_corrupt() {
    let whole = leaf(&pairs(250));
    let corrupt = |at: usize, bytes: &[u8]| {
        let mut leaf = whole.clone();
        put_bytes(&mut leaf, at, bytes);
        let found = read(&leaf);
        assert!(found.is_err_and(|error| error.is_corrupt()), "{bytes:?} at {at}");
    };
    let lengths = 40 + 4 * 250;
    corrupt(PAGE_LAYOUT, &[2, 0]);
    corrupt(PAGE_LAYOUT, &[1, 1]);
    corrupt(NODE_COUNT, &[0, 0]);
    corrupt(NODE_COUNT, &[0xff, 0xff]);
    corrupt(NODE_PREFIX, &[0xff, 0xff]);
    for suffix in [9u16, 600, u16::MAX] {
        corrupt(lengths, &suffix.to_le_bytes());
    }
    // Longer values, an unknown kind, pointers of 8 bytes, and what overflows 32 bits.
    for word in [9 * 4, 8 * 4 + 2, 8 * 4 + 1, 1 << 20, u32::MAX - 3] {
        corrupt(lengths + 2, &word.to_le_bytes());
    }
}

fn rows() -> impl Strategy<Value = Rows> {
    let key = prop_oneof![Just(8usize), Just(3), 0usize..40];
    let keys = (key, any::<bool>(), 0usize..12).prop_flat_map(|(len, same, prefix)| {
        let lens = if same { len..len + 1 } else { 0..len + 1 };
        prop::collection::vec(prop::collection::vec(any::<u8>(), lens), 1..60)
            .prop_map(move |keys| keys.into_iter().map(|key| [vec![b'p'; prefix], key].concat()).collect::<Vec<_>>())
    });
    let value = (0usize..60, any::<bool>(), any::<u8>());
    (keys, value).prop_map(|(keys, (len, same, byte))| {
        let len = |n: usize| if same { len } else { len.saturating_sub(n % 7) };
        keys.into_iter().enumerate().map(|(n, key)| (key, (vec![byte ^ n as u8; len(n)], false))).collect()
    })
}

proptest! {
    #[test]
    fn any_rows_come_back_and_the_layout_is_the_one_they_must_have(rows in rows()) {
        let bytes = leaf(&rows);
        prop_assert_eq!(read(&bytes).unwrap(), rows.clone());
        let lengths = |(key, (value, _)): (&Vec<u8>, &(Vec<u8>, bool))| (key.len(), value.len());
        let first = lengths(rows.first_key_value().unwrap());
        let alike = rows.iter().all(|row| lengths(row) == first);
        prop_assert_eq!(get_u16(&bytes, PAGE_LAYOUT), u16::from(alike));
        let node = parse(&bytes).unwrap();
        for (key, (value, _)) in &rows {
            prop_assert!(matches!(node.find(key).unwrap(), Some(LeafValue::Inline(found)) if *found == **value));
        }
        // The packer knows the size before the leaf is made; of some varied leaves it takes it for larger.
        let mut level = Level::new(true, 65536);
        prop_assert!(items(&rows).all(|item| !level.push(item)) && !level.overflows());
        let (room, left) = (level.room(), 65536 - get_u32(&bytes, NODE_END) as usize);
        prop_assert!(room == left || (!alike && room < left), "{} and {}", room, left);
    }

    #[test]
    fn damage_of_any_leaf_ends_in_an_answer(
        rows in rows(),
        changes in prop::collection::vec((prop_oneof![Just(14usize), 32usize..40, 40usize..400], any::<u8>()), 1..6),
    ) {
        let mut bytes = leaf(&rows);
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        if let Ok(node) = parse(&bytes) {
            drop(read(&bytes));
            for key in rows.keys() {
                drop(node.find(key));
                drop(node.lower_bound(key));
            }
        }
    }
}
