//! The bytes of leaves and branches.
//!
//! All integers are little-endian. A node is a run of whole pages: one page, or as many as its
//! content needs, never more than `MAX_NODE_SIZE` bytes. Offsets count from the first byte of the
//! run. Nothing is aligned.
//!
//! # Header, 40 bytes, of every node
//!
//! | at | type | name | meaning |
//! |---|---|---|---|
//! | 0 | u32 | crc | CRC-32 (IEEE) of the bytes from 4 to the end of the run |
//! | 4 | u32 | page | number of the run's first page |
//! | 8 | u32 | store | first four bytes of the store id |
//! | 12 | u8 | kind | 1 leaf, 2 branch |
//! | 13 | u8 | level | 0 for a leaf; a branch is exactly one above each of its children |
//! | 14 | u16 | | zero |
//! | 16 | u64 | version | sequence of the root this node was written for |
//! | 24 | u32 | table | table id |
//! | 28 | u32 | run | pages in this run |
//! | 32 | u16 | count | leaf: entries, at least 1; branch: children, at least 2 |
//! | 34 | u16 | prefix | length P of the common prefix, see below |
//! | 36 | u32 | end | offset just after the last used byte; all bytes from here to the end of the run are zero |
//!
//! # Leaf, n = count
//!
//! | at | what |
//! |---|---|
//! | 40 | n × u32 *heads* |
//! | 40 + 4n | n × u16 *offsets* of the entries |
//! | 40 + 6n | the entries, in key order, without gaps: entry 0 starts here, entry i + 1 where entry i ends, `end` is where the last one ends |
//!
//! Entry: `u16` key length, `u16` value length and flag, key bytes (the whole key), value bytes.
//! If bit 15 of the second word is set, the value is long and the other bits are 16: the 16 value
//! bytes are `u32 page, u32 crc, u64 length` of its overflow run. Otherwise the word is the value's
//! length, at most a quarter of the page size. Keys strictly ascend (bytewise) and are at most 8192 bytes long.
//!
//! P is the exact length of the longest common prefix of all keys of the leaf, which is that of
//! the first and the last (of a single key: its whole length). It is not stored apart.
//! Head i is the four key bytes from P on, padded with zero bytes at the end, read as a
//! big-endian number. So heads never descend, and keys with different heads order as their heads do;
//! only among equal heads must keys be compared.
//!
//! # Branch, n = count children, m = n - 1 separators
//!
//! | at | what |
//! |---|---|
//! | 40 | P bytes: the common prefix of all separators, stored once |
//! | 40 + P | m × u32 *heads* |
//! | 40 + P + 4m | m × u16 *offsets* of the suffixes |
//! | 40 + P + 6m | n × (u32 page, u32 crc): the children, in key order; crc is the one in the child's header |
//! | 40 + P + 6m + 8n | the suffixes, in order, without gaps: suffix i ends where suffix i + 1 starts, the last one at `end` |
//!
//! Separator i is prefix + suffix i. P is the exact length of the longest common prefix of
//! all separators (of a single one: its whole length). Head i is the first four bytes of suffix i, as above.
//! Separators strictly ascend. Every key below child i is < separator i, and
//! every key below child i + 1 is >= separator i. A separator need not be a key.
//!
//! # Overflow run (kind 3)
//!
//! The same header up to `run`, level 0; at 32 a u64 payload length, at 40 the payload, then zeros to
//! the end of the run. `run` is exactly as many pages as 40 + length bytes need.
