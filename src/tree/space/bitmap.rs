//! A bit for each page of the file, set when the page is free, and the search for free runs.

/// No file has more pages; so positions, and the ends of words, fit into 32 bits.
pub(super) const MAX_PAGES: u32 = u32::MAX - 63;

/// Runs up to this length have their own search hint; longer ones share one for each power of two.
const EXACT: u32 = 16;
/// `EXACT` hints, then one for each of 2^5 ..= 2^31.
const CLASSES: usize = EXACT as usize + 27;

/// The hint that a search for `run` pages uses.
fn class(run: u32) -> usize {
    let class = if run < 2 * EXACT { run.clamp(1, EXACT) - 1 } else { EXACT + run.ilog2() - 5 };
    class as usize
}

/// Shortest run that the searches of each class look for.
const SHORTEST: [u32; CLASSES] = {
    let mut out = [1; CLASSES];
    let mut at = 1;
    while at < CLASSES {
        let run = if at < EXACT as usize { at + 1 } else { 1 << (at - EXACT as usize + 5) };
        #[expect(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "evaluated by the compiler")]
        {
            out[at] = run as u32;
        }
        at += 1;
    }
    out
};

/// Words and masks that make up the bits `start..end`.
fn masks(start: u32, end: u32) -> impl Iterator<Item = (usize, u64)> {
    (start / 64..end.div_ceil(64)).map(move |word| {
        let low = start.saturating_sub(word * 64);
        let high = (end - word * 64).min(64);
        (word as usize, (u64::MAX << low) & (u64::MAX >> (64 - high)))
    })
}

#[derive(Clone)]
pub(super) struct Bitmap {
    words: Vec<u64>,
    len: u32,
    free: u32,
    /// For each class: no free run of at least its shortest length starts below this page. Allocating pages keeps
    /// that true; only freeing pages lowers a hint. So searches do not scan the full part of the file again and
    /// again.
    hints: [u32; CLASSES],
}

impl Bitmap {
    /// All pages used.
    pub(super) fn new(len: u32) -> Bitmap {
        Bitmap { words: vec![0; len.div_ceil(64) as usize], len, free: 0, hints: [0; CLASSES] }
    }

    pub(super) fn len(&self) -> u32 {
        self.len
    }

    pub(super) fn free(&self) -> u32 {
        self.free
    }

    /// The words from `first` on, at most `count`; the file's last region has fewer.
    pub(super) fn words(&self, first: usize, count: usize) -> &[u64] {
        let first = first.min(self.words.len());
        self.words.get(first..(first + count).min(self.words.len())).unwrap_or_default()
    }

    /// Loads words from disk; `false` if a bit is set at or beyond the end.
    pub(super) fn load(&mut self, first: usize, words: impl Iterator<Item = u64>) -> bool {
        let used_in_last = self.len % 64;
        let last = self.words.len().saturating_sub(1);
        for (at, bits) in (first..).zip(words) {
            let beyond = if at == last && used_in_last != 0 { u64::MAX << used_in_last } else { 0 };
            match self.words.get_mut(at) {
                Some(word) if bits & beyond == 0 => {
                    *word = bits;
                    self.free += bits.count_ones();
                }
                None if bits == 0 => {}
                _ => return false,
            }
        }
        true
    }

    /// The lowest start of `run` free pages, which are not allocated yet.
    pub(super) fn find(&mut self, run: u32) -> Option<u32> {
        let (hint, shortest) = self.hints.get_mut(class(run)).zip(SHORTEST.get(class(run)))?;
        let (mut at, mut first) = (*hint, None);
        let found = loop {
            let start = seek(&self.words, at, self.len, true);
            if start == self.len {
                break None;
            }
            let end = seek(&self.words, start, start.saturating_add(run).min(self.len), false);
            if end - start >= *shortest {
                first.get_or_insert(start);
            }
            if end - start >= run {
                break Some(start);
            }
            at = end;
        };
        *hint = first.unwrap_or(self.len);
        found
    }

    /// How many pages from this one on are free, at most `most`.
    pub(super) fn run_at(&self, page: u32, most: u32) -> u32 {
        seek(&self.words, page, page.saturating_add(most).min(self.len), false) - page
    }

    pub(super) fn all_free(&self, page: u32, run: u32) -> bool {
        let Some(end) = page.checked_add(run).filter(|end| *end <= self.len) else { return false };
        seek(&self.words, page, end, false) == end
    }

    pub(super) fn any_free(&self, page: u32, run: u32) -> bool {
        let end = page.saturating_add(run).min(self.len);
        page < end && seek(&self.words, page, end, true) != end
    }

