//! The terms of an item's text, in its order: by them the item leaves the index of words, whatever program takes it out,
//! and phrases are found in them.

use crate::memory::language::Language;
use std::collections::{BTreeMap, HashMap};

/// The distinct terms of a text, and its sequence of them.
///
/// As bytes: the number of terms; each term behind its length, in a byte; the sequence, as indexes of terms. Numbers are
/// in groups of seven bits, the lowest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Text {
    terms: Vec<String>,
    sequence: Vec<u32>,
}

impl Text {
    pub(super) fn new(language: Language, content: &str) -> Text {
        let (mut text, mut known) = (Text::default(), HashMap::new());
        for term in language.terms(content) {
            let next = u32::try_from(text.terms.len()).unwrap_or(u32::MAX);
            let index = *known.entry(term).or_insert_with_key(|term| {
                text.terms.push(term.clone());
                next
            });
            text.sequence.push(index);
        }
        text
    }

    /// The number of words.
    pub(super) fn len(&self) -> usize {
        self.sequence.len()
    }

    /// The distinct terms, in the order of the index, and how often each occurs.
    pub(super) fn counts(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for index in &self.sequence {
            if let Some(term) = self.terms.get(*index as usize) {
                *counts.entry(term.as_str()).or_default() += 1;
            }
        }
        counts
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_number(&mut bytes, self.terms.len());
        for term in &self.terms {
            // Terms are shorter than 256 bytes.
            bytes.push(u8::try_from(term.len()).unwrap_or(u8::MAX));
            bytes.extend_from_slice(term.as_bytes());
        }
        self.sequence.iter().for_each(|index| put_number(&mut bytes, *index as usize));
        bytes
    }

    pub(super) fn decode(mut bytes: &[u8]) -> Option<Text> {
        let count = take_number(&mut bytes)?;
        let mut text = Text::default();
        for _ in 0..count {
            let (len, rest) = bytes.split_first()?;
            let (term, rest) = rest.split_at_checked(usize::from(*len))?;
            text.terms.push(std::str::from_utf8(term).ok()?.to_owned());
            bytes = rest;
        }
        while !bytes.is_empty() {
            let index = take_number(&mut bytes).filter(|index| *index < count)?;
            text.sequence.push(u32::try_from(index).ok()?);
        }
        Some(text)
    }
}

/// Whether the text of a row has these terms one after the other. A row that is none has not.
pub(super) fn has_phrase(mut bytes: &[u8], phrase: &[String]) -> bool {
    let mut find = || {
        let count = take_number(&mut bytes)?;
        let mut indexes = vec![None; phrase.len()];
        for index in 0..count {
            let (len, rest) = bytes.split_first()?;
            let (term, rest) = rest.split_at_checked(usize::from(*len))?;
            for (place, _) in indexes.iter_mut().zip(phrase).filter(|(_, wanted)| wanted.as_bytes() == term) {
                *place = Some(index);
            }
            bytes = rest;
        }
        let wanted = indexes.into_iter().collect::<Option<Vec<usize>>>()?;
        let mut sequence = Vec::with_capacity(bytes.len());
        while !bytes.is_empty() {
            sequence.push(take_number(&mut bytes)?);
        }
        Some(wanted.is_empty() || sequence.windows(wanted.len()).any(|window| window == wanted))
    };
    find().unwrap_or(false)
}

fn put_number(bytes: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        bytes.push(0x80 | number.to_le_bytes()[0]);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

fn take_number(bytes: &mut &[u8]) -> Option<usize> {
    let (mut number, mut shift) = (0_usize, 0);
    loop {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= usize::from(byte & 0x7f).checked_shl(shift).filter(|_| shift < 28)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
        shift += 7;
    }
}
