//! The file format is a contract. `tests/fixtures/format-2.store` is a store of format version 2;
//! `docs/FILE_FORMAT.md` shows its bytes. These tests read it by the document alone (nothing of
//! the library's reading is used), make the same store once more, and open the old one.
//!
//! When the format gains something, `MEMSTONE_BLESS=1 cargo test --test file_format` writes the
//! fixture and the document's dump once more. The fixture of a version that was released stays as it is.

#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use memstone::{Result, Store, Table};
use std::fmt::{Display, Write};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const NOTES: Table<&str, String> = Table::new("notes");
/// Roots of the document's store: that of its creation, and of two checkpoints.
const ROOTS: u64 = 3;
const PAGE: usize = 4096;
const BEGIN: &str = "<!-- The dump: written by tests/file_format.rs. -->\n";
const END: &str = "<!-- End of the dump. -->";

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The store of the document. It is copied while it is open: closing would checkpoint its log.
fn make() -> Result<Vec<u8>> {
    // A store that lies idle for a second checkpoints its log by itself. On a machine as slow as that, once more.
    let begun = Instant::now();
    loop {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("example.mst");
        let store = Store::options().page_size(4096).open(&path)?;
        store.write(|tx| {
            tx.table(NOTES)?.insert("apple", "red")?;
            tx.table(NOTES)?.insert("apricot", "orange")?;
            let pages = tx.raw("pages")?;
            (b'1'..=b'6').try_for_each(|n| pages.put(&[b"chapter "[..].to_vec(), vec![n]].concat(), &[n; 900]))
        })?;
        store.checkpoint()?;
        store.write(|tx| tx.raw("pages")?.put(b"cover", &[b'c'; 5000]))?;
        store.checkpoint()?;
        store.write(|tx| {
            tx.table(NOTES)?.remove("apple")?;
            tx.table(NOTES)?.insert("plum", "blue")
        })?;
        let bytes = fs::read(&path).unwrap();
        if store.stats()?.root_sequence == ROOTS {
            return Ok(bytes);
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "the store is checkpointed each time before it is copied");
    }
}

/// The document's dump of a store, and the places of all that differs from store to store: its id,
/// the times, the checksums.
struct Dump<'b> {
    bytes: &'b [u8],
    text: String,
    variable: Vec<Range<usize>>,
    tag: Vec<u8>,
}

