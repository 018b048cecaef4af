//! The rows: keys and values as pure functions of a row number, and the model that says what a store must answer.

/// A key: 24 bytes without any order or common prefix.
pub type Key = [u8; 24];
/// A value: 150 incompressible bytes.
pub type Value = [u8; 150];

/// Splitmix64: small, seeded, and the same on every machine.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }
}

pub fn key(row: u64) -> Key {
    let mut key = [0; 24];
    Random::new(row.wrapping_mul(0xd134_2543_de82_ef95)).fill(&mut key);
    key
}

/// The value of a row; `generation` tells an overwritten value from the first.
pub fn value(row: u64, generation: u8) -> Value {
    let mut value = [0; 150];
    Random::new(row ^ (u64::from(generation) << 56) ^ 0x5eed).fill(&mut value);
    value
}

/// A checksum that needs every byte, so that no engine gains by handing out values it has not read.
pub fn digest(bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(bytes.len() as u64, |sum, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        (sum.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(0x517c_c1b7_2722_0a95)
    })
}

/// What the store holds: for each row the generation of its value, or nothing.
#[derive(Default)]
pub struct Model {
    rows: Vec<Option<u8>>,
}

impl Model {
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn set(&mut self, row: usize, generation: Option<u8>) {
        if self.rows.len() <= row {
            self.rows.resize(row + 1, None);
        }
        self.rows[row] = generation;
    }

    /// The digest of a row's value; 0 if it is not there.
    pub fn digest(&self, row: usize) -> u64 {
        self.rows[row].map_or(0, |generation| digest(&value(row as u64, generation)))
    }

    /// The rows that are there, in the order of their keys.
    pub fn sorted(&self) -> Vec<usize> {
        let mut rows: Vec<usize> = (0..self.len()).filter(|&row| self.rows[row].is_some()).collect();
        rows.sort_unstable_by_key(|&row| key(row as u64));
        rows
    }
}
