//! The encoding's contract, for every key type: the bytes sort as the values do, and give the
//! value back; other bytes give an error.

use std::borrow::Cow;
use std::cmp::{Ordering, Reverse};
use std::fmt::Debug;
use std::time::{Duration, SystemTime};

use proptest::collection::vec;
use proptest::prelude::*;

use super::key::{AsKey, CodecError, Key, Place};
use super::key_range::{KeyPrefix, KeyRange};

/// Checks a pair of keys in both places.
fn check_pair<T: Key<Owned = T> + AsKey<T> + Ord + Debug>(a: &T, b: &T) -> Result<(), TestCaseError> {
    prop_assert_eq!(a.to_key().cmp(&b.to_key()), a.cmp(b), "{:?} {:?} as whole keys", a, b);
    let (mut inner_a, mut inner_b) = (Vec::new(), Vec::new());
    a.encode(Place::Inner, &mut inner_a);
    b.encode(Place::Inner, &mut inner_b);
    prop_assert_eq!(inner_a.cmp(&inner_b), a.cmp(b), "{:?} {:?} inside a tuple", a, b);
    prop_assert!(a == b || !inner_a.starts_with(&inner_b), "{:?} begins with {:?}", inner_a, inner_b);

    prop_assert_eq!(&T::from_key(&a.to_key()).unwrap(), a);
    inner_a.extend_from_slice(&inner_b);
    let mut both = inner_a.as_slice();
    prop_assert_eq!(&T::decode(Place::Inner, &mut both).unwrap(), a);
    prop_assert_eq!(&T::decode(Place::Inner, &mut both).unwrap(), b);
    prop_assert!(both.is_empty());
    Ok(())
}

/// Bytes that decode are the one encoding of what they decode to; all others give an error.
fn check_hostile<T: Key<Owned = T> + AsKey<T>>(bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(key) = T::from_key(bytes) {
        prop_assert_eq!(&*key.to_key(), bytes);
    }
    let mut rest = bytes;
    if let Ok(key) = T::decode(Place::Inner, &mut rest) {
        let mut again = Vec::new();
        key.encode(Place::Inner, &mut again);
        again.extend_from_slice(rest);
        prop_assert_eq!(again.as_slice(), bytes);
    }
    Ok(())
}

/// Bytes that provoke the escapes: mostly 0, 1, 0xFF.
fn tricky() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![3 => Just(0), 2 => Just(1), 2 => Just(0xFF), 1 => any::<u8>()], 0..6)
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[\0\u{1}a-b\u{7f}-\u{80}\u{ffff}]{0,5}", any::<String>()]
}

/// Around 1970 and at both ends, to the nanosecond.
fn time() -> impl Strategy<Value = SystemTime> {
    let seconds = prop_oneof![-2..2i64, any::<i64>(), Just(i64::MIN), Just(i64::MAX)];
    let nanos = prop_oneof![Just(0), Just(1), Just(999_999_999), 0..1_000_000_000u32];
    (seconds, nanos).prop_map(|(seconds, nanos)| {
        let whole = Duration::from_secs(seconds.unsigned_abs());
        let at = if seconds < 0 { SystemTime::UNIX_EPOCH - whole } else { SystemTime::UNIX_EPOCH + whole };
        at + Duration::from_nanos(nanos.into())
    })
}

/// Floats in their total order, which is not that of their own comparison.
macro_rules! total {
    ($name:ident, $float:ty) => {
        #[derive(Debug, Clone, Copy)]
        struct $name($float);

        impl PartialEq for $name {
            fn eq(&self, other: &$name) -> bool {
                self.cmp(other).is_eq()
            }
        }
        impl Eq for $name {}
        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &$name) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }
        impl Ord for $name {
            fn cmp(&self, other: &$name) -> Ordering {
                self.0.total_cmp(&other.0)
            }
        }
        impl Key for $name {
            type Owned = $name;
            fn type_name() -> Cow<'static, str> {
                <$float>::type_name()
            }
            fn decode(place: Place, bytes: &mut &[u8]) -> Result<$name, CodecError> {
                <$float>::decode(place, bytes).map($name)
            }
        }
        impl AsKey<$name> for $name {
            fn encode(&self, place: Place, out: &mut Vec<u8>) {
                self.0.encode(place, out);
            }
        }
    };
}

total!(Total, f64);
total!(TotalSingle, f32);

