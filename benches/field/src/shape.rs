//! Shapes of data: their keys and values as pure functions of a row number, and what happens to them, stage by stage.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::data::{Random, digest};

#[derive(Clone, Copy, PartialEq, Debug, ValueEnum, Serialize, Deserialize)]
pub enum Shape {
    /// JSON texts of 500 to 3,000 bytes; keys are UUIDs as text, in random order.
    Documents,
    /// Vectors of 6,150 bytes; keys are 16 random bytes.
    Vectors,
    /// Values of 8 bytes; keys are 8 random bytes.
    Pairs,
    /// Values of 40 bytes; keys are paths of 80 bytes with long common prefixes, in random order.
    Paths,
    /// Values of 100 bytes; keys are ascending numbers of 8 bytes.
    Ascending,
}

/// What happens to a store between two measurements; a batch is one transaction.
#[derive(Clone, Copy)]
pub enum Stage {
    /// All rows are inserted.
    Fill { batch: usize },
    /// A fifth of the rows, at random, gets new values.
    Overwrite { batch: usize },
    /// Every second row in the order of keys is removed.
    Remove { batch: usize },
}

impl Shape {
    /// The rows of the full size.
    pub fn rows(self) -> usize {
        match self {
            Shape::Documents => 100_000,
            Shape::Vectors => 30_000,
            Shape::Paths => 500_000,
            Shape::Pairs | Shape::Ascending => 1_000_000,
        }
    }

    pub fn stages(self) -> &'static [Stage] {
        use Stage::{Fill, Overwrite, Remove};
        match self {
            Shape::Documents => &[Fill { batch: 100 }, Overwrite { batch: 10 }, Remove { batch: 1000 }],
            Shape::Vectors => &[Fill { batch: 100 }],
            Shape::Pairs | Shape::Paths => &[Fill { batch: 1000 }],
            Shape::Ascending => &[Fill { batch: 1000 }, Overwrite { batch: 100 }],
        }
    }

    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    fn description(self) -> &'static str {
        match self {
            Shape::Documents => "JSON texts of 500 to 3,000 bytes, UUID keys",
            Shape::Vectors => "vectors of 6,150 bytes, random keys of 16",
            Shape::Pairs => "values of 8 bytes, random keys of 8",
            Shape::Paths => "values of 40 bytes, paths of 80 as keys",
            Shape::Ascending => "values of 100 bytes, ascending keys of 8",
        }
    }
}

impl Stage {
    pub fn batch(self) -> usize {
        match self {
            Stage::Fill { batch } | Stage::Overwrite { batch } | Stage::Remove { batch } => batch,
        }
    }

    /// The title of the line of a table that says what this stage has left.
    pub fn title(self, shape: Shape, rows: usize) -> String {
        let (name, batch) = (shape.name(), self.batch());
        match self {
            Stage::Fill { .. } => format!("{name}: {rows} {}, batches of {batch}", shape.description()),
            Stage::Overwrite { .. } => format!("{name}, a fifth overwritten, batches of {batch}"),
            Stage::Remove { .. } => format!("{name}, half removed, batches of {batch}"),
        }
    }
}

/// All rows of one shape, and which of them a store must hold.
pub struct Rows {
    shape: Shape,
    /// The order in which rows come whose keys have an order of their own.
    order: Vec<usize>,
    words: Vec<String>,
    /// For each row the generation of its value, or nothing.
    held: Vec<Option<u8>>,
}

impl Rows {
    pub fn new(shape: Shape, rows: usize) -> Rows {
        let order = if shape == Shape::Paths { shuffled(rows, 3) } else { Vec::new() };
        let words = if shape == Shape::Documents { vocabulary() } else { Vec::new() };
        Rows { shape, order, words, held: vec![None; rows] }
    }

    pub fn key(&self, row: usize) -> Vec<u8> {
        let mut random = Random((row as u64).wrapping_mul(0xd134_2543_de82_ef95));
        match self.shape {
            Shape::Documents => uuid(&mut random).into_bytes(),
            Shape::Vectors => random.bytes(16),
            Shape::Pairs => random.bytes(8),
            Shape::Paths => path(self.order[row]).into_bytes(),
            Shape::Ascending => (row as u64).to_be_bytes().to_vec(),
        }
    }

    /// The value of a row; `generation` tells an overwritten value from the first.
    pub fn value(&self, row: usize, generation: u8) -> Vec<u8> {
        let mut random = Random(row as u64 ^ (u64::from(generation) << 56) ^ 0x5eed);
        match self.shape {
            Shape::Documents => self.document(&mut random),
            Shape::Vectors => vector(&mut random),
            Shape::Pairs => random.bytes(8),
            Shape::Paths => random.bytes(40),
            Shape::Ascending => random.bytes(100),
        }
    }

