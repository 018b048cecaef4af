//! Inspecting a store, whole or damaged: roots, pages, the log, free pages. Nothing is changed, and nothing is
//! locked: beside live writers the parts may be from different moments.

use std::path::Path;

use super::format::file::{Expect, File};
use super::format::frames::{KIND_COMMIT, Ring};
use super::format::node::{self, Value};
use super::format::pages::describe;
use super::format::slots::{Content, Root, Slots};
use super::format::space::Unused;
use crate::disk::format::{
    KIND_BRANCH, KIND_FREE_DIRECTORY, KIND_FREE_REGION, KIND_LEAF, KIND_OVERFLOW, KIND_PENDING, KIND_PENDING_PART,
};
use crate::disk::platform::Disk;
use crate::disk::unix::{OpenMode, UnixDisk};
use crate::error::{Error, Result};

/// One of the four copies of the root slots.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RootCopy {
    /// Where it lies.
    pub offset: u64,
    /// What is wrong with it, or that it was never written; `None` if it is whole.
    pub broken: Option<String>,
    /// The root's sequence; this and what follows is 0 if the copy is not whole.
    pub sequence: u64,
    /// LSN up to which the log is in the tree.
    pub checkpoint_lsn: u64,
    /// When, in microseconds since 1970.
    pub checkpoint_time_us: u64,
    /// Where the log continues.
    pub log_position: u64,
    /// Page of the catalog's root.
    pub catalog: u32,
    /// Page of the free map's directory.
    pub free_map: u32,
    /// Page of the pending list.
    pub pending: u32,
    /// Pages in the file.
    pub pages: u64,
}

/// A page, as its own header describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PageView {
    /// Its number.
    pub page: u32,
    /// Its kind, or what is wrong with it.
    pub kind: String,
    /// Level in the tree.
    pub level: u8,
    /// Sequence of the root that it was written for.
    pub version: u64,
    /// Id of its table.
    pub table: u32,
    /// Pages of the run that starts here.
    pub pages: u32,
    /// Keys and values of a leaf, separators and children of a branch; bytes that are not printable ASCII as `\xNN`.
    pub entries: Vec<(String, String)>,
}

/// A frame of the log's chain.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct FrameView {
    /// Its LSN.
    pub lsn: u64,
    /// Where it lies in the file.
    pub offset: u64,
    /// Its position in the log.
    pub position: u64,
    /// Whether it is a transaction; otherwise it is the mark of a checkpoint.
    pub is_commit: bool,
    /// Its operations.
    pub operations: u32,
    /// Its bytes, with the header.
    pub bytes: u64,
    /// The newest LSN that was known to be durable when it was written.
    pub durable_lsn: u64,
    /// The newest root then.
    pub root_sequence: u64,
    /// When it was committed, in microseconds since 1970.
    pub time_us: u64,
}

/// Pages that the newest root does not use: from a page, and how many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct FreePages {
    /// Free.
    pub free: Vec<(u64, u64)>,
    /// No longer used by the newest root, but kept for snapshots of older versions.
    pub pending: Vec<(u64, u64)>,
    /// Parts of the free map that cannot be read, and why.
    pub broken: Vec<String>,
}

fn open(path: &Path) -> Result<UnixDisk> {
    UnixDisk::open(path, OpenMode { read_only: true, create: false })
}

fn newest(disk: &dyn Disk) -> Result<(File<'_>, Root)> {
    let found = "no root slot is whole".to_owned();
    let none = || Error::NotAStore { path: disk.path().to_path_buf(), found };
    let root = Slots::read(disk)?.newest().ok_or_else(none)?;
    let len = disk.len().map_err(|source| Error::io("stat", disk.path(), source))?;
    let page_size = u64::from(root.page_size);
    let file = root.file(disk, len / page_size);
    Ok((file, root))
}

/// The four copies of the root slots.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("memory.mst");
/// # memstone::Store::open(&path)?;
/// let copies = memstone::root_copies(&path)?;
/// assert!(copies.iter().any(|copy| copy.broken.is_none() && copy.sequence > 0));
/// # Ok::<(), memstone::Error>(())
/// ```
///
/// # Errors
/// [`Error::NotFound`], [`Error::NotAStore`], [`Error::Format`], [`Error::Io`].
pub fn root_copies(path: impl AsRef<Path>) -> Result<Vec<RootCopy>> {
    let copies = Slots::read(&open(path.as_ref())?)?.copies;
    let none = |offset, broken: &str| RootCopy {
        offset,
        broken: Some(broken.to_owned()),
        sequence: 0,
        checkpoint_lsn: 0,
        checkpoint_time_us: 0,
        log_position: 0,
        catalog: 0,
        free_map: 0,
        pending: 0,
        pages: 0,
    };
    let copy = |(offset, content): (u64, Content)| match content {
        Content::Zero => none(offset, "never written"),
        Content::Broken(why) => none(offset, &why),
        Content::Whole(root) => RootCopy {
            offset,
            broken: None,
            sequence: root.sequence,
            checkpoint_lsn: root.checkpoint_lsn,
            checkpoint_time_us: root.commit_time,
            log_position: root.log_position,
            catalog: root.catalog.ptr.page,
            free_map: root.directory.page,
            pending: root.pending.page,
            pages: root.page_count,
        },
    };
    Ok(copies.into_iter().map(copy).collect())
}

