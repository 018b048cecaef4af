//! A set of pages.

/// Pages in a chunk.
const CHUNK: u32 = 1 << 15;

/// Pages, one bit for each; chunks without any cost nothing.
#[derive(Clone, Default)]
pub(super) struct Bits {
    chunks: Vec<Option<Box<[u64]>>>,
}

impl Bits {
    /// Adds pages.
    pub(super) fn add(&mut self, page: u32, run: u32) {
        for page in page..page.saturating_add(run) {
            let (chunk, at) = ((page / CHUNK) as usize, page % CHUNK);
            if self.chunks.len() <= chunk {
                self.chunks.resize_with(chunk + 1, || None);
            }
            if let Some(place) = self.chunks.get_mut(chunk) {
                let words = place.get_or_insert_with(|| vec![0; CHUNK as usize / 64].into_boxed_slice());
                if let Some(word) = words.get_mut(at as usize / 64) {
                    *word |= 1 << (at % 64);
                }
            }
        }
    }

    pub(super) fn has(&self, page: u32) -> bool {
        let chunk = self.chunks.get((page / CHUNK) as usize).and_then(Option::as_ref);
        let word = chunk.and_then(|words| words.get((page % CHUNK) as usize / 64)).copied().unwrap_or(0);
        word >> (page % 64) & 1 == 1
    }
}
