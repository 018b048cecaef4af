//! Searching: by time, or ranked.

use crate::memory::error::{MemoryError, Result};
use crate::memory::load::{self, CREATED, UPDATED};
use crate::memory::query::{Cursor, Found, Hit, Likeness, Order, Query, Words};
use crate::memory::rank::{self, Candidate};
use crate::memory::rows::Row;
use crate::memory::scope::{self, Area, Walked};
use crate::memory::settings::Settings;
use crate::memory::tables::{Number, Place, Reader, Table, last_number};
use crate::memory::text::has_phrase;
use crate::memory::time::Timestamp;
use std::collections::{BinaryHeap, HashMap};
use std::ops::Bound;

/// Two rankings are fused as far as this, or four times the limit.
const FUSED: usize = 100;
/// The index by time is not walked for fewer items than one in so many.
const SPARSE: usize = 8;

/// What all searches need.
pub(super) struct Search<'r, 's> {
    pub(super) reader: &'r Reader<'s>,
    pub(super) settings: &'r Settings,
    pub(super) now: Timestamp,
}

/// One of both, or nothing, of an item.
type Scores = HashMap<Place, f32>;

impl Search<'_, '_> {
    pub(super) fn find(&self, query: &Query) -> Result<Found> {
        let before = self.reader.rows_read();
        let (hits, next) =
            if query.words.is_some() || query.vector.is_some() { self.ranked(query)? } else { self.by_time(query)? };
        Ok(Found { hits, next, rows_read: self.reader.rows_read() - before })
    }

    fn ranked(&self, query: &Query) -> Result<(Vec<Hit>, Option<Cursor>)> {
        if query.after.is_some() {
            return Err(MemoryError::invalid("query", "a cursor belongs to a search without a ranking"));
        }
        let areas = scope::areas(self.reader, self.settings, query, Walked::Nothing)?;
        let both = query.words.is_some() && query.vector.is_some();
        let depth = if both { query.limit.saturating_mul(4).max(FUSED) } else { query.limit };
        let words = query.words.as_ref().map(|text| self.by_words(&areas, query, text, depth)).transpose()?;
        let vectors = self.by_vector(&areas, query, depth)?;
        let ranking = match (&words, &vectors) {
            (Some(words), Some(vectors)) => rank::best(rank::fuse([words, vectors]), query.limit, |_| Ok(true))?,
            (one, other) => one.as_ref().or(other.as_ref()).cloned().unwrap_or_default(),
        };
        let scores = |ranking: Option<Vec<Candidate>>| -> Scores {
            ranking.into_iter().flatten().map(|candidate| (candidate.place, candidate.score)).collect()
        };
        let (words, vectors) = (scores(words), scores(vectors));
        let hit = |candidate: &Candidate| {
            let (words, similarity) = (words.get(&candidate.place), vectors.get(&candidate.place));
            let item = self.item(&areas, candidate.place)?;
            Ok(Hit {
                item,
                score: candidate.score.into(),
                words: words.map(|score| f64::from(*score)),
                similarity: similarity.map(|score| f64::from(*score)),
            })
        };
        Ok((ranking.iter().map(hit).collect::<Result<_>>()?, None))
    }

    fn by_words(&self, areas: &[Area], query: &Query, text: &str, depth: usize) -> Result<Vec<Candidate>> {
        let words = Words::new(self.settings.language, text, query.every);
        let candidates = rank::by_words(self.reader, areas, &words)?;
        rank::best(candidates, depth, |place| Ok(self.is_live(place)? && self.has_phrases(place, &words)?))
    }

    fn by_vector(&self, areas: &[Area], query: &Query, depth: usize) -> Result<Option<Vec<Candidate>>> {
        let Some((space_name, likeness)) = &query.vector else { return Ok(None) };
        let space = self.settings.space(space_name)?;
        let (vector, itself) = match likeness {
            Likeness::Vector(vector) => (vector.clone(), None),
            Likeness::Item(id) => {
                let (place, _) =
                    load::live(self.reader, self.settings, *id, self.now)?.ok_or_else(|| load::not_found(*id))?;
                let vector = load::vector(self.reader, self.settings, place, space_name)?;
                let none = || MemoryError::invalid("query", format!("item {id} has no vector in {space_name:?}"));
                (vector.ok_or_else(none)?, Some(place))
            }
        };
        let candidates = rank::by_vector(self.reader, areas, space, &space.space.query(&vector)?, query.at_least)?;
        rank::best(candidates, depth, |place| Ok(Some(place) != itself && self.is_live(place)?)).map(Some)
    }

    fn is_live(&self, place: Place) -> Result<bool> {
        let Some(row) = self.reader.get(Table::Items, &place.key())? else { return Ok(false) };
        Ok(Row::parse(place, &row)?.is_live(self.now))
    }

    fn has_phrases(&self, place: Place, words: &Words) -> Result<bool> {
        if words.phrases.is_empty() {
            return Ok(true);
        }
        let row = self.reader.get(Table::Texts, &place.key())?;
        Ok(row.is_some_and(|row| words.phrases.iter().all(|phrase| has_phrase(&row, phrase))))
    }

    /// An item of one of the areas.
    fn item(&self, areas: &[Area], place: Place) -> Result<crate::memory::Item> {
        let row = self.reader.get(Table::Items, &place.key())?;
        let row =
            row.ok_or_else(|| Table::Items.damaged(&place.key(), "an index leads to an item that is not there"))?;
        let area = areas.iter().find(|area| area.row.number == place.namespace);
        let namespace = match area {
            Some(area) => area.namespace.clone(),
            None => load::path(self.reader, place.namespace)?,
        };
        Row::parse(place, &row)?.item(place, namespace, self.settings)
    }

