//! Typed keys: bytes that decode are the one encoding of their value, and order as it does.

use memstone::{AsKey, Key, Place};
use std::fmt::Debug;

fn check<K: Key<Owned = K> + AsKey<K> + Ord + Debug>(a: &[u8], b: &[u8]) {
    let decode = |bytes: &[u8]| {
        let mut rest = bytes;
        if let Ok(key) = K::decode(Place::Inner, &mut rest) {
            let mut again = Vec::new();
            key.encode(Place::Inner, &mut again);
            again.extend_from_slice(rest);
            assert_eq!(again, bytes, "{key:?} inside a tuple");
        }
        let key = K::from_key(bytes).ok()?;
        assert_eq!(&*key.to_key(), bytes, "{key:?}");
        Some(key)
    };
    if let (Some(x), Some(y)) = (decode(a), decode(b)) {
        assert_eq!(x.cmp(&y), a.cmp(b), "{x:?} and {y:?} as whole keys");
        let inner = |key: &K| {
            let mut out = Vec::new();
            key.encode(Place::Inner, &mut out);
            out
        };
        let (p, q) = (inner(&x), inner(&y));
        assert_eq!(x.cmp(&y), p.cmp(&q), "{x:?} and {y:?} inside a tuple");
        assert!(x == y || !p.starts_with(&q), "{p:?} begins with {q:?}");
    }
}

/// One byte for the type, one for where the second key starts, then both keys.
pub fn key_codec(data: &[u8]) {
    let Some(([kind, split], rest)) = data.split_first_chunk::<2>() else { return };
    let (a, b) = rest.split_at(usize::from(*split).min(rest.len()));
    match kind % 14 {
        0 => check::<String>(a, b),
        1 => check::<Vec<u8>>(a, b),
        2 => check::<[u8; 16]>(a, b),
        3 => check::<(u64, i64)>(a, b),
        4 => check::<(i8, u16, i32)>(a, b),
        5 => check::<(u128, i128)>(a, b),
        6 => check::<(bool, char)>(a, b),
        7 => check::<Option<String>>(a, b),
        8 => check::<Option<Option<u8>>>(a, b),
        9 => check::<(String, String)>(a, b),
        10 => check::<(Vec<u8>, u8, Vec<u8>)>(a, b),
        11 => check::<((String, u32), Option<Vec<u8>>)>(a, b),
        12 => check::<(Option<(u8, String)>, String)>(a, b),
        _ => check::<(u8, (), String, i16, Vec<u8>, char)>(a, b),
    }
}
