//! The rows: keys and values as pure functions of a row number, and the model that says what a store must answer.

#[path = "../../../tests/common/random.rs"]
mod random;

pub use random::Random;

/// A key: 24 bytes without any order or common prefix.
pub type Key = [u8; 24];
/// A value: 150 incompressible bytes.
pub type Value = [u8; 150];

pub fn key(row: u64) -> Key {
    let mut key = [0; 24];
    Random(row.wrapping_mul(0xd134_2543_de82_ef95)).fill(&mut key);
    key
}

/// The value of a row; `generation` tells an overwritten value from the first.
pub fn value(row: u64, generation: u8) -> Value {
    let mut value = [0; 150];
    Random(row ^ (u64::from(generation) << 56) ^ 0x5eed).fill(&mut value);
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