fn float() -> impl Strategy<Value = Total> {
    const SPECIAL: &[f64] =
        &[0.0, -0.0, 1.0, -1.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, -f64::NAN, f64::MIN_POSITIVE];
    prop_oneof![prop::sample::select(SPECIAL), prop::num::f64::ANY, any::<u64>().prop_map(f64::from_bits)]
        .prop_map(Total)
}

macro_rules! contract {
    ($($name:ident: $type:ty = $strategy:expr;)+) => {
        proptest! {
            $(#[test]
            fn $name(a in $strategy, b in $strategy, bytes in tricky()) {
                check_pair::<$type>(&a, &b)?;
                check_hostile::<$type>(&bytes)?;
            })+
        }
    };
}

contract! {
    strings: String = text();
    byte_strings: Vec<u8> = tricky();
    bools: bool = any::<bool>();
    chars: char = any::<char>();
    units: () = Just(());
    u8s: u8 = any::<u8>();
    u16s: u16 = any::<u16>();
    u32s: u32 = any::<u32>();
    u64s: u64 = any::<u64>();
    u128s: u128 = any::<u128>();
    i8s: i8 = any::<i8>();
    i16s: i16 = any::<i16>();
    i32s: i32 = prop_oneof![any::<i32>(), -3..3i32, Just(i32::MIN), Just(i32::MAX)];
    i64s: i64 = prop_oneof![any::<i64>(), -3..3i64, Just(i64::MIN), Just(i64::MAX)];
    i128s: i128 = any::<i128>();
    arrays: [u8; 3] = prop::array::uniform3(0..3u8);
    options: Option<Vec<u8>> = prop::option::of(tricky());
    pairs: (Vec<u8>, Vec<u8>) = (tricky(), tricky());
    mixed_pairs: (u8, String) = (0..3u8, text());
    triples: (String, i8, Vec<u8>) = (text(), any::<i8>(), tricky());
    fours: (Vec<u8>, (), Option<u8>, bool) = (tricky(), Just(()), any::<Option<u8>>(), any::<bool>());
    fives: (bool, [u8; 2], Vec<u8>, char, u16) =
        (any::<bool>(), prop::array::uniform2(0..2u8), tricky(), any::<char>(), 0..3u16);
    sixes: (Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>) =
        (tricky(), tricky(), tricky(), tricky(), tricky(), tricky());
    twelves: (u8, bool, Vec<u8>, (), i8, u16, Option<u8>, char, bool, u8, i16, Vec<u8>) = (
        0..2u8, any::<bool>(), tricky(), Just(()), any::<i8>(), 0..3u16, any::<Option<u8>>(), any::<char>(),
        any::<bool>(), 0..2u8, any::<i16>(), tricky(),
    );
    reversed_strings: Reverse<String> = text().prop_map(Reverse);
    reversed_twice: Reverse<(Reverse<Vec<u8>>, Option<Vec<u8>>)> =
        (tricky(), prop::option::of(tricky())).prop_map(|(a, b)| Reverse((Reverse(a), b)));
    reversed_in_tuples: (Reverse<Vec<u8>>, Vec<u8>, Reverse<i8>) =
        (tricky(), tricky(), any::<i8>()).prop_map(|(a, b, c)| (Reverse(a), b, Reverse(c)));
    times: SystemTime = time();
    durations: Duration = (prop_oneof![0..2u64, any::<u64>()], 0..1_000_000_000u32)
        .prop_map(|(seconds, nanos)| Duration::new(seconds, nanos));
    floats_with_text: (Total, String) = (float(), text());
    floats: Total = float();
    singles: TotalSingle = prop_oneof![any::<u32>().prop_map(f32::from_bits), prop::num::f32::ANY].prop_map(TotalSingle);
    nested: ((Vec<u8>, Option<Vec<u8>>), (i16, String)) =
        ((tricky(), prop::option::of(tricky())), (-2..2i16, text()));
}

#[cfg(feature = "jiff")]
contract! {
    timestamps: jiff::Timestamp = prop_oneof![
        (-2..2i64, 0..1_000_000_000i32).prop_map(|(seconds, nanos)| jiff::Timestamp::new(seconds, nanos).unwrap()),
        (jiff::Timestamp::MIN.as_second() + 1..jiff::Timestamp::MAX.as_second())
            .prop_map(|seconds| jiff::Timestamp::new(seconds, 999_999_999).unwrap()),
    ];
    dates: jiff::civil::Date =
        (-9999..=9999i16, 1..=12i8, 1..=28i8).prop_map(|(year, month, day)| jiff::civil::date(year, month, day));
}

#[cfg(feature = "uuid")]
contract! {
    uuids: uuid::Uuid = prop::array::uniform16(any::<u8>()).prop_map(uuid::Uuid::from_bytes);
}

