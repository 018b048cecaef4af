//! Vectors: how they are stored, and how alike two are.

use crate::memory::error::{MemoryError, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// No vector has more elements.
pub(super) const MAX_DIMENSION: u32 = 65_536;
/// As many sums are kept at once: the elements of one step fill a vector register of any machine.
const LANES: usize = 16;

/// How the elements of vectors are stored. Callers give and get `f32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Format {
    /// 32 bits, exactly what was given.
    F32,
    /// 16 bits: 11 significant bits, up to 65,504.
    F16,
    /// 8 bits: 127 steps up to the largest element of the vector, which is stored beside them.
    I8,
}

/// How alike two vectors are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Metric {
    /// The cosine of the angle between them, from -1 to 1. 0 if one of them is zero.
    Cosine,
    /// The dot product.
    Dot,
    /// The negative of the Euclidean distance, so that more is nearer.
    L2,
}

/// What the vectors of one name are like.
///
/// ```
/// use memstone::memory::{Format, Metric, Space};
/// let space = Space::new(768).format(Format::F16).metric(Metric::Dot);
/// assert_eq!((space.to_string().as_str(), space.dimension()), ("768 × F16, Dot", 768));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Space {
    dimension: u32,
    format: Format,
    metric: Metric,
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} × {:?}, {:?}", self.dimension, self.format, self.metric)
    }
}

impl Space {
    /// Vectors of so many elements, stored as `f32` and compared by their cosine.
    #[must_use]
    pub const fn new(dimension: u32) -> Space {
        Space { dimension, format: Format::F32, metric: Metric::Cosine }
    }

    /// Stores the elements in this way.
    #[must_use]
    pub const fn format(mut self, format: Format) -> Space {
        self.format = format;
        self
    }

    /// Compares vectors in this way.
    #[must_use]
    pub const fn metric(mut self, metric: Metric) -> Space {
        self.metric = metric;
        self
    }

    /// The number of elements.
    #[must_use]
    pub const fn dimension(&self) -> u32 {
        self.dimension
    }

    pub(super) fn check(&self) -> Result<()> {
        if (1..=MAX_DIMENSION).contains(&self.dimension) {
            return Ok(());
        }
        Err(MemoryError::invalid("space", format!("a dimension of {}, not 1 to {MAX_DIMENSION}", self.dimension)))
    }

    fn check_vector(&self, vector: &[f32]) -> Result<()> {
        let wrong = |reason| Err(MemoryError::Invalid { what: "vector", reason });
        if vector.len() != self.dimension as usize {
            return wrong(format!("{} elements, and the space has {}", vector.len(), self.dimension));
        }
        match vector.iter().position(|x| !x.is_finite()) {
            Some(at) => wrong(format!("element {at} is not a finite number")),
            None => Ok(()),
        }
    }

    /// The bytes of a row.
    pub(super) fn encode(&self, vector: &[f32]) -> Result<Vec<u8>> {
        self.check_vector(vector)?;
        match self.format {
            Format::F32 => Ok(vector.iter().flat_map(|x| x.to_le_bytes()).collect()),
            Format::F16 => {
                if let Some(at) = vector.iter().position(|x| x.abs() >= 65_520.0) {
                    return Err(MemoryError::invalid("vector", format!("element {at} is too large for 16 bits")));
                }
                Ok(vector.iter().flat_map(|x| to_half(*x).to_le_bytes()).collect())
            }
            Format::I8 => {
                let largest = vector.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
                let near = largest / 127.0;
                // A vector that was read from a space like this becomes the same row again: dividing may have rounded.
                let is_exact = |scale: &f32| vector.iter().all(|x| step(to_step(*x, *scale), *scale) == *x);
                let scale = [near, near.next_up(), near.next_down()].into_iter().find(is_exact).unwrap_or(near);
                let steps = vector.iter().map(|x| to_step(*x, scale));
                Ok(scale.to_le_bytes().into_iter().chain(steps).collect())
            }
        }
    }

    /// The vector of a row; `None` if it has another length.
    pub(super) fn decode(&self, row: &[u8]) -> Option<Vec<f32>> {
        let vector: Vec<f32> = match self.format {
            Format::F32 => row.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Format::F16 => row.as_chunks().0.iter().map(|b| from_half(u16::from_le_bytes(*b))).collect(),
            Format::I8 => {
                let (scale, steps) = row.split_first_chunk()?;
                let scale = f32::from_le_bytes(*scale);
                steps.iter().map(|b| step(*b, scale)).collect()
            }
        };
        (vector.len() == self.dimension as usize && row.len() == self.row_size()).then_some(vector)
    }

    /// The length of each row.
    pub(super) fn row_size(&self) -> usize {
        let dimension = self.dimension as usize;
        match self.format {
            Format::F32 => dimension * 4,
            Format::F16 => dimension * 2,
            Format::I8 => dimension + 4,
        }
    }

