//! A valid store whose bytes are changed, and whose checksums are then made right again from the
//! leaves up: pages, the pointers to them, root slots, log frames. Written against the format's
//! description with none of the store's code.

use std::collections::BTreeSet;
use std::sync::LazyLock;

const STORES: [&[u8]; 3] = [
    include_bytes!("../../tests/fixtures/v2/all_pages.mst"),
    include_bytes!("../../tests/fixtures/v2/log_tail.mst"),
    include_bytes!("../../tests/fixtures/v2/closed.mst"),
];

/// A store to be changed, and the places worth changing: start and length.
pub(crate) struct Image {
    pub(crate) bytes: Vec<u8>,
    places: &'static [(usize, usize)],
}

fn u16_at(bytes: &[u8], at: usize) -> usize {
    bytes.get(at..at + 2).map_or(0, |b| usize::from(u16::from_le_bytes([b[0], b[1]])))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at.saturating_add(4)).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

fn set_u32(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}

static PLACES: LazyLock<Vec<Vec<(usize, usize)>>> =
    LazyLock::new(|| STORES.iter().map(|store| places(store)).collect());

/// All runs that the newest root leads to, the slots, and the blocks that frames start in.
fn places(store: &[u8]) -> Vec<(usize, usize)> {
    let mut mender = Mender { bytes: store.to_vec(), seen: BTreeSet::new() };
    mender.slots();
    let mut out = vec![(0, 200), (2048, 200), (4096, 200), (6144, 200)];
    out.extend(mender.seen);
    out.extend((12288..store.len()).step_by(4096).filter(|at| store[*at..].starts_with(b"mlf1")).map(|at| (at, 512)));
    out
}

impl Image {
    pub(crate) fn of(which: u8) -> Image {
        let which = usize::from(which) % STORES.len();
        Image { bytes: STORES[which].to_vec(), places: &PLACES[which] }
    }

    /// Changes up to four bytes: place, offset in it (most often near its start), kind, two values.
    pub(crate) fn change(&mut self, change: &[u8]) {
        let &[place, low, high, kind, a, b] = change else { return };
        let (start, len) = self.places[usize::from(place) % self.places.len()];
        let reach = if high & 0x80 == 0 { len.min(160) } else { len };
        let at = start + usize::from(u16::from_le_bytes([low, high & 0x7f])) % reach;
        let (from, to) = match kind % 4 {
            0 => (at, vec![a]),
            1 => (at, vec![a, b]),
            2 => (at, u32::from(a).wrapping_mul(u32::from(b)).to_le_bytes().to_vec()),
            // The bytes of another place: pointers that lead elsewhere, pages that stand twice.
            _ => {
                let (other, len) = self.places[usize::from(a) % self.places.len()];
                let from = other + usize::from(b) % len;
                let end = (from + 16).min(self.bytes.len());
                (at, self.bytes[from..end].to_vec())
            }
        };
        for (i, byte) in to.into_iter().enumerate() {
            if let Some(place) = self.bytes.get_mut(from + i) {
                *place = byte;
            }
        }
    }

    pub(crate) fn repair(&mut self) {
        let mut mender = Mender { bytes: std::mem::take(&mut self.bytes), seen: BTreeSet::new() };
        mender.slots();
        self.bytes = mender.bytes;
    }
}

struct Mender {
    bytes: Vec<u8>,
    /// Runs already repaired: start and length.
    seen: BTreeSet<(usize, usize)>,
}

impl Mender {
    fn slots(&mut self) {
        for copy in [0, 2048, 4096, 6144] {
            if !self.bytes[copy..].starts_with(b"memstone") {
                continue;
            }
            let page_size = u32_at(&self.bytes, copy + 52) as usize;
            if !page_size.is_power_of_two() || !(4096..=65536).contains(&page_size) {
                continue;
            }
            for pointer in [136, 144, 712] {
                self.pointer(copy + pointer, page_size, 0);
            }
            self.log(copy, page_size);
            for (covered, place) in [(0..16, 16), (52..2048, 20)] {
                let crc = crc32fast::hash(&self.bytes[copy + covered.start..copy + covered.end]);
                set_u32(&mut self.bytes, copy + place, crc);
            }
        }
    }