proptest! {
    /// A prefix of leading parts covers exactly the tuples that have them.
    #[test]
    fn prefixes(a in (tricky(), tricky(), 0..3u8), b in (tricky(), tricky(), 0..3u8)) {
        let key = b.to_key();
        let begins = |prefix: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = Vec::new();
            prefix(&mut bytes);
            key.starts_with(&bytes)
        };
        type Tuple = (Vec<u8>, Vec<u8>, u8);
        prop_assert_eq!(begins(&|out| KeyPrefix::<Tuple>::encode_prefix(&(&a.0,), out)), a.0 == b.0);
        prop_assert_eq!(begins(&|out| KeyPrefix::<Tuple>::encode_prefix(&(&a.0, &a.1), out)), a.0 == b.0 && a.1 == b.1);

        let pair = (b.0.clone(), b.1.clone()).to_key().into_owned();
        let mut prefix = Vec::new();
        KeyPrefix::<(Vec<u8>, Vec<u8>)>::encode_prefix(&(&a.0, &a.1), &mut prefix);
        prop_assert_eq!(pair.starts_with(&prefix), a.0 == b.0 && b.1.starts_with(&a.1));
    }
}

/// The longest tuples: their leading parts are prefixes, however many, and so is the start of the last one.
#[test]
fn prefixes_of_twelve() {
    type Twelve = (u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, String);
    assert_eq!(Twelve::type_name(), "(u8,u8,u8,u8,u8,u8,u8,u8,u8,u8,u8,str)");
    let key = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, "twelve");
    let bytes = AsKey::<Twelve>::to_key(&key).into_owned();
    assert_eq!(bytes, b"\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0A\x0Btwelve");
    let prefix = |prefix: &dyn KeyPrefix<Twelve>| {
        let mut out = Vec::new();
        prefix.encode_prefix(&mut out);
        out
    };
    assert_eq!(prefix(&(1,)), bytes[..1]);
    assert_eq!(prefix(&(1, 2, 3, 4, 5, 6, 7)), bytes[..7]);
    assert_eq!(prefix(&(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)), bytes[..11]);
    assert_eq!(prefix(&(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, "twe")), bytes[..14]);
    assert_eq!(Twelve::from_key(&bytes).unwrap().11, "twelve");
}