    /// Merges the items of all namespaces by their times.
    fn by_time(&self, query: &Query) -> Result<(Vec<Hit>, Option<Cursor>)> {
        let walk = Walk::new(query);
        let areas = scope::areas(self.reader, self.settings, query, walk.condition)?;
        let mut streams = areas.iter().map(|area| self.stream(&walk, area)).collect::<Result<Vec<_>>>()?;
        let (mut heap, mut hits, mut last) = (BinaryHeap::new(), Vec::new(), None);
        for (index, stream) in streams.iter_mut().enumerate() {
            heap.extend(stream.next().transpose()?.map(|head| (walk.rank(head), index)));
        }
        while let Some((head, index)) = heap.pop() {
            let cursor = walk.cursor(head);
            if hits.len() == query.limit {
                return Ok((hits, last));
            }
            if let Some(stream) = streams.get_mut(index) {
                heap.extend(stream.next().transpose()?.map(|head| (walk.rank(head), index)));
            }
            if self.is_live(cursor.place)? {
                let item = self.item(&areas, cursor.place)?;
                hits.push(Hit { item, score: 0.0, words: None, similarity: None });
                last = Some(cursor);
            }
        }
        Ok((hits, None))
    }

    /// The items of a namespace in the order of the walk.
    fn stream<'a>(&'a self, walk: &'a Walk, area: &'a Area) -> Result<Stream<'a>> {
        let namespace = area.row.number;
        let items = usize::try_from(area.row.own.items).unwrap_or(usize::MAX);
        let Some(selected) = &area.selection else { return Ok(Box::new(self.walk(walk, namespace)?)) };
        if selected.len() < items / SPARSE {
            let mut heads = Vec::new();
            for number in selected {
                let place = Place { namespace, number: *number };
                let Some(row) = self.reader.get(Table::Items, &place.key())? else { continue };
                let row = Row::parse(place, &row)?;
                let time = if walk.order == CREATED { row.created } else { row.updated };
                if time >= walk.from && time <= walk.to && walk.is_ahead((time, place)) {
                    heads.push((time, place));
                }
            }
            heads.sort_unstable_by_key(|head| std::cmp::Reverse(walk.rank(*head)));
            return Ok(Box::new(heads.into_iter().map(Ok)));
        }
        let is_selected = move |head: &Result<(Timestamp, Place)>| {
            head.as_ref().map_or(true, |(_, place)| selected.binary_search(&place.number).is_ok())
        };
        Ok(Box::new(self.walk(walk, namespace)?.filter(is_selected)))
    }

    /// The index by time of a namespace, in the order of the walk.
    fn walk<'a>(
        &'a self,
        walk: &'a Walk,
        namespace: Number,
    ) -> Result<impl Iterator<Item = Result<(Timestamp, Place)>> + 'a> {
        let (from, to) = walk.range();
        let from = load::time_key(namespace, walk.order, from);
        let end = scope::after(&load::time_key(namespace, walk.order, to));
        let mut rows = self.reader.range(Table::Times, Bound::Included(&from), end.as_ref().map(Vec::as_slice))?;
        let next = move || if walk.backward { rows.next_back() } else { rows.next() };
        let heads = std::iter::from_fn(next).map(move |row| {
            let (key, _) = row?;
            let time = key.get(5..).and_then(|rest| rest.first_chunk()).map_or(0, |time| u64::from_be_bytes(*time));
            Ok((Timestamp::from_micros(time), Place { namespace, number: last_number(&key) }))
        });
        Ok(heads.filter(|head| head.as_ref().map_or(true, |head| walk.is_ahead(*head))))
    }
}

/// Items with their times.
type Stream<'a> = Box<dyn Iterator<Item = Result<(Timestamp, Place)>> + 'a>;

/// The order in which items come by time, and where it begins and ends.
struct Walk {
    /// Which times.
    order: u8,
    condition: Walked,
    backward: bool,
    from: Timestamp,
    to: Timestamp,
    after: Option<Cursor>,
}

impl Walk {
    fn new(query: &Query) -> Walk {
        let (order, condition, range) = match query.order {
            Order::Newest | Order::Oldest => (CREATED, Walked::Created, query.created),
            Order::LastUpdated => (UPDATED, Walked::Updated, query.updated),
        };
        let (from, to) = scope::time_bounds(range);
        Walk { order, condition, backward: query.order != Order::Oldest, from, to, after: query.after }
    }

    /// What comes first is greatest.
    fn rank(&self, (time, place): (Timestamp, Place)) -> (u64, u64) {
        let place = u64::from_be_bytes(place.key());
        if self.backward { (time.as_micros(), place) } else { (!time.as_micros(), !place) }
    }

    fn cursor(&self, (time, place): (u64, u64)) -> Cursor {
        let (time, place) = if self.backward { (time, place) } else { (!time, !place) };
        let [a, b, c, d, e, f, g, h] = place.to_be_bytes();
        let place = Place { namespace: u32::from_be_bytes([a, b, c, d]), number: u32::from_be_bytes([e, f, g, h]) };
        Cursor { time: Timestamp::from_micros(time), place }
    }

    /// Whether an item comes after the cursor.
    fn is_ahead(&self, head: (Timestamp, Place)) -> bool {
        self.after.is_none_or(|cursor| self.rank(head) < self.rank((cursor.time, cursor.place)))
    }

    /// From where to where the index is walked.
    fn range(&self) -> (Timestamp, Timestamp) {
        match self.after {
            Some(cursor) if self.backward => (self.from, self.to.min(cursor.time)),
            Some(cursor) => (self.from.max(cursor.time), self.to),
            None => (self.from, self.to),
        }
    }
}