impl<'b> Dump<'b> {
    fn number(&self, at: usize, len: usize) -> u64 {
        self.bytes[at..at + len].iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte))
    }

    fn size(&self, at: usize, len: usize) -> usize {
        usize::try_from(self.number(at, len)).unwrap()
    }

    fn heading(&mut self, title: impl Display) {
        let closed = if self.text.is_empty() { "" } else { "```\n\n" };
        write!(self.text, "{closed}**{title}**\n\n```text\n").unwrap();
    }

    /// A field, shown as it lies there; a long one shortened.
    fn show(&mut self, at: usize, len: usize, meaning: impl Display) -> u64 {
        let meaning = meaning.to_string();
        for (row, bytes) in self.bytes[at..at + len].chunks(16).take(2).enumerate() {
            let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let more = if row == 1 && len > 32 { " …" } else { "" };
            let said = if row == 0 { &meaning } else { "" };
            let line = format!("{:08x}  {:<47}{more}  {said}", at + row * 16, hex.join(" "));
            writeln!(self.text, "{}", line.trim_end()).unwrap();
        }
        if len <= 8 { self.number(at, len) } else { 0 }
    }

    /// A number, shown with its value.
    fn value(&mut self, at: usize, len: usize, meaning: &str) -> u64 {
        let value = self.number(at, len);
        self.show(at, len, format!("{meaning}: {value}"))
    }

    /// A field that is another one in every store.
    fn varies(&mut self, at: usize, len: usize, meaning: impl Display) {
        self.variable.push(at..at + len);
        self.show(at, len, meaning);
    }

    /// A pointer: page and CRC. Gives the page.
    fn pointer(&mut self, at: usize, meaning: &str) -> usize {
        let page = self.size(at, 4);
        self.variable.push(at + 4..at + 8);
        let target = if page == 0 { "none".to_owned() } else { format!("page {page}, and the CRC in its header") };
        self.show(at, 8, format!("{meaning}: {target}"));
        let crc = if page == 0 { 0 } else { self.number(page * PAGE, 4) };
        assert_eq!(self.number(at + 4, 4), crc, "the CRC of the pointer at {at:#x} is that of page {page}");
        page
    }

    fn whole(bytes: &'b [u8]) -> Dump<'b> {
        let mut dump = Dump { bytes, text: String::new(), variable: Vec::new(), tag: bytes[80..84].to_vec() };
        let sequence = |slot: usize| dump.number(slot * 4096 + 96, 8);
        let newest = usize::from(sequence(1) > sequence(0));
        let mut older = Dump { text: String::new(), variable: Vec::new(), tag: dump.tag.clone(), ..dump };
        older.root(1 - newest);
        dump.variable.append(&mut older.variable);
        dump.root(newest);
        dump.log();
        dump.text.push_str("```\n");
        dump.variable.sort_by_key(|range| range.start);
        dump
    }

    fn root(&mut self, slot: usize) {
        let at = slot * 4096;
        assert_eq!(self.bytes[at..at + 2048], self.bytes[at + 2048..at + 4096], "both copies are the same");
        self.heading(format_args!("Root slot {}, its first copy", ["A", "B"][slot]));
        self.show(at, 8, "magic: memstone");
        self.value(at + 8, 4, "format version");
        self.value(at + 12, 2, "bytes of this copy");
        self.show(at + 14, 1, "kind of the checksum: 1, CRC-32");
        self.value(at + 15, 1, "bytes of the checksum");
        let crc = |range: Range<usize>| u64::from(crc32fast::hash(&self.bytes[range]));
        assert_eq!(self.number(at + 16, 4), crc(at..at + 16));
        assert_eq!(self.number(at + 20, 4), crc(at + 52..at + 2048));
        assert!(self.bytes[at + 24..at + 52].iter().all(|byte| *byte == 0));
        self.show(at + 16, 4, "CRC-32 of bytes 0..16");
        self.varies(at + 20, 4, "CRC-32 of bytes 52..2048");
        self.show(at + 24, 28, "room for a longer checksum");
        self.value(at + 52, 4, "page size");
        self.value(at + 56, 8, "features, incompatible");
        self.value(at + 64, 8, "features, compatible with reading");
        self.value(at + 72, 8, "features, ignorable");
        self.varies(at + 80, 16, "store id");
        self.value(at + 96, 8, "root sequence");
        self.value(at + 104, 8, "checkpoint LSN");
        self.value(at + 112, 8, "log position");
        self.varies(at + 120, 4, "CRC of the frame that ends there");
        let segments = self.size(at + 124, 4);
        self.value(at + 124, 4, "log segments");
        self.value(at + 128, 8, "offset of the log position in the first segment");
        let directory = self.pointer(at + 136, "free map's directory");
        let pending = self.pointer(at + 144, "pending list");
        self.value(at + 152, 8, "pages in the file");
        self.varies(at + 160, 8, "time of the checkpoint, µs since 1970");
        self.value(at + 168, 8, "LSN of the newest transaction in the tree");
        self.varies(at + 176, 8, "time of the creation, µs since 1970");
        self.value(at + 184, 4, "application id");
        self.value(at + 188, 4, "version of the lock bytes and the sidecar");
        self.value(at + 192, 4, "next table id");
        self.value(at + 196, 4, "slot");
        for i in 0..segments {
            let (page, pages) = (self.number(at + 200 + 8 * i, 4), self.number(at + 204 + 8 * i, 4));
            self.show(at + 200 + 8 * i, 8, format!("a log segment: {pages} pages from page {page} on"));
        }
        assert!(self.bytes[at + 200 + 8 * segments..at + 712].iter().all(|byte| *byte == 0));
        let catalog = self.pointer(at + 712, "catalog");
        self.value(at + 720, 8, "entries of the catalog");
        self.value(at + 728, 8, "pages of the catalog");
        self.value(at + 736, 8, "bytes of its keys and values");
        self.value(at + 744, 4, "just after its last page");
        assert!(self.bytes[at + 748..at + 2048].iter().all(|byte| *byte == 0));
        // The copy's own variable fields lie as far behind.
        let first: Vec<_> = self.variable.iter().filter(|r| (at..at + 2048).contains(&r.start)).cloned().collect();
        self.variable.extend(first.into_iter().map(|range| range.start + 2048..range.end + 2048));

        let tables = self.tree(catalog, "catalog");
        for (id, row) in tables {
            let id = u32::from_be_bytes(id.try_into().unwrap());
            let page = self.size(row.start, 4);
            let what = if id == 1 { "names table".to_owned() } else { format!("table {id}") };
            self.tree(page, &what);
        }
        if directory != 0 {
            self.header(directory, "directory of the free map");
            let at = directory * PAGE + 40;
            let region = self.pointer(at, "region 0");
            self.value(at + 8, 4, "free pages in it");
            self.value(at + 12, 4, "zero");
            self.header(region, "region 0 of the free map");
            let at = region * PAGE + 40;
            self.show(at, 16, "a bit for each page, the lowest first; 1: free");
        }
        if pending != 0 {
            self.header(pending, "pending list");
            let at = pending * PAGE + 40;
            let parts = self.size(at, 4);
            self.value(at, 4, "parts");
            let parts: Vec<usize> = (0..parts).map(|i| self.pointer(at + 4 + 8 * i, "part")).collect();
            self.groups(pending, at + 4 + 8 * parts.len());
            for part in parts {
                self.header(part, "part of the pending list");
                self.groups(part, part * PAGE + 40);
            }
        }
    }

    /// Groups of pending pages, from a place on to the end of the payload of a run.
    fn groups(&mut self, page: usize, mut at: usize) {
        while at < page * PAGE + 40 + self.size(page * PAGE + 32, 8) {
            self.value(at, 8, "written for version (birth)");
            self.value(at + 8, 8, "not in the tree from version (freed)");
            let count = self.size(at + 16, 4);
            self.value(at + 16, 4, "runs");
            for i in 0..count {
                let (page, run) = (self.number(at + 20 + 8 * i, 4), self.number(at + 24 + 8 * i, 4));
                self.show(at + 20 + 8 * i, 8, format!("{run} page(s) from page {page} on"));
            }
            at += 20 + 8 * count;
        }
    }

    /// The 40 bytes that start every run. Gives the kind.
    fn header(&mut self, page: usize, what: &str) -> u64 {
        let at = page * PAGE;
        let run = self.size(at + 28, 4);
        let kind = self.number(at + 12, 1);
        let kinds = ["", "leaf", "branch", "overflow", "free region", "free directory", "pending", "pending part"];
        let name = kinds[usize::try_from(kind).unwrap()];
        self.heading(format_args!("Page {page}: {what} ({name})"));
        // A long value has a CRC for its head, and one for each chunk.
        let covered = if kind == 3 { self.head(page).0 } else { run * PAGE };
        assert_eq!(self.number(at, 4), u64::from(crc32fast::hash(&self.bytes[at + 4..at + covered])), "{what}");
        assert_eq!(self.bytes[at + 8..at + 12], self.tag);
        self.varies(at, 4, if kind == 3 { "CRC-32 of the rest of the head" } else { "CRC-32 of the rest of the run" });
        self.value(at + 4, 4, "page");
        self.varies(at + 8, 4, "first four bytes of the store id");
        self.show(at + 12, 1, format!("kind: {kind}, {name}"));
        self.value(at + 13, 1, "level");
        self.value(at + 14, 2, if kind == 1 { "layout" } else { "zero" });
        self.value(at + 16, 8, "version");
        self.value(at + 24, 4, "table");
        self.value(at + 28, 4, if kind == 3 { "pages in the first extent" } else { "pages in this run" });
        if kind > 2 {
            self.value(at + 32, 8, if kind == 3 { "length of the value" } else { "length of the payload" });
        } else {
            self.value(at + 32, 2, if kind == 1 { "entries" } else { "children" });
            self.value(at + 34, 2, "length of the common prefix");
            self.value(at + 36, 4, "end");
        }
        kind
    }

    /// How long the head of a long value is, and how many chunks the value has.
    fn head(&self, page: usize) -> (usize, usize) {
        let len = self.size(page * PAGE + 32, 8);
        let head = |chunks: usize| (40 + 4 * chunks).next_multiple_of(64);
        let chunks = (1..).find(|chunks| head(*chunks) + len <= chunks << 16).unwrap();
        (head(chunks), chunks)
    }

    /// A number of seven bits in each byte, and where it ends.
    fn varint(&self, at: usize) -> (usize, usize) {
        let len = self.bytes[at..].iter().take_while(|byte| **byte >= 0x80).count() + 1;
        let number =
            self.bytes[at..at + len].iter().rev().fold(0, |number, byte| number << 7 | usize::from(byte & 0x7f));
        (number, at + len)
    }

    /// A whole tree. Gives its keys, and where their values lie.
    fn tree(&mut self, page: usize, what: &str) -> Vec<(Vec<u8>, Range<usize>)> {
        if self.header(page, what) == 2 {
            let children = self.children(page);
            return children.into_iter().flat_map(|child| self.tree(child, what)).collect();
        }
        let (found, long) = self.entries(page, what);
        long.into_iter().for_each(|page| self.long_value(page, what));
        found
    }

    /// The rest of a branch. Gives its children.
    fn children(&mut self, page: usize) -> Vec<usize> {
        let at = page * PAGE;
        let (count, prefix) = (self.size(at + 32, 2), self.size(at + 34, 2));
        let m = count - 1;
        let heads = at + 40 + prefix;
        self.show(at + 40, prefix, format!("prefix: \"{}\"", text(&self.bytes[at + 40..heads])));
        self.show(heads, 4 * m, "heads: the separators' next four bytes, as big-endian numbers");
        self.show(heads + 4 * m, 2 * m, "offsets of the suffixes");
        let mut children = Vec::new();
        for child in (heads + 6 * m..).step_by(18).take(count) {
            children.push(self.pointer(child, "child"));
            self.value(child + 8, 6, "entries below it");
            self.value(child + 14, 4, "just after the last page in it and below it");
        }
        let mut start = heads + 6 * m + 18 * count;
        for i in 0..m {
            let last = at + self.size(at + 36, 4);
            let end = if i + 1 < m { at + self.size(heads + 4 * m + 2 * (i + 1), 2) } else { last };
            self.show(start, end - start, format!("suffix {i}: \"{}\"", text(&self.bytes[start..end])));
            start = end;
        }
        children
    }

    /// The rest of a leaf. Gives its keys, where their values lie, and the first pages of those that are long.
    fn entries(&mut self, page: usize, what: &str) -> (Vec<(Vec<u8>, Range<usize>)>, Vec<usize>) {
        let at = page * PAGE;
        let (count, prefix) = (self.size(at + 32, 2), self.size(at + 34, 2));
        let mut found = Vec::new();
        let heads = at + 40 + prefix;
        self.show(at + 40, prefix, format!("prefix: \"{}\"", text(&self.bytes[at + 40..heads])));
        self.show(heads, 4 * count, "heads: the keys' first four bytes after the prefix, as big-endian numbers");
        let (behind, uniform) = (heads + 4 * count, self.number(at + 14, 2) == 1);
        let kinds = ["the value itself", "the pointer to a long value"];
        if uniform {
            self.value(behind, 2, "length of each suffix");
            let word = self.size(behind + 2, 4);
            self.show(
                behind + 2,
                4,
                format!("length of each value: {}; kind {}: {}", word / 4, word % 4, kinds[word % 4]),
            );
        } else {
            self.show(behind, 2 * count, "offsets of the entries");
        }
        let (mut long, mut end) = (Vec::new(), behind + 6);
        for i in 0..count {
            let (suffix, word, rest) = if uniform {
                (self.size(behind, 2), self.size(behind + 2, 4), end)
            } else {
                let entry = at + self.size(behind + 2 * i, 2);
                let (suffix, next) = self.varint(entry);
                let (word, rest) = self.varint(next);
                self.show(entry, next - entry, format!("length of the suffix: {suffix}"));
                let kind = kinds[word % 4];
                self.show(next, rest - next, format!("length of the value: {}; kind {}: {kind}", word / 4, word % 4));
                (suffix, word, rest)
            };
            let (value, size) = (rest + suffix.saturating_sub(4), word / 4);
            end = value + size;
            let head: Vec<u8> = self.bytes[heads + 4 * i..heads + 4 * i + 4].iter().rev().copied().collect();
            let key = [&self.bytes[at + 40..heads], &head[..suffix.min(4)], &self.bytes[rest..value]].concat();
            writeln!(self.text, "{:57}  key: \"{}\"", "", text(&key)).unwrap();
            self.show(rest, value - rest, "rest of the suffix");
            if word % 4 == 1 {
                let tail = self.size(value + 12, 4);
                assert_eq!(size, 24 + tail, "one extent");
                long.push(self.pointer(value, "long value"));
                self.value(value + 8, 4, "bytes of the value in its pages");
                self.value(value + 12, 4, "bytes of its tail");
                self.value(value + 16, 8, "version");
                self.show(value + 24, tail, "the tail");
            } else {
                self.short_value(value, size, what);
            }
            found.push((key, value..value + size));
        }
        (found, long)
    }

    /// A value in a leaf.
    fn short_value(&mut self, value: usize, size: usize, what: &str) {
        if what == "catalog" {
            self.pointer(value, "its tree");
            self.value(value + 8, 8, "entries");
            self.value(value + 16, 8, "pages");
            self.value(value + 24, 8, "bytes of keys and values");
            self.value(value + 32, 4, "just after its last page");
        } else if what == "names table" {
            self.value(value, 4, "table id");
            let mut at = value + 4;
            for kind in ["key", "value"] {
                let len = self.size(at, 2);
                self.value(at, 2, "length of the name");
                self.show(at + 2, len, format!("{kind} type: {}", text(&self.bytes[at + 2..at + 2 + len])));
                at += 2 + len;
            }
        } else {
            self.show(value, size, "value");
        }
    }

    /// The pages of a long value.
    fn long_value(&mut self, page: usize, what: &str) {
        self.header(page, what);
        let (head, chunks) = self.head(page);
        let (at, len) = (page * PAGE, self.size(page * PAGE + 32, 8));
        let end = (head + len).next_multiple_of(PAGE);
        for chunk in 0..chunks {
            let covered = at + head.max(chunk << 16)..at + end.min((chunk + 1) << 16);
            let crc = self.number(at + 40 + 4 * chunk, 4);
            assert_eq!(crc, u64::from(crc32fast::hash(&self.bytes[covered])));
            self.value(at + 40 + 4 * chunk, 4, &format!("CRC-32 of chunk {chunk}"));
        }
        self.show(at + 40 + 4 * chunks, head - 40 - 4 * chunks, "zeros up to a multiple of 64");
        self.show(at + head, len, "the value up to its tail");
    }

    /// Every frame, of all laps, in the first segment.
    fn log(&mut self) {
        let mut previous = 0;
        for at in (12288..12288 + 64 * 1024).step_by(8) {
            if self.bytes[at..at + 4] != *b"mlf1" {
                continue;
            }
            let (len, operations) = (self.size(at + 56, 4), self.number(at + 60, 4));
            let covered = [&self.tag, &self.bytes[at + 8..at + 64 + len]].concat();
            assert_eq!(self.number(at + 4, 4), u64::from(crc32fast::hash(&covered)));
            assert_eq!(self.number(at + 8, 4), previous, "the chain");
            previous = self.number(at + 4, 4);
            let (lsn, kind) = (self.number(at + 16, 8), self.number(at + 12, 1));
            self.heading(format_args!("Log frame of LSN {lsn}"));
            self.show(at, 4, "magic: mlf1");
            self.varies(at + 4, 4, "CRC-32 of the store tag and bytes 8 to the payload's end");
            self.varies(at + 8, 4, "CRC of the frame before");
            self.show(at + 12, 1, format!("kind: {kind}, {}", ["", "commit", "rotate"][kind as usize]));
            self.value(at + 13, 1, "flags");
            self.value(at + 14, 2, "reserved");
            self.value(at + 16, 8, "LSN");
            self.value(at + 24, 8, "log position");
            self.value(at + 32, 8, "newest root known durable");
            self.value(at + 40, 8, "newest LSN known durable");
            self.varies(at + 48, 8, "commit time, µs since 1970");
            self.value(at + 56, 4, "length of the payload");
            self.value(at + 60, 4, "operations");
            let mut op = at + 64;
            for _ in 0..operations {
                let (code, table, key) = (self.number(op, 1), self.number(op + 1, 4), self.size(op + 5, 2));
                let name = ["", "put", "delete"][code as usize];
                self.show(op, 5, format!("operation: {code}, {name}; table: {table}"));
                self.value(op + 5, 2, "length of the key");
                op += 7;
                let size = if code == 1 { self.size(op, 4) } else { 0 };
                if code == 1 {
                    self.value(op, 4, "length of the value");
                    op += 4;
                }
                self.show(op, key, format!("key: \"{}\"", text(&self.bytes[op..op + key])));
                self.show(op + key, size, "value");
                op += key + size;
            }
            assert_eq!(op, at + 64 + len);
        }
    }

    /// The store's bytes without what differs from store to store.
    fn constant(&self) -> Vec<u8> {
        let mut bytes = self.bytes.to_vec();
        self.variable.iter().for_each(|range| bytes[range.clone()].fill(0));
        bytes
    }
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

#[test]
fn the_document_shows_the_bytes_of_the_store() {
    let (fixture, page) = (project("tests/fixtures/format-2.store"), project("docs/FILE_FORMAT.md"));
    let bless = std::env::var_os("MEMSTONE_BLESS").is_some();
    if bless {
        fs::write(&fixture, make().unwrap()).unwrap();
    }
    let bytes = fs::read(&fixture).unwrap();
    let document = fs::read_to_string(&page).unwrap();
    let (before, rest) = document.split_once(BEGIN).unwrap();
    let (shown, after) = rest.split_once(END).unwrap();
    let dump = Dump::whole(&bytes).text;
    if bless {
        fs::write(&page, format!("{before}{BEGIN}\n{dump}\n{END}{after}")).unwrap();
    } else {
        assert!(shown.trim() == dump.trim(), "the dump in docs/FILE_FORMAT.md is not that of the fixture:\n{dump}");
    }
}

#[test]
fn a_store_made_today_has_the_same_bytes() {
    let old = fs::read(project("tests/fixtures/format-2.store")).unwrap();
    let new = make().unwrap();
    let (old, new) = (Dump::whole(&old), Dump::whole(&new));
    assert_eq!(new.variable, old.variable);
    assert_eq!(new.bytes.len(), old.bytes.len());
    let (a, b) = (old.constant(), new.constant());
    let differs: Vec<usize> = (0..a.len()).filter(|at| a[*at] != b[*at]).take(10).collect();
    assert!(differs.is_empty(), "the bytes at {differs:x?} are others than in the fixture");
}

#[test]
fn a_store_of_format_2_is_read_and_written() -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("old.mst");
    fs::copy(project("tests/fixtures/format-2.store"), &path).unwrap();
    for reading_only in [true, false, false] {
        let store = Store::options().read_only(reading_only).open(&path)?;
        let snapshot = store.read()?;
        let notes = snapshot.table(NOTES)?;
        assert_eq!((notes.get("apple")?, notes.get("apricot")?), (None, Some("orange".to_owned())));
        assert_eq!(notes.get("plum")?, Some("blue".to_owned()));
        let pages = snapshot.raw("pages")?;
        assert_eq!(pages.len()?, 7);
        assert_eq!(pages.get(b"chapter 4")?.unwrap(), &[b'4'; 900]);
        assert_eq!(pages.get(b"cover")?.unwrap(), &[b'c'; 5000]);
        drop(snapshot);
        if !reading_only {
            store.write(|tx| tx.raw("more")?.put(b"k", b"v"))?;
        }
        store.close()?;
    }
    Ok(())
}
