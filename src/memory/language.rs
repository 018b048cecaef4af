//! Words of a text: segmented by Unicode's rules, in lower case, reduced to their stems.

use frostem::{Algorithm, Stemmer};
use serde::{Deserialize, Serialize};
use unicode_normalization::{UnicodeNormalization, is_nfkc};
use unicode_segmentation::UnicodeSegmentation;

/// A longer word is cut: nobody types it, and keys stay short.
const MAX_TERM: usize = 64;

/// The language whose rules reduce words to their stems, so that `walks` finds `walking`.
///
/// One store has one language, English unless [`Memory::set_language`](super::Memory::set_language) says otherwise.
/// Words of other languages are found as they are written.
///
/// ```
/// # let memory = memstone::memory::Memory::new(memstone::Store::in_memory()?);
/// use memstone::memory::{Language, Query};
/// memory.set_language(Language::German)?;
/// memory.add("ada", "malt Häuser")?;
/// assert_eq!(memory.find(&Query::new().words("Haus"))?.hits.len(), 1);
/// # Ok::<(), memstone::memory::MemoryError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
#[non_exhaustive]
pub enum Language {
    /// Words stay as they are, in lower case.
    None,
    Arabic,
    Danish,
    Dutch,
    #[default]
    English,
    Finnish,
    French,
    German,
    Greek,
    Hindi,
    Hungarian,
    Indonesian,
    Italian,
    Norwegian,
    Polish,
    Portuguese,
    Romanian,
    Russian,
    Spanish,
    Swedish,
    Turkish,
    Ukrainian,
}

impl Language {
    fn algorithm(self) -> Option<Algorithm> {
        Some(match self {
            Language::None => return None,
            Language::Arabic => Algorithm::Arabic,
            Language::Danish => Algorithm::Danish,
            Language::Dutch => Algorithm::Dutch,
            Language::English => Algorithm::English,
            Language::Finnish => Algorithm::Finnish,
            Language::French => Algorithm::French,
            Language::German => Algorithm::German,
            Language::Greek => Algorithm::Greek,
            Language::Hindi => Algorithm::Hindi,
            Language::Hungarian => Algorithm::Hungarian,
            Language::Indonesian => Algorithm::Indonesian,
            Language::Italian => Algorithm::Italian,
            Language::Norwegian => Algorithm::Norwegian,
            Language::Polish => Algorithm::Polish,
            Language::Portuguese => Algorithm::Portuguese,
            Language::Romanian => Algorithm::Romanian,
            Language::Russian => Algorithm::Russian,
            Language::Spanish => Algorithm::Spanish,
            Language::Swedish => Algorithm::Swedish,
            Language::Turkish => Algorithm::Turkish,
            Language::Ukrainian => Algorithm::Ukrainian,
        })
    }

    /// The terms of a text, in its order.
    pub(super) fn terms(self, text: &str) -> Vec<String> {
        let stemmer = self.algorithm().map(Stemmer::new);
        words(text).into_iter().map(|word| cut(stemmer.map_or(word.clone(), |s| s.stem(&word).into_owned()))).collect()
    }

    /// The beginnings that the words of a text stand for: as they are written, and as stems.
    pub(super) fn beginning(self, text: &str) -> Option<(String, String)> {
        let word = cut(words(text).pop()?);
        let stem = self.terms(&word).pop()?;
        Some((word, stem))
    }
}

/// The words of a text, in lower case and compatibility composed. Names of programs come apart: `foo.bar_baz` is three
/// words.
fn words(text: &str) -> Vec<String> {
    let composed: String;
    let text = if is_nfkc(text) {
        text
    } else {
        composed = text.nfkc().collect();
        &composed
    };
    let parts = |word: &str| word.split(is_joint).filter(|part| !part.is_empty()).map(to_term).collect::<Vec<_>>();
    text.unicode_words().flat_map(parts).filter(|word| !word.is_empty()).collect()
}

/// Signs that keep a word together by Unicode's rules, but not in names of programs and numbers.
fn is_joint(c: char) -> bool {
    c.is_ascii_punctuation() && c != '\''
}

/// Lower case, the one apostrophe, and no byte of 0, which ends a term in a key.
fn to_term(word: &str) -> String {
    word.to_lowercase().chars().filter(|c| *c != '\0').map(|c| if c == '\u{2019}' { '\'' } else { c }).collect()
}

fn cut(term: String) -> String {
    let short = beginning_of(&term, MAX_TERM);
    if short.len() < term.len() { short.to_owned() } else { term }
}

/// As much of a text as has no more bytes.
pub(super) fn beginning_of(text: &str, most: usize) -> &str {
    (0..=most.min(text.len())).rev().find_map(|end| text.get(..end)).unwrap_or(text)
}
