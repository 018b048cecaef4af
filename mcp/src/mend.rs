//! JSON that other programs write and a strict reader refuses: half a character.

use std::borrow::Cow;

/// The same JSON with a replacement character for each byte that is not UTF-8, and for each escape of half a
/// surrogate pair, which stands for no character. Programs that cut strings by UTF-16 units write those.
pub(crate) fn mended(json: &[u8]) -> Cow<'_, [u8]> {
    let mut json = match String::from_utf8_lossy(json) {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    };
    for at in halves(&json) {
        if let Some(escape) = json.to_mut().get_mut(at..at + 6) {
            escape.copy_from_slice(b"\\ufffd");
        }
    }
    json
}

/// Where escapes of half a pair begin.
fn halves(json: &[u8]) -> Vec<usize> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(next) = json.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == b'\\')) {
        at += next;
        let unit = unit_at(json, at);
        at += match unit {
            Some(0xD800..=0xDBFF) if matches!(unit_at(json, at + 6), Some(0xDC00..=0xDFFF)) => 12,
            Some(0xD800..=0xDFFF) => {
                found.push(at);
                6
            }
            // The escaped character is passed over, so that the second of two backslashes begins no escape.
            _ => 2,
        };
    }
    found
}

/// The UTF-16 unit that is escaped here.
fn unit_at(json: &[u8], at: usize) -> Option<u16> {
    let digits = json.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_character_is_replaced_and_all_else_is_kept() {
        let cases: [(&[u8], &[u8]); 8] = [
            (br#"{"a":"\ud83e\udd80 \u00fc"}"#, br#"{"a":"\ud83e\udd80 \u00fc"}"#),
            (br#""\ud83e""#, br#""\ufffd""#),
            (br#""\uDD80\ud83e""#, br#""\ufffd\ufffd""#),
            (br#""\ud83e\ud83e\udd80""#, br#""\ufffd\ud83e\udd80""#),
            (br#""\\ud83e""#, br#""\\ud83e""#),
            (br#""\\\ud83e""#, br#""\\\ufffd""#),
            (br#""\ud8"#, br#""\ud8"#),
            (b"\"\xF0\x9F\"", "\"\u{fffd}\"".as_bytes()),
        ];
        for (given, expected) in cases {
            assert_eq!(mended(given), expected, "{}", String::from_utf8_lossy(given));
        }
    }
}