/// A page, whether or not anything refers to it.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("memory.mst");
/// let store = memstone::Store::open(&path)?;
/// store.write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
/// store.checkpoint()?;
/// let newest = memstone::root_copies(&path)?.into_iter().max_by_key(|copy| copy.sequence).unwrap();
/// let page = memstone::page_view(&path, newest.catalog)?;
/// assert_eq!((page.page, page.level), (newest.catalog, 0));
/// assert!(!page.entries.is_empty(), "{}", page.kind);
/// # Ok::<(), memstone::Error>(())
/// ```
///
/// # Errors
/// As [`root_copies`]; [`Error::Invalid`] if there is no such page.
pub fn page_view(path: impl AsRef<Path>, page: u32) -> Result<PageView> {
    let disk = open(path.as_ref())?;
    let (file, _) = newest(&disk)?;
    file.within(page, 1).map_err(Error::Invalid)?;
    let mut bytes = vec![0; file.page_size as usize];
    let nothing = |kind: String| PageView { page, kind, level: 0, version: 0, table: 0, pages: 1, entries: Vec::new() };
    if let Err(why) = file.read(&mut bytes, file.offset(page)) {
        return Ok(nothing(why));
    }
    let Some(told) = describe(&bytes, page, file.store_tag) else {
        return Ok(nothing("not the start of a run: a part of one, of the log, or free".to_owned()));
    };
    let (kind, kinds): (&str, &'static [u8]) = match told.kind {
        KIND_LEAF => ("leaf", &[KIND_LEAF]),
        KIND_BRANCH => ("branch", &[KIND_BRANCH]),
        KIND_OVERFLOW => ("long value", &[KIND_OVERFLOW]),
        KIND_FREE_REGION => ("free region", &[KIND_FREE_REGION]),
        KIND_FREE_DIRECTORY => ("free directory", &[KIND_FREE_DIRECTORY]),
        KIND_PENDING => ("pending list", &[KIND_PENDING]),
        _ => ("part of the pending list", &[KIND_PENDING_PART]),
    };
    let expect = Expect { kinds, table: told.table, version: u64::MAX };
    let found = if told.kind == KIND_OVERFLOW {
        file.verify_found(&bytes, &told, expect).map(|()| Vec::new())
    } else {
        file.run(told.ptr, expect, file.pages).and_then(|run| entries(&run, told.kind))
    };
    let (kind, entries) = match found {
        Ok(entries) => (kind.to_owned(), entries),
        Err(why) => (format!("{kind}, damaged: {why}"), Vec::new()),
    };
    Ok(PageView { page, kind, level: told.level, version: told.version, table: told.table, pages: told.pages, entries })
}

fn entries(run: &[u8], kind: u8) -> Result<Vec<(String, String)>, String> {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    match kind {
        KIND_LEAF => {
            let value = |value: &Value<'_>| match value {
                Value::Inline(bytes) => text(bytes),
                Value::Long(long) if long.tail.is_empty() => {
                    format!("{} bytes at page {}", long.len(), long.pages.ptr.page)
                }
                Value::Long(long) => {
                    let (len, page, tail) = (long.len(), long.pages.ptr.page, long.tail.len());
                    format!("{len} bytes: the last {tail} here, those before at page {page}")
                }
            };
            Ok(node::leaf(run)?.iter().map(|(key, v)| (text(key), value(v))).collect())
        }
        KIND_BRANCH => {
            let branch = node::branch(run)?;
            let from = std::iter::once(String::new()).chain(branch.separators.iter().map(text));
            Ok(from.zip(&branch.children).map(|(key, child)| (key, format!("page {}", child.ptr.page))).collect())
        }
        _ => Ok(Vec::new()),
    }
}

/// The frames that are not in the newest root's tree, in order.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("memory.mst");
/// let store = memstone::Store::open(&path)?;
/// store.write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
/// let frames = memstone::log_frames(&path)?;
/// let last = frames.iter().rev().find(|frame| frame.is_commit).unwrap();
/// assert_eq!(last.lsn, store.last_commit()?);
/// # Ok::<(), memstone::Error>(())
/// ```
///
/// # Errors
/// As [`root_copies`].
pub fn log_frames(path: impl AsRef<Path>) -> Result<Vec<FrameView>> {
    let disk = open(path.as_ref())?;
    let (file, root) = newest(&disk)?;
    let Ok(ring) = Ring::new(&root) else { return Ok(Vec::new()) };
    let (mut position, mut lsn, mut crc) = (root.log_position, root.checkpoint_lsn, root.log_crc);
    let mut frames = Vec::new();
    while let Ok(Some(frame)) = ring.next(&file, position, lsn.saturating_add(1), crc) {
        (position, lsn, crc) = (frame.end(), frame.lsn(), frame.crc());
        frames.push(FrameView {
            lsn,
            offset: ring.locate(frame.position).0,
            position: frame.position,
            is_commit: frame.kind() == KIND_COMMIT,
            operations: frame.operations(),
            bytes: frame.bytes.len() as u64,
            durable_lsn: frame.durable_lsn(),
            root_sequence: frame.root_sequence(),
            time_us: frame.commit_time(),
        });
    }
    Ok(frames)
}

/// The pages that the newest root calls free, or pending.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("memory.mst");
/// # memstone::Store::open(&path)?.write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
/// let pages = memstone::free_pages(&path)?;
/// assert!(pages.broken.is_empty());
/// println!("{} pages are free", pages.free.iter().map(|(_, count)| count).sum::<u64>());
/// # Ok::<(), memstone::Error>(())
/// ```
///
/// # Errors
/// As [`root_copies`].
pub fn free_pages(path: impl AsRef<Path>) -> Result<FreePages> {
    let disk = open(path.as_ref())?;
    let (file, root) = newest(&disk)?;
    let Unused { free, pending, broken } = Unused::read(&file, &root);
    let broken = broken.into_iter().map(|(page, why)| format!("page {page}: {why}")).collect();
    Ok(FreePages { free, pending, broken })
}
