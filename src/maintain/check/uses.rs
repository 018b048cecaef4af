//! What each page is used for: a byte for each, or one for many.

use super::{Place, Walk};

/// Pages in a chunk.
const CHUNK: u32 = 1 << 14;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Use {
    Nothing,
    Slots,
    Log,
    Tree,
    Value,
    /// A long value that only a frame of the log names. To the root its pages are free, or pending:
    /// those that no snapshot needs are free once the root is durable.
    LogValue,
    FreeMap,
    Free,
    Pending,
    /// A page that only named snapshots use. They are noted apart: to the root such a page is pending.
    Named,
}

impl Use {
    pub(super) fn name(self) -> &'static str {
        match self {
            Use::Nothing => "nothing",
            Use::Slots => "the root slots",
            Use::Log => "the log",
            Use::Tree => "a tree",
            Use::Value => "a long value",
            Use::LogValue => "a long value of the log",
            Use::FreeMap => "the free map",
            Use::Free => "the free pages",
            Use::Pending => "the pending pages",
            Use::Named => "a named snapshot",
        }
    }
}

#[derive(Clone)]
enum Chunk {
    /// All pages alike: long runs, which a few hostile bytes can name, cost nothing.
    Uniform(Use),
    Mixed(Box<[Use]>),
}

#[derive(Clone, Default)]
pub(super) struct Uses {
    chunks: Vec<Chunk>,
}

impl Uses {
    pub(super) fn get(&self, page: u32) -> Use {
        match self.chunks.get((page / CHUNK) as usize) {
            Some(Chunk::Uniform(as_what)) => *as_what,
            Some(Chunk::Mixed(pages)) => pages.get((page % CHUNK) as usize).copied().unwrap_or(Use::Nothing),
            None => Use::Nothing,
        }
    }

    /// Gives the pages their use. Pages that have one keep it: then the first of them, its use,
    /// and how many they are come back.
    pub(super) fn claim(&mut self, page: u32, run: u32, as_what: Use) -> Option<(u32, Use, u32)> {
        let end = page.saturating_add(run);
        let count = end.div_ceil(CHUNK) as usize;
        if self.chunks.len() < count {
            self.chunks.resize(count, Chunk::Uniform(Use::Nothing));
        }
        let mut conflict: Option<(u32, Use, u32)> = None;
        let mut note = |page: u32, other: Use, pages: u32| {
            if other != Use::LogValue || !matches!(as_what, Use::Free | Use::Pending) {
                conflict = Some(conflict.map_or((page, other, pages), |(p, u, n)| (p, u, n + pages)));
            }
        };
        for (chunk, first) in
            self.chunks.iter_mut().zip((0..=u32::MAX).step_by(CHUNK as usize)).skip((page / CHUNK) as usize)
        {
            let (from, to) = (page.max(first) - first, end.saturating_sub(first).min(CHUNK));
            if from >= to {
                break;
            }
            match chunk {
                Chunk::Uniform(Use::Nothing) if to - from == CHUNK => *chunk = Chunk::Uniform(as_what),
                Chunk::Uniform(other) if *other != Use::Nothing => note(first + from, *other, to - from),
                Chunk::Uniform(_) => {
                    let mut pages = vec![Use::Nothing; CHUNK as usize].into_boxed_slice();
                    pages.get_mut(from as usize..to as usize).unwrap_or_default().fill(as_what);
                    *chunk = Chunk::Mixed(pages);
                }
                Chunk::Mixed(pages) => {
                    let pages = pages.get_mut(from as usize..to as usize).unwrap_or_default();
                    for (place, page) in pages.iter_mut().zip(first + from..=u32::MAX) {
                        match *place {
                            Use::Nothing => *place = as_what,
                            other => note(page, other, 1),
                        }
                    }
                }
            }
        }
        conflict
    }

    /// Whether a page is pending; from then on it counts as one of a tree.
    pub(super) fn take_pending(&mut self, page: u32) -> bool {
        if self.get(page) != Use::Pending {
            return false;
        }
        let at = (page % CHUNK) as usize;
        let Some(chunk) = self.chunks.get_mut((page / CHUNK) as usize) else { return false };
        if let Chunk::Uniform(all) = *chunk {
            *chunk = Chunk::Mixed(vec![all; CHUNK as usize].into_boxed_slice());
        }
        if let Chunk::Mixed(pages) = chunk
            && let Some(place) = pages.get_mut(at)
        {
            *place = Use::Tree;
        }
        true
    }

    /// Calls `each` for the runs of equal use in the first `pages` pages, in order.
    fn runs(&self, pages: u32, mut each: impl FnMut(u32, u32, Use)) {
        let (mut start, mut current) = (0, self.get(0));
        let mut page = 0;
        while page < pages {
            let here = self.get(page);
            if here != current {
                each(start, page - start, current);
                (start, current) = (page, here);
            }
            let mixed = matches!(self.chunks.get((page / CHUNK) as usize), Some(Chunk::Mixed(_)));
            page = if mixed { page + 1 } else { (page / CHUNK + 1).saturating_mul(CHUNK) };
        }
        if pages > start {
            each(start, pages - start, current);
        }
    }
}

impl Walk<'_, '_> {
    /// Counts the pages by use and tells which have none.
    pub(super) fn judge_uses(&mut self) {
        const TOLD: usize = 8;
        let counts = &mut self.findings.report.pages;
        counts.total = self.root.page_count;
        let mut lost = Vec::new();
        let mut more = false;
        self.uses.runs(self.file.pages, |page, run, as_what| {
            let count = match as_what {
                Use::Nothing => &mut counts.lost,
                Use::Slots => &mut counts.slots,
                Use::Log => &mut counts.log,
                Use::Tree => &mut counts.tree,
                Use::Value | Use::LogValue => &mut counts.values,
                Use::FreeMap => &mut counts.free_map,
                Use::Free => &mut counts.free,
                Use::Pending | Use::Named => &mut counts.pending,
            };
            *count += u64::from(run);
            if as_what == Use::Nothing {
                more |= lost.len() == TOLD;
                if lost.len() < TOLD {
                    lost.push((page, run));
                }
            }
        });
        if let Some((first, _)) = lost.first().copied() {
            let ranges: Vec<String> = lost
                .iter()
                .map(|(page, run)| if *run == 1 { format!("{page}") } else { format!("{page}-{}", page + run - 1) })
                .collect();
            let total = self.findings.report.pages.lost;
            let rest = if more { ", …" } else { "" };
            let message = format!("{total} pages belong to nothing, yet are not free: {}{rest}", ranges.join(", "));
            let place = Place { offset: self.file.offset(first), page: Some(first), table: None };
            self.findings.warning(place, message);
        }
    }
}
