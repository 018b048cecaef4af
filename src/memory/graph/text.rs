//! Texts of the graph, read in place, and searched whatever the case of letters.

use crate::{Bytes, Codec, CodecError, MessagePack};
use std::borrow::Cow;

/// Texts as [`MessagePack`] has them. Those in ASCII are not copied when they are read.
#[derive(Debug)]
pub(super) struct InPlace;

/// A text of the store.
pub(super) enum Text<'a> {
    /// The row, and where the text begins in it, behind its length.
    Ascii(Bytes<'a>, usize),
    Other(String),
}

impl Codec<str> for InPlace {
    type Value<'a> = Text<'a>;

    fn name() -> Cow<'static, str> {
        <MessagePack as Codec<str>>::name()
    }

    fn encode(value: &str) -> Result<Cow<'_, [u8]>, CodecError> {
        <MessagePack as Codec<str>>::encode(value)
    }

    fn decode(row: Bytes<'_>) -> Result<Text<'_>, CodecError> {
        let place = match *row {
            [short @ 0xA0..=0xBF, ..] => Some((1, u32::from(short & 0x1F))),
            [0xD9, len, ..] => Some((2, u32::from(len))),
            [0xDA, a, b, ..] => Some((3, u32::from_be_bytes([0, 0, a, b]))),
            [0xDB, a, b, c, d, ..] => Some((5, u32::from_be_bytes([a, b, c, d]))),
            _ => None,
        };
        let is_all = |text: &[u8], len: u32| text.len() as u64 == u64::from(len) && text.is_ascii();
        match place.filter(|(start, len)| row.get(*start..).is_some_and(|text| is_all(text, *len))) {
            Some((start, _)) => Ok(Text::Ascii(row, start)),
            None => <MessagePack as Codec<str>>::decode(row).map(Text::Other),
        }
    }
}

impl Text<'_> {
    pub(super) fn into_string(self) -> String {
        match self {
            Text::Ascii(row, start) => String::from_utf8_lossy(row.get(start..).unwrap_or_default()).into_owned(),
            Text::Other(text) => text,
        }
    }
}

/// What is searched for, whatever the case of letters: both sides are compared in lower case, by Unicode's rules.
pub(super) struct Wanted(String);

impl Wanted {
    pub(super) fn new(query: &str) -> Wanted {
        Wanted(query.to_lowercase())
    }

    pub(super) fn is_in(&self, text: &str) -> bool {
        if text.is_ascii() { self.is_in_ascii(text.as_bytes()) } else { text.to_lowercase().contains(&self.0) }
    }

    pub(super) fn is_in_text(&self, text: &Text<'_>) -> bool {
        match text {
            Text::Ascii(row, start) => self.is_in_ascii(row.get(*start..).unwrap_or_default()),
            Text::Other(text) => self.is_in(text),
        }
    }

    /// In lower case ASCII is ASCII, byte by byte, so nothing is copied.
    fn is_in_ascii(&self, text: &[u8]) -> bool {
        let Some((first, rest)) = self.0.as_bytes().split_first() else { return true };
        let follows =
            |at: usize| text.get(at + 1..=at + rest.len()).is_some_and(|part| part.eq_ignore_ascii_case(rest));
        (0_usize..).zip(text).any(|(at, byte)| byte.to_ascii_lowercase() == *first && follows(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8]) -> Result<String, String> {
        InPlace::decode(Bytes::from(bytes)).map(Text::into_string).map_err(|error| error.to_string())
    }

    #[test]
    fn texts_are_those_of_messagepack() {
        for len in [0, 1, 31, 32, 255, 256, 65_535, 65_536] {
            let text = "é".repeat(len / 2) + &"x".repeat(len % 2);
            let bytes = InPlace::encode(&text).unwrap();
            assert_eq!(decode(&bytes), Ok(text.clone()));
            assert!(len == 0 || decode(&bytes[..bytes.len() - 1]).is_err());
            assert!(decode(&[&bytes, &b"x"[..]].concat()).is_err());
        }
        // What is longer than it need be is a text, too.
        assert_eq!(decode(&[0xDA, 0, 2, b'o', b'k']).as_deref(), Ok("ok"));
        for wrong in [&[][..], &[0xC0], &[0xD9], &[0xDB, 0, 0], &[0xDB, 255, 255, 255, 255], &[0xA1, 0xFF]] {
            assert!(decode(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_searched_in_place_is_found_as_in_lower_case() {
        let words = [
            "", "a", "A", "aab", "AaB", "aaB", "b", "ab a", "\u{212a}", "k", "K", "ß", "ΣΑΣ", "σας", "İ", "i", "aé",
            "É",
        ];
        for text in words.iter().flat_map(|a| words.map(|b| format!("{a}{b}"))) {
            let bytes = InPlace::encode(&text).unwrap();
            let in_place = InPlace::decode(Bytes::from(&*bytes)).unwrap();
            for query in words {
                let expected = text.to_lowercase().contains(&query.to_lowercase());
                let wanted = Wanted::new(query);
                assert_eq!(wanted.is_in(&text), expected, "{query:?} in {text:?}");
                assert_eq!(wanted.is_in_text(&in_place), expected, "{query:?} in {text:?}");
            }
        }
    }
}