    /// What compares rows with this vector.
    pub(super) fn query(&self, vector: &[f32]) -> Result<VectorQuery> {
        self.check_vector(vector)?;
        let square = vector.iter().map(|x| x * x).sum::<f32>();
        Ok(VectorQuery { space: *self, vector: vector.to_vec(), length: square.sqrt() })
    }
}

/// A vector that rows of a space are compared with.
pub(super) struct VectorQuery {
    space: Space,
    vector: Vec<f32>,
    length: f32,
}

impl VectorQuery {
    /// How alike the row is; `None` if it is not a row of the space.
    pub(super) fn score(&self, row: &[u8]) -> Option<f32> {
        if row.len() != self.space.row_size() {
            return None;
        }
        Some(match self.space.format {
            Format::F32 => self.compare(row, 1.0, f32::from_le_bytes),
            Format::F16 => self.compare(row, 1.0, |bytes| from_half(u16::from_le_bytes(bytes))),
            Format::I8 => {
                let (scale, steps) = row.split_first_chunk()?;
                self.compare(steps, f32::from_le_bytes(*scale), |byte| f32::from(i8::from_le_bytes(byte)))
            }
        })
    }

    #[inline(always)]
    fn compare<const N: usize>(&self, row: &[u8], scale: f32, decode: impl Fn([u8; N]) -> f32) -> f32 {
        match self.space.metric {
            Metric::Dot => sums(&self.vector, row, decode, |sum, _, q, x| *sum += q * x).0 * scale,
            Metric::L2 => {
                let square = |sum: &mut f32, _: &mut f32, q: f32, x: f32| *sum += (q - x * scale) * (q - x * scale);
                -sums(&self.vector, row, decode, square).0.sqrt()
            }
            Metric::Cosine => {
                let both = |dot: &mut f32, square: &mut f32, q: f32, x: f32| {
                    *dot += q * x;
                    *square += x * x;
                };
                let (dot, square) = sums(&self.vector, row, decode, both);
                let lengths = self.length * square.sqrt();
                if lengths > 0.0 { dot / lengths } else { 0.0 }
            }
        }
    }
}

/// Two sums over the elements of a vector and a row. The sums of each lane are independent, so that the compiler makes
/// vector instructions of them.
#[inline(always)]
fn sums<const N: usize>(
    vector: &[f32],
    row: &[u8],
    decode: impl Fn([u8; N]) -> f32,
    add: impl Fn(&mut f32, &mut f32, f32, f32),
) -> (f32, f32) {
    let (mut first, mut second) = ([0.0_f32; LANES], [0.0_f32; LANES]);
    let (blocks, rest) = vector.as_chunks::<LANES>();
    let (row_blocks, row_rest) = row.as_chunks::<N>().0.as_chunks::<LANES>();
    for (block, row) in blocks.iter().zip(row_blocks) {
        let row = row.map(&decode);
        for (((q, x), a), b) in block.iter().zip(row).zip(&mut first).zip(&mut second) {
            add(a, b, *q, x);
        }
    }
    for (((q, x), a), b) in rest.iter().zip(row_rest).zip(&mut first).zip(&mut second) {
        add(a, b, *q, decode(*x));
    }
    (first.iter().sum(), second.iter().sum())
}

/// The nearest step, as a byte.
#[expect(clippy::cast_possible_truncation, reason = "it is clamped to the range first")]
fn to_step(x: f32, scale: f32) -> u8 {
    let step = if scale > 0.0 { (x / scale).round().clamp(-127.0, 127.0) } else { 0.0 };
    (step as i8).to_le_bytes()[0]
}

/// The element of a step.
fn step(step: u8, scale: f32) -> f32 {
    f32::from(i8::from_le_bytes([step])) * scale
}

/// The nearest number of 16 bits, to even if there are two. Too large ones become infinite.
#[expect(clippy::cast_possible_truncation, reason = "16 bits are left after the shifts")]
fn to_half(x: f32) -> u16 {
    let bits = x.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let magnitude = bits & 0x7fff_ffff;
    if magnitude >= 0x4780_0000 {
        return sign | 0x7c00;
    }
    if magnitude < 0x3880_0000 {
        // Below the normal numbers: adding a half aligns the bits, and rounds them as the machine rounds sums.
        let aligned = f32::from_bits(magnitude) + 0.5;
        return sign | (aligned.to_bits() - 0.5_f32.to_bits()) as u16;
    }
    let odd = (magnitude >> 13) & 1;
    sign | ((magnitude - 0x3800_0000 + 0x0fff + odd) >> 13) as u16
}

/// Infinite numbers and NaN come out as large numbers: none is stored.
#[inline(always)]
fn from_half(half: u16) -> f32 {
    // 2^112 is the difference of the two exponents' biases.
    let magnitude = f32::from_bits(u32::from(half & 0x7fff) << 13) * f32::from_bits(0x7780_0000);
    f32::from_bits(magnitude.to_bits() | (u32::from(half & 0x8000) << 16))
}
