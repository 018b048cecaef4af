use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::*;
use crate::jq::Program;
use crate::values::tests::any_messagepack;

fn update_as(values: ValueType, bytes: Option<&[u8]>, code: &str) -> Result<Vec<u8>, Failure> {
    let program = Program::compile(code, &[("float".to_owned(), json!(0.1)), ("big".to_owned(), json!(u64::MAX))])?;
    let original = Original::new(values, bytes);
    original.encode(&program.run(original.value())?)
}

fn update(bytes: &[u8], code: &str) -> Result<Vec<u8>, Failure> {
    update_as(ValueType::MessagePack, Some(bytes), code)
}

#[track_caller]
fn refuses(result: Result<Vec<u8>, Failure>, part: &str) {
    assert!(matches!(&result, Err(Failure::Usage(message)) if message.contains(part)), "{part}: {result:02x?}");
}

/// Bytes as `rmp-serde` keeps a `Uuid`.
#[derive(Debug, Clone, PartialEq)]
struct Id([u8; 16]);

impl Serialize for Id {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Id, D::Error> {
        struct Bytes;
        impl serde::de::Visitor<'_> for Bytes {
            type Value = Id;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("16 bytes")
            }
            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Id, E> {
                bytes.try_into().map(Id).map_err(E::custom)
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// What programs keep, and JSON has not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Memory {
    id: Id,
    name: String,
    size: u128,
    balance: i128,
    stars: BTreeMap<u64, f32>,
    embedding: Vec<f32>,
    score: Option<f64>,
    whole: f64,
    list: Vec<(i8, char)>,
}

fn memory() -> Memory {
    Memory {
        id: Id([0xFF, 0x5C, 0x78, 0, 0, 0, 1, 2, 3, 0x80, 0xC3, 0x28, 9, 10, 13, 0]),
        name: "n".to_owned(),
        size: u128::MAX - 1,
        balance: i128::MIN + 1,
        stars: BTreeMap::from([(1, 0.1), (u64::MAX, -0.0)]),
        embedding: vec![0.1, 1.0, 3.5e-12],
        score: Some(f64::NAN),
        whole: 1.0,
        list: vec![(-1, 'x'), (7, 'é')],
    }
}

#[test]
fn what_the_program_leaves_stays_as_its_owner_wrote_it() {
    let bytes = rmp_serde::to_vec_named(&memory()).unwrap();
    assert_eq!(update(&bytes, ".").unwrap(), bytes);
    for code in
        [".name = .name", "to_entries | from_entries", "map_values(.)", ".list[0] |= .", ".name += \"\"", "[.] | .[0]"]
    {
        assert_eq!(update(&bytes, code).unwrap(), bytes, "{code}");
    }
    let changed = update(&bytes, r#".name = "other" | .list[1][0] += 1 | .whole += 1"#).unwrap();
    let read: Memory = rmp_serde::from_slice(&changed).unwrap();
    assert!(read.score.is_some_and(f64::is_nan));
    let expected = Memory { name: "other".to_owned(), list: vec![(-1, 'x'), (8, 'é')], whole: 2.0, ..memory() };
    assert_eq!(changed, rmp_serde::to_vec_named(&expected).unwrap());
    // A part may move, be copied, be taken out.
    let moved = update(&bytes, "{copy: .id, ids: [.id, .size], stars, last: .embedding[-1:]}").unwrap();
    #[derive(Serialize)]
    struct Moved {
        copy: Id,
        ids: (Id, u128),
        stars: BTreeMap<u64, f32>,
        last: [f32; 1],
    }
    let Memory { id, size, stars, embedding, .. } = memory();
    let expected = Moved { copy: id.clone(), ids: (id, size), stars, last: [embedding[2]] };
    assert_eq!(moved, rmp_serde::to_vec_named(&expected).unwrap());
    assert_eq!(update(&bytes, "del(.id, .size) | keys | length").unwrap(), b"\x07");
    // Reading is free.
    assert_eq!(update(&bytes, ".id | length").unwrap(), b"\x10");
    assert_eq!(update(&bytes, ".stars | length").unwrap(), b"\x02");
    assert_eq!(update(&bytes, ".id | @base64").unwrap(), b"\xB8/1x4AAAAAQIDgMMoCQoNAA==");
}

#[test]
fn what_cannot_be_rebuilt_is_refused() {
    let bytes = rmp_serde::to_vec_named(&memory()).unwrap();
    for (code, part) in [
        (".id |= .[1:]", "bytes that are not those"),
        (".id += .id", "bytes that are not those"),
        (".name |= tobytes", "bytes that are not those"),
        (".name = (.id | tostring)", "not UTF-8"),
        (".name = \"id \\(.id)\"", "not UTF-8"),
        (".name = (.id | tojson)", "bytes printed as text"),
        (".name = tojson", "bytes printed as text"),
        (".stars[1] = 2", "a map whose keys are not all text"),
        (".stars[\"2\"] = 2", "a map whose keys are not all text"),
        ("del(.stars[1])", "a map whose keys are not all text"),
        ("{(.list[0][0]): 1}", "a map whose keys are not all text"),
        (".score += 1", "a number that JSON has not"),
        (".whole = 1e999", "a number that JSON has not"),
        (".whole = -1e999", "a number that JSON has not"),
        (".whole = infinite", "a number that JSON has not"),
        (".whole = nan", "a number that JSON has not"),
        (".whole = $big + 1", "does not fit 64 bits"),
        (".whole = -9223372036854775808 - 1", "does not fit 64 bits"),
        ("reduce range(200) as $n (.; [.])", "128 levels"),
    ] {
        refuses(update(&bytes, code), part);
    }
    assert_eq!(update(&bytes, ".name = \"b\\\"\"").unwrap().len(), bytes.len() + 1, "a quote alone is no bytes");
}

#[test]
fn extensions_and_unsound_text() {
    // An extension, text that is not UTF-8, a map with the same key twice, a long form of a short number.
    let bytes = b"\x85\xA1e\xD4\x05\x09\xA1t\xA1\xFF\xA1d\x82\xA1a\x01\xA1a\x02\xA1n\xCF\0\0\0\0\0\0\0\x05\xA1z\0";
    assert_eq!(update(bytes, ".").unwrap(), bytes);
    let changed = [&bytes[..bytes.len() - 1], b"\x01"].concat();
    assert_eq!(update(bytes, ".z += 1").unwrap(), changed);
    assert_eq!(update(bytes, ".z = (.n % 2)").unwrap(), changed, "and can be calculated with");
    assert_eq!(update(bytes, "[1, 2, 3][.n - 4]").unwrap(), b"\x02");
    refuses(update(bytes, ".t += \"x\""), "not UTF-8");
    assert!(update(bytes, ".d.a = 3").is_err());
    // What is no MessagePack at all.
    for broken in [&b"\xC1"[..], b"", b"\xC0\xC0", b"\xA5ab"] {
        assert_eq!(update(broken, ".").unwrap(), broken);
        assert!(update(broken, ".a = 1").is_err());
        refuses(update(broken, "[.]"), "cannot be stored as MessagePack");
        assert_eq!(update(broken, "1").unwrap(), b"\x01");
    }
    // What is kept may have moved deeper than anybody reads.
    let deep = [vec![0x91; 100], vec![0xC0]].concat();
    assert_eq!(update(&deep, "reduce range(28) as $n (.; [.])").unwrap().len(), 129);
    refuses(update(&deep, "reduce range(29) as $n (.; [.])"), "128 levels");
}

#[test]
fn numbers_keep_their_kind() {
    for (bytes, code, expected) in [
        (&b"\xCB\x3F\xF0\0\0\0\0\0\0"[..], ". + 1", &b"\xCB\x40\0\0\0\0\0\0\0"[..]),
        (b"\x01", ". + 1", b"\x02"),
        (b"\x01", "1.0", b"\xCB\x3F\xF0\0\0\0\0\0\0"),
        (b"\xCB\x80\0\0\0\0\0\0\0", "[.][0]", b"\xCB\x80\0\0\0\0\0\0\0"),
        (b"\xCF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", ". - 1", b"\xCF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFE"),
        (b"\xD3\x80\0\0\0\0\0\0\0", ". + 1", b"\xD3\x80\0\0\0\0\0\0\x01"),
        (b"\xCA\x3F\x80\0\0", "[., . + 1]", b"\x92\xCA\x3F\x80\0\0\xCB\x40\0\0\0\0\0\0\0"),
        (b"\x00", "$float", b"\xCB\x3F\xB9\x99\x99\x99\x99\x99\x9A"),
        (b"\x00", "$big", b"\xCF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"),
        (b"\x00", "-129", b"\xD1\xFF\x7F"),
        (b"\xCA\x7F\xC0\0\0", "isnan", b"\xC3"),
        (b"\xCB\xFF\xF0\0\0\0\0\0\0", "isinfinite", b"\xC3"),
    ] {
        assert_eq!(update(bytes, code).unwrap(), expected, "{bytes:02x?} {code}");
    }
}

#[test]
fn tables_of_bytes() {
    let update = |bytes: &[u8], code| update_as(ValueType::Bytes, Some(bytes), code);
    for bytes in [&b"\xFF"[..], br"\xff", b"", b"text\n", b"\0"] {
        assert_eq!(update(bytes, ".").unwrap(), bytes);
        assert_eq!(update(bytes, "{a: .} | .a").unwrap(), bytes);
    }
    assert_eq!(update(b"a", ". + \"\\u0000é\"").unwrap(), "a\0é".as_bytes());
    refuses(update(b"\xFF", "tostring"), "not UTF-8");
    refuses(update(b"\xFF", "tojson"), "bytes printed as text");
    refuses(update(b"\xFF\xFE", ".[1:]"), "bytes that are not those");
    refuses(update(b"a", "1"), "this table holds bytes");
    assert_eq!(update_as(ValueType::Bytes, None, ". // \"new\"").unwrap(), b"new");
    assert_eq!(update_as(ValueType::MessagePack, None, ".a.b += 1").unwrap(), b"\x81\xA1a\x81\xA1b\x01");
}

fn untouched(bytes: &[u8]) -> Result<(), TestCaseError> {
    prop_assert_eq!(update(bytes, ".").unwrap(), bytes);
    let wrapped = [b"\x82\xA1v", bytes, b"\xA1n\x01"].concat();
    let expected = [b"\x82\xA1v", bytes, b"\xA1n\x02"].concat();
    prop_assert_eq!(update(&wrapped, ".n += 1").unwrap(), expected);
    prop_assert_eq!(update(&wrapped, "[.v]").unwrap(), [b"\x91", bytes].concat());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn any_value_that_is_left_keeps_its_bytes(bytes in any_messagepack()) {
        untouched(&bytes)?;
    }

    #[test]
    fn any_bytes_that_are_left_stay(bytes: Vec<u8>) {
        prop_assert_eq!(&update(&bytes, ".").unwrap(), &bytes);
        prop_assert_eq!(&update_as(ValueType::Bytes, Some(&bytes), ".").unwrap(), &bytes);
    }
}

#[test]
fn every_float_keeps_its_bits() {
    let program = Program::compile(".n += 1 | .v |= map(.)", &[]).unwrap();
    let mut state = 7_u64;
    for _ in 0..110 {
        let mut bits = || {
            state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
            [&[0xCB][..], &(state ^ state >> 29).to_be_bytes()].concat()
        };
        let floats = (0..1000).flat_map(|_| bits()).collect();
        let value = |n| [b"\x82\xA1v\xDC\x03\xE8".to_vec(), floats, b"\xA1n".to_vec(), vec![n]].concat();
        let value: Vec<u8> = value(1);
        let original = Original::new(ValueType::MessagePack, Some(&value));
        let updated = original.encode(&program.run(original.value()).unwrap()).unwrap();
        let (before, after) = (value.split_last().unwrap(), updated.split_last().unwrap());
        assert_eq!((before.1, *after.0), (after.1, 2));
    }
}

#[test]
fn tables_of_json() {
    let update = |bytes: &[u8], code| update_as(ValueType::Json, Some(bytes), code);
    assert_eq!(update(br#"{"b":1, "a":[0.1]}"#, ".").unwrap(), br#"{"b":1, "a":[0.1]}"#, "unchanged to the byte");
    assert_eq!(update(br#"{"b":1, "a":[0.1]}"#, ".b += 1").unwrap(), br#"{"b":2,"a":[0.1]}"#);
    assert_eq!(update(br#"{"$bytes": "ff"}"#, "[.]").unwrap(), br#"[{"$bytes":"ff"}]"#, "no notation");
    assert_eq!(update(b"18446744073709551615", "[., -1]").unwrap(), b"[18446744073709551615,-1]");
    assert_eq!(update_as(ValueType::Json, None, ".a.b += 1").unwrap(), br#"{"a":{"b":1}}"#);
    assert_eq!(update(b"no JSON", ".").unwrap(), b"no JSON");
    assert!(matches!(update(b"no JSON", "[.]"), Err(Failure::Usage(_))), "bytes");
    assert!(matches!(update(b"1", "nan"), Err(Failure::Usage(_))));
}