    /// The rows that a stage changes, in its order, with the generation that each has afterwards.
    pub fn changes(&self, stage: Stage) -> Vec<(usize, Option<u8>)> {
        let rows = self.held.len();
        match stage {
            Stage::Fill { .. } => (0..rows).map(|row| (row, Some(0))).collect(),
            Stage::Overwrite { .. } => shuffled(rows, 4).into_iter().take(rows / 5).map(|row| (row, Some(1))).collect(),
            Stage::Remove { .. } => {
                let mut rows: Vec<usize> = self.held().map(|(row, _)| row).collect();
                rows.sort_by_cached_key(|&row| self.key(row));
                rows.into_iter().skip(1).step_by(2).map(|row| (row, None)).collect()
            }
        }
    }

    pub fn note(&mut self, changes: &[(usize, Option<u8>)]) {
        changes.iter().for_each(|&(row, generation)| self.held[row] = generation);
    }

    /// The sum of everything that is held.
    pub fn total(&self) -> Total {
        let mut total = Total::default();
        self.held().for_each(|(row, generation)| total.add(&self.key(row), &self.value(row, generation)));
        total
    }

    fn held(&self) -> impl Iterator<Item = (usize, u8)> {
        self.held.iter().enumerate().filter_map(|(row, held)| held.map(|generation| (row, generation)))
    }

    /// A record as an application keeps it: some short fields, and a text that fills it up to its length.
    fn document(&self, random: &mut Random) -> Vec<u8> {
        let length = 500 + random.below(2501);
        let (id, parent) = (uuid(random), uuid(random));
        let (day, millisecond) = (random.below(365), random.below(86_400_000));
        let score = random.below(10_000);
        let mut text = format!(
            "{{\"id\":\"{id}\",\"parent\":\"{parent}\",\"kind\":\"note\",\"day\":{day},\"millisecond\":{millisecond},\
             \"score\":0.{score:04},\"tags\":[\"{}\",\"{}\"],\"author\":\"{}\",\"text\":\"",
            self.word(random),
            self.word(random),
            self.word(random)
        );
        while text.len() < length - 2 {
            text += self.word(random);
            text += if random.one_in(12) { ". " } else { " " };
        }
        text.truncate(length - 2);
        text += "\"}";
        text.into_bytes()
    }

    /// A word. Every octave of ranks is as likely as the others, so that a few words are frequent, as in a language.
    fn word(&self, random: &mut Random) -> &str {
        let octave = random.below(self.words.len().ilog2());
        &self.words[(1 << octave) + random.below(1usize << octave)]
    }
}

/// How many rows there are, their bytes, and a checksum of them in any order.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Total {
    pub rows: u64,
    pub bytes: u64,
    sum: u64,
}

impl Total {
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        self.rows += 1;
        self.bytes += (key.len() + value.len()) as u64;
        self.sum = self.sum.wrapping_add((digest(key) ^ digest(value).rotate_left(32)).wrapping_mul(0x9e37_79b9));
    }
}

fn shuffled(count: usize, seed: u64) -> Vec<usize> {
    let mut random = Random(seed);
    let mut numbers: Vec<usize> = (0..count).collect();
    (1..count).for_each(|last| numbers.swap(last, random.below(last + 1)));
    numbers
}

/// 4,096 words of two to four syllables.
fn vocabulary() -> Vec<String> {
    const STARTS: [&str; 16] = ["b", "c", "d", "f", "g", "l", "m", "n", "p", "r", "s", "t", "v", "st", "tr", "sh"];
    const ENDS: [&str; 16] =
        ["a", "e", "i", "o", "u", "an", "er", "in", "on", "al", "es", "ed", "ing", "ou", "ent", "ar"];
    let mut random = Random(5);
    let mut word = || -> String {
        (0..2 + random.below(3)).map(|_| format!("{}{}", STARTS[random.below(16)], ENDS[random.below(16)])).collect()
    };
    (0..4096).map(|_| word()).collect()
}

fn uuid(random: &mut Random) -> String {
    let (high, low) = (random.next(), random.next());
    let (time, version, end) = (high >> 32, (high >> 16) & 0xffff, high & 0xfff);
    let (variant, node) = ((low >> 48) & 0x3fff | 0x8000, low & 0xffff_ffff_ffff);
    format!("{time:08x}-{version:04x}-4{end:03x}-{variant:04x}-{node:012x}")
}

/// 80 bytes; 250 items to a collection, four collections to a project, ten projects to a tenant.
fn path(item: usize) -> String {
    const COLLECTIONS: [&str; 4] = ["memories", "messages", "documents", "events"];
    let (tenant, project, collection) = (item / 10_000, item / 1000 % 10, COLLECTIONS[item / 250 % 4]);
    let month = 1 + item % 250 / 21;
    let folder =
        format!("tenant-{tenant:04}/project-{project:04}/collection-{collection}/year-2026/month-{month:02}/item-");
    format!("{folder}{item:0width$}", width = 80 - folder.len())
}

/// A header of 6 bytes, and 1,536 numbers between -1 and 1.
fn vector(random: &mut Random) -> Vec<u8> {
    let mut bytes = b"f32\x01\x00\x06".to_vec();
    for _ in 0..1536 {
        let number = random.below(1u64 << 24) as f32 / (1 << 23) as f32 - 1.0;
        bytes.extend(number.to_le_bytes());
    }
    bytes
}
