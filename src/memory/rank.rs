//! Ranking: by words, by vectors, by both, and the best of many.

use crate::memory::error::Result;
use crate::memory::postings::{self, Posting};
use crate::memory::query::{Wanted, Words};
use crate::memory::scope::Area;
use crate::memory::tables::{Place, Reader, Table};
use crate::memory::vector::VectorQuery;
use crate::memory::vector_rows::Numbered;
use std::cmp::Ordering;
use std::collections::HashMap;

/// BM25's usual constants: how fast more of the same word stops to count, and how much long texts are marked down.
const K1: f32 = 1.2;
const B: f32 = 0.75;
/// Reciprocal rank fusion's usual constant (G. V. Cormack, C. L. A. Clarke, S. Büttcher, 2009).
const RANK_OFFSET: f32 = 60.0;
/// Rows are looked up one by one if fewer than one in so many are wanted.
const SPARSE: usize = 8;

/// An item and its score: more is better.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    pub(super) score: f32,
    pub(super) place: Place,
}

impl Eq for Candidate {}

impl Ord for Candidate {
    fn cmp(&self, other: &Candidate) -> Ordering {
        self.score.total_cmp(&other.score).then_with(|| other.place.cmp(&self.place))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Candidate) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The best that `accept` lets pass, the best first. It is asked for no more of them than needed.
pub(super) fn best(
    mut candidates: Vec<Candidate>,
    limit: usize,
    mut accept: impl FnMut(Place) -> Result<bool>,
) -> Result<Vec<Candidate>> {
    let (mut found, mut next) = (Vec::new(), limit.saturating_mul(2));
    while found.len() < limit && !candidates.is_empty() {
        for candidate in take_best(&mut candidates, next) {
            if found.len() < limit && accept(candidate.place)? {
                found.push(candidate);
            }
        }
        next = next.saturating_mul(8);
    }
    Ok(found)
}

/// Takes the best out of many, the best first. The others are not put in order: most candidates are far from the best.
fn take_best(candidates: &mut Vec<Candidate>, number: usize) -> Vec<Candidate> {
    let others = candidates.len().saturating_sub(number);
    if others > 0 {
        candidates.select_nth_unstable(others);
    }
    let mut best = candidates.split_off(others);
    best.sort_unstable_by(|a, b| b.cmp(a));
    best
}

/// The scores of all items that have the words.
pub(super) fn by_words(reader: &Reader<'_>, areas: &[Area], words: &Words) -> Result<Vec<Candidate>> {
    // Of each area, of each term: who has it.
    let mut found = Vec::with_capacity(areas.len());
    for area in areas {
        let lists = words.terms.iter().map(|wanted| postings_of(reader, area, wanted)).collect::<Result<Vec<_>>>()?;
        found.push(lists);
    }
    let items: u64 = areas.iter().map(|area| area.row.own.items).sum();
    let length: u64 = areas.iter().map(|area| area.row.words).sum();
    let scorer = Scorer::new(items, length);
    let weights: Vec<f32> = (0..words.terms.len())
        .map(|term| scorer.weight(found.iter().filter_map(|lists| lists.get(term)).map(Vec::len).sum()))
        .collect();
    let required: Vec<bool> = words.terms.iter().map(|wanted| wanted.required).collect();
    let mut candidates = Vec::new();
    for (area, lists) in areas.iter().zip(&found) {
        merge(area, lists, &weights, &required, &scorer, &mut candidates);
    }
    Ok(candidates)
}

fn postings_of(reader: &Reader<'_>, area: &Area, wanted: &Wanted) -> Result<Vec<Posting>> {
    let namespace = area.row.number;
    let Some(beginning) = &wanted.beginning else { return postings::of_term(reader, namespace, &wanted.term) };
    let mut found = postings::of_beginning(reader, namespace, beginning)?;
    // The stem may be shorter than what was typed, or end differently.
    if !wanted.term.starts_with(beginning.as_str()) {
        found.extend(postings::of_term(reader, namespace, &wanted.term)?);
        found = postings::merged(found);
    }
    Ok(found)
}

/// Walks the lists of all terms at once, by ascending numbers.
fn merge(
    area: &Area,
    lists: &[Vec<Posting>],
    weights: &[f32],
    required: &[bool],
    scorer: &Scorer,
    candidates: &mut Vec<Candidate>,
) {
    let mut heads: Vec<&[Posting]> = lists.iter().map(Vec::as_slice).collect();
    let mut selected = area.selection.as_deref().map(|numbers| numbers.iter().copied().peekable());
    while let Some(number) = heads.iter().filter_map(|head| head.first()).map(|posting| posting.number).min() {
        let (mut score, mut complete) = (0.0, true);
        for ((head, weight), required) in heads.iter_mut().zip(weights).zip(required) {
            match head.split_first() {
                Some((posting, rest)) if posting.number == number => {
                    score += weight * scorer.share(*posting);
                    *head = rest;
                }
                _ => complete &= !required,
            }
        }
        let is_selected = selected.as_mut().is_none_or(|numbers| {
            while numbers.next_if(|next| *next < number).is_some() {}
            numbers.peek() == Some(&number)
        });
        if complete && is_selected {
            candidates.push(Candidate { score, place: Place { namespace: area.row.number, number } });
        }
    }
}

/// BM25 (S. Robertson, H. Zaragoza, 2009), over the items of the namespaces that are searched.
struct Scorer {
    items: f32,
    /// What counts are marked down by, by the code of a text's length.
    by_length: Vec<f32>,
}

impl Scorer {
    fn new(items: u64, length: u64) -> Scorer {
        let average = (length as f32 / items.max(1) as f32).max(1.0);
        let by_length =
            (0..=u8::MAX).map(|code| K1 * (1.0 - B + B * postings::decode_length(code) as f32 / average)).collect();
        Scorer { items: items as f32, by_length }
    }

