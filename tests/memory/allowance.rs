//! What the model knows of limits: quotas as plain comparisons, and a rate as tokens that drip into a bucket.

use crate::support::SECOND;
use memstone::memory::{Item, Limits, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;

/// So long is the time of a rate.
const PER: Duration = SECOND.saturating_mul(20);

/// What a namespace holds: items and bytes.
pub type Held = (u64, u64);

/// The limits of a namespace, and what is left of its rate.
#[derive(Debug, Clone)]
pub struct Allowance {
    pub items: Option<u64>,
    pub bytes: Option<u64>,
    /// How many operations in [`PER`].
    pub rate: Option<u64>,
    pub at_once: u64,
    /// What is in the bucket: a token is as many parts as [`PER`] has microseconds, and each microsecond brings so many
    /// parts as the rate has operations.
    parts: u64,
    since: Timestamp,
}

impl Allowance {
    /// New limits begin with a full bucket.
    pub fn new(now: Timestamp, items: Option<u64>, bytes: Option<u64>, rate: Option<u64>, at_once: u64) -> Allowance {
        Allowance { items, bytes, rate, at_once, parts: rate.unwrap_or(0) * token(), since: now }
    }

    pub fn limits(&self) -> Limits {
        let mut limits = Limits::new().at_once(self.at_once);
        limits = self.items.map_or(limits, |items| limits.items(items));
        limits = self.bytes.map_or(limits, |bytes| limits.bytes(bytes));
        self.rate.map_or(limits, |rate| limits.rate(rate, PER))
    }

    /// Whether a namespace may come to hold so much.
    pub fn has_room(&self, used: Held, then: Held) -> bool {
        let fits = |limit: Option<u64>, used, then| limit.is_none_or(|limit| then <= limit || then <= used);
        fits(self.items, used.0, then.0) && fits(self.bytes, used.1, then.1)
    }

    /// How long to wait for so many tokens; `None`: they never come.
    pub fn wait(&mut self, tokens: u64, now: Timestamp) -> Option<Duration> {
        let Some(rate) = self.rate else { return Some(Duration::ZERO) };
        let passed = now.as_micros() - self.since.as_micros();
        (self.parts, self.since) = ((self.parts + passed * rate).min(rate * token()), now);
        let lacking = (tokens * token()).saturating_sub(self.parts);
        (tokens <= rate).then(|| Duration::from_micros(lacking.div_ceil(rate.max(1))))
    }

    /// Takes tokens that are there.
    pub fn take(&mut self, tokens: u64) {
        if self.rate.is_some() {
            self.parts -= tokens * token();
        }
    }
}

fn token() -> u64 {
    PER.as_micros() as u64
}

/// The bytes of an item and its vectors, as the manual says what counts.
pub fn bytes(item: &Item, vectors: &BTreeMap<String, Vec<f32>>) -> u64 {
    let metadata = serde_json::to_string(&item.metadata).unwrap();
    let tags: usize = item.tags.iter().map(|tag| tag.len() + 1).sum();
    let vectors: usize = vectors.iter().map(|(space, v)| v.len() * if space == "one" { 2 } else { 4 }).sum();
    (72 + item.content.len() + metadata.len() + tags.saturating_sub(1) + vectors) as u64
}
