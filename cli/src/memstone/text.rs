//! Bytes as text and back.

/// Bytes as text: UTF-8 as it is, a backslash doubled, all else and whatever may end a line or
/// steer a terminal as `\xNN`. No two byte strings give the same text.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    let hex = |text: &mut String, bytes: &[u8]| {
        bytes.iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    };
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '\\' => text.push_str("\\\\"),
                control if is_control(control) => hex(&mut text, control.encode_utf8(&mut [0; 4]).as_bytes()),
                other => text.push(other),
            }
        }
        hex(&mut text, chunk.invalid());
    }
    text
}

/// The bytes that [`escaped`] shows so.
pub(crate) fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        rest = if let Some(after) = after.strip_prefix('\\') {
            bytes.push(b'\\');
            after
        } else {
            let (digits, after) = after.strip_prefix('x')?.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))?);
            after
        };
    }
    bytes.extend_from_slice(rest.as_bytes());
    Some(bytes)
}

/// A name in a line or a column of names: as it is, or as a JSON string where it would be unclear where
/// it begins or ends.
pub(crate) fn name(name: &str) -> String {
    let is_plain = |letter: char| letter.is_alphanumeric() || "_-./:;<>()[],".contains(letter);
    let is_clear = name.chars().all(is_plain) && !name.is_empty() && !name.ends_with(',');
    if is_clear { name.to_owned() } else { serde_json::Value::from(name).to_string() }
}

/// A number of bytes in its largest unit.
pub(crate) fn size(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.iter().find(|(shift, _)| bytes >> shift > 0) {
        Some((shift, unit)) => {
            let tenths = (u128::from(bytes) * 10) >> shift;
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} B"),
    }
}

/// What ends a line or steers a terminal.
pub(crate) fn is_control(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}')
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Hex digits, with or without the dashes of a UUID.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|letter| *letter != '-')
        .map(|letter| letter.to_digit(16)?.try_into().ok())
        .collect::<Option<_>>()?;
    digits.chunks(2).map(|pair| if let [high, low] = pair { Some(high << 4 | low) } else { None }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn text_leads_back_to_its_bytes(bytes: Vec<u8>) {
            let text = escaped(&bytes);
            prop_assert!(!text.contains(is_control));
            prop_assert_eq!(unescaped(&text), Some(bytes.clone()));
            prop_assert_eq!(unhex(&hex(&bytes)), Some(bytes));
        }
    }

    #[test]
    fn names() {
        for (plain, shown) in [
            ("notes/é-1", "notes/é-1"),
            ("(u32,str)", "(u32,str)"),
            ("", "\"\""),
            ("a b", "\"a b\""),
            ("\"a\"", r#""\"a\"""#),
            ("a\n", r#""a\n""#),
            ("a +1,", r#""a +1,""#),
        ] {
            assert_eq!(name(plain), shown);
        }
    }

    #[test]
    fn what_is_no_such_text() {
        for text in ["\\", "\\q", "\\x", "\\x1", "\\x+1", "\\xé"] {
            assert_eq!(unescaped(text), None, "{text}");
        }
        assert_eq!((unhex("012"), unhex("0g"), unhex("01-02")), (None, None, Some(vec![1, 2])));
    }
}
