use proptest::prelude::*;
use serde_json::json;

use super::*;

fn put(value: Value) -> Vec<u8> {
    ValueType::MessagePack.encode(Given::Json(value)).unwrap()
}

fn get(bytes: &[u8]) -> Value {
    ValueType::MessagePack.decode(bytes).unwrap()
}

fn usage<T: std::fmt::Debug>(result: Result<T, Failure>, part: &str) {
    assert!(matches!(&result, Err(Failure::Usage(message)) if message.contains(part)), "{part}: {result:?}");
}

#[test]
fn json_goes_in_and_comes_out() {
    let value = json!({ "b": [1, -2, 1.5, null, true, u64::MAX, i64::MIN], "a": { "nested": "é" }, "": [[], {}] });
    let bytes = put(value.clone());
    assert_eq!(get(&bytes), value);
    assert!(bytes.starts_with(b"\x83\xA1b"), "the fields keep their order");
    assert_eq!(bytes, rmp_serde::to_vec_named(&value).unwrap(), "as a program stores it");
}

/// A value and its text: `put` of what `get` printed.
fn printed_and_put_back(bytes: &[u8]) -> Vec<u8> {
    put(super::json(&get(bytes).to_string()).unwrap())
}

#[test]
fn every_float_keeps_its_bits() {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = || {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        state ^ state >> 29
    };
    let special = [0.0, -0.0, 1.0, -1.0, f64::MIN_POSITIVE, f64::from_bits(1), f64::MAX, f64::MIN, 1e22, 1e23, 0.1];
    let odd = [f64::NAN, -f64::NAN, f64::from_bits(0x7FF0_0000_0000_0001), f64::INFINITY, f64::NEG_INFINITY];
    let bits = special.into_iter().chain(odd).map(f64::to_bits);
    let random: Vec<u64> = (0..200_000).map(|_| random()).collect();
    let all = bits.chain(random.iter().copied());
    // Embeddings: floats of 32 bits made wider, and numbers below one.
    let embeddings = random.iter().take(50_000).flat_map(|bits| {
        let [single, fraction] = [
            f64::from(f32::from_bits(u32::try_from(*bits >> 32).unwrap())),
            (*bits >> 11) as f64 / (1u64 << 53) as f64,
        ];
        [single.to_bits(), fraction.to_bits()]
    });
    let mut count = 0;
    for bits in all.chain(embeddings) {
        let bytes = [&[0xCB][..], &bits.to_be_bytes()].concat();
        assert_eq!(printed_and_put_back(&bytes), bytes, "{bits:016x}");
        let number = f64::from_bits(bits);
        if number.is_finite() {
            // What any other program prints.
            assert_eq!(put(super::json(&format!("{number:?}")).unwrap()), bytes, "{bits:016x}");
        }
        count += 1;
    }
    assert!(count >= 300_000);
}

