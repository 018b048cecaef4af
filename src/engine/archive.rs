//! Archiving the log's transactions before a checkpoint frees their space.
//!
//! The engine does not know where they go: it passes on what the file says of an archive, and a layer above the
//! engine takes the transactions, in order, while CHECKPOINT is held. A checkpoint never fails because of the
//! archive: what could not be archived shows in the archive itself, since the next batch does not connect to its
//! end.

use crate::change::Change;
use crate::disk::format::SETTING_ARCHIVE;
use crate::disk::platform::FileId;
use crate::disk::root::Root;
use crate::engine::Engine;
use crate::engine::changes::Changes;
use crate::engine::view::View;
use crate::error::{Error, Result};
use crate::log::frame::{FrameKind, Operation};
use crate::log::reader::{Frame, LogReader, Point};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// An archive of transactions. It is called by the holder of CHECKPOINT, before the root is written that allows
/// their space to be reused.
pub(crate) trait Archive: fmt::Debug + Send + Sync {
    /// Archives all transactions of a batch, durably.
    fn keep(&self, batch: &Batch<'_>) -> Result<()>;

    /// Archives a transaction that is too large for the log, durably, before its root is
    /// written. It counts once `confirm` was called, or once a later batch is based on that root.
    fn keep_large(&self, large: &LargeTransaction<'_>) -> Result<()>;

    /// The transaction last passed to `keep_large` is committed.
    fn confirm(&self, lsn: u64) -> Result<()>;

    /// Why the last batch was not archived.
    fn trouble(&self) -> Option<String>;
}

/// What one checkpoint takes out of the log.
pub(crate) struct Batch<'a> {
    engine: &'a Engine,
    view: &'a View,
    archive: Arc<dyn Archive>,
    /// What the file says of its archive.
    pub(crate) setting: Vec<u8>,
    /// The end of what the checkpoint applies, which is durable.
    pub(crate) end: Point,
    /// The sequence and the time of the root being made.
    pub(crate) sequence: u64,
    pub(crate) time: u64,
    /// Every transaction with an earlier time is in this batch or in an earlier one.
    pub(crate) covered: u64,
    /// The batch is archived even if it holds no transaction.
    pub(crate) always: bool,
}

/// A transaction that is too large for the log. It follows a batch.
pub(crate) struct LargeTransaction<'a> {
    pub(crate) batch: &'a Batch<'a>,
    pub(crate) lsn: u64,
    changes: &'a Changes,
}

/// A frame of the batch; its changes follow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeptFrame {
    pub(crate) lsn: u64,
    pub(crate) crc: u32,
    /// When it was committed, in microseconds since 1970.
    pub(crate) time: u64,
    /// `false` for a checkpoint record.
    pub(crate) is_transaction: bool,
}

/// What a transaction changes in a table, with all of its value: beyond the engine there are no pages.
#[derive(Debug, Clone, Copy)]
pub(crate) enum KeptChange<'a> {
    Put { key: &'a [u8], value: &'a [u8] },
    Delete { key: &'a [u8] },
    Drop,
}

/// Receives the frames of a batch in the order of their LSNs, drops of tables first.
pub(crate) trait Keep {
    /// Whether the changes of this frame are wanted.
    fn frame(&mut self, frame: KeptFrame) -> Result<bool>;
    fn change(&mut self, table: u32, change: KeptChange<'_>) -> Result<()>;
}

impl<'a> Batch<'a> {
    /// The batch of a checkpoint; `None` if the file names no archive, or this process has none. `begun` is the
    /// time before the checkpoint record was appended.
    /// `always`: even a batch without a transaction is archived.
    pub(crate) fn new(
        engine: &'a Engine,
        view: &'a View,
        end: Point,
        root: &Root,
        begun: u64,
        always: bool,
    ) -> Result<Option<Batch<'a>>> {
        let Some(archive) = engine.settings.archive.clone() else { return Ok(None) };
        let Some(setting) = view.archive_setting()? else { return Ok(None) };
        let (sequence, time) = (root.sequence, root.time);
        Ok(Some(Batch { engine, view, archive, setting, end, sequence, time, covered: begun, always }))
    }

