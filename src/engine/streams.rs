//! Long values that a transaction writes to their pages while it runs, so that they are never in memory whole.
//!
//! The transaction takes CHECKPOINT for the first of them and holds it until its frame, which points at them, is in the
//! log, or until it ends without one: no other process knows that these pages are used. In the durable root they are
//! free, or pending, all the time, so a transaction that ends or dies leaves nothing behind.
//!
//! A checkpoint that the transaction itself needs, to make room in the log, keeps these pages apart: it allocates none
//! of them, and they are pending in its root. The values get that root's version then.

use crate::change::Change;
use crate::disk::format::{Extents, Overflow};
use crate::disk::locks::{Deadline, lock};
use crate::engine::Engine;
use crate::engine::changes::{Changes, placed_values};
use crate::engine::checkpoint::CheckpointOptions;
use crate::engine::checkpoint_guard::{CheckpointGuard, ParkedCheckpoint};
use crate::engine::page_writer::{PageWriter, SpaceOfLog};
use crate::engine::view::View;
use crate::engine::writer_queue::WriterGuard;
use crate::error::Result;
use crate::tree::overflow::{OverflowWriter, WHOLE, check_len, renew_overflow};
use crate::tree::update::PageStore;
use std::collections::BTreeSet;

/// Values from this size on are written to pages of their own, if CHECKPOINT is free. Without a tail, for which a frame has
/// no place.
pub(crate) const LONG_VALUE: u64 = WHOLE;

/// What a transaction holds for the values that it streams.
pub(crate) struct Streams {
    turn: ParkedCheckpoint,
    pages: StreamedPages,
}

/// The pages of these values.
#[derive(Default)]
pub(crate) struct StreamedPages {
    pub(crate) extents: Vec<Extents>,
    /// The pages that are free beside them, as of the root that it was read from.
    pub(crate) space: Option<Box<SpaceOfLog>>,
}

impl StreamedPages {
    /// Whether each of them is one that these changes put.
    pub(crate) fn are_all_put(&self, changes: &Changes) -> bool {
        let put: BTreeSet<u32> = placed_values(changes).map(|(_, _, long)| long.ptr.page).collect();
        self.extents.iter().filter_map(|extents| extents.iter().next()).all(|first| put.contains(&first.page))
    }

    /// Bytes of them.
    pub(crate) fn bytes(&self, page_size: u32) -> u64 {
        self.extents.iter().map(|extents| extents.pages() * u64::from(page_size)).sum()
    }
}

/// A value on its way to its pages.
pub(crate) struct Stream(OverflowWriter);

impl Stream {
    /// The next bytes of the value.
    pub(crate) fn write(&mut self, engine: &Engine, bytes: &[u8]) -> Result<()> {
        self.0.write(bytes, &mut |page, bytes| engine.put_pages(page, bytes))
    }

    /// Completes the value, for this table.
    pub(crate) fn finish(self, engine: &Engine, table: u32) -> Result<Overflow> {
        self.0.finish(table, &mut |page, bytes| engine.put_pages(page, bytes))
    }
}

impl Engine {
    /// Begins a value of `len` bytes.
    pub(crate) fn stream(
        &self,
        writer: &WriterGuard,
        streams: &mut Option<Streams>,
        len: u64,
        deadline: Deadline,
    ) -> Result<Stream> {
        check_len(len)?;
        let (turn, mut pages) = match streams.take() {
            Some(Streams { turn, pages }) => (self.take_up_checkpoint(turn), pages),
            None => (self.turn_for_streams(writer, len, deadline)?, StreamedPages::default()),
        };
        let stream = self.place_stream(writer, &turn, &mut pages, len);
        if !pages.extents.is_empty() {
            *streams = Some(Streams { turn: turn.park(), pages });
        }
        stream
    }

    /// CHECKPOINT, for the first value of a transaction. As for other long values, what the log points at stays within
    /// the log's cap if possible.
    fn turn_for_streams(&self, writer: &WriterGuard, len: u64, deadline: Deadline) -> Result<CheckpointGuard<'_>> {
        self.check_writable()?;
        let turn = self.lock_checkpoint(deadline)?;
        let in_log = self.newest_view(writer)?.long_bytes();
        if in_log > 0 && in_log.saturating_add(len) > self.settings.log_cap {
            self.run_checkpoint(&turn, &CheckpointOptions::default(), deadline)?;
        }
        turn.settle_root()?;
        Ok(turn)
    }

    fn place_stream(
        &self,
        writer: &WriterGuard,
        turn: &CheckpointGuard<'_>,
        pages: &mut StreamedPages,
        len: u64,
    ) -> Result<Stream> {
        let view = self.newest_view(writer)?;
        let mut space = self.space_beside(turn, &view, pages)?;
        let count = Overflow::pages(len, self.page_size);
        let extents = space.allocate_extents(u32::try_from(count).unwrap_or(u32::MAX))?;
        pages.extents.push(extents);
        pages.space = Some(space.with_values(std::iter::empty()));
        Ok(Stream(OverflowWriter::new(&view.tree.pages, len, view.tree.root.sequence, extents)))
    }

    /// For the pages of long values that a log frame will point at, beside those that were streamed.
    pub(crate) fn space_beside(
        &self,
        turn: &CheckpointGuard<'_>,
        view: &View,
        streamed: &mut StreamedPages,
    ) -> Result<PageWriter<'_>> {
        let kept = if streamed.extents.is_empty() { lock(&self.space_of_log).take() } else { streamed.space.take() };
        PageWriter::for_log(self, turn, view, kept, &streamed.extents)
    }

    /// CHECKPOINT, and the pages of what was streamed, for the commit.
    pub(crate) fn take_up_streams(&self, streams: Option<Streams>) -> (Option<CheckpointGuard<'_>>, StreamedPages) {
        match streams {
            Some(Streams { turn, pages }) => (Some(self.take_up_checkpoint(turn)), pages),
            None => (None, StreamedPages::default()),
        }
    }

    /// Gives the values that were streamed over an older root the version of this one. A backup relies on it: a value of
    /// an older version than its base is in that base.
    pub(crate) fn renew_streamed(&self, view: &View, changes: &mut Changes) -> Result<()> {
        let version = view.tree.root.sequence;
        let stale = placed_values(changes).filter(|(_, _, long)| long.version != version);
        let stale: Vec<_> = stale.map(|(table, key, long)| (table, key.clone(), long)).collect();
        for (table, key, long) in stale {
            let mut put = |page: u32, bytes: &[u8]| self.put_pages(page, bytes);
            let renewed = renew_overflow(&view.tree.pages, &long, version, &mut put)?;
            changes.set(table, &key, Some(Change::PutOverflow(Box::new(renewed))));
        }
        Ok(())
    }

    fn put_pages(&self, page: u32, bytes: &[u8]) -> Result<()> {
        let offset = u64::from(page) * u64::from(self.page_size);
        self.disk.write_at(bytes, offset).map_err(self.io("write a long value"))?;
        self.disk.start_writeback(offset, bytes.len() as u64);
        Ok(())
    }
}