#[test]
fn every_integer_of_64_bits_is_kept_and_no_other_is_altered() {
    let mut state = 1_u64;
    for _ in 0..100_000 {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        let number = state >> (state % 64);
        for text in [number.to_string(), number.cast_signed().to_string(), format!("-{}", number >> 1)] {
            let bytes = put(super::json(&text).unwrap());
            assert_eq!(get(&bytes).to_string(), if text == "-0" { "-0.0" } else { &text });
            assert_eq!(printed_and_put_back(&bytes), bytes);
        }
    }
    for text in ["18446744073709551616", "-9223372036854775809", "[1, 123456789012345678901234567890]"] {
        usage(super::json(text), "does not fit 64 bits");
    }
    usage(super::json(r#"{"a\"": "\\", "b": [ -99999999999999999999 ]}"#), "-99999999999999999999");
    for text in [r#""18446744073709551616""#, r#"{"18446744073709551616\"": "\\\"99999999999999999999"}"#, "1e400e"] {
        let read = super::json(text);
        assert!(!matches!(&read, Err(Failure::Usage(message)) if message.contains("64 bits")), "{text}: {read:?}");
    }
    assert_eq!(super::json("[18446744073709551616.0, 1e20]").unwrap(), json!([18446744073709551616.0, 1e20]));
}

/// Any MessagePack, as `rmp-serde` or another program may have written it.
pub(crate) fn any_messagepack() -> impl Strategy<Value = Vec<u8>> {
    let marked = |marker: u8, bytes: Vec<u8>| [vec![marker, u8::try_from(bytes.len()).unwrap()], bytes].concat();
    let leaf = prop_oneof![
        any::<i64>().prop_map(|number| rmp_serde::to_vec(&number).unwrap()),
        any::<u64>().prop_map(|number| [vec![0xCF], number.to_be_bytes().to_vec()].concat()),
        any::<u8>().prop_map(|number| vec![0xD1, 0, number]),
        any::<u64>().prop_map(|bits| [vec![0xCB], bits.to_be_bytes().to_vec()].concat()),
        any::<u32>().prop_map(|bits| [vec![0xCA], bits.to_be_bytes().to_vec()].concat()),
        "[a-c\\\\\"\n]{0,3}".prop_map(|text| rmp_serde::to_vec(&text).unwrap()),
        any::<[u8; 3]>().prop_map(move |bytes| marked(0xD9, bytes.to_vec())),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(move |bytes| marked(0xC4, bytes)),
        any::<[u8; 2]>().prop_map(|[kind, byte]| vec![0xD4, kind, byte]),
        proptest::sample::select(vec!["$bytes", "$map", "$msgpack"]).prop_map(|name| rmp_serde::to_vec(&name).unwrap()),
        proptest::sample::select(vec![0xC0, 0xC2, 0xC3]).prop_map(|marker| vec![marker]),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        let array = proptest::collection::vec(inner.clone(), 0..5)
            .prop_map(|items| [vec![0x90 | u8::try_from(items.len()).unwrap()], items.concat()].concat());
        let map = proptest::collection::vec((inner.clone(), inner), 0..4).prop_map(|entries| {
            let entries: Vec<_> = entries.into_iter().flat_map(|(key, value)| [key, value]).collect();
            [vec![0x80 | u8::try_from(entries.len() / 2).unwrap()], entries.concat()].concat()
        });
        prop_oneof![array, map]
    })
}

/// The same value with numbers and lengths in the form that `put` chooses.
fn shortest(part: &Part<'_>, out: &mut Writer) {
    match &part.what {
        What::Unsigned(number) => out.unsigned(*number).unwrap(),
        What::Signed(number) => out.signed(*number).unwrap(),
        What::Single(number) if number.is_finite() => out.float((*number).into()),
        What::Text(text) if str::from_utf8(text).is_ok() => out.text(str::from_utf8(text).unwrap()).unwrap(),
        What::Bytes(bytes) => out.blob(bytes).unwrap(),
        What::Array(items) => {
            out.array(items.len()).unwrap();
            items.iter().for_each(|item| shortest(item, out));
        }
        What::Map(entries) => {
            out.map(entries.len()).unwrap();
            entries.iter().for_each(|(key, value)| {
                shortest(key, out);
                shortest(value, out);
            });
        }
        _ => out.bytes.extend_from_slice(part.raw),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn what_get_prints_can_be_put_back(bytes in any_messagepack()) {
        let mut expected = Writer::default();
        shortest(&msgpack::read(&bytes).unwrap(), &mut expected);
        prop_assert_eq!(printed_and_put_back(&bytes), expected.bytes, "{}", get(&bytes));
        let digits = argument(&hex(&bytes), Form::Hex).unwrap();
        prop_assert_eq!(ValueType::MessagePack.encode(digits).unwrap(), bytes);
    }

    #[test]
    fn what_get_prints_of_bytes_can_be_put_back(bytes: Vec<u8>, text in "[\\\\xf$a-f{}\":]{0,8}") {
        for bytes in [bytes, text.into_bytes()] {
            let printed = ValueType::Bytes.decode(&bytes).unwrap().to_string();
            let given = Given::Json(super::json(&printed).unwrap());
            prop_assert_eq!(ValueType::Bytes.encode(given).unwrap(), bytes, "{}", printed);
        }
    }
}

#[test]
fn what_json_has_not() {
    for (bytes, shown) in [
        (&b"\xC4\x02\x01\x02"[..], json!({ "$bytes": "0102" })),
        (b"\x81\x07\xC4\x02\x01\x02", json!({ "$map": [[7, { "$bytes": "0102" }]] })),
        (b"\x82\x07\x01\xA17\x02", json!({ "$map": [[7, 1], ["7", 2]] })),
        (b"\x82\xA1a\x01\xA1a\x02", json!({ "$map": [["a", 1], ["a", 2]] })),
        (b"\x81\xA6$bytes\xA200", json!({ "$map": [["$bytes", "00"]] })),
        (b"\x82\xA6$bytes\xA200\xA1a\xC0", json!({ "$bytes": "00", "a": null })),
        (b"\xD4\x05\x09", json!({ "$msgpack": "d40509" })),
        (b"\xA1\xFF", json!({ "$msgpack": "a1ff" })),
        (b"\xCA\x7F\xC0\x00\x00", json!({ "$msgpack": "ca7fc00000" })),
        (b"\xCB\x7F\xF0\x00\x00\x00\x00\x00\x00", json!({ "$msgpack": "cb7ff0000000000000" })),
    ] {
        assert_eq!(get(bytes), shown);
        assert_eq!(put(shown), bytes);
    }
    assert_eq!(get(b"\xCA\x3F\xC0\x00\x00"), json!(1.5));
    assert_eq!(ValueType::MessagePack.show(b"\xA1"), json!({ "$msgpack": "a1" }), "cut off");
    assert!(matches!(ValueType::MessagePack.decode(b"\xA1"), Err(Failure::Other(_))));
}

#[test]
fn what_is_no_such_notation() {
    let encode = |value| ValueType::MessagePack.encode(Given::Json(value));
    usage(encode(json!({ "$bytes": "0" })), "no string of hex digits");
    usage(encode(json!([{ "$bytes": 1 }])), "{\"$map\": [[name, value]]}");
    usage(encode(json!({ "$map": [[1]] })), "array of pairs");
    usage(encode(json!({ "$map": 1 })), "array of pairs");
    usage(encode(json!({ "$msgpack": "a1" })), "cut off");
    usage(encode(json!({ "$msgpack": "c0c0" })), "bytes follow");
    let deep = (0..100).fold(json!({ "$msgpack": "91".repeat(100) + "c0" }), |value, _| json!([value]));
    usage(encode(deep), "128 levels");
    usage(ValueType::MessagePack.encode(Given::Stored(b"\xC1".to_vec())), "never used");
}

#[test]
fn tables_of_bytes() {
    let encode = |given| ValueType::Bytes.encode(given);
    assert_eq!(encode(Given::Json("a\n".into())).unwrap(), b"a\n");
    assert_eq!(encode(Given::Json(json!({ "$bytes": "ff" }))).unwrap(), b"\xFF");
    assert_eq!(encode(Given::Text(b"\xFF".to_vec())).unwrap(), b"\xFF");
    usage(encode(Given::Json(json!(1))), "give a string");
    usage(encode(Given::Json(json!({ "$bytes": "f" }))), "hex");
    assert_eq!(ValueType::Bytes.show(b"a\n"), json!("a\n"));
    assert_eq!(ValueType::Bytes.show(br"\xff"), json!(r"\xff"));
    assert_eq!(ValueType::Bytes.show(b"\xFF"), json!({ "$bytes": "ff" }));
}

#[test]
fn tables_of_json() {
    let encode = |given| ValueType::Json.encode(given);
    assert_eq!(encode(Given::Json(json!({ "b": 0.1, "a": [null] }))).unwrap(), br#"{"b":0.1,"a":[null]}"#);
    assert_eq!(encode(Given::Json(json!({ "$bytes": "ff" }))).unwrap(), br#"{"$bytes":"ff"}"#, "no notation");
    assert_eq!(encode(Given::Text("é\n".into())).unwrap(), "\"é\\n\"".as_bytes());
    assert_eq!(encode(Given::Stored(b" [1] ".to_vec())).unwrap(), b" [1] ");
    usage(encode(Given::Stored(b"[1".to_vec())), "no JSON");
    usage(encode(Given::Stored(b"18446744073709551616".to_vec())), "does not fit 64 bits");
    usage(encode(Given::Text(b"\xFF".to_vec())), "not UTF-8");
    assert_eq!(ValueType::named("json").show(br#"{"b":1,"a":2}"#).to_string(), r#"{"b":1,"a":2}"#);
    assert_eq!(ValueType::Json.show(b"[1"), json!({ "$bytes": "5b31" }));
    assert!(matches!(ValueType::Json.decode(b"\xFF"), Err(Failure::Other(_))));
    assert_eq!(ValueType::named("postcard"), ValueType::Bytes, "a codec that is not known");
}

#[test]
fn arguments() {
    assert!(matches!(argument("[1]", Form::Json), Ok(Given::Json(value)) if value == json!([1])));
    assert!(matches!(argument("[1]", Form::Text), Ok(Given::Text(text)) if text == b"[1]"));
    assert!(matches!(argument("00-FF ", Form::Hex), Ok(Given::Stored(bytes)) if bytes == [0, 255]));
    assert!(matches!(argument("{a", Form::Json), Err(Failure::Usage(message)) if message.contains("--string")));
    assert!(matches!(argument("0", Form::Hex), Err(Failure::Usage(_))));
    usage(ValueType::MessagePack.encode(Given::Text(b"\xFF".to_vec())), "not UTF-8");
}