    /// Mends what the pointer at `at` leads to, then the pointer.
    fn pointer(&mut self, at: usize, page_size: usize, depth: usize) {
        let page = u32_at(&self.bytes, at);
        let start = page as usize * page_size;
        let run = u32_at(&self.bytes, start + 28) as usize;
        let end = start.saturating_add(run.saturating_mul(page_size));
        if start < 12288 || run == 0 || end > self.bytes.len() || depth > 8 {
            return;
        }
        if self.seen.insert((start, end - start)) {
            self.children(start, end, page_size, depth);
            set_u32(&mut self.bytes, start + 4, page);
            let crc = crc32fast::hash(&self.bytes[start + 4..end]);
            set_u32(&mut self.bytes, start, crc);
        }
        let crc = u32_at(&self.bytes, start);
        set_u32(&mut self.bytes, at + 4, crc);
    }

    fn children(&mut self, start: usize, end: usize, page_size: usize, depth: usize) {
        let count = u16_at(&self.bytes, start + 32);
        match self.bytes[start + 12] {
            1 => {
                let catalog = u32_at(&self.bytes, start + 24) == 0;
                for index in 0..count {
                    let entry = start + u16_at(&self.bytes, start + 40 + 4 * count + 2 * index);
                    let word = u16_at(&self.bytes, entry + 2);
                    let value = entry + 4 + u16_at(&self.bytes, entry);
                    if (word & 0x8000 != 0 || catalog) && value + 16 <= end {
                        self.pointer(value, page_size, depth + 1);
                    }
                }
            }
            2 => {
                let first = start + 40 + u16_at(&self.bytes, start + 34) + 6 * count.saturating_sub(1);
                for at in (0..count).map(|index| first + 8 * index).take_while(|at| at + 8 <= end) {
                    self.pointer(at, page_size, depth + 1);
                }
            }
            5 => {
                let len = u64_at(&self.bytes, start + 32).min((end - start - 40) as u64) as usize;
                for at in (start + 40..start + 40 + len / 16 * 16).step_by(16) {
                    self.pointer(at, page_size, depth + 1);
                }
            }
            _ => {}
        }
    }

    /// Mends the chain of frames that starts at a root's log position, as long as headers are found.
    fn log(&mut self, copy: usize, page_size: usize) {
        let segments: Vec<(usize, usize)> = (0..(u32_at(&self.bytes, copy + 124) as usize).min(64))
            .map(|i| copy + 200 + 8 * i)
            .map(|at| (u32_at(&self.bytes, at) as usize * page_size, u32_at(&self.bytes, at + 4) as usize * page_size))
            .collect();
        let total: u64 = segments.iter().map(|(_, len)| *len as u64).sum();
        let (position, offset) = (u64_at(&self.bytes, copy + 112), u64_at(&self.bytes, copy + 128));
        if total == 0 || segments.iter().any(|(start, len)| start + len > self.bytes.len()) || position >= 1 << 62 {
            return;
        }
        let place = |at: u64| -> usize {
            let mut offset = ((offset % total + (at - position) % total) % total) as usize;
            for (start, len) in &segments {
                if offset < *len {
                    return start + offset;
                }
                offset -= len;
            }
            0
        };
        let (mut end, mut crc) = (position, u32_at(&self.bytes, copy + 120));
        let mut lsn = u64_at(&self.bytes, copy + 104);
        let tag = u32_at(&self.bytes, copy + 80);
        for _ in 0..1000 {
            let Some(at) = [end, end.next_multiple_of(page_size as u64)].into_iter().find(|at| {
                let place = place(*at);
                // A frame of an earlier lap stands elsewhere by its own word.
                self.bytes[place..].starts_with(b"mlf1") && u64_at(&self.bytes, place + 24) == *at
            }) else {
                return;
            };
            let len = u64::from(u32_at(&self.bytes, place(at) + 56));
            if at + 64 + len > position + total {
                return;
            }
            lsn += 1;
            for (i, byte) in crc.to_le_bytes().into_iter().enumerate() {
                let place = place(at + 8 + i as u64);
                self.bytes[place] = byte;
            }
            let mut hasher = crc32fast::Hasher::new();
            hasher.update(&tag.to_le_bytes());
            hasher.update(&(8..64 + len).map(|i| self.bytes[place(at + i)]).collect::<Vec<u8>>());
            crc = hasher.finalize();
            for (i, byte) in crc.to_le_bytes().into_iter().enumerate() {
                let place = place(at + 4 + i as u64);
                self.bytes[place] = byte;
            }
            if u64_at(&self.bytes, place(at) + 16) != lsn {
                return;
            }
            end = at + (64 + len).next_multiple_of(8);
        }
    }
}