/// The examples of docs/KEY_ENCODING.md. They may never change.
#[test]
fn the_documented_bytes() {
    fn bytes<O>(key: impl AsKey<O>) -> Vec<u8> {
        key.to_key().into_owned()
    }
    assert_eq!(bytes("né"), b"n\xC3\xA9");
    assert_eq!(bytes::<Vec<u8>>(b"a\0b"), b"a\0b");
    assert_eq!(bytes::<u32>(258), [0, 0, 1, 2]);
    assert_eq!(bytes::<i16>(-1), [0x7F, 0xFF]);
    assert_eq!(bytes::<i16>(0), [0x80, 0]);
    assert_eq!(bytes::<i16>(1), [0x80, 1]);
    assert_eq!(bytes::<i128>(i128::MIN), [0; 16]);
    assert_eq!(bytes(true), [1]);
    assert_eq!(bytes('é'), [0, 0, 0, 0xE9]);
    assert_eq!(bytes::<()>(()), b"");
    assert_eq!(bytes::<[u8; 4]>([1, 0, 2, 3]), [1, 0, 2, 3]);
    assert_eq!(bytes::<Option<u8>>(None::<u8>), [0]);
    assert_eq!(bytes::<Option<u8>>(Some(0u8)), [1, 0]);
    assert_eq!(bytes::<(u32, String)>((7, "a\0")), b"\0\0\0\x07a\0");
    assert_eq!(bytes::<(String, u8)>(("a\0", 7)), b"a\0\xFF\0\0\x07");
    assert_eq!(bytes::<(String, String)>(("", "")), [0, 0]);
    assert_eq!(bytes::<((String, String), String)>((("a", "b"), "c")), b"a\0\0b\0\0c");
    assert_eq!(bytes(1.0_f32), [0xBF, 0x80, 0, 0]);
    assert_eq!(bytes(-1.0_f32), [0x40, 0x7F, 0xFF, 0xFF]);
    assert_eq!(bytes(-0.0_f64), [0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]);
    assert_eq!(bytes(0.0_f64), [0x80, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes::<Reverse<u8>>(Reverse(1_u8)), [0xFE]);
    assert_eq!(bytes::<Reverse<String>>(Reverse("a")), [0x9E, 0xFF, 0xFF]);
    let before = SystemTime::UNIX_EPOCH - Duration::from_millis(500);
    assert_eq!(bytes(before), [0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x1D, 0xCD, 0x65, 0]);
    assert_eq!(bytes(Duration::new(1, 2)), [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2]);
    #[cfg(feature = "jiff")]
    {
        assert_eq!(bytes(jiff::Timestamp::new(-1, 500_000_000).unwrap()), bytes(before));
        assert_eq!(bytes(jiff::civil::date(2026, 11, 22)), [0x87, 0xEA, 11, 22]);
        let last = i64::MAX.to_key().iter().copied().chain([0; 4]).collect::<Vec<_>>();
        assert!(jiff::Timestamp::from_key(&last).is_err(), "a time of another type, far away");
    }
}

#[test]
fn the_recorded_names() {
    assert_eq!(<&str>::type_name(), "str");
    assert_eq!(String::type_name(), "str");
    assert_eq!(<[u8]>::type_name(), "bytes");
    assert_eq!(<[u8; 16]>::type_name(), "[u8;16]");
    assert_eq!(i128::type_name(), "i128");
    assert_eq!(<(u32, &str)>::type_name(), "(u32,str)");
    assert_eq!(<((bool, char), Option<()>)>::type_name(), "((bool,char),option<()>)");
    assert_eq!(<(f32, f64)>::type_name(), "(f32,f64)");
    assert_eq!(Reverse::<&str>::type_name(), "reverse<str>");
    assert_eq!(SystemTime::type_name(), "time");
    assert_eq!(Duration::type_name(), "duration");
    #[cfg(feature = "jiff")]
    assert_eq!((jiff::Timestamp::type_name(), jiff::civil::Date::type_name()), ("time".into(), "date".into()));
    #[cfg(feature = "uuid")]
    assert_eq!(uuid::Uuid::type_name(), "[u8;16]");
}

#[test]
fn what_is_no_key_says_why() {
    let reason = |error: super::CodecError| error.to_string();
    assert_eq!(u32::from_key(&[1, 2]).map_err(reason).unwrap_err(), "2 bytes where 4 are needed");
    assert_eq!(u8::from_key(&[1, 2]).map_err(reason).unwrap_err(), "1 bytes too many");
    assert_eq!(bool::from_key(&[2]).map_err(reason).unwrap_err(), "2 as a bool");
    assert_eq!(char::from_key(&[0, 0, 0xD8, 0]).map_err(reason).unwrap_err(), "0xd800 as a char");
    let nanos = [&[0x80, 0, 0, 0, 0, 0, 0, 0][..], &1_000_000_000_u32.to_be_bytes()].concat();
    assert!(SystemTime::from_key(&nanos).map_err(reason).unwrap_err().starts_with("1000000000 nanoseconds"));
    assert!(reason(String::from_key(&[0xFF]).unwrap_err()).contains("utf-8"));
    assert_eq!(<(Vec<u8>, u8)>::from_key(b"ab").map_err(reason).unwrap_err(), "a component without its end");
    assert_eq!(<(Vec<u8>, u8)>::from_key(b"ab\0").map_err(reason).unwrap_err(), "a component cut off in its end mark");
    assert_eq!(<(Vec<u8>, u8)>::from_key(b"ab\0\x01").map_err(reason).unwrap_err(), "an unknown escape 00 01");
}

#[test]
fn ranges_in_all_their_forms() {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    fn ends<O>(range: impl KeyRange<O>) -> (std::ops::Bound<Vec<u8>>, std::ops::Bound<Vec<u8>>) {
        let (from, to) = range.bounds();
        (from.map(|key| key.into_owned()), to.map(|key| key.into_owned()))
    }
    let key = |letter: &str| letter.as_bytes().to_vec();
    assert_eq!(ends::<String>(..), (Unbounded, Unbounded));
    assert_eq!(ends::<String>("a".."b"), (Included(key("a")), Excluded(key("b"))));
    assert_eq!(ends::<String>("a"..="b"), (Included(key("a")), Included(key("b"))));
    assert_eq!(ends::<String>("a".to_owned()..), (Included(key("a")), Unbounded));
    assert_eq!(ends::<String>(..&"b".to_owned()), (Unbounded, Excluded(key("b"))));
    assert_eq!(ends::<u8>(..=3), (Unbounded, Included(vec![3])));
    assert_eq!(ends::<(u8, String)>((Excluded((1, "x")), Unbounded)), (Excluded(b"\x01x".to_vec()), Unbounded));
}