    pub(super) fn take(&mut self, page: u32, run: u32) {
        debug_assert!(self.all_free(page, run), "pages {page}+{run} are taken twice");
        for (word, mask) in masks(page, page.saturating_add(run).min(self.len)) {
            if let Some(word) = self.words.get_mut(word) {
                self.free -= (*word & mask).count_ones();
                *word &= !mask;
            }
        }
    }

    pub(super) fn give(&mut self, page: u32, run: u32) {
        debug_assert!(!self.any_free(page, run), "pages {page}+{run} are freed twice");
        debug_assert!(u64::from(page) + u64::from(run) <= u64::from(self.len), "pages {page}+{run} do not exist");
        for (word, mask) in masks(page, page.saturating_add(run).min(self.len)) {
            if let Some(word) = self.words.get_mut(word) {
                self.free += (!*word & mask).count_ones();
                *word |= mask;
            }
        }
        // A run that becomes long enough only now starts less than its length before `page`: one that starts
        // earlier would have been long enough without these pages.
        for (hint, shortest) in self.hints.iter_mut().zip(SHORTEST) {
            *hint = (*hint).min(page.saturating_sub(shortest - 1));
        }
    }

    /// Free pages at the very end.
    pub(super) fn tail(&self) -> u32 {
        let mut used = self.len;
        for (at, word) in self.words.iter().enumerate().rev() {
            let above = 64 * (at + 1) - used as usize;
            // Bits at and above `used` count as free here, so that the last word needs no special case.
            let bits = !(word | if above == 0 { 0 } else { u64::MAX << (64 - above) });
            used -= bits.leading_zeros() - u32::try_from(above).unwrap_or(0);
            if bits != 0 {
                break;
            }
        }
        self.len - used
    }

    /// Adds free pages at the end.
    pub(super) fn grow(&mut self, len: u32) {
        let old = self.len;
        if len > old {
            self.words.resize(len.div_ceil(64) as usize, 0);
            self.len = len;
            self.give(old, len - old);
        }
    }

    /// Cuts pages off the end, all of them free.
    pub(super) fn shrink(&mut self, len: u32) {
        if len < self.len {
            self.take(len, self.len - len);
            self.words.truncate(len.div_ceil(64) as usize);
            self.len = len;
            for hint in &mut self.hints {
                *hint = (*hint).min(len);
            }
        }
    }
}

/// The first page in `from..limit` that is free, or used; `limit` if there is none.
fn seek(words: &[u64], from: u32, limit: u32, free: bool) -> u32 {
    let flip = if free { 0 } else { u64::MAX };
    let mut at = from / 64 * 64;
    let mut mask = u64::MAX << (from % 64);
    for word in words.get(at as usize / 64..).unwrap_or_default() {
        let bits = (word ^ flip) & mask;
        if bits != 0 {
            return limit.min(at + bits.trailing_zeros());
        }
        at += 64;
        if at >= limit {
            break;
        }
        mask = u64::MAX;
    }
    limit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_cover_every_length_from_below() {
        for run in (1..5000).chain([65535, 65536, 65537, u32::MAX]) {
            let shortest = SHORTEST[class(run)];
            assert!(shortest <= run && u64::from(run) < 2 * u64::from(shortest.max(EXACT)), "{run}: {shortest}");
            assert!(run > EXACT || shortest == run);
        }
        assert!(SHORTEST.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn tail_counts_across_words() {
        for len in [1, 63, 64, 65, 128, 200] {
            for used in 0..=len {
                let mut map = Bitmap::new(used);
                map.grow(len);
                assert_eq!(map.tail(), len - used, "{used} of {len}");
                assert_eq!(map.free(), len - used);
            }
        }
    }

    #[test]
    fn bits_beyond_the_end_are_refused() {
        assert!(Bitmap::new(65).load(0, [u64::MAX, 1].into_iter()));
        assert!(!Bitmap::new(65).load(0, [u64::MAX, 2].into_iter()));
        assert!(Bitmap::new(64).load(0, [u64::MAX, 0].into_iter()));
        assert!(!Bitmap::new(64).load(0, [u64::MAX, 1].into_iter()));
    }

    #[test]
    fn the_highest_pages_are_reached() {
        let mut map = Bitmap::new(MAX_PAGES);
        map.give(MAX_PAGES - 130, 130);
        assert_eq!((map.find(130), map.find(131), map.tail()), (Some(MAX_PAGES - 130), None, 130));
        map.take(MAX_PAGES - 130, 129);
        assert_eq!((map.find(1), map.find(2)), (Some(MAX_PAGES - 1), None));
    }
}
