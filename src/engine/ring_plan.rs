//! How a new root lays out the log.

use crate::disk::root::{MAX_SEGMENTS, Root, Segment};
use crate::engine::MIN_LOG_PAGES;
use crate::log::reader::Point;
use crate::log::ring::Ring;

/// The ring as the new root will have it.
pub(crate) struct RingPlan {
    pub(crate) segments: Vec<Segment>,
    pub(crate) offset: u64,
    pub(crate) position: u64,
    page_size: u64,
}

impl RingPlan {
    pub(crate) fn new(base: &Root, end: Point) -> RingPlan {
        let position = end.end.max(base.log_position);
        let (segments, offset) = Ring::new(base).rotated(position);
        RingPlan { segments, offset, position, page_size: u64::from(base.page_size) }
    }

    fn bytes(&self, segments: &[Segment]) -> u64 {
        segments.iter().map(|s| u64::from(s.pages)).sum::<u64>() * self.page_size
    }

    /// Appends a segment to the ring. No live frame may lie beyond the end of the present segments: there the
    /// ring wraps into the part of the first segment before the log position.
    pub(crate) fn extend(&mut self, segment: Segment, tail: Point, end: Point) -> bool {
        if tail == end {
            // Nothing is live: the ring may start anywhere.
            self.restart();
        }
        let fits = self.segments.len() < MAX_SEGMENTS
            && self.offset + (tail.end.max(self.position) - self.position) <= self.bytes(&self.segments);
        if fits {
            self.segments.push(segment);
        }
        fits
    }

    /// Continues the log at the start of the first segment.
    fn restart(&mut self) {
        self.position = self.position.next_multiple_of(self.page_size);
        self.offset = 0;
    }

    /// Keeps one segment that is large enough, the log being empty; returns the rest.
    pub(crate) fn shrink(&mut self) -> Vec<Segment> {
        let enough = |s: &&Segment| s.pages >= MIN_LOG_PAGES;
        let Some(kept) = self.segments.iter().filter(enough).min_by_key(|s| (s.pages, s.page)).copied() else {
            return Vec::new();
        };
        let gone: Vec<_> = self.segments.iter().filter(|s| **s != kept).copied().collect();
        if !gone.is_empty() {
            self.segments = vec![kept];
            self.restart();
        }
        gone
    }
}
