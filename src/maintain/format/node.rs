//! The bytes of leaves and branches, taken apart from the written format alone.

use std::ops::Range;

use crate::disk::format::{
    CHILD_SIZE, Child, LAYOUT_UNIFORM, MAX_KEY_SIZE, NODE_COUNT, NODE_END, NODE_PREFIX, Overflow, PAGE_HEADER,
    PAGE_LAYOUT, UNIFORM_SIZE, get_u16, get_u32,
};

/// Kinds of values in a leaf.
const INLINE: usize = 0;
const LONG: usize = 1;

pub(in crate::maintain) enum Value<'n> {
    Inline(&'n [u8]),
    Long(Long<'n>),
}

/// A long value: the pointer to its pages, and its last bytes.
#[derive(Clone, Copy)]
pub(in crate::maintain) struct Long<'n> {
    pub(in crate::maintain) pages: Overflow,
    pub(in crate::maintain) tail: &'n [u8],
}

impl Long<'_> {
    pub(in crate::maintain) fn len(&self) -> u64 {
        self.pages.len + self.tail.len() as u64
    }
}

pub(in crate::maintain) struct Branch {
    pub(in crate::maintain) children: Vec<Child>,
    /// One less than children.
    pub(in crate::maintain) separators: Separators,
}

/// What lies between the children of a branch, in key order.
#[derive(Default)]
pub(in crate::maintain) struct Separators {
    bytes: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
}

impl Separators {
    fn push(&mut self, prefix: &[u8], suffix: &[u8]) {
        self.bytes.extend_from_slice(prefix);
        self.bytes.extend_from_slice(suffix);
        self.ends.push(self.bytes.len());
    }

    pub(in crate::maintain) fn get(&self, index: usize) -> Option<&[u8]> {
        let start = index.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied())?;
        self.bytes.get(start..*self.ends.get(index)?)
    }

    pub(in crate::maintain) fn first(&self) -> Option<&[u8]> {
        self.get(0)
    }

    pub(in crate::maintain) fn last(&self) -> Option<&[u8]> {
        self.get(self.ends.len().checked_sub(1)?)
    }

    pub(in crate::maintain) fn iter(&self) -> impl DoubleEndedIterator<Item = &[u8]> + Clone {
        (0..self.ends.len()).filter_map(|index| self.get(index))
    }
}

/// Common parts of both kinds: entries, common prefix, end.
fn counts(node: &[u8]) -> Result<(usize, usize, usize), String> {
    let count = usize::from(get_u16(node, NODE_COUNT));
    let prefix = usize::from(get_u16(node, NODE_PREFIX));
    let end = get_u32(node, NODE_END) as usize;
    match node.get(end..) {
        Some(rest) if is_zero(rest) => Ok((count, prefix, end)),
        Some(_) => Err("bytes after its end are not zero".to_owned()),
        None => Err(format!("its content ends at {end}, beyond the node")),
    }
}

/// Whether all bytes are zero. Many are looked at together: nodes with room are largely zeros.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(64).all(|chunk| chunk.iter().fold(0, |all, byte| all | byte) == 0)
}

fn slice(node: &[u8], range: Range<usize>, what: &str) -> Result<Range<usize>, String> {
    match node.get(range.clone()) {
        Some(_) => Ok(range),
        None => Err(format!("{what} lies outside the node")),
    }
}

/// The first four bytes, padded with zeros, as a big-endian number.
fn head(bytes: &[u8]) -> u32 {
    if let Some(first) = bytes.first_chunk::<4>() {
        return u32::from_be_bytes(*first);
    }
    let mut out = [0; 4];
    for (place, byte) in out.iter_mut().zip(bytes) {
        *place = *byte;
    }
    u32::from_be_bytes(out)
}

fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Keys must strictly ascend, share exactly `prefix` bytes, and have the heads that are stored.
fn order<'k>(
    node: &[u8],
    heads: usize,
    prefix: usize,
    keys: impl DoubleEndedIterator<Item = &'k [u8]> + Clone,
    what: &str,
) -> Result<(), String> {
    let (Some(first), Some(last)) = (keys.clone().next(), keys.clone().next_back()) else { return Ok(()) };
    let common = common_prefix(first, last);
    if common != prefix {
        return Err(format!("its {what}s share {common} bytes, but {prefix} are noted"));
    }
    let mut before: Option<&[u8]> = None;
    for (index, key) in keys.enumerate() {
        if key.len() > MAX_KEY_SIZE {
            return Err(format!("{what} {index} has {} bytes, more than {MAX_KEY_SIZE}", key.len()));
        }
        if before.is_some_and(|before| before >= key) {
            return Err(format!("{what} {index} does not come after the one before it"));
        }
        let (stored, right) = (get_u32(node, heads + 4 * index), head(key.get(prefix..).unwrap_or_default()));
        if stored != right {
            return Err(format!("head {index} is {stored:08x}, but its {what} begins with {right:08x}"));
        }
        before = Some(key);
    }
    Ok(())
}

/// A number of seven bits in each byte, the lowest first, in as few bytes as it needs and at most three; and where it
/// ends.
fn varint(node: &[u8], mut at: usize, what: &str) -> Result<(usize, usize), String> {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = usize::from(*node.get(at).ok_or_else(|| format!("{what} lies outside the node"))?);
        value |= (byte & 0x7f) << shift;
        (at, shift) = (at + 1, shift + 7);
        if byte < 0x80 {
            return if byte == 0 && shift > 7 { Err(format!("{what} has a needless byte")) } else { Ok((value, at)) };
        }
        if shift == 21 {
            return Err(format!("{what} is longer than three bytes"));
        }
    }
}

/// How a leaf notes the lengths of its entries.
enum Lengths {
    /// Offsets of the entries, from here on, and two varints at the start of each.
    Varied { offsets: usize },
    /// For all entries: the length of the suffix, and the word that says length and kind of the value.
    Uniform { suffix: usize, word: usize },
}

impl Lengths {
    /// What lies behind the heads, and where the entries start.
    fn of(node: &[u8], at: usize, count: usize) -> (Lengths, usize) {
        if get_u16(node, PAGE_LAYOUT) != LAYOUT_UNIFORM {
            return (Lengths::Varied { offsets: at }, at + 2 * count);
        }
        let (suffix, word) = (usize::from(get_u16(node, at)), get_u32(node, at + 2) as usize);
        (Lengths::Uniform { suffix, word }, at + UNIFORM_SIZE)
    }

    /// Length of the suffix and word of the value of entry `index`, which must start at `at`; and what follows them.
    fn entry(&self, node: &[u8], index: usize, at: usize) -> Result<(usize, usize, usize), String> {
        let offsets = match *self {
            Lengths::Varied { offsets } => offsets,
            Lengths::Uniform { suffix, word } => return Ok((suffix, word, at)),
        };
        let offset = usize::from(get_u16(node, offsets + 2 * index));
        if offset != at {
            return Err(format!("entry {index} starts at {offset}, not at {at}"));
        }
        let (suffix, next) = varint(node, at, "the length of a key")?;
        let (word, next) = varint(node, next, "the length of a value")?;
        Ok((suffix, word, next))
    }
}

/// An entry of a leaf, whose keys lie in [`Entries`].
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Where its key begins, and ends.
    key: (usize, usize),
    /// Where its value lies in the leaf.
    value: (usize, usize),
    long: bool,
}

impl Entry {
    fn value<'n>(&self, leaf: &'n [u8]) -> Value<'n> {
        let bytes = leaf.get(self.value.0..self.value.1).unwrap_or_default();
        let long = if self.long { Overflow::decode_with_tail(bytes) } else { None };
        long.map_or(Value::Inline(bytes), |(pages, tail)| Value::Long(Long { pages, tail }))
    }
}

/// The entries of a leaf, and their keys, put together from prefix, heads and rests.
#[derive(Default)]
pub(in crate::maintain) struct Entries {
    keys: Vec<u8>,
    list: Vec<Entry>,
}