    /// Archives the batch. A failure does not fail the checkpoint.
    pub(crate) fn keep(&self) {
        if let Err(error) = self.archive.keep(self) {
            crate::trace::warn!(%error, lsn = self.end.lsn, "the log is applied without being archived");
        }
    }

    /// Archives a transaction that is too large for the log, and that follows the batch with this LSN.
    pub(crate) fn keep_large(&self, changes: &Changes, lsn: u64) {
        if let Err(error) = self.archive.keep_large(&LargeTransaction { batch: self, lsn, changes }) {
            crate::trace::warn!(%error, lsn, "a large transaction is not archived");
        }
    }

    pub(crate) fn confirm(&self, lsn: u64) {
        if let Err(error) = self.archive.confirm(lsn) {
            crate::trace::warn!(%error, lsn, "the archive does not say yet that a large transaction is committed");
        }
    }

    /// The root that the checkpoint builds on.
    pub(crate) fn base(&self) -> &Root {
        &self.view.tree.root
    }

    pub(crate) fn store_id(&self) -> [u8; 16] {
        self.engine.store_id
    }

    pub(crate) fn file(&self) -> FileId {
        self.engine.disk.identity()
    }

    pub(crate) fn path(&self) -> &Path {
        self.engine.path()
    }

    /// The newest transaction in the batch, or before it.
    pub(crate) fn last_commit(&self) -> u64 {
        self.view.last_commit
    }

    /// Reads all frames from the base root up to the checkpoint record.
    pub(crate) fn read(&self, keep: &mut dyn Keep) -> Result<()> {
        let engine = self.engine;
        let start = Point::start_of(self.base());
        let mut reader = LogReader::new(&*engine.disk, &self.view.ring, engine.store_tag, start);
        while reader.point().lsn < self.end.lsn {
            let Some(frame) = reader.next()? else {
                let lsn = reader.point().lsn;
                return Err(Error::Internal(format!("the log ends with LSN {lsn} before its checkpoint record")));
            };
            self.read_frame(&frame, keep)?;
        }
        Ok(())
    }

    fn read_frame(&self, frame: &Frame, keep: &mut dyn Keep) -> Result<()> {
        let (header, crc) = (&frame.header, frame.after.crc);
        let is_transaction = header.kind == FrameKind::Commit;
        if !keep.frame(KeptFrame { lsn: header.lsn, crc, time: header.time, is_transaction })? {
            return Ok(());
        }
        frame.operations.iter().try_for_each(|operation| match operation {
            Operation::Change { table, key, change } => {
                self.keep_change(keep, *table, key.of(&frame.bytes), &change.map(|value| value.of(&frame.bytes)))
            }
            Operation::DropTable { table } => keep.change(*table, KeptChange::Drop),
        })
    }

    /// Passes on what becomes of a key. A long value is read: an archive has no pages.
    fn keep_change<V: AsRef<[u8]>>(
        &self,
        keep: &mut dyn Keep,
        table: u32,
        key: &[u8],
        change: &Change<V>,
    ) -> Result<()> {
        match change {
            Change::Put(value) => keep.change(table, KeptChange::Put { key, value: value.as_ref() }),
            Change::PutOverflow(long) => {
                let value = self.view.tree.pages.overflow(long, table)?;
                keep.change(table, KeptChange::Put { key, value: &value })
            }
            Change::Delete => keep.change(table, KeptChange::Delete { key }),
        }
    }
}

impl LargeTransaction<'_> {
    pub(crate) fn read(&self, keep: &mut dyn Keep) -> Result<()> {
        let LargeTransaction { batch, lsn, changes } = *self;
        keep.frame(KeptFrame { lsn, crc: batch.end.crc, time: batch.time, is_transaction: true })?;
        changes.dropped.iter().try_for_each(|table| keep.change(*table, KeptChange::Drop))?;
        changes.kept_tables().try_for_each(|(table, keys)| {
            keys.iter().try_for_each(|(key, change)| batch.keep_change(keep, table, key, change))
        })
    }
}

impl View {
    /// What this state says of the store's archive.
    pub(crate) fn archive_setting(&self) -> Result<Option<Vec<u8>>> {
        self.setting(SETTING_ARCHIVE)
    }
}