    /// How much a term counts that so many items have.
    fn weight(&self, having: usize) -> f32 {
        let having = having as f32;
        (1.0 + ((self.items - having).max(0.0) + 0.5) / (having + 0.5)).ln()
    }

    /// How much of that one item gets.
    fn share(&self, posting: Posting) -> f32 {
        let count = f32::from(posting.count);
        let down = self.by_length.get(usize::from(posting.length)).copied().unwrap_or(K1);
        count * (K1 + 1.0) / (count + down)
    }
}

/// The scores of all vectors that are alike enough.
pub(super) fn by_vector(
    reader: &Reader<'_>,
    areas: &[Area],
    space: Numbered,
    query: &VectorQuery,
    at_least: f32,
) -> Result<Vec<Candidate>> {
    let mut candidates = Vec::new();
    let mut add = |place: Place, row: &[u8]| {
        let damaged = || Table::Vectors.damaged(&place.key(), format!("not a vector of {}", space.space));
        let score = query.score(row).ok_or_else(damaged)?;
        if score >= at_least {
            candidates.push(Candidate { score, place });
        }
        Ok(())
    };
    for area in areas {
        let namespace = area.row.number;
        let items = usize::try_from(area.row.own.items).unwrap_or(usize::MAX);
        match area.selection.as_deref() {
            Some(selected) if selected.len() < items / SPARSE => {
                for number in selected {
                    let place = Place { namespace, number: *number };
                    space.get(reader, place)?.map_or(Ok(()), |row| add(place, &row))?;
                }
            }
            selection => space.scan(reader, namespace, selection, &mut add)?,
        }
    }
    Ok(candidates)
}

/// The fusion of two rankings by reciprocal ranks.
pub(super) fn fuse(rankings: [&[Candidate]; 2]) -> Vec<Candidate> {
    let mut scores: HashMap<Place, f32> = HashMap::new();
    for ranking in rankings {
        for (rank, candidate) in (1_u32..).zip(ranking) {
            *scores.entry(candidate.place).or_default() += 1.0 / (rank as f32 + RANK_OFFSET);
        }
    }
    scores.into_iter().map(|(place, score)| Candidate { score, place }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::Rng;

    #[test]
    fn the_best_are_found_in_their_order_whatever_is_refused() {
        let mut rng = Rng(1);
        for (number, limit, refused) in
            [(0, 3, 1), (5, 0, 1), (5, 10, 9), (2000, 10, 1), (2000, 10, 90), (2000, 1500, 2)]
        {
            let candidate =
                |number| Candidate { score: rng.below(50_u8).into(), place: Place { namespace: 1, number } };
            let candidates: Vec<Candidate> = (0..number).map(candidate).collect();
            let passes = |place: Place| place.number.is_multiple_of(refused);
            let mut asked = 0;
            let found = best(candidates.clone(), limit, |place| {
                asked += 1;
                Ok(passes(place))
            });
            let mut expected = candidates;
            expected.sort_by(|a, b| b.cmp(a));
            let needed = expected.iter().scan(0, |found, one| {
                *found += usize::from(passes(one.place));
                Some(*found)
            });
            let needed = needed.take_while(|found| *found < limit).count() + 1;
            expected.retain(|one| passes(one.place));
            expected.truncate(limit);
            assert!(found.is_ok_and(|found| found == expected), "{limit} of {number}, one in {refused}");
            assert!(asked <= needed, "{asked} were asked for, and {needed} are enough");
        }
    }
}