impl Entries {
    pub(in crate::maintain) fn iter<'n>(
        &'n self,
        leaf: &'n [u8],
    ) -> impl DoubleEndedIterator<Item = (&'n [u8], Value<'n>)> + ExactSizeIterator + Clone {
        self.list.iter().map(move |entry| (self.key(entry), entry.value(leaf)))
    }

    fn key(&self, entry: &Entry) -> &[u8] {
        self.keys.get(entry.key.0..entry.key.1).unwrap_or_default()
    }

    /// Takes the entries of a leaf, judged, instead of what was in the list.
    pub(in crate::maintain) fn read(&mut self, node: &[u8]) -> Result<(), String> {
        let (count, prefix_len, end) = counts(node)?;
        if count == 0 {
            return Err("a leaf without entries".to_owned());
        }
        let heads = PAGE_HEADER + prefix_len;
        let (lengths, mut at) = Lengths::of(node, heads + 4 * count, count);
        slice(node, PAGE_HEADER..at, "the list of entries")?;
        let prefix = node.get(PAGE_HEADER..heads).unwrap_or_default();
        self.keys.clear();
        self.list.clear();
        let (mut first, mut alike) = (None, true);
        for index in 0..count {
            let (suffix, word, next) = lengths.entry(node, index, at)?;
            alike &= *first.get_or_insert((suffix, word)) == (suffix, word);
            let rest = slice(node, next..next + suffix.saturating_sub(4), "a key")?;
            let value = slice(node, rest.end..rest.end + word / 4, "a value")?;
            match word % 4 {
                INLINE => {}
                LONG if Overflow::decode_with_tail(node.get(value.clone()).unwrap_or_default()).is_some() => {}
                LONG => {
                    let size = value.len();
                    return Err(format!("entry {index} has {size} bytes for a pointer and a tail that cannot be"));
                }
                kind => return Err(format!("entry {index} has a value of the unknown kind {kind}")),
            }
            let start = self.keys.len();
            self.keys.extend_from_slice(prefix);
            let head = get_u32(node, heads + 4 * index).to_be_bytes();
            self.keys.extend_from_slice(head.get(..suffix).unwrap_or(&head));
            self.keys.extend_from_slice(node.get(rest).unwrap_or_default());
            at = value.end;
            self.list.push(Entry {
                key: (start, self.keys.len()),
                value: (value.start, value.end),
                long: word % 4 == LONG,
            });
        }
        if at != end {
            return Err(format!("its entries end at {at}, but {end} is noted"));
        }
        if alike && matches!(lengths, Lengths::Varied { .. }) {
            return Err("its entries are alike, but each has its own lengths".to_owned());
        }
        order(node, heads, prefix_len, self.list.iter().map(|entry| self.key(entry)), "key")
    }
}

/// Keys and values of a leaf, judged.
pub(in crate::maintain) fn leaf(node: &[u8]) -> Result<Vec<(Vec<u8>, Value<'_>)>, String> {
    let mut entries = Entries::default();
    entries.read(node)?;
    Ok(entries.list.iter().map(|entry| (entries.key(entry).to_vec(), entry.value(node))).collect())
}

/// The children of a branch and what lies between them.
pub(in crate::maintain) fn branch(node: &[u8]) -> Result<Branch, String> {
    let (count, prefix_len, end) = counts(node)?;
    if count < 2 {
        return Err(format!("a branch with {count} children"));
    }
    let between = count - 1;
    let heads = PAGE_HEADER + prefix_len;
    let offsets = heads + 4 * between;
    let pointers = offsets + 2 * between;
    let suffixes = pointers + CHILD_SIZE * count;
    slice(node, PAGE_HEADER..suffixes, "the list of children")?;
    let prefix = node.get(PAGE_HEADER..heads).unwrap_or_default();
    let children = (0..count)
        .map(|index| pointers + CHILD_SIZE * index)
        .map(|at| Child::decode(node.get(at..at + CHILD_SIZE).unwrap_or_default()))
        .collect();
    let mut separators = Separators::default();
    let mut at = suffixes;
    for index in 0..between {
        let offset = usize::from(get_u16(node, offsets + 2 * index));
        if offset != at {
            return Err(format!("suffix {index} starts at {offset}, not at {at}"));
        }
        let last = index + 1 == between;
        let next = if last { end } else { usize::from(get_u16(node, offsets + 2 * index + 2)) };
        if next < at {
            return Err(format!("suffix {index} ends before it starts"));
        }
        let suffix = node.get(slice(node, at..next, "a suffix")?).unwrap_or_default();
        separators.push(prefix, suffix);
        at = next;
    }
    order(node, heads, prefix_len, separators.iter(), "separator")?;
    Ok(Branch { children, separators })
}
